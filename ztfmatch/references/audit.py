"""Audit references: which are suspect, shallow or confused, from catalogs or from a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from ztfmatch.core.camera import field_grid
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import BadInputError, ConfigError, MetadataError
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Stopwatch
from ztfmatch.core.operations.references import find_references
from ztfmatch.core.operations.transients import ungrouped_tiles
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import FILTER_CODES, parse_catalog_name
from ztfmatch.photometry.io.ps1 import Ps1Catalog, open_ps1
from ztfmatch.references.io.images import images_of_references
from ztfmatch.references.judge import judged
from ztfmatch.references.schema import AUDIT
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.audit import Audited, AuditTask, audit_references
from ztfmatch.references.tasks.lightcurves import is_grouped
from ztfmatch.references.units import active_references, rows_to_read

BYTES_PER_SEED: Final = 400
"""Of a reference, and of the PS1 sources beside it."""

BYTES_PER_ROW_IN_FLIGHT: Final = 300

_ROWS_OF_A_FILE: Final = 300_000
"""Taken for a catalog that was not read yet."""

Against = Literal["ps1", "lightcurves", "both"]


@dataclass(frozen=True)
class AuditInputs(WithPaths):
    """What references are compared with.

    Parameters
    ----------
    ps1 : Path, optional
        As ``calibrate`` takes it.
    columns : mapping of str to str
        Names that the PS1 catalog gives to columns, see :func:`ztfmatch.photometry.io.ps1.open_ps1`.
    against : str, optional
        ``ps1``, ``lightcurves`` of a store, or ``both``. By default what is there.
    images : Path, optional
        Table (Parquet or CSV) of the images that references are made of, a row a unit: ``field``, ``rcid``, ``fid``,
        their number ``nimages`` and median ``maglimit``. With it depths are told beside what they should be.
    """

    ps1: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    against: Against | None = None
    _: KW_ONLY
    images: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ps1 is None and self.against in ("ps1", "both"):
            raise ConfigError(f"against {self.against} needs a PS1 catalog")
        if self.columns and self.ps1 is None:
            raise ConfigError("names of PS1 columns are given, but no PS1 catalog")

    @property
    def with_lightcurves(self) -> bool:
        """Whether a store's lightcurves are asked."""
        return self.against != "ps1"

    def open_ps1(self) -> Ps1Catalog | None:
        """The PS1 catalog, unless it is not to be asked."""
        return None if self.ps1 is None or self.against == "lightcurves" else open_ps1(self.ps1, self.columns)


@dataclass(frozen=True, kw_only=True)
class AuditReport(Displayable):
    """What an audit found."""

    references: int
    suspect: int
    shallow: int
    confused: int
    unknown: int
    figures: list[Row]
    """By filter."""
    refused: list[Refused]
    """Catalogs that cannot be used, as the quarantine has them."""
    notes: list[str]
    """What the audit could not see."""
    seconds: float
    table: pa.Table
    """One row a reference, see :data:`ztfmatch.references.schema.AUDIT`."""

    def _fields(self) -> Mapping[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "table"}


