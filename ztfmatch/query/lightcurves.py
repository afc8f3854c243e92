"""Find objects and their lightcurves in a snapshot, reading no more than they need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.merge import Lightcurves, merge, numpy_columns
from ztfmatch.core.io.parquet import IdRange, read_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.sphere import Floats, arcsec_of_chord2, chord2_of_arcsec, unit_vector
from ztfmatch.core.kernels.tiling import Tile, fine_pixels
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, REFERENCES, STATISTICS
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import HMJD_MARGIN_DAY, unit_columns, unit_of_objectid
from ztfmatch.core.tasks.statistics import released_exposures, statistics_of
from ztfmatch.query.area import check_position, check_radius

MAX_CONE_ARCSEC: Final = 10 * 3600.0

LEDGER_COLUMNS: Final = (
    "expid",
    "programid",
    "clrcoeff",
    "magzp",
    "exptime",
    "airmass",
    "seeing",
    "maglimit",
)
"""Columns of the ledger that a lightcurve query adds to each epoch."""

_PLACED: Final = ("objectid", "ra", "dec")
"""What has to be known of objects to find their epochs."""


@dataclass(frozen=True)
class Cone:
    """A circle on the sky.

    Parameters
    ----------
    ra, dec : float
        Centre in degrees, ICRS.
    radius_arcsec : float
        Inclusive.
    """

    ra: float
    dec: float
    radius_arcsec: float

    def __post_init__(self) -> None:
        check_position(self.ra, self.dec)
        check_radius(self.radius_arcsec, MAX_CONE_ARCSEC, "arcsec")

    @property
    def centre(self) -> Floats:
        """Unit vector, shape (3,)."""
        return unit_vector(self.ra % 360.0, self.dec)


@dataclass(frozen=True)
class Selection:
    """Which objects: by objectid, or all in a cone. Exactly one of them."""

    objectids: tuple[int, ...] | None = None
    cone: Cone | None = None

    def __post_init__(self) -> None:
        if (self.objectids is None) == (self.cone is None):
            raise ConfigError("select objects either by objectid or by cone: give one of them")


def find_objects(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Objects of a selection, in order of objectid; of a cone the active ones, with ``separation`` in arcsec."""
    if selection.cone is not None:
        return _objects_in_cone(snapshot, selection.cone)
    return _objects_by_id(snapshot, selection.objectids or (), OBJECTS.names)


def _objects_by_id(snapshot: SnapshotFiles, objectids: Sequence[int], columns: Sequence[str]) -> pa.Table:
    ids = sorted(set(objectids))
    files = [file for tile in tiles_of_ids(snapshot, ids) for file in snapshot.of_tile(OBJECTS.name, tile)]
    rows = read_rows(snapshot.storage, files, columns, _ranges(ids), threads=True)
    return OBJECTS.schema.empty_table().select(list(columns)) if rows is None else rows.sort_by("objectid")


def _objects_in_cone(snapshot: SnapshotFiles, cone: Cone) -> pa.Table:
    schema = OBJECTS.schema.append(pa.field("separation", pa.float64(), metadata={"unit": "arcsec"}))
    tiles = tiles_of_cone(snapshot, cone)
    near = [_near(snapshot.object_positions(tile), cone) for tile in tiles]
    ids = np.concatenate([found[0]["objectid"].to_numpy() for found in near])
    files = [file for tile in tiles for file in snapshot.of_tile(OBJECTS.name, tile)]
    rows = read_rows(snapshot.storage, files, OBJECTS.names, _ranges(ids.tolist()), threads=True) if ids.size else None
    if rows is None:
        return schema.empty_table()
    separation = np.concatenate([found[1] for found in near])[np.argsort(ids)]
    return rows.sort_by("objectid").append_column(schema.field("separation"), pa.array(separation))


