"""Magnitudes of the stars of one tile, from the lightcurves of all their objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Floats, Ids, Mask
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import table_from_columns, write_file
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.schema import DETECTIONS, MEMBERS, OFFSETS, STARS, STARSTATISTICS
from ztfmatch.core.schema.stars import BANDS
from ztfmatch.core.survey import IDS_OF_A_UNIT, fid_column, objectid_base
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.tile import TileTask, WritingTask
from ztfmatch.core.tasks.verifyepochs import Findings
from ztfmatch.core.tasks.verifystars import differing_rows
from ztfmatch.stars.kernels.medians import FEWEST, SCALE, discordant_groups, group_medians, median_errors

BYTES_PER_EPOCH: Final = 60
BYTES_PER_ROW_IN_FLIGHT: Final = 300
BYTES_PER_STAR: Final = 200
"""Peak memory of a task."""

_COLUMNS: Final = ("hmjd", "mag", "magerr", "catflags")
_PER_STAR: Final = len(BANDS)


@dataclass(frozen=True)
class WrittenStarStatistics(Written):
    """Statistics of a tile's stars; a file of them even if it has none."""

    stars: int
    epochs: int
    """Good ones of these."""


def compute_star_statistics(task: WritingTask) -> WrittenStarStatistics:
    """Write the statistics of the tile's stars, whose objects may lie beyond its border."""
    rows, epochs = star_statistics(task)
    file = write_file(task.to(STARSTATISTICS), rows)
    return WrittenStarStatistics([file], rows.num_rows, epochs)


def star_statistics(task: TileTask) -> tuple[pa.Table, int]:
    """Statistics of a tile's stars, by starid, and the number of their good epochs."""
    starid = np.sort(task.read(STARS)["starid"].to_numpy())
    bands, offsets = _Bands(len(starid)), unit_offsets(task.snapshot)
    for tile in neighbours(task.snapshot.tiling, task.tile):
        for members, chunk in _lightcurves(task, tile, starid):
            bands.add(chunk, members, *_lookup(offsets, chunk.objectid))
    rows = table_from_columns(STARSTATISTICS, {"starid": starid, **bands.columns(task.snapshot.number)})
    return rows, bands.epochs


def check_star_statistics(task: TileTask) -> Findings:
    """Compare the rows of a tile's stars with what the epochs give; the snapshot that they name may be another."""
    stored, expected = (
        rows.drop_columns(["snapshot"]) for rows in (task.read(STARSTATISTICS), star_statistics(task)[0])
    )
    starid, wrong = differing_rows(stored, expected, "starid")
    findings = Findings()
    findings.add("starstatistics", wrong, lambda i: f"star {starid[i]}: not the magnitudes of its epochs")
    return findings


def _lightcurves(task: TileTask, tile: Tile, starid: Ids) -> Iterator[tuple[Ids, Lightcurves]]:
    """Good epochs of the objects in a tile that are of some stars, and the row of each object's star."""
    rows = task.snapshot.read(MEMBERS.name, ["objectid", "starid"], tile=tile)
    star = find_sorted(starid, rows["starid"].to_numpy())
    order = np.flatnonzero(star >= 0)
    order = order[np.argsort(rows["objectid"].to_numpy()[order], kind="stable")]
    ids, star = rows["objectid"].to_numpy()[order], star[order]
    if not len(ids):
        return
    files = task.snapshot.of_tile(DETECTIONS.name, tile)
    for chunk in iterate_lightcurves(task.storage, files, _COLUMNS, wanted=Wanted(ids)):
        columns = chunk.columns
        good = (columns["catflags"] == 0) & np.isfinite(columns["mag"]) & np.isfinite(columns["magerr"])
        of_good, _ = chunk.of_epochs(good)
        if len(of_good.objectid):
            yield star[np.searchsorted(ids, of_good.objectid)], of_good


