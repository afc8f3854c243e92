"""Query objects, statistics or lightcurves by position, objectid and condition, however many there are.

The result is produced tile by tile, so that memory depends on the tile and not on the result. Stored statistics are
used where they are up to date, otherwise they are computed from the epochs. Only columns needed for conditions or the
result are read, and the latter only where :mod:`ztfmatch.core.io.scan` finds a matching row.
"""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.display import Displayable, as_html
from ztfmatch.core.errors import ConfigError, OutputExistsError, ZtfmatchError
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT, Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import table_from_columns
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.kernels.statistics import EPOCH_COUNTS
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.statistics import stale_tiles
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, STATISTICS
from ztfmatch.core.schema.sky import ACTIVE, RETIRED
from ztfmatch.core.survey import unit_columns
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.statistics import COUNTED_COLUMNS, EPOCH_COLUMNS, StatisticsBuilder, released_exposures
from ztfmatch.query.expression import Condition, kinds_of, parse_condition
from ztfmatch.query.finder import SEARCHING, Finder, distinct_ids
from ztfmatch.query.lightcurves import LEDGER_COLUMNS, with_exposures
from ztfmatch.query.positions import ID, SEPARATION, Spots
from ztfmatch.query.request import KINDS, STATUSES, Query, fids_of
from ztfmatch.query.tables import first_rows, joined, stream_parquet
from ztfmatch.query.text import Layout, names_for_people, texts_of

_FEW: Final = 1000
"""Number of lightcurves up to which they are read by id; for more, whole files of a tile are read."""

_COUNTING_S: Final = 1.0
_PIECE_ROWS: Final = 50_000

_KEYS: Final = frozenset(DETECTIONS.sorted_by)


SOURCE_FIELDS: Final = (*OBJECTS.schema, *(field for field in STATISTICS.schema if field.name != "objectid"))
"""Columns of objects and of their statistics, for conditions."""

_UNIT: Final = [OBJECTS.schema.field(name) for name in ("fid", "field", "rcid")]
EPOCH_FIELDS: Final = (
    DETECTIONS.schema.field("objectid"),
    *_UNIT,
    *(field for field in DETECTIONS.schema if field.name != "objectid"),
    *(EXPOSURES.schema.field(name) for name in LEDGER_COLUMNS),
)


