"""The result of a query for stars."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.query.answer import Answer, condition_of, schema_of
from ztfmatch.query.finder import Finder, distinct_ids
from ztfmatch.query.request import Query
from ztfmatch.query.stars import STAR_FIELDS, StarRows


class StarAnswer(Answer):
    """Stars in an area, or of some objects, that meet a condition on their own columns."""

    def __init__(self, snapshot: SnapshotFiles, query: Query) -> None:
        for name in ("epochs", "status", "filters", "positions"):
            if getattr(query, name) is not None:
                raise ConfigError(f"{name}: stars have none; it is about objects")
        self._snapshot, self._query, self._select = snapshot, query, query.select
        self._spots, self._length = None, None
        ids = None if query.objectids is None else distinct_ids(query.objectids)
        self._finder = Finder(snapshot, ids)
        self._stars = StarRows(snapshot, query.area, ids, condition_of(query.where, STAR_FIELDS, "where"))
        self.schema = self._own = schema_of(query, STAR_FIELDS)

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._stars.tables(self.schema.names):
            yield table.cast(self.schema)

    def _only_ids(self) -> Iterator[pa.Table]:
        return self._stars.tables(["starid"])

    def to_arrow(self) -> pa.Table:
        """All rows, by starid, in memory."""
        rows = pa.concat_tables([self.schema.empty_table(), *self])
        return rows.sort_by("starid") if "starid" in rows.column_names else rows
