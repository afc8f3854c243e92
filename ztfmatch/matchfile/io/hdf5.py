"""Read untrusted HDF5 files: tables, numbers and strings; nothing is executed, followed or used unchecked.

PyTables, by which the survey makes its matchfiles, unpickles attributes while it opens a file, which can so run code.
Here only HDF5's own types are read. A file may also lead elsewhere (links, external and virtual data), or claim more
than it holds (rows without bytes, chunks that inflate); such tables are refused.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Records
from ztfmatch.core.errors import CatalogError, ConfigError, first_line

_LARGEST_ROW: Final = 4096
_LARGEST_CHUNK: Final = 4 << 20
"""Bytes; PyTables makes chunks of at most half of it."""
_LARGEST_ZLIB_CHUNK: Final = 1 << 20
"""As it is stored: HDF5 inflates it to whatever it gives."""
_LARGEST_TEXT: Final = 1 << 16
_MOST_INFLATED: Final = 1100
"""Bytes that zlib makes of one, at most (1032), and chunks that are not full."""

_ZLIB, _SHUFFLE, _FLETCHER32 = 1, 2, 3
"""HDF5's numbers of the filters that are part of it."""

_LOCK: Final = re.compile(r"unable to lock file, errno = (\d+)")
_CUT: Final = re.compile(r"truncated file: eof = (\d+).*stored_eof = (\d+)")
_SYSTEM: Final = re.compile(r"unable to open file.*?errno = (\d+)")
_UNCLOSED: Final = "already open for write"
_FOREIGN: Final = "file signature not found"


def h5py() -> Any:
    """The library, which only matchfiles need.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import h5py as library
    except ImportError:
        raise ConfigError("matchfiles need h5py: pip install 'ztfmatch[matchfile]'") from None
    return library


@contextlib.contextmanager
def open_hdf5(source: str) -> Iterator[Any]:
    """Open a file to be read, and say in one error why it cannot be.

    Raises
    ------
    ConfigError
        If h5py is not installed.
    CatalogError
        ``unreadable``, ``empty``, ``not-hdf5``, ``truncated``, ``locked``, else ``damaged``.
    """
    library = h5py()
    try:
        if not Path(source).stat().st_size:
            raise CatalogError("empty", "the file is empty")
        # Tables are read by whole chunks, each once: a cache would only copy them.
        file = library.File(source, "r", rdcc_nbytes=0)
    except CatalogError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise _refusal(source, error) from error
    with file:
        yield file


def _refusal(source: str, error: Exception) -> CatalogError:
    """What HDF5 means."""
    message = " ".join(str(error).split())
    if lock := _LOCK.search(message):
        return _locked(int(lock[1]))
    if _UNCLOSED in message:
        return CatalogError(
            "locked", "the program that writes it has not closed it; if none does, 'h5clear -s' takes its mark away"
        )
    if cut := _CUT.search(message):
        return CatalogError("truncated", f"it ends after {cut[1]} of {cut[2]} bytes: copy it again")
    if _FOREIGN in message:
        return CatalogError("not-hdf5", f"no HDF5 file: it begins with {_beginning(source)!r}")
    if (system := _SYSTEM.search(message)) or (isinstance(error, OSError) and error.errno):
        number = int(system[1]) if system else error.errno  # type: ignore[attr-defined]
        return CatalogError("unreadable", f"cannot be read: {os.strerror(number)}")
    return _damaged(error)


def _locked(number: int) -> CatalogError:
    """Another program has it, or the file system has no locks: to HDF5 both are the same."""
    if number in (errno.EAGAIN, errno.EACCES):
        return CatalogError(
            "locked",
            "another program has it open for writing: wait for it, or set HDF5_USE_FILE_LOCKING=FALSE if none does",
        )
    return CatalogError(
        "locked",
        f"its file system has no locks ({os.strerror(number)}), as some NFS: set HDF5_USE_FILE_LOCKING=FALSE, if no "
        "program writes it meanwhile",
    )


def _beginning(source: str) -> bytes:
    try:
        with Path(source).open("rb") as file:
            return file.read(8)
    except OSError:
        return b""


def _damaged(error: Exception) -> CatalogError:
    message = first_line(error)
    return CatalogError("damaged", f"not a whole HDF5 file: {message}")


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What HDF5 cannot make sense of is one error."""
    try:
        yield
    except CatalogError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise _damaged(error) from error


def child(group: Any, name: str) -> Any:
    """Member of a group; None if it has none of this name.

    Raises
    ------
    CatalogError
        ``link`` if it is not in the group itself but elsewhere, perhaps in another file.
    """
    key = name.encode()
    with _reading():
        if not group.id.links.exists(key):
            return None
        if group.id.links.get_info(key).type != h5py().h5l.TYPE_HARD:
            raise CatalogError("link", f"{name} is a link to elsewhere; expected it in the file itself")
        return group[name]


