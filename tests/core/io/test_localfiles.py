"""Files and directories that are whole or not there, and what killed writers leave."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ztfmatch.core.errors import OutputExistsError
from ztfmatch.core.io import localfiles


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_whole_file_replaces_the_old_one_when_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "out.csv"
    place.write_text("old")
    with localfiles.whole(place) as part:
        part.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert names(tmp_path) == ["out.csv"]


def test_whole_file_that_fails_leaves_the_old_one_alone(tmp_path: Path) -> None:
    place = tmp_path / "out.csv"
    place.write_text("old")

    def fail() -> None:
        with localfiles.whole(place) as part:
            part.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert place.read_text() == "old"
    assert names(tmp_path) == ["out.csv"]


def test_whole_file_is_on_disk_before_it_has_its_name_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, forced = os.fsync, []

    def fsync(handle: int) -> None:
        forced.append((str(Path(f"/proc/self/fd/{handle}").readlink()), (tmp_path / "out").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with localfiles.whole(tmp_path / "out") as part:
        part.write_text("x")
    assert forced == [(str(part), False), (str(tmp_path), True)]


def test_whole_directory_replaces_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    localfiles.write_directory(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert names(tmp_path) == ["out"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a": b"1", "b": b"2"}


def test_whole_directory_makes_those_above_it(tmp_path: Path) -> None:
    localfiles.write_directory(tmp_path / "deep" / "out", {"a": b"1"})
    assert (tmp_path / "deep" / "out" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("there", ["file", "directory"])
def test_whole_directory_where_something_is_leaves_it_alone(tmp_path: Path, there: str) -> None:
    place = tmp_path / "out"
    if there == "file":
        place.write_text("mine")
    else:
        localfiles.write_directory(place, {"mine": b""})
    with pytest.raises(OutputExistsError, match=r"out exists already: give a place where nothing is"):
        localfiles.write_directory(place, {"a": b"1"})
    assert names(tmp_path) == ["out"]
    assert place.read_text() == "mine" if there == "file" else names(place) == ["mine"]


def test_whole_file_of_a_link_is_written_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    with localfiles.whole(tmp_path / "link") as part:
        part.write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "out").read_text() == "x"


def test_whole_takes_away_what_killed_runs_left_of_it_alone(tmp_path: Path) -> None:
    left = ["out#000000000001", ".out.0123456789ab.partial"]
    others = ["out#1", "other#000000000001", ".other.0123456789ab.partial", "out.csv#000000000001", ".out.partial"]
    for name in (*left, *others):
        (tmp_path / name).mkdir() if "partial" in name else (tmp_path / name).touch()
    with localfiles.whole(tmp_path / "out", tidy=False) as part:
        part.touch()
    assert names(tmp_path) == sorted([*left, *others, "out"])
    with localfiles.whole(tmp_path / "out") as part:
        part.touch()
    assert names(tmp_path) == sorted([*others, "out"])


def test_remove_leftovers_spares_what_has_such_a_name_by_intention(tmp_path: Path) -> None:
    for name in ("out", "out#000000000001"):
        (tmp_path / name).touch()
    localfiles.remove_leftovers([tmp_path / "out", tmp_path / "out#000000000001"])
    assert names(tmp_path) == ["out", "out#000000000001"]


def test_whole_file_that_another_run_made_first_is_told(tmp_path: Path) -> None:
    place = tmp_path / "out"

    def overtaken() -> None:
        with localfiles.whole(place) as one:
            one.write_text("slow")
            with localfiles.whole(place) as other:
                other.write_text("quick")

    with pytest.raises(OutputExistsError, match="out was made by another run meanwhile"):
        overtaken()
    assert place.read_text() == "quick"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(("code", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_force_to_disk_of_a_directory_where_the_file_system_knows_no_such_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, told: bool
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "file").touch()
    if told:
        with pytest.raises(OSError, match=os.strerror(code)):
            localfiles.force_to_disk(tmp_path)
    else:
        localfiles.force_to_disk(tmp_path)
    with pytest.raises(OSError, match=rf"{os.strerror(code)}: '{tmp_path}/file'"):
        localfiles.force_to_disk(tmp_path / "file")


def test_replace_durable_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, forced = os.fsync, []

    def fsync(handle: int) -> None:
        forced.append((tmp_path / "limit").read_text())
        real(handle)

    (tmp_path / "limit").write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    localfiles.replace(tmp_path / "limit", memoryview(b"new"), durable=True)
    assert forced == ["old", "new"]
