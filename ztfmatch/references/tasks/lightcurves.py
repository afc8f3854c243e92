"""Quality of a reference from a store's lightcurves: seeds never seen, sources without a seed, offsets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import read_table
from ztfmatch.core.io.rows import UNIT, rows_of_unit
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TRANSIENTS
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.references.kernels.flatness import flatness, medians_of_runs
from ztfmatch.references.schema.settings import LightcurveSettings, ReferenceSettings
from ztfmatch.references.tasks.rows import flatness_row
from ztfmatch.references.tasks.seeds import Seeds
from ztfmatch.references.tasks.stored import StoredReference

_EPOCH: Final = ("ra", "dec", "mag", "catflags")
_TRANSIENT: Final = (*UNIT, "nobs", "firsthmjd", "lasthmjd")
_STEP_MAG: Final = 0.5
_FEWEST: Final = 10
"""Seeds of a step of magnitude from which it is known how often such are seen."""

_TWICE: Final = 2
"""A source that a new reference would hold is seen twice at least: single orphans are mostly noise."""

_MOST_EPOCHS: Final = 0.5
"""Part of the exposures in which most seeds of a step are seen, where exposures are deep enough."""


@dataclass(frozen=True)
class _Exposures:
    """Of a unit, shape (E,) each."""

    exposureid: Ints
    """Ascending."""
    good: Mask
    """Which are not bad."""
    span_day: float
    """From the first of them to the last."""


@dataclass(frozen=True)
class _Medians:
    """Of the good epochs of each seed, shape (N,)."""

    seen: Ints
    """Good exposures with an epoch."""
    mag: Floats
    """Of at least so many clean epochs as count; NaN with fewer."""
    offset: Floats
    """East and north of the seed, arcsec, shape (2, N); NaN with too few epochs."""


def lightcurve_row(seeds: Seeds, reference: StoredReference, settings: ReferenceSettings) -> Row:
    """What lightcurves tell of a reference."""
    limits, exposures = settings.lightcurves, _exposures(reference)
    medians = _medians(seeds, reference, exposures.exposureid[exposures.good], limits)
    good = int(exposures.good.sum())
    seen = medians.seen / max(good, 1)
    judged = _inside(seeds, limits) & (seeds.mag < _complete_to(seeds.mag, seen, _inside(seeds, limits)))
    compared = (seeds.mag >= settings.flatness.bright) & (seeds.mag <= settings.flatness.faint)
    difference = np.where(compared, medians.mag - seeds.mag, np.nan)
    names = ("nlc", "nlcbin", "lcbins", "lcdelta", "lcrms")
    return {
        "nexposures": good,
        "njudged": int(judged.sum()),
        "nseen": int((seen > limits.missing_seen).sum()),
        "nspurious": int((judged & (seen < limits.spurious_seen)).sum()),
        "seedoffset": _largest_offset(medians.offset, compared, seeds.bins, settings.flatness.min_bin),
        **flatness_row(names, difference, seeds.bins, settings.flatness.min_bin),
        **_transients(reference, exposures, limits),
    }


def _exposures(reference: StoredReference) -> _Exposures:
    rows = reference.exposures(["quality", "obsmjd"])
    good = pc.not_equal(rows["quality"].cast("string"), BAD).to_numpy()
    return _Exposures(
        rows["exposureid"].to_numpy(), good, float(np.ptp(rows["obsmjd"].to_numpy())) if len(good) else 0.0
    )


def _medians(seeds: Seeds, reference: StoredReference, good: Ints, limits: LightcurveSettings) -> _Medians:
    """Of epochs in good exposures."""
    n = len(seeds.objectid)
    got = _Medians(np.zeros(n, np.int64), np.full(n, np.nan), np.full((2, n), np.nan))
    known = build_map(good)
    wanted = Wanted(span=reference.span)
    files = reference.files(DETECTIONS.name)
    for chunk in iterate_lightcurves(reference.storage, files, _EPOCH, wanted=wanted):
        seed = find_sorted(seeds.objectid, chunk.objectid)
        keep = find_rows(known, chunk.columns["exposureid"]) >= 0
        keep &= chunk.spread(seed >= 0)
        own, left = chunk.of_epochs(keep)
        seed = seed[left]
        counts = np.diff(own.offsets)
        got.seen[seed] = counts
        enough = counts >= limits.min_epochs
        for axis, offsets in enumerate(_offsets(own, seeds, np.repeat(seed, counts))):
            got.offset[axis, seed] = np.where(enough, medians_of_runs(offsets, own.offsets), np.nan)
        got.mag[seed] = _median_magnitudes(own, limits.min_epochs)
    return got


def _offsets(curves: Lightcurves, seeds: Seeds, seed: Ints) -> tuple[Floats, Floats]:
    """East and north of its seed of each epoch, arcsec; right ascension may wrap."""
    east = (curves.columns["ra"] - seeds.ra[seed] + 180.0) % 360.0 - 180.0
    north = curves.columns["dec"] - seeds.dec[seed]
    return 3600.0 * east * np.cos(np.radians(seeds.dec[seed])), 3600.0 * north


def _median_magnitudes(curves: Lightcurves, min_epochs: int) -> Floats:
    clean = (curves.columns["catflags"] == 0) & np.isfinite(curves.columns["mag"])
    part, left = curves.of_epochs(clean)
    found = np.full(len(curves.objectid), np.nan)
    medians = medians_of_runs(part.columns["mag"].astype(np.float64), part.offsets)
    found[left] = np.where(np.diff(part.offsets) >= min_epochs, medians, np.nan)
    return found


def _inside(seeds: Seeds, limits: LightcurveSettings) -> Mask:
    """Seeds that are on the image in every exposure, however it was dithered."""
    x, y = seeds.pixels
    columns, rows = QUADRANT_SHAPE_PIX
    margin = limits.margin_pix
    return np.asarray((x > margin) & (x < columns - margin) & (y > margin) & (y < rows - margin))


def _complete_to(mag: Floats, seen: Floats, inside: Mask) -> float:
    """Magnitude to which exposures see a seed for sure, told by how often seeds of each half magnitude are seen.

    It is the bright end of the faintest step, from bright ones on, of which most seeds are seen in most exposures. So
    nothing needs to be known of the exposures' limits.
    """
    known = np.isfinite(mag) & inside
    step = np.floor(np.where(known, mag, 0.0) / _STEP_MAG).astype(np.int64)
    complete = -math.inf
    for k in np.unique(step[known]).tolist():
        own = seen[known & (step == k)]
        if len(own) < _FEWEST:
            continue
        if np.median(own) >= _MOST_EPOCHS:
            complete = k * _STEP_MAG
        elif complete > -math.inf:
            break
    return complete


def _largest_offset(offset: Floats, compared: Mask, bins: Ints, min_bin: int) -> float | None:
    """Largest of the bins' median offsets, arcsec; None if no bin has enough seeds."""
    group = np.zeros(len(bins), np.int64)
    east, north = (flatness(np.where(compared, axis, np.nan), bins, group, 1, min_bin) for axis in offset)
    enough = east.counts[0] >= min_bin
    return float(np.hypot(east.cells, north.cells)[0][enough].max()) if enough.any() else None


