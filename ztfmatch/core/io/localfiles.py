"""Atomic files and directories on a local disk: complete or absent, whatever happens to the writer.

What is written has a name that ends in ``#`` and a number, which no listing of a store has, and gets its own when all
its bytes are there. A writer that fails takes the unfinished away. What a killed one leaves is taken away by
``vacuum`` in a store; beside a product, by the next run that finishes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import ConfigError, OutputExistsError

_UNFINISHED: Final = re.compile(r"#\d+$")
_LEFTOVER: Final = re.compile(r"(?P<file>.+)#\d{12}|\.(?P<directory>.+)\.[0-9a-f]{12}\.partial", re.DOTALL)

_NO_SUCH_CALL: Final = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
_NO_HARD_LINKS: Final = _NO_SUCH_CALL | {errno.EPERM, errno.EMLINK}
_OCCUPIED: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1


def replace(place: Path, *parts: memoryview, durable: bool = False) -> None:
    """Write a file in place of any of that name; durable, there is the old or the new one after a power cut.

    Raises
    ------
    OSError
        As the system has it: no space left, not permitted ...; the file that was there stays.
    """
    with _written(place, parts, os.fsync if durable else _begin_writing) as part:
        part.replace(place)
    if durable:
        force_to_disk(place.parent)


def create(place: Path, content: memoryview) -> None:
    """Write a new file, which is on disk before it has its name: a power cut leaves no empty one.

    Raises
    ------
    FileExistsError
        If there is one of that name.
    OSError
        As for :func:`replace`; ENOTSUP on a file system that has no way to name a file only if nothing has the name.
    """
    with _written(place, [content], os.fsync) as part:
        try:
            place.hardlink_to(part)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _rename_if_absent(part, place)


def _rename_if_absent(source: Path, place: Path) -> None:
    """Rename a file unless something has the name; the kernel or the server decides, in one step."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        names = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(place))
        if rename(*names, _RENAME_NOREPLACE) == 0:
            return
        if (code := ctypes.get_errno()) not in _NO_SUCH_CALL:
            raise OSError(code, os.strerror(code), str(place))
    raise OSError(
        errno.ENOTSUP,
        "this file system cannot hold a store: it has neither hard links nor a rename that replaces nothing, without "
        "which two writers could both commit; make the store on another file system",
    )


@contextlib.contextmanager
def _written(place: Path, parts: Sequence[memoryview], finish: Callable[[int], None]) -> Iterator[Path]:
    """A file beside a place that has all parts and no listed name; taken away if it is still there at the end."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
    with beside(place) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for some in parts:
                _write_all(handle, some)
            finish(handle)
        finally:
            os.close(handle)
        yield part


def _write_all(handle: int, content: memoryview) -> None:
    """Write every byte; the system may take fewer at a time than it is given."""
    while content:
        taken = os.write(handle, content)
        if taken <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        content = content[taken:]


def _begin_writing(handle: int) -> None:
    """Ask the kernel to write a file to disk by and by, so that a later sync has little left to wait for."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A name beside a place for what is not finished; what has it at the end is taken away."""
    part = place.with_name(f"{place.name}#{secrets.randbelow(10**12):012d}")
    try:
        yield part
    finally:
        _remove(part)


@contextlib.contextmanager
def whole(place: Path, tidy: bool = True) -> Iterator[Path]:
    """A file or directory that is there whole, and on disk, or not at all.

    The block makes it under the name that it is given. A device or a pipe is written to as it is: nothing may take its
    place. A link stays one, to what is written.

    Parameters
    ----------
    place : Path
        A file there is replaced by a file, an empty directory by a directory. Of two runs at once the first that is
        done takes away what the other has.
    tidy : bool
        Whether to look for what killed runs left of it; of many in one directory :func:`remove_leftovers` does at once.

    Raises
    ------
    OutputExistsError
        If something is there that is not replaced, or another run was done first.
    OSError
    """
    if place.exists() and not (place.is_file() or place.is_dir()):
        yield place
        return
    place = place.resolve()
    with beside(place) as part:
        yield part
        if not part.exists():
            raise OutputExistsError(f"{place} was made by another run meanwhile: this one's is not there any more")
        within = [path for path in part.rglob("*") if not path.is_symlink()] if part.is_dir() else []
        force_all([*within, part])
        give_name(part, place, tidy)


def write_directory(place: Path, files: Mapping[str, bytes]) -> None:
    """Make a directory of some files, as :func:`whole` does."""
    with whole(place) as part:
        part.mkdir(parents=True)
        for name, content in files.items():
            replace(part / name, memoryview(content))


def check_vacant(place: Path, what: str) -> None:
    """Refuse a place for a new directory, of what ``what`` says, that has something.

    Raises
    ------
    ConfigError
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{place} is there already; give a new place for the {what}")


def partial_of(place: Path, identity: str) -> Path:
    """Where a directory is made by the same run again and again until it is whole; hidden, beside its place."""
    return place.with_name(f".{place.name}.{identity[:12]}.partial")


def give_name(made: Path, place: Path, tidy: bool = True) -> None:
    """Give what is finished, and on disk, its name; then nothing is left of runs that were to make the same.

    Raises
    ------
    OutputExistsError
        If something is there that is not replaced.
    OSError
    """
    try:
        made.replace(place)
    except OSError as error:
        if error.errno in _OCCUPIED:
            raise OutputExistsError(f"{place} exists already: give a place where nothing is") from None
        raise
    with contextlib.suppress(PermissionError):  # one may be allowed to write to a directory and not to read it
        force_to_disk(place.parent)
    if tidy:
        remove_leftovers([place])


def remove_leftovers(places: Collection[Path]) -> None:
    """Take away what killed runs left of some files or directories beside them."""
    names = {place.name for place in places}
    for parent in {place.parent for place in places}:
        with contextlib.suppress(OSError):
            for path in parent.iterdir():
                left = None if path.name in names else _LEFTOVER.fullmatch(path.name)
                if left is not None and (left["file"] or left["directory"]) in names:
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def unfinished(root: Path) -> Iterator[tuple[str, int, float]]:
    """Path below the root, size and time of what killed writers left."""
    for path in root.rglob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if is_unfinished(path.name) and path.is_file():
                status = path.stat()
                yield path.relative_to(root).as_posix(), status.st_size, status.st_mtime


def is_unfinished(name: str) -> bool:
    """Whether a file's name is one of those that are written to before they have their own."""
    return _UNFINISHED.search(name) is not None


def directories_of(places: set[Path], root: Path) -> set[Path]:
    """Every directory on the way from a root to some files: one newly made is durable once its parent is."""
    return {above for place in places for above in place.parents if above.is_relative_to(root)}


def force_all(places: Iterable[Path]) -> None:
    """Wait until some files and directories are on disk."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(force_to_disk, places))


def force_to_disk(place: Path) -> None:
    """Wait until a file or a directory is on disk.

    Raises
    ------
    OSError
        With its name.
    """
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (error.errno == errno.EINVAL and place.is_dir()):  # some file systems know no such thing of directories
            raise OSError(error.errno, error.strerror, str(place)) from None
    finally:
        os.close(handle)