def unit_offsets(snapshot: SnapshotFiles) -> tuple[Ids, Floats]:
    """First objectid of each unit with a measured offset over 10^8, ascending, and the offset."""
    rows = snapshot.read(OFFSETS.name).to_pylist()
    heads = [objectid_base(unit_of(row)) // IDS_OF_A_UNIT for row in rows]
    order = np.argsort(heads)
    return np.array(heads, np.int64)[order], np.array([row["offset"] for row in rows], np.float64)[order]


def _lookup(offsets: tuple[Ids, Floats], objectid: Ids) -> tuple[Any, Any]:
    """Offset of the unit of each object, 0 where it was not measured, and where it was."""
    at = find_sorted(offsets[0], objectid // IDS_OF_A_UNIT)
    return np.where(at >= 0, np.append(offsets[1], 0.0)[at], 0.0), at >= 0


@dataclass
class _Bands:
    """Good epochs of stars by filter: held as a number and a magnitude each, until all are there."""

    stars: int
    epochs: int = 0
    _code: list[Any] = field(default_factory=list)
    _mag: list[Any] = field(default_factory=list)
    _objects: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        groups = self.stars * _PER_STAR
        self._first, self._last = np.full(groups, np.inf), np.full(groups, -np.inf)
        self._taken = np.zeros(self.stars, np.int64)

    def add(self, chunk: Lightcurves, star: Ids, offset: Any, known: Any) -> None:
        """Add lightcurves of objects, with the row of the star of each and what is to be taken off."""
        counts = np.diff(chunk.offsets)
        code = star * _PER_STAR + fid_column(chunk.objectid) - 1
        mag = (chunk.columns["mag"] - np.repeat(offset, counts)).astype(np.float32)
        median, deviation = group_medians(mag, chunk.offsets)
        self._objects.append((code, counts, median, deviation))
        self._code.append(np.repeat(code, counts).astype(np.int32))
        self._mag.append(mag)
        np.minimum.at(self._first, code, chunk.columns["hmjd"][chunk.offsets[:-1]])
        np.maximum.at(self._last, code, chunk.columns["hmjd"][chunk.offsets[1:] - 1])
        self._taken += np.bincount(star[known], minlength=self.stars)
        self.epochs += int(counts.sum())

    def columns(self, snapshot: int) -> Arrays:
        """Columns of the table but the starid."""
        groups = self.stars * _PER_STAR
        code = np.concatenate([np.zeros(0, np.int32), *self._code])
        mag = np.concatenate([np.zeros(0, np.float32), *self._mag])[np.argsort(code, kind="stable")]
        n = np.bincount(code, minlength=groups)
        median, deviation = group_medians(mag, np.concatenate([[0], np.cumsum(n)]).astype(np.int64))
        discordant = self._discordant(groups)
        first, last = (np.where(n > 0, value, np.nan) for value in (self._first, self._last))
        columns: Arrays = {"snapshot": np.full(self.stars, snapshot), "noffsets": self._taken.astype(np.int16)}
        for band, fid in BANDS.items():
            of = slice(fid - 1, None, _PER_STAR)
            columns |= {f"n_{band}": n[of].astype(np.int32), f"{band}_mag": median[of]}
            columns |= {f"{band}_scatter": (SCALE * deviation[of]).astype(np.float32)}
            columns |= {
                f"{band}_first": first[of],
                f"{band}_last": last[of],
                f"{band}_discordant": discordant[of].astype(np.int8),
            }
        return columns | {"g_r": columns["g_mag"] - columns["r_mag"], "r_i": columns["r_mag"] - columns["i_mag"]}

    def _discordant(self, groups: int) -> Mask:
        if not self._objects:
            return np.zeros(groups, bool)
        code, counts, median, deviation = (np.concatenate(part) for part in zip(*self._objects, strict=True))
        many = counts >= FEWEST
        error = median_errors(deviation[many], counts[many])
        return discordant_groups(code[many], median[many], error, groups)
