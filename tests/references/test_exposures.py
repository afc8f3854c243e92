"""Flatness of exposures in the ledger: against plain NumPy, incremental, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner
from helpers import append, epochal_file, make_store, rows_at, runner, sky_content
from reference_scene import CLRCOEFF, Quadrant, quadrant, write_ps1, write_reference
from test_flatness import plain_flatness

from ztfmatch import api
from ztfmatch.cli import main
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import CommitConflictError, MetadataError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.references.audit import AuditInputs, audit_store
from ztfmatch.references.flatness import FlatnessInputs, update_flatness
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.kernels.flatness import bin_of
from ztfmatch.references.plan import make_plan, update_plan
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.selection import with_limits
from ztfmatch.references.tasks import exposures

SETTINGS = ReferenceSettings()
NIGHTS = 4


@pytest.fixture(scope="module")
def scene() -> Quadrant:
    return quadrant(n_side=36)


def tilt_of(night: int, scene: Quadrant) -> np.ndarray:
    """How much too faint each star is in a night's exposure."""
    return 0.03 * night * (scene.x / 3072 - 0.5)


def night_file(place: Path, scene: Quadrant, night: int, keep: slice = slice(None)) -> Path:
    magzp = 26.0 + night / 64.0
    flux = 10.0 ** (-0.4 * (scene.mag + tilt_of(night, scene) - magzp))
    columns = {"flux": flux, "sigflux": flux * 0.01, "xpos": scene.x, "ypos": scene.y, "flags": 0}
    rows = rows_at(
        scene.ra[keep],
        scene.dec[keep],
        **{name: np.broadcast_to(v, scene.x.shape)[keep] for name, v in columns.items()},
    )
    return epochal_file(place / "catalogs", rows, night, scene.unit, CLRCOEFF=CLRCOEFF)


def scene_store(place: Path, scene: Quadrant, nights: int = NIGHTS) -> tuple[Storage, FlatnessInputs]:
    write_reference(place / "references", scene)
    storage = make_store(place / "store", [place / "references"], seeds_per_tile=500)
    append(storage, [night_file(place, scene, night) for night in range(nights)])
    return storage, FlatnessInputs(write_ps1(place / "ps1.parquet", scene))


def ledger(storage: Storage) -> dict[int, dict]:
    rows = open_snapshot(storage).read("exposures").sort_by("exposureid").to_pylist()
    return dict(enumerate(rows))


def test_flatness_of_exposures_is_that_of_plain_numpy(scene: Quadrant, tmp_path: Path) -> None:
    storage, inputs = scene_store(tmp_path, scene)
    report = update_flatness(storage, inputs, SETTINGS, runner())
    assert (report.committed, report.exposures, report.decided) == (True, NIGHTS, NIGHTS)
    for night, row in ledger(storage).items():
        difference = scene.difference - tilt_of(night, scene)
        delta, rms, _ = plain_flatness(difference, bin_of(scene.x, scene.y), SETTINGS.flatness.min_bin)
        assert (row["flatdelta"], row["flatrms"]) == pytest.approx((delta, rms), abs=1e-6)
        assert row["nflat"] == len(scene.x)


