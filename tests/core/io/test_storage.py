"""The contract that every storage backend keeps; a backend's suite is a subclass with a fixture."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
import pytest
from faultproxy import Fault, FaultProxy, always, undisturbed

from ztfmatch.core.errors import BucketNotFoundError, ConfigError
from ztfmatch.core.io.client import if_absent_of
from ztfmatch.core.io.storage import Storage, StorageError, is_url
from ztfmatch.core.io.urls import parse_url

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

    @pytest.mark.parametrize(("start", "length"), [(0, 10), (3, 4), (9, 1), (0, 1)])
    def test_read_range_gives_these_bytes(self, storage: Storage, start: int, length: int) -> None:
        storage.put(PATHS[2], b"0123456789")
        assert bytes(storage.read_range(PATHS[2], start, length)) == b"0123456789"[start : start + length]

    def test_read_range_beyond_the_end_gives_what_there_is(self, storage: Storage) -> None:
        storage.put("a", b"0123456789")
        assert bytes(storage.read_range("a", 8, 5)) == b"89"

    def test_read_range_of_nothing_raises_file_not_found(self, storage: Storage) -> None:
        storage.put("a", b"x")
        with pytest.raises(FileNotFoundError):
            storage.read_range("b/c", 0, 1)

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
            with pytest.raises(StorageError, match=r"cannot write a/b\S* in "):
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

    def test_service_that_ignores_the_condition_is_refused_and_left_clean(
        self, storage: Storage, s3_faults: FaultProxy
    ) -> None:
        s3_faults.follow(always(Fault.NO_CONDITION))
        for _ in range(2):  # it is remembered only where it went well
            with pytest.raises(StorageError, match=rf"{storage.root}: {s3_faults.url} cannot hold a store: .*") as told:
                storage.put_if_absent("commits/0", b"x")
            assert "'If-None-Match: *'" in str(told.value)
            assert "Use a service, or a version of it, that does" in str(told.value)
        assert list(storage.list("")) == []

    def test_service_that_does_not_know_the_condition_is_refused(self, storage: Storage, s3_faults: FaultProxy) -> None:
        s3_faults.follow(lambda request: Fault.NOT_IMPLEMENTED_501 if request.method == "PUT" else Fault.NONE)
        with pytest.raises(StorageError, match=r"cannot hold a store: it does not keep the header 'If-None-Match: \*'"):
            storage.put_if_absent("commits/0", b"x")

    def test_condition_is_tried_once_a_process(self, storage: Storage, s3_faults: FaultProxy) -> None:
        assert storage.put_if_absent("commits/0", b"x")
        probes = {request.path for request, _ in s3_faults.seen if "/staging/probe-" in request.path}
        s3_faults.follow(undisturbed)
        assert Storage(storage.root).put_if_absent("commits/1", b"x")
        assert len(probes) == 1
        assert [request.method for request, _ in s3_faults.seen] == ["PUT", "GET"]
        assert dict(storage.list("")) == {"commits/0": 1, "commits/1": 1}

    @pytest.mark.parametrize("fault", [Fault.REFUSED_409, Fault.REFUSED_304])
    def test_refusal_by_another_status_is_one(self, storage: Storage, s3_faults: FaultProxy, fault: Fault) -> None:
        s3_faults.follow(always(fault))
        assert storage.put_if_absent("commits/0", b"first")
        assert not storage.put_if_absent("commits/0", b"second")
        assert storage.read("commits/0") == b"first"

    def test_condition_that_fails_in_a_race_leaves_one_winner(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of a service that looks first and writes then: both are told that they won, and one is there."""
        real = obstore.put

        def overtaken(store: Any, path: str, data: Any, **options: Any) -> Any:
            answer = real(store, path, data, **options)
            if path == "commits/1":
                real(store, path, b"theirs")
            return answer

        monkeypatch.setattr(obstore, "put", overtaken)
        assert not storage.put_if_absent("commits/1", b"ours")
        assert storage.read("commits/1") == b"theirs"

    def test_put_of_a_large_object_is_one_request(self, storage: Storage, s3_faults: FaultProxy) -> None:
        content = np.random.default_rng(1).bytes(12_000_000)
        storage.put("large", content)
        assert [request.method for request, _ in s3_faults.seen] == ["PUT"]
        assert storage.read("large") == content


@pytest.mark.parametrize(
    ("url", "service", "header"),
    [
        ("gs://bucket/x", "Google Cloud Storage", "x-goog-if-generation-match: 0"),
        ("az://container/x", "Azure", "If-None-Match: *"),
        ("s3://bucket/x", "S3", "If-None-Match: *"),
    ],
)
def test_if_absent_of_services_literals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, service: str, header: str
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert if_absent_of(parse_url(url)) == (service, header)


