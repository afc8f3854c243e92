"""Statistics of a store that grows: only what has changed is computed, where enough has; all else is carried over."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import command
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at, runner
from store_checks import check_equals_full
from store_operations import all_statistics

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.parquet import OpenFile
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.statistics import new_percent, stale_tiles, update_statistics
from ztfmatch.core.operations.status import status_of
from ztfmatch.core.operations.transients import ungrouped_tiles, update_transients
from ztfmatch.core.operations.vacuum import vacuum
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.recent import Recent
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks import orphans

OTHER = Unit(501, 21, 2)
STARS = 6


def stars(count: int = STARS) -> np.ndarray:
    return rows_at(10.0 + np.arange(count) * 0.01, np.full(count, 10.0))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Two units at one place, eleven nights of each, statistics up to date."""
    made = make_store(tmp_path / "s", [reference_file(tmp_path, stars(), unit) for unit in (UNIT, OTHER)])
    append(made, [epochal_file(tmp_path, stars(), n, unit) for unit in (UNIT, OTHER) for n in range(11)])
    assert update_statistics(made, runner()).committed
    return made


def statistics(storage: Storage) -> dict[int, dict[str, Any]]:
    return {row["objectid"]: row for row in open_snapshot(storage).read("statistics").to_pylist()}


def test_statistics_are_computed_of_objects_with_new_epochs_alone(storage: Storage, tmp_path: Path) -> None:
    before = statistics(storage)
    append(storage, [epochal_file(tmp_path, stars(2), 11)])
    report = all_statistics(storage, runner())
    assert (report.committed, report.objects, report.epochs) == (True, 2, 24)
    after = statistics(storage)
    changed = {objectid for objectid, row in after.items() if row != before[objectid]}
    assert len(changed) == 2
    assert {after[objectid]["snapshot"] for objectid in changed} == {3}
    assert {row["snapshot"] for objectid, row in after.items() if objectid not in changed} == {1}
    check_equals_full(storage, all_statistics, ["statistics"])


def test_statistics_of_a_tile_wait_for_enough_new_epochs(storage: Storage, tmp_path: Path) -> None:
    """One night of one of two units is 4.5 %; with the second it is 9.1 %, with the third 13.6 %."""
    for number, waits in ((11, True), (12, True), (13, False)):
        append(storage, [epochal_file(tmp_path, stars(), number)])
        report = update_statistics(storage, runner())
        assert (report.waiting, report.committed) == ((1, False) if waits else (0, True))
    assert {row["nobs"] for row in statistics(storage).values()} == {11, 14}
    check_equals_full(storage, all_statistics, ["statistics"])


def test_status_tells_the_age_of_statistics(storage: Storage, tmp_path: Path) -> None:
    append(storage, [epochal_file(tmp_path, stars(), 11)])
    snapshot = open_snapshot(storage)
    time = open_snapshot(storage, 2).commit.time
    said = f"1 tiles are stale by up to 4.5 % new epochs; the oldest are of snapshot 2 ({time})"
    assert status_of(snapshot).statistics == said
    all_statistics(storage, runner())
    assert status_of(open_snapshot(storage)).statistics == "up to date"


def test_new_objects_are_due_whatever_the_epochs(storage: Storage, tmp_path: Path) -> None:
    moved = rows_at(10.0 + np.arange(STARS) * 0.01, np.full(STARS, 10.0), mag=-7.0)
    (tmp_path / "new").mkdir()
    rematch(storage, [str(reference_file(tmp_path / "new", moved, UNIT))], RematchConfig(), runner())
    (percent,) = new_percent(snapshot := open_snapshot(storage), stale_tiles(snapshot)).values()
    assert percent == math.inf
    assert update_statistics(storage, runner()).committed
    check_equals_full(storage, all_statistics, ["statistics"])


def test_tile_without_active_objects_is_up_to_date_after_a_pass(tmp_path: Path) -> None:
    """A reference without any seed of the tile retires all that it had."""
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, stars())], seeds_per_tile=4)
    append(storage, [epochal_file(tmp_path, stars(), 0)])
    (tmp_path / "new").mkdir()
    far = reference_file(tmp_path / "new", rows_at([10.0], [10.9]))
    rematch(storage, [str(far)], RematchConfig(), runner())
    assert update_statistics(storage, runner()).committed
    assert stale_tiles(open_snapshot(storage)) == []
    assert not update_statistics(storage, runner()).committed


@pytest.mark.parametrize("percent", [-1.0, math.nan, math.inf])
def test_percentage_that_is_none_is_refused(storage: Storage, percent: float) -> None:
    with pytest.raises(ConfigError, match=r"min_new_percent .* must be 0 or a positive number"):
        update_statistics(storage, runner(), percent)