class Answer(Displayable):
    """The result of a query, evaluated lazily.

    ``for table in answer`` yields Arrow tables one at a time; ``to_arrow`` and the like load all rows. ``len`` is the
    number of rows; ``print`` and a notebook show the first ones.
    """

    def __init__(self, snapshot: SnapshotFiles, query: Query) -> None:
        if query.select not in KINDS:
            raise ConfigError(f"select {query.select!r}; expected one of {', '.join(KINDS)}")
        if query.status not in (None, *STATUSES):
            raise ConfigError(f"status {query.status!r}; expected one of {', '.join(STATUSES)}")
        self._snapshot, self._query, self._select = snapshot, query, query.select
        ids = None if query.objectids is None else distinct_ids(query.objectids)
        status = query.status or (ACTIVE if ids is None else "any")
        area = query.area
        self._spots = area if isinstance(area, Spots) else None
        where = condition_of(query.where, SOURCE_FIELDS, "where")
        of_objects, rest = _divided(_in_filters(where, query.filters), OBJECTS.names)
        self._finder = Finder(snapshot, ids, area, None if status == "any" else status, of_objects)
        self._of_statistics, self._of_both = _divided(rest, STATISTICS.names)
        if query.epochs is not None and query.select != "lightcurves":
            raise ConfigError(f"a condition on epochs needs select 'lightcurves', not {query.select!r}")
        epochs = condition_of(query.epochs, EPOCH_FIELDS, "epochs")
        self._of_detections, self._of_epochs = _divided(epochs, DETECTIONS.names)
        fields = {"objects": tuple(OBJECTS.schema), "statistics": SOURCE_FIELDS, "lightcurves": EPOCH_FIELDS}
        self._own = schema_of(self._of_objects(query), fields[query.select])
        self._length: int | None = None
        self.rows_at_once = ROWS_IN_FLIGHT
        self.schema = self._own if self._spots is None else pa.schema([self._spots.id_field, SEPARATION, *self._own])

    def _of_objects(self, query: Query) -> Query:
        """The query without the columns of positions, which always come first."""
        if self._spots is None or query.columns is None:
            return query
        own = [name for name in query.columns if name not in (ID, SEPARATION.name)]
        return replace(query, columns=own or ["objectid"])

    def _fields(self) -> Mapping[str, Any]:
        return {"select": self._select, "snapshot": self.snapshot, "columns": self.schema.names}

    def __iter__(self) -> Iterator[pa.Table]:
        stale = set(stale_tiles(self._snapshot)) if self._needs_statistics else set()
        for tile in tracked(self._finder.tiles(), SEARCHING):
            objects = self._objects(tile, tile in stale)
            if not objects.num_rows:
                continue
            links = None if self._spots is None else self._spots.of_tile(self._snapshot.tiling, tile).links(objects)
            parts = (
                self._lightcurves(tile, objects["objectid"].to_numpy()) if self._select == "lightcurves" else [objects]
            )
            for rows in parts:
                near = rows if self._spots is None or links is None else self._spots.joined(rows, links)
                yield near.select(self.schema.names).cast(self.schema)

    @property
    def snapshot(self) -> int:
        """Number of the snapshot."""
        return self._snapshot.number

    def count(self, most_s: float = math.inf) -> tuple[int, bool]:
        """Number of rows, and whether counting was complete: it ends after about ``most_s`` seconds."""
        started, number = time.monotonic(), 0
        for table in self._only_ids():
            number += table.num_rows
            if time.monotonic() - started > most_s:
                return number, False
        return number, True

    def _only_ids(self) -> Iterator[pa.Table]:
        """The rows with a minimum of columns, for counting."""
        return iter(Answer(self._snapshot, replace(self._query, columns=("objectid",))))

    def __len__(self) -> int:
        """Number of rows, counted once, reading as little as possible."""
        if self._length is None:
            self._length = self.count()[0]
        return self._length

    def __bool__(self) -> bool:
        """Whether there is any row."""
        return any(table.num_rows for table in iter(self))

    def head(self, rows: int = 10) -> pa.Table:
        """The first rows, reading no more than necessary."""
        return joined(first_rows(self.in_pieces(), rows), self.schema)

    def in_pieces(self) -> Iterator[pa.Table]:
        """Smaller tables, to get the first epochs sooner."""
        few = copy.copy(self)
        few.rows_at_once = _PIECE_ROWS
        return iter(few)

    def __str__(self) -> str:
        """The first rows and the number of rows, as text."""
        some = self.head()
        layout = Layout.of(some, names_for_people(self._select, self.schema, all_of_them=False))
        return "\n".join([*layout.head(), *layout.lines(some), f"{self._counted()}; {len(self.schema)} columns"])

    def _repr_html_(self) -> str:
        """Columns, number of rows and the first rows, as HTML."""
        try:
            some = self.head()
            names = names_for_people(self._select, self.schema, all_of_them=False)
            texts = {name: texts_of(some, name) for name in names}
            first = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
            about = {**self._fields(), "rows": self._counted(), "first rows": first}
        except (ZtfmatchError, OSError) as error:
            about = {**self._fields(), "error": str(error)}
        return as_html("Answer", about)

    def _counted(self) -> str:
        """Number of rows as text, as far as counted in a second."""
        if self._length is not None:
            return f"{self._length:,} rows"
        number, all_of_them = self.count(_COUNTING_S)
        self._length = number if all_of_them else None
        return f"{number:,} rows" if all_of_them else f"more than {number:,} rows"

    def without_match(self) -> list[Any]:
        """Ids of positions without a match, once all rows have been read."""
        return [] if self._spots is None else self._spots.without_match()

    def states(self) -> dict[int, str | None]:
        """Status of each requested objectid, ascending; None for an unknown one."""
        ids = self._finder.ids
        if ids is None:
            return {}
        found: dict[int, str | None] = dict.fromkeys(ids.tolist())
        named = Finder(self._snapshot, ids)
        for tile in named.tiles():
            rows = named.objects(tile, ["objectid", "status"])
            found |= dict(zip(rows["objectid"].to_pylist(), rows["status"].to_pylist(), strict=True))
        return found

    @property
    def _asked(self) -> set[str]:
        """Columns of objects and statistics needed besides those of conditions."""
        asked = {"objectid"} if self._finder.status == ACTIVE else {"objectid", "status"}
        asked |= set() if self._select == "lightcurves" else set(self._own.names)
        asked |= set() if self._spots is None else {"ra", "dec"}
        return asked | (set() if self._of_both is None else self._of_both.columns)

    @property
    def _needs_statistics(self) -> bool:
        return self._of_statistics is not None or not self._asked <= set(OBJECTS.names)

    def _objects(self, tile: Tile, stale: bool) -> pa.Table:
        """Objects of the tile that are asked for, by objectid, with what columns the query needs."""
        names = [name for name in OBJECTS.names if name in self._asked]
        rows = self._finder.objects(tile, names)
        if not rows.num_rows or not self._needs_statistics:
            return rows
        statistics = self._statistics(tile, rows, stale)
        kept = is_among(rows["objectid"].to_numpy(), statistics["objectid"].to_numpy())
        if self._of_statistics is None and not kept.all():
            raise RuntimeError("statistics that are up to date lack objects of their tile")
        rows = rows.filter(pa.array(kept))
        for name in statistics.column_names[1:]:
            rows = rows.append_column(statistics.schema.field(name), statistics[name])
        return rows if self._of_both is None else self._of_both.rows(rows)

    def _statistics(self, tile: Tile, objects: pa.Table, stale: bool) -> pa.Table:
        """Statistics of the tile's objects that meet the condition on these, by objectid, which is the first column.

        As stored if up to date, else as they are now. Retired objects have no stored ones: theirs are of no epochs.
        """
        names = ["objectid", *(name for name in STATISTICS.names[1:] if name in self._asked)]
        ids = objects["objectid"].to_numpy()
        if stale:
            return self._computed(tile, ids).select(names)
        rows = self._finder.rows(STATISTICS, tile, names, Wanted(ids, self._of_statistics))
        if self._finder.status == ACTIVE:
            return rows
        retired = ids[pc.equal(objects["status"], RETIRED).to_numpy()]
        return pa.concat_tables([rows, self._computed(None, retired).select(names).cast(rows.schema)]).sort_by(
            "objectid"
        )

    def _computed(self, tile: Tile | None, ids: Ids) -> pa.Table:
        """Statistics made now of the epochs in a tile, or of none; of objects that meet the condition on them."""
        snapshot = self._snapshot
        sieve = set() if self._of_statistics is None else self._of_statistics.columns
        counts = (self._asked | sieve).intersection(STATISTICS.names) <= {"objectid", "snapshot", *EPOCH_COUNTS}
        ledger = EXPOSURES.empty
        if not (counts or tile is None):
            ledger = exposures_of_tile(snapshot, tile, ("exposureid", "programid"))
        builder = StatisticsBuilder(ids, None if counts else released_exposures(ledger))
        files = [] if tile is None else snapshot.of_tile(DETECTIONS.name, tile)
        columns = COUNTED_COLUMNS if counts else EPOCH_COLUMNS
        for chunk in iterate_lightcurves(snapshot.storage, files, columns, wanted=Wanted(ids)):
            builder.add(chunk)
        rows = builder.table(snapshot.number)
        return rows if self._of_statistics is None else self._of_statistics.rows(rows)

    def _lightcurves(self, tile: Tile, ids: Ids) -> Iterator[pa.Table]:
        asked = {*self._own.names, *(() if self._of_epochs is None else self._of_epochs.columns)}
        ledger = [name for name in LEDGER_COLUMNS if name in asked]
        for epochs in self._epochs_of(tile, ids, [name for name in DETECTIONS.names if name in asked | _KEYS]):
            rows = with_exposures(self._snapshot, epochs, unit_columns(epochs["objectid"].to_numpy()), ledger)
            rows = rows if self._of_epochs is None else self._of_epochs.rows(rows)
            if rows.num_rows:
                yield rows

    def _epochs_of(self, tile: Tile, ids: Ids, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Epochs of some of the tile's objects, by objectid and time, some at a time."""
        wanted = Wanted(ids, self._of_detections)
        if len(ids) <= _FEW:
            yield self._finder.rows(DETECTIONS, tile, columns, wanted)
            return
        files = self._snapshot.of_tile(DETECTIONS.name, tile)
        for chunk in iterate_lightcurves(self._snapshot.storage, files, columns, self.rows_at_once, wanted=wanted):
            yield _table_of(chunk, columns)

    def to_arrow(self) -> pa.Table:
        """All rows in memory, sorted by objectid and time."""
        keys = [name for name in DETECTIONS.sorted_by if name in self.schema.names]
        rows = joined(iter(self), self.schema)
        return rows.sort_by([(name, "ascending") for name in keys]) if keys else rows

    def to_pandas(self) -> Any:
        """As a pandas data frame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """As a Polars data frame."""
        import polars

        return polars.from_arrow(self.to_arrow())

    def to_astropy(self, times: bool = True) -> Any:
        """As an astropy table, with units, descriptions and UCDs; nulls are masked.

        Columns of MJD are :class:`astropy.time.Time`, that of hmjd heliocentric; with ``times=False`` they are numbers.
        """
        from ztfmatch.query.astropytable import astropy_table

        return astropy_table(self.to_arrow(), times)

    def write(self, path: Path | str, overwrite: bool = False) -> int:
        """Write a file in the format of its suffix; return the number of rows.

        ``.csv``, ``.json``, ``.parquet`` and ``.arrow`` are written tile by tile; ``.ecsv``, ``.fits`` and ``.xml``
        (VOTable) need all rows in memory.

        Raises
        ------
        ConfigError
            If the suffix is unknown.
        OutputExistsError
            If the file exists and ``overwrite`` is false.
        """
        from ztfmatch.query.formats import format_of, write_rows

        path = Path(path)
        form = format_of(path)
        if path.is_file() and not overwrite:
            raise OutputExistsError(f"{path} exists: give overwrite=True to replace it, or another name")
        return write_rows(iter(self), self.schema, form, path)

    def write_parquet(self, path: Path | str) -> int:
        """Write a Parquet file tile by tile, whatever its name; return the number of rows."""
        return stream_parquet(iter(self), self.schema, Path(path))


def condition_of(text: str | None, fields: Sequence[pa.Field], option: str) -> Condition | None:
    """The condition that a text is, on some columns; none of no text."""
    return None if text is None else parse_condition(text, kinds_of(fields), option)


def _in_filters(where: Condition | None, filters: Sequence[str | int] | None) -> Condition | None:
    """A condition that objects are in some filters, too."""
    if filters is None:
        return where
    fids = fids_of(filters)
    among = condition_of(f"fid in [{', '.join(map(str, fids))}]", SOURCE_FIELDS, "filters")
    return among if where is None or among is None else Condition((*among.parts, *where.parts))


def _divided(condition: Condition | None, names: Sequence[str]) -> tuple[Condition | None, Condition | None]:
    """What of a condition needs but these columns, and the rest."""
    return (None, None) if condition is None else condition.divided(names)


def schema_of(query: Query, fields: Sequence[pa.Field]) -> pa.Schema:
    """Columns of the answer, of all that there are; dictionaries unpacked."""
    plain = {field.name: field.with_type(kind) for field, kind in zip(fields, kinds_of(fields).values(), strict=True)}
    for name in query.columns or ():
        if name not in plain:
            elsewhere = "; select 'statistics' has it" if query.select == "objects" and name in STATISTICS.names else ""
            raise ConfigError(f"{query.select} have no column {name!r}{elsewhere}; there are {', '.join(plain)}")
    twice = [name for name, number in Counter(query.columns or ()).items() if number > 1]
    if twice:
        raise ConfigError(f"column {twice[0]!r} is asked for more than once")
    return pa.schema([plain[name] for name in query.columns or plain])


def _table_of(chunk: Lightcurves, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows of lightcurves."""
    some = replace(DETECTIONS, columns=tuple(column for column in DETECTIONS.columns if column.name in columns))
    return table_from_columns(some, {**chunk.columns, "objectid": chunk.spread(chunk.objectid)})
