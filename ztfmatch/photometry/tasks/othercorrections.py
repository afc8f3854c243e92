"""Magnitudes with other corrections than the stored ones."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from ztfmatch.core.arrays import Ids
from ztfmatch.core.io.correctiondata import Colours
from ztfmatch.core.io.corrections import CorrectionFiles, read_corrections
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema import COLOURS, EXPOSURETERMS
from ztfmatch.core.schema.correctiondata import GRADIENT
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.photometry.tasks.comparison import TileLedger


@functools.lru_cache(maxsize=2)
def _read(place: str) -> CorrectionFiles:
    return read_corrections(Path(place))


class OtherCorrections:
    """A set applied to the exposures of a tile.

    Parameters
    ----------
    place : str
        Directory of the set, or of the survey's tables.
    ledger : TileLedger
    """

    def __init__(self, place: str, ledger: TileLedger) -> None:
        held = _read(place)
        columns = (values.tolist() for values in (ledger.field, ledger.rcid, ledger.fid))
        units = [Unit(*unit) for unit in zip(*columns, strict=True)]
        name = held.set.digest
        exposures = Calibration(
            units=units,
            magzp=ledger.magzp,
            error_model=np.full((len(units), 4), np.nan),
            corrections=[name if held.set.has(unit) else None for unit in units],
            mid_mjd=ledger.mid_mjd,
            gradient=gradients_of(held, ledger.exposureid),
            colours={name: _colours(held)},
        )
        self._photometer = Photometer(exposures, {name: held.set})

    def magnitudes(self, chunk: Lightcurves, exposure: Ids) -> Floats:
        """Of the epochs of lightcurves, whose exposures are given; shape (N,)."""
        names = ("psfflux", "psffluxerr", "xpos", "ypos")
        columns = {name: chunk.columns[name] for name in names}
        columns["objectid"] = np.repeat(chunk.objectid, np.diff(chunk.offsets))
        return np.asarray(self._photometer.measure(columns, exposure)["mag"].astype(np.float64))


def gradients_of(held: CorrectionFiles, exposureid: Ids) -> Floats:
    """Zero point and gradient of exposures, zero where a set has none; shape (E, 6)."""
    out = np.zeros((len(exposureid), len(GRADIENT)))
    table = held.tables.get(EXPOSURETERMS.name)
    if table is not None and len(table):
        table = table.sort_by("exposureid")
        place = find_sorted(table["exposureid"].to_numpy(), exposureid)
        numbers = np.stack([table[name].to_numpy() for name in GRADIENT], axis=1)
        out[place >= 0] = numbers[place[place >= 0]]
    return out


def _colours(held: CorrectionFiles) -> Colours:
    table = held.tables.get(COLOURS.name)
    if table is None:
        return Colours(np.zeros(0, np.int64), np.zeros(0, np.float32))
    table = table.sort_by("objectid")
    return Colours(table["objectid"].to_numpy(), table["colour"].to_numpy())
