"""Named arrays as one staged file, for results of tasks that other tasks sum up."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.storage import Storage


def encode_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Bytes of some arrays, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(values) for name, values in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_arrays(storage: Storage, path: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays that :func:`encode_arrays` made bytes of."""
    return decode_arrays(storage.read(path))


def decode_arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The same of their bytes."""
    with np.load(io.BytesIO(content)) as held:
        return dict(held)
