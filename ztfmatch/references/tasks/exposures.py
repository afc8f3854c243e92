"""Flatness of exposures: their stored detections against PS1, of one field and readout channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints, Singles
from ztfmatch.core.io.merge import iterate_lightcurves
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.kernels.calibration import unrounded_magnitudes
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema import DETECTIONS
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.photometry.io.ps1 import Ps1Catalog, Ps1Stars
from ztfmatch.references.kernels.flatness import Flatness, bin_of, flatness
from ztfmatch.references.schema.settings import FlatnessSettings
from ztfmatch.references.tasks.ps1 import differences, stars_of
from ztfmatch.references.tasks.rows import known
from ztfmatch.references.tasks.seeds import Seeds, seeds_of_store
from ztfmatch.references.tasks.stored import StoredReference

VALUES_PER_PASS: Final = 5_000_000
"""Differences held at a time, about: stars times exposures."""

DECIDING: Final = ("nflat", "origin", "magzp")
"""Columns of the ledger that tell which exposures are to be measured."""

_EPOCH: Final = ("exposureid", "psfflux", "xpos", "ypos", "catflags")
_BAD_EXPOSURE: Final = np.uint16(1 << 15)
"""Bit of catflags that says nothing of the detection itself."""


@dataclass(frozen=True)
class FlatnessTask:
    """References of the same place on the sky, whose exposures are to be measured."""

    key: str
    references: tuple[StoredReference, ...]
    ps1: Ps1Catalog
    settings: FlatnessSettings


@dataclass(frozen=True)
class MeasuredExposures:
    """Flatness of exposures, one value each."""

    exposureid: list[int]
    delta: list[float | None]
    rms: list[float | None]
    n: list[int]


def unmeasured(rows: pa.Table) -> pa.Table:
    """Ledger rows of exposures taken from catalogs that were not measured yet; needs :data:`DECIDING`."""
    own = pc.and_(pc.is_null(rows["nflat"]), pc.equal(rows["origin"].cast("string"), CATALOG))
    return rows.filter(pc.and_(own, pc.is_valid(rows["magzp"])))


@dataclass(frozen=True)
class _Pending:
    """Exposures of a unit to be measured, shape (E,) each, ascending by exposureid."""

    reference: StoredReference
    exposureid: Ints
    magzp: Floats
    clrcoeff: Floats
    commit: int
    """The first that ingested any of them."""


def measure_exposures(task: FlatnessTask) -> MeasuredExposures:
    """Measure exposures; one without any PS1 star has n = 0."""
    found = MeasuredExposures([], [], [], [])
    seeds = [seeds_of_store(reference) for reference in task.references]
    ra, dec = (np.concatenate([getattr(one, name) for one in seeds]) for name in ("ra", "dec"))
    stars = task.ps1.around(ra, dec)
    for reference, own in zip(task.references, seeds, strict=True):
        pending = _pending(reference)
        for part, flat in _measured(pending, own, stars, task.settings):
            decided = flat.decided(task.settings.min_bin)
            found.exposureid.extend(pending.exposureid[part].tolist())
            found.delta.extend(known(value) for value in np.where(decided, flat.delta, np.nan))
            found.rms.extend(known(value) for value in flat.rms)
            found.n.extend(flat.counts.sum(axis=1).tolist())
    return found


def _pending(reference: StoredReference) -> _Pending:
    rows = unmeasured(reference.exposures([*DECIDING, "clrcoeff", "commit"]))
    magzp, clrcoeff = (rows[name].to_numpy().astype(np.float64) for name in ("magzp", "clrcoeff"))
    return _Pending(reference, rows["exposureid"].to_numpy(), magzp, clrcoeff, pc.min(rows["commit"]).as_py() or 0)


def _measured(
    unit: _Pending, seeds: Seeds, stars: Ps1Stars, settings: FlatnessSettings
) -> Iterator[tuple[slice, Flatness]]:
    """Flatness of some exposures of a unit after the others, so many at a time as memory allows."""
    star, ps1, colour = stars_of(seeds, stars, settings)
    step = max(VALUES_PER_PASS // max(int((star >= 0).sum()), 1), 1)
    for first in range(0, len(unit.exposureid), step):
        part = slice(first, first + step)
        yield part, _flatness(unit, part, _Stars(seeds.objectid, ps1, colour), settings)


@dataclass(frozen=True)
class _Stars:
    """What PS1 says of seeds, shape (N,) each; NaN where it says nothing."""

    objectid: Ints
    ps1: Floats
    colour: Floats


def _flatness(unit: _Pending, part: slice, stars: _Stars, settings: FlatnessSettings) -> Flatness:
    exposureid, magzp, clrcoeff = unit.exposureid[part], unit.magzp[part], unit.clrcoeff[part]
    row_of = build_map(exposureid)
    held: list[tuple[Floats, Ints, Ints]] = []
    if np.isfinite(stars.ps1).any():
        wanted = Wanted(span=unit.reference.span)
        files = [file for file in unit.reference.files(DETECTIONS.name) if file.commit >= unit.commit]
        for chunk in iterate_lightcurves(unit.reference.storage, files, _EPOCH, wanted=wanted):
            seed = chunk.spread(find_sorted(stars.objectid, chunk.objectid))
            exposure = find_rows(row_of, chunk.columns["exposureid"]).astype(np.int64)
            keep = (seed >= 0) & (exposure >= 0) & ((chunk.columns["catflags"] & ~_BAD_EXPOSURE) == 0)
            keep &= np.isfinite(stars.ps1)[seed]
            seed, exposure = seed[keep], exposure[keep]
            columns = {name: chunk.columns[name][keep] for name in ("psfflux", "xpos", "ypos")}
            mag = _magnitudes(columns["psfflux"], magzp[exposure]) + clrcoeff[exposure] * stars.colour[seed]
            cell = bin_of(columns["xpos"].astype(np.float64), columns["ypos"].astype(np.float64))
            held.append((differences(mag, stars.ps1[seed], settings), cell, exposure))
    if not held:
        held.append((np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)))
    difference, cell, exposure = (np.concatenate(values) for values in zip(*held, strict=True))
    return flatness(difference, cell, exposure, len(exposureid), settings.min_bin)


def _magnitudes(flux: Singles, magzp: Floats) -> Floats:
    """Magnitudes, NaN where the flux is not positive."""
    found: Floats = np.where(flux > 0, unrounded_magnitudes(np.where(flux > 0, flux, np.float32(1.0)), magzp), np.nan)
    return found
