"""Prove the invariants on what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.corrections import read_store_sets
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.operations.common import OperationId, Row, Stopwatch, chunks, unit_of
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, DETECTIONS, EXPOSURES, OBJECTS, ORPHANS, TRANSIENTS
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.verify import ChecksumTask, VerifyTask, verify_checksums, verify_tile

CHECKS: Final = {
    "order": "rows of each detection file are in order, each once",
    "ledger": "every detection and orphan belongs to an exposure of the ledger",
    "unit": "its unit is the exposure's",
    "match": "the nearest seed of its unit, within the radius, is its object",
    "one-epoch-an-exposure": "an object has at most one epoch of an exposure",
    "nearer-detection": "what lost to another detection lost to a nearer one",
    "reason": "the reason of each orphan is what the seeds of its unit say",
    "tile": "every row lies in its own tile",
    "corrections": "the store holds the corrections that each exposure names, whole",
    "mag": "mag is MAGZP - 2.5 log10(psfflux) less the exposure's corrections, to the last bit (not where imported)",
    "magerr": "magerr is the error model's, or the catalog's sigma, to the last bit (not where imported)",
    "corrflags": "corrflags say which corrections were taken off",
    "catflags": "catflags follow from flags and the exposure's quality (not where imported)",
    "hmjd": "hmjd is heliocentric mid-exposure (within a second where imported)",
    "conservation": "for each exposure, rows = matched + orphans + rejected, as stored",
    "digest": "for each exposure, the stored measured values are the catalog's, to the last bit",
    "exposures-once": "no exposure is in the ledger twice",
    "transients": "a transient is of orphans of its unit, one an exposure, about the one that it is named after",
    "objects": "the active objects of each unit are as many as its reference has seeds",
    "newest": "no file that was committed is of a later snapshot than the newest, whose record would be lost",
    "log": "every snapshot has its record, whole and of this store (with --deep)",
    "checksum": "every file has the bytes that were written (with --deep)",
}
"""What each check proves."""

_FILES_PER_TASK: Final = 16
_NAMED: Final = 3
_LEDGER_COLUMNS: Final = (
    "exposureid",
    "filename",
    "nmatched",
    "norphans",
    "nrejected",
    "nrows",
    "digest",
    "corrections",
)


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check."""

    check: str
    proves: str
    checked: int
    violations: int
    example: str | None

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return self.violations == 0


@dataclass(frozen=True, kw_only=True)
class VerifyReport(Shown):
    """Outcome of all checks."""

    store: str
    snapshot: int
    passed: bool
    exposures: int
    detections: int
    orphans: int
    checks: list[CheckResult]
    damaged: list[str]
    """Files that are missing or altered; where there are any, no row is checked."""
    seconds: float


