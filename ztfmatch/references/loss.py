"""Loss of sky coverage by criteria: units with a reference that would have too few images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Array, Mask
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import FILTER_CODES, units_of_codes
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.kernels.selection import CRITERIA
from ztfmatch.references.plan import Known
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.selection import Images, judge

NMINS: Final = (15, 10)
"""Fewest images that the survey compares."""

STEPS: Final = 11
"""Values of a threshold that is varied."""

_BOUNDS: Final = {
    "fwhm": ("fwhm", (0, 1)),
    "magzp": ("magzp", (0, 1)),
    "clrcoeff": ("clrcoeff", (0, 1)),
    "maglimit": ("maglimit", (0,)),
    "median": ("median", (1,)),
    "rms": ("rms", (1,)),
    "flatness": ("flatdelta flatrms", (1,)),
}
"""Criteria with thresholds: columns, and which bounds they have: 0 the lower, 1 the upper."""

_SPREAD: Final = (2.0, 98.0)
"""Percentiles of an image quantity between which a threshold is varied."""


def coverage_loss(images: Images, known: Known) -> list[Row]:
    """By fewest images and filter: units with a reference now, those that the criteria leave one, percent lost.

    ``gained`` are units without a reference that would have one.
    """
    passed = np.bincount(images.unit[images.bits == 0], minlength=len(images.code))
    return [
        {"filter": name, "nmin": nmin, **_loss(images, known, passed >= nmin, fid)}
        for nmin in NMINS
        for fid, name in FILTER_CODES.items()
        if (images.fid == fid).any() or (units_of_codes(known.code)[2] == fid).any()
    ]


def _loss(images: Images, known: Known, enough: Mask, fid: int) -> Row:
    now = int((units_of_codes(known.code)[2] == fid).sum())
    own = enough & (images.fid == fid)
    new = int(np.isin(images.code[own], known.code).sum())
    return {"now": now, "new": new, "lost_percent": 100.0 * (1.0 - new / now) if now else None,
            "gained": int(own.sum()) - new}  # fmt: skip


def retune(source: ImageSource, known: Known, settings: ReferenceSettings) -> list[Row]:
    """Loss against each threshold of each filter, one at a time, the others as they are set.

    Thresholds are varied over the values that images have; the one that is set is among them (``current``).
    """
    applied = {name: of for name, of in _BOUNDS.items() if name not in settings.select.without}
    columns = [column for names, _ in applied.values() for column in names.split()]
    images = judge(source, settings, keep=columns)
    return [row for name, (names, bounds) in applied.items() for column in names.split() for bound in bounds
            for row in _of_bound(images, known, settings, (name, column, bound))]  # fmt: skip


def _of_bound(images: Images, known: Known, settings: ReferenceSettings, which: tuple[str, str, int]) -> Iterator[Row]:
    name, column, bound = which
    number = [criterion.name for criterion in CRITERIA].index(name)
    others = (images.bits & ~np.uint16(1 << number)) == 0
    others &= _other_bounds(images, settings, which)
    for fid, code in FILTER_CODES.items():
        own = np.flatnonzero(others & (images.fid[images.unit] == fid))
        if not len(own):
            continue
        values, unit = images.kept[column][own], images.unit[own]
        current = _thresholds(settings, name, column, fid)[bound]
        for value in _steps(values, current):
            good = (values >= value) if bound == 0 else (values <= value)
            enough = np.bincount(unit[good], minlength=len(images.code)) >= settings.select.nmin
            yield {
                "criterion": name,
                "column": column,
                "bound": ("low", "high")[bound],
                "filter": code,
                "value": value,
                "current": value == current,
                **_loss(images, known, enough, fid),
            }


def _other_bounds(images: Images, settings: ReferenceSettings, which: tuple[str, str, int]) -> Mask:
    """Whether images are within the bounds of the same criterion that are not varied."""
    name, column, bound = which
    fid = images.fid[images.unit]
    within = np.ones(len(images.unit), bool)
    for other in _BOUNDS[name][0].split():
        for side in (0, 1):
            limits = np.array([_thresholds(settings, name, other, k)[side] for k in (1, 2, 3)])[fid - 1]
            if (other, side) != (column, bound):
                values = images.kept[other]
                limits = limits.astype(values.dtype)
                within &= (values >= limits) if side == 0 else (values <= limits)
    return within


def _thresholds(settings: ReferenceSettings, name: str, column: str, fid: int) -> tuple[float, float]:
    """Lower and upper bound that are set; infinite where there is none."""
    if name == "flatness":
        return -np.inf, getattr(settings.flatness.limits.of(fid), column.removeprefix("flat"))
    value: Any = getattr(settings.select, name).of(fid)
    if isinstance(value, tuple):
        return value
    return (value, np.inf) if _BOUNDS[name][1] == (0,) else (-np.inf, value)


def _steps(values: Array, current: float) -> list[float]:
    """Values of a threshold, ascending, with the current one."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, _SPREAD).tolist() if len(known) else (current, current)
    return sorted({*np.linspace(low, high, STEPS).round(4).tolist(), current})
