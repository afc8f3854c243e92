"""The contract that every storage backend keeps; a backend's suite is a subclass with a fixture."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultproxy import FaultProxy, undisturbed

from ztfmatch.errors import BucketNotFoundError, StoreDamagedError
from ztfmatch.io.storage import Storage, StorageError, is_url

PATHS = [
    "store.json",
    "commits/0000000000.json",
    "data/detections/Norder=3/Dir=10000/Npix=12345/0000000001-abc-0000.parquet",
    "manifests/0000000001-0123456789ab.parquet",
]


class StorageContract:
    """What tests of any backend inherit; they define the fixture ``storage``, an empty one."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("content", [b"", b"x", b"\0\xff" * 300_000])
    def test_read_gives_back_what_put_wrote(self, storage: Storage, path: str, content: bytes) -> None:
        storage.put(path, content)
        assert storage.read(path) == content

    @pytest.mark.parametrize("wrap", [bytes, memoryview, pa.py_buffer])
    def test_put_takes_any_buffer(self, storage: Storage, wrap) -> None:  # type: ignore[no-untyped-def]
        storage.put("a/b", wrap(b"0123456789"))
        assert storage.read("a/b") == b"0123456789"

    def test_put_replaces_whole_objects(self, storage: Storage) -> None:
        storage.put("a", b"a long first content")
        storage.put("a", b"short")
        assert storage.read("a") == b"short"
        assert dict(storage.list("")) == {"a": 5}

    def test_read_of_nothing_raises_file_not_found(self, storage: Storage) -> None:
        with pytest.raises(FileNotFoundError):
            storage.read("commits/0000000000.json")
        storage.put("commits/0000000001.json", b"{}")
        with pytest.raises(FileNotFoundError):
            storage.read("commits/0000000000.json")

    def test_put_if_absent_first_wins_and_stays(self, storage: Storage) -> None:
        assert storage.put_if_absent("commits/7.json", b"first") is True
        assert storage.put_if_absent("commits/7.json", b"second") is False
        assert storage.read("commits/7.json") == b"first"

    def test_put_if_absent_of_the_very_bytes_that_are_there_is_ours(self, storage: Storage) -> None:
        """As when the answer to the first was lost."""
        assert storage.put_if_absent("commits/7.json", b"ours") is True
        assert storage.put_if_absent("commits/7.json", b"ours") is True
        assert storage.put_if_absent("commits/7.json", b"ours, but longer") is False

    def test_put_if_absent_after_delete_is_free_again(self, storage: Storage) -> None:
        storage.put("a", b"1")
        storage.delete(["a"])
        assert storage.put_if_absent("a", b"2") is True
        assert storage.read("a") == b"2"

    def test_put_if_absent_many_writers_at_once_just_one_wins(self, storage: Storage) -> None:
        for turn in range(5):
            start = threading.Barrier(8)

            def write(me: int, path: str = f"commits/{turn}.json", start: threading.Barrier = start) -> bool:
                start.wait()
                return Storage(storage.root).put_if_absent(path, b"%d" % me * 10_000)

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(write, range(8)))
            assert sum(won) == 1
            assert storage.read(f"commits/{turn}.json") == b"%d" % won.index(True) * 10_000

    def test_put_while_read_shows_the_old_or_the_new_whole(self, storage: Storage) -> None:
        contents = {bytes([65 + i]) * 200_000 for i in range(20)}
        storage.put("a", b"A" * 200_000)
        done = threading.Event()

        def write() -> None:
            for content in sorted(contents):
                storage.put("a", content)
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            seen = [storage.read("a")]
            while not done.is_set():
                seen.append(storage.read("a"))
            writing.result()
        assert set(seen) <= contents

    def test_list_gives_every_object_below_the_prefix_with_its_size(self, storage: Storage) -> None:
        for size, path in enumerate(PATHS):
            storage.put(path, b"x" * size)
        storage.put("commits-old/0.json", b"")
        everything = {path: size for size, path in enumerate(PATHS)} | {"commits-old/0.json": 0}
        assert dict(storage.list("")) == everything
        for prefix in ("commits/", "data/", "data/detections/", "manifests/", "nothing/"):
            assert dict(storage.list(prefix)) == {p: s for p, s in everything.items() if p.startswith(prefix)}

    def test_list_more_objects_than_one_page(self, storage: Storage) -> None:
        names = {f"staging/x/{i:05d}.json" for i in range(1_200)}
        for name in names:
            storage.put(name, b"")
        assert sorted(path for path, _ in storage.list("staging/")) == sorted(names)

    def test_list_of_nothing_is_empty_and_nothing_exists(self, storage: Storage) -> None:
        assert list(storage.list("")) == []
        assert list(storage.list("commits/")) == []

    def test_exists_once_something_is_there(self, storage: Storage) -> None:
        storage.put("a/b", b"1")
        assert storage.exists()

    def test_delete_takes_what_is_named_and_minds_no_gap(self, storage: Storage) -> None:
        for path in PATHS:
            storage.put(path, b"x")
        storage.delete([PATHS[0], "never/was", PATHS[0], PATHS[2]])
        assert sorted(path for path, _ in storage.list("")) == sorted([PATHS[1], PATHS[3]])
        storage.delete([])

    def test_open_input_reads_parquet(self, storage: Storage) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"a": range(1_000)}), sink)
        storage.put(PATHS[2], sink.getvalue())
        file = pq.ParquetFile(storage.open_input(PATHS[2]))
        assert file.read().column("a").to_pylist() == list(range(1_000))

    def test_open_input_of_nothing_is_damage(self, storage: Storage) -> None:
        storage.put("a", b"x")
        with pytest.raises(StoreDamagedError, match=r"b/c is missing from .*, though a snapshot names it"):
            storage.open_input("b/c")

    def test_open_input_seeks_and_reads_any_range(self, storage: Storage) -> None:
        content = bytes(range(256)) * 10_000
        storage.put("a", content)
        with storage.open_input("a") as file:
            assert file.size() == len(content)
            for start, size in [(0, 4), (len(content) - 8, 8), (1_000_000, 1_500_000), (5, 0), (1_100_000, 7)]:
                file.seek(start)
                assert file.read(size) == content[start : start + size]
                assert file.tell() == start + size
            assert file.read_at(9, 100) == content[100:109]
            file.seek(len(content) - 3)
            assert file.read(100) == content[-3:]

    def test_delete_of_many_at_once(self, storage: Storage) -> None:
        names = [f"staging/{i}" for i in range(1_100)]
        for name in names[::3]:
            storage.put(name, b"")
        storage.put("staging/kept", b"")
        storage.delete(names)
        assert [path for path, _ in storage.list("")] == ["staging/kept"]

    def test_pickle_opens_the_same_place(self, storage: Storage) -> None:
        storage.put("a", b"1")
        again = pickle.loads(pickle.dumps(storage))
        assert again == storage
        assert again.read("a") == b"1"
        assert len(pickle.dumps(storage)) < 1_000

    def test_sync_of_written_objects_passes(self, storage: Storage) -> None:
        for path in PATHS:
            storage.put(path, b"x")
        storage.sync(PATHS)
        storage.sync([])
        assert len(list(storage.list(""))) == len(PATHS)


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:  # type: ignore[override]
        return Storage.at(tmp_path / "a store")

    def test_at_and_reading_create_nothing(self, tmp_path: Path) -> None:
        storage = Storage.at(tmp_path / "s")
        assert not storage.exists()
        assert list(storage.list("")) == []
        with pytest.raises(FileNotFoundError):
            storage.read("store.json")
        assert not (tmp_path / "s").exists()

    def test_at_relative_and_file_urls_are_absolute_paths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert Storage.at("s") == Storage.at(tmp_path / "s") == Storage.at(f"file://{tmp_path}/s")
        assert Storage.at("s").local_root == tmp_path / "s"

    def test_put_where_a_file_is_in_the_way_raises_storage_error(self, storage: Storage) -> None:
        storage.put("a", b"x")
        for write in (storage.put, storage.put_if_absent):
            with pytest.raises(StorageError, match="cannot write a/b in "):
                write("a/b", b"y")
        assert storage.read("a") == b"x"

    def test_put_leaves_no_temporary_files(self, storage: Storage) -> None:
        storage.put("a/b", b"x")
        storage.put_if_absent("a/b", b"y")
        storage.put_if_absent("a/c", b"y")
        assert storage.local_root is not None
        files = {str(p.relative_to(storage.local_root)) for p in storage.local_root.rglob("*") if p.is_file()}
        assert files == {"a/b", "a/c"}

    def test_list_knows_its_files_by_the_names_on_disk(self, storage: Storage) -> None:
        storage.put(PATHS[2], b"x")
        assert storage.local_root is not None
        assert (storage.local_root / PATHS[2]).read_bytes() == b"x"


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, s3_bucket: str) -> Storage:  # type: ignore[override]
        return Storage.at(f"{s3_bucket}/a store/of ours")

    def test_paths_lie_below_the_prefix_of_the_bucket(self, storage: Storage, s3_bucket: str) -> None:
        storage.put("a/b", b"1")
        Storage.at(s3_bucket).put("a store/of others", b"2")
        assert dict(Storage.at(s3_bucket).list("")) == {"a store/of ours/a/b": 1, "a store/of others": 1}
        assert dict(storage.list("")) == {"a/b": 1}

    def test_bucket_that_is_not_there_is_named(self, s3_bucket: str) -> None:
        storage = Storage.at("s3://nobody-made-this/x")
        calls: list[Callable[[], object]] = [
            lambda: storage.read("a"),
            lambda: storage.put("a", b""),
            lambda: storage.put_if_absent("a", b""),
            lambda: list(storage.list("")),
            lambda: storage.delete(["a"]),
        ]
        for call in calls:
            with pytest.raises(BucketNotFoundError, match="s3://nobody-made-this/x: there is no bucket 'nobody-made-"):
                call()

    def test_put_of_a_large_object_is_one_request(self, storage: Storage, s3_faults: FaultProxy) -> None:
        content = np.random.default_rng(1).bytes(12_000_000)
        storage.put("large", content)
        assert [request.method for request, _ in s3_faults.seen] == ["PUT"]
        assert storage.read("large") == content

    def test_open_input_reads_a_row_group_in_one_request_and_not_the_rest(
        self, storage: Storage, s3_faults: FaultProxy
    ) -> None:
        sink = pa.BufferOutputStream()
        rng = np.random.default_rng(1)
        columns = {name: rng.random(400_000) for name in "abcdef"}
        pq.write_table(pa.table(columns), sink, row_group_size=20_000, use_dictionary=False)
        storage.put("x", sink.getvalue())
        s3_faults.follow(undisturbed)
        file = pq.ParquetFile(storage.open_input("x"))
        assert file.read_row_group(3).column("b").to_pylist() == columns["b"][60_000:80_000].tolist()
        assert [request.method for request, _ in s3_faults.seen] == ["HEAD", "GET", "GET"]


@pytest.mark.parametrize(
    ("place", "url"), [("s3://bucket/x", True), ("gs://b", True), ("/a/b", False), ("file:///a", False), ("a:b", False)]
)
def test_is_url_literals(place: str, url: bool) -> None:
    assert is_url(place) is url


def test_at_url_drops_the_last_slash_and_has_no_local_root() -> None:
    storage = Storage.at("s3://bucket/prefix/")
    assert storage.root == "s3://bucket/prefix"
    assert storage.local_root is None
