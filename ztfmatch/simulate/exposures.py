"""Schedule and conditions of exposures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.camera import Pointing, field_centre
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, fracday_of_mjd
from ztfmatch.simulate.config import NIGHT, SLOT_S, SLOTS_PER_NIGHT, SimulationConfig

_TAG_SCHEDULE, _TAG_EXPOSURE, _TAG_CHANNEL, _TAG_RESPONSE = 301, 302, 303, 304

EXPID_EPOCH_MJD: Final = 57_754.0
"""The survey's expid counts 1e-5 days from here (2017-01-01)."""

MAX_NAME_LAG_S: Final = 118.0
"""How much later than the time in the file name an exposure may start, as measured on real ones."""

_PROGRAMS: Final = (0.4, 0.4, 0.2)
_ZERO_POINT: Final = {1: (26.52, 0.20), 2: (26.45, 0.15), 3: (25.83, 0.07)}
"""Zero point at airmass 0 and extinction per airmass, by filter id."""

_COLOUR_TERM: Final = {1: -0.045, 2: 0.105, 3: 0.03}
BAD_KINDS: Final = ("good", "cloud", "scatter", "few matches")
INFOBITS_UNUSABLE: Final = 33_554_432


@dataclass(frozen=True)
class Exposure:
    """One opening of the shutter; all its channels share it."""

    field: int
    fid: int
    fracday: int
    obsmjd: float
    expid: int
    programid: int
    airmass: float
    seeing: float
    depth: float
    """Part of the reference's stars within reach."""
    bad: str
    """One of ``BAD_KINDS``."""
    pointing: Pointing

    @property
    def mid_mjd(self) -> float:
        """Middle of the exposure, MJD."""
        return self.obsmjd + DEFAULT_EXPTIME_S / 2 / 86_400


@dataclass(frozen=True)
class Conditions:
    """Calibration of one channel of one exposure, as its header states it."""

    magzp: float
    magzpunc: float
    magzprms: float
    clrcoeff: float
    clrcounc: float
    nmatches: int
    infobits: int


def schedule(config: SimulationConfig) -> list[Exposure]:
    """All exposures in order of time; no two overlap.

    Parameters
    ----------
    config : SimulationConfig
        Validated.
    """
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, _TAG_SCHEDULE]))
    targets = [(field, fid) for field in config.fields for fid in config.filters]
    visits = rng.permutation(np.repeat(np.arange(len(targets)), config.n_exposures))
    taken: set[int] = set()
    found = []
    for slot, target in zip(_slots(rng, config, len(visits)), visits.tolist(), strict=True):
        night, place = divmod(slot, SLOTS_PER_NIGHT)
        start = int(config.start_mjd) + night + NIGHT[0] + (place * SLOT_S + rng.uniform(0.0, 10.0)) / 86_400
        lag_s = rng.uniform(0.0, MAX_NAME_LAG_S) if rng.random() < 0.5 else 0.0
        obsmjd = round(start, 7)
        fracday = fracday_of_mjd(obsmjd - lag_s / 86_400)
        while fracday in taken:
            fracday -= 1
        taken.add(fracday)
        found.append(_exposure(config, targets[target], fracday, obsmjd))
    return found


def _slots(rng: np.random.Generator, config: SimulationConfig, n: int) -> list[int]:
    """Distinct slots of the survey in order, spread over all its nights."""
    if n < config.n_nights:
        nights = np.sort(rng.choice(config.n_nights, n, replace=False))
        slots = nights * SLOTS_PER_NIGHT + rng.integers(0, SLOTS_PER_NIGHT, n)
    else:
        slots = np.sort(rng.choice(config.n_nights * SLOTS_PER_NIGHT, n, replace=False))
    return [int(slot) for slot in slots]


def _exposure(config: SimulationConfig, target: tuple[int, int], fracday: int, obsmjd: float) -> Exposure:
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, _TAG_EXPOSURE, fracday]))
    field, fid = target
    bad = BAD_KINDS[1 + int(rng.integers(3))] if rng.random() < config.bad_fraction else "good"
    scatter = float(np.clip(rng.standard_normal(), -3.0, 3.0)) * config.depth_scatter
    depth = config.epoch_depth * np.exp(scatter) * (0.5 if bad == "cloud" else 1.0)
    dither = np.clip(rng.standard_normal(2), -4.0, 4.0) * config.dither_arcsec / 3600.0
    rotation = float(np.clip(rng.standard_normal(), -3.0, 3.0)) * config.rotation_deg
    return Exposure(
        field=field,
        fid=fid,
        fracday=fracday,
        obsmjd=obsmjd,
        expid=int((obsmjd - EXPID_EPOCH_MJD) * 1e5),
        programid=1 + int(rng.choice(3, p=_PROGRAMS)),
        airmass=round(1.0 + 1.2 * float(rng.beta(1.2, 3.0)), 3),
        seeing=round(float(np.clip(2.0 * np.exp(0.2 * rng.standard_normal()), 1.3, 4.5)), 3),
        depth=min(float(depth), 1.0),
        bad=bad,
        pointing=Pointing(*field_centre(field), (float(dither[0]), float(dither[1])), rotation),
    )


def conditions(config: SimulationConfig, exposure: Exposure, rcid: int) -> Conditions:
    """Zero point, colour term and quality of a channel of an exposure.

    Bad exposures break one of the survey's limits on zero point, its scatter, or the number of calibrators;
    good ones keep all of them.
    """
    seed, fid = config.seed, exposure.fid
    own = np.random.default_rng(np.random.SeedSequence([seed, _TAG_CHANNEL, exposure.fracday, rcid]))
    shared = np.random.default_rng(np.random.SeedSequence([seed, _TAG_EXPOSURE, exposure.fracday, fid]))
    channel = np.random.default_rng(np.random.SeedSequence([seed, _TAG_RESPONSE, rcid, fid]))
    zero, extinction = _ZERO_POINT[fid]
    magzp = zero - extinction * exposure.airmass + 0.04 * _bounded(channel)
    magzp += 0.015 * _bounded(shared) + 0.005 * _bounded(own)
    cloud = shared.uniform(1.2, 2.0)
    if exposure.bad == "cloud":
        magzp -= cloud + 0.05 * _bounded(own)
    rms = own.uniform(0.09, 0.25) if exposure.bad == "scatter" else own.uniform(0.018, 0.038)
    few = exposure.bad == "few matches"
    nmatches = int(own.integers(10, 75) if few else own.integers(250, 600))
    return Conditions(
        magzp=round(magzp, 6),
        magzpunc=round(float(rms / np.sqrt(nmatches)) / 100.0, 9),
        magzprms=round(float(rms), 6),
        clrcoeff=round(_COLOUR_TERM[fid] + 0.008 * _bounded(channel) + 0.006 * _bounded(own), 6),
        clrcounc=round(float(own.uniform(1e-5, 5e-5)), 9),
        nmatches=nmatches,
        infobits=INFOBITS_UNUSABLE if few else 0,
    )


def _bounded(rng: np.random.Generator) -> float:
    return float(np.clip(rng.standard_normal(), -2.5, 2.5))


def depth_limit(magnitudes: Floats, depth: float) -> float:
    """Magnitude that a part ``depth`` of the sorted magnitudes is brighter than."""
    if len(magnitudes) == 0 or depth >= 1.0:
        return 23.5
    return float(magnitudes[int(depth * len(magnitudes))])