def attribute(node: Any, name: str) -> int | float | str | None:
    """A number or text; None where there is none, or it is something else.

    Raises
    ------
    CatalogError
        ``pickle`` if it is a Python object, as PyTables stores what HDF5 has no type for.
    """
    library, key = h5py(), name.encode()
    with _reading():
        if not library.h5a.exists(node.id, key):
            return None
        found = library.h5a.open(node.id, key)
        kind = found.get_type()
        if found.get_space().get_simple_extent_type() == library.h5s.NULL:  # so PyTables stores an empty text
            return "" if isinstance(kind, library.h5t.TypeStringID) else None
        plain = isinstance(kind, library.h5t.TypeIntegerID | library.h5t.TypeFloatID | library.h5t.TypeStringID)
        if not plain or found.shape not in ((), (1,)) or kind.get_size() > _LARGEST_TEXT:
            return None
        value = np.asarray(node.attrs[name]).item()
    if not isinstance(kind, library.h5t.TypeStringID):
        return value  # type: ignore[no-any-return]
    text = value if isinstance(value, str) else value.rstrip(b"\0").decode("utf-8", "replace")
    if text.endswith(".") and kind.get_cset() == library.h5t.CSET_ASCII:  # by this PyTables knows them
        raise CatalogError(
            "pickle", f"attribute {name} is a pickled Python object, which could run code; expected a number or text"
        )
    return str(text)


class Table:
    """A table of a file, that has what it claims.

    Parameters
    ----------
    path : str
        Its name in messages.

    Attributes
    ----------
    dtype : numpy.dtype
    nrows, chunk_rows : int

    Raises
    ------
    CatalogError
        If it is not a table, or its rows are not in the file.
    """

    def __init__(self, node: Any, path: str) -> None:
        library = h5py()
        if not isinstance(node, library.Dataset):
            raise CatalogError("layout", f"{path} is not a table")
        with _reading():
            self.node, self.dtype, self._id = node, node.dtype, node.id
            if self.dtype.names is None or len(node.shape) != 1:
                raise CatalogError("layout", f"{path} is not a table")
            self.nrows: int = int(node.shape[0])
            self.chunk_rows: int = int((node.chunks or (1,))[0])
            self._check_place(path)
            self._check_size(path)
            self._kind = library.h5t.py_create(self.dtype)

    def _check_place(self, path: str) -> None:
        """The rows must be in the file, in a form of which it is known what they take."""
        made = self._id.get_create_plist()
        if made.get_layout() == h5py().h5d.VIRTUAL or made.get_external_count():
            raise CatalogError("link", f"the rows of {path} are in other files; expected them in the file itself")
        filters = [made.get_filter(i) for i in range(made.get_nfilters())]
        for number, _, _, name in filters:
            if number not in (_ZLIB, _SHUFFLE, _FLETCHER32):
                raise CatalogError(
                    "compression",
                    f"{path} is compressed by {name.decode('latin-1') or number}; expected none, or zlib: make a copy "
                    "by 'ptrepack --complevel=0 OLD:/ NEW:/' (PyTables)",
                )
        if filters:
            self._id.chunk_iter(functools.partial(_check_chunk, path))

    def _check_size(self, path: str) -> None:
        """It must not take more memory than one of its size may."""
        row, stored = self.dtype.itemsize, int(self._id.get_storage_size())
        if row > _LARGEST_ROW or self.chunk_rows * row > _LARGEST_CHUNK:
            raise CatalogError(
                "too-large",
                f"{path} has rows of {row} bytes in chunks of {self.chunk_rows}; expected at most {_LARGEST_ROW} "
                f"bytes, in chunks of {_LARGEST_CHUNK}",
            )
        if self.nrows * row > _MOST_INFLATED * min(stored, h5py().h5i.get_file_id(self._id).get_filesize()):
            raise CatalogError("too-large", f"{path} claims {self.nrows} rows of {row} bytes, and has {stored} bytes")

    def read(self, start: int, stop: int, out: Records | None = None) -> Records:
        """Rows from one to before another, into ``out`` if given, of the table's type."""
        library, n = h5py(), stop - start
        rows = np.empty(n, self.dtype) if out is None else out
        with _reading():
            if n:
                space = self._id.get_space()
                space.select_hyperslab((start,), (n,))
                self._id.read(library.h5s.create_simple((n,)), space, rows, self._kind)
        return rows


def _check_chunk(path: str, chunk: Any) -> None:
    if chunk.size > _LARGEST_ZLIB_CHUNK:
        raise CatalogError("too-large", f"{path} has a compressed chunk of {chunk.size} bytes; at most 1 MiB is read")
