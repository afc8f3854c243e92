"""Objects to link: all of a tile, and those of neighbouring tiles within reach."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ztfmatch.core.io.parquet import DataFile, read_file_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.kernels.reach import inside, planes_around
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vectors
from ztfmatch.core.kernels.tiling import FINE_ORDER, REACH_ORDER, Pixels, Tile, border, fine_pixels, ring
from ztfmatch.core.schema.sky import ACTIVE

_COLUMNS: Final = ("objectid", "ra", "dec", "refsnr", "status")

Objects = npt.NDArray[Any]

OBJECT: Final = np.dtype(
    [("objectid", "i8"), ("ra", "f8"), ("dec", "f8"), ("snr", "f4"), ("active", "?"), ("own", "?")]
)
"""What is needed of an object, and whether it lies in the tile itself."""
NO_OBJECTS: Final = np.zeros(0, OBJECT)

REACH_ARCSEC: Final = 30.0
"""What is farther from a tile has no part in its stars nor in their names; 20 would do. So much is kept at least."""

_FILES_KEPT: Final = 8
"""Files that a process keeps: after the edge of a file is read, the rest is soon needed."""

EDGES_KEPT: Final = 32
"""Files whose objects at the edge of their tile a process keeps: tiles are worked through in order, and those of one
are looked at by all tiles around it."""


def read_objects(storage: Storage, file: DataFile) -> Objects:
    """All objects of a file, as its tile's own; not to be written to."""
    table = read_file_rows(storage, file, _COLUMNS)
    status = table["status"].unify_dictionaries().combine_chunks()
    rows = np.empty(table.num_rows, OBJECT)
    for name, column in zip(("objectid", "ra", "dec", "snr"), _COLUMNS[:4], strict=True):
        rows[name] = table[column].to_numpy()
    rows["active"] = status.indices.to_numpy() == pc.index(status.dictionary, ACTIVE).as_py()
    rows["own"] = True
    rows.setflags(write=False)
    return rows


_objects: Final = functools.lru_cache(_FILES_KEPT)(read_objects)


@functools.lru_cache(EDGES_KEPT)
def edge_of(storage: Storage, file: DataFile) -> tuple[Objects, Pixels]:
    """Objects of a file that may be in reach of a tile beside theirs, and the pixel of REACH_ORDER that each is in."""
    rows = _objects(storage, file)
    pixel = fine_pixels(rows["ra"], rows["dec"]) >> 2 * (FINE_ORDER - REACH_ORDER)
    outermost = is_among(pixel, border(Tile(file.order, file.npix), REACH_ORDER))
    rows = rows[outermost]
    rows["own"] = False
    return rows, pixel[outermost]


def objects_in_reach(storage: Storage, file: DataFile, tile: Tile) -> Objects:
    """Objects of a file, of a tile or of one beside it, that are in the tile or in reach of it."""
    if file.tile == tile:
        return _objects(storage, file)
    rows, pixel = edge_of(storage, file)
    rows = rows[is_among(pixel, ring(tile, REACH_ORDER))]
    near: Objects = rows[inside(_planes(tile), unit_vectors(rows["ra"].copy(), rows["dec"].copy()))]
    return near


@functools.lru_cache(1)
def _planes(tile: Tile) -> Floats:
    """Planes whose inner sides hold all within REACH_ARCSEC of a tile."""
    planes = planes_around(tile)
    planes[:, 3] -= REACH_ARCSEC / ARCSEC_PER_RADIAN
    return planes