def test_command_says_what_waits(storage: Storage, tmp_path: Path) -> None:
    append(storage, [epochal_file(tmp_path, stars(), 11)])
    waiting = command("statistics", storage.root).stdout.splitlines()
    assert waiting[-2:] == [
        "No statistics are due; the store stays at snapshot 3.",
        "1 tile with less than 10 % new epochs wait (--min-new).",
    ]
    done = command("statistics", storage.root, "--min-new", "0")
    assert "statistics of 6 objects from 72 epochs in 1 tile" in done.stdout


def recurring(night: int, unit: Unit) -> np.ndarray:
    """Stars of a unit, and beside each of them a detection that recurs."""
    ra, dec = stars()["ra"], stars()["dec"]
    north = (10.0 + 0.1 * night) / 3600.0 * (1 if unit == UNIT else -1)
    return rows_at(np.concatenate([ra, ra]), np.concatenate([dec, dec + north]))


def test_transients_of_units_without_new_orphans_stay_as_they_are(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, stars(), unit) for unit in (UNIT, OTHER)])
    append(storage, [epochal_file(tmp_path, recurring(n, u), n, u) for u in (UNIT, OTHER) for n in range(3)])
    assert update_transients(storage, runner()).transients == 2 * STARS
    append(storage, [epochal_file(tmp_path, recurring(3, UNIT), 3)])
    report = update_transients(storage, runner())
    assert (report.transients, report.detections) == (STARS, 4 * STARS)
    rows = open_snapshot(storage).read("transients").to_pylist()
    assert {(row["fid"], row["rcid"], row["snapshot"], row["nobs"]) for row in rows} == {(2, 20, 3, 4), (2, 21, 1, 3)}
    check_equals_full(storage, update_transients, ["transients", "transientdata"])


def test_rematch_groups_units_with_other_orphans_alone(tmp_path: Path) -> None:
    """Of three units one is matched again, one has a night that was not grouped yet, and one stays as it is."""
    third = Unit(501, 22, 2)
    units = (UNIT, OTHER, third)
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, stars(), unit) for unit in units])
    append(storage, [epochal_file(tmp_path, recurring(n, u), n, u) for u in units for n in range(3)])
    assert update_transients(storage, runner()).transients == 3 * STARS
    append(storage, [epochal_file(tmp_path, recurring(3, OTHER), 3, OTHER)])
    (tmp_path / "new").mkdir()
    moved = rows_at(stars()["ra"], stars()["dec"] + 0.1 / 3600.0)
    rematch(storage, [str(reference_file(tmp_path / "new", moved, UNIT))], RematchConfig(), runner())
    rows = open_snapshot(storage).read("transients").to_pylist()
    assert {(row["rcid"], row["snapshot"], row["nobs"]) for row in rows} == {(20, 3, 3), (21, 3, 4), (22, 1, 3)}
    check_equals_full(storage, update_transients, ["transients", "transientdata"])
    assert verify_store(storage, runner(), deep=True).passed


def test_transients_read_no_row_group_of_other_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bounds in the footers tell."""
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, stars(), unit) for unit in (UNIT, OTHER)])
    for unit in (UNIT, OTHER):
        append(storage, [epochal_file(tmp_path, recurring(n, unit), n, unit) for n in range(3)])
    update_transients(storage, runner())
    append(storage, [epochal_file(tmp_path, recurring(3, UNIT), 3)])
    read, real = [], OpenFile.read

    def recorded(file: OpenFile, groups: Any, columns: Any, threads: bool = False) -> Any:
        rows = real(file, groups, columns, threads)
        read.extend(rows["field"].to_pylist() if {"field", "reason"} <= set(columns) else [])
        return rows

    monkeypatch.setattr(OpenFile, "read", recorded)
    monkeypatch.setattr(orphans, "_kept", Recent(0, len))
    update_transients(storage, runner())
    assert read
    assert set(read) == {UNIT.field}


def test_transients_of_tiles_beside_new_orphans_keep_their_files(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, stars())])
    append(storage, [epochal_file(tmp_path, recurring(n, UNIT), n) for n in range(3)])
    update_transients(storage, runner())
    before = {file.tile: file for file in open_snapshot(storage).of_table("transients")}
    append(storage, [epochal_file(tmp_path, recurring(3, UNIT)[-1:], 3)])
    report = update_transients(storage, runner())
    after = {file.tile: file for file in open_snapshot(storage).of_table("transients")}
    stay = {tile for tile, file in after.items() if before[tile].path == file.path}
    assert after.keys() == before.keys()
    assert 0 < len(after) - len(stay) < report.tiles == len(after)
    assert any(after[tile].commit > before[tile].commit for tile in stay)
    assert ungrouped_tiles(open_snapshot(storage)) == []
    assert vacuum(storage, 1, 0.0).deleted
    assert verify_store(storage, runner(), deep=True).passed
    check_equals_full(storage, update_transients, ["transients", "transientdata"])
