"""Statistics and transients while others commit: what holds is committed, and what does not stays stale."""

from __future__ import annotations

import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import command
from helpers import UNIT, Interrupted, append, epochal_file, make_store, reference_file, rows_at, runner
from transient_groups import expected_groups, groups_of

from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.history import rollback
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.statistics import stale_tiles, update_statistics
from ztfmatch.core.operations.transients import ungrouped_tiles, update_transients
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.runner import Job, LoopExecutor, Runner
from ztfmatch.core.schema import TABLES
from ztfmatch.core.survey import Unit

OTHER = Unit(501, 21, 2)
PLACES = {UNIT: (10.0, 10.0), OTHER: (190.0, -20.0)}
"""So far apart that no tile is near both."""

ARCSEC = 1.0 / 3600.0
Change = Callable[[Storage, Path], Any]


@dataclass(frozen=True)
class Kind:
    """What is derived."""

    update: Callable[..., Any]
    stale: Callable[[SnapshotFiles], list[Tile]]
    table: str
    inputs: str
    """A table of which each unit has rows in its tiles."""


STATISTICS = Kind(update_statistics, stale_tiles, "statistics", "objects")
TRANSIENTS = Kind(update_transients, ungrouped_tiles, "transients", "orphans")
KINDS = pytest.mark.parametrize("kind", [STATISTICS, TRANSIENTS], ids=["statistics", "transients"])


def stars(unit: Unit) -> np.ndarray:
    ra, dec = PLACES[unit]
    return rows_at(ra + np.arange(6) * 0.05, np.full(6, dec))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_store(
        tmp_path / "s", [reference_file(tmp_path, stars(unit), unit) for unit in PLACES], seeds_per_tile=4
    )


def night(place: Path, number: int, *units: Unit) -> list[Path]:
    """Catalogs with the stars of units, and beside each of them a detection that recurs."""
    made = []
    for unit in units:
        ra, dec = stars(unit)["ra"], stars(unit)["dec"]
        rows = rows_at(np.concatenate([ra, ra]), np.concatenate([dec, dec + 10 * ARCSEC]))
        rows["flux"] += 1000.0 * number
        made.append(epochal_file(place, rows, number, unit))
    return made


def passed(kind: Kind, storage: Storage, meanwhile: Callable[[], Any]) -> Any:
    """A pass that others interrupt before it commits; the store must verify after it."""
    report = kind.update(storage, Runner(Interrupted(meanwhile), 2 << 30))
    assert verify_store(storage, runner(), deep=True).passed
    assert report.changed == len(kind.stale(open_snapshot(storage)))
    assert report.snapshot == open_snapshot(storage).number
    return report


def tiles_of(unit: Unit, storage: Storage, kind: Kind) -> set[Tile]:
    """Tiles that have rows of a unit of what is derived from."""
    snapshot = open_snapshot(storage)
    files = snapshot.of_table(kind.inputs)
    return {
        f.tile for f in files if f.tile and unit.field in read_file_rows(storage, f, ["field"])["field"].to_pylist()
    }


def rows(storage: Storage, kind: Kind, stale: set[Tile]) -> list[dict[str, Any]]:
    """Derived rows outside of some tiles, but for the snapshot that they are of."""
    snapshot = open_snapshot(storage)
    files = [file for file in snapshot.of_table(kind.table) if file.tile not in stale]
    found = [row for file in files for row in read_file_rows(storage, file, TABLES[kind.table].names).to_pylist()]
    assert found
    return sorted(({**row, "snapshot": None} for row in found), key=str)


def assert_as_of_the_newest(kind: Kind, storage: Storage, place: Path) -> None:
    """What is not stale is what a pass on the newest snapshot gives, and a rerun makes all so."""
    shutil.copytree(storage.root, place)
    anew = Storage.at(place)
    stale = set(kind.stale(open_snapshot(storage)))
    again = kind.update(anew, runner())
    assert (again.committed, again.changed) == (bool(stale), 0)
    assert rows(storage, kind, stale) == rows(anew, kind, stale)
    if kind is TRANSIENTS:
        assert groups_of(anew) == expected_groups(anew)


def _nothing(_: Storage, __: Path) -> None:
    """Nothing before the pass."""


def _night(storage: Storage, place: Path) -> None:
    append(storage, night(place, 2, UNIT))


def _night_taken_back(storage: Storage, place: Path) -> None:
    _night(storage, place)
    rollback(storage, 1)


