"""Where catalogs come from: files, directories, globs."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztfmatch.errors import CatalogError, ConfigError

MAX_CATALOG_BYTES: Final = 128 << 20
"""Largest catalog that is read, about 2.3 million rows: over a hundred times the survey's."""

EPOCHAL_PATTERN: Final = "*_psfcat.fits"
REFERENCE_PATTERN: Final = "*_refpsfcat.fits"


def expand(places: Iterable[str], pattern: str) -> list[str]:
    """Absolute paths of catalogs, sorted, each once.

    Parameters
    ----------
    places : iterable of str
        Files, directories (searched to any depth) or globs (``**`` for any depth).
    pattern : str
        What to take from a directory: EPOCHAL_PATTERN or REFERENCE_PATTERN.

    Raises
    ------
    ConfigError
        If a place is not there or a glob fits nothing.
    """
    found: set[str] = set()
    for place in places:
        found.update(_expand_one(place, pattern))
    return sorted(found)


def _expand_one(place: str, pattern: str) -> list[str]:
    path = Path(place).expanduser()
    if path.is_dir():
        return [str(file.absolute()) for file in path.rglob(pattern)]
    if path.exists() or path.is_symlink():
        return [str(path.absolute())]
    matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (Path.glob refuses absolute patterns)
    if not matches:
        raise ConfigError(f"{place}: no such file or directory, and no file fits it as a glob")
    files = [str(match.absolute()) for match in matches if not match.is_dir()]
    inside = [str(file.absolute()) for match in matches if match.is_dir() for file in match.rglob(pattern)]
    return files + inside


@dataclass(frozen=True)
class FileContent:
    """A file in memory, with what identifies its content."""

    data: bytes
    sha256: str

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


def read_file(source: str, checksum: bool = True) -> FileContent:
    """Read a whole catalog.

    Parameters
    ----------
    source : str
    checksum : bool
        Whether to compute the checksum; without it, it is empty.

    Raises
    ------
    CatalogError
        With code ``unreadable`` or ``too-large``.
    """
    path = Path(source)
    try:
        if not path.is_file():
            raise CatalogError("unreadable", "it is not a regular file, or is gone")
        size = path.stat().st_size
        if size > MAX_CATALOG_BYTES:
            raise CatalogError("too-large", f"the file has {size} bytes; no catalog has more than {MAX_CATALOG_BYTES}")
        with path.open("rb", buffering=0) as file:
            data = file.readall()
    except OSError as error:
        raise CatalogError("unreadable", f"cannot be read: {error.strerror or error}") from error
    return FileContent(data, hashlib.sha256(data, usedforsecurity=False).hexdigest() if checksum else "")
