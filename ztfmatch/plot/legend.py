"""Legend and title of a figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ztfmatch.core.kernels.sphere import arcsec_of_chord2, unit_vectors
from ztfmatch.core.kernels.starids import is_starid, name_of_star
from ztfmatch.core.survey import MAX_OBJECTID
from ztfmatch.plot.axes import DARK, GREY
from ztfmatch.plot.curves import MAX_LEGEND_CURVES, Curve, band, counted

_MOST_NAMED: Final = 3
"""Objects whose numbers are in the title; of more it is how many they are."""

_NOTES: Final = (
    ("o", "none", "flagged: bad exposure"),
    ("x", "none", "flagged: pixels or edge"),
    ("^", GREY, "beyond the axis"),
)
"""Marker, face and text in the legend of what is not an ordinary epoch."""


def handles_of(curves: Sequence[Curve], shapes: dict[int, str], n_outside: int) -> list[Line2D]:
    """Legend entries: the curves, and what marks that are no ordinary epochs mean."""
    flagged = np.bincount(np.concatenate([curve.kind for curve in curves]), minlength=3)[1:].tolist()
    notes = zip(_NOTES, (*flagged, n_outside), strict=True)
    return _curve_handles(curves, shapes) + [
        handle(marker, GREY, f"{text} ({count})", face) for (marker, face, text), count in notes if count
    ]


def _curve_handles(curves: Sequence[Curve], shapes: dict[int, str]) -> list[Line2D]:
    """One entry per band where that says all or the curves are many, else one per curve."""
    objects = Counter(curve.fid for curve in curves)
    epochs: Counter[int] = Counter()
    for curve in curves:
        epochs[curve.fid] += len(curve.hmjd)
    if max(objects.values()) == 1 or len(curves) > MAX_LEGEND_CURVES:
        looks = {curve.fid: (shapes[curve.objectid], curve.colour) for curve in curves}
        word = "transient" if all(curve.objectid > MAX_OBJECTID for curve in curves) else "object"
        of_objects = {fid: f"{count} {word}s, " if count > 1 else "" for fid, count in objects.items()}
        names = {fid: f"{band(fid)} ({of_objects[fid]}{counted(epochs[fid], 'epoch')})" for fid in objects}
        return [handle(*looks[fid], names[fid]) for fid in sorted(objects)]
    same = Counter(curve.label for curve in curves)
    sources = [f" #{curve.objectid % 10**8}" if same[curve.label] > 1 else "" for curve in curves]
    texts = [f"{c.label}{source} ({len(c.hmjd)})" for c, source in zip(curves, sources, strict=True)]
    return [handle(shapes[c.objectid], c.colour, text) for c, text in zip(curves, texts, strict=True)]


def handle(marker: str, colour: str, label: str, face: str | None = None) -> Line2D:
    """Legend entry of a marker."""
    return Line2D([], [], linestyle="none", marker=marker, color=colour, mfc=face or colour, markersize=7, label=label)


def add_legend(figure: Figure, handles: Sequence[Line2D], width_inch: float) -> None:
    """Put the legend below the axes, in as many columns as fit."""
    fontsize = 11.0 * min(1.0, max(0.7, width_inch / 10.0))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(4.0 * width_inch / fontsize))),
        frameon=False,
        fontsize=fontsize,
        labelcolor=DARK,
        handletextpad=0.2,
        columnspacing=1.6,
    )


def add_title(figure: Figure, axes: Axes, lines: Sequence[str], width_inch: float) -> None:
    """A bold line, and smaller ones below it; flush with the axes."""
    shrink = min(1.0, (width_inch - 1.0) / 10.0)
    head = figure.suptitle(lines[0], fontsize=16 * shrink, fontweight="bold", color=DARK, ha="left")
    rest = axes.set_title("\n".join(lines[1:]), fontsize=11 * shrink, color=GREY, loc="left", pad=8)
    for text in (head, rest):
        text.set_parse_math(False)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    head.set_x(axes.get_position().x0)


class Asked(Protocol):
    """What was asked for."""

    @property
    def title(self) -> str | None:
        """In words."""

    @property
    def place(self) -> tuple[float, float] | None:
        """Degrees, ICRS."""


def title_lines(epochs: pa.Table, curves: Sequence[Curve], asked: Asked) -> list[str]:
    """Lines of the title: what was asked for, the objects, where their epochs are."""
    n_without = epochs.num_rows - sum(len(curve.hmjd) for curve in curves)
    note = f"  |  {counted(n_without, 'epoch')} without magnitude not shown" if n_without else ""
    named = _named([curve.objectid for curve in curves])
    if asked.place is not None:
        named += separation_text(epochs, [curve.objectid for curve in curves], asked.place)
    many = asked.place is not None and len(curves) > MAX_LEGEND_CURVES
    where = [note.removeprefix("  |  ")] if many else [position_text(epochs) + note]
    return [*([] if asked.title is None else [asked.title]), named, *filter(None, where)]


def separation_text(epochs: pa.Table, ids: Sequence[int], place: tuple[float, float]) -> str:
    """How far objects are from a place in degrees: the mean of their epochs."""
    centre = unit_vectors(*(np.array([value]) for value in place))[0]
    xyz, objectid = unit_vectors(epochs["ra"].to_numpy(), epochs["dec"].to_numpy()), epochs["objectid"].to_numpy()
    shown = list(ids[:_MOST_NAMED]) if len(ids) <= _MOST_NAMED else np.unique(objectid).tolist()
    order = np.argsort(objectid, kind="stable")
    starts = np.searchsorted(objectid[order], shown)
    ends = np.searchsorted(objectid[order], shown, "right")
    means = np.array([xyz[order[low:high]].mean(axis=0) for low, high in zip(starts, ends, strict=True)])
    arcsec = arcsec_of_chord2(((means - centre) ** 2).sum(axis=1))
    if len(ids) > _MOST_NAMED:
        return f", {arcsec.min():.2f} to {arcsec.max():.2f} arcsec from there"
    return f"   {', '.join(f'{value:.2f}' for value in arcsec.tolist())} arcsec from there"


def _named(ids: Sequence[int]) -> str:
    """Objectids, transientids, names of stars, or how many there are of each."""
    ids = list(dict.fromkeys(ids))
    if all(map(is_starid, ids)):
        return counted(len(ids), "star") if len(ids) > _MOST_NAMED else ", ".join(map(name_of_star, ids))
    kinds = (("object", [i for i in ids if i <= MAX_OBJECTID]), ("transient", [i for i in ids if i > MAX_OBJECTID]))
    if len(ids) > _MOST_NAMED:
        return ", ".join(counted(len(some), kind) for kind, some in kinds if some)
    return "  ".join(f"{kind}id {', '.join(map(str, some))}" for kind, some in kinds if some)


def position_text(epochs: pa.Table) -> str:
    """Mean direction of the epochs, in degrees and sexagesimal."""
    mean = unit_vectors(epochs["ra"].to_numpy(), epochs["dec"].to_numpy()).mean(axis=0)
    ra = round(math.degrees(math.atan2(mean[1], mean[0])), 6) % 360.0
    dec = math.degrees(math.atan2(mean[2], math.hypot(mean[0], mean[1])))
    place = f"RA {round(ra, 5) % 360.0:.5f}  Dec {dec:+.5f}  (ICRS)   {_sexagesimal(ra, dec)}"
    return f"mean position of the epochs: {place}"


def _sexagesimal(ra: float, dec: float) -> str:
    """``HH:MM:SS.ss ±DD:MM:SS.s``."""
    minutes, centiseconds = divmod(round(ra * 24000.0) % (24 * 360000), 6000)
    arcmin, decisec = divmod(round(abs(dec) * 36000.0), 600)
    right = f"{minutes // 60:02d}:{minutes % 60:02d}:{centiseconds / 100:05.2f}"
    return f"{right} {'-' if dec < 0 else '+'}{arcmin // 60:02d}:{arcmin % 60:02d}:{decisec / 10:04.1f}"