@KINDS
@pytest.mark.parametrize(
    ("before", "meanwhile", "snapshot"),
    [
        pytest.param(_nothing, _night, 3, id="an append"),
        pytest.param(_night, lambda storage, _: rollback(storage, 1), 4, id="a rollback takes a night back"),
        # Files that it brings are older than the snapshot of the pass.
        pytest.param(_night_taken_back, lambda storage, _: rollback(storage, 2), 5, id="a rollback brings it again"),
    ],
)
def test_pass_while_others_change_some_tiles_leaves_only_these_stale(
    kind: Kind, before: Change, meanwhile: Change, snapshot: int, storage: Storage, tmp_path: Path
) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    before(storage, tmp_path)
    report = passed(kind, storage, lambda: meanwhile(storage, tmp_path))
    stale = set(kind.stale(open_snapshot(storage)))
    assert (report.committed, report.snapshot) == (True, snapshot)
    assert stale >= tiles_of(UNIT, storage, kind)
    assert stale.isdisjoint(tiles_of(OTHER, storage, kind))
    assert_as_of_the_newest(kind, storage, tmp_path / "again")


@KINDS
def test_pass_while_references_of_some_tiles_are_matched_again_commits_the_others(
    kind: Kind, storage: Storage, tmp_path: Path
) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    new = reference_file(tmp_path / "new", stars(UNIT)[1:], UNIT, mag=-7.0)
    report = passed(kind, storage, lambda: rematch(storage, [str(new)], RematchConfig(), runner()))
    assert (report.committed, report.snapshot) == (True, 3)
    assert set(kind.stale(open_snapshot(storage))).isdisjoint(tiles_of(OTHER, storage, kind))
    assert_as_of_the_newest(kind, storage, tmp_path / "again")


@dataclass
class Overtaken:
    """Does something else once, after the first task, whose result is staged."""

    meanwhile: Callable[[], Any]

    def outcomes(self, job: Job) -> Iterator[Any]:
        for number, outcome in enumerate(LoopExecutor().outcomes(job)):
            if number == 0:
                self.meanwhile()
            yield outcome


@KINDS
@pytest.mark.parametrize("executor", [Interrupted, Overtaken])
def test_pass_that_the_same_one_overtakes_is_committed_once(
    kind: Kind, executor: Callable[..., Any], storage: Storage, tmp_path: Path
) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    report = kind.update(storage, Runner(executor(lambda: kind.update(storage, runner())), 2 << 30))
    assert (report.snapshot, report.changed, log.commit_numbers(storage)) == (2, 0, [0, 1, 2])
    assert verify_store(storage, runner(), deep=True).passed
    assert list(storage.list("staging/")) == []
    assert_as_of_the_newest(kind, storage, tmp_path / "again")


@KINDS
def test_pass_while_a_rollback_takes_all_back_stops(kind: Kind, storage: Storage, tmp_path: Path) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER))
    append(storage, night(tmp_path, 1, UNIT, OTHER))
    update_statistics(storage, runner())
    update_transients(storage, runner())
    append(storage, night(tmp_path, 2, UNIT, OTHER))
    text = rf"changed all tiles of these {kind.table} \(snapshot 6, rollback\)"
    with pytest.raises(CommitConflictError, match=text):
        passed(kind, storage, lambda: rollback(storage, 2))
    assert open_snapshot(storage).number == 6


def test_statistics_while_all_tiles_get_epochs_are_those_of_before(storage: Storage, tmp_path: Path) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER))
    report = passed(STATISTICS, storage, lambda: append(storage, night(tmp_path, 1, UNIT, OTHER)))
    assert (report.committed, report.objects, report.epochs, report.changed) == (True, 12, 12, report.tiles)
    of_before = rows(storage, STATISTICS, set())
    assert {row["nobs"] for row in of_before} == {1}
    assert update_statistics(storage, runner()).changed == 0
    assert {row["nobs"] for row in rows(storage, STATISTICS, set())} == {2}


def test_transients_while_orphans_are_added_to_all_tiles_are_those_of_before(storage: Storage, tmp_path: Path) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    before = expected_groups(storage)
    report = passed(TRANSIENTS, storage, lambda: append(storage, night(tmp_path, 2, UNIT, OTHER)))
    assert (report.committed, report.transients, report.detections) == (True, 12, 24)
    assert report.changed == report.tiles
    assert groups_of(storage) == before
    assert update_transients(storage, runner()).changed == 0
    assert groups_of(storage) == expected_groups(storage)


