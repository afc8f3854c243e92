"""Corrections applied and taken off: every magnitude by plain Python, the rest untouched, one commit, whoever races."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import corrected
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import (
    UNIT,
    append,
    assert_same,
    epochal_file,
    interrupted,
    make_store,
    reference_file,
    rows_at,
    runner,
    sky_content,
    table,
)
from matchfiles import make_content, write_matchfile

import ztfmatch
from ztfmatch.core.config import CompactConfig, StoreConfig
from ztfmatch.core.errors import CommitConflictError, CorrectionsError
from ztfmatch.core.io import log
from ztfmatch.core.io.corrections import CorrectionFiles
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations import append as append_operation
from ztfmatch.core.operations import correct as correct_operation
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.correct import CorrectReport, correct
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.matchfile.ingest import ImportConfig, import_matchfiles

OTHER = Unit(501, 63, 1)
FOREIGN = Unit(777, 3, 3)
N = 60
MODEL = (0.02, -5e-4, 1.7e-9, -4.4e-18)


def night_rows(night: int) -> np.ndarray:
    """Detections of all magnitudes, at all places of the quadrant, some of them orphans, some without a flux."""
    rng = np.random.default_rng(night)
    ra = 150.0 + np.arange(N) * 0.004
    ra[::17] += 0.002
    rows = rows_at(ra, np.full(N, 20.0))
    rows["flux"] = 10.0 ** (-0.4 * (rng.uniform(12.0, 22.0, N) - 26.0))
    rows["sigflux"] = rows["flux"] * 0.02
    rows["flux"][::13] = -5.0
    rows["xpos"], rows["ypos"] = rng.uniform(0.6, 3072.4, N), rng.uniform(0.6, 3080.4, N)
    return rows


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    for unit in (UNIT, OTHER):
        reference_file(tmp_path, rows_at(150.0 + np.arange(N) * 0.004, np.full(N, 20.0)), unit)
    for night in range(4):
        for unit in (UNIT, OTHER):
            epochal_file(tmp_path, night_rows(night + 10 * unit.rcid), night, unit)
    return tmp_path


def catalogs(sky: Path, nights: tuple[int, ...]) -> list[Path]:
    return sorted(path for night in nights for path in sky.glob(f"ztf_201902{night + 1:02d}*_psfcat.fits"))


@pytest.fixture
def store(sky: Path) -> Storage:
    storage = make_store(sky / "store", sorted(sky.glob("*_refpsfcat.fits")), seeds_per_tile=40)
    append(storage, catalogs(sky, (0, 1)))
    append(storage, catalogs(sky, (2,)))
    return storage


def apply(storage: Storage, place: Path | None) -> CorrectReport:
    return correct(storage, place, runner())


def assert_corrected(storage: Storage, units: set[Unit], offsets: set[Unit] | None = None) -> None:
    ledger = {row["exposureid"]: row for row in table(storage, "exposures").to_pylist()}
    rows = table(storage, "detections").to_pylist() + table(storage, "orphans").to_pylist()
    assert len(rows) == N * len(ledger)
    seen = 0
    for row in rows:
        exposure = ledger[row["exposureid"]]
        unit = Unit(exposure["field"], exposure["rcid"], exposure["fid"])
        if unit in units:
            mag, flags = corrected.expected(unit, exposure["magzp"], row, offsets is None or unit in offsets)
            seen |= flags
        else:
            mag, flags = corrected.expected(unit, exposure["magzp"], row)
            flags = 0
            if mag is not None:
                mag = np.float32(exposure["magzp"] - 2.5 * np.log10(np.float64(row["psfflux"])))
        assert row["corrflags"] == flags, row
        assert (row["mag"] is None) == (mag is None)
        assert mag is None or abs(row["mag"] - float(mag)) <= float(np.spacing(mag))
    assert not units or seen == 1 | 2 | 4 | 8 | 16 | (0 if offsets is None else 32)
    assert verify_store(storage, runner(), deep=True).passed


def test_correct_every_row_has_the_magnitude_that_plain_python_gives(store: Storage, sky: Path) -> None:
    digest = corrected.write_set(sky / "set", [UNIT, OTHER], [UNIT])
    report = apply(store, sky / "set")
    assert (report.committed, report.corrections, report.exposures, report.changed) == (True, digest, 6, 6)
    assert 5 * N < report.rows <= 6 * N  # a file of rows without a magnitude stays
    assert_corrected(store, {UNIT, OTHER}, {UNIT})
    assert set(table(store, "exposures")["corrections"].to_pylist()) == {digest}


def test_correct_units_that_the_set_has_not_stay(store: Storage, sky: Path) -> None:
    before = {row["exposureid"]: row for row in table(store, "exposures").to_pylist()}
    report = apply(store, (corrected.write_set(sky / "set", [OTHER]), sky / "set")[1])
    assert report.exposures == 3
    assert_corrected(store, {OTHER})
    after = table(store, "exposures").to_pylist()
    assert {row["exposureid"] for row in after if row["corrections"] is None} == {
        exposureid for exposureid, row in before.items() if row["rcid"] == UNIT.rcid
    }


def test_correct_none_restores_every_row_to_the_last_bit(store: Storage, sky: Path) -> None:
    before = sky_content(store)
    corrected.write_set(sky / "set", [UNIT, OTHER], errors={UNIT: MODEL}, exposures={2019020125000020: (0.01, 0.02, 9)})
    apply(store, sky / "set")
    assert not table(store, "detections").equals(before["detections"])
    assert apply(store, None).committed
    assert_same(sky_content(store), before)
    assert open_snapshot(store).of_table("corrections") == []
    assert verify_store(store, runner()).passed


def test_correct_twice_is_once(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    first = apply(store, sky / "set")
    again = apply(store, sky / "set")
    assert (again.committed, again.snapshot) == (False, first.snapshot)
    assert apply(store, None).changed == 6
    assert not apply(store, None).committed


def test_correct_again_keeps_terms_of_exposures_and_colours_of_objects(store: Storage, sky: Path) -> None:
    """Of the same set, with nothing new and with exposures that came meanwhile."""
    ids = table(store, "exposures")["exposureid"].to_pylist()
    corrected.write_set(sky / "set", [UNIT], data=corrected.data_of(UNIT, ids[:3]))
    assert apply(store, sky / "set").committed
    tables = {name: open_snapshot(store).read(name) for name in ("exposureterms", "colours")}
    assert [rows.num_rows for rows in tables.values()] == [3, 2]
    assert not apply(store, sky / "set").committed
    append(store, catalogs(sky, (3,)))
    apply(store, sky / "set")
    assert all(open_snapshot(store).read(name).equals(rows) for name, rows in tables.items())
    assert verify_store(store, runner(), deep=True).passed


def test_correct_with_another_set_equals_that_set_alone(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "first", [UNIT, OTHER], errors={UNIT: MODEL})
    corrected.write_set(sky / "second", [OTHER], [])
    apply(store, sky / "second")
    alone = sky_content(store)
    apply(store, sky / "first")
    apply(store, sky / "second")
    assert_same(sky_content(store), alone)
    assert len(open_snapshot(store).of_table("corrections")) == 1


def test_correct_error_model_of_the_set_goes_before_the_catalogs_sigma(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER], errors={UNIT: MODEL})
    apply(store, sky / "set")
    rows = [r for r in table(store, "detections").to_pylist() if r["objectid"] // 10**12 == 500 and r["mag"]]
    m = np.array([r["mag"] for r in rows if r["mag"] <= 20.5], np.float64)
    a, b, c, d = MODEL
    got = [r["magerr"] for r in rows if r["mag"] <= 20.5]
    np.testing.assert_allclose(got, a + b * m + c * 10 ** (0.4 * m) + d * 10 ** (0.8 * m), rtol=1e-6)
    others = [r for r in table(store, "detections").to_pylist() if r["objectid"] // 10**12 == 501 and r["mag"]]
    np.testing.assert_allclose([r["magerr"] for r in others], 1.0857 * 0.02, rtol=1e-5)


def test_correct_residual_zero_points_go_to_the_ledger(store: Storage, sky: Path) -> None:
    exposureid = int(table(store, "exposures")["exposureid"][0].as_py())
    corrected.write_set(sky / "set", [UNIT, OTHER], exposures={exposureid: (0.0125, 0.03, 77)})
    apply(store, sky / "set")
    rows = {row["exposureid"]: row for row in table(store, "exposures").to_pylist()}
    assert [rows[exposureid][name] for name in ("relzp", "relzprms", "nrelzp")] == [0.0125, 0.03, 77]
    assert all(row["relzp"] is None for key, row in rows.items() if key != exposureid)
    assert all(row["relscatter"] is None and row["photometric"] is None for row in rows.values())  # of an older set


def test_correct_scatter_and_flag_of_exposures_go_to_the_ledger(
    store: Storage, sky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = table(store, "exposures")["exposureid"].to_pylist()[:3]
    corrected.write_set(sky / "set", [UNIT, OTHER], exposures=dict.fromkeys(ids, (0.0, 0.03, 77)))
    measured = {"scatter": pa.array([0.004, 0.0093, None]), "photometric": pa.array([True, False, None])}
    read = correct_operation.read_corrections

    def with_scatter(place: Path) -> CorrectionFiles:
        held = read(place)
        exposures = held.tables["exposures"].sort_by("exposureid")
        for name, values in measured.items():
            exposures = exposures.append_column(name, values)
        return replace(held, tables={**held.tables, "exposures": exposures})

    monkeypatch.setattr(correct_operation, "read_corrections", with_scatter)
    apply(store, sky / "set")
    rows = {row["exposureid"]: (row["relscatter"], row["photometric"]) for row in table(store, "exposures").to_pylist()}
    assert [rows[key] for key in sorted(ids)] == [(0.004, True), (0.0093, False), (None, None)]
    assert verify_store(store, runner(), deep=True).passed
    apply(store, None)
    assert all(row["photometric"] is None for row in table(store, "exposures").to_pylist())


def test_correct_drops_the_statistics_of_what_changed(store: Storage, sky: Path) -> None:
    update_statistics(store, runner())
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    head = open_snapshot(store)
    left = {file.tile for file in head.of_table("statistics")}
    assert len(left) < len(head.tiles_with("objects"))
    assert left.isdisjoint(head.tiles_with("detections"))
    update_statistics(store, runner())
    rows = {row["objectid"]: row for row in open_snapshot(store).read("statistics").to_pylist()}
    epochs = table(store, "detections").to_pandas()
    good = epochs[(epochs.catflags == 0) & epochs.mag.notna()].groupby("objectid").mag.mean()
    for objectid, mean in good.items():
        assert rows[objectid]["meanmag"] == pytest.approx(mean, abs=1e-5)


def test_append_after_correct_gets_the_corrections_of_the_store(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    append(store, catalogs(sky, (3,)))
    assert_corrected(store, {UNIT, OTHER})
    assert not apply(store, sky / "set").committed


def test_append_with_corrections_equals_append_then_correct(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER], [OTHER], errors={UNIT: MODEL})
    other = make_store(sky / "other", sorted(sky.glob("*_refpsfcat.fits")), seeds_per_tile=40)
    append(other, catalogs(sky, (0, 1)), corrections=sky / "set")
    append(other, catalogs(sky, (2,)))
    apply(store, sky / "set")
    assert_same(sky_content(other), sky_content(store))
    assert verify_store(other, runner(), deep=True).passed


def test_append_after_correct_none_is_uncorrected(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    apply(store, None)
    append(store, catalogs(sky, (3,)))
    assert_corrected(store, set())


def test_correct_set_of_other_units_applies_nothing_and_says_so(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT])
    apply(store, sky / "set")
    before = sky_content(store)
    corrected.write_set(sky / "foreign", [FOREIGN])
    report = apply(store, sky / "foreign")
    assert (report.applies, report.committed, report.exposures) == (False, False, 0)
    assert_same(sky_content(store), before)


@pytest.mark.parametrize("name", ["magnitude.parquet", "exposures.parquet", "about.json"])
def test_correct_damaged_set_is_refused_and_nothing_changes(store: Storage, sky: Path, name: str) -> None:
    corrected.write_set(sky / "set", [UNIT])
    content = bytearray((sky / "set" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (sky / "set" / name).write_bytes(content)
    number = open_snapshot(store).number
    with pytest.raises(CorrectionsError, match=f"{name}.* damaged"):
        apply(store, sky / "set")
    with pytest.raises(CorrectionsError, match=f"{name}.* damaged"):
        append(store, catalogs(sky, (3,)), corrections=sky / "set")
    assert open_snapshot(store).number == number


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"cells_x": "2"},
            r"about\.json is damaged, or not that of corrections: Expected `int`, got `str` - at `\$.cells",
        ),
        ({"files": None}, r"about\.json is damaged, or not that of corrections: Expected `object`, got `null`"),
        ({"format": "other"}, r"about\.json is damaged, or not that of corrections: Invalid enum value 'other'"),
        ({"version": 9}, r"corrections of format 9; this ztfmatch reads up to 3: upgrade it"),
    ],
)
def test_correct_record_of_other_values_is_refused(
    store: Storage, sky: Path, changed: dict[str, Any], message: str
) -> None:
    corrected.write_set(sky / "set", [UNIT])
    about = sky / "set" / "about.json"
    about.write_bytes(encode({**decode(about.read_bytes(), dict), **changed}))
    with pytest.raises(CorrectionsError, match=message):
        apply(store, sky / "set")


def test_correct_directory_without_corrections_is_refused(store: Storage, sky: Path) -> None:
    with pytest.raises(CorrectionsError, match=r"it has no about\.json"):
        apply(store, sky)
    corrected.write_set(sky / "set", [UNIT])
    (sky / "set" / "position.parquet").unlink()
    with pytest.raises(CorrectionsError, match=r"position\.parquet is missing"):
        apply(store, sky / "set")


def test_rollback_takes_corrections_back_too(store: Storage, sky: Path) -> None:
    before = sky_content(store)
    number = open_snapshot(store).number
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    ztfmatch.open_store(store.root).rollback(number)
    assert_same(sky_content(store), before)
    append(store, catalogs(sky, (3,)))
    assert_corrected(store, set())


def test_correct_raced_by_an_append_corrects_its_rows_too(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    report = correct(store, sky / "set", interrupted("correcting", lambda: append(store, catalogs(sky, (3,)))))
    assert report.changed == 8
    assert_corrected(store, {UNIT, OTHER})
    assert [c.operation for c in ztfmatch.open_store(store.root).commits()][-2:] == ["append", "correct"]


def test_correct_raced_by_a_compaction_corrects_what_it_made(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    report = correct(
        store, sky / "set", interrupted("correcting", lambda: compact(store, CompactConfig(2, full=True), runner()))
    )
    assert report.committed
    assert_corrected(store, {UNIT, OTHER})


def test_append_raced_by_a_correct_stops_and_its_rerun_is_corrected(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    config = append_operation.AppendConfig()
    paths = [str(path) for path in catalogs(sky, (3,))]
    with pytest.raises(CommitConflictError, match="changed the store's corrections"):
        append_operation.append_catalogs(
            store, paths, config, interrupted("matching", lambda: apply(store, sky / "set"))
        )
    append(store, catalogs(sky, (3,)))
    assert_corrected(store, {UNIT, OTHER})


def test_correct_rerun_after_a_failed_commit_repeats_no_task(
    store: Storage, sky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    with monkeypatch.context() as patched:
        patched.setattr(log, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            apply(store, sky / "set")

    def correct_tile(_: Any) -> Replaced:
        pytest.fail("a task was run again")

    monkeypatch.setattr(correct_operation, "correct_tile", correct_tile)
    assert apply(store, sky / "set").committed
    assert_corrected(store, {UNIT, OTHER})


def test_verify_finds_an_altered_set_a_lost_one_and_wrong_magnitudes(store: Storage, sky: Path) -> None:
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    head = open_snapshot(store)
    file = head.of_table("corrections")[0]
    change = log.Change("test", "0" * 32, {}, {}, [], frozenset([file.path]))
    log.commit(store, head.commit, change)
    checks = {c.check: c for c in verify_store(store, runner()).checks}
    assert checks["corrections"].violations == 6
    assert checks["mag"].violations > 0
    assert checks["corrflags"].violations > 0


def test_corrections_table_of_a_snapshot_holds_all_numbers(store: Storage, sky: Path) -> None:
    digest = corrected.write_set(sky / "set", [UNIT, OTHER], [OTHER], errors={UNIT: MODEL})
    apply(store, sky / "set")
    rows = ztfmatch.open_store(store.root).snapshot().table("corrections").to_pylist()
    assert {row["corrections"] for row in rows} == {digest}
    by = {(r["term"], r["field"], r["rcid"], r["fid"], r["place"]): r["value"] for r in rows}
    assert len(by) == len(rows) == 2 + 2 * (4 + corrected.CELLS**2) + 1 + 4
    assert by["position", None, UNIT.rcid, UNIT.fid, corrected.HOLE] is None
    assert by["position", None, UNIT.rcid, UNIT.fid, 6] == corrected.cell_value(UNIT, 6)
    assert by["field", OTHER.field, OTHER.rcid, OTHER.fid, 0] == corrected.offset(OTHER)
    assert [by["error model", UNIT.field, UNIT.rcid, UNIT.fid, i] for i in range(4)] == list(MODEL)


def test_history_names_the_set(store: Storage, sky: Path) -> None:
    digest = corrected.write_set(sky / "set", [UNIT])
    correct(store, sky / "set", runner(), note="corrections of May")
    last = ztfmatch.open_store(store.root).commits()[-1]
    assert (last.operation, last.arguments["set"], last.note) == ("correct", digest, "corrections of May")
    assert json.loads((sky / "set" / "about.json").read_text())["corrections"] == digest


def test_correct_rows_keep_their_order_and_files(store: Storage, sky: Path) -> None:
    columns = ["objectid", "exposureid", "sourceid", "psfflux"]
    before = pa.concat_tables([open_snapshot(store).read("detections", columns)])
    corrected.write_set(sky / "set", [UNIT, OTHER])
    apply(store, sky / "set")
    after = open_snapshot(store)
    assert after.files.total("detections", "rows") == before.num_rows
    assert (
        after.read("detections", columns)
        .sort_by([(n, "ascending") for n in columns])
        .equals(before.sort_by([(n, "ascending") for n in columns]))
    )


def test_correct_leaves_imported_epochs_as_their_matchfile_has_them(tmp_path: Path) -> None:
    """They have the survey's corrections already: neither a set nor its removal touches them."""
    content = make_content(sources=6, exposures=4, transients=2)
    place = write_matchfile(tmp_path, content)
    storage = Storage.at(tmp_path / "store")
    import_matchfiles(storage, [str(place)], ImportConfig(create=StoreConfig()), runner())
    unit = content.unit
    append(storage, [epochal_file(tmp_path, night_rows(1), night, unit) for night in range(2)])
    before = sky_content(storage)
    corrected.write_set(tmp_path / "set", [unit])
    assert apply(storage, tmp_path / "set").exposures == 2
    imported = pc.field("exposureid").isin([
        row["exposureid"] for row in before["exposures"].to_pylist() if row["origin"] == "matchfile"
    ])  # fmt: skip
    after = sky_content(storage)
    for name in ("detections", "orphans", "exposures"):
        assert before[name].filter(imported).num_rows
        assert_same({name: before[name].filter(imported)}, {name: after[name].filter(imported)})
    assert any(after["orphans"]["corrflags"].to_pylist())
    assert verify_store(storage, runner(), deep=True).passed
    apply(storage, None)
    assert_same(sky_content(storage), before)
