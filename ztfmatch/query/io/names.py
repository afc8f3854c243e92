"""Resolve names of objects without a network: from a table of names, or from a coordinate name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import ConfigError
from ztfmatch.query.io.positionlist import read_positions
from ztfmatch.query.kernels.angles import dec_degrees, ra_degrees

_OF_POSITION: Final = re.compile(r".*J?(\d{2})(\d{2})(\d{2}(?:\.\d+)?)([-+])(\d{2})(\d{2})(\d{2}(?:\.\d+)?)")
"""Names as the IAU has them: J162819.90+325717.3, whatever stands before."""


def resolve_name(name: str, table: Path | None) -> tuple[float, float]:
    """Right ascension and declination in degrees of a name.

    Parameters
    ----------
    name : str
        Capitals and blanks do not matter.
    table : path, optional
        Names and positions: CSV, Parquet, ECSV, FITS or VOTable with columns ``name``, ``ra``, ``dec``.

    Raises
    ------
    ConfigError
        If the name is unknown.
    MetadataError
        If the table cannot be read.
    """
    known: dict[str, int] = {}
    if table is not None:
        listed = read_positions(table, ("name", "id", "object", "target"))
        known = {_plain(str(each)): row for row, each in enumerate(listed.ids.to_pylist())}
        if (row := known.get(_plain(name))) is not None:
            return float(listed.ra[row]), float(listed.dec[row])
    if match := _OF_POSITION.fullmatch(name.strip()):
        hours, degrees = ":".join(match.groups()[:3]), match[4] + ":".join(match.groups()[4:])
        return ra_degrees(hours), dec_degrees(degrees)
    raise ConfigError(_unknown(name, table, known))


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()


def _unknown(name: str, table: Path | None, known: dict[str, int]) -> str:
    if table is None:
        return f"name {name!r} says no position such as J162819.90+325717.3; give a table of names with --names FILE"
    close = difflib.get_close_matches(_plain(name), known, 3)
    return f"{table} has no name {name!r}" + (f"; did you mean {', '.join(close)}?" if close else "")
