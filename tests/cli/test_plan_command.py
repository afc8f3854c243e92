"""The command plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Scene, call, done, report


def test_plan_of_append_tells_jobs_wall_times_and_what_it_assumes(scene: Scene) -> None:
    text = done("plan", "append", scene.store, scene.sky / "catalogs", "--on", 3)
    lines = text.splitlines()
    assert lines[0].startswith("append: 4 catalogs of 1 units, ")
    assert any(line.startswith("matching") for line in lines)
    assert any(line.split()[:1] == ["3"] for line in lines)
    assert "Assumed: rows of a catalog" in text
    assert max(map(len, lines)) <= 120
    assert done("plan", "verify", scene.store).splitlines()[0].startswith("verify: 1 tiles, ")


def test_plan_takes_a_list_of_names_that_are_not_there(scene: Scene, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"/x/ztf_20190101{i:06d}_000679_zg_c05_o_q1_psfcat.fits" for i in range(50)) + "\n\n")
    told = report("plan", "append", scene.store, "--from-file", names, "--on", 1, "--on", 9)
    assert told["what"].startswith("50 catalogs")
    assert [one["workers"] for one in told["wall"]] == [1, 9]
    assert told["jobs"][0] == told["jobs"][0] | {"job": "reading catalogs", "tasks": 2, "longest_over_mean": 1.0}
    assert all(set(cost) == {"name", "seconds", "per", "benchmark"} for cost in told["costs"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["append", "{store}"], "Missing argument 'PLACES...'"),
        (["verify", "{store}", "x"], "verify takes no catalogs"),
        (["verify", "{store}-not"], "no such store"),
        (["vacuum", "{store}"], "'vacuum' is not one of"),
        (["append", "{store}", "/not/there"], "/not/there: no such file"),
    ],
)
def test_plan_that_cannot_be_ends_with_2(scene: Scene, words: list[str], message: str) -> None:
    result = call("plan", *(word.format(store=scene.store) for word in words))
    assert result.exit_code == 2
    assert message in result.output
