"""A set of corrections in the format of the survey's own tables, as closely as it allows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from msgspec import Meta

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.corrections import CorrectionSet, read_corrections
from ztfmatch.core.io.localfiles import check_vacant
from ztfmatch.core.io.smoothsets import SmoothSet, between
from ztfmatch.core.io.surveytables import KNOTS, LAST_MAG, Spline, SurveyTables, write_survey_tables
from ztfmatch.core.kernels.smoothcorrections import DEGREE, curve_value
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.settings import checked_value
from ztfmatch.core.survey import FILTER_CODES, Channel
from ztfmatch.photometry.kernels.splines import basis_values

_MJD = Annotated[float, Meta(ge=50_000.0, le=100_000.0, description="an MJD of 50000 to 100000")]

_BRIGHT_MAG: Final = 10.0
"""To which the survey's form is fitted; its instructions take no brighter magnitudes."""
_STEP_MAG: Final = 0.05
_LEAST_RANGE_MAG: Final = 2.0
"""That the quadratic is fitted to, also where the set's own range is less or lies beyond."""
_POINTS: Final = 4
"""In each interval between knots, along x and y, at which splines are compared."""
_LAST_MJD: Final = 1e9
MMAG: Final = 1000.0


@dataclass(frozen=True, kw_only=True)
class ChannelForm:
    """How far the survey's form is from the corrections of a channel."""

    rcid: int
    filter: str
    map_rms_mmag: float
    map_most_mmag: float
    magnitude_most_mmag: float
    """Over magnitudes to 19.25."""


@dataclass(frozen=True, kw_only=True)
class SurveyFormReport(Displayable):
    """What was written."""

    corrections: str
    output: str
    channels: list[ChannelForm]
    units: int
    left_out: list[str]
    """Terms that the survey's form lacks."""


def export_survey_tables(
    corrections: str | os.PathLike[str], output: str | os.PathLike[str], mjd: float | None = None
) -> SurveyFormReport:
    """Write a set of corrections as the survey's tables.

    Parameters
    ----------
    corrections : Path
        Directory of a set.
    output : Path
        Must not exist, or be empty.
    mjd : float, optional
        As the corrections are at that time; by default as they are last.

    Raises
    ------
    CorrectionsError
        If the directory is not a set of corrections, or damaged.
    ConfigError
        If the set is of an older version, with one value a cell, the output is there, or the time is not an MJD.
    """
    corrections, output = Path(corrections), Path(output)
    if mjd is not None:
        mjd = checked_value(mjd, _MJD, "mjd")
    check_vacant(output, "tables")
    held = read_corrections(corrections)
    smooth = held.set.smooth
    if smooth is None:
        raise ConfigError(
            f"{corrections}: of an older ztfmatch, with one value a cell; the survey's form is a spline: calibrate anew"
        )
    tables, forms = survey_form(held.set, smooth, _LAST_MJD if mjd is None else mjd)
    write_survey_tables(output, tables)
    gradients = held.tables.get("exposureterms")
    left_out = {
        "time": len(smooth.channel) > len(forms),
        "colour": any(smooth.has_colour(channel) for channel in held.set.channels),
        "exposure": gradients is not None and len(gradients) > 0,
    }
    names = [name for name, there in left_out.items() if there]
    return SurveyFormReport(corrections=held.set.digest, output=str(output), channels=forms,
                            units=len(tables.fields), left_out=names)  # fmt: skip