def _near(positions: pa.Table, cone: Cone) -> tuple[pa.Table, Floats]:
    """Positions of the active objects in a cone, and their separations in arcsec."""
    ra, dec = positions["ra"].to_numpy(), positions["dec"].to_numpy()
    belt = np.flatnonzero(np.abs(dec - cone.dec) * 3600.0 <= cone.radius_arcsec + 1e-3)
    chord2 = ((unit_vector(ra[belt], dec[belt]) - cone.centre) ** 2).sum(axis=1)
    inside = chord2 <= chord2_of_arcsec(cone.radius_arcsec)
    rows = positions.take(pa.array(belt[inside]))
    active = pc.equal(rows["status"], ACTIVE).to_numpy()
    return rows.filter(pa.array(active)).select(list(_PLACED)), arcsec_of_chord2(chord2[inside])[active]


def tiles_of_cone(snapshot: SnapshotFiles, cone: Cone) -> list[Tile]:
    """Tiles that a cone touches, and perhaps a few that it does not."""
    return snapshot.tiling.touched_by_cap(cone.centre, math.radians(cone.radius_arcsec / 3600.0))


def tiles_of_ids(snapshot: SnapshotFiles, ids: Iterable[int]) -> list[Tile]:
    """Tiles that the references of these objects touch."""
    try:
        units = {unit_of_objectid(one) for one in {int(one) // 10**8: int(one) for one in ids}.values()}
    except ValueError as error:
        raise ConfigError(str(error)) from None
    wanted = {(unit.field, unit.rcid, unit.fid) for unit in units}
    tiles: set[Tile] = set()
    columns = ["field", "rcid", "fid", "ra", "dec", "radius"]
    for row in snapshot.read(REFERENCES.name, columns).to_pylist():
        if (row["field"], row["rcid"], row["fid"]) in wanted and row["ra"] is not None:
            centre = unit_vector(row["ra"], row["dec"])
            tiles.update(snapshot.tiling.touched_by_cap(centre, math.radians(row["radius"])))
    return sorted(tiles)


def _ranges(ids: Sequence[int]) -> list[IdRange]:
    """Runs of consecutive ids."""
    if not ids:
        return [(-1, -1)]
    values = np.array(sorted(ids), np.int64)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values) > 1]))
    stops = np.append(starts[1:], len(values)) - 1
    return list(zip(values[starts].tolist(), values[stops].tolist(), strict=True))


