"""Measurements as plain values; None where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Row
from ztfmatch.references.kernels.flatness import Flatness, flatness


def known(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if math.isfinite(value) else None


def flatness_row(names: Sequence[str], difference: Floats, bins: Ints, min_bin: int) -> Row:
    """Flatness of one reference, under some names: number, that of each bin, its median, delta, rms, offset."""
    flat: Flatness = flatness(difference, bins, np.zeros(len(bins), np.int64), 1, min_bin)
    medians = [known(value) for value in flat.cells[0]]
    figures = [known(one[0]) for one in (flat.delta, flat.rms, flat.median)]
    return dict(zip(names, [int(flat.counts.sum()), flat.counts[0].tolist(), medians, *figures], strict=False))
