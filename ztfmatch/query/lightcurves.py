"""Query objects and their lightcurves in a snapshot, reading no more than necessary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.errors import ConfigError, StoreDamagedError
from ztfmatch.core.io.merge import merge, numpy_columns
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import unit_vector
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, Table
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import HMJD_MARGIN_DAY, unit_columns
from ztfmatch.core.tasks.statistics import StatisticsBuilder, released_exposures
from ztfmatch.query.area import Cone, check_radius
from ztfmatch.query.finder import MAX_CONE_ARCSEC, READING, SEARCHING, Finder, distinct_ids

LEDGER_COLUMNS: Final = ("expid", "programid", "clrcoeff", "magzp", "exptime", "airmass", "seeing", "maglimit")
"""Columns of the ledger that a lightcurve query adds to each epoch."""


@dataclass(frozen=True)
class Selection:
    """Which objects: by objectid, or all active ones in a cone. Exactly one of them."""

    objectids: tuple[int, ...] | None = None
    cone: Cone | None = None

    def __post_init__(self) -> None:
        if (self.objectids is None) == (self.cone is None):
            raise ConfigError("select objects either by objectid or by cone: give one of them")
        if self.cone is not None:
            check_radius(self.cone.radius_arcsec, MAX_CONE_ARCSEC, "arcsec")

    def finder(self, snapshot: SnapshotFiles) -> Finder:
        """What finds the objects in a snapshot."""
        if self.cone is not None:
            return Finder(snapshot, area=self.cone, status=ACTIVE)
        return Finder(snapshot, distinct_ids(self.objectids or ()))


def find_objects(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Objects of a selection, in order of objectid; of a cone the active ones, with ``separation`` in arcsec."""
    finder = selection.finder(snapshot)
    rows = joined(OBJECTS, [finder.objects(tile, OBJECTS.names) for tile in tracked(finder.tiles(), SEARCHING)])
    return rows if selection.cone is None else with_separation(rows, selection.cone)


def with_separation(rows: pa.Table, cone: Cone) -> pa.Table:
    """Add ``separation``, how far each row's position is from the centre of a cone."""
    field = pa.field("separation", pa.float64(), metadata={"unit": "arcsec"})
    return rows.append_column(field, pa.array(cone.separation(rows["ra"].to_numpy(), rows["dec"].to_numpy())))


def joined(table: Table, parts: Sequence[pa.Table]) -> pa.Table:
    """Rows of a table, in its order, from several tiles."""
    found = [part for part in parts if part.num_rows]
    if not found:
        return table.empty
    rows = pa.concat_tables(found)
    if not rows.schema.equals(table.schema, check_metadata=True):
        rows = rows.cast(table.schema)
    return rows if len(found) == 1 else rows.sort_by(table.order)


def lightcurve_table(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Epochs of the selected objects, by objectid and time, with the exposure's metadata.

    Returns
    -------
    pyarrow.Table
        ``objectid``, ``fid``, ``field``, ``rcid``, the other columns of ``detections``, and LEDGER_COLUMNS.
    """
    _, epochs = epochs_of(snapshot, selection)
    return with_exposures(snapshot, epochs, unit_columns(epochs["objectid"].to_numpy()))


def with_exposures(
    snapshot: SnapshotFiles, epochs: pa.Table, units: tuple[Any, Any, Any], columns: Sequence[str] = LEDGER_COLUMNS
) -> pa.Table:
    """Add the unit of each epoch, given as arrays of rcid, field and fid, and columns of its exposure."""
    table = _with_ledger(snapshot, epochs, np.unique(units[1]).tolist(), columns) if columns else epochs
    for name, values in zip(("rcid", "field", "fid"), units, strict=True):
        field = OBJECTS.schema.field(name)
        table = table.add_column(1, field, pa.array(values, field.type))
    return table


def epochs_of(snapshot: SnapshotFiles, selection: Selection) -> tuple[Ids, pa.Table]:
    """Objectids of a selection, ascending, and the epochs of these objects, by objectid and time."""
    finder = selection.finder(snapshot)
    found = list(finder.objectids())
    shown = tracked(found, READING)
    parts = [finder.rows(DETECTIONS, tile, DETECTIONS.names, Wanted(ids)) for tile, ids in shown]
    ids = np.sort(np.concatenate([np.zeros(0, np.int64), *(ids for _, ids in found)]))
    return ids, joined(DETECTIONS, parts)


def _with_ledger(snapshot: SnapshotFiles, epochs: pa.Table, fields: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Add columns of each epoch's exposure.

    Raises
    ------
    StoreDamagedError
        If the ledger lacks one.
    """
    ledger = _ledger_of(snapshot, epochs, fields, tuple(columns))
    wanted = epochs["exposureid"].to_numpy()
    row, before = np.full(len(wanted), -1), 0
    for ids in ledger["exposureid"].chunks:  # of a file each
        at = find_sorted(ids.to_numpy(), wanted)
        row = np.where(at < 0, row, at + before)
        before += len(ids)
    if (row < 0).any():
        raise StoreDamagedError(f"the ledger has no exposure {wanted[row < 0][0]}, of which there are epochs")
    rows = ledger.take(row)
    for name in columns:
        epochs = epochs.append_column(EXPOSURES.schema.field(name), rows[name])
    return epochs


def _ledger_of(snapshot: SnapshotFiles, epochs: pa.Table, fields: Sequence[int], columns: tuple[str, ...]) -> pa.Table:
    """Exposures of the epochs, and perhaps others: only of their nights and fields any are read.

    In the order of ``exposureid``, which is the first column, within each chunk.
    """
    empty = EXPOSURES.empty.select(["exposureid", *columns])
    if not epochs.num_rows:
        return empty
    bounds = pc.min_max(epochs["hmjd"])
    low, high = bounds["min"].as_py() - HMJD_MARGIN_DAY, bounds["max"].as_py() + HMJD_MARGIN_DAY
    files = [file for file in snapshot.ledger if file.holds_time(low, high)]
    return pa.concat_tables([empty, *(snapshot.ledger_of_fields(file, columns, fields) for file in files)])


def fresh_statistics(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Statistics of the selected objects, computed now from their epochs; all columns of ``statistics``."""
    ids, epochs = epochs_of(snapshot, selection)
    fields = np.unique(unit_columns(epochs["objectid"].to_numpy())[1]).tolist()
    public = released_exposures(_ledger_of(snapshot, epochs, fields, ("programid",)))
    builder = StatisticsBuilder(ids, public)
    if epochs.num_rows:
        builder.add(merge([numpy_columns(epochs)]))
    return builder.table(snapshot.number)


def source_table(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Objects with their statistics, as the matchfile's ``sources`` has them: plus ``matchid`` and x, y, z."""
    objects = find_objects(snapshot, selection)
    if "separation" in objects.column_names:
        objects = objects.drop_columns(["separation"])
    statistics = fresh_statistics(snapshot, selection).drop_columns(["objectid"])
    xyz = unit_vector(objects["ra"].to_numpy(), objects["dec"].to_numpy())
    table = objects.append_column("matchid", objects["sourceid"])
    for name, values in zip("xyz", xyz.T, strict=True):
        table = table.append_column(name, pa.array(values))
    for name in statistics.column_names:
        table = table.append_column(statistics.schema.field(name), statistics[name])
    return table
