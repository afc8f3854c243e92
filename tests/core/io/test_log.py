"""The snapshot log: a commit is all or nothing, two writers cannot both win, manifests stay few."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from faultproxy import Fault, FaultProxy, undisturbed
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import CommitConflictError, StoreDamagedError, ZtfmatchError
from ztfmatch.core.io import localfiles, log, paths, storefile
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.records import decode, encode, short_digest
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage, StorageError
from ztfmatch.core.kernels.tiling import Tile, Tiling, whole_sky


def file(name: str) -> DataFile:
    return DataFile(*paths.place_of(name), name, 1, 10, 1, None, None, 58300.25, "ab" * 32, 0, 99, "cd" * 8)


def change(storage: Storage, *names: str, operation_id: str = "f" * 32, **more: Any) -> log.Change:
    """A change that adds files, which are put in place as a task would."""
    for name in names:
        storage.put(name, b"data")
    return log.Change("append", operation_id, {"n": 1}, {"rows": len(names)}, [file(name) for name in names], **more)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage.at(tmp_path / "s")
    storefile.create_store(made, StoreConfig())
    return made


@pytest.fixture
def first(storage: Storage) -> log.Commit:
    return log.commit(storage, None, change(storage, "data/t/a", tiling=whole_sky(), operation_id="0" * 32))


def live(storage: Storage, number: int | None = None) -> set[str]:
    files = open_snapshot(storage, number).files
    names = [f.path for f in files]
    assert len(set(names)) == len(names)
    return set(names)


# Commits


def test_commit_is_read_back_as_it_was_made(storage: Storage, first: log.Commit) -> None:
    second = log.commit(storage, first, change(storage, "data/t/b", note="why"))
    assert log.commit_numbers(storage) == [0, 1]
    assert log.read_commit(storage, 0) == first
    assert log.read_commit(storage, 1) == second
    assert (second.number, second.parent, second.operation, second.note) == (1, 0, "append", "why")
    assert second.tiling == first.tiling
    assert log.read_tiling(storage, second.tiling) == whole_sky()
    assert live(storage) == {"data/t/a", "data/t/b"}


def test_commit_files_come_back_to_the_last_field(storage: Storage, first: log.Commit) -> None:
    odd = DataFile("exposures", -1, -1, "data/exposures/x", 2**40, 2**41, -(2**62), 2**62, 0.1, 1e300, "", 1, 2**40, "")
    storage.put(odd.path, b"")
    log.commit(storage, first, log.Change("append", "e" * 32, {}, {}, [odd]))
    assert [f for f in open_snapshot(storage).files if f.path == odd.path] == [odd]
    assert odd.tile is None


def test_commit_that_cannot_be_forced_to_disk_says_that_it_stands(
    storage: Storage, first: log.Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(place: Path) -> None:
        if (Path(storage.root) / paths.commit(1)).exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))

    monkeypatch.setattr(localfiles, "force_to_disk", lost)
    told = (
        rf"snapshot 1 was committed and stands, .* \(cannot force files to disk in {storage.root}: Input/output error"
    )
    with pytest.raises(StorageError, match=told):
        log.commit(storage, first, change(storage, "data/t/b"))
    monkeypatch.undo()
    assert live(storage) == {"data/t/a", "data/t/b"}


def test_commit_that_cannot_be_written_does_not_claim_to_stand(
    storage: Storage, first: log.Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = change(storage, "data/t/b")

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StorageError, match=r"^cannot write commits/0000000001.json in .*: No space left on device$"):
        log.commit(storage, first, made)
    assert log.commit_numbers(storage) == [0]


def test_commit_of_which_nothing_more_is_heard_says_so(
    s3_bucket: str, s3_faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.at(f"{s3_bucket}/store")
    storefile.create_store(storage, StoreConfig())
    made = change(storage, "data/t/a", tiling=whole_sky())
    s3_faults.follow(lambda request: Fault.DROP_AFTER if "/commits/" in request.path else Fault.NONE)
    with pytest.raises(StorageError, match="whether snapshot 0 was committed is not known: see 'ztfmatch history'"):
        log.commit(storage, None, made)
    s3_faults.follow(undisturbed)
    assert log.commit_numbers(storage) == [0]


def test_commit_that_no_reader_could_read_is_not_made(storage: Storage, first: log.Commit) -> None:
    odd: Any = {"epochs": "many"}
    with pytest.raises(ValueError, match="Expected `int`, got `str`"):
        log.commit(storage, first, log.Change("append", "b" * 32, {}, odd, []))
    assert log.commit_numbers(storage) == [0]


def test_commit_older_snapshots_stay_as_they_were(storage: Storage, first: log.Commit) -> None:
    second = log.commit(storage, first, change(storage, "data/t/b", operation_id="1" * 32))
    log.commit(storage, second, change(storage, "data/t/c", operation_id="2" * 32, removed=frozenset(["data/t/a"])))
    assert [live(storage, number) for number in range(3)] == [
        {"data/t/a"},
        {"data/t/a", "data/t/b"},
        {"data/t/b", "data/t/c"},
    ]


def test_commit_new_tiling_is_that_of_its_snapshot_and_its_children(storage: Storage, first: log.Commit) -> None:
    finer = Tiling((*Tile(0, 0).children(), *(Tile(0, n) for n in range(1, 12))))
    second = log.commit(storage, first, change(storage, "data/t/b", operation_id="1" * 32, tiling=finer))
    log.commit(storage, second, change(storage, "data/t/c", operation_id="2" * 32))
    assert [open_snapshot(storage, n).tiling for n in range(3)] == [whole_sky(), finer, finer]


def test_commit_first_without_tiling_raises(storage: Storage) -> None:
    with pytest.raises(ValueError, match="the first commit needs a tiling"):
        log.commit(storage, None, change(storage, "data/t/a"))


def test_commit_second_writer_on_the_same_parent_loses_and_is_not_seen(storage: Storage, first: log.Commit) -> None:
    log.commit(storage, first, change(storage, "data/t/b", operation_id="1" * 32))
    with pytest.raises(
        CommitConflictError, match="another writer committed snapshot 1 meanwhile; nothing of this append"
    ):
        log.commit(storage, first, change(storage, "data/t/c", operation_id="2" * 32))
    assert log.commit_numbers(storage) == [0, 1]
    assert live(storage) == {"data/t/a", "data/t/b"}


def test_commit_very_same_operation_twice_is_one_commit(storage: Storage, first: log.Commit) -> None:
    """Two runs of one operation write files of the same names; so does one whose reply was lost, and tries again."""
    one = log.commit(storage, first, change(storage, "data/t/b"))
    assert log.commit(storage, first, change(storage, "data/t/b")) == one
    assert log.commit_numbers(storage) == [0, 1]
    assert live(storage) == {"data/t/a", "data/t/b"}


def test_commit_same_operation_on_other_files_loses_and_leaves_the_winners_snapshot(
    storage: Storage, first: log.Commit
) -> None:
    log.commit(storage, first, change(storage, "data/t/b"))
    with pytest.raises(CommitConflictError):
        log.commit(storage, first, change(storage, "data/t/c", "data/t/d"))
    assert live(storage) == {"data/t/a", "data/t/b"}


def test_commit_same_operation_on_other_files_loses(storage: Storage, first: log.Commit) -> None:
    log.commit(storage, first, change(storage, "data/t/b"))
    with pytest.raises(CommitConflictError):
        log.commit(storage, first, change(storage, "data/t/c", "data/t/d"))
    assert log.commit_numbers(storage) == [0, 1]


class _Dies(Exception):
    pass


class Mortal(Storage):
    """Storage of a process that is killed at its n-th write, before or after the write reached the disk."""

    lives: int
    after: bool

    @classmethod
    def of(cls, storage: Storage, lives: int, after: bool) -> Mortal:
        mortal = cls(storage.root)
        object.__setattr__(mortal, "lives", lives)
        object.__setattr__(mortal, "after", after)
        return mortal

    def _spend(self) -> bool:
        object.__setattr__(self, "lives", self.lives - 1)
        return self.lives < 0

    def put(self, path: str, *parts: Any) -> None:
        dead = self._spend()
        if not dead or self.after:
            super().put(path, *parts)
        if dead:
            raise _Dies

    def put_if_absent(self, path: str, data: bytes) -> bool:
        dead = self._spend()
        done = super().put_if_absent(path, data) if not dead or self.after else False
        if dead:
            raise _Dies
        return done


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("lives", [0, 1, 2, 3])
def test_commit_killed_at_any_write_shows_all_or_nothing_and_can_be_run_again(
    storage: Storage, first: log.Commit, lives: int, after: bool
) -> None:
    tiling = Tiling((*Tile(0, 0).children(), *(Tile(0, n) for n in range(1, 12))))
    wanted = change(storage, "data/t/b", tiling=tiling, removed=frozenset(["data/t/a"]))
    try:
        log.commit(Mortal.of(storage, lives, after), first, wanted)
    except _Dies:
        survived = log.commit_numbers(storage) == [0, 1]
        assert survived == (after and lives == 2)
        assert live(storage) == ({"data/t/b"} if survived else {"data/t/a"})
        assert live(storage, 0) == {"data/t/a"}
        if not survived:
            log.commit(storage, first, wanted)
    else:
        assert lives == 3
    assert live(storage) == {"data/t/b"}
    assert open_snapshot(storage).tiling == tiling


def test_commit_storage_that_refuses_is_an_error_and_shows_nothing(
    storage: Storage, first: log.Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("cannot write: no space left on device")

    wanted = change(storage, "data/t/b")
    monkeypatch.setattr(Storage, "put", full)
    with pytest.raises(StorageError, match="no space"):
        log.commit(storage, first, wanted)
    assert live(storage) == {"data/t/a"}


def test_commit_of_a_file_that_is_not_there_raises_before_it_is_seen(storage: Storage, first: log.Commit) -> None:
    ghost = log.Change("append", "3" * 32, {}, {}, [file("data/t/never-written")])
    with pytest.raises(OSError, match="never-written"):
        log.commit(storage, first, ghost)
    assert log.commit_numbers(storage) == [0]


# Manifests


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 10**6), max_size=3)), min_size=1, max_size=25))
def test_commit_any_history_of_manifests_gives_the_right_files(tmp_path_factory, history) -> None:  # type: ignore[no-untyped-def]
    storage = Storage.at(tmp_path_factory.mktemp("log"))
    storefile.create_store(storage, StoreConfig())
    parent, expected, states = None, set(), []
    for number, (added, picks) in enumerate(history):
        names = [f"data/t/{number}-{i}" for i in range(added)]
        removed = {sorted(expected)[pick % len(expected)] for pick in picks if expected}
        tiling = whole_sky() if parent is None else None
        wanted = change(storage, *names, operation_id=f"{number:032x}", removed=frozenset(removed), tiling=tiling)
        parent = log.commit(storage, parent, wanted)
        expected = (expected - removed) | set(names)
        states.append(set(expected))
        assert live(storage) == expected
        assert sum(part.files - part.removed for part in parent.manifests) == len(expected)
        assert all(one.rows > 2 * two.rows for one, two in itertools.pairwise(parent.manifests))
        assert not parent.manifests or not parent.manifests[0].removed
    assert [live(storage, number) for number in range(len(states))] == states


def test_commit_many_appends_keep_few_manifests_and_write_little(storage: Storage, first: log.Commit) -> None:
    parent, written = first, 0
    for number in range(1, 101):
        parent = log.commit(storage, parent, change(storage, f"data/t/n{number}", operation_id=f"{number:032x}"))
        written += parent.manifests[-1].files
        assert len(parent.manifests) <= 8
    assert len(live(storage)) == 101
    assert written < 101 * 12


def test_commit_that_replaces_files_writes_what_changed(storage: Storage, first: log.Commit) -> None:
    """As statistics do every night: of a long list some files are others."""
    names = [f"data/t/n{number}" for number in range(2000)]
    parent = log.commit(storage, first, change(storage, *names))
    whole, written = parent.manifests[0].rows, 0
    for number in range(1, 41):
        old, new = names[number], f"data/t/r{number}"
        made = change(storage, new, operation_id=f"{number:032x}", removed=frozenset([old]))
        parent = log.commit(storage, parent, made)
        written += parent.manifests[-1].rows
        names[number] = new
    assert live(storage) == {"data/t/a", *names}
    assert parent.manifests[0].rows == whole
    assert written < 2 * 40 * 8
    assert sum(part.removed for part in parent.manifests) == 40


def test_commit_that_removes_most_files_leaves_no_trace_of_them(storage: Storage, first: log.Commit) -> None:
    names = [f"data/t/n{number}" for number in range(100)]
    parent = log.commit(storage, first, change(storage, *names))
    parent = log.commit(storage, parent, change(storage, "data/t/b", removed=frozenset(names)))
    assert [(part.files, part.removed) for part in parent.manifests] == [(2, 0)]
    parent = log.commit(storage, parent, change(storage, removed=frozenset(live(storage))))
    assert parent.manifests == ()
    assert live(storage) == set()


def test_commit_a_file_that_was_removed_may_come_again(storage: Storage, first: log.Commit) -> None:
    names = [f"data/t/n{number}" for number in range(20)]
    parent = log.commit(storage, first, change(storage, *names))
    for number, removed in enumerate([frozenset(["data/t/a"]), frozenset(), frozenset(["data/t/a"])]):
        again = [] if removed else ["data/t/a"]
        parent = log.commit(storage, parent, change(storage, *again, operation_id=f"{number:032x}", removed=removed))
        assert live(storage) == {*names, *again}


def test_commit_removing_what_is_no_file_of_the_store_raises(storage: Storage, first: log.Commit) -> None:
    with pytest.raises(ValueError, match="'data/a' is no data file's path"):
        log.commit(storage, first, change(storage, "data/t/b", removed=frozenset(["data/a"])))


def test_commit_adding_nothing_keeps_the_manifests(storage: Storage, first: log.Commit) -> None:
    second = log.commit(storage, first, log.Change("noop", "9" * 32, {}, {}, []))
    assert second.manifests == first.manifests
    assert live(storage) == {"data/t/a"}


# What is damaged


def test_open_snapshot_without_commits_says_that_init_did_not_finish(storage: Storage) -> None:
    with pytest.raises(StoreDamagedError, match="has no snapshot yet: its 'init' did not finish; run it again"):
        open_snapshot(storage)


def test_open_snapshot_of_no_such_number_raises(storage: Storage, first: log.Commit) -> None:
    with pytest.raises(ZtfmatchError, match="has no snapshot 5"):
        open_snapshot(storage, 5)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[]", b"null", b'{"manifests": 3}', b'{"manifests": [{"x": 1}]}']
)
def test_read_commit_altered_raises_damaged(storage: Storage, first: log.Commit, content: bytes) -> None:
    storage.put(paths.commit(0), content)
    with pytest.raises(StoreDamagedError, match=r"commits/0000000000\.json in .* is damaged"):
        open_snapshot(storage)


def altered(content: bytes, **changed: Any) -> bytes:
    """A record with other values, and the digest that goes with them."""
    return encode({**decode(content, dict), **changed})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"number": "0"}, r"Expected `int`, got `str` - at `\$.number`"),
        ({"number": 7}, "it is of 7"),
        ({"counts": {"rows": "many"}}, r"Expected `int`, got `str` - at `\$.counts"),
        ({"manifests": [{"id": "x"}]}, r"missing required field `files` - at `\$.manifests\[0\]`"),
        ({"tiling": None}, r"Expected `str`, got `null` - at `\$.tiling`"),
        ({"branch": "x"}, "it holds branch, which this ztfmatch does not know"),
    ],
)
def test_read_commit_of_other_values_says_which(
    storage: Storage, first: log.Commit, changed: dict[str, Any], reason: str
) -> None:
    storage.put(paths.commit(0), altered(storage.read(paths.commit(0)), **changed))
    with pytest.raises(StoreDamagedError, match=rf"commits/0000000000\.json in .* is damaged: .*{reason}"):
        open_snapshot(storage)


def test_records_of_the_log_have_the_bytes_that_they_always_had(storage: Storage) -> None:
    log.retain_from(storage, 3)
    assert (
        storage.read(paths.RETAINED_FILE)
        == b'{\n "oldest": 3,\n "digest": "%s"\n}' % short_digest(b'{"oldest": 3}').encode()
    )
    assert log.oldest_retained(storage) == 3
    storage.put(paths.RETAINED_FILE, encode({"oldest": "3"}))
    with pytest.raises(StoreDamagedError, match=r"retained\.json in .* is damaged: Expected `int`, got `str`"):
        log.oldest_retained(storage)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 not really PAR1"])
def test_read_manifests_missing_or_altered_raises_damaged(
    storage: Storage, first: log.Commit, content: bytes | None
) -> None:
    name = paths.manifest(first.manifests[0].id)
    storage.delete([name])
    if content is not None:
        storage.put(name, content)
    with pytest.raises(StoreDamagedError, match=rf"{name} \(a manifest\) is (damaged|missing from)"):
        _ = open_snapshot(storage).files


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[[0, 1]]", b"[1, 2]", b"[[0, 0], [0, 0]]"])
def test_read_tiling_missing_or_altered_raises_damaged(
    storage: Storage, first: log.Commit, content: bytes | None
) -> None:
    name = paths.tiling(first.tiling)
    storage.delete([name])
    if content is not None:
        storage.put(name, content)
    with pytest.raises(StoreDamagedError, match=f"{name} in .* is missing or damaged"):
        _ = open_snapshot(storage).tiling


def test_commit_numbers_ignores_what_is_no_commit(storage: Storage, first: log.Commit) -> None:
    for name in ("commits/notes.txt", "commits/x.json", "commits/.json", "commits/old/0000000003.json"):
        storage.put(name, b"{}")
    assert log.commit_numbers(storage) == [0]


def test_commit_numbers_tenth_commit_comes_after_the_second(storage: Storage) -> None:
    for number in (10, 2, 1, 100):
        storage.put(paths.commit(number), b"{}")
    assert log.commit_numbers(storage) == [1, 2, 10, 100]
