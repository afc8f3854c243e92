"""A night in one command, and places that come as lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commandline import PROJECT, Scene, call, done, report
from faults import Judge, content

from ztfmatch.api.nightly import read_night
from ztfmatch.cli import main
from ztfmatch.core.errors import MemoryBudgetError
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage


def catalogs_of(scene: Scene) -> list[str]:
    return sorted(map(str, (scene.sky / "catalogs").rglob("*_psfcat.fits")))


@pytest.fixture
def store(scene: Scene, tmp_path: Path) -> Path:
    """With objects alone."""
    done("init", tmp_path / "store", "--references", scene.sky / "references")
    return tmp_path / "store"


def night(place: Path, *lines: str) -> Path:
    path = place / "night.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_nightly_does_all_steps_and_again_nothing(scene: Scene, store: Path, tmp_path: Path) -> None:
    config = night(tmp_path, f'[append]\nexposures = "{scene.sky}/exposures.csv"', '[export]\noutput = "exports"')
    made = report("nightly", store, scene.sky / "catalogs", "--config", config)
    assert list(made["steps"]) == ["append", "statistics", "transients", "export"]
    assert [step["snapshot"] for step in made["steps"].values()] == [1, 2, 3, 3]
    assert made["steps"]["export"]["export"].startswith(f"{tmp_path}/exports/")
    assert (tmp_path / "exports" / "cursor.json").is_file()
    assert content(store, 2, ["detections", "statistics"]) == content(scene.store, None, ["detections", "statistics"])
    again = done("nightly", store, scene.sky / "catalogs", "--config", config).splitlines()
    assert again[1].split(maxsplit=1) == ["append", "Nothing new in 4 catalogs; the store stays at snapshot 3."]
    assert again[4].split(maxsplit=1) == ["export", "Nothing to export: the store is at snapshot 3 still."]
    assert commit_numbers(Storage.at(store)) == [0, 1, 2, 3]


def test_nightly_without_configuration_exports_nothing(scene: Scene, store: Path) -> None:
    made = report("nightly", store, *catalogs_of(scene))
    assert list(made["steps"]) == ["append", "statistics", "transients"]


def test_nightly_ends_where_a_step_fails_and_goes_on_from_there(
    scene: Scene, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryBudgetError("raise --memory")

    with monkeypatch.context() as patched:
        patched.setattr("ztfmatch.core.operations.statistics.update_statistics", refuse)
        result = call("nightly", store, scene.sky / "catalogs")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[1].startswith("append  Snapshot 1: 4 exposures")
    assert "raise --memory" in result.stderr
    made = report("nightly", store, scene.sky / "catalogs")
    assert [step["committed"] for step in made["steps"].values()] == [False, True, True]
    Judge().content(store)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["[append]", "strikt = true"], "unknown key 'strikt' in [append]"),
        (["[export]"], "output is missing in [export]"),
        (["[append]", "rows_per_task = 0"], "rows_per_task in [append] is 0; expected at least 1"),
        (["statistics = 1"], "statistics is 1; expected true or false"),
        (["[export]", 'output = "s3://bucket/x"'], "give the cursor a local path"),
    ],
)
def test_wrong_configuration_is_told(scene: Scene, store: Path, tmp_path: Path, lines: list[str], said: str) -> None:
    result = call("nightly", store, scene.sky / "catalogs", "--config", night(tmp_path, *lines))
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_example_of_a_configuration_is_one() -> None:
    config = read_night(PROJECT / "jobs" / "nightly.toml")
    assert config.export is not None
    assert config.export.output == str(PROJECT / "jobs" / "exports")


def from_stdin(text: str, *words: object) -> Any:
    result = CliRunner().invoke(main, [str(word) for word in words], input=text)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_places_come_from_files_and_the_standard_input(scene: Scene, store: Path, tmp_path: Path) -> None:
    first, second, third, _ = catalogs_of(scene)
    listing = tmp_path / "arrived.txt"
    listing.write_text(f"{second}\n\n{third}\n")
    made = report("append", store, first, "--from-file", listing)
    assert (made["catalogs"], made["exposures"]) == (3, 3)
    made = from_stdin("\n".join(catalogs_of(scene)), "append", store, "-", "--json")
    assert (made["catalogs"], made["exposures"]) == (4, 1)
    references = list(map(str, (scene.sky / "references").rglob("*.fits")))
    words = ("init", tmp_path / "other", "--from-file", "-", "--json")
    assert from_stdin("\n".join(references), *words)["references"] == len(references)


def test_list_from_the_standard_input_is_kept_with_units(scene: Scene, store: Path, tmp_path: Path) -> None:
    from_stdin("\n".join(catalogs_of(scene)), "append", store, "-", "--units", tmp_path / "units", "--json")
    done("work", tmp_path / "units", "--share", "0/1")
    assert report("finish", tmp_path / "units")["exposures"] == 4


def test_empty_list_has_no_catalogs(store: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n")
    said = done("append", store, "--from-file", tmp_path / "none.txt")
    assert said == "No catalogs (*_psfcat.fits) in the list; the store stays at snapshot 0.\n"
    result = call("append", store, "--from-file", tmp_path / "none.txt", "--fail-if-empty")
    assert result.exit_code == 1


def test_no_places_at_all_is_told(store: Path) -> None:
    result = call("append", store)
    assert (result.exit_code, "Missing argument 'CATALOGS...', or --from-file." in result.stderr) == (2, True)


def test_list_that_is_no_text_is_told(store: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe")
    result = call("append", store, "--from-file", tmp_path / "list")
    assert (result.exit_code, "is not text" in result.stderr) == (2, True)
