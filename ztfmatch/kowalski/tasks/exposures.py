"""Documents of exposures and of lineage, and ids of deleted documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.io.parquet import DataFile, OpenFile, overlaps
from ztfmatch.core.io.rows import unit_arrays, units_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import in_ranges
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, MAX_OBJECTID, Unit, matchfile_name, objectid_range
from ztfmatch.kowalski.io.jsonlines import LinesWriter, LinesWritten, RowsBuilder, binary_text
from ztfmatch.kowalski.kernels.identity import NO_EXPID, expids, exposure_ids, source_ids
from ztfmatch.kowalski.kernels.jsontext import NO_ROWS, Rows, write_documents
from ztfmatch.kowalski.schema import (
    EXPOSURE_BYTES,
    EXPOSURE_COLUMNS,
    EXPOSURE_FLOATS,
    EXPOSURE_INTEGERS,
    EXPOSURES,
    LINEAGE,
    REMOVE,
    SCOPE_COLUMNS,
    SOURCE_DECIMALS,
    SOURCES,
    UPSERT,
)
from ztfmatch.kowalski.tasks.scope import Scope
from ztfmatch.kowalski.tasks.sources import Exposures, LinesTask

_BATCH_ROWS: Final = 10_000
_LINKED: Final = {"old": "objectid", "new": "newobjectid"}
_OF_LINKS: Final = ("separation", "dmag", "nshared", "fractionold", "fractionnew")
_LINEAGE_COLUMNS: Final = (*_LINKED.values(), "kind", "field", "fid", *_OF_LINKS)
_OF_DETECTIONS: Final = ("nshared", "fractionold", "fractionnew")
"""Columns of the lineage that count detections of all programs."""


@dataclass(frozen=True)
class ExposuresTask(LinesTask):
    """Some files of the ledger."""

    files: tuple[DataFile, ...]
    ids: tuple[int, ...] | None = None
    """Exposures to write; None for all."""


def export_exposures(task: ExposuresTask) -> LinesWritten:
    """Write documents of exposures in the scope."""
    wanted = None if task.ids is None else np.array(task.ids, np.int64)
    names = list(dict.fromkeys([*EXPOSURE_COLUMNS, *SCOPE_COLUMNS]))

    def documents(rows: pa.Table) -> Rows:
        keep = task.scope.mask(rows)
        if wanted is not None:
            keep &= np.isin(rows["exposureid"].to_numpy(), wanted)
        return _exposure_rows(rows.filter(pa.array(keep)))

    writer = LinesWriter(task.output, EXPOSURES, UPSERT, task.key, task.form)
    return _written(writer, (documents(rows) for rows in _batches(task, names)))


def _batches(task: ExposuresTask | LineageTask, names: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of files, some at a time; of the ledger only row groups that may have a field of the scope."""
    fields = task.scope.fields
    for file in task.files:
        parquet = OpenFile(task.storage, file)
        groups = None if fields is None else parquet.groups_with("field", [(field, field) for field in fields])
        for batch in parquet.batches(names, _BATCH_ROWS, groups):
            yield pa.Table.from_batches([batch])


def _written(writer: LinesWriter, parts: Iterable[Rows]) -> LinesWritten:
    """Write documents without nested rows."""
    for documents in parts:
        if count := documents.cells.shape[1]:
            writer.add(write_documents(documents, NO_ROWS, np.zeros(count + 1, np.int64)), count)
    return writer.close()


def ids_of_exposures(ledger: pa.Table) -> Ids:
    """``_id`` of exposures by rows of the ledger."""
    expid = ledger["expid"].fill_null(NO_EXPID).to_numpy()
    return exposure_ids(ledger["exposureid"].to_numpy(), **unit_arrays(ledger), expid=expid)


def _exposure_rows(ledger: pa.Table) -> Rows:
    field, rcid, fid = unit_arrays(ledger).values()
    rows = RowsBuilder()
    rows.integers("_id", ids_of_exposures(ledger))
    rows.integers("expid", expids(ledger["exposureid"].to_numpy(), ledger["expid"].fill_null(NO_EXPID).to_numpy()))
    for one in EXPOSURE_FLOATS:
        column = ledger[one.column].fill_null(DEFAULT_EXPTIME_S) if one.column == "exptime" else ledger[one.column]
        values = column.to_numpy().astype(np.float64)
        rows.exact(one.name, values.astype(np.float32).astype(np.float64) if one.single else values)
    for one in EXPOSURE_INTEGERS:
        column = ledger[one.column]
        if one.otherwise is not None:
            column = pc.coalesce(column.cast(pa.int64()), ledger[one.otherwise])
        rows.integers(one.name, column.fill_null(0).to_numpy(), column.is_null().to_numpy())
    for one in EXPOSURE_BYTES:
        rows.ready(one.name, [binary_text((text or "").encode()) for text in ledger[one.column].to_pylist()])
    rows.ready("matchfile", [f'"{matchfile_name(unit)}"'.encode() for unit in units_of_rows(ledger)])
    rows.units(field, rcid, fid)
    return rows.documents()


