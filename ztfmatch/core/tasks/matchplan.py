"""Compact encoding of the exposures and tiles that a task of an append needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import observer_vectors
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.staging import read_kept

EXPOSURES: Final = pa.schema(
    [
        pa.field("exposureid", pa.int64(), False),
        pa.field("source", pa.string(), False),
        pa.field("digest", pa.uint64(), False),
        pa.field("nrows", pa.int64(), False),
        pa.field("field", pa.int16(), False),
        pa.field("rcid", pa.int8(), False),
        pa.field("fid", pa.int8(), False),
        pa.field("has_reference", pa.bool_(), False),
        pa.field("straddles", pa.bool_(), False),
        pa.field("mid_mjd", pa.float64(), False),
        pa.field("magzp", pa.float64(), False),
        pa.field("bad", pa.bool_(), False),
        pa.field("error_model", pa.list_(pa.float64(), 4)),
        pa.field("corrections", pa.string()),
        pa.field("batch", pa.int32(), False),
    ]
)
"""Columns of :class:`ExposureInput`, but for the observer, and the batch of each."""

_TILES: Final = pa.schema(
    [pa.field("order", pa.int8(), False), pa.field("npix", pa.int64(), False), pa.field("own", pa.bool_(), False)]
)


@dataclass(frozen=True)
class ExposureInput:
    """What a task needs to know of one exposure."""

    exposureid: int
    source: str
    digest: int
    nrows: int
    unit: Unit
    has_reference: bool
    straddles: bool
    """Whether its footprint touches other groups too."""
    mid_mjd: float
    observer: tuple[float, float, float]
    """Telescope relative to the Sun, light days."""
    magzp: float
    bad: bool
    error_model: tuple[float, float, float, float] | None
    corrections: str | None = None
    """Name of the set that its magnitudes get."""


@dataclass(frozen=True)
class Planned:
    """What a task is of."""

    batches: tuple[tuple[ExposureInput, ...], ...]
    """Exposures that are matched together, ordered by unit, then time; and so are the batches."""
    tiles: tuple[Tile, ...]
    """Of the group, those that the exposures touch; in order of the sky."""
    near: tuple[Tile, ...]
    """The same, with those that the group's margin reaches into."""


@dataclass(frozen=True)
class StagedPart:
    """A part that is too long to be sent with a task."""

    path: str
    sha256: str


def encode_part(exposures: pa.Table, tiles: Iterable[tuple[Tile, bool]]) -> bytes:
    """Bytes of a part.

    Parameters
    ----------
    exposures : pyarrow.Table
        Columns of EXPOSURES.
    tiles : iterable of (Tile, bool)
        And whether each is of the group.
    """
    rows = [(tile.order, tile.npix, own) for tile, own in tiles]
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), _TILES, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        for table in (exposures, pa.Table.from_arrays(columns, schema=_TILES)):
            with pa.ipc.new_stream(packed, table.schema) as writer:
                writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_part(storage: Storage, part: bytes | StagedPart) -> Planned:
    """What :func:`encode_part` was given."""
    if isinstance(part, StagedPart):
        part = read_kept(storage, part.path, part.sha256)
    with pa.CompressedInputStream(pa.BufferReader(part), "zstd") as content:
        exposures, tiles = (pa.ipc.open_stream(content).read_all() for _ in range(2))
    mid, at = np.unique(exposures["mid_mjd"].to_numpy(), return_inverse=True)  # channels of an exposure have the same
    observers = observer_vectors(mid)[at].tolist()
    near = [(Tile(row["order"], row["npix"]), row["own"]) for row in tiles.to_pylist()]
    edges = [0, *(np.flatnonzero(np.diff(exposures["batch"].to_numpy())) + 1).tolist(), exposures.num_rows]
    rows = exposures.drop_columns(["batch"]).to_pylist()
    made = [_exposure(observer, **row) for row, observer in zip(rows, observers, strict=True)]
    return Planned(
        tuple(tuple(made[start:stop]) for start, stop in itertools.pairwise(edges)),
        tuple(tile for tile, own in near if own),
        tuple(tile for tile, _ in near),
    )


def _exposure(observer: Sequence[float], field: int, rcid: int, fid: int, **rest: object) -> ExposureInput:
    return ExposureInput(unit=Unit(field, rcid, fid), observer=tuple(observer), **rest)  # type: ignore[arg-type]
