"""Take in epochal catalogs: inspect, sort out what is known or bad, match tile by tile, commit.

Nothing that is stored is rewritten, and no stored detection is read: the cost follows the new catalogs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ztfmatch.errors import ConfigError, JobFailedError
from ztfmatch.io import log
from ztfmatch.io.metadata import (
    ErrorModels,
    ExposureTable,
    quality_rules,
    read_error_models,
    read_exposure_table,
)
from ztfmatch.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.io.sources import EPOCHAL_PATTERN, expand
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.calibration import ExposureQuality, QualityRule, observer_vectors
from ztfmatch.kernels.tiling import Tile, neighbours
from ztfmatch.operations.common import (
    WORKER_BASE_BYTES,
    OperationId,
    Row,
    Stopwatch,
    chunks,
    files_of,
    write_rows,
)
from ztfmatch.operations.init import tiles_of_footprint, unit_of
from ztfmatch.operations.ledger import Sorted, sort_out
from ztfmatch.runner import Job, Runner
from ztfmatch.schema import EXPOSURES, OBJECTS, QUARANTINE
from ztfmatch.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.survey import DEFAULT_EXPTIME_S, parse_catalog_name
from ztfmatch.tasks.inspect import CatalogInput, InspectTask, inspect_epochal
from ztfmatch.tasks.match import BYTES_PER_ROW, ExposureInput, MatchTask, match_tile
from ztfmatch.tasks.staging import clear

_CATALOGS_PER_INSPECTION: Final = 32


@dataclass(frozen=True)
class AppendConfig:
    """How catalogs are taken in.

    Parameters
    ----------
    exposures : Path, optional
        Table of exposure metadata that headers lack.
    error_models : tuple of Path
        Files of error-model coefficients, one a filter.
    zp_thresholds, quality_rule : Path, optional
        Files that change the quality rule.
    strict : bool
        Fail if a catalog cannot be used, instead of quarantining it.
    rows_per_task : int
        Largest number of catalog rows that one task takes.
    note : str, optional
        Kept in the history.
    """

    exposures: Path | None = None
    error_models: tuple[Path, ...] = ()
    zp_thresholds: Path | None = None
    quality_rule: Path | None = None
    strict: bool = False
    rows_per_task: int = 1_000_000
    note: str | None = None

    def validate(self) -> None:
        """Check every setting.

        Raises
        ------
        ConfigError
        """
        if self.rows_per_task < 1:
            raise ConfigError(f"rows per task {self.rows_per_task} must be at least 1")


@dataclass(frozen=True)
class AppendReport:
    """What an append did."""

    store: str
    snapshot: int
    committed: bool
    """False if there was nothing new."""
    catalogs: int
    exposures: int
    """Taken in."""
    known: int
    """Already in the store, or named twice."""
    quarantined: list[Row]
    rows: int
    matched: int
    orphans: int
    rejected: int
    without_reference: list[str]
    """Units that had no reference: all their rows are orphans."""
    tiles: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Auxiliary:
    """Tables beside the catalogs, read."""

    rules: dict[int, QualityRule]
    exposures: ExposureTable = field(default_factory=lambda: ExposureTable({}))
    errors: ErrorModels = field(default_factory=lambda: ErrorModels({}))

    @classmethod
    def read(cls, config: AppendConfig) -> Auxiliary:
        """Read the files that the config names."""
        coefficients = {}
        for path in config.error_models:
            coefficients.update(read_error_models(path).coefficients)
        table = ExposureTable({}) if config.exposures is None else read_exposure_table(config.exposures)
        rules = quality_rules(config.zp_thresholds, config.quality_rule)
        return cls(rules, table, ErrorModels(coefficients))


def append_catalogs(storage: Storage, catalogs: Sequence[str], config: AppendConfig, runner: Runner) -> AppendReport:
    """Take in epochal catalogs and commit their detections.

    Parameters
    ----------
    storage : Storage
        Of an existing store.
    catalogs : sequence of str
        Files, directories or globs.
    config : AppendConfig
    runner : Runner

    Raises
    ------
    ConfigError
        If a place is not there, or ``strict`` and a catalog is bad.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If another writer committed meanwhile.
    """
    watch = Stopwatch()
    config.validate()
    snapshot = open_snapshot(storage)
    sources = expand(catalogs, EPOCHAL_PATTERN)
    if not sources:
        raise ConfigError(f"no {EPOCHAL_PATTERN} in {', '.join(catalogs)}")
    auxiliary = Auxiliary.read(config)
    found, refused = _inspect([_input(source, auxiliary) for source in sources], runner)
    work = sort_out(snapshot, found, refused)
    if config.strict and work.quarantined:
        first = work.quarantined[0]
        raise ConfigError(f"--strict: {len(work.quarantined)} bad catalogs; {first['source']}: {first['reason']}")
    ledger = [_completed(row, auxiliary) for row in work.new]
    commit, counts = snapshot.commit, _Counts()
    if ledger or work.changes_quarantine:
        commit, counts = _match_and_commit(snapshot, ledger, work, _Plan(config, list(catalogs), watch.started), runner)
    return AppendReport(
        storage.root,
        commit.number,
        commit is not snapshot.commit,
        len(sources),
        len(ledger),
        work.known,
        work.quarantined,
        sum(row["nrows"] for row in ledger),
        counts.matched,
        counts.orphans,
        sum(row["nrejected"] for row in ledger),
        sorted({str(unit_of(row)) for row in ledger} - _units_with_reference(snapshot)),
        counts.tiles,
        counts.bytes,
        watch.seconds,
    )


@dataclass(frozen=True)
class _Plan:
    config: AppendConfig
    catalogs: list[str]
    started: float


@dataclass(frozen=True)
class _Counts:
    matched: int = 0
    orphans: int = 0
    tiles: int = 0
    bytes: int = 0


def _input(source: str, auxiliary: Auxiliary) -> CatalogInput:
    if not auxiliary.exposures.rows:
        return CatalogInput(source)
    try:
        name = parse_catalog_name(Path(source).name)
    except ValueError:
        name = None
    if name is None or name.fracday is None:
        return CatalogInput(source)
    return CatalogInput(source, auxiliary.exposures.find(name.fracday, name.unit.rcid))


def _inspect(inputs: Sequence[CatalogInput], runner: Runner) -> tuple[list[Row], list[Row]]:
    tasks = [InspectTask(f"inspect-{i:06d}", group) for i, group in enumerate(chunks(inputs, _CATALOGS_PER_INSPECTION))]
    results = runner.run(Job("reading catalogs", inspect_epochal, tasks, "inspect"))
    return [r for x in results for r in x["exposures"]], [r for x in results for r in x["quarantined"]]


def _completed(row: Row, auxiliary: Auxiliary) -> Row:
    """Ledger row with quality and error model."""
    quality = ExposureQuality(row["magzp"], row["magzprms"], row["nmatches"], row["airmass"])
    bad = auxiliary.rules[row["fid"]].is_bad(row["rcid"], quality)
    errors = auxiliary.errors.coefficients.get(unit_of(row), (None,) * 4)
    return {
        **row,
        "quality": UNKNOWN if bad is None else BAD if bad else GOOD,
        **dict(zip(("errora", "errorb", "errorc", "errord"), errors, strict=True)),
    }


def _units_with_reference(snapshot: SnapshotFiles) -> set[str]:
    table = snapshot.read("references", ["field", "rcid", "fid"])
    return {str(unit_of(row)) for row in table.to_pylist()}


def _match_and_commit(
    snapshot: SnapshotFiles, ledger: list[Row], work: Sorted, plan: _Plan, runner: Runner
) -> tuple[log.Commit, _Counts]:
    storage, number = snapshot.storage, snapshot.number + 1
    operation_id = _operation_id(snapshot, ledger, work, plan.config.rows_per_task)
    tasks = _tasks(snapshot, ledger, plan.config.rows_per_task, operation_id)
    runner.check_memory({task.key: _projected_bytes(task) for task in tasks})
    results = runner.run(Job("matching", match_tile, tasks, operation_id, storage))
    rows = _with_counts(ledger, results, number)
    part = operation_id[:12]
    data = files_of(results)
    files = [*data, *write_rows(storage, EXPOSURES, rows, number, part)]
    files += write_rows(storage, QUARANTINE, [{**r, "commit": number} for r in work.quarantine_rows], number, part)
    counts = _Counts(
        sum(row["nmatched"] for row in rows),
        sum(row["norphans"] for row in rows),
        len({(file.order, file.npix) for file in data}),
        sum(file.size for file in files),
    )
    change = log.Change(
        "append",
        operation_id,
        {"catalogs": plan.catalogs, **_plain(plan.config)},
        {"exposures": len(rows), "detections": counts.matched, "orphans": counts.orphans,
         "rejected": sum(row["nrejected"] for row in rows), "quarantined": len(work.quarantined)},
        files,
        work.removed_files,
        started=plan.started,
        note=plan.config.note,
    )  # fmt: skip
    commit = log.commit(storage, snapshot.commit, change)
    clear(storage, operation_id)
    return commit, counts


def _plain(config: AppendConfig) -> dict[str, Any]:
    values = asdict(config)
    values.pop("note")
    return {
        name: [str(path) for path in value]
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in values.items()
    }


def _operation_id(snapshot: SnapshotFiles, ledger: list[Row], work: Sorted, rows_per_task: int) -> str:
    """The same new catalogs with the same metadata on the same snapshot, in the same batches, are the same operation.

    A task's key names a batch by its number only, so what is staged for other batches must not be taken for its result.
    """
    return OperationId("append", snapshot.number, [ledger, work.quarantine_rows, rows_per_task]).value


def _tasks(snapshot: SnapshotFiles, ledger: list[Row], rows_per_task: int, operation_id: str) -> list[MatchTask]:
    """One task for each tile and batch of exposures."""
    exposures = _exposure_inputs(snapshot, ledger)
    by_tile: dict[Tile, list[ExposureInput]] = {}
    for row, exposure in zip(ledger, exposures, strict=True):
        touched = [] if row["ra"] is None else tiles_of_footprint(snapshot.tiling, row)
        for tile in touched:
            by_tile.setdefault(tile, []).append(exposure if len(touched) == 1 else _straddling(exposure))
    tasks = []
    for tile, members in sorted(by_tile.items()):
        objects = tuple(f for near in neighbours(snapshot.tiling, tile) for f in snapshot.of_tile(OBJECTS.name, near))
        for i, batch in enumerate(_batches(members, rows_per_task)):
            key, part = f"match-N{tile.order}-{tile.npix}-{i:04d}", f"{operation_id[:12]}-{i:04d}"
            radius = snapshot.config.radius_arcsec
            tasks.append(MatchTask(key, snapshot.storage, tile, batch, objects, radius, snapshot.number + 1, part))
    return tasks


def _straddling(exposure: ExposureInput) -> ExposureInput:
    return ExposureInput(**{**exposure.__dict__, "straddles": True})


def _batches(members: list[ExposureInput], rows_per_task: int) -> list[tuple[ExposureInput, ...]]:
    """Split exposures into batches of about equal rows, none above the limit unless one catalog is."""
    ordered = sorted(members, key=lambda e: (e.unit.field, e.unit.fid, e.unit.rcid, e.mid_mjd, e.exposureid))
    total = sum(e.nrows for e in ordered)
    share = total / max(math.ceil(total / rows_per_task), 1)
    batches: list[list[ExposureInput]] = [[]]
    held, passed = 0, 0
    for exposure in ordered:
        if held and (held + exposure.nrows > rows_per_task or passed + exposure.nrows / 2 > share * len(batches)):
            batches.append([])
            held = 0
        batches[-1].append(exposure)
        held += exposure.nrows
        passed += exposure.nrows
    return [tuple(batch) for batch in batches if batch]


def _exposure_inputs(snapshot: SnapshotFiles, ledger: list[Row]) -> list[ExposureInput]:
    if not ledger:
        return []
    known = _units_with_reference(snapshot)
    mid = np.array(
        [r["obsmjd"] + 0.5 * (DEFAULT_EXPTIME_S if r["exptime"] is None else r["exptime"]) / 86400.0 for r in ledger]
    )
    observers = observer_vectors(mid)
    return [
        ExposureInput(
            row["exposureid"],
            row["source"],
            row["digest"],
            row["nrows"],
            unit_of(row),
            str(unit_of(row)) in known,
            False,
            float(mid[i]),
            tuple(observers[i].tolist()),
            row["magzp"],
            row["quality"] == BAD,
            None if row["errora"] is None else (row["errora"], row["errorb"], row["errorc"], row["errord"]),
        )
        for i, row in enumerate(ledger)
    ]


def _projected_bytes(task: MatchTask) -> int:
    rows = sum(exposure.nrows for exposure in task.exposures)
    seeds = sum(file.rows for file in task.objects)
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + 100 * seeds


def _with_counts(ledger: list[Row], results: list[Row], commit: int) -> list[Row]:
    """Ledger rows with what became of their detections; every row must be accounted for.

    Raises
    ------
    JobFailedError
        If a detection is in no tile or in two: nothing is committed.
    """
    matched: dict[int, int] = {}
    orphans: dict[int, int] = {}
    for result in results:
        for exposureid, n_matched, n_orphans in zip(
            result["exposureid"], result["matched"], result["orphans"], strict=True
        ):
            matched[exposureid] = matched.get(exposureid, 0) + n_matched
            orphans[exposureid] = orphans.get(exposureid, 0) + n_orphans
    rows = []
    for row in ledger:
        n_matched, n_orphans = matched.get(row["exposureid"], 0), orphans.get(row["exposureid"], 0)
        if n_matched + n_orphans + row["nrejected"] != row["nrows"]:
            raise JobFailedError(
                f"{row['source']}: {row['nrows']} rows, but {n_matched} matched + {n_orphans} orphans + "
                f"{row['nrejected']} rejected; nothing was committed. This is a defect of ztfmatch: please report it"
            )
        rows.append({**row, "nmatched": n_matched, "norphans": n_orphans, "commit": commit})
    return rows
