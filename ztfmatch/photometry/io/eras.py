"""Eras of the camera from a file: dates of cleaning, new waveforms, warm-ups."""

from __future__ import annotations

import csv
import datetime
import math
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import MetadataError

_UNIX_EPOCH_MJD: Final = 40_587.0
_PLAUSIBLE_MJD: Final = (51_544.0, 88_000.0)


def read_eras(path: Path) -> tuple[float, ...]:
    """Dates (MJD) at which one era ends and the next begins, ascending.

    Parameters
    ----------
    path : Path
        CSV with a column ``begin`` and, if wanted, ``end``, each an ISO date or time (UTC) or an MJD; others are for
        people. The eras are in order of time. What lies between the end of one and the beginning of the next belongs
        to the former; the last may have no end.

    Raises
    ------
    MetadataError
        If it cannot be read, a date is invalid, or eras are reversed or overlap.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(line for line in stream if line.strip() and not line.startswith("#")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MetadataError(f"{path}: no readable file of eras: {error}") from None
    if not rows or "begin" not in rows[0]:
        raise MetadataError(f"{path}: a file of eras is CSV with a column begin, perhaps end, and at least one era")
    begins: list[float] = []
    last = -math.inf
    for number, row in enumerate(rows, 1):
        where = f"{path}: era {number}"
        begin = _mjd(row["begin"], f"{where}, begin")
        end = _mjd(row["end"], f"{where}, end") if (row.get("end") or "").strip() else None
        if begin < last:
            raise MetadataError(
                f"{where} begins {row['begin'].strip()}, before the one above it ends or begins; expected eras in "
                "order of time that do not overlap"
            )
        if end is not None and end <= begin:
            raise MetadataError(
                f"{where} ends {(row['end'] or '').strip()}, not after its begin {row['begin'].strip()}; are the dates "
                "reversed?"
            )
        if begins and begin == begins[-1]:
            raise MetadataError(f"{where} begins {row['begin'].strip()}, as the one above it")
        begins.append(begin)
        last = begin if end is None else end
    return tuple(begins[1:])


def _mjd(text: str | None, where: str) -> float:
    """MJD of a date, time or number."""
    said = (text or "").strip()
    try:
        value = float(said)
    except ValueError:
        try:
            time = datetime.datetime.fromisoformat(said)
        except ValueError:
            raise MetadataError(f"{where}: {said!r} is neither an ISO date nor an MJD") from None
        time = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
        value = time.timestamp() / 86_400.0 + _UNIX_EPOCH_MJD
    if not _PLAUSIBLE_MJD[0] <= value <= _PLAUSIBLE_MJD[1]:
        raise MetadataError(f"{where}: {said} is not an MJD of 2000 to 2099 ({_PLAUSIBLE_MJD[0]:.0f} on)")
    return value
