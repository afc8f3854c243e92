"""Write matchfiles as the survey does: five PyTables tables in the group ``/matches``, with its attributes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.errors import StorageError
from ztfmatch.io import localfiles
from ztfmatch.io.matchfiles import pytables
from ztfmatch.schema import matchfile as layout
from ztfmatch.survey import Unit

_DEFAULTS: Final[dict[str, Any]] = {
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


class MatchfileWriter:
    """Tables to be filled, some rows at a time.

    Parameters
    ----------
    file : tables.File
        Open and empty.
    unit : Unit
    """

    def __init__(self, file: Any, unit: Unit) -> None:
        plain = pytables().Filters(complevel=0)
        self._group = file.create_group("/", layout.GROUP, layout.GROUP_TITLE, plain)
        self._tables = {
            name: file.create_table(
                self._group,
                name,
                dtype,
                layout.TITLES[name].format(field=unit.field, rcid=unit.rcid),
                plain,
                track_times=False,
            )
            for name, dtype in layout.TABLES.items()
        }
        self._tables["transientdata"].attrs["deletedRows"] = np.bool_(False)
        for ours, theirs in layout.IDENTITY.items():
            self._set(self._group._v_attrs, theirs, np.int64(getattr(unit, ours)))  # noqa: SLF001 (PyTables' name)
        self.rows = dict.fromkeys(layout.TABLES, 0)

    @staticmethod
    def _set(attributes: Any, name: str, value: Any) -> None:
        attributes[name] = value

    def describe(self, attributes: dict[str, Any]) -> None:
        """Set the attributes, by the columns of ``matchfiles``; None is not known."""
        for ours, theirs in layout.ATTRIBUTES.items():
            value = attributes.get(ours)
            kind = type(_DEFAULTS[ours])
            self._set(self._group._v_attrs, theirs, _DEFAULTS[ours] if value is None else kind(value))  # noqa: SLF001
        for ours, theirs in layout.ERROR_MODEL.items():
            value = attributes.get(ours)
            if value is not None:
                self._set(self._tables["sourcedata"].attrs, theirs, np.float64(value))

    def add(self, table: str, rows: npt.NDArray[np.void]) -> None:
        """Add rows to a table."""
        if len(rows):
            self._tables[table].append(rows)
        self.rows[table] += len(rows)


@contextlib.contextmanager
def writing_matchfile(path: Path, unit: Unit) -> Iterator[MatchfileWriter]:
    """A matchfile that is there whole, and on disk, when the block ends well, else not at all.

    What killed writers left of it is for the caller to remove.

    Raises
    ------
    ConfigError
        If PyTables is not installed.
    StorageError
        If it cannot be written.
    """
    tables = pytables()
    try:
        with (
            localfiles.whole(path, tidy=False) as part,
            tables.open_file(str(part), "w", filters=tables.Filters(complevel=0)) as file,
        ):
            yield MatchfileWriter(file, unit)
    except (tables.HDF5ExtError, OSError) as error:
        said = next(iter(str(error).strip().splitlines()), "")
        raise StorageError(f"{path} cannot be written: {said}") from error
