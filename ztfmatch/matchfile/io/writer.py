"""Write matchfiles as the survey does: five PyTables tables in the group ``/matches``, with its attributes.

PyTables tells its tables by attributes of its own, of format 2.1: what it would write is written here by h5py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Records
from ztfmatch.core.errors import StorageError, ZtfmatchError
from ztfmatch.core.io import localfiles
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import Unit
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.hdf5 import h5py

_DEFAULTS: Final[Mapping[str, Any]] = {
    "rfid": np.int64(0),
    "datetimematched": np.str_(""),
    "datetimecalibrated": np.str_(""),
    "globalmaglimit": np.float32(np.nan),
    "referencezp": np.float64(np.nan),
    "referencezperr": np.float64(0.0),
    "saturatedmag": np.float64(np.inf),
    "systematiclimit": np.float64(np.inf),
    "calibratedsince": np.int64(-1),
    "ncalibrators": np.int64(0),
}
"""Values of attributes that are not known, with the types of all: those of files without relative photometry."""


_CHUNK_BYTES: Final = 1 << 16
"""Of whole rows: what PyTables takes by default."""


class MatchfileWriter:
    """Tables to be filled, some rows at a time.

    Parameters
    ----------
    file : h5py.File
        Open and empty.
    unit : Unit
    check : callable
        Raises what went wrong as it was written.
    """

    def __init__(self, file: Any, unit: Unit, check: Callable[[], None]) -> None:
        self._check = check
        _set_all(
            file,
            {"CLASS": "GROUP", "FILTERS": np.int64(0), "PYTABLES_FORMAT_VERSION": "2.1", "TITLE": "", "VERSION": "1.0"},
        )
        self._group = file.create_group(layout.GROUP)
        _set_all(self._group, {"CLASS": "GROUP", "FILTERS": np.int64(0), "TITLE": layout.GROUP_TITLE, "VERSION": "1.0"})
        self._tables = {
            name: _Table(self._group, name, dtype, layout.TITLES[name].format(field=unit.field, rcid=unit.rcid))
            for name, dtype in layout.TABLES.items()
        }
        _set(self._tables["transientdata"].node, "deletedRows", np.bool_(False))
        for ours, theirs in layout.IDENTITY.items():
            _set(self._group, theirs, np.int64(getattr(unit, ours)))
        self.rows = dict.fromkeys(layout.TABLES, 0)

    def describe(self, attributes: Row) -> None:
        """Set the attributes, by the columns of ``matchfiles``; None is not known."""
        for ours, theirs in layout.ATTRIBUTES.items():
            value = attributes.get(ours)
            kind = type(_DEFAULTS[ours])
            _set(self._group, theirs, _DEFAULTS[ours] if value is None else kind(value))
        for ours, theirs in layout.ERROR_MODEL.items():
            value = attributes.get(ours)
            if value is not None:
                _set(self._tables["sourcedata"].node, theirs, np.float64(value))

    def add(self, table: str, rows: Records) -> None:
        """Add rows to a table."""
        if len(rows):
            self._tables[table].append(rows)
            self._check()
        self.rows[table] += len(rows)


class _Table:
    """A table that grows."""

    def __init__(self, group: Any, name: str, dtype: np.dtype[Any], title: str) -> None:
        library = h5py()
        self._dtype, self._kind, self._rows = dtype, _compound(dtype), 0
        made = library.h5p.create(library.h5p.DATASET_CREATE)
        made.set_chunk((_CHUNK_BYTES // dtype.itemsize,))
        made.set_fill_time(library.h5d.FILL_TIME_ALLOC)
        made.set_obj_track_times(False)
        space = library.h5s.create_simple((0,), (library.h5s.UNLIMITED,))
        self._id = library.h5d.create(group.id, name.encode(), self._kind, space, made)
        self.node = library.Dataset(self._id)
        _set_all(self.node, {"CLASS": "TABLE", "VERSION": "2.7", "TITLE": title})
        for number, column in enumerate(dtype.names or ()):
            _set(self.node, f"FIELD_{number}_NAME", column)
        for number, column in enumerate(dtype.names or ()):
            _set(self.node, f"FIELD_{number}_FILL", np.zeros((), dtype[column].base)[()])
        _set(self.node, "NROWS", np.int64(0))

    def append(self, rows: Records) -> None:
        """Add rows."""
        library, n = h5py(), len(rows)
        self._id.set_extent((self._rows + n,))
        space = self._id.get_space()
        space.select_hyperslab((self._rows,), (n,))
        rows = np.ascontiguousarray(rows, self._dtype)
        self._id.write(library.h5s.create_simple((n,)), space, rows, self._kind)
        self._rows += n
        _set(self.node, "NROWS", np.int64(self._rows))


def _compound(dtype: np.dtype[Any]) -> Any:
    """HDF5's type of a record as PyTables makes it: its texts end at the first zero byte, if there is one."""
    library = h5py().h5t
    made = library.create(library.COMPOUND, dtype.itemsize)
    fields: Any = dtype.fields
    for name in dtype.names or ():
        kind, offset = fields[name][:2]
        made.insert(name.encode(), offset, _text_kind(kind.itemsize) if kind.kind == "S" else library.py_create(kind))
    return made


