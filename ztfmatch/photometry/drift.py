"""Whether the applied corrections still fit a store's newest exposures, from a sample of its lightcurves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.operations.corrections import Applied, current
from ztfmatch.core.schema import DETECTIONS
from ztfmatch.core.schema.ledger import BAD, MATCHFILE
from ztfmatch.core.survey import FILTER_CODES, IDS_OF_A_UNIT, QUADRANT_SHAPE_PIX
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.photometry.kernels.drift import LEAST_EXPOSURES, Change, change_of
from ztfmatch.photometry.kernels.exposuremaps import CELLS, CLOUD_MAG, SIDE
from ztfmatch.photometry.kernels.residuals import CLIP_SIGMAS, SCATTER_FLOOR_MAG, Summary, constants, summarise
from ztfmatch.photometry.tasks.comparison import brightness_groups

LIMIT_MAG: Final = 0.002
"""Root mean square of a change that corrections no longer fit."""
_RANGE_MAG: Final = (13.5, 18.5)
_NEWEST: Final = 32
"""Exposures of a channel."""
_TILES: Final = 24
_ROWS: Final = 500_000
"""Detections of a tile that are looked at."""
_OLDER_EPOCHS: Final = 5
"""Fewest of a lightcurve."""
_RIM_PIX: Final = 100.0
_RIMS: Final = 4
_PLACES: Final = CELLS + _RIMS
_LEVELS: Final = 8
"""Bins of magnitude."""
_COLUMNS: Final = ("exposureid", "mag", "xpos", "ypos", "catflags")
_EXPOSURE: Final = ("exposureid", "rcid", "fid", "obsmjd", "quality", "origin", "corrections", "commit")


@dataclass(frozen=True)
class ChannelDrift:
    """What newer exposures of a channel differ by from those that were there when the corrections came."""

    rcid: int
    filter: str
    exposures: int
    """Newest ones that were looked at."""
    stars: int
    map_mmag: float | None
    """Over places of the quadrant, root mean square beyond noise; None where too little is known."""
    magnitude_mmag: float | None
    """Over magnitudes."""
    drifted: bool
    """Whether one of them is more than LIMIT_MAG, and than chance."""


def find_drift(snapshot: SnapshotFiles) -> list[ChannelDrift]:
    """Channels with enough exposures since the store's corrections came, by filter and readout channel; perhaps none.

    The newest exposures of a channel are held to the means of the older epochs of bright, constant lightcurves, all
    with the same corrections. Some tiles are looked at, and of each some detections.
    """
    applied = current(snapshot)
    if applied is None:
        return []
    newest = _Newest.of(snapshot, applied)
    found = [_Channel(number) for number in newest.numbers.tolist()]
    for tile in _sample(snapshot, applied) if found else ():
        older = _older(snapshot, applied, tile)
        files = snapshot.of_tile(DETECTIONS.name, tile)
        for chunk in itertools.islice(iterate_lightcurves(snapshot.storage, files, _COLUMNS, _ROWS), 1):
            _add(chunk, older, newest, found)
    channels = (divmod(code, 100)[::-1] for code in newest.channels.tolist())
    return [one.drift(*channel) for channel, one in zip(channels, found, strict=True) if one.stars]


def _good(rows: pa.Table, applied: Applied) -> pa.Table:
    """Those exposures of the ledger that are of catalogs, good, and have the set."""
    other = pc.or_(pc.equal(rows["quality"], BAD), pc.equal(rows["origin"], MATCHFILE))
    return rows.filter(pc.and_not(pc.equal(rows["corrections"], applied.set.digest), other))


def _ranks(ordered: Ids) -> Ids:
    """Which of its equals each of some ascending numbers is, from 0."""
    _, first, count = np.unique(ordered, return_index=True, return_counts=True)
    return np.arange(len(ordered)) - np.repeat(first, count)


@dataclass(frozen=True)
class _Newest:
    """The newest good exposures of each channel that has enough of them since the corrections came, shape (N,)."""

    exposureid: Ids
    """Ascending."""
    channel: Ids
    """Its number among the channels."""
    row: Ids
    """Its number within the channel."""
    channels: Ids
    """Channels, as ``100 fid + rcid``, ascending, shape (C,)."""

    @classmethod
    def of(cls, snapshot: SnapshotFiles, applied: Applied) -> _Newest:
        """Read one file of the ledger after the other, and keep no more than is needed."""
        ids, channel, time = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        for file in snapshot.ledger:
            if file.commit <= applied.file.commit:
                continue
            rows = _good(read_file_rows(snapshot.storage, file, _EXPOSURE), applied)
            rows = rows.filter(pc.greater(rows["commit"], applied.file.commit))
            ids = np.append(ids, rows["exposureid"].to_numpy())
            channel = np.append(channel, 100 * rows["fid"].to_numpy().astype(np.int64) + rows["rcid"].to_numpy())
            time = np.append(time, rows["obsmjd"].to_numpy())
            order = np.lexsort((ids, -time, channel))
            kept = order[_ranks(channel[order]) < _NEWEST]
            ids, channel, time = ids[kept], channel[kept], time[kept]
        channels, number, count = np.unique(channel, return_inverse=True, return_counts=True)
        enough = count >= LEAST_EXPOSURES
        chosen = np.flatnonzero(enough[number])
        chosen = chosen[np.argsort(ids[chosen])]
        number_of_enough = np.cumsum(enough) - 1
        return cls(ids[chosen], number_of_enough[number[chosen]], _ranks(channel)[chosen], channels[enough])

    @property
    def numbers(self) -> Ids:
        """How many exposures each channel has."""
        return np.bincount(self.channel, minlength=len(self.channels))


def _sample(snapshot: SnapshotFiles, applied: Applied) -> list[Tile]:
    """Some tiles, over all that have newer detections."""
    held = snapshot.files.by_tile(DETECTIONS.name)
    tiles = in_sky_order(tile for tile, files in held.items() if tile and files.newest > applied.file.commit)
    if not tiles:
        return []
    return [tiles[at] for at in np.unique(np.linspace(0, len(tiles) - 1, _TILES).round().astype(int)).tolist()]


def _older(snapshot: SnapshotFiles, applied: Applied, tile: Tile) -> Ids:
    """Good exposures of a tile that were there when the corrections came, ascending."""
    rows = _good(exposures_of_tile(snapshot, tile, _EXPOSURE), applied)
    return np.sort(rows.filter(pc.less_equal(rows["commit"], applied.file.commit))["exposureid"].to_numpy())


class _Channel:
    """Sums of a channel."""

    def __init__(self, exposures: int) -> None:
        self.stars, self._exposures = 0, exposures
        self._sums = {bins: np.zeros((exposures, bins, 2)) for bins in (_PLACES, _LEVELS)}
        self._own = {bins: np.zeros((bins, 2)) for bins in (_PLACES, _LEVELS)}

    def add(self, bins: int, at: tuple[Ids, Ids], weight: Floats, off: Floats) -> None:
        """Add detections: rows of their exposures and their bins."""
        np.add.at(self._sums[bins], at, np.stack([weight, weight * off], axis=-1))

    def add_stars(self, bins: int, at: Ids, weight: Floats, variance: Floats) -> None:
        """Add stars: their bins, and the variance of the means of their older epochs."""
        np.add.at(self._own[bins], at, np.stack([weight, weight**2 * variance], axis=-1))

    def drift(self, rcid: int, fid: int) -> ChannelDrift:
        """What it comes to: a smooth change shows in joined cells, a sharp one in single ones."""
        fine, levels = (_change(self._sums[bins], self._own[bins]) for bins in (_PLACES, _LEVELS))
        joined = _change(_joined(self._sums[_PLACES]), _joined(self._own[_PLACES][None])[0])
        changes = (joined if joined.certain and not fine.certain else fine, levels)
        of_map, of_magnitude = (None if np.isnan(c.size) else round(1e3 * c.size, 2) for c in changes)
        drifted = bool(any(change.certain and change.size > LIMIT_MAG for change in changes))
        return ChannelDrift(
            rcid=rcid,
            filter=FILTER_CODES[fid],
            exposures=self._exposures,
            stars=self.stars,
            map_mmag=of_map,
            magnitude_mmag=of_magnitude,
            drifted=drifted,
        )


def _change(sums: Floats, own: Floats) -> Change:
    weight, variance = np.moveaxis(own, -1, 0)
    return change_of(sums[..., 0], sums[..., 1], variance / np.maximum(weight, 1e-9) ** 2)


def _joined(sums: Floats) -> Floats:
    """Sums of two by two cells, and of the rims as they are, shape (E, CELLS / 4 + _RIMS, 2)."""
    half = SIDE // 2
    cells = sums[:, :CELLS].reshape(len(sums), half, 2, half, 2, 2).sum(axis=(2, 4))
    return np.concatenate([cells.reshape(len(sums), -1, 2), sums[:, CELLS:]], axis=1)


def _add(chunk: Lightcurves, older_ids: Ids, newest: _Newest, found: list[_Channel]) -> None:
    """Add the newest epochs of bright constants, relative to the means of their older ones."""
    columns = chunk.columns
    is_older = is_among(columns["exposureid"], older_ids)
    exposure = find_sorted(newest.exposureid, columns["exposureid"])
    mag = np.where((columns["catflags"] == 0) & (is_older | (exposure >= 0)), columns["mag"].astype(np.float64), np.nan)
    older = summarise(np.where(is_older, mag, np.nan), chunk.offsets)
    group = brightness_groups(chunk.objectid // IDS_OF_A_UNIT, older.median)
    chosen = constants(older, group, _OLDER_EPOCHS) & (older.median > _RANGE_MAG[0]) & (older.median < _RANGE_MAG[1])
    owner = np.repeat(np.arange(len(chunk.objectid)), np.diff(chunk.offsets))
    off = mag - older.median[owner]
    scatter = np.maximum(older.scatter, SCATTER_FLOOR_MAG)
    kept = chosen[owner] & (np.abs(off) <= CLIP_SIGMAS * scatter[owner] + CLOUD_MAG)
    before = kept & is_older
    count, total = (np.bincount(owner[before], values, len(scatter)) for values in (None, off[before]))
    off -= (total / np.maximum(count, 1))[owner]
    rows = np.flatnonzero(kept & (exposure >= 0))
    if not len(rows):
        return
    weight, variance = 1.0 / scatter**2, scatter**2 / np.maximum(count, 1)
    bins = ((_PLACES, _places(columns["xpos"][rows], columns["ypos"][rows])), (_LEVELS, _levels(older, owner[rows])))
    star, first = np.unique(owner[rows], return_index=True)
    place, channel = newest.row[exposure[rows]], newest.channel[exposure[rows]]
    for number in np.unique(channel).tolist():
        found[number].stars += int((channel[first] == number).sum())
        for size, at in bins:
            mine = channel == number
            found[number].add(size, (place[mine], at[mine]), weight[owner[rows[mine]]], off[rows[mine]])
            own = mine[first]
            found[number].add_stars(size, at[first][own], weight[star[own]], variance[star[own]])


def _levels(older: Summary, owner: Ids) -> Ids:
    """Bin of magnitude of each detection, that of its star."""
    low, high = _RANGE_MAG
    place = (older.median[owner] - low) / (high - low) * _LEVELS
    return np.clip(place.astype(np.int64), 0, _LEVELS - 1)


def _places(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Ids:
    """Place of each position: a cell, or after these one of the four rims, where maps are steep."""
    width, height = QUADRANT_SHAPE_PIX
    u, v = (
        np.clip((at - _RIM_PIX) / (n - 2 * _RIM_PIX) * SIDE, 0, SIDE - 1).astype(np.int64)
        for at, n in ((x, width), (y, height))
    )
    rims = [x < _RIM_PIX, x > width - _RIM_PIX, y < _RIM_PIX, y > height - _RIM_PIX]
    return np.select(rims, [CELLS, CELLS + 1, CELLS + 2, CELLS + 3], v * SIDE + u)


def said_of(drifts: list[ChannelDrift]) -> str:
    """The alarm in a line; empty where nothing is wrong."""
    bad = [one for one in drifts if one.drifted]
    if not bad:
        return ""
    most = max(max(one.map_mmag or 0.0, one.magnitude_mmag or 0.0) for one in bad)
    names = ", ".join(f"rc {one.rcid} {one.filter}" for one in bad[:4]) + (", ..." if len(bad) > 4 else "")
    of = f"{len(bad)} of {len(drifts)} channels"
    return f"they no longer fit the newest exposures of {of}, by up to {most:.1f} mmag: {names}"
