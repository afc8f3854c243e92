"""The list of live files in columns: every question answered as a plain loop over the files would."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import log, manifest, manifestpart, paths
from ztfmatch.core.io.manifest import FileList, TileFiles
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.sealed import seal
from ztfmatch.core.io.storage import Storage
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
        paths.data_file(table, tile, commit, f"{number}"),
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


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[DataFile], set[str]]]:
    """What commits add and remove."""
    files = draw(file_lists())
    cuts = sorted(draw(st.lists(st.integers(0, len(files)), max_size=4)))
    there: set[str] = set()
    history = []
    for low, high in itertools.pairwise([0, *cuts, len(files)]):
        removed = draw(st.sets(st.sampled_from(sorted(there)))) if there else set()
        history.append((files[low:high], removed))
        there = (there - removed) | {file.path for file in files[low:high]}
    return history


def of_history(history: list[tuple[list[DataFile], set[str]]], place: Path | None, merged: list[int]) -> FileList:
    """List of parts, some merged with the next; in files of a store if there is a place for them."""
    parts = [manifestpart.part_of(added, sorted(removed)) for added, removed in history]
    for number in merged:
        if number + 1 < len(parts):
            both = FileList(parts[number : number + 2]).merged(last=number == 0)
            table = pa.concat_tables([manifestpart.SCHEMA.empty_table(), *both])
            parts[number : number + 2] = [in_memory(table)]
    return FileList(parts) if place is None else stored(parts, Storage.at(place))


def in_memory(table: pa.Table) -> manifestpart.Part:
    keys = table["key"].to_numpy()
    assert (np.diff(keys) >= 0).all()
    removes = any(table["removed"].to_pylist())
    return manifestpart.Part(keys[:1], keys[-1:], removes, lambda _, names: table.select(names))


def stored(parts: list[manifestpart.Part], storage: Storage) -> FileList:
    """The parts, written and opened again."""
    entries = []
    for number, part in enumerate(parts):
        made = manifestpart.encode([part.rows(manifestpart.EVERYTHING, manifestpart.SCHEMA.names)])
        identity = f"{number:010d}-{made.sealed.seal}"
        storage.put(paths.manifest(identity), *made.sealed.parts)
        entries.append(log.ManifestPart(identity, made.files, made.removed, made.sealed.size, made.sealed.tail))
    return log.read_manifests(storage, entries)


@pytest.fixture(scope="module", autouse=True)
def small_groups() -> Iterator[None]:
    """So that a list of thirty files has many row groups and blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifestpart, "ROWS_PER_GROUP", 3)
        patch.setattr(manifest, "_BLOCKS_AT_ONCE", 2)
        patch.setattr(manifest, "_BLOCKS_KEPT", 2)
        yield


@settings(max_examples=30)
@given(histories(), st.lists(st.integers(0, 3), max_size=2), st.sampled_from(sorted(TABLES)), st.booleans())
def test_file_list_answers_as_a_loop_over_the_files_does(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[list[DataFile], set[str]]],
    merged: list[int],
    table: str,
    on_disk: bool,
) -> None:
    listed = of_history(history, tmp_path_factory.mktemp("list") if on_disk else None, merged)
    files: list[DataFile] = []
    for added, removed in history:
        files = [file for file in files if file.path not in removed] + added
    of_table = [file for file in files if file.table == table]
    assert len(listed) == len(files)
    assert sorted(listed, key=str) == sorted(files, key=str)
    assert list(listed) == sorted(listed, key=lambda file: (list(TABLES).index(file.table), file.order, file.npix))
    assert sorted(listed.of_table(table), key=str) == sorted(of_table, key=str)
    assert sorted(listed.paths()) == sorted(file.path for file in files)
    assert sorted(listed.paths(table)) == sorted(file.path for file in of_table)
    assert listed.count(table) == len(of_table)
    assert listed.has(table) == bool(of_table)
    ranges = [(2, 3), (7, 8)]
    assert sorted(listed.of_ids(table, ranges), key=str) == sorted(
        (file for file in of_table if file.holds_id(ranges)), key=str
    )
    assert listed.total(table, "size") == sum(file.size for file in of_table)
    for tile in TILES[1:]:
        of_tile = (file for file in of_table if file.tile == tile)
        assert listed.of_tile(table, tile) == sorted(of_tile, key=lambda file: (file.min_hmjd or 0.0, file.path))
    assert listed.by_tile(table) == {
        key: TileFiles(len(held), sum(file.rows for file in held), max(file.commit for file in held), depth(held))
        for key in {file.tile for file in of_table}
        if (held := [file for file in of_table if file.tile == key])
    }


