"""Verify the transients of one tile from the stored orphans alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Ints, Mask
from ztfmatch.core.io.merge import numpy_columns
from ztfmatch.core.io.parquet import DataFile, read_table
from ztfmatch.core.io.rows import UNIT
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import build_map, find_rows, is_among
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec, lonlats_of, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile
from ztfmatch.core.kernels.transients import most_frequent
from ztfmatch.core.schema import TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.survey import transientid_of
from ztfmatch.core.tasks.verifyepochs import repeated


@dataclass(frozen=True)
class TransientFiles:
    """Where the transients of a tile are."""

    storage: Storage
    tile: Tile
    transients: Sequence[DataFile]
    links: Sequence[DataFile]
    """Of the tile."""
    links_near: Sequence[DataFile]
    """Of its neighbours: no detection may be in both."""
    orphans: Sequence[Arrays]
    """Those in the tile's reach."""
    radius_arcsec: float


def wrong_transients(files: TransientFiles) -> tuple[Mask, Callable[[int], str]]:
    """Transients that are not what their detections say.

    Each must have two detections or more, all of them orphans of its unit, of different exposures, in no other
    transient, and within the radius of the one that it is named after; its place is their mean, in the tile, and it is
    beside the object that most of them lost to.

    Returns
    -------
    wrong : bool ndarray, shape (N,)
        For each transient of the tile, and for each link without one.
    describe : callable
        What is wrong with a row.
    """
    rows = _read(files.storage, files.transients, TRANSIENTS.names)
    links = _read(files.storage, files.links, TRANSIENTDATA.names)
    ids = rows["transientid"]
    known = np.isin(links["transientid"], ids)
    stray = links["transientid"][~known]
    links = {name: values[known] for name, values in links.items()}
    place = np.searchsorted(ids, links["transientid"])
    wrong = np.bincount(place, minlength=len(ids)) != rows["nobs"]
    wrong |= rows["nobs"] < 2
    wrong[place[_bad_links(files, rows, links, place)]] = True
    wrong |= ~in_tile(fine_pixels(rows["ra"], rows["dec"]), files.tile)
    every = np.concatenate([ids, stray])
    return np.concatenate([wrong, np.ones(len(stray), bool)]), lambda i: f"transient {every[i]}"


def _bad_links(files: TransientFiles, rows: Arrays, links: Arrays, place: Ints) -> Mask:
    """Links whose detection is not as it must be, or whose transient is not where its detections are."""
    n = len(place)
    near = _read(files.storage, files.links_near, TRANSIENTDATA.names)
    orphans = _of_exposures(files.orphans, links["exposureid"])
    at, found = _find(orphans, links)
    bad = ~found | _shared(links["exposureid"], links["sourceid"]) | _shared(place, links["exposureid"])
    bad |= _find(near, links)[1]
    if not n or not found.any():
        return np.ones(n, bool)
    for name in UNIT:
        bad |= orphans[name][at] != rows[name][place]
    xyz = unit_vectors(orphans["ra"][at], orphans["dec"][at])
    named = np.flatnonzero(_keys(links) == links["transientid"])
    founder = np.full(len(rows["ra"]), -1)
    founder[place[named]] = named
    bad |= founder[place] < 0
    apart = ((xyz - xyz[founder[place]]) ** 2).sum(axis=1)
    bad |= apart > chord2_of_arcsec(files.radius_arcsec)
    return np.asarray(bad | ~(_at_mean(rows, xyz, place) & _beside(rows, orphans["nearestid"][at], place))[place])


def _at_mean(rows: Arrays, xyz: Floats, place: Ints) -> Mask:
    """Whether each transient is at the mean of its detections, to a microarcsecond."""
    total = np.zeros((len(rows["ra"]), 3))
    np.add.at(total, place, xyz)
    ra, dec = lonlats_of(total)
    off = ((unit_vectors(ra, dec) - unit_vectors(rows["ra"], rows["dec"])) ** 2).sum(axis=1)
    return np.asarray(off <= chord2_of_arcsec(1e-6))


def _beside(rows: Arrays, nearest: Ints, place: Ints) -> Mask:
    """Whether each transient names the object that most of its detections lost to, and how many did."""
    beside, lost = most_frequent(place, nearest, len(rows["ra"]))
    return np.asarray((rows["besideid"] == beside) & (rows["nbeside"] == lost))


def _read(storage: Storage, files: Sequence[DataFile], columns: Sequence[str]) -> Arrays:
    table = TRANSIENTS if "nobs" in columns else TRANSIENTDATA
    return _numpy(read_table(storage, files, table, columns).sort_by("transientid"))


def _numpy(rows: pa.Table | pa.RecordBatch) -> Arrays:
    """Columns as arrays, one of them, where it is there, with 0 for null."""
    columns = numpy_columns(rows.select([name for name in rows.schema.names if name != "besideid"]))
    return columns | ({"besideid": rows["besideid"].fill_null(0).to_numpy()} if "besideid" in rows.schema.names else {})


def _of_exposures(orphans: Sequence[Arrays], exposureid: Ints) -> Arrays:
    """Orphans of some exposures."""
    names = ["exposureid", "sourceid", "ra", "dec", "nearestid", *UNIT]
    wanted = np.unique(exposureid)
    none = {name: np.zeros(0, np.float64 if name in ("ra", "dec") else np.int64) for name in names}
    kept = [(part, is_among(part["exposureid"], wanted)) for part in orphans]
    return {name: np.concatenate([none[name], *(part[name][rows] for part, rows in kept)]) for name in names}


def _find(among: Arrays, links: Arrays) -> tuple[Ints, Mask]:
    """Row of each link's detection, and whether it is there."""
    at = find_rows(build_map(_keys(among)), _keys(links)).astype(np.int64)
    return at, at >= 0


def _keys(part: Arrays) -> Ints:
    """One number for each detection: the name of the transient that it would found."""
    return np.asarray(transientid_of(part["exposureid"], part["sourceid"].astype(np.int64)))


def _shared(first: Ints, second: Ints) -> Mask:
    """Rows whose pair of values another row has too."""
    return repeated(first, second) | repeated(first[::-1], second[::-1])[::-1]
