"""Find catalogs: files, directories, globs, on local disks or in object stores."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import CatalogError, ConfigError, StorageError
from ztfmatch.core.io.fits import FITS_MAGIC
from ztfmatch.core.io.noted import noted, notes
from ztfmatch.core.io.packed import Sorting
from ztfmatch.core.io.places import Places, is_misnamed, is_named
from ztfmatch.core.io.remote import Remote, connect
from ztfmatch.core.io.urls import is_url, parse_url

MAX_CATALOG_BYTES: Final = 128 << 20
"""Largest catalog that is read, about 2.3 million rows: over a hundred times the survey's."""

EPOCHAL_PATTERN: Final = "*_psfcat.fits"
REFERENCE_PATTERN: Final = "*_refpsfcat.fits"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_UNPACKED_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class Found:
    """Catalogs at some places."""

    files: Sequence[str]
    """Absolute paths and URLs, sorted, each once; packed where they are very many."""
    what: str
    """``catalog`` or ``matchfile``."""
    misnamed: list[str]
    """Files that look like catalogs by their name but are not named as such, so that they are not taken."""

    def none_of(self, pattern: str, places: Iterable[str]) -> str:
        """What to say if there is no catalog."""
        return "; ".join([f"no {pattern} in {', '.join(places)}", *([self.misnamed_text] if self.misnamed else [])])

    @property
    def misnamed_text(self) -> str:
        """How many files are misnamed."""
        n = len(self.misnamed)
        what = f"1 file looks like a {self.what} but is" if n == 1 else f"{n:,} files look like {self.what}s but are"
        return f"{what} not named as such"


def find(places: Sequence[str], pattern: str) -> Found:
    """Find catalogs.

    Parameters
    ----------
    places : iterable of str
        Files, directories (searched to any depth, links followed) or globs (``**`` for any depth); the same as URLs,
        where a directory is a prefix.
    pattern : str
        What to take from a directory: EPOCHAL_PATTERN, REFERENCE_PATTERN or that of matchfiles; names fit it in any
        case, those of FITS files compressed or not.

    Raises
    ------
    ConfigError
        If a place is not there or a glob fits nothing.
    StorageError
        If a directory cannot be listed, or an object store does not answer.
    """
    if notes() is None:
        return _find(places, pattern)
    name = f"{pattern} in {' '.join(places)}"
    return noted(name, Found, lambda: replace(found := _find(places, pattern), files=list(found.files)))


def _find(places: Sequence[str], pattern: str) -> Found:
    files, misnamed = Sorting(), set[str]()

    def sort_out(path: str, named: bool) -> None:
        name = path.rsplit("/", 1)[-1]
        if named or is_named(name, pattern):
            files.add(path)
        elif is_misnamed(name, pattern):
            misnamed.add(path)

    look_for(places, pattern, sort_out)
    what = "catalog" if pattern in (EPOCHAL_PATTERN, REFERENCE_PATTERN) else "matchfile"
    taken = files.texts()
    if misnamed:
        misnamed.difference_update(taken)
    near = [path for path in misnamed if is_url(path) or not Path(path).is_dir()]
    return Found(taken, what, sorted(near))


def look_for(places: Iterable[str], pattern: str, found: Callable[[str, bool], None]) -> None:
    """Tell of all that is at some places, one after the other, as it is found.

    Parameters
    ----------
    places, pattern
        As :func:`find`; of an object store the pattern decides what a glob names.
    found : callable
        Called with each path or URL, once for each place that leads to it, and whether it was named, itself or by a
        glob; else it is one in a directory, of any name.

    Raises
    ------
    As :func:`find`.
    """
    local = Places(found)
    for place in places:
        if is_url(place):
            _look_remote(place, pattern, found)
        else:
            local.look(place.removeprefix("file://"))


def _look_remote(place: str, pattern: str, found: Callable[[str, bool], None]) -> None:
    url = parse_url(place)
    bucket = connect(url.root)
    if url.key and not place.endswith("/") and _is_object(bucket, url.key):
        found(str(url), True)
        return
    wanted = url.key.split("/") if url.key else []
    fixed = next((i for i, part in enumerate(wanted) if glob.has_magic(part)), len(wanted))
    fits = False
    for entry in bucket.entries("/".join(wanted[:fixed])):
        taken = glob_takes(entry.path.split("/"), wanted, pattern)
        if taken is not None:
            fits = True
            found(f"{url.root}/{entry.path}", taken)
    if not fits:
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
        return is_named(path[-1], pattern)
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


def stamp(source: str) -> tuple[int, ...]:
    """What changes with a file's content: size, and times of its last change in nanoseconds; empty if it is not there.

    Raises
    ------
    StorageError
        If an object store does not answer.
    """
    try:
        if is_url(source):
            url = parse_url(source)
            return connect(url.root).stamp(url.key)
        status = os.stat(source)  # noqa: PTH116 (a Path for each of millions)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class FileContent:
    """Content of a file in memory, with what identifies it."""

    data: bytes
    sha256: str

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


def read_file(source: str, checksum: bool = True, unpack: bool = True) -> FileContent:
    """Read a whole catalog, and unpack it if it is gzipped: its content is what counts.

    Parameters
    ----------
    source : str
        Path or URL.
    checksum : bool
        Whether to compute the checksum; without it, it is empty.
    unpack : bool
        False for a gzipped file as it is.

    Raises
    ------
    CatalogError
        With code ``unreadable`` or ``too-large``; of a gzipped file ``truncated``, ``damaged`` or ``not-fits``, too.
    StorageError
        If an object store does not answer, which says nothing of the catalog.
    """
    data = _read_url(source) if is_url(source) else _read_path(Path(source))
    if unpack and data.startswith(_GZIP_MAGIC):
        data = _unpacked(data)
    return FileContent(data, hashlib.sha256(data, usedforsecurity=False).hexdigest() if checksum else "")


def _unpacked(data: bytes) -> bytes:
    """Content of a gzipped catalog: piece by piece, no more than a catalog has, and no farther if it is not FITS."""
    content = io.BytesIO()  # which gives away its buffer, and does not copy it
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while content.tell() <= MAX_CATALOG_BYTES and (part := stream.read(_UNPACKED_AT_ONCE)):
                if content.tell() == 0 and not part.startswith(FITS_MAGIC):
                    raise CatalogError("not-fits", f"unpacked, it starts with {part[:9]!r}; expected {FITS_MAGIC!r}")
                content.write(part)
    except EOFError:
        raise CatalogError("truncated", f"the gzip stream breaks off after {len(data)} bytes") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CatalogError("damaged", f"not a whole gzip stream: {error}") from error
    if content.tell() > MAX_CATALOG_BYTES:
        raise CatalogError("too-large", f"unpacked, it has more than {MAX_CATALOG_BYTES} bytes; no catalog has")
    return content.getvalue()


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
