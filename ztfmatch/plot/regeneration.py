"""Plot lightcurves before and after a reference was regenerated, side by side, with sky maps of the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from ztfmatch.core.arrays import Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Keywords, Row
from ztfmatch.plot.axes import DARK, GREY, PHASE_ZERO_HMJD, abscissa, style_axes
from ztfmatch.plot.curves import Curve, counted, curves_of, magnitude_limits
from ztfmatch.plot.files import metadata_of, save_figure
from ztfmatch.plot.legend import handle
from ztfmatch.query.regeneration import Regeneration

FOREIGN_COLOUR: Final = "#0072B2"
"""Of epochs that the old object should not have had; told apart from the colours of all bands."""

_SIZE_INCH: Final = (13.5, 3.9, 1.75)
_DPI: Final = 150
"""Width; height of a row; height of title and legend."""

_ENOUGH_FOREIGN: Final = 5
"""So many epochs of another source are a part of the story; fewer are arrows at the edge if they are far off."""


@dataclass(frozen=True)
class Story:
    """An object to show, and what is to be said of it."""

    title: str
    regeneration: Regeneration
    period: float | None = None
    """In days: fold, and show two cycles."""


@dataclass(frozen=True)
class _Look:
    """How epochs of one kind are drawn."""

    marker: str
    colour: str
    face: str
    alpha: float = 0.9

    def style(self, size: float) -> Keywords:
        filled = self.face != "none"
        return {
            "linestyle": "none",
            "marker": self.marker,
            "color": self.colour,
            "markersize": size,
            "markerfacecolor": self.face,
            "markeredgecolor": "white" if filled else self.colour,
            "markeredgewidth": 0.5 if filled else 1.1,
            "alpha": self.alpha,
        }


_MISSED = _Look("o", GREY, "none")
_FOREIGN = _Look("D", FOREIGN_COLOUR, FOREIGN_COLOUR)
_GIVEN_UP = _Look("D", FOREIGN_COLOUR, "none", 0.55)


def plot_regenerations(stories: Sequence[Story], path: Path, title: str) -> None:
    """Draw a row for each story: its lightcurve before, after, and its seeds and detections on the sky.

    Parameters
    ----------
    path : Path
        Its suffix tells the format: PNG, PDF or SVG.
    title : str
        Heads the picture.

    Raises
    ------
    ConfigError
        If there is no story, one of them has no epoch with a magnitude, or the suffix is another.
    """
    metadata_of(path)
    save_figure(regeneration_figure(stories, title), path, _DPI)


def regeneration_figure(stories: Sequence[Story], title: str) -> Figure:
    """The figure of :func:`plot_regenerations`."""
    if not stories:
        raise ConfigError("no object to draw: expected at least one that was retired")
    width, row, rest = _SIZE_INCH
    figure = Figure(figsize=(width, row * len(stories) + rest), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = GridSpec(len(stories), 3, figure, width_ratios=(1.0, 1.0, 0.66))
    for number, story in enumerate(stories):
        panels = [figure.add_subplot(grid[number, column]) for column in range(3)]
        _draw_story(panels, story)
    text = figure.suptitle(title, fontsize=16, fontweight="bold", color=DARK)
    text.set_parse_math(False)
    colours = list(dict.fromkeys(_curve(story).colour for story in stories))
    figure.legend(
        handles=_handles(colours, stories), loc="outside lower center", ncols=3, frameon=False, fontsize=10.5,
        labelcolor=DARK, columnspacing=1.8,
    )  # fmt: skip
    return figure


def _curve(story: Story) -> Curve:
    """Epochs of either object as one curve, all that have a magnitude."""
    epochs = story.regeneration.epochs
    one = np.full(epochs.num_rows, story.regeneration.old["objectid"])
    curves = curves_of(epochs.set_column(epochs.schema.get_field_index("objectid"), "objectid", pa.array(one)))
    if not curves:
        raise ConfigError(f"object {story.regeneration.old['objectid']}: no epoch has a magnitude")
    return curves[0]


def _draw_story(panels: Sequence[Axes], story: Story) -> None:
    change, curve = story.regeneration, _curve(story)
    mags = change.epochs["mag"].to_numpy().astype(np.float64)
    usable = np.isfinite(mags)
    was, now = change.was[usable], change.now[usable]
    limits = _limits(curve, was, now)
    own = _Look("o", curve.colour, curve.colour)
    size = float(np.clip(9.5 - 2.0 * math.log10(max(len(mags), 2)), 3.5, 6.5))
    parts = ([(own, was & now), (_MISSED, now & ~was), (_FOREIGN, was & ~now)], [(own, now), (_GIVEN_UP, was & ~now)])
    for axes, drawn, head in zip(panels, parts, _heads(change), strict=False):
        style_axes(axes)
        axes.set_ylim(limits[1], limits[0])
        _abscissa_of(axes, curve, story.period)
        for look, chosen in drawn:
            _draw(axes, curve, chosen, look, (size, story.period))
        _head(axes, 1.02, head, 11)
    panels[1].set_ylabel("")
    _head(panels[0], 1.10, f"{story.title}   {_named(change)}", 13, "bold")
    # A title of the axes would take part in the layout: room for the heads above it.
    panels[0].set_title(" \n ", fontsize=12)
    _draw_sky(panels[2], change, [(own, change.now), (_FOREIGN, change.was & ~change.now)])


def _limits(curve: Curve, was: Mask, now: Mask) -> tuple[float, float]:
    """Ends of the axis: of the star's own epochs, and of another source's unless they are few."""
    foreign = was & ~now
    shown = now | foreign if foreign.sum() >= _ENOUGH_FOREIGN or not now.any() else now
    names = ("hmjd", "mag", "magerr", "kind")
    return magnitude_limits([replace(curve, **{name: getattr(curve, name)[shown] for name in names})])


def _head(axes: Axes, height: float, text: str, size: float, weight: str = "normal") -> None:
    """A line above the axes, which may be longer than they are wide."""
    line = axes.text(0.0, height, text, transform=axes.transAxes, fontsize=size, color=DARK, fontweight=weight)
    line.set_parse_math(False)
    line.set_in_layout(False)


def _heads(change: Regeneration) -> tuple[str, str]:
    """What both panels show, in words."""
    n_was, n_now = int(change.was.sum()), int(change.now.sum())
    faults = [f"{change.regained} missed"] * bool(change.regained and change.new)
    faults += [f"{change.given_up} of another source"] * bool(change.given_up and change.new)
    before = f"BEFORE: {counted(n_was, 'epoch')}" + (f" ({', '.join(faults)})" if faults else "")
    after = "AFTER: no object" if change.new is None else f"AFTER: {counted(n_now, 'epoch')}"
    return before, after


def _named(change: Regeneration) -> str:
    """Old and new objectid."""
    new = "" if change.new is None else f" \N{RIGHTWARDS ARROW} {change.new['objectid']}"
    return f"{change.old['objectid']}{new} ({change.kind})"


def _abscissa_of(axes: Axes, curve: Curve, period: float | None) -> None:
    if period is None:
        margin = max(0.03 * float(np.ptp(curve.hmjd)), 0.5)
        axes.set_xlim(curve.hmjd[0] - margin, curve.hmjd[-1] + margin)
        axes.ticklabel_format(axis="x", useOffset=False, style="plain")
        axes.set_xlabel("HMJD (day)", fontsize=12, color=DARK)
    else:
        axes.set_xlim(0.0, 2.0)
        axes.set_xlabel(f"Phase (period {period:.6g} day, zero at HMJD {PHASE_ZERO_HMJD:.0f})", fontsize=12, color=DARK)


def _draw(axes: Axes, curve: Curve, chosen: Mask, look: _Look, how: tuple[float, float | None]) -> None:
    """Some epochs of a curve; those that carry a flag pale."""
    size, period = how
    for flagged in (True, False):
        rows = chosen & ((curve.kind != 0) == flagged)
        if not rows.any():
            continue
        x, times = abscissa(curve.hmjd[rows], period)
        mag, err = np.tile(curve.mag[rows], times), np.tile(np.nan_to_num(curve.magerr[rows]), times)
        style = look.style(size)
        style["alpha"] *= 0.4 if flagged else 1.0
        bright, faint = sorted(axes.get_ylim())
        inside = (mag >= bright) & (mag <= faint)
        axes.errorbar(x[inside], mag[inside], yerr=err[inside], elinewidth=0.8, zorder=3, **style)
        for marker, beyond, height in (("^", mag < bright, 0.97), ("v", mag > faint, 0.03)):
            edge = {"transform": axes.get_xaxis_transform(), **style, "marker": marker}
            axes.plot(x[beyond], np.full(int(beyond.sum()), height), zorder=3, **edge)


def _draw_sky(axes: Axes, change: Regeneration, parts: Sequence[tuple[_Look, Mask]]) -> None:
    """Detections around the seeds, in arcsec; east is left."""
    centre = change.new or change.old
    east, north = _offsets(change.epochs["ra"].to_numpy(), change.epochs["dec"].to_numpy(), centre)
    for look, chosen in parts:
        axes.plot(east[chosen], north[chosen], zorder=2, **look.style(4.0))
    reach = 1.15 * change.radius_arcsec
    for row, style, marker in ((change.old, "--", "+"), (change.new, "-", "x")):
        if row is None:
            continue
        (x,), (y,) = _offsets(np.array([row["ra"]]), np.array([row["dec"]]), centre)
        axes.add_patch(Circle((x, y), change.radius_arcsec, fill=False, linestyle=style, edgecolor=DARK, linewidth=1.2))
        axes.plot([x], [y], marker, color=DARK, markersize=10, markeredgewidth=2.0, zorder=4)
        reach = max(reach, abs(x) + 1.1 * change.radius_arcsec, abs(y) + 1.1 * change.radius_arcsec)
    axes.set_xlim(reach, -reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_title("WHY: on the sky", loc="left", fontsize=11, color=DARK)
    axes.set_xlabel("east (arcsec)", fontsize=11, color=DARK)
    axes.set_ylabel("north (arcsec)", fontsize=11, color=DARK)
    axes.tick_params(direction="in", color=GREY, labelcolor=DARK)
    for side in axes.spines.values():
        side.set_color(GREY)


def _offsets(ra: Floats, dec: Floats, centre: Row) -> tuple[Floats, Floats]:
    """Offsets east and north of a row's position in arcsec, on the plane; good for arcseconds."""
    turn = (ra - centre["ra"] + 180.0) % 360.0 - 180.0
    return turn * 3600.0 * np.cos(np.radians(centre["dec"])), (dec - centre["dec"]) * 3600.0


def _handles(colours: Sequence[str], stories: Sequence[Story]) -> list[Line2D]:
    changes = [story.regeneration for story in stories]
    radius = changes[0].radius_arcsec
    found = [handle("o", colour, "epoch of the star") for colour in colours]
    if any(change.regained for change in changes):
        found.append(handle("o", GREY, "missed by the old seed", "none"))
    if any(change.given_up for change in changes):
        found.append(handle("D", FOREIGN_COLOUR, "another source, taken for it"))
        found.append(handle("D", FOREIGN_COLOUR, "given up: now of a transient, orphans or its own object", "none"))
    return [
        *found,
        Line2D([], [], color=DARK, linestyle="--", label=f"old seed (+) and its match radius of {radius:g} arcsec"),
        Line2D([], [], color=DARK, linestyle="-", label="new seed (x) and its own"),
    ]
