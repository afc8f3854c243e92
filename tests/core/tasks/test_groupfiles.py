"""Files of a group of tiles against the rows that went into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.io.parquet import DataFile, Destination, read_rows, write_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, ORPHANS, Table
from ztfmatch.core.tasks.groupfiles import GroupFiles

TILES = (Tile(5, 7), Tile(6, 40))


def rows_of(table: Table, number: int, seed: int, **columns: np.ndarray) -> pa.Table:
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = dict(columns)
    for field in table.schema:
        if field.name not in made:
            kind = field.type
            made[field.name] = (
                pa.array(["no seed"] * number).dictionary_encode().cast(kind)
                if pa.types.is_dictionary(kind)
                else pa.array(rng.integers(0, 100, number)).cast(kind)
            )
    return pa.table(made, schema=table.schema).sort_by([(name, "ascending") for name in table.sorted_by])


def written(place: Path, batches: list[tuple[Table, Tile, pa.Table]], most: int) -> tuple[Storage, list[DataFile]]:
    storage = Storage.at(place)
    files = GroupFiles(lambda table, tile: Destination(storage, table, tile, 1, "0" * 12 + "-0001"), most, most)
    for table, tile, rows in batches:
        (files.add_epochs if table is DETECTIONS else files.add_orphans)(tile, rows)
    return storage, list(files.close())


def read(storage: Storage, files: list[DataFile], table: Table) -> pa.Table:
    rows = read_rows(storage, files, table.names)
    assert rows is not None
    return rows


def test_one_batch_is_the_file_that_it_would_be_alone(tmp_path: Path) -> None:
    rows = rows_of(DETECTIONS, 70_000, 1, objectid=np.sort(np.random.default_rng(1).integers(0, 500, 70_000)))
    storage, (file,) = written(tmp_path / "a", [(DETECTIONS, TILES[0], rows)], 10**6)
    alone = write_file(Destination(Storage.at(tmp_path / "b"), DETECTIONS, TILES[0], 1, "0" * 12 + "-0001"), rows)
    assert file == alone
    assert read(storage, [file], DETECTIONS).equals(rows)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    overlapping=st.booleans(),
    most=st.sampled_from([1, 60, 10**6]),
)
def test_batches_are_joined_where_they_follow_each_other(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], overlapping: bool, most: int
) -> None:
    batches = []
    for number, size in enumerate(sizes):
        first = 0 if overlapping else 1000 * number
        ids = np.sort(np.random.default_rng(number).integers(first, first + 900, size))
        batches += [(DETECTIONS, tile, rows_of(DETECTIONS, size, number, objectid=ids)) for tile in TILES]
        batches += [(ORPHANS, TILES[0], rows_of(ORPHANS, size, number))]
    storage, files = written(tmp_path_factory.mktemp("s"), batches, most)
    for table, tile in ((DETECTIONS, TILES[0]), (DETECTIONS, TILES[1]), (ORPHANS, TILES[0])):
        mine = [file for file in files if (file.table, file.tile) == (table.name, tile)]
        given = pa.concat_tables([rows for one, place, rows in batches if (one, place) == (table, tile)])
        got = [read(storage, [file], table) for file in mine]
        assert sum(file.rows for file in mine) == given.num_rows
        keys = [(name, "ascending") for name in table.schema.names if name not in ("reason", "nearestid")]
        assert pa.concat_tables(got).sort_by(keys).equals(given.sort_by(keys))
        for file, rows in zip(mine, got, strict=True):
            assert file.rows <= max(most, *sizes) + (0 if table is DETECTIONS else max(sizes))
            order = [(name, "ascending") for name in table.sorted_by]
            assert rows.select(table.sorted_by).equals(rows.select(table.sorted_by).sort_by(order))
            times = rows["hmjd"].to_numpy()
            assert (file.min_hmjd, file.max_hmjd) == (times.min(), times.max())
            if table is DETECTIONS:
                ids = rows["objectid"].to_numpy()
                assert (file.min_id, file.max_id) == (ids[0], ids[-1])
        if most > sum(sizes) and not (overlapping and table is DETECTIONS):
            assert len(mine) == 1
