"""Lightcurves from many files: the same whatever the number of files, the batches and the memory."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.io import merge
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, Destination, table_from_columns, write_file
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, Table
from ztfmatch.core.tasks.verify import RowOrder
from ztfmatch.core.tasks.verifyepochs import Findings

COLUMNS = ["mag", "psfflux"]


def detections(objectid: np.ndarray, exposure: int) -> pa.Table:
    """One epoch of each object in one exposure."""
    n = len(objectid)
    columns: dict[str, np.ndarray] = {
        column.name: np.full(n, exposure, column.type.to_pandas_dtype()) for column in DETECTIONS.columns
    }
    columns["objectid"] = np.sort(objectid)
    columns["hmjd"] = 58000.0 + exposure + columns["objectid"] * 1e-7
    columns["psfflux"] = (columns["objectid"] % 1000 + exposure).astype(np.float32)
    columns["mag"] = np.where(columns["objectid"] % 7 == 0, np.nan, columns["psfflux"]).astype(np.float32)
    return table_from_columns(DETECTIONS, columns)


def write(place: Path, tables: list[pa.Table], layout: Table = DETECTIONS) -> tuple[Storage, list[DataFile]]:
    storage = Storage.at(place)
    files = []
    for i, unsorted in enumerate(tables):
        table = unsorted.sort_by([(name, "ascending") for name in DETECTIONS.sorted_by])
        files.append(write_file(Destination(storage, layout, Tile(0, 0), 1, str(i)), table))
    return storage, files


def collected(storage: Storage, files: list[DataFile], rows: int) -> pa.Table:
    parts = []
    last = -1
    for chunk in iterate_lightcurves(storage, files, COLUMNS, rows):
        assert chunk.objectid[0] > last, "an object came in two pieces"
        last = int(chunk.objectid[-1])
        ids = np.repeat(chunk.objectid, np.diff(chunk.offsets))
        parts.append(pa.table({"objectid": ids, **chunk.columns}))
    return pa.concat_tables(parts).select(["objectid", "hmjd", "exposureid", *COLUMNS]) if parts else pa.table({})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True), min_size=1, max_size=9),
    st.integers(1, 60),
    st.integers(0, 40),
)
def test_iterate_lightcurves_any_files_equals_one_sort(
    tmp_path_factory: pytest.TempPathFactory, exposures: list[list[int]], rows: int, carried: int
) -> None:
    tables = [detections(np.array(ids, np.int64), i) for i, ids in enumerate(exposures)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "ROWS_CARRIED", carried)
        storage, files = write(tmp_path_factory.mktemp("merge"), tables, replace(DETECTIONS, row_group_rows=8))
        got = collected(storage, files, rows)
    whole = pa.concat_tables(tables).sort_by([(name, "ascending") for name in DETECTIONS.sorted_by])
    for name in got.column_names:
        expected = whole[name].to_numpy()
        np.testing.assert_array_equal(got[name].to_numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 40))
def test_row_order_any_rows_that_are_not_in_order_or_are_there_twice_are_found(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, int]], rows: int
) -> None:
    """However disordered a file is: rows that its readers pass over are told too."""
    table = pa.concat_tables(detections(np.array([objectid], np.int64), exposure) for objectid, exposure in keys)
    storage = Storage.at(tmp_path_factory.mktemp("order"))
    layout = replace(DETECTIONS, row_group_rows=4)
    files = [write_file(Destination(storage, layout, Tile(0, 0), 1, "0"), table)]
    findings = Findings()
    order = RowOrder(findings)
    for _ in iterate_lightcurves(storage, files, COLUMNS, rows, order.add):
        pass
    order.check_all_seen(files)
    assert (findings.violations["order"] == 0) == all(a < b for a, b in itertools.pairwise(keys))


def test_iterate_lightcurves_object_larger_than_a_batch_stays_whole(tmp_path: Path) -> None:
    tables = [pa.concat_tables([detections(np.array([5, 9]), 100 * k + i) for i in range(50)]) for k in range(3)]
    storage, files = write(tmp_path, tables)
    chunks = list(iterate_lightcurves(storage, files, COLUMNS, 12))
    counts = {int(i): int(n) for c in chunks for i, n in zip(c.objectid, np.diff(c.offsets), strict=True)}
    assert counts == {5: 150, 9: 150}


def test_iterate_lightcurves_no_files_gives_nothing(tmp_path: Path) -> None:
    assert list(iterate_lightcurves(Storage.at(tmp_path), [], COLUMNS)) == []


def test_ranges_of_rows_many_files_in_step_are_cut_within_their_row_groups(tmp_path: Path) -> None:
    """Memory is bounded by the rows asked for, however many files there are."""
    tables = [detections(np.arange(1000), i) for i in range(40)]
    storage, files = write(tmp_path, tables)
    sizes = [int(chunk.offsets[-1]) for chunk in iterate_lightcurves(storage, files, COLUMNS, 5000)]
    assert sum(sizes) == 40_000
    assert max(sizes) <= 5100
    assert len(sizes) == 8


def test_ranges_of_rows_row_groups_of_several_units_are_cut_within_each(tmp_path: Path) -> None:
    """Between the ids of two units lies a gap of a hundred thousand times their number."""
    units = [10**12, 10**12 + 10**11, 2 * 10**12]
    ids = np.concatenate([unit + np.arange(300) for unit in units])
    storage, files = write(tmp_path, [detections(ids, i) for i in range(20)])
    sizes = [int(chunk.offsets[-1]) for chunk in iterate_lightcurves(storage, files, COLUMNS, 2000)]
    assert sum(sizes) == 20 * 900
    assert max(sizes) <= 2100


@pytest.mark.parametrize("ids", [(0, 3), (4, 11), (7, 7), (30, 99), (-5, 200)])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_iterate_lightcurves_of_a_range_gives_its_objects_and_reads_no_other_row_groups(
    tmp_path: Path, ids: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = replace(DETECTIONS, row_group_rows=4)
    storage, files = write(tmp_path, [detections(np.arange(i, 40, 2), i) for i in range(3)], layout)
    read: list[int] = []
    original = merge.RowGroups.read

    def counted(self: merge.RowGroups, groups: list[int], columns: list[str], wanted: Wanted) -> pa.Table:
        table = original(self, groups, columns, wanted)
        read.extend(table["objectid"].to_pylist())
        return table

    monkeypatch.setattr(merge.RowGroups, "read", counted)
    found = {
        int(objectid): count
        for chunk in iterate_lightcurves(storage, files, COLUMNS, rows, wanted=Wanted(span=ids))
        for objectid, count in zip(chunk.objectid, np.diff(chunk.offsets), strict=True)
    }
    every = {n: sum(n in range(i, 40, 2) for i in range(3)) for n in range(40)}
    assert found == {n: count for n, count in every.items() if ids[0] <= n <= ids[1] and count}
    assert read
    assert all(ids[0] - 8 < objectid < ids[1] + 8 for objectid in read)


CURVES = Lightcurves(
    np.array([3, 5, 8], np.int64), np.array([0, 2, 2, 5], np.int64), {"mag": np.array([1.0, 2.0, 3.0, 4.0, 5.0])}
)


def test_part_of_lightcurves_has_their_epochs_alone() -> None:
    part = CURVES.part(1, 3)
    assert (part.objectid.tolist(), part.offsets.tolist()) == ([5, 8], [0, 0, 3])
    assert part.columns["mag"].tolist() == [3.0, 4.0, 5.0]


def test_of_epochs_leaves_out_objects_without_any() -> None:
    kept, left = CURVES.of_epochs(np.array([False, False, True, False, True]))
    assert (kept.objectid.tolist(), kept.offsets.tolist(), left.tolist()) == ([8], [0, 2], [False, False, True])
    assert kept.columns["mag"].tolist() == [3.0, 5.0]