@dataclass(frozen=True)
class RemovedTask(LinesTask):
    """Objects of some units in a tile of the older snapshot."""

    units: tuple[Unit, ...]
    before: SnapshotPart
    after: tuple[SnapshotPart, ...]
    """Of the tiles of the newer snapshot that cover it."""


@dataclass(frozen=True)
class SnapshotPart:
    """What a snapshot has of a tile."""

    snapshot: SnapshotFiles
    tile: Tile


def export_removed(task: RemovedTask) -> LinesWritten:
    """Write the numbers of objects that had a document in the older snapshot and have none in the newer."""
    gone = _with_document(task, task.before)
    for part in task.after:
        gone = np.setdiff1d(gone, _with_document(task, part), assume_unique=True)
    return _removed(LinesWriter(task.output, SOURCES, REMOVE, task.key, task.form), source_ids(gone))


def _with_document(task: RemovedTask, part: SnapshotPart) -> Ids:
    """Objects of the units with an epoch in the scope, ascending."""
    ranges = [objectid_range(unit) for unit in task.units]
    exposures = Exposures(part.snapshot, part.tile, task.scope)
    found = [np.zeros(0, np.int64)]
    for file in part.snapshot.of_tile(DETECTIONS.name, part.tile):
        parquet = OpenFile(task.storage, file)
        for number, group in enumerate(parquet.groups):
            if overlaps(group.ids, ranges):
                rows = parquet.read([number], ["objectid", "exposureid"])
                ids, exposureid = rows["objectid"].to_numpy(), rows["exposureid"].to_numpy()
                mine = in_ranges(ids, ranges)
                mine[mine] = exposures.exported[exposures.rows_of(exposureid[mine])]
                found.append(np.unique(ids[mine]))
    return np.unique(np.concatenate(found))


@dataclass(frozen=True)
class IdsTask(LinesTask):
    """Documents of a collection to be removed."""

    collection: str
    ids: tuple[int, ...]


def export_ids(task: IdsTask) -> LinesWritten:
    """Write the numbers of documents to be removed."""
    writer = LinesWriter(task.output, task.collection, REMOVE, task.key, task.form)
    return _removed(writer, np.array(task.ids, np.int64))


def _removed(writer: LinesWriter, ids: Ids) -> LinesWritten:
    return _written(writer, (_id_rows(ids[at : at + _BATCH_ROWS]) for at in range(0, len(ids), _BATCH_ROWS)))


def _id_rows(ids: Ids) -> Rows:
    rows = RowsBuilder()
    rows.integers("_id", ids)
    return rows.documents()


@dataclass(frozen=True)
class LineageTask(LinesTask):
    """Some files of the lineage."""

    files: tuple[DataFile, ...]
    action: str = UPSERT


def export_lineage(task: LineageTask) -> LinesWritten:
    """Write the links between old and new documents, or the numbers of those that are no more."""
    writer = LinesWriter(task.output, LINEAGE, task.action, task.key, task.form)
    kept = (rows.filter(pa.array(_links_in_scope(rows, task.scope))) for rows in _batches(task, _LINEAGE_COLUMNS))
    return _written(writer, (_lineage_rows(rows, task) for rows in kept))


def _links_in_scope(lineage: pa.Table, scope: Scope) -> Mask:
    inside = np.ones(lineage.num_rows, bool)
    for name, allowed in (("field", scope.fields), ("fid", scope.filters)):
        if allowed is not None:
            inside &= np.isin(lineage[name].to_numpy(), np.array(allowed))
    if scope.limits_epochs:
        inside &= _ids(lineage, "old") <= MAX_OBJECTID
    return inside


def _ids(lineage: pa.Table, name: str) -> Ids:
    """Linked objectids or transientids, 0 for none."""
    return np.asarray(lineage[_LINKED[name]].fill_null(0).to_numpy())


def _lineage_rows(lineage: pa.Table, task: LineageTask) -> Rows:
    """Links, with ``_id`` of objects; a transient has no document, and is named by its transientid.

    Where epochs are limited, transients and numbers of epochs are left out: they are of all programs.
    """
    ids = {name: _ids(lineage, name) for name in _LINKED}
    limited = task.scope.limits_epochs
    to_transient = ids["new"] > MAX_OBJECTID
    if limited:
        ids["new"] = np.where(to_transient, 0, ids["new"])
    rows = RowsBuilder()
    pairs = zip(ids["old"].tolist(), ids["new"].tolist(), strict=True)
    rows.ready("_id", [f'"{old}-{new}"'.encode() for old, new in pairs])
    if task.action == REMOVE:
        return rows.documents()
    for name, linked in ids.items():
        transient = linked > MAX_OBJECTID
        rows.integers(name, source_ids(np.where(transient, 0, linked)), transient | (linked == 0))
        rows.integers(f"{name}transient", linked, ~transient)
    rows.ready("kind", [f'"{kind}"'.encode() for kind in lineage["kind"].to_pylist()])
    for name in _OF_LINKS:
        column = lineage[name]
        if limited and name in _OF_DETECTIONS:
            continue
        if name == "nshared":
            rows.integers(name, column.to_numpy())
        else:
            missing = column.is_null().to_numpy() | (to_transient & limited)
            rows.rounded(name, column.to_numpy(), SOURCE_DECIMALS, missing)
    return rows.documents()
