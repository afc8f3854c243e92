"""Residual of every unit at its position on the sky: a few fields close up, or the whole sky."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ztfmatch.core.camera import Plane, Pointing, field_grid, quadrant_corners, sky_positions
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES, N_RCID
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import unit_means
from ztfmatch.photometry.report.pictures.style import (
    DARK,
    GREY,
    NO_DATA,
    PALE,
    colour_bar,
    colour_scale,
    new_figure,
    nice_limit,
    phase_titles,
    style,
)
from ztfmatch.plot.projection import hammer

_NEAR_DEG: Final = (60.0, 75.0)
"""Fields that span no more right ascension, and are no nearer to a pole, are drawn from near."""

_HALF_FIELD_DEG: Final = 3.75
_OUTLINE_POINTS: Final = 16


def draw_sky(sums: Sums) -> Figure:
    """Mean residual of each unit, a row a filter and a column a phase; east is left."""
    centres = {field: field_grid()[field] for field in sorted({u.field for u in sums.units}) if field in field_grid()}
    view = _View.of(np.array(list(centres.values())).reshape(-1, 2))
    figure = new_figure(0.9 + view.row_inch(sums.phases) * len(sums.filters))
    panels = figure.subplots(len(sums.filters), sums.phases, squeeze=False, sharex=True, sharey=True)
    means = {(fid, p): unit_means(sums, p, fid) for fid in sums.filters for p in range(sums.phases)}
    scale = colour_scale(nice_limit(np.array([v for held in means.values() for v in held.values()]), 2.0))
    outlines = [view.project(_outline(centre)) for centre in centres.values()]
    quadrants = {field: view.project(_quadrants(centre)) for field, centre in centres.items()}
    for row, fid in zip(panels, sums.filters, strict=True):
        for phase, axes in enumerate(row):
            held = {key: mean for key, mean in means[fid, phase].items() if key[0] in centres}
            shapes = [quadrants[field][rcid] for field, rcid in held]
            filled = PolyCollection(shapes, array=np.array(list(held.values())), cmap=scale.cmap, norm=scale.norm,
                                    edgecolors=GREY if view.near else "face", linewidths=0.3, zorder=2)  # fmt: skip
            view.frame(axes)
            axes.add_collection(
                PolyCollection(outlines, facecolors=NO_DATA, edgecolors=GREY, linewidths=0.4, zorder=1.5)
            )
            axes.add_collection(filled)
            axes.set_title(f"{FILTER_CODES[fid]}, {phase_titles(sums.phases)[phase]}", fontsize=11, color=DARK)
            if len(centres) <= 12:
                _name_fields(axes, view, centres)
        view.label(row[0], left=True)
    for axes in panels[-1]:
        view.label(axes, below=True)
    colour_bar(
        figure, scale, panels.ravel().tolist(), "mean of observed \N{MINUS SIGN} PS1 by unit (mmag); grey: no data"
    )
    return figure


def _name_fields(axes: Axes, view: _View, centres: dict[int, tuple[float, float]]) -> None:
    for field, centre in centres.items():
        (x, y), *_ = view.project(np.array([centre]))
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1.0}
        axes.text(x, y, f"field {field}", ha="center", va="center", fontsize=8.5, color=DARK, bbox=box, zorder=4)


def _quadrants(centre: tuple[float, float]) -> Floats:
    """Right ascension and declination of the corners of all quadrants of a field, degrees, shape (64, 4, 2)."""
    corners = np.concatenate([quadrant_corners(rcid) for rcid in range(N_RCID)])
    return _deprojected(centre, corners).reshape(N_RCID, 4, 2)


def _outline(centre: tuple[float, float]) -> Floats:
    """Border of a field, shape (N, 2)."""
    along = np.linspace(-1.0, 1.0, _OUTLINE_POINTS, endpoint=False)
    one = np.ones_like(along)
    border = np.concatenate([np.stack(side, axis=-1) for side in ((along, -one), (one, along), (-along, one),
                                                                  (-one, -along))])  # fmt: skip
    return _deprojected(centre, _HALF_FIELD_DEG * border)


def _deprojected(centre: tuple[float, float], plane: Floats) -> Floats:
    xyz = Pointing(*centre).deproject(Plane(plane[:, 0], plane[:, 1]))
    return np.stack(sky_positions(xyz), axis=-1)


class _View:
    """A projection of the sky."""

    def __init__(self, middle: float, declinations: tuple[float, float], span: float) -> None:
        self.declinations, self.span = declinations, span
        self.near = span <= _NEAR_DEG[0] and max(abs(d) for d in declinations) <= _NEAR_DEG[1]
        self.middle = middle if self.near else round(middle / 30.0) * 30.0 % 360.0

    @classmethod
    def of(cls, centres: Floats) -> _View:
        """View that shows all fields with these centres, degrees."""
        if not len(centres):
            return cls(180.0, (-90.0, 90.0), 360.0)
        ra = np.sort(centres[:, 0] % 360.0)
        gaps = np.diff(ra, append=ra[0] + 360.0)
        widest = int(np.argmax(gaps))
        span = 360.0 - float(gaps[widest])
        middle = (float(ra[(widest + 1) % len(ra)]) + span / 2.0) % 360.0
        low, high = float(centres[:, 1].min()), float(centres[:, 1].max())
        return cls(middle, (low, high), span)

    def row_inch(self, phases: int) -> float:
        """Height of a row of panels."""
        width = 9.0 / phases
        if not self.near:
            return width / 2.0 + 0.5
        low, high = self._window()
        across = 2.0 * self._half_width() * np.cos(np.radians(self._central_declination()))
        return float(np.clip(width * (high - low) / across, 1.4, 6.0)) + 0.5

    def _central_declination(self) -> float:
        return 0.5 * sum(self.declinations)

    def _window(self) -> tuple[float, float]:
        return self.declinations[0] - 1.2 * _HALF_FIELD_DEG, self.declinations[1] + 1.2 * _HALF_FIELD_DEG

    def _half_width(self) -> float:
        """Degrees of right ascension from the middle to the edge."""
        return self.span / 2.0 + 1.3 * _HALF_FIELD_DEG / float(np.cos(np.radians(max(map(abs, self._window())))))

    def project(self, positions: Floats) -> Floats:
        """Place on the picture of shapes of positions, degrees, shape (..., N, 2).

        A shape at the seam does not come apart: it is where its first position is, and ends at the seam.
        """
        ra, dec = positions[..., 0], positions[..., 1]
        first = (ra[..., :1] - self.middle + 180.0) % 360.0 - 180.0
        east = first + (ra - ra[..., :1] + 180.0) % 360.0 - 180.0
        return np.stack([east, dec], axis=-1) if self.near else hammer(np.clip(east, -180.0, 180.0), dec)

    def frame(self, axes: Axes) -> None:
        """Limits and lines of right ascension and declination."""
        style(axes)
        if self.near:
            axes.set_xlim(self._half_width(), -self._half_width())
            axes.set_ylim(*self._window())
            axes.set_aspect(1.0 / np.cos(np.radians(self._central_declination())))
            ends = self.middle - self._half_width(), self.middle + self._half_width()
            ticks = [tick for tick in MaxNLocator(6).tick_values(*ends) if ends[0] <= tick <= ends[1]]
            axes.set_xticks([tick - self.middle for tick in ticks], [f"{tick % 360.0:g}" for tick in ticks])
            return
        axes.set_axis_off()
        axes.set_xlim(2.9, -2.9)
        axes.set_ylim(-1.5, 1.5)
        axes.set_aspect("equal")
        self._graticule(axes)

    def _graticule(self, axes: Axes) -> None:
        line = np.linspace(-1.0, 1.0, 181)
        for dec in range(-60, 90, 30):
            axes.plot(*hammer(180.0 * line, np.full(181, float(dec))).T, color=PALE, linewidth=0.7, zorder=1)
            x, y = hammer(np.array([180.0]), np.array([float(dec)]))[0]
            axes.text(x + 0.06, y, f"{dec:+d}°", ha="right", va="center", fontsize=8, color=GREY)
        for east in range(-180, 181, 30):
            edge = GREY if abs(east) == 180 else PALE
            axes.plot(*hammer(np.full(181, float(east)), 90.0 * line).T, color=edge, linewidth=0.7, zorder=1)
            if abs(east) < 180 and east % 60 == 0:
                ra = round((east + self.middle) % 360.0)
                x, y = hammer(np.array([float(east)]), np.zeros(1))[0]
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8}
                axes.text(x, y, f"{ra}°", ha="center", va="center", fontsize=7.5, color=DARK, zorder=3.5, bbox=box)

    def label(self, axes: Axes, left: bool = False, below: bool = False) -> None:
        """Labels of the axes."""
        if left and self.near:
            axes.set_ylabel("declination (deg)", fontsize=10.5, color=DARK)
        if below and self.near:
            axes.set_xlabel("right ascension (deg)", fontsize=10.5, color=DARK)
