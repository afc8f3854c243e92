"""Measurements as plain values, None where there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.tasks.inspect import Row
from ztfmatch.references.kernels.flatness import Flatness, Ints, flatness


def known(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if math.isfinite(value) else None


def flatness_row(difference: Floats, bins: Ints, min_bin: int) -> Row:
    """Flatness of one reference: n, nbin, bins, delta, rms, offset."""
    flat: Flatness = flatness(difference, bins, np.zeros(len(bins), np.int64), 1, min_bin)
    return {
        "n": int(flat.counts.sum()),
        "nbin": flat.counts[0].tolist(),
        "bins": [known(value) for value in flat.cells[0]],
        "delta": known(flat.delta[0]),
        "rms": known(flat.rms[0]),
        "offset": known(flat.median[0]),
    }
