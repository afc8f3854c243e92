"""Plot very many lightcurves as a density of epochs in time and magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.plot.axes import DARK, abscissa
from ztfmatch.plot.curves import Curve

MOST_CURVES: Final = 100
"""Curves that are drawn point by point; of more it is the density of their epochs."""

_CELLS: Final = (220, 120)


def draw_density(axes: Axes, curves: Sequence[Curve], limits: tuple[float, float], period: float | None) -> None:
    """Draw how many clean epochs are in each cell of time, or phase, and magnitude, on axes that have their limits."""
    clean = [curve.kind == 0 for curve in curves]
    hmjd: Floats = np.concatenate([curve.hmjd[good] for curve, good in zip(curves, clean, strict=True)])
    mag: Floats = np.concatenate([curve.mag[good] for curve, good in zip(curves, clean, strict=True)])
    x, times = abscissa(hmjd, period)
    counts, *edges = np.histogram2d(x, np.tile(mag, times), bins=_CELLS, range=(axes.get_xlim(), limits))
    norm = LogNorm(1.0, max(float(counts.max()), 2.0))
    image = axes.pcolormesh(*edges, np.where(counts > 0, counts, np.nan).T, cmap="viridis", norm=norm, rasterized=True)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=40)
    bar.set_label(f"clean epochs in a cell, of {len(curves):,} objects", fontsize=10, color=DARK)