def lightcurve_table(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Epochs of the selected objects, by objectid and time, with the exposure's metadata.

    Returns
    -------
    pyarrow.Table
        ``objectid``, ``fid``, ``field``, ``rcid``, the other columns of ``detections``, and LEDGER_COLUMNS.
    """
    epochs = _epochs_of(snapshot, _places(snapshot, selection))
    return with_exposures(snapshot, epochs, unit_columns(epochs["objectid"].to_numpy()))


def with_exposures(
    snapshot: SnapshotFiles,
    epochs: pa.Table,
    units: tuple[Any, Any, Any],
    columns: Sequence[str] = LEDGER_COLUMNS,
) -> pa.Table:
    """Add the unit of each epoch, given as arrays of rcid, field and fid, and columns of its exposure."""
    table = _with_ledger(snapshot, epochs, np.unique(units[1]).tolist(), columns) if columns else epochs
    for name, values in zip(("rcid", "field", "fid"), units, strict=True):
        field = OBJECTS.schema.field(name)
        table = table.add_column(1, field, pa.array(values, field.type))
    return table


def _places(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """``objectid``, ``ra`` and ``dec`` of a selection, by objectid; of a cone nothing but kept positions is read."""
    if selection.cone is None:
        return _objects_by_id(snapshot, selection.objectids or (), _PLACED)
    near = [_near(snapshot.object_positions(tile), selection.cone) for tile in tiles_of_cone(snapshot, selection.cone)]
    return pa.concat_tables([found[0] for found in near]).sort_by("objectid")


def _rows_by_id(ids: pa.ChunkedArray, wanted: pa.ChunkedArray) -> pa.Array:
    """Row of each wanted id, all of which are there; few of them, so that nothing compiled is loaded."""
    known = ids.to_numpy()
    order = np.argsort(known)
    return pa.array(order[np.searchsorted(known, wanted.to_numpy(), sorter=order)])


def _epochs_of(snapshot: SnapshotFiles, objects: pa.Table) -> pa.Table:
    ids = objects["objectid"].to_pylist()
    files = [file for tile in _tiles_of_objects(snapshot, objects) for file in snapshot.of_tile(DETECTIONS.name, tile)]
    rows = read_rows(snapshot.storage, files, DETECTIONS.names, _ranges(ids), threads=True)
    if rows is None:
        return DETECTIONS.schema.empty_table()
    return rows.sort_by([(name, "ascending") for name in DETECTIONS.sorted_by]).cast(DETECTIONS.schema)


def _tiles_of_objects(snapshot: SnapshotFiles, objects: pa.Table) -> list[Tile]:
    fine = fine_pixels(objects["ra"].to_numpy(), objects["dec"].to_numpy())
    return [snapshot.tiling.tiles[row] for row in np.unique(snapshot.tiling.index_of_fine(fine)).tolist()]


def _with_ledger(snapshot: SnapshotFiles, epochs: pa.Table, fields: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Add columns of each epoch's exposure."""
    ledger = _ledger_of(snapshot, epochs, fields, ("exposureid", *columns))
    row = _rows_by_id(ledger["exposureid"], epochs["exposureid"])
    for name in columns:
        values = ledger[name].combine_chunks().take(row)
        epochs = epochs.append_column(EXPOSURES.schema.field(name), values)
    return epochs


def _ledger_of(snapshot: SnapshotFiles, epochs: pa.Table, fields: Sequence[int], columns: tuple[str, ...]) -> pa.Table:
    """Ledger rows of the epochs' exposures, and perhaps others: only of their nights and fields any are read."""
    empty = EXPOSURES.schema.empty_table().select(list(columns))
    if not epochs.num_rows:
        return empty
    bounds = pc.min_max(epochs["hmjd"])
    low, high = bounds["min"].as_py() - HMJD_MARGIN_DAY, bounds["max"].as_py() + HMJD_MARGIN_DAY
    files = [file for file in snapshot.of_table(EXPOSURES.name) if file.holds_time(low, high)]
    rows = [snapshot.ledger_of_field(file, columns, field) for file in files for field in fields]
    return pa.concat_tables([empty, *(part.cast(empty.schema) for part in rows)])


def fresh_statistics(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Statistics of the selected objects, computed now from their epochs; all columns of ``statistics``."""
    objects = _places(snapshot, selection)
    epochs = _epochs_of(snapshot, objects)
    fields = np.unique(unit_columns(epochs["objectid"].to_numpy())[1]).tolist()
    public = released_exposures(_ledger_of(snapshot, epochs, fields, ("exposureid", "programid")))
    chunk = _with_all_objects(merge([numpy_columns(epochs)]) if epochs.num_rows else _no_epochs(), objects)
    values: dict[str, Any] = statistics_of(chunk, public)
    values |= {"objectid": chunk.objectid, "snapshot": np.full(len(chunk.objectid), snapshot.number)}
    arrays = [_nullable(values[column.name], column.type) for column in STATISTICS.columns]
    return pa.Table.from_arrays(arrays, schema=STATISTICS.schema)


def _nullable(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, mask=np.isnan(values) if values.dtype.kind == "f" else None)


def _no_epochs() -> Lightcurves:
    columns = numpy_columns(DETECTIONS.schema.empty_table())
    return Lightcurves(columns.pop("objectid"), np.zeros(1, np.int64), columns)


def _with_all_objects(chunk: Lightcurves, objects: pa.Table) -> Lightcurves:
    """The same epochs, with an empty lightcurve for each object that has none."""
    ids = objects["objectid"].to_numpy()
    counts = np.zeros(len(ids), np.int64)
    counts[np.searchsorted(ids, chunk.objectid)] = np.diff(chunk.offsets)
    return Lightcurves(ids, np.concatenate([[0], np.cumsum(counts)]), chunk.columns)


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
