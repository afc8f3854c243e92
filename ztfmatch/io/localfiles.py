"""Files of a local store: whole or not there, whatever happens to the writer.

A file is written under a name that ends in ``#`` and a number, which no listing of a store has, and gets its own name
when all its bytes are there. A writer that fails takes the unfinished file away; one that is killed leaves it for
``vacuum``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_UNFINISHED: Final = re.compile(r"#\d+$")


def replace(place: Path, *parts: memoryview) -> None:
    """Write a file in place of any of that name.

    Raises
    ------
    OSError
        As the system has it: no space left, not permitted ...; the file that was there stays.
    """
    with _written(place, parts, _begin_writing) as whole:
        whole.replace(place)


def create(place: Path, content: memoryview) -> None:
    """Write a new file, which is on disk before it has its name: a power cut leaves no empty one.

    Raises
    ------
    FileExistsError
        If there is one of that name.
    OSError
        As for :func:`replace`.
    """
    with _written(place, [content], os.fsync) as whole:
        place.hardlink_to(whole)


@contextlib.contextmanager
def _written(place: Path, parts: Sequence[memoryview], finish: Callable[[int], None]) -> Iterator[Path]:
    """A file beside a place that has all parts and no listed name; taken away if it is still there at the end."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
    beside = place.with_name(f"{place.name}#{secrets.randbelow(10**12)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            for part in parts:
                _write_all(handle, part)
            finish(handle)
        finally:
            os.close(handle)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


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


def unfinished(root: Path) -> Iterator[tuple[str, int, float]]:
    """Path below the root, size and time of what killed writers left."""
    for path in root.rglob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if _UNFINISHED.search(path.name) and path.is_file():
                status = path.stat()
                yield path.relative_to(root).as_posix(), status.st_size, status.st_mtime


def directories_of(places: set[Path], root: Path) -> set[Path]:
    """Every directory on the way from a root to some files: one newly made is durable once its parent is."""
    return {above for place in places for above in place.parents if above.is_relative_to(root)}


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
        raise OSError(error.errno, error.strerror, str(place)) from None
    finally:
        os.close(handle)