spans = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (10**7 * min(pair), 10**7 * max(pair)))


@given(file_lists(), st.lists(st.tuples(st.lists(st.sampled_from(TILES[1:]), unique=True), spans), max_size=9))
def test_file_list_rows_near_are_those_of_the_files_that_may_hold_ids(
    drawn: list[DataFile], spans: list[tuple[list[Tile], tuple[int, int]]]
) -> None:
    """Ranges begin with a generation, and end with one."""
    spread = {"min_id": 10**7, "max_id": 10**7}
    files = [
        replace(file, **{name: None if (at := getattr(file, name)) is None else at * of for name, of in spread.items()})
        for file in drawn
    ]
    listed = FileList.of(files)
    asked = [(tiles, (low, high + 10**7 - 1)) for tiles, (low, high) in spans]
    assert listed.rows_near("objects", asked).tolist() == [
        sum(file.rows for tile in tiles for file in listed.of_tile("objects", tile) if file.holds_id([ids]))
        for tiles, ids in asked
    ]


@settings(max_examples=30)
@given(histories(), histories())
def test_file_list_not_in_another(
    one: list[tuple[list[DataFile], set[str]]], two: list[tuple[list[DataFile], set[str]]]
) -> None:
    lists = [of_history(history, None, []) for history in (one, two)]
    there = set(lists[1].paths())
    assert list(lists[0].not_in(lists[1])) == [file for file in lists[0] if file.path not in there]


def test_file_list_of_an_unknown_table_is_empty() -> None:
    listed = FileList.of([data_file(1, "objects", None, 3, 0)])
    assert listed.of_table("lineage") == []
    assert listed.of_tile("lineage", Tile(0, 0)) == []
    assert listed.by_tile("lineage") == {}
    assert listed.total("lineage", "rows") == 0


def test_file_list_of_one_tile_reads_few_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [data_file(n, "detections", Tile(5, n // 4), 1, n) for n in range(4000)]
    removed = [file.path for file in files if file.npix % 50 == 7]
    listed = stored([manifestpart.part_of(files), manifestpart.part_of([], removed)], Storage.at(tmp_path))
    read: list[int] = []
    monkeypatch.setattr(OpenFile, "read", counting(OpenFile.read, read))
    assert sorted(listed.of_tile("detections", Tile(5, 508)), key=str) == files[4 * 508 : 4 * 508 + 4]
    assert listed.of_tile("detections", Tile(5, 507)) == []
    assert 0 < sum(read) < 12


def counting(original: Callable[..., pa.Table], read: list[int]) -> Callable[..., pa.Table]:
    def counted(self: OpenFile, groups: Sequence[int], columns: Sequence[str], threads: bool = False) -> pa.Table:
        read.append(len(groups))
        return original(self, groups, columns, threads)

    return counted


def test_file_list_sweeps_read_each_row_group_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [data_file(n, "detections", Tile(5, n // 4), 1, n) for n in range(3000)]
    listed = stored([manifestpart.part_of(files[::2]), manifestpart.part_of(files[1::2])], Storage.at(tmp_path))
    read: list[int] = []
    monkeypatch.setattr(OpenFile, "read", counting(OpenFile.read, read))
    assert listed.total("detections", "rows") == 3000
    assert 1000 <= sum(read) <= 2000


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "data/../../secret", "manifests/x", "data/a/.."])
def test_file_list_of_files_outside_of_the_data_is_refused(tmp_path: Path, path: str) -> None:
    """A store may come from elsewhere."""
    good = data_file(1, "objects", None, 3, 0)
    listed = stored([manifestpart.part_of([good, replace(good, path=path)])], Storage.at(tmp_path))
    with pytest.raises(StoreDamagedError, match=f"it names '{path}'; expected files in data/"):
        listed.paths()


def test_file_list_of_another_table_of_parquet_is_refused(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"path": ["data/objects/x"]}), sink)
    sealed = seal(sink.getvalue())
    storage, part = Storage.at(tmp_path), log.ManifestPart(f"0-{sealed.seal}", 1, 0, sealed.size, sealed.tail)
    storage.put(part.path, *sealed.parts)
    with pytest.raises(StoreDamagedError, match="its columns are not those of a manifest"):
        log.read_manifests(storage, [part])