def test_exposures_are_measured_in_passes_alike(
    scene: Quadrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, inputs = scene_store(tmp_path, scene)
    monkeypatch.setattr(exposures, "VALUES_PER_PASS", 2 * len(scene.x))
    update_flatness(storage, inputs, SETTINGS, runner())
    other, inputs = scene_store(tmp_path / "other", scene)
    monkeypatch.undo()
    update_flatness(other, inputs, SETTINGS, runner())
    names = ("flatdelta", "flatrms", "nflat")
    assert [[row[n] for n in names] for row in ledger(storage).values()] == [
        [row[n] for n in names] for row in ledger(other).values()
    ]


def test_only_new_exposures_are_measured(scene: Quadrant, tmp_path: Path) -> None:
    storage, inputs = scene_store(tmp_path, scene, nights=2)
    update_flatness(storage, inputs, SETTINGS, runner())
    before = ledger(storage)
    again = update_flatness(storage, inputs, SETTINGS, runner())
    assert (again.committed, again.exposures) == (False, 0)
    append(storage, [night_file(tmp_path, scene, 2)])
    report = update_flatness(storage, inputs, SETTINGS, runner())
    assert (report.committed, report.exposures) == (True, 1)
    after = ledger(storage)
    assert [after[night] for night in before] == list(before.values())
    difference = scene.difference - tilt_of(2, scene)
    delta, _, _ = plain_flatness(difference, bin_of(scene.x, scene.y), SETTINGS.flatness.min_bin)
    assert after[2]["flatdelta"] == pytest.approx(delta, abs=1e-6)


def test_all_else_of_the_store_stays(scene: Quadrant, tmp_path: Path) -> None:
    storage, inputs = scene_store(tmp_path, scene)
    before = sky_content(storage)
    columns = [
        name for name in open_snapshot(storage).read("exposures").column_names if not name.startswith(("flat", "nflat"))
    ]
    rows = open_snapshot(storage).read("exposures", columns).sort_by("exposureid")
    update_flatness(storage, inputs, SETTINGS, runner())
    assert open_snapshot(storage).read("exposures", columns).sort_by("exposureid").to_pylist() == rows.to_pylist()
    after = sky_content(storage)
    assert {name: table.num_rows for name, table in after.items()} == {
        name: table.num_rows for name, table in before.items()
    }


def test_exposure_that_covers_half_is_measured_but_not_decided(scene: Quadrant, tmp_path: Path) -> None:
    storage, inputs = scene_store(tmp_path, scene, nights=1)
    append(storage, [night_file(tmp_path, scene, 1, slice(len(scene.x) // 2))])
    report = update_flatness(storage, inputs, SETTINGS, runner())
    assert (report.exposures, report.decided) == (2, 1)
    half = ledger(storage)[1]
    assert (half["flatdelta"], half["nflat"]) == (None, len(scene.x) // 2)
    assert half["flatrms"] is not None
    assert not update_flatness(storage, inputs, SETTINGS, runner()).committed


def test_ledger_that_others_merged_is_a_conflict(
    scene: Quadrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ztfmatch.references import flatness

    storage, inputs = scene_store(tmp_path, scene, nights=1)
    append(storage, [night_file(tmp_path, scene, 1)])
    plain = flatness.commit_on_top

    def late(*words: object) -> object:
        compact(storage, CompactConfig(min_files=2), runner())
        return plain(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(flatness, "commit_on_top", late)
    with pytest.raises(CommitConflictError, match="wrote the ledger of these exposures anew"):
        update_flatness(storage, inputs, SETTINGS, runner())
    monkeypatch.undo()
    assert all(row["nflat"] is None for row in ledger(storage).values())
    assert update_flatness(storage, inputs, SETTINGS, runner()).exposures == 2


def test_appends_meanwhile_do_no_harm(scene: Quadrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ztfmatch.references import flatness

    storage, inputs = scene_store(tmp_path, scene, nights=1)
    plain = flatness.commit_on_top

    def late(*words: object) -> object:
        append(storage, [night_file(tmp_path, scene, 1)])
        return plain(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(flatness, "commit_on_top", late)
    assert update_flatness(storage, inputs, SETTINGS, runner()).exposures == 1
    assert [row["nflat"] for row in ledger(storage).values()] == [len(scene.x), None]


def test_ps1_of_elsewhere_is_refused_and_nothing_committed(scene: Quadrant, tmp_path: Path) -> None:
    from dataclasses import replace

    storage, _ = scene_store(tmp_path, scene, nights=1)
    before = open_snapshot(storage).number
    ps1 = write_ps1(tmp_path / "far.parquet", replace(scene, dec=scene.dec + 5.0))
    with pytest.raises(MetadataError, match=r"far\.parquet: has no star of any of 1 exposures"):
        update_flatness(storage, FlatnessInputs(ps1), SETTINGS, runner())
    assert open_snapshot(storage).number == before


def test_command_measures_and_says_when_all_is_done(scene: Quadrant, tmp_path: Path) -> None:
    _, inputs = scene_store(tmp_path, scene, nights=1)
    command = ["references", "flatness", str(tmp_path / "store"), "--ps1", str(inputs.ps1)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "1 exposure measured, 1 with PS1 stars enough in every bin" in done.stdout
    assert "measured already" in CliRunner().invoke(main, command).stdout
    assert api.open_store(tmp_path / "store").commits()[-1].operation == "flatness"


def test_plan_of_a_store_is_brought_up_to_date_by_what_later_commits_took_in(scene: Quadrant, tmp_path: Path) -> None:
    """Of a night that came late too, and none twice."""
    storage, inputs = scene_store(tmp_path, scene, nights=0)
    append(storage, [night_file(tmp_path, scene, night) for night in (1, 3)])
    limits = with_limits(
        SETTINGS, without=("fwhm", "status", "infobits", "maglimit", "median", "rms", "flatness"), nmin=3
    )
    audit = audit_store(open_snapshot(storage), AuditInputs(inputs.ps1), SETTINGS, runner()).table
    beside = tmp_path / "seeing.csv"
    ids = [(20190201250000 + night * 10**6) * 100 + scene.unit.rcid for night in range(4)]
    pyarrow.csv.write_csv(
        pa.table(
            {"exposureid": ids, "field": [500] * 4, "rcid": [20] * 4, "fid": [2] * 4, "fwhm": [2.0, 1.9, 1.8, 2.1]}
        ),
        beside,
    )
    plan = make_plan(ImageSource(open_snapshot(storage), beside), audit, limits).table
    append(storage, [night_file(tmp_path, scene, night) for night in (0, 2)])
    report = update_plan(plan, ImageSource(open_snapshot(storage), beside), limits)
    whole = make_plan(ImageSource(open_snapshot(storage), beside), audit, limits).table
    assert report.table.equals(whole)
    assert report.table["exposures"].to_pylist() == [[ids[2], ids[1], ids[0], ids[3]]]
    again = update_plan(report.table, ImageSource(open_snapshot(storage), beside), limits)
    assert (again.images, again.table.equals(whole)) == (0, True)


def test_store_is_whole_after_exposures_were_measured(scene: Quadrant, tmp_path: Path) -> None:
    storage, inputs = scene_store(tmp_path, scene, nights=2)
    update_flatness(storage, inputs, SETTINGS, runner())
    assert verify_store(storage, runner(), True, None).passed
