"""A real reference catalog instead of the simulated sky."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.camera import Plane, Pointing, QuadrantMap, field_centre, unit_vectors
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.survey import Unit
from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.sky import Region, Sky, close_pairs
from ztfmatch.simulate.stars import Stars, redder_bands
from ztfmatch.simulate.variability import TRANSIENT, draw_kinds

_TAG_REAL: Final = 601
_KEYS: Final = ("FIELDID", "RCID", "FILTERID", "MAGZP")
_COLUMNS: Final = ("sourceid", "ra", "dec", "mag")


@dataclass(frozen=True)
class RealReference:
    """What a simulation takes from a refpsfcat."""

    path: Path
    unit: Unit
    sourceid: Floats
    ra: Floats
    dec: Floats
    calibrated: Floats
    clrcoeff: float


def read_reference(path: Path) -> RealReference:
    """Read a refpsfcat.

    Raises
    ------
    CatalogError
        If it is no FITS file or lacks a key or column that the simulation needs.
    """
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            header, table = hdus[0].header, hdus[1].data
            unit = Unit(*(int(header[key]) for key in _KEYS[:3]))
            columns = [np.asarray(table[name], dtype=np.float64) for name in _COLUMNS]
            zero, colour = float(header["MAGZP"]), float(header.get("CLRCOEFF", 0.0))
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CatalogError(
            "not-refpsfcat", f"{path} cannot serve as reference: {error}; it needs keys {_KEYS}, columns {_COLUMNS}"
        ) from error
    sourceid, ra, dec, mag = columns
    good = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(mag)
    return RealReference(
        path=path,
        unit=unit,
        sourceid=sourceid[good],
        ra=ra[good],
        dec=dec[good],
        calibrated=mag[good] + zero,
        clrcoeff=colour,
    )


def real_config(config: SimulationConfig, reference: RealReference) -> SimulationConfig:
    """Return the configuration with the reference's own field, channel and filter."""
    unit = reference.unit
    return replace(config, fields=(unit.field,), rcids=(unit.rcid,), filters=(unit.fid,))


def real_region(config: SimulationConfig, reference: RealReference) -> Region:
    """Return a region whose stars are the reference's sources, with their sourceid as star_id.

    Transients come from the simulated sky.
    """
    unit = reference.unit
    quadrant = QuadrantMap.of_rcid(unit.rcid)
    pointing = Pointing(*field_centre(unit.field))
    xyz = unit_vectors(reference.ra, reference.dec)
    quadrant = _centred(quadrant, pointing.project(xyz))
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, _TAG_REAL, unit.field, unit.rcid, unit.fid]))
    variation = draw_kinds(rng, config, reference.calibrated, 0)
    r, i = redder_bands(rng, reference.calibrated)
    bands = variation.restyled(reference.calibrated, r, i)
    shift = _to_reference(bands, reference)
    g, r, i = (band + shift for band in bands)
    mark = np.zeros(len(g))
    ids = reference.sourceid.astype(np.int64)
    stars = Stars(
        star_id=ids, xyz=xyz, ra=reference.ra, dec=reference.dec, g=g, r=r, i=i, mark=mark, **variation._asdict()
    )
    both = Stars.concatenate([stars, _transients(config, unit)])
    return Region(unit.field, unit.rcid, pointing, quadrant, _without_blends(both, pointing))


def _centred(quadrant: QuadrantMap, plane: Plane) -> QuadrantMap:
    """Move the quadrant onto the catalog: a real reference lies up to two arcmin off its nominal place."""
    middle = [float(v.min() + v.max()) / 2 for v in plane]
    return replace(quadrant, origin=(middle[0], middle[1]))


def _to_reference(bands: tuple[Floats, Floats, Floats], reference: RealReference) -> Floats:
    """Return what to add to all bands so that the colour term gives back the reference's magnitudes."""
    g, r, i = bands
    colour = r - i if reference.unit.fid == 3 else g - r
    return reference.calibrated + reference.clrcoeff * colour - bands[reference.unit.fid - 1]


def _transients(config: SimulationConfig, unit: Unit) -> Stars:
    stars = Sky(config).region(unit.field, unit.rcid).stars
    return stars.take(stars.kind == TRANSIENT)


def _without_blends(stars: Stars, pointing: Pointing) -> Stars:
    """Without the transients that stand within 2 arcsec of a star."""
    one, other = close_pairs(stars.xyz, pointing.project(stars.xyz), 2.0)
    near = np.zeros(len(stars), dtype=bool)
    near[one] = near[other] = True
    return stars.take(~(near & (stars.kind == TRANSIENT)))
