"""Ask a snapshot for objects, statistics or lightcurves by place, objectid and condition, however many there are.

The answer comes tile by tile, so that memory follows one tile and not the answer. Statistics are the stored ones where
they are up to date, else computed from the epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.errors import ConfigError
from ztfmatch.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.io.parquet import read_rows, table_from_columns
from ztfmatch.io.snapshot import SnapshotFiles
from ztfmatch.kernels.tiling import Tile
from ztfmatch.operations.statistics import stale_tiles
from ztfmatch.products import area as areas
from ztfmatch.products.expression import Condition, kinds_of, parse_condition
from ztfmatch.products.query import LEDGER_COLUMNS, tiles_of_ids, with_exposures
from ztfmatch.schema import DETECTIONS, EXPOSURES, OBJECTS, STATISTICS
from ztfmatch.schema.sky import ACTIVE
from ztfmatch.survey import unit_columns
from ztfmatch.tasks.ledger import exposures_of_tile
from ztfmatch.tasks.statistics import EPOCH_COLUMNS, StatisticsBuilder, released_exposures

Kind = Literal["objects", "statistics", "lightcurves"]
KINDS: Final = ("objects", "statistics", "lightcurves")

_FEW: Final = 1000
"""Lightcurves that are read by their ids; of more the whole files of a tile are read."""

_NEEDED: Final = ("objectid", "ra", "dec", "status")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    """What is asked: rows of the active objects that meet all that is given.

    Parameters
    ----------
    select : str
        ``objects``: their columns; ``statistics``: those and the statistics; ``lightcurves``: their epochs.
    where : str, optional
        Condition on columns of objects and statistics, such as ``"magrms > 0.1 and nobs > 50"``.
    epochs : str, optional
        Condition on the epochs of lightcurves, such as ``"catflags == 0"``.
    cone : (ra, dec, radius), optional
        Degrees (ICRS) and arcsec.
    box : (west, east, south, north), optional
        Degrees; west > east goes over RA 0.
    polygon : (ra, dec, ra, dec, ...), optional
        Vertices in degrees, joined by great circles.
    moc : path, optional
        Coverage map: FITS, JSON or ASCII.
    objectids : sequence of int, optional
    columns : sequence of str, optional
        Columns wanted; all by default.
    """

    select: Kind = "objects"
    where: str | None = None
    epochs: str | None = None
    cone: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    polygon: tuple[float, ...] | None = None
    moc: Path | str | None = None
    objectids: Sequence[int] | None = None
    columns: Sequence[str] | None = None

    @property
    def area(self) -> areas.Area | None:
        """Part of the sky that is asked for; None for all of it.

        Raises
        ------
        ConfigError
            If several are given, or one cannot be.
        """
        given = [name for name in ("cone", "box", "polygon", "moc") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} contradict each other: give one of them")
        if self.cone is not None:
            return areas.cone_area(*self.cone)
        if self.box is not None:
            return areas.box_area(*self.box)
        if self.polygon is not None:
            return areas.polygon_area(self.polygon)
        return None if self.moc is None else areas.moc_area(Path(self.moc))


SOURCE_FIELDS: Final = (*OBJECTS.schema, *(field for field in STATISTICS.schema if field.name != "objectid"))
"""Columns of objects and of their statistics, which conditions may name."""

_UNIT: Final = [OBJECTS.schema.field(name) for name in ("fid", "field", "rcid")]
EPOCH_FIELDS: Final = (
    DETECTIONS.schema.field("objectid"),
    *_UNIT,
    *(field for field in DETECTIONS.schema if field.name != "objectid"),
    *(EXPOSURES.schema.field(name) for name in LEDGER_COLUMNS),
)


class Answer:
    """The rows that a query asks for, found as they are taken.

    ``for table in answer`` gives Arrow tables, each in memory by itself; ``to_arrow`` and the like all of them.
    """

    def __init__(self, snapshot: SnapshotFiles, query: Query) -> None:
        if query.select not in KINDS:
            raise ConfigError(f"select {query.select!r}; expected one of {', '.join(KINDS)}")
        self._snapshot, self._select = snapshot, query.select
        self._area = query.area
        self._ids = None if query.objectids is None else np.unique(np.array(list(query.objectids), np.int64))
        self._where = _condition(query.where, SOURCE_FIELDS, "where")
        if query.epochs is not None and query.select != "lightcurves":
            raise ConfigError(f"a condition on epochs needs select 'lightcurves', not {query.select!r}")
        self._epochs = _condition(query.epochs, EPOCH_FIELDS, "epochs")
        self.schema = _schema(query)

    def __iter__(self) -> Iterator[pa.Table]:
        stale = set(stale_tiles(self._snapshot)) if self._needs_statistics else set()
        for tile in self._tiles():
            objects = self._objects(tile, tile in stale)
            if not objects.num_rows:
                continue
            if self._select != "lightcurves":
                yield objects.select(self.schema.names).cast(self.schema)
            else:
                yield from self._lightcurves(tile, np.sort(objects["objectid"].to_numpy()))

    @property
    def _needs_statistics(self) -> bool:
        asked = set() if self._where is None else set(self._where.columns)
        if self._select != "lightcurves":
            asked |= set(self.schema.names)
        return not asked <= set(OBJECTS.names)

    def _tiles(self) -> list[Tile]:
        """Tiles that can hold any of the objects, in order of the sky."""
        tiles = self._snapshot.tiles_with(OBJECTS.name)
        wanted = None if self._area is None else set(self._area.tiles(self._snapshot.tiling))
        if self._ids is not None:
            of_ids = set(tiles_of_ids(self._snapshot, self._ids))
            wanted = of_ids if wanted is None else wanted & of_ids
        return [tile for tile in tiles if wanted is None or tile in wanted]

    def _objects(self, tile: Tile, stale: bool) -> pa.Table:
        """Objects of the tile that are asked for, by objectid, with what columns the query needs."""
        asked = {*_NEEDED, *(() if self._where is None else self._where.columns)}
        asked |= set(self.schema.names) if self._select != "lightcurves" else set()
        names = [name for name in OBJECTS.names if name in asked]
        rows = read_rows(self._snapshot.storage, self._snapshot.of_tile(OBJECTS.name, tile), names)
        rows = OBJECTS.schema.empty_table().select(names) if rows is None else rows
        rows = rows.filter(pc.equal(rows["status"], ACTIVE))
        if self._area is not None:
            rows = rows.filter(pa.array(self._area.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
        if self._ids is not None:
            rows = rows.filter(pa.array(np.isin(rows["objectid"].to_numpy(), self._ids)))
        rows = _unpacked(rows.sort_by("objectid"))
        if rows.num_rows and self._needs_statistics:
            names = [name for name in STATISTICS.names if name in asked and name != "objectid"]
            rows = _beside(rows, self._statistics(tile, rows["objectid"].to_numpy(), stale), names)
        return rows if self._where is None or not rows.num_rows else self._where.rows(rows)

    def _statistics(self, tile: Tile, ids: Ids, stale: bool) -> pa.Table:
        """Statistics of some of the tile's objects, by objectid: as stored if up to date, else as they are now."""
        snapshot = self._snapshot
        if not stale:
            rows = read_rows(snapshot.storage, snapshot.of_tile(STATISTICS.name, tile), STATISTICS.names)
            rows = STATISTICS.schema.empty_table() if rows is None else rows
            return rows.filter(pa.array(np.isin(rows["objectid"].to_numpy(), ids))).sort_by("objectid")
        columns = ("exposureid", "programid")
        ledger = exposures_of_tile(snapshot.storage, snapshot.of_table(EXPOSURES.name), tile, columns)
        builder = StatisticsBuilder(ids, released_exposures(ledger))
        files = snapshot.of_tile(DETECTIONS.name, tile)
        for chunk in iterate_lightcurves(snapshot.storage, files, EPOCH_COLUMNS, ids=(int(ids[0]), int(ids[-1]))):
            builder.add(chunk)
        return builder.table(snapshot.number)

    def _lightcurves(self, tile: Tile, ids: Ids) -> Iterator[pa.Table]:
        for epochs in self._epochs_of(tile, ids):
            rows = with_exposures(self._snapshot, epochs, unit_columns(epochs["objectid"].to_numpy()))
            rows = rows if self._epochs is None else self._epochs.rows(_unpacked(rows))
            if rows.num_rows:
                yield rows.select(self.schema.names).cast(self.schema)

    def _epochs_of(self, tile: Tile, ids: Ids) -> Iterator[pa.Table]:
        """Epochs of some of the tile's objects, by objectid and time, some at a time."""
        snapshot, files = self._snapshot, self._snapshot.of_tile(DETECTIONS.name, tile)
        if len(ids) <= _FEW:
            rows = read_rows(snapshot.storage, files, DETECTIONS.names, [(i, i) for i in ids.tolist()])
            if rows is not None and rows.num_rows:
                yield rows.cast(DETECTIONS.schema).sort_by([(name, "ascending") for name in DETECTIONS.sorted_by])
            return
        bounds = int(ids[0]), int(ids[-1])
        for chunk in iterate_lightcurves(snapshot.storage, files, DETECTIONS.names, ids=bounds):
            yield _table_of(chunk, ids)

    def to_arrow(self) -> pa.Table:
        """All rows, by objectid and time, in memory."""
        keys = [name for name in DETECTIONS.sorted_by if name in self.schema.names]
        rows = pa.concat_tables([self.schema.empty_table(), *self])
        return rows.sort_by([(name, "ascending") for name in keys]) if keys else rows

    def to_pandas(self) -> Any:
        """As a pandas data frame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """As a Polars data frame."""
        import polars

        return polars.from_arrow(self.to_arrow())

    def to_astropy(self) -> Any:
        """As an astropy table, with units and descriptions; nulls are masked."""
        from ztfmatch.products.astropytable import astropy_table

        return astropy_table(self.to_arrow())

    def write_parquet(self, path: Path | str) -> int:
        """Write a Parquet file in memory of one tile; return the number of rows."""
        from ztfmatch.products.tables import stream_parquet

        return stream_parquet(self, self.schema, Path(path))


def _condition(text: str | None, fields: Sequence[pa.Field], option: str) -> Condition | None:
    return None if text is None else parse_condition(text, kinds_of(fields), option)


def _schema(query: Query) -> pa.Schema:
    """Columns of the answer, dictionaries unpacked."""
    fields = {"objects": tuple(OBJECTS.schema), "statistics": SOURCE_FIELDS, "lightcurves": EPOCH_FIELDS}[query.select]
    plain = {field.name: field.with_type(kind) for field, kind in zip(fields, kinds_of(fields).values(), strict=True)}
    for name in query.columns or ():
        if name not in plain:
            raise ConfigError(f"{query.select} have no column {name!r}; there are {', '.join(plain)}")
    return pa.schema([plain[name] for name in query.columns or plain])


def _unpacked(rows: pa.Table) -> pa.Table:
    """The same rows, dictionaries as plain values: conditions compare these."""
    kinds = kinds_of(rows.schema)
    return rows.cast(pa.schema([field.with_type(kinds[field.name]) for field in rows.schema]))


def _beside(rows: pa.Table, statistics: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows with the columns of the same objects in another table, both by objectid; all are expected to be there."""
    if not np.array_equal(rows["objectid"].to_numpy(), statistics["objectid"].to_numpy()):
        raise RuntimeError("statistics that are up to date lack objects of their tile")
    for name in names:
        rows = rows.append_column(statistics.schema.field(name), statistics[name])
    return rows


def _table_of(chunk: Lightcurves, ids: Ids) -> pa.Table:
    """Rows of those of some lightcurves whose objects are wanted."""
    sizes = np.diff(chunk.offsets)
    keep = np.repeat(np.isin(chunk.objectid, ids), sizes)
    columns = {name: values[keep] for name, values in chunk.columns.items()}
    return table_from_columns(DETECTIONS, {**columns, "objectid": np.repeat(chunk.objectid, sizes)[keep]})