def verify_store(storage: Storage, runner: Runner, deep: bool = False, number: int | None = None) -> VerifyReport:
    """Check every stored row against the invariants.

    Parameters
    ----------
    storage : Storage
    runner : Runner
    deep : bool
        Whether to compare the bytes of every file with its checksum too.
    number : int, optional
        Snapshot; the newest by default.

    Raises
    ------
    StoreDamagedError
        If the snapshot's record, manifests or tiling are missing or damaged.
    JobFailedError
        If a file that the snapshot names is missing or damaged, where that was not looked for first (``deep``).
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage, number)
    operation_id = OperationId("verify", snapshot.number, []).value
    found = _Found()
    damaged = _check_files(snapshot, operation_id, runner, found) if deep else []
    _check_newest(snapshot, found)
    if not damaged:
        _check_rows(snapshot, operation_id, runner, found)
    checks = found.results()
    return VerifyReport(
        store=storage.root,
        snapshot=snapshot.number,
        passed=all(check.passed for check in checks),
        exposures=snapshot.rows(EXPOSURES.name),
        detections=snapshot.rows(DETECTIONS.name),
        orphans=snapshot.rows(ORPHANS.name),
        checks=checks,
        damaged=damaged,
        seconds=watch.seconds,
    )


def _check_files(snapshot: SnapshotFiles, operation_id: str, runner: Runner, found: _Found) -> list[str]:
    """Check the log and the bytes of every file; return what is wrong with each that is damaged."""
    damaged = _check_log(snapshot, found)
    tasks = [
        ChecksumTask(f"checksums-{i}", snapshot.storage, group)
        for i, group in enumerate(chunks(list(snapshot.files), _FILES_PER_TASK))
    ]
    job = Job("checksums", verify_checksums, tasks, operation_id, ahead=lambda: [_verifying(snapshot, operation_id)])
    results = runner.run(job)
    found.add(results)
    return damaged + [text for result in results for text in result["damaged"]]


def _check_log(snapshot: SnapshotFiles, found: _Found) -> list[str]:
    damaged = []
    numbers = range(log.commit_numbers(snapshot.storage)[-1] + 1)
    for number in numbers:
        try:
            log.check_store(snapshot.storage, log.read_commit(snapshot.storage, number))
        except StoreDamagedError as error:
            damaged.append(str(error))
    found.note("log", len(numbers), len(damaged), damaged[0] if damaged else None)
    return damaged


def _check_newest(snapshot: SnapshotFiles, found: _Found) -> None:
    """Look for files of later snapshots than the newest: nothing else tells that the newest record was lost.

    Those of a job that runs, or was killed, are no sign of it: it has staged results, which a commit clears, or has not
    yet written a manifest, which it does as it commits.
    """
    storage = snapshot.storage
    staged = {path.removeprefix(paths.STAGING)[:12] for path, _ in storage.list(paths.STAGING)}
    made = {path: paths.made_for(path) for place in (paths.MANIFESTS, paths.DATA) for path, _ in storage.list(place)}
    newest = log.commit_numbers(storage)[-1]  # read last: a job may have committed meanwhile
    after = {path: of for path, of in made.items() if of and of[0] > newest}
    committed = {of for path, of in after.items() if path.startswith(paths.MANIFESTS) and of[1] not in staged}
    later = sorted(path for path, of in after.items() if of in committed or of[0] > newest + 1)
    names = ", ".join(later[:_NAMED]) + (f" and {len(later) - _NAMED} more" if len(later) > _NAMED else "")
    example = (
        f"{names}: of a later snapshot than the newest, {newest}: {paths.commit(newest + 1)} was lost (or a job was "
        f"killed as it committed); bring it back from a copy, or run the operation again"
    )
    found.note("newest", len(made), len(later), example if later else None)


def _verifying(snapshot: SnapshotFiles, operation_id: str) -> Job[dict[str, Any]]:
    return Job("verifying", verify_tile, _tasks(snapshot), operation_id)


def _check_rows(snapshot: SnapshotFiles, operation_id: str, runner: Runner, found: _Found) -> None:
    results = runner.run(_verifying(snapshot, operation_id))
    found.add(results)
    ledger = snapshot.read(EXPOSURES.name, _LEDGER_COLUMNS)
    _check_exposures(ledger, results, found)
    _check_corrections(snapshot, ledger, found)
    _check_objects(snapshot, results, found)


class _Found:
    """Findings of all tasks, added up."""

    def __init__(self) -> None:
        self._checked: dict[str, int] = {}
        self._violations: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, results: Iterable[Row]) -> None:
        for result in results:
            for check, number in result["checked"].items():
                self.note(check, number, result["violations"][check], result["examples"].get(check))

    def note(self, check: str, checked: int, violations: int, example: str | None) -> None:
        self._checked[check] = self._checked.get(check, 0) + checked
        self._violations[check] = self._violations.get(check, 0) + violations
        if example is not None:
            self._examples.setdefault(check, example)

    def results(self) -> list[CheckResult]:
        return [
            CheckResult(
                check,
                proves,
                self._checked.get(check, 0),
                self._violations.get(check, 0),
                self._examples.get(check),
            )
            for check, proves in CHECKS.items()
            if check in self._checked
        ]


def _tasks(snapshot: SnapshotFiles) -> list[VerifyTask]:
    tiles = snapshot.tiles_with(OBJECTS.name, DETECTIONS.name, ORPHANS.name, TRANSIENTS.name)
    return [VerifyTask(f"verify-N{tile.order}-{tile.npix}", snapshot, tile) for tile in tiles]


def _check_exposures(ledger: pa.Table, results: list[Row], found: _Found) -> None:
    """Compare what the tiles hold of each exposure with what the ledger says."""
    columns = {name: ledger[name].to_numpy() for name in ("exposureid", "nmatched", "norphans", "nrejected", "nrows")}
    ids, digests = columns["exposureid"], ledger["digest"].to_numpy()
    row_of = build_map(ids)
    held = {name: np.zeros(len(ids), np.int64) for name in ("matched", "orphans")}
    digest = np.zeros(len(ids), np.uint64)
    for result in results:
        rows = find_rows(row_of, np.array(result["exposureid"], np.int64))
        for name, total in held.items():
            np.add.at(total, rows, np.array(result[name], np.int64))
        np.add.at(digest, rows, np.array(result["digest"], np.uint64))
    balanced = columns["nmatched"] + columns["norphans"] + columns["nrejected"] == columns["nrows"]
    stored = (held["matched"] == columns["nmatched"]) & (held["orphans"] == columns["norphans"])

    def lost(row: int) -> str:
        said = ", ".join(f"{name} {values[row]}" for name, values in columns.items())
        counts = f"{held['matched'][row]} matched and {held['orphans'][row]} orphans"
        return f"{ledger['filename'][row]}: the ledger says {said}; the store holds {counts}"

    _note(found, "conservation", ~(balanced & stored), lost)
    _note(found, "digest", digest != digests, lambda i: f"{ledger['filename'][i]}: {digest[i]}, expected {digests[i]}")
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    _note(found, "exposures-once", again, lambda row: f"{ledger['filename'][row]} is there twice")


def _check_corrections(snapshot: SnapshotFiles, ledger: pa.Table, found: _Found) -> None:
    """Compare the sets that exposures name with those that the store holds, named anew from their content."""
    held = read_store_sets(snapshot.storage, snapshot.of_table(CORRECTIONS.name))
    names = ledger["corrections"].to_pylist()
    wrong = np.array([name is not None and name not in held for name in names], bool)
    _note(found, "corrections", wrong, lambda row: f"{ledger['filename'][row]}: the store has no set {names[row]}")


def _note(found: _Found, check: str, wrong: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> None:
    rows = np.flatnonzero(wrong)
    found.note(check, len(wrong), len(rows), describe(int(rows[0])) if rows.size else None)


def _check_objects(snapshot: SnapshotFiles, results: list[Row], found: _Found) -> None:
    """Compare the number of active objects of each unit with its newest reference."""
    newest: dict[str, Row] = {}
    for row in sorted(snapshot.read("references").to_pylist(), key=lambda row: row["generation"]):
        newest[str(unit_of(row))] = row
    held: dict[str, int] = {}
    for result in results:
        for unit, number in result["objects"].items():
            held[unit] = held.get(unit, 0) + number
    wrong = [
        f"unit {unit}: {held.get(unit, 0)} active objects, {row['nseeds']} seeds"
        for unit, row in newest.items()
        if held.get(unit, 0) != row["nseeds"]
    ]
    found.note("objects", len(newest), len(wrong), wrong[0] if wrong else None)
