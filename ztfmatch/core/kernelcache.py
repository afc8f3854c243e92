"""Where compiled kernels are kept.

numba compiles a kernel when it is first called, which takes seconds for all of them, and keeps it beside its source, in
the directory that ``NUMBA_CACHE_DIR`` names, or below the user's home. Where none of these can be written to, as in a
container whose software and home are read-only, it refuses to define the kernel at all. Then kernels are kept below the
temporary directory, or not at all.

What is kept is code: a directory is used only if it is this user's and nobody else can write to it. Kernels that
someone compiled into a directory that may only be read (``python -m ztfmatch.precompile`` when the software was
installed) are copied from there, since numba itself reads no directory that it cannot write to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numba
from numba.core.caching import _CacheLocator
from numba.core.dispatcher import Dispatcher

_ROOMS: Final = sorted(Path(__file__).parents[1].glob("*/kernels"))
"""Directories that have kernels: the core's and the capabilities'."""


def choose_cache() -> Path | None:
    """Tell numba where to keep kernels, before the first is defined, where it would find no place itself.

    Returns
    -------
    Path or None
        The directory, if it is one that numba would not have chosen.
    """
    given = numba.config.CACHE_DIR
    if all(map(_is_writable, [Path(given)] if given else [room / "__pycache__" for room in _ROOMS])):
        return None
    for place in _places():
        if _is_private(place):
            for room in _ROOMS:
                below = place / _CacheLocator.get_suitable_cache_subpath(str(room / "__init__.py"))
                _copy([*([Path(given) / below.name] if given else []), room / "__pycache__"], below)
            numba.config.CACHE_DIR = str(place)
            return place
    setattr(Dispatcher, "enable_caching", lambda self: None)  # noqa: ARG005, B010  (each process compiles anew)
    return None


def _places() -> Iterator[Path]:
    """Directories that may serve, best first: a home is often the same on all nodes of a cluster."""
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "ztfmatch"
    try:
        yield Path(tempfile.gettempdir()) / f"ztfmatch-{os.geteuid()}"
    except FileNotFoundError:
        return


def _is_writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return False
    return True


def _is_private(place: Path) -> bool:
    """Whether a directory is there, or can be made, that this user alone can write to and put another in place of."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        about, above = place.lstat(), place.parent.stat()
    except OSError:
        return False
    mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
    kept = above.st_mode & stat.S_ISVTX or not above.st_mode & 0o022  # else others could put theirs in its place
    return mine and bool(kept) and above.st_uid in (0, os.geteuid()) and _is_writable(place)


def _copy(sources: list[Path], below: Path) -> None:
    """Copy kernels that are compiled already to a directory that is not there yet, all at once."""
    held = {file.name: file for source in reversed(sources) for file in source.glob("*.nb[ci]")}
    if not held or below.exists():
        return
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=below.parent) as beside:
        for name, file in held.items():
            shutil.copyfile(file, Path(beside, name))
        Path(beside).replace(below)  # fails where another process was first
