"""The list of live files in columns: every question answered as a plain loop over the files would."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.io.manifest import FileList, TileFiles
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import TABLES

TILES = [None, Tile(0, 0), Tile(0, 11), Tile(1, 0), Tile(3, 767), Tile(11, 12 * 4**11 - 1)]


def data_file(
    number: int, table: str, tile: Tile | None, rows: int, commit: int, ids: tuple[int, int] | None = None
) -> DataFile:
    order, npix = (-1, -1) if tile is None else (tile.order, tile.npix)
    times = (58000.0 + number, 58001.0 + number) if number % 3 else (None, None)
    return DataFile(
        table,
        order,
        npix,
        f"data/{number}",
        rows,
        10 * rows,
        *(ids or (None, None)),
        *times,
        "ab" * 32,
        commit,
        100 + number,
        "cd" * 8,
    )


@st.composite
def file_lists(draw: st.DrawFn) -> list[DataFile]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(TABLES)),
                st.sampled_from(TILES),
                st.integers(0, 2**40),
                st.integers(0, 2**31),
                st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (min(pair), max(pair))),
            ),
            max_size=30,
        )
    )
    return [data_file(i, *values) for i, values in enumerate(drawn)]


def depth(files: list[DataFile]) -> int:
    ranges = [(file.min_id, file.max_id) for file in files if file.min_id is not None and file.max_id is not None]
    return max(sum(low <= number <= high for low, high in ranges) for number in range(10))


@given(file_lists(), st.sampled_from(sorted(TABLES)), st.sampled_from(TILES[1:]))
def test_file_list_answers_as_a_loop_over_the_files_does(files: list[DataFile], table: str, tile: Tile) -> None:
    listed = FileList.of(files)
    of_table = [file for file in files if file.table == table]
    assert len(listed) == len(files)
    assert list(listed) == files
    assert sorted(listed.of_table(table), key=str) == sorted(of_table, key=str)
    assert sorted(listed.paths()) == sorted(file.path for file in files)
    assert sorted(listed.paths(table)) == sorted(file.path for file in of_table)
    assert listed.total(table, "size") == sum(file.size for file in of_table)
    expected = sorted(
        (file for file in of_table if file.tile == tile), key=lambda file: (file.min_hmjd or 0.0, file.path)
    )
    assert listed.of_tile(table, tile) == expected
    assert listed.by_tile(table) == {
        key: TileFiles(len(held), sum(file.rows for file in held), max(file.commit for file in held), depth(held))
        for key in {file.tile for file in of_table}
        if (held := [file for file in of_table if file.tile == key])
    }


@given(file_lists())
def test_file_list_encoded_and_decoded_is_the_same(files: list[DataFile]) -> None:
    assert list(FileList.decode(FileList.of(files).encode().to_pybytes())) == files


@given(file_lists(), st.sets(st.integers(0, 40)))
def test_file_list_without_and_not_in_leave_out_just_these(files: list[DataFile], numbers: set[int]) -> None:
    gone = {f"data/{number}" for number in numbers}
    kept = [file for file in files if file.path not in gone]
    listed = FileList.of(files)
    assert list(listed.without(gone)) == kept
    assert list(listed.not_in(FileList.of([replace(file, rows=0) for file in files if file.path in gone]))) == kept
    assert list(FileList.joined([listed.without(gone), listed])) == kept + files


def test_file_list_of_an_unknown_table_is_empty() -> None:
    listed = FileList.of([data_file(1, "objects", None, 3, 0)])
    assert listed.of_table("lineage") == []
    assert listed.of_tile("lineage", Tile(0, 0)) == []
    assert listed.by_tile("lineage") == {}
    assert listed.total("lineage", "rows") == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a manifest"])
def test_file_list_decode_of_something_else_raises(content: bytes) -> None:
    with pytest.raises((OSError, ValueError)):
        FileList.decode(content)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "data/../../secret", "manifests/x", "data/a/.."])
def test_file_list_decode_of_files_outside_of_the_data_is_refused(path: str) -> None:
    """A store may come from elsewhere."""
    good = data_file(1, "objects", None, 3, 0)
    content = FileList.of([good, replace(good, path=path)]).encode().to_pybytes()
    with pytest.raises(ValueError, match=f"it names '{path}'; expected files in data/"):
        FileList.decode(content)
