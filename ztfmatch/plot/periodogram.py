"""Periods of a star: the multiband Lomb-Scargle periodogram."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vector
from ztfmatch.plot.axes import DARK, GREY, own_axes
from ztfmatch.plot.curves import counted, curves_of

_FEWEST: Final = 10
_ONE_STAR_ARCSEC: Final = 5.0
"""Objects of one star, of any field and filter, are no farther from their mean position."""
_MOST_FREQUENCIES: Final = 2_000_000
_OVERSAMPLING: Final = 8.0
_FINE: Final = 201
_LEAST_MAG: Final = 1e-6
"""Magnitudes are 32-bit floats: what differs by less is the same."""


@dataclass(frozen=True)
class Periodogram:
    """Power at each frequency."""

    frequency: Floats = field(repr=False)
    """Per day, ascending, evenly spaced, shape (N,)."""
    power: Floats = field(repr=False)
    """Fraction of the variance explained by a sine of one period and phase in each band, shape (N,)."""
    period: float
    """Days; of the highest peak, found to a hundredth of the spacing with a wave of two terms. Of an eclipsing star it
    is often half of its own."""
    epochs: int
    """Good epochs that it is made of."""

    def plot(self, axes: Axes | None = None, title: str | None = None) -> Axes:
        """Draw it, to axes that are given or to new ones of pyplot."""
        axes = own_axes((9.0, 4.0)) if axes is None else axes
        axes.plot(self.frequency, self.power, color=DARK, linewidth=0.7)
        axes.axvline(1.0 / self.period, color="#B2182B", linewidth=4.0, alpha=0.25, zorder=0)
        axes.set_xlim(self.frequency[0], self.frequency[-1])
        axes.set_ylim(0.0, None)
        axes.set_xlabel("Frequency (1/day)", fontsize=12, color=DARK)
        axes.set_ylabel("Power", fontsize=12, color=DARK)
        axes.grid(True, color="#E4E4E4", linewidth=0.8)
        peak = f"highest peak at {self.period:.7g} day, power {self.power.max():.2f}"
        said = f"{peak}, {counted(self.epochs, 'good epoch')}"
        axes.set_title(said if title is None else f"{title}\n{said}", fontsize=11, color=GREY, loc="left")
        return axes


def periodogram_of(epochs: pa.Table, shortest_day: float = 0.1, longest_day: float | None = None) -> Periodogram:
    """Periodogram of the good epochs (catflags = 0) of one star, of all bands, fields and channels.

    Each object has a mean of its own, and its epochs weigh by 1/magerr^2; the power is that of astropy's
    ``LombScargle`` of what remains.

    Parameters
    ----------
    epochs : pyarrow.Table
        As for :func:`plot_lightcurves`; one star, whose objects are within some arcsec of each other.
    shortest_day, longest_day : float
        Periods; the longest is by default the time between the first epoch and the last.

    Raises
    ------
    ConfigError
        If they are of several stars, there are too few epochs, or periods make no sense.
    """
    from astropy.timeseries import LombScargle

    _refuse_several(epochs)
    curves = [curve for curve in curves_of(epochs) if np.count_nonzero(curve.kind == 0) > 1]
    time, residual, error = (
        (np.concatenate([np.zeros(0), *parts]) for parts in zip(*(_residuals(curve) for curve in curves), strict=True))
        if curves
        else (np.zeros(0), np.zeros(0), np.zeros(0))
    )
    if len(time) < _FEWEST:
        raise ConfigError(f"{counted(len(time), 'good epoch')}: a periodogram needs {_FEWEST}")
    span = float(np.ptp(time))
    longest = span if longest_day is None else longest_day
    if not 0.0 < shortest_day < longest < math.inf:
        raise ConfigError(f"periods from {shortest_day} to {longest:.6g} day: expected the shortest one first")
    if np.abs(residual).max() < _LEAST_MAG:
        raise ConfigError("all good epochs have the same magnitude: no period explains a variation")
    number = int(_OVERSAMPLING * span * (1.0 / shortest_day - 1.0 / longest)) + 2
    if number > _MOST_FREQUENCIES:
        raise ConfigError(f"{number:,} frequencies: raise shortest_day ({shortest_day}); at most {_MOST_FREQUENCIES:,}")
    frequency = np.linspace(1.0 / longest, 1.0 / shortest_day, number)
    search: Any = LombScargle(time, residual, error)
    power = search.power(frequency, assume_regular_frequency=True)
    best, step = frequency[int(power.argmax())], frequency[1] - frequency[0]
    fine = np.linspace(max(best - step, frequency[0]), best + step, _FINE)
    period = 1.0 / fine[int(LombScargle(time, residual, error, nterms=2).power(fine).argmax())]
    return Periodogram(frequency, power, float(period), len(time))


def _refuse_several(epochs: pa.Table) -> None:
    """Refuse epochs of objects that are far from each other."""
    if not epochs.num_rows:
        return
    objects = epochs.group_by("objectid").aggregate([("ra", "min"), ("dec", "min")])
    at = unit_vector(objects["ra_min"].to_numpy(), objects["dec_min"].to_numpy())
    apart = float(np.sqrt(((at - at.mean(axis=0)) ** 2).sum(axis=1).max()) * ARCSEC_PER_RADIAN)
    if apart > _ONE_STAR_ARCSEC:
        number = counted(objects.num_rows, "object")
        raise ConfigError(f"{number} within {apart:.3g} arcsec: a periodogram is of one star; ask for a smaller cone")


def _residuals(curve: Any) -> tuple[Floats, Floats, Floats]:
    """Times, magnitudes about the weighted mean, and errors, of the good epochs of an object."""
    good = (curve.kind == 0) & (curve.magerr > 0.0)
    mag, error = curve.mag[good], curve.magerr[good]
    mean = np.average(mag, weights=error**-2.0) if len(mag) else 0.0
    return curve.hmjd[good], mag - mean, error