def _text_kind(size: int, unicode: bool = False) -> Any:
    library = h5py().h5t
    kind = library.C_S1.copy()
    kind.set_size(size)
    if unicode:
        kind.set_cset(library.CSET_UTF8)
    return kind


def _set_all(node: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _set(node, name, value)


def _set(node: Any, name: str, value: Any) -> None:
    """Set an attribute as PyTables does: a text that is empty has no value, a truth value is a field of bits."""
    library, key, space = h5py(), name.encode(), h5py().h5s.create(h5py().h5s.SCALAR)
    if isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        kind, content = _text_kind(max(len(text), 1), isinstance(value, str)), np.array(text)
        space = space if text or isinstance(value, bytes) else library.h5s.create(library.h5s.NULL)
    elif isinstance(value, np.bool_):
        kind, content = library.h5t.NATIVE_B8, np.array(value, np.uint8)
    else:
        kind, content = library.h5t.py_create(value.dtype), np.array(value)
    if library.h5a.exists(node.id, key):
        library.h5a.delete(node.id, key)
    made = library.h5a.create(node.id, key, kind, space)
    if space.get_simple_extent_type() != library.h5s.NULL:
        made.write(content, kind)


class _Sink(io.RawIOBase):
    """A file for HDF5 to write to that keeps an error until it is asked for.

    If HDF5 sees one, it crashes at the end of the process, when it tries again to write what it still holds.
    """

    def __init__(self, path: Path, name: Path) -> None:
        self._name = name
        with _named(name):
            self._file = path.open("wb+", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, with the name that the file is to have."""
        if self._error is not None:
            with _named(self._name):
                raise self._error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int | None:
        """Read what was written."""
        return self._file.readinto(buffer)

    def write(self, data: Any) -> int:
        """Write all, or from the first error on nothing."""
        rest = memoryview(data)
        while rest.nbytes and self._error is None:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self._error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """End it there."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def close(self) -> None:
        """Close the file; an error names it."""
        with _named(self._name):
            self._file.close()
        super().close()


@contextlib.contextmanager
def writing_matchfile(path: Path, unit: Unit) -> Iterator[MatchfileWriter]:
    """A matchfile that is there whole, and on disk, when the block ends well, else not at all.

    What killed writers left of it is for the caller to remove.

    Raises
    ------
    ConfigError
        If h5py is not installed.
    StorageError
        If it cannot be written.
    """
    library = h5py()
    within: list[BaseException] = []
    with _named(path, within), localfiles.whole(path, tidy=False) as part, _Sink(part, path) as sink:
        with library.File(sink, "w") as file:
            try:
                yield MatchfileWriter(file, unit, sink.check)
            except BaseException as error:
                within.append(error)
                raise
        sink.check()


@contextlib.contextmanager
def _named(path: Path, others: Sequence[BaseException] = ()) -> Iterator[None]:
    """Name the file in an error of the system, unless it is one of others, which are not about the file."""
    try:
        yield
    except ZtfmatchError:
        raise
    except OSError as error:
        if error in others:
            raise
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
