"""Where catalogs come from: files, directories, globs, on local disks or in object stores."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztfmatch.errors import CatalogError, ConfigError
from ztfmatch.io.remote import Remote, connect
from ztfmatch.io.urls import is_url, parse_url

MAX_CATALOG_BYTES: Final = 128 << 20
"""Largest catalog that is read, about 2.3 million rows: over a hundred times the survey's."""

EPOCHAL_PATTERN: Final = "*_psfcat.fits"
REFERENCE_PATTERN: Final = "*_refpsfcat.fits"


def expand(places: Iterable[str], pattern: str) -> list[str]:
    """Absolute paths and URLs of catalogs, sorted, each once.

    Parameters
    ----------
    places : iterable of str
        Files, directories (searched to any depth) or globs (``**`` for any depth); the same as URLs, where a
        directory is a prefix.
    pattern : str
        What to take from a directory: EPOCHAL_PATTERN or REFERENCE_PATTERN.

    Raises
    ------
    ConfigError
        If a place is not there or a glob fits nothing.
    StorageError
        If an object store does not answer.
    """
    found: set[str] = set()
    for place in places:
        found.update(_expand_url(place, pattern) if is_url(place) else _expand_path(place, pattern))
    return sorted(found)


def _expand_path(place: str, pattern: str) -> list[str]:
    path = Path(place.removeprefix("file://")).expanduser()
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


def _expand_url(place: str, pattern: str) -> Iterator[str]:
    url = parse_url(place)
    bucket = connect(url.root)
    if url.key and not place.endswith("/") and _is_object(bucket, url.key):
        yield str(url)
        return
    wanted = url.key.split("/") if url.key else []
    fixed = next((i for i, part in enumerate(wanted) if glob.has_magic(part)), len(wanted))
    found = False
    for entry in bucket.entries("/".join(wanted[:fixed])):
        taken = glob_takes(entry.path.split("/"), wanted, pattern)
        found = found or taken is not None
        if taken:
            yield f"{url.root}/{entry.path}"
    if not found:
        raise ConfigError(f"{place}: no such object or prefix, and no object fits it as a glob")


def glob_takes(path: list[str], wanted: list[str], pattern: str) -> bool | None:
    """Whether a glob takes an object: by its own name, or as one that fits ``pattern`` below a prefix that it fits.

    Parameters
    ----------
    path, wanted : list of str
        Parts between the slashes of the object's name, and of the glob; a part ``**`` fits any number of them.
    pattern : str

    Returns
    -------
    bool or None
        None where the glob fits neither the object nor a prefix of it.
    """
    if wanted and _fits_all(path, wanted):
        return True
    if any(_fits_all(path[:i], wanted) for i in range(len(path))):
        return fnmatch.fnmatchcase(path[-1], pattern)
    return None


def _fits_all(parts: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits_all(parts[i:], wanted[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits_all(parts[1:], wanted[1:])


def _is_object(bucket: Remote, key: str) -> bool:
    try:
        bucket.size(key)
    except FileNotFoundError:
        return False
    return True


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
        Path or URL.
    checksum : bool
        Whether to compute the checksum; without it, it is empty.

    Raises
    ------
    CatalogError
        With code ``unreadable`` or ``too-large``.
    StorageError
        If an object store does not answer, which says nothing of the catalog.
    """
    data = _read_url(source) if is_url(source) else _read_path(Path(source))
    return FileContent(data, hashlib.sha256(data, usedforsecurity=False).hexdigest() if checksum else "")


def _read_path(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise CatalogError("unreadable", "it is not a regular file, or is gone")
        _check_size(path.stat().st_size)
        with path.open("rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise CatalogError("unreadable", f"cannot be read: {error.strerror or error}") from error


def _read_url(source: str) -> bytes:
    url = parse_url(source)
    try:
        size, data = connect(url.root).read_up_to(url.key, MAX_CATALOG_BYTES)
    except FileNotFoundError:
        raise CatalogError("unreadable", f"there is no object {source}, or it is gone") from None
    _check_size(size)
    return data or b""


def _check_size(size: int) -> None:
    if size > MAX_CATALOG_BYTES:
        raise CatalogError("too-large", f"the file has {size} bytes; no catalog has more than {MAX_CATALOG_BYTES}")
