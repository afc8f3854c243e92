"""The cache of compiled kernels on disk.

numba compiles a kernel when it is first called, which takes seconds for all of them. It can keep what it made, but its
cache knows two things too few. It looks at the file of a kernel alone: one that was compiled with another module's
kernel, or with a constant of the schema, would go on as it was when that changed. And it refuses to define a kernel at
all where it finds no directory to write to, as in a container whose software and home are read-only.

So what is kept carries a digest of all sources that a kernel can be made of. It is kept beside its source, or in the
directory that ``NUMBA_CACHE_DIR`` names; where that cannot be written to, below the user's home or the temporary
directory; else nowhere. It is read from wherever it is, so that kernels that someone compiled into a directory that
others may only read (``python -m ztfmatch.precompile`` when the software was installed) are used.

What is kept is code: a directory outside the software is used only if it is this user's and nobody else can write to
it. No setting of numba is changed: those are the user's.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.extending import intrinsic, typeof_impl

from ztfmatch.core.kernelsources import source_digest

__all__ = ["dispatcher", "intrinsic", "kernel_places", "let_call"]


def dispatcher(function: Callable[..., Any], *, cache: bool = False, **options: Any) -> Any:
    """A kernel of numba's."""
    made = numba.njit(**options)(function)
    if cache:
        made._cache = _KernelCache(function)  # noqa: SLF001  (as numba's enable_caching does)
    return made


@functools.cache
def let_call(kind: type) -> None:
    """Let kernels call what has numba's function as its attribute ``made``."""
    typeof_impl.register(kind)(_type_of_made)


def _type_of_made(value: Any, _: Any) -> Any:
    made, context = value.made, cpu_target.typing_context
    context.refresh()  # it may have been made just now
    return context.resolve_value_type(made)


@functools.cache
def kernel_places(sources: Path) -> tuple[tuple[Path, ...], Path | None]:
    """Directories in which kernels of a directory of sources may be, and the one where new ones go, if any can."""
    beside = sources / "__pycache__"
    below = _CacheLocator.get_suitable_cache_subpath(str(sources / "__init__.py"))
    usual = Path(numba.config.CACHE_DIR, below) if numba.config.CACHE_DIR else beside
    if _is_writable(usual):
        return (usual,), usual
    own = next((place / below for place in _own_places() if _is_private(place)), None)
    return (usual, beside, *([own] if own else [])), own


def _own_places() -> Iterator[Path]:
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


class _Locator:
    """Tells numba where a kernel is kept, and what it was made of."""

    def __init__(self, function: Any) -> None:
        self._py_file, self._lineno = inspect.getfile(function), function.__code__.co_firstlineno  # numba reads these
        self.places, self.writable = kernel_places(Path(self._py_file).parent)

    def get_cache_path(self) -> str:
        return str(self.writable or os.devnull)

    def ensure_cache_path(self) -> None:
        """Nothing: numba asks before it keeps a kernel, whether any place was found or not."""

    def get_source_stamp(self) -> bytes:
        return source_digest()

    def get_disambiguator(self) -> str:
        return str(self._lineno)


class _Files:
    """Files of one kernel: read from any place, written to the one that can be."""

    def __init__(self, locator: _Locator, name: str) -> None:
        self._files = {place: IndexDataCacheFile(str(place), name, source_digest()) for place in locator.places}
        self._place = locator.writable

    def load(self, key: Any) -> Any:
        """What is kept under a key of numba's, None if there is nothing."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # as where a directory is not there, or is a file
                if (kept := file.load(key)) is not None:
                    return kept
        return None

    def save(self, key: Any, kept: Any) -> None:
        """Keep it, if it can be kept anywhere: a full disk is no reason not to compute."""
        if self._place:
            with contextlib.suppress(OSError):
                self._place.mkdir(exist_ok=True)
                self._files[self._place].save(key, kept)

    def flush(self) -> None:
        """Forget what is kept."""
        if self._place:
            self._files[self._place].flush()


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]  # numba is not typed
    """numba's, with the locator of ours whatever its settings say."""

    def __init__(self, function: Any) -> None:
        self._locator, self._lineno = _Locator(function), function.__code__.co_firstlineno
        module = Path(inspect.getfile(function)).stem
        self._filename_base = self.get_filename_base(f"{module}.{function.__qualname__}", sys.abiflags)


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function, with the files of ours."""

    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._impl.locator, self._impl.filename_base)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is kept, or None.

        numba makes all ready to compile first: it imports the implementations of everything that it knows, and SciPy
        where that is installed, which takes most of a second. To run what is compiled its runtime is enough; where
        something must be compiled, the compiler makes the rest ready itself.
        """
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