def audit_files(
    places: Sequence[str], inputs: AuditInputs, settings: ReferenceSettings, runner: Runner, strict: bool = False
) -> AuditReport:
    """Audit reference catalogs.

    Parameters
    ----------
    places : sequence of str
        Files, directories and globs.
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
    sources, notices = find_references(places, strict)
    if inputs.against in ("lightcurves", "both"):
        raise ConfigError("catalogs alone have no lightcurves: audit a store, or against ps1")
    by_place: dict[Any, list[str]] = {}
    for source in sources:
        by_place.setdefault(_place_of(source), []).append(source)
    ps1 = inputs.open_ps1()
    tasks = [AuditTask(f"audit-{i:06d}", tuple(group), ps1, settings) for i, group in enumerate(by_place.values())]
    done = _run(tasks, [BYTES_PER_SEED * _ROWS_OF_A_FILE * len(task.references) for task in tasks], inputs, runner)
    refused = [file for one in done for file in one.refused]
    if refused and (strict or len(refused) == len(sources)):
        raise BadInputError(f"{refused[0].source} cannot be used: {refused[0].reason}", refused)
    return _report(done, settings, watch, [notice.message for notice in notices])


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
    ps1, curves = inputs.open_ps1(), inputs.with_lightcurves
    groups = active_references(snapshot)
    tasks = [
        AuditTask(f"audit-{number:06d}-{rcid:02d}", tuple(group), ps1, settings, curves)
        for (number, rcid), group in groups.items()
    ]
    seeds, epochs = rows_to_read(snapshot, list(groups.values()))
    read = BYTES_PER_SEED * seeds + BYTES_PER_ROW_IN_FLIGHT * np.minimum(epochs if curves else 0, ROWS_IN_FLIGHT)
    notes = _notes(snapshot) if curves else []
    return _report(_run(tasks, read.tolist(), inputs, runner), settings, watch, notes)


def _notes(snapshot: SnapshotFiles) -> list[str]:
    if not is_grouped(snapshot):
        return ["no orphans are grouped, so missing seeds are not known: run 'ztfmatch transients'"]
    stale = len(ungrouped_tiles(snapshot))
    return [f"orphans of {stale} tiles are not grouped yet: run 'ztfmatch transients'"] if stale else []


def _place_of(source: str) -> Any:
    """Field and readout channel by the name of a catalog; itself, if the name does not tell."""
    try:
        name = parse_catalog_name(source.rsplit("/", 1)[-1])
    except ValueError:
        return source
    return source if name is None else (name.unit.field, name.unit.rcid)


def _run(tasks: Sequence[AuditTask], read: Sequence[int], inputs: AuditInputs, runner: Runner) -> list[Audited]:
    """Run tasks that hold so many bytes of what they read."""
    runner.check_memory({task.key: WORKER_BASE_BYTES + size for task, size in zip(tasks, read, strict=True)})
    reads = [str(inputs.ps1)] if inputs.ps1 is not None else []
    done = runner.run(Job("auditing references", audit_references, tasks, "audit", reads=reads))
    rows = [row for one in done for row in one.rows if "nps1" in row]
    if rows and not any(row["nps1"] for row in rows):
        raise MetadataError(
            f"{inputs.ps1}: has no star at any seed of the {len(rows)} references; is it of this part of the sky?"
        )
    if inputs.images is not None:
        made_of = images_of_references(inputs.images)
        for one in done:
            for row in one.rows:
                row.update(made_of.get((row["field"], row["rcid"], row["fid"]), {}))
    return done


def _report(done: Iterable[Audited], settings: ReferenceSettings, watch: Stopwatch, notes: list[str]) -> AuditReport:
    rows = judged([row for one in done for row in one.rows], settings)
    refused = [file for one in done for file in one.refused]
    table = pa.Table.from_pylist(rows, schema=AUDIT.schema)
    counts = {name: sum(row[name] for row in rows) for name in ("suspect", "shallow", "confused", "unknown")}
    figures = [_figures(code, [row for row in rows if row["fid"] == fid]) for fid, code in FILTER_CODES.items()]
    return AuditReport(
        references=len(rows),
        **counts,
        figures=[row for row in figures if row["references"]],
        refused=refused,
        notes=notes + _unplaced(rows),
        seconds=watch.seconds,
        table=table,
    )


def _unplaced(rows: Sequence[Row]) -> list[str]:
    """A note on fields that are not the survey's."""
    fields = sorted({int(row["field"]) for row in rows} - field_grid().keys())
    said = (
        f"not in the survey's grid, so their references are compared with nothing: field {', '.join(map(str, fields))}"
    )
    return [said] if fields else []


def _figures(code: str, rows: Sequence[Row]) -> Row:
    names = ("suspect", "suspect_ps1", "suspect_lightcurves", "shallow", "confused", "unknown")
    return {"filter": code, "references": len(rows), **{name: sum(bool(row[name]) for row in rows) for name in names}}
