"""Audit references: which are suspect, shallow or confused, from catalogs or from a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from ztfmatch.core.errors import BadInputError, ConfigError, MetadataError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Row, Stopwatch, tiles_of_footprint, unit_of
from ztfmatch.core.operations.references import find_references
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import OBJECTS, REFERENCES
from ztfmatch.core.shown import Shown
from ztfmatch.core.survey import FILTER_CODES, parse_catalog_name
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.references.judge import judged
from ztfmatch.references.schema import AUDIT
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.audit import Audited, AuditTask, audit_references
from ztfmatch.references.tasks.seeds import StoredReference

BYTES_PER_SEED: Final = 400
"""Of a reference, and of the PS1 sources beside it."""

_ROWS_OF_A_FILE: Final = 300_000
"""Taken for a catalog that was not read yet."""

Against = Literal["ps1", "lightcurves", "both"]
Reference = str | StoredReference


@dataclass(frozen=True)
class AuditInputs:
    """What references are compared with.

    Parameters
    ----------
    ps1 : Path, optional
        As ``calibrate`` takes it.
    columns : mapping of str to str
        Names that the PS1 catalog gives to columns, see :func:`ztfmatch.photometry.io.ps1.open_ps1`.
    """

    ps1: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditReport(Shown):
    """What an audit found."""

    references: int
    suspect: int
    shallow: int
    confused: int
    unknown: int
    figures: list[Row]
    """By filter."""
    refused: list[Row]
    """Catalogs that cannot be used, as the quarantine has them."""
    seconds: float
    table: pa.Table
    """One row a reference, see :data:`ztfmatch.references.schema.AUDIT`."""

    def _fields(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "table"}


def audit_files(
    places: Sequence[str], inputs: AuditInputs, settings: ReferenceSettings, runner: Runner, strict: bool = False
) -> AuditReport:
    """Audit reference catalogs.

    Parameters
    ----------
    places : sequence of str
        Files, directories and globs.
    inputs : AuditInputs
    settings : ReferenceSettings
    runner : Runner
    strict : bool
        Whether a catalog that cannot be used is an error.

    Raises
    ------
    ConfigError
        If there is none.
    MetadataError
        If PS1 cannot be read, or has no star of any reference.
    BadInputError
        If none can be used, or ``strict`` and one cannot.
    """
    watch = Stopwatch()
    sources, _ = find_references(places, strict)
    by_place: dict[Any, list[Reference]] = {}
    for source in sources:
        by_place.setdefault(_place_of(source), []).append(source)
    done = _run(list(by_place.values()), inputs, settings, runner)
    refused = [row for one in done for row in one.refused]
    if refused and (strict or len(refused) == len(sources)):
        raise BadInputError(f"{refused[0]['source']} cannot be used: {refused[0]['reason']}", refused)
    return _report(done, settings, watch)


def audit_store(
    snapshot: SnapshotFiles, inputs: AuditInputs, settings: ReferenceSettings, runner: Runner
) -> AuditReport:
    """Audit the references whose seeds are active in a snapshot.

    Raises
    ------
    ConfigError
        If there is nothing to compare them with.
    MetadataError
        If PS1 cannot be read, or has no star of any reference.
    """
    watch = Stopwatch()
    by_place: dict[Any, list[Reference]] = {}
    for row in active_references(snapshot):
        by_place.setdefault((row["field"], row["rcid"]), []).append(_stored(snapshot, row))
    return _report(_run(list(by_place.values()), inputs, settings, runner), settings, watch)


def active_references(snapshot: SnapshotFiles) -> list[Row]:
    """The newest reference of each unit, by field, readout channel and filter."""
    newest: dict[Any, Row] = {}
    for row in snapshot.read(REFERENCES.name).to_pylist():
        key = row["field"], row["rcid"], row["fid"]
        if key not in newest or row["generation"] > newest[key]["generation"]:
            newest[key] = row
    return [newest[key] for key in sorted(newest)]


def _stored(snapshot: SnapshotFiles, row: Row) -> StoredReference:
    tiles = [] if row["ra"] is None else tiles_of_footprint(snapshot.tiling, row)
    reference = StoredReference(snapshot.storage, unit_of(row), row["generation"], row["clrcoeff"], ())
    files = [f for tile in tiles for f in snapshot.of_tile(OBJECTS.name, tile) if f.holds_id([reference.span])]
    return StoredReference(snapshot.storage, reference.unit, reference.generation, reference.clrcoeff, tuple(files))


def _place_of(source: str) -> Any:
    """Field and readout channel by the name of a catalog; itself, if the name does not tell."""
    try:
        name = parse_catalog_name(source.rsplit("/", 1)[-1])
    except ValueError:
        return source
    return source if name is None else (name.unit.field, name.unit.rcid)


def _run(
    groups: Sequence[Sequence[Reference]], inputs: AuditInputs, settings: ReferenceSettings, runner: Runner
) -> list[Audited]:
    """Measure groups of references, each of one place on the sky."""
    if inputs.columns and inputs.ps1 is None:
        raise ConfigError("names of PS1 columns are given, but no PS1 catalog")
    ps1 = None if inputs.ps1 is None else open_ps1(inputs.ps1, inputs.columns)
    tasks = [AuditTask(f"audit-{i:06d}", tuple(group), ps1, settings) for i, group in enumerate(groups)]
    runner.check_memory({task.key: _projected_bytes(task) for task in tasks})
    reads = [str(inputs.ps1)] if inputs.ps1 is not None else []
    done = runner.run(Job("auditing references", audit_references, tasks, "audit", reads=reads))
    rows = [row for one in done for row in one.rows]
    if ps1 is not None and rows and not any(row.get("nps1") for row in rows):
        raise MetadataError(
            f"{inputs.ps1}: has no star at any seed of the {len(rows)} references; is it of this part of the sky?"
        )
    return done


def _projected_bytes(task: AuditTask) -> int:
    seeds = sum(
        sum(file.rows for file in one.objects) if isinstance(one, StoredReference) else _ROWS_OF_A_FILE
        for one in task.references
    )
    return WORKER_BASE_BYTES + BYTES_PER_SEED * seeds


def _report(done: Iterable[Audited], settings: ReferenceSettings, watch: Stopwatch) -> AuditReport:
    rows = judged([row for one in done for row in one.rows], settings)
    refused = [row for one in done for row in one.refused]
    table = pa.Table.from_pylist(rows, schema=AUDIT.schema)
    counts = {name: sum(row[name] for row in rows) for name in ("suspect", "shallow", "confused", "unknown")}
    figures = [_figures(code, [row for row in rows if row["fid"] == fid]) for fid, code in FILTER_CODES.items()]
    return AuditReport(
        references=len(rows),
        **counts,
        figures=[row for row in figures if row["references"]],
        refused=refused,
        seconds=watch.seconds,
        table=table,
    )


def _figures(code: str, rows: Sequence[Row]) -> Row:
    names = ("suspect", "suspect_ps1", "suspect_lightcurves", "shallow", "confused", "unknown")
    return {"filter": code, "references": len(rows), **{name: sum(bool(row[name]) for row in rows) for name in names}}
