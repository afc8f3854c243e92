"""References that come back are held to the plan that asked for them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import make_store, runner
from reference_scene import quadrant, write_reference
from test_plan import audit_rows, images, planned

from ztfmatch.cli import main
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.survey import Unit
from ztfmatch.references.returned import check_returned

SUSPECT = {"rcid": 3, "fid": 1, "suspect": True}


def plan_file(place: Path) -> Path:
    """Asks for 500 and 501; 502 is good, and 503 has too few images."""
    audit = audit_rows({"field": 500, **SUSPECT}, {"field": 501, **SUSPECT}, {"field": 502, "rcid": 3, "fid": 1},
                       {"field": 503, **SUSPECT})  # fmt: skip
    counts = {500: 20, 501: 20, 502: 20, 503: 2}
    pq.write_table(planned(place, images(counts), audit).table, place / "plan.parquet")
    return place / "plan.parquet"


def test_references_that_are_planned_are_counted_and_the_others_missed(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    write_reference(tmp_path / "new", quadrant(Unit(500, 3, 1), n_side=5))
    report = check_returned(plan, [str(tmp_path / "new")], runner())
    assert (report.references, report.missing, report.shallower) == (1, 1, [])


def test_unit_that_came_back_twice_counts_once(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    for name in ("new", "again"):
        write_reference(tmp_path / name, quadrant(Unit(500, 3, 1), n_side=5))
    report = check_returned(plan, [str(tmp_path / "new"), str(tmp_path / "again")], runner())
    assert (report.references, report.missing) == (1, 1)


@pytest.mark.parametrize(("field", "said"), [(502, "keep"), (503, "potentially updatable"), (504, "not in it")])
def test_reference_that_is_not_planned_is_refused(field: int, said: str, tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    for one in (500, field):
        write_reference(tmp_path / "new", quadrant(Unit(one, 3, 1), n_side=5))
    with pytest.raises(ConfigError, match=rf"no reference of 1 of the 2 units .*{field:06d}_zg_c01_q4 \({said}\)"):
        check_returned(plan, [str(tmp_path / "new")], runner())


def test_reference_that_is_less_deep_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors reach 0.217 at 20 mag; 21.8 was predicted."""
    from helpers import reference_file, rows_at

    plan = plan_file(tmp_path)
    scene = quadrant(Unit(500, 3, 1))
    mag = scene.mag + 4.0
    rows = rows_at(scene.ra, scene.dec, mag=mag - 26.325, sigmag=0.217 * 10 ** (0.4 * (mag - 20.0)))
    reference_file(tmp_path / "new", rows, scene.unit)
    (row,) = check_returned(plan, [str(tmp_path / "new")], runner()).shallower
    assert row["unit"] == "000500_zg_c01_q4"
    assert row["depth"] == pytest.approx(20.0, abs=0.05)


def test_rematch_takes_only_what_is_planned(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    old = [write_reference(tmp_path / "old", quadrant(Unit(field, 3, 1), n_side=5)) for field in (500, 502)]
    storage = make_store(tmp_path / "store", old)
    write_reference(tmp_path / "new", quadrant(Unit(500, 3, 1), n_side=6))
    command = ["rematch", str(tmp_path / "store"), "--plan", str(plan), "-r"]
    done = CliRunner().invoke(main, [*command, str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    assert "1 reference came back as planned, 1 not yet." in done.stdout
    write_reference(tmp_path / "more", quadrant(Unit(502, 3, 1), n_side=6))
    done = CliRunner().invoke(main, [*command, str(tmp_path / "more")])
    assert (done.exit_code, "requests no reference" in done.stderr) == (2, True)
    from ztfmatch.core.io.snapshot import open_snapshot

    assert open_snapshot(storage).number == 1


def test_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.parquet").write_text("no")
    with pytest.raises(MetadataError, match="is not a plan"):
        check_returned(tmp_path / "plan.parquet", [str(tmp_path)], runner())