class TestStorageWithoutHardLinks(TestLocalStorage):
    """A file system that has a rename which replaces nothing in their place."""

    @pytest.fixture(params=[errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
    def storage(  # type: ignore[override]
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Storage:
        monkeypatch.setattr(os, "link", failing_link(request.param))
        return Storage.at(tmp_path / "a store")


def failing_link(code: int) -> Callable[..., None]:
    def link(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, None])
def test_file_system_with_neither_way_is_said_to_hold_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def renameat2(*arguments: object) -> int:
        ctypes.set_errno(code or 0)
        return -1

    library = SimpleNamespace() if code is None else SimpleNamespace(renameat2=renameat2)
    monkeypatch.setattr(os, "link", failing_link(errno.EPERM))
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: library)
    storage = Storage.at(tmp_path / "s")
    with pytest.raises(StorageError, match=r"this file system cannot hold a store: it has neither hard links nor "):
        storage.put_if_absent("commits/0", b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_link_that_fails_for_another_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing_link(errno.EDQUOT))
    with pytest.raises(StorageError, match=os.strerror(errno.EDQUOT)):
        Storage.at(tmp_path / "s").put_if_absent("commits/0", b"x")


def test_file_system_that_lets_a_second_writer_win_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that copies where it should link."""
    monkeypatch.setattr(os, "link", lambda source, place, **options: shutil.copyfile(source, place))
    with pytest.raises(StorageError, match=r"s: this file system cannot hold a store: .* Use another file system"):
        Storage.at(tmp_path / "s").put_if_absent("commits/0", b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("place", "url"), [("s3://bucket/x", True), ("gs://b", True), ("/a/b", False), ("file:///a", False), ("a:b", False)]
)
def test_is_url_literals(place: str, url: bool) -> None:
    assert is_url(place) is url


@pytest.mark.parametrize("root", [b"/tmp/caf\xe9", b"s3://bucket/\xff"])
def test_at_place_that_is_not_utf8_is_refused(root: bytes) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8: give it another"):
        Storage.at(os.fsdecode(root))


def test_at_url_drops_the_last_slash_and_has_no_local_root() -> None:
    storage = Storage.at("s3://bucket/prefix/")
    assert storage.root == "s3://bucket/prefix"
    assert storage.local_root is None


class TestLocalFaults:
    """What the system does to a writer: a short write, a full disk; and what a killed one leaves."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        storage = Storage.at(tmp_path / "s")
        assert storage.put_if_absent("a", b"old")
        return storage

    def test_short_writes_are_continued(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        real, content = os.write, bytes(range(256)) * 40
        monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:1000]))
        storage.put("a", content)
        assert storage.put_if_absent("b", content)
        assert storage.read("a") == storage.read("b") == content

    @pytest.mark.parametrize("taken", [0, None])
    def test_full_disk_leaves_what_was_there_and_no_rest(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, taken: int | None
    ) -> None:
        real, calls = os.write, []

        def write(handle: int, data: memoryview) -> int:
            calls.append(handle)
            if len(calls) % 2:
                return real(handle, data[:1000])
            if taken is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return taken

        monkeypatch.setattr(os, "write", write)
        reason = "Input/output error" if taken == 0 else "No space left on device"
        with pytest.raises(StorageError, match=f"cannot write a in .*: {reason}"):
            storage.put("a", b"new" * 1000)
        with pytest.raises(StorageError, match=f"cannot write b in .*: {reason}"):
            storage.put_if_absent("b", b"new" * 1000)
        assert [path.name for path in Path(storage.root).iterdir()] == ["a"]
        assert storage.read("a") == b"old"

    def test_new_file_is_on_disk_before_it_has_its_name(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, named = os.fsync, []

        def fsync(handle: int) -> None:
            named.append((Path(storage.root) / "commit").exists())
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        storage.put_if_absent("commit", b"x")
        assert named[0] is False
        assert named[-1] is True

    @pytest.mark.parametrize(("name", "durable"), [("retained.json", True), ("data/a.parquet", False)])
    def test_put_of_a_record_at_the_top_is_on_disk_before_it_has_its_name(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str, durable: bool
    ) -> None:
        real, named = os.fsync, []

        def fsync(handle: int) -> None:
            named.append((Path(storage.root) / name).exists())
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        storage.put(name, b"x")
        assert named == ([False, True] if durable else [])

    def test_unfinished_lists_what_no_listing_has_and_delete_takes_it(self, storage: Storage) -> None:
        rest = Path(storage.root) / "data" / "b.parquet#12"
        rest.parent.mkdir()
        rest.write_bytes(b"half")
        assert dict(storage.list("")) == {"a": 3}
        assert [(entry.path, entry.size) for entry in storage.unfinished()] == [("data/b.parquet#12", 4)]
        storage.delete(["data/b.parquet#12"])
        assert list(storage.unfinished()) == []
