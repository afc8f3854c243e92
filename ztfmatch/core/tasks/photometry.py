"""Magnitude, error and correction flags of detections, from measured values and the calibration of their exposures.

One function for all that write or check them, so that they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Arrays, Ints, Mask, Singles
from ztfmatch.core.io.correctiondata import Colours, CorrectionData
from ztfmatch.core.io.corrections import CorrectionSet
from ztfmatch.core.io.rows import units_of_rows
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.corrections import NO_CHANNEL, ExposureTerms, corrected_magnitudes
from ztfmatch.core.kernels.smoothcorrections import smoothly_corrected
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.ledger import mid_exposures


@dataclass(frozen=True)
class Calibration:
    """What is known of some exposures, shape (E,) each."""

    units: Sequence[Unit]
    magzp: Floats
    error_model: Floats
    """A, B, C, D given at append, NaN for none, shape (E, 4)."""
    corrections: Sequence[str | None]
    """Name of the set of each exposure."""
    mid_mjd: Floats
    """Middle of the exposure."""
    gradient: Floats
    """Zero point and gradient, zero for none, shape (E, 6)."""
    colours: Mapping[str, Colours]
    """Of objects, by set; of those sets that have a colour term."""

    @classmethod
    def of(cls, ledger: Mapping[str, Sequence[Any]], sets: Sequence[str | None], data: CorrectionData,
           known: Mapping[str, CorrectionSet]) -> Calibration:  # fmt: skip
        """From columns of the ledger.

        Parameters
        ----------
        ledger : mapping of str to sequence, shape (E,)
            ``exposureid``, ``field``, ``rcid``, ``fid``, ``magzp``, ``obsmjd``, ``exptime``, ``errora`` ... ``errord``.
        sets : sequence of str or None, shape (E,)
            Name of the set of each exposure.
        data : CorrectionData
        known : mapping of str to CorrectionSet
            What the exposures name.
        """
        units = units_of_rows(ledger)
        models = [[np.nan if v is None else v for v in ledger[f"error{letter}"]] for letter in "abcd"]
        return cls(
            units,
            np.array([np.nan if value is None else value for value in ledger["magzp"]], np.float64),
            np.array(models, np.float64).T.reshape(-1, 4),
            sets,
            mid_exposures(ledger["obsmjd"], ledger["exptime"]),
            data.gradients(sets, ledger["field"], np.array(ledger["exposureid"], np.int64)),
            colours_of(units, sets, data, known),
        )


def colours_of(
    units: Sequence[Unit], sets: Sequence[str | None], data: CorrectionData, known: Mapping[str, CorrectionSet]
) -> dict[str, Colours]:
    """Colours of the objects of exposures' units, by set, of those that have a colour term."""
    wanted: dict[str, set[Unit]] = {}
    for unit, name in zip(units, sets, strict=True):
        if name is not None and (smooth := known[name].smooth) is not None and smooth.has_colour((unit.rcid, unit.fid)):
            wanted.setdefault(name, set()).add(unit)
    return {name: data.colours(name, of) for name, of in wanted.items()}


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
        self._sets: list[_Corrector] = []
        for name in sorted({name for name in exposures.corrections if name is not None}):
            mine = np.array([other == name for other in exposures.corrections], bool)
            self._add(sets[name], exposures, mine)

    def _add(self, corrections: CorrectionSet, exposures: Calibration, mine: Mask) -> None:
        for i in np.flatnonzero(mine).tolist():
            if (unit := exposures.units[i]) in corrections.errors:
                self._error_model[i] = corrections.errors[unit]
        kind = _CellCorrector if corrections.smooth is None else _SmoothCorrector
        self._sets.append(kind(corrections, exposures, mine))

    def measure(self, columns: Mapping[str, Array], exposure: npt.NDArray[np.integer[Any]]) -> Arrays:
        """``mag``, ``magerr`` and ``corrflags`` of detections.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (N,)
            ``psfflux``, ``psffluxerr``, ``xpos``, ``ypos``; ``objectid`` of epochs.
        exposure : integer ndarray, shape (N,)
            Row of each detection's exposure.
        """
        rows = exposure.astype(np.int64, copy=False)
        wide = calibration.unrounded_magnitudes(columns["psfflux"], self._magzp[rows])
        made = _Made.uncorrected(wide) if not self._sets else self._correct(wide, columns, rows)
        error = self._errors(made.mag, columns, rows)
        if made.blur is not None and made.blur.any():
            error = np.where(made.blur > 0, np.sqrt(error * error + made.blur * made.blur), error)
        return {"mag": made.mag, "magerr": error, "corrflags": made.flags}

    def _correct(self, wide: Floats, columns: Mapping[str, Array], exposure: Ints) -> _Made:
        names = ["xpos", "ypos", *(["objectid"] if "objectid" in columns else [])]
        made = self._sets[0].correct(wide, {name: columns[name] for name in names}, exposure)
        for corrector in self._sets[1:]:  # exposures of a store have one set but for some moments
            rows = np.flatnonzero(corrector.has[exposure])
            some = corrector.correct(wide[rows], {name: columns[name][rows] for name in names}, exposure[rows])
            made = made.with_rows(rows, some)
        return made

    def _errors(self, mag: Singles, columns: Mapping[str, Array], exposure: Ints) -> Singles:
        """Model errors where the exposure has coefficients, else the catalog's sigma."""
        known = ~np.isnan(self._error_model[:, 0])
        if known.all():
            return calibration.model_errors_by_row(mag, exposure, self._error_model)
        sigma = calibration.sigma_errors(columns["psfflux"], columns["psffluxerr"])
        modelled = np.flatnonzero(known[exposure])
        if modelled.size:
            sigma[modelled] = calibration.model_errors_by_row(mag[modelled], exposure[modelled], self._error_model)
        return sigma