def survey_form(corrections: CorrectionSet, smooth: SmoothSet, mjd: float) -> tuple[SurveyTables, list[ChannelForm]]:
    """Tables that add, as nearly as they can, what a set takes off at a time, and how near that is.

    The map becomes a spline with the survey's number of knots, by least squares over the quadrant, the magnitude term
    a quadratic that is constant beyond 19.25.
    """
    bias, splines, forms = {}, {}, []
    for channel in sorted(set(smooth.channel)):
        mine = np.flatnonzero([other == channel for other in smooth.channel])
        (first,), (second,), (weight,) = between(smooth.time[mine], np.array([mjd]))
        rows = ((mine[first], 1.0 - weight), (mine[second], weight))
        bias[channel], magnitude_most = _quadratic(smooth, rows)
        numbers = smooth.numbers
        coefficients = sum(part * numbers["maps"][row] for row, part in rows)
        knots = numbers["knots_x"][mine[0]], numbers["knots_y"][mine[0]]
        splines[channel], off = _refitted(*knots, np.asarray(coefficients))
        forms.append(_form(channel, off, magnitude_most))
    fields = {unit: -value for unit, value in corrections.offsets.items() if (unit.rcid, unit.fid) in bias}
    return SurveyTables(bias, splines, fields), forms


def _form(channel: Channel, off: Floats, magnitude_most: float) -> ChannelForm:
    rms, most = float(np.sqrt(np.mean(off**2))), float(np.abs(off).max())
    return ChannelForm(
        rcid=channel[0],
        filter=FILTER_CODES[channel[1]],
        map_rms_mmag=MMAG * rms,
        map_most_mmag=MMAG * most,
        magnitude_most_mmag=MMAG * magnitude_most,
    )


def _quadratic(smooth: SmoothSet, rows: tuple[tuple[int, float], ...]) -> tuple[tuple[float, float, float], float]:
    """a, b, c of what is added, and by how much that is off at most, mag; zero where there is no such term."""
    curves = smooth.numbers["curve"]
    bright = curves[rows[0][0], 0]
    if np.isnan(bright):
        return (0.0, 0.0, 0.0), 0.0
    mags = np.arange(np.clip(bright, _BRIGHT_MAG, LAST_MAG - _LEAST_RANGE_MAG), LAST_MAG + 1e-9, _STEP_MAG)
    taken = sum(part * np.array([curve_value(curves[row], mag, smooth.fade) for mag in mags]) for row, part in rows)
    c, b, a = np.polyfit(mags - LAST_MAG, -np.asarray(taken), 2)
    off = np.polyval([c, b, a], mags - LAST_MAG) + taken
    # Of (mag - 19.25), written out in mag.
    return (float(a - LAST_MAG * (b - LAST_MAG * c)), float(b - 2.0 * LAST_MAG * c), float(c)), float(np.abs(off).max())


def _refitted(knots_x: Floats, knots_y: Floats, coefficients: Floats) -> tuple[Spline, Floats]:
    """A spline with the survey's number of knots, of the other sign, and what it is off by at many places, mag."""
    own = coefficients.reshape(len(knots_y) - DEGREE - 1, len(knots_x) - DEGREE - 1)
    fewer_x, fewer_y = _fewer(knots_x), _fewer(knots_y)
    x, y = _between_knots(np.union1d(knots_x, fewer_x)), _between_knots(np.union1d(knots_y, fewer_y))
    values = basis_values(knots_y, y) @ own @ basis_values(knots_x, x).T
    along, up = basis_values(fewer_x, x), basis_values(fewer_y, y)
    fitted = np.linalg.pinv(up) @ values @ np.linalg.pinv(along).T
    return Spline(fewer_x, fewer_y, -fitted.T.ravel()), up @ fitted @ along.T - values


def _fewer(knots: Floats) -> Floats:
    """The survey's number of knots, placed where the given ones are dense."""
    if len(knots) == KNOTS:
        return knots
    inner = knots[DEGREE : len(knots) - DEGREE]
    places = np.interp(np.linspace(0.0, 1.0, KNOTS - 2 * DEGREE), np.linspace(0.0, 1.0, len(inner)), inner)
    return np.concatenate([np.full(DEGREE, knots[0]), places, np.full(DEGREE, knots[-1])])


def _between_knots(knots: Floats) -> Floats:
    """Positions in every interval, shape (_POINTS * intervals,)."""
    steps = (np.arange(_POINTS) + 0.5) / _POINTS
    return np.asarray((knots[:-1, None] + steps * np.diff(knots)[:, None]).ravel())
