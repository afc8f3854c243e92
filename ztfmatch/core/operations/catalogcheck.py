"""Check how an append, or an init, would treat catalogs; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ztfmatch.core.config import AppendConfig, StoreConfig
from ztfmatch.core.display import Displayable
from ztfmatch.core.io.places import is_named
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles, before_first
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, REFERENCE_PATTERN, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import CATALOGS_PER_INSPECTION
from ztfmatch.core.operations.auxiliary import Auxiliary, table_notices
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.operations.ledger import sort_out
from ztfmatch.core.operations.notices import Notice, misnamed, of_programs, wrapped_positions
from ztfmatch.core.operations.references import inspect_all
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import chunks
from ztfmatch.core.tasks.inspect import FOUND, InspectTask, inspect_epochal

NEW: Final = "new"
KNOWN: Final = "known"
REFERENCE: Final = "reference"


@dataclass(frozen=True, kw_only=True)
class CheckedCatalog:
    """What would become of one catalog."""

    source: str
    verdict: str
    """``new``, ``known`` (in the store already, or named twice), ``reference``; or the code of its refusal."""
    reason: str | None
    """Why it would be quarantined."""
    unit: str | None
    """None where it cannot be read."""
    obsmjd: float | None
    """Start of the exposure, MJD (UTC)."""
    rows: int | None
    rejected: int | None
    programid: int | None
    has_reference: bool | None
    """Whether the store has seeds of its unit; None without a store."""

    @property
    def usable(self) -> bool:
        """Whether it would be ingested, or is already."""
        return self.reason is None


@dataclass(frozen=True, kw_only=True)
class CheckReport(Displayable):
    """What would become of some catalogs."""

    store: str | None
    snapshot: int | None
    catalogs: list[CheckedCatalog]
    """In order of their sources."""
    usable: int
    refused: int
    warnings: list[Notice]
    seconds: float


def check_catalogs(
    catalogs: Sequence[str], snapshot: SnapshotFiles | None, config: AppendConfig, runner: Runner
) -> CheckReport:
    """Read catalogs as an append would, those named ``*_refpsfcat.fits`` as an init would.

    Parameters
    ----------
    catalogs : sequence of str
        Files, directories (searched for epochal catalogs, or for references if they have none) or globs, as paths or
        URLs.
    snapshot : SnapshotFiles, optional
        Of the store that they would be appended to; it tells which are known.
    config : AppendConfig
        Tables beside the catalogs.
    runner : Runner

    Raises
    ------
    ConfigError
        If a place is not there.
    MetadataError
        If a table beside the catalogs cannot be read.
    """
    watch = Stopwatch()
    places = find(catalogs, EPOCHAL_PATTERN)
    places = places if places.files else find(catalogs, REFERENCE_PATTERN)
    references = [source for source in places.files if is_named(source.rsplit("/", 1)[-1], REFERENCE_PATTERN)]
    epochal = sorted(set(places.files) - set(references))
    checked, notices = _epochal(epochal, snapshot, config, runner)
    seeds, of_seeds = _references(references, snapshot, runner)
    rows = sorted([*checked, *seeds], key=lambda one: one.source)
    usable = sum(row.usable for row in rows)
    return CheckReport(
        store=None if snapshot is None else snapshot.storage.root,
        snapshot=None if snapshot is None else snapshot.number,
        catalogs=rows,
        usable=usable,
        refused=len(rows) - usable,
        warnings=misnamed(places) + notices + of_seeds,
        seconds=watch.seconds,
    )


def _epochal(
    sources: Sequence[str], snapshot: SnapshotFiles | None, config: AppendConfig, runner: Runner
) -> tuple[list[CheckedCatalog], list[Notice]]:
    auxiliary = Auxiliary.read(config)
    tasks = [
        InspectTask(f"check-{i:06d}", tuple(map(auxiliary.input, group)))
        for i, group in enumerate(chunks(sources, CATALOGS_PER_INSPECTION))
    ]
    results = runner.run(Job("reading catalogs", inspect_epochal, tasks, "check", reads=sources[:1], preparing=True))
    found = pa.concat_tables([FOUND.empty_table(), *(result.table for result in results)])
    refused = [file for result in results for file in result.refused]
    work = sort_out(snapshot or before_first(Storage.at("."), StoreConfig()), found, refused)
    rows = {row["source"]: row for row in found.to_pylist()}
    faults = {file.source: file for file in work.refused}
    new = set(work.new["source"].to_pylist())
    checked = [
        _checked(source, faults[source].code if source in faults else NEW if source in new else KNOWN,
                 faults.get(source), rows.get(source, {}), snapshot)
        for source in sources
    ]  # fmt: skip
    notices = table_notices(config, auxiliary, sources, found, None) + of_programs(work) + wrapped_positions(work.new)
    return checked, notices


def _references(
    sources: Sequence[str], snapshot: SnapshotFiles | None, runner: Runner
) -> tuple[list[CheckedCatalog], list[Notice]]:
    if not sources:
        return [], []
    inspected = inspect_all(sources, runner)
    found = inspected.rows
    faults = {file.source: file for file in inspected.refused}
    rows = {row["source"]: {**row, "nrows": row["nseeds"], "nrejected": 0} for row in found.to_pylist()}
    checked = [
        _checked(source, faults[source].code if source in faults else REFERENCE if source in rows else KNOWN,
                 faults.get(source), rows.get(source, {}), snapshot)
        for source in sources
    ]  # fmt: skip
    return checked, wrapped_positions(found)


def _checked(
    source: str, verdict: str, fault: Refused | None, row: Row, snapshot: SnapshotFiles | None
) -> CheckedCatalog:
    unit = unit_of(row) if row else None
    return CheckedCatalog(
        source=source,
        verdict=verdict,
        reason=None if fault is None else fault.reason,
        unit=None if unit is None else str(unit),
        obsmjd=row.get("obsmjd"),
        rows=row.get("nrows"),
        rejected=row.get("nrejected"),
        programid=row.get("programid"),
        has_reference=None if snapshot is None or unit is None else snapshot.has_reference(unit),
    )