@dataclass(frozen=True)
class _Made:
    """Of some detections, shape (N,) each."""

    mag: Singles
    flags: npt.NDArray[np.uint8]
    blur: Singles | None = None
    """What their magnitudes are uncertain by beside their own errors; None for nothing."""

    @classmethod
    def uncorrected(cls, wide: Floats) -> _Made:
        return cls(np.asarray(wide.astype(np.float32)), np.zeros(len(wide), np.uint8))

    def with_rows(self, rows: Ints, other: _Made) -> _Made:
        """The same with some rows of another."""
        self.mag[rows], self.flags[rows] = other.mag, other.flags
        blur = self.blur
        if other.blur is not None:
            blur = np.zeros(len(self.mag), np.float32) if blur is None else blur
            blur[rows] = other.blur
        return _Made(self.mag, self.flags, blur)


class _Corrector(Protocol):
    """Takes the corrections of one set off."""

    has: Mask
    """Which exposures it has something for."""

    def correct(self, wide: Floats, columns: Mapping[str, Array], exposure: Ints) -> _Made:
        """Magnitudes of detections."""
        ...


class _CellCorrector:
    """Of a set with one value a cell, and none beyond the ends of its ranges."""

    def __init__(self, corrections: CorrectionSet, exposures: Calibration, mine: Mask) -> None:
        row_of, units = corrections.row_of, exposures.units
        channel = [
            row_of.get((unit.rcid, unit.fid), NO_CHANNEL) if one else NO_CHANNEL
            for unit, one in zip(units, mine.tolist(), strict=True)
        ]
        self._terms = ExposureTerms(np.array(channel, np.int32), _offsets(corrections, units, mine))
        self._tables = corrections.tables
        self.has = self._terms.channel != NO_CHANNEL

    def correct(self, wide: Floats, columns: Mapping[str, Array], exposure: Ints) -> _Made:
        return _Made(*corrected_magnitudes(wide, columns["xpos"], columns["ypos"], exposure, self._terms, self._tables))


class _SmoothCorrector:
    """Of a set that is continuous."""

    def __init__(self, corrections: CorrectionSet, exposures: Calibration, mine: Mask) -> None:
        smooth, tables = corrections.smooth, corrections.smooth_tables
        if smooth is None or tables is None:
            raise ValueError("the set is not continuous")
        units = list(exposures.units)
        offset = _offsets(corrections, units, mine)
        terms = smooth.exposures(units, exposures.mid_mjd, offset, exposures.gradient)
        before, after = (np.where(mine, rows, np.int32(-1)) for rows in (terms.before, terms.after))
        self._terms = terms._replace(before=before, after=after)
        self._tables = tables
        self._colours = exposures.colours.get(corrections.digest)
        self.has = before >= 0

    def correct(self, wide: Floats, columns: Mapping[str, Array], exposure: Ints) -> _Made:
        colour = np.full(len(wide), np.nan, np.float32)
        if self._colours is not None and "objectid" in columns:
            colour = self._colours.of(columns["objectid"])
        place = (columns["xpos"], columns["ypos"])
        return _Made(*smoothly_corrected(wide, place, colour, exposure, self._terms, self._tables))


def _offsets(corrections: CorrectionSet, units: Sequence[Unit], mine: Mask) -> Floats:
    """Offset of the unit of each exposure that has the set; NaN for none."""
    found = [corrections.offsets.get(unit, np.nan) for unit in units]
    return np.where(mine, found, np.nan).astype(np.float64)
