"""Types of arrays by dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
"""Numbers of rows."""
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]
Array = npt.NDArray[Any]
Arrays = dict[str, Array]
"""Columns of some rows, by name."""
