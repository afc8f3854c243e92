"""Count catalogs by unit from their names alone; a list of millions is streamed, never held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.catalogs import HEADER_BYTES, ROW_BYTES
from ztfmatch.core.io.places import is_named
from ztfmatch.core.io.sources import look_for, stamp
from ztfmatch.core.progress import tracked
from ztfmatch.core.survey import FILTER_IDS, N_RCID, unit_codes

Codes = npt.NDArray[np.int64]

CODES: Final = 10_000 * N_RCID * 4
"""One more than the largest code of a unit."""

_NAME: Final = (
    r"(?i)ztf_(?:\d{14}_)?(?P<field>\d{6})_z(?P<code>[gri])_c(?P<ccdid>\d{2})_(?:o_)?q(?P<qid>\d)_(?:ref)?psfcat\.fits"
)
_AT_ONCE: Final = 1 << 16
_SAMPLED_OF_EACH: Final = 8
_MOST_SAMPLED: Final = 512


def codes_of(names: pa.Array) -> Codes:
    """Numbers of the units of catalogs by their names, epochal or reference; -1 where a name does not tell."""
    parts = pc.extract_regex(names, _NAME)
    columns = [pc.struct_field(parts, name) for name in ("field", "ccdid", "qid")]
    field_, ccdid, qid = (column.cast(pa.int64()).fill_null(0).to_numpy() for column in columns)
    letters = pa.array([code[1] for code in FILTER_IDS])
    fid = pc.index_in(pc.utf8_lower(pc.struct_field(parts, "code")), letters).fill_null(-1).to_numpy() + 1
    known = (field_ > 0) & (ccdid >= 1) & (ccdid <= N_RCID // 4) & (qid >= 1) & (qid <= 4) & (fid > 0)
    return np.where(known, unit_codes(field_, 4 * (ccdid - 1) + qid - 1, fid), -1)


@dataclass
class Listing:
    """What some places hold."""

    counts: Codes = field(default_factory=lambda: np.zeros(CODES, np.int64))
    """Catalogs of each unit, by its number."""
    unnamed: int = 0
    """Catalogs whose names do not tell a unit."""
    sample: list[str] = field(default_factory=list)
    """Some of them, evenly."""

    @property
    def catalogs(self) -> int:
        """How many there are."""
        return int(self.counts.sum()) + self.unnamed

    @property
    def units(self) -> Codes:
        """Numbers of the units that have any, ascending."""
        return np.flatnonzero(self.counts)

    def add(self, names: list[str]) -> None:
        """Count some more."""
        codes = codes_of(pa.array(names, pa.string()))
        self.unnamed += int((codes < 0).sum())
        self.counts += np.bincount(codes[codes >= 0], minlength=CODES)
        self.sample += names[:: max(len(names) // _SAMPLED_OF_EACH, 1)]
        if len(self.sample) > 2 * _MOST_SAMPLED:
            self.sample = self.sample[::2]

    def sampled_rows(self) -> dict[str, int]:
        """Rows of some of the catalogs, by their sizes; none of those that are not there, or are compressed."""
        sampled = [name for name in self.sample if not name.lower().endswith((".gz", ".fz"))]
        sizes = {name: stamp(name) for name in tracked(sampled, "sizes of a sample")}
        return {name: max(size[0] - HEADER_BYTES, 0) // ROW_BYTES for name, size in sizes.items() if size}


def list_catalogs(places: Iterable[str], pattern: str) -> Listing:
    """Count what places hold.

    Those that are named as catalogs themselves are taken to be there, and nothing is opened.

    Parameters
    ----------
    places : iterable of str
        Files, directories or globs, as paths or URLs; a generator is gone through once.
    pattern : str
        EPOCHAL_PATTERN or REFERENCE_PATTERN.

    Raises
    ------
    ConfigError, StorageError
        As :func:`ztfmatch.core.io.sources.find`.
    """
    listing, waiting = Listing(), list[str]()

    def take(path: str) -> None:
        waiting.append(path)
        if len(waiting) == _AT_ONCE:
            listing.add(waiting)
            waiting.clear()

    def found(path: str, named: bool) -> None:
        if named or is_named(path.rsplit("/", 1)[-1], pattern):
            take(path)

    shown = tracked(places, "listing catalogs") if isinstance(places, Sequence) else places
    look_for(_others(shown, pattern, take), pattern, found)
    listing.add(waiting)
    return listing


def _others(places: Iterable[str], pattern: str, take: Callable[[str], None]) -> Iterator[str]:
    """Places that are to be looked at; the others are taken by their names."""
    suffix = pattern.removeprefix("*")
    for place in places:
        if place.endswith(suffix) and "*" not in place and "?" not in place and "[" not in place:
            take(place)
        else:
            yield place
