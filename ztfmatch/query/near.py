"""The surroundings of an empty position: the nearest object, and the exposures that cover it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.camera import Pointing, QuadrantMap, field_grid
from ztfmatch.core.display import Displayable
from ztfmatch.core.io.rows import FOOTPRINT, UNIT, active_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.sphere import arcsec_of_chord2, unit_vector
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.survey import FILTER_CODES, QUADRANT_SHAPE_PIX
from ztfmatch.query.area import Cone

_REACHES_ARCSEC: Final = (10.0, 60.0, 300.0, 1800.0)
"""Circles in which the nearest object is looked for, one after the other."""
_FIELD_RADIUS_DEG: Final = 6.0
_DITHER_PIX: Final = 200.0
"""How far an exposure's image may be from where its field's plan has it."""
_COLUMNS: Final = (*UNIT, *FOOTPRINT)


@dataclass(frozen=True, kw_only=True)
class Near(Displayable):
    """The surroundings of a place.

    Attributes
    ----------
    ra, dec : float
        Degrees, ICRS.
    objectid : int or None
        The nearest active object; None if there is none within half a degree.
    separation_arcsec : float or None
        How far it is.
    exposures : dict
        Number of exposures whose image holds the place, by filter (``zg``, ``zr``, ``zi``). It is that of the field's
        plan, so that the last 3 arcmin at the edges may be wrong by an exposure's dither.
    """

    ra: float
    dec: float
    objectid: int | None
    separation_arcsec: float | None
    exposures: dict[str, int]

    def __str__(self) -> str:
        shown = ", ".join(f"{number:,} in {name.removeprefix('z')}" for name, number in self.exposures.items())
        exposed = f"exposures of the place: {shown}" if shown else "no exposure covers the place"
        if self.objectid is None:
            return f"there is no object within half a degree, and {exposed}"
        return f"the nearest is {self.objectid}, {self.separation_arcsec:.1f} arcsec away; {exposed}"


def near(snapshot: SnapshotFiles, ra: float, dec: float) -> Near:
    """What a snapshot has near a place in degrees."""
    cone = Cone(ra, dec, _REACHES_ARCSEC[-1])
    objectid, separation = _nearest(snapshot, cone)
    return Near(
        ra=ra % 360.0, dec=dec, objectid=objectid, separation_arcsec=separation, exposures=exposures_of(snapshot, cone)
    )


def _nearest(snapshot: SnapshotFiles, place: Cone) -> tuple[int | None, float | None]:
    """The nearest active object and how far it is."""
    for reach in _REACHES_ARCSEC:
        cone = Cone(place.ra, place.dec, reach)
        best: tuple[float, int] | None = None
        for tile in cone.tiles(snapshot.tiling):
            rows = snapshot.object_positions(tile)
            rows = rows.filter(pa.array(cone.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
            rows = active_rows(rows)
            if rows.num_rows:
                separation = cone.separation(rows["ra"].to_numpy(), rows["dec"].to_numpy())
                row = int(separation.argmin())
                found = float(separation[row]), int(rows["objectid"][row].as_py())
                best = found if best is None else min(best, found)
        if best is not None:
            return best[1], best[0]
    return None, None


def exposures_of(snapshot: SnapshotFiles, place: Cone) -> dict[str, int]:
    """Number of exposures whose image holds a place, by filter."""
    counts: Counter[int] = Counter()
    fields = _fields(snapshot, place)
    parts = [snapshot.ledger_of_fields(file, _COLUMNS, fields) for file in snapshot.ledger]
    ledger = pa.concat_tables(parts) if parts else EXPOSURES.empty
    for field in fields:
        rows = ledger.filter(pc.equal(ledger["field"], field))
        counts.update(rows["fid"].to_numpy()[_holds(rows, field, place)].tolist())
    return {FILTER_CODES.get(fid, f"fid {fid}"): counts[fid] for fid in sorted(counts)}


def _fields(snapshot: SnapshotFiles, place: Cone) -> list[int]:
    """Fields whose exposures may hold a place: those of the survey's grid near it, and those of references there."""
    grid = field_grid()
    numbers = np.array(list(grid))
    centres = np.array(list(grid.values()))
    near_grid = numbers[place.separation(centres[:, 0], centres[:, 1]) < _FIELD_RADIUS_DEG * 3600.0]
    rows = snapshot.footprints
    far_deg = np.abs(rows["dec"].to_numpy() - place.dec)  # at least
    rows = rows.filter(pa.array(far_deg <= rows["radius"].to_numpy() + 1e-6))
    inside = _in_caps(rows, place)
    return sorted({*near_grid.tolist(), *rows["field"].to_numpy()[inside].tolist()})


def _in_caps(rows: pa.Table, place: Cone) -> np.ndarray:
    """Whether the circle about each row's sources holds a place."""
    chord2 = ((unit_vector(rows["ra"].to_numpy(), rows["dec"].to_numpy()) - place.centre) ** 2).sum(axis=1)
    return np.asarray(arcsec_of_chord2(chord2) <= rows["radius"].to_numpy() * 3600.0)


def _holds(rows: pa.Table, field: int, place: Cone) -> np.ndarray:
    """Whether each exposure holds a place: the circle about its sources does, and, in the plan, its quadrant."""
    there = ~rows["ra"].is_null().to_numpy()
    held = np.zeros(rows.num_rows, bool)
    held[there] = _in_caps(rows.filter(pa.array(there)), place)
    if field not in field_grid():
        return held
    rcid = rows["rcid"].to_numpy()
    holding = [one for one in np.unique(rcid[held]).tolist() if _in_quadrant(field, one, place)]
    return np.asarray(held & np.isin(rcid, holding))


def _in_quadrant(field: int, rcid: int, place: Cone) -> bool:
    """Whether the image of a quadrant holds a place, as the plan of its field has it."""
    plane = Pointing(*field_grid()[field]).project(place.centre[:, None])
    x, y = (float(value[0]) for value in QuadrantMap.of_rcid(rcid).to_pixels(plane))
    columns, lines = QUADRANT_SHAPE_PIX
    return -_DITHER_PIX < x < columns + _DITHER_PIX and -_DITHER_PIX < y < lines + _DITHER_PIX