def test_transients_of_tiles_side_by_side_are_committed_together_or_not_at_all(tmp_path: Path) -> None:
    """A transient moves over the border as it gains detections: of one of the two tiles alone it would be in both.

    What a rollback takes away lies in a third tile, which touches that where the transient was, not that where it is.
    """
    far, border = (0.0, 0.0), (90.0, 66.4)
    references = [reference_file(tmp_path, rows_at(border[0] + 0.2, border[1]), UNIT)]
    references.append(reference_file(tmp_path, rows_at(far[0] + 0.2, far[1]), OTHER))
    storage = make_store(tmp_path / "s", references)
    over = np.array([-0.3, -0.2, 0.9, 0.9]) * ARCSEC / np.cos(np.radians(border[1]))
    files = [epochal_file(tmp_path, rows_at(border[0] + x, border[1]), i) for i, x in enumerate(over)]
    append(storage, files[:2])
    update_transients(storage, runner())
    where = {file.tile for file in open_snapshot(storage).of_table("transientdata")}
    append(storage, files[2:])
    append(storage, [epochal_file(tmp_path, rows_at(*far), 5, OTHER)])
    with pytest.raises(CommitConflictError, match=r"changed all tiles of these transients \(snapshot 5, rollback\)"):
        passed(TRANSIENTS, storage, lambda: rollback(storage, 3))
    assert verify_store(storage, runner(), deep=True).passed
    assert update_transients(storage, runner()).changed == 0
    assert where.isdisjoint(file.tile for file in open_snapshot(storage).of_table("transientdata"))
    assert groups_of(storage) == expected_groups(storage)
    assert verify_store(storage, runner(), deep=True).passed


@pytest.mark.parametrize("name", ["statistics", "transients"])
def test_command_tells_of_tiles_that_changed_meanwhile(
    name: str, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    real, once = log.commit, [lambda: append(storage, night(tmp_path, 2, UNIT))]

    def commit(*arguments: Any) -> Any:
        if once:
            once.pop()()
        return real(*arguments)

    monkeypatch.setattr(log, "commit", commit)
    done = command(name, storage.root)
    left = len({"statistics": stale_tiles, "transients": ungrouped_tiles}[name](open_snapshot(storage)))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"{left} tiles changed meanwhile: run it again."
    assert "changed meanwhile" not in command(name, storage.root).stdout


def test_rematch_beside_tiles_with_orphans_to_be_grouped_groups_these_too(tmp_path: Path) -> None:
    """A transient moves over the border of a tile that is near the units, from one that is not."""
    beside, border = (180.0, 0.0), (90.0, 66.4)
    references = [reference_file(tmp_path, rows_at(border[0] + 0.2, border[1]), UNIT)]
    references.append(reference_file(tmp_path, rows_at(beside[0] + 0.2, beside[1]), OTHER))
    storage = make_store(tmp_path / "s", references)
    over = np.array([-0.3, -0.2, 0.9, 0.9]) * ARCSEC / np.cos(np.radians(border[1]))
    files = [epochal_file(tmp_path, rows_at(border[0] + x, border[1]), i) for i, x in enumerate(over)]
    append(storage, files[:2])
    update_transients(storage, runner())
    append(storage, files[2:])
    (tmp_path / "new").mkdir()
    new = reference_file(tmp_path / "new", rows_at(beside[0] + 0.2, beside[1], mag=-7.0), OTHER)
    assert rematch(storage, [str(new)], RematchConfig(), runner()).committed
    assert groups_of(storage) == expected_groups(storage)
    assert verify_store(storage, runner(), deep=True).passed


@KINDS
def test_pass_after_one_was_killed_and_others_committed_elsewhere_repeats_no_tile(
    kind: Kind, storage: Storage, tmp_path: Path
) -> None:
    append(storage, night(tmp_path, 0, UNIT, OTHER) + night(tmp_path, 1, UNIT, OTHER))
    first, second = Recorded(stop_after=len(kind.stale(open_snapshot(storage))) - 1), Recorded()
    with pytest.raises(KeyboardInterrupt):
        kind.update(storage, Runner(first, 2 << 30))
    append(storage, night(tmp_path, 2, UNIT))
    report = kind.update(storage, Runner(second, 2 << 30))
    elsewhere = set(first.computed).difference(tiles_near(UNIT, storage, kind))
    assert elsewhere
    assert elsewhere.isdisjoint(second.computed)
    assert report.tiles == len(second.tiles) == len(second.computed) + len(elsewhere)
    assert_as_of_the_newest(kind, storage, tmp_path / "again")


def tiles_near(unit: Unit, storage: Storage, kind: Kind) -> set[Tile]:
    """Tiles that depend on rows of a unit."""
    tiling = open_snapshot(storage).tiling
    there = tiles_of(unit, storage, kind)
    return there if kind is STATISTICS else {near for tile in there for near in neighbours(tiling, tile)}


@dataclass
class Recorded:
    """A loop that says which tiles it was asked for and which it computed; it may be killed after some."""

    stop_after: int | None = None
    tiles: list[Tile] = field(default_factory=list)
    computed: list[Tile] = field(default_factory=list)

    def outcomes(self, job: Job) -> Iterator[Any]:
        def function(task: Any) -> Any:
            if len(self.computed) == self.stop_after:
                raise KeyboardInterrupt
            self.computed.append(task.tile)
            return job.function(task)

        function.__annotations__ = {"return": typing.get_type_hints(job.function)["return"]}
        self.tiles += [task.tile for task in job.tasks]
        yield from LoopExecutor().outcomes(replace(job, function=function))
