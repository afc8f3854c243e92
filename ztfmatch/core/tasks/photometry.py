"""Magnitude, error and correction flags of detections, from what was measured and the calibration of their exposures.

One function for all that write or check them, so that they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.corrections import CorrectionSet
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.corrections import NO_CHANNEL, ExposureTerms, corrected_magnitudes
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import Unit

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Calibration:
    """What is known of some exposures, shape (E,) each."""

    units: Sequence[Unit]
    magzp: Floats
    error_model: Floats
    """A, B, C, D given at append, NaN for none, shape (E, 4)."""
    corrections: Sequence[str | None]
    """Name of the set of each exposure."""


class Photometer:
    """Makes magnitudes of detections.

    Parameters
    ----------
    exposures : Calibration
    sets : mapping of str to CorrectionSet
        All that the exposures name.
    """

    def __init__(self, exposures: Calibration, sets: Mapping[str, CorrectionSet]) -> None:
        self._magzp = exposures.magzp
        self._error_model = exposures.error_model.reshape(-1, 4).copy()
        self._sets: list[tuple[CorrectionSet, ExposureTerms]] = []
        for name in sorted({name for name in exposures.corrections if name is not None}):
            mine = [i for i, other in enumerate(exposures.corrections) if other == name]
            self._add(sets[name], exposures.units, mine)

    def _add(self, corrections: CorrectionSet, units: Sequence[Unit], mine: Sequence[int]) -> None:
        channel = np.full(len(units), NO_CHANNEL, np.int32)
        offset = np.full(len(units), np.nan)
        for i in mine:
            unit = units[i]
            channel[i] = corrections.row_of.get((unit.rcid, unit.fid), NO_CHANNEL)
            offset[i] = corrections.offsets.get(unit, np.nan)
            if unit in corrections.errors:
                self._error_model[i] = corrections.errors[unit]
        self._sets.append((corrections, ExposureTerms(channel, offset)))

    def measure(self, columns: Mapping[str, npt.NDArray[Any]], exposure: npt.NDArray[np.integer[Any]]) -> Arrays:
        """``mag``, ``magerr`` and ``corrflags`` of detections.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (N,)
            ``psfflux``, ``psffluxerr``, ``xpos``, ``ypos``.
        exposure : integer ndarray, shape (N,)
            Row of each detection's exposure.
        """
        rows = exposure.astype(np.int64, copy=False)
        wide = calibration.unrounded_magnitudes(columns["psfflux"], self._magzp[rows])
        if not self._sets:
            mag, flags = np.asarray(wide.astype(np.float32)), np.zeros(len(wide), np.uint8)
        else:
            mag, flags = self._correct(wide, columns, rows)
        return {"mag": mag, "magerr": self._errors(mag, columns, rows), "corrflags": flags}

    def _correct(
        self, wide: Floats, columns: Mapping[str, npt.NDArray[Any]], exposure: npt.NDArray[np.int64]
    ) -> tuple[calibration.Singles, npt.NDArray[np.uint8]]:
        x, y = columns["xpos"], columns["ypos"]
        corrections, terms = self._sets[0]
        mag, flags = corrected_magnitudes(wide, x, y, exposure, terms, corrections.tables)
        for corrections, terms in self._sets[1:]:  # exposures of a store have one set but for some moments
            rows = np.flatnonzero(terms.channel[exposure] != NO_CHANNEL)
            mag[rows], flags[rows] = corrected_magnitudes(
                wide[rows], x[rows], y[rows], exposure[rows], terms, corrections.tables
            )
        return mag, flags

    def _errors(
        self, mag: calibration.Singles, columns: Mapping[str, npt.NDArray[Any]], exposure: npt.NDArray[np.int64]
    ) -> calibration.Singles:
        """Model errors where the exposure has coefficients, else the catalog's sigma."""
        known = ~np.isnan(self._error_model[:, 0])
        if known.all():
            return calibration.model_errors_by_row(mag, exposure, self._error_model)
        sigma = calibration.sigma_errors(columns["psfflux"], columns["psffluxerr"])
        modelled = np.flatnonzero(known[exposure])
        if modelled.size:
            sigma[modelled] = calibration.model_errors_by_row(mag[modelled], exposure[modelled], self._error_model)
        return sigma