def is_grouped(snapshot: SnapshotFiles) -> bool:
    """Whether it is known which orphans recur: they were grouped once, or there are none."""
    return snapshot.files.has(TRANSIENTS.name) or not snapshot.files.has(ORPHANS.name)


def _transients(reference: StoredReference, exposures: _Exposures, limits: LightcurveSettings) -> Row:
    """Sources without a seed, and their epochs; None where orphans were never grouped."""
    if not is_grouped(reference.snapshot):
        return {"nmissing": None, "nwon": None}
    files = reference.snapshot.of_tiles(TRANSIENTS.name, reference.tiles)
    rows = rows_of_unit(read_table(reference.storage, files, TRANSIENTS, _TRANSIENT), reference.unit)
    nobs, lasting = rows["nobs"].to_numpy(), rows["lasthmjd"].to_numpy() - rows["firsthmjd"].to_numpy()
    number = len(exposures.exposureid)
    stays = _chance_of_span(nobs, lasting / max(exposures.span_day, 1.0)) >= limits.won_chance
    won = nobs[stays & (nobs >= max(limits.won_seen * number, _TWICE))]
    return {"nmissing": int((nobs > limits.missing_seen * number).sum()), "nwon": int(won.sum())}


def _chance_of_span(n: Ints, part: Floats) -> Floats:
    """Chance that n times, drawn evenly from a time, lie within a part of it: n p^(n-1) - (n-1) p^n."""
    chance: Floats = n * np.clip(part, 0.0, 1.0) ** (n - 1) - (n - 1) * np.clip(part, 0.0, 1.0) ** n
    return chance
