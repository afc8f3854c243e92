"""Sums of one channel over tiles and units, from files that tasks wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Arrays, Ids
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import Unit
from ztfmatch.photometry.kernels.errorfit import SCATTER_MAG_BINS
from ztfmatch.photometry.kernels.exposuremaps import CELLS, HALVES, SUMS, ExposureMaps
from ztfmatch.photometry.kernels.grid import fine_grid
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.residuals import RESIDUAL_BINS, SCATTER_BINS, Bins
from ztfmatch.photometry.kernels.sums import COLUMNS, PARTS, Layout

NOISE: Final = 2
"""Degrees of freedom of differences of epochs, and their sum of squares."""


def layout_of(bins: Bins, slices: int) -> Layout:
    """How sums over so many slices of time are laid out."""
    return Layout(bins.levels, fine_grid(bins.nx, bins.ny), slices)


@dataclass(frozen=True)
class ChannelSums:
    """Sums of one channel over any tiles and units."""

    units: tuple[Unit, ...]
    sums: BinSums
    """Relative to PS1, over units, bins of magnitude and cells."""
    stars: Ids
    """Histogram of the mean residuals of stars, shape (magnitude bins, RESIDUAL_BINS), RESIDUAL_STEP_MAG each."""
    scatter: dict[Unit, Ids]
    """Histogram of the scatter of constant lightcurves by unit, shape (SCATTER_MAG_BINS, SCATTER_BINS)."""
    noise: dict[Unit, Floats]
    """Degrees of freedom and squares of the noise of steady lightcurves by unit, shape (SCATTER_MAG_BINS, NOISE)."""
    maps: ExposureMaps


def read_channel(storage: Storage, files: Sequence[str], layout: Layout) -> ChannelSums:
    """Sums of a channel from the files that tasks left."""
    held = [read_arrays(storage, path) for path in files]
    units = sorted({Unit(*values) for arrays in held for values in arrays["units"].tolist()})
    stars = np.zeros(layout.levels * RESIDUAL_BINS, np.int64)
    scatter = {unit: np.zeros(SCATTER_MAG_BINS * SCATTER_BINS, np.int64) for unit in units}
    noise = {unit: np.zeros((SCATTER_MAG_BINS, NOISE)) for unit in units}
    rows, values = [np.zeros(0, np.int64)], [np.zeros((0, len(COLUMNS)), np.float32)]
    for arrays in held:
        mine = [Unit(*unit) for unit in arrays["units"].tolist()]
        row_of = np.array([units.index(unit) for unit in mine], np.int64)
        np.add.at(stars, arrays["stars"][0], arrays["stars"][1])
        for i, unit in enumerate(mine):
            of_unit = arrays["scatter"][:, arrays["scatter"][0] == i]
            np.add.at(scatter[unit], of_unit[1], of_unit[2])
            noise[unit] += arrays["noise"][i]
        rows.append(row_of[arrays["unit"]] * layout.size + arrays["row"])
        values.append(arrays["values"])
    return ChannelSums(
        tuple(units),
        bin_sums(np.concatenate(rows), np.concatenate(values), layout),
        stars.reshape(layout.levels, RESIDUAL_BINS),
        {unit: counts.reshape(SCATTER_MAG_BINS, SCATTER_BINS) for unit, counts in scatter.items()},
        noise,
        _exposure_maps(held),
    )


def _exposure_maps(held: Sequence[Arrays]) -> ExposureMaps:
    """Maps of exposures over all tiles, in order of time."""
    if not held:
        none = np.zeros(0)
        return ExposureMaps(none.astype(np.int64), none.astype(np.int64), none, np.zeros((0, HALVES, CELLS, SUMS)))
    joined = {name: np.concatenate([arrays[f"exposure_{name}"] for arrays in held])
              for name in ("exposureid", "field", "mid_mjd", "maps")}  # fmt: skip
    ids, first, place = np.unique(joined["exposureid"], return_index=True, return_inverse=True)
    sums = np.zeros((len(ids), HALVES, CELLS, SUMS))
    np.add.at(sums, place, joined["maps"])
    order = np.argsort(joined["mid_mjd"][first], kind="stable")
    field, time = (joined[name][first][order] for name in ("field", "mid_mjd"))
    return ExposureMaps(ids[order], field.astype(np.int64), time, sums[order])


def bin_sums(rows: Ids, values: npt.NDArray[np.floating[Any]], layout: Layout) -> BinSums:
    """Sums by unit, slice, part, magnitude and cell; rows that are there more than once are added.

    Parameters
    ----------
    rows : int64 ndarray, shape (N,)
        unit * layout.size + the number of the bin.
    values : float ndarray, shape (N, 10)
    layout : Layout
    """
    names, place = np.unique(rows, return_inverse=True)
    summed = [np.bincount(place, column, len(names)).astype(np.float64) for column in values.T]
    unit, rest = np.divmod(names, layout.size)
    rest, cell = np.divmod(rest, layout.cells)
    rest, magnitude = np.divmod(rest, layout.levels)
    now, part = np.divmod(rest, PARTS)
    return BinSums(unit, now, part, magnitude, cell, *summed)


def joined(parts: Iterable[BinSums]) -> BinSums:
    """Sums one after the other."""
    listed = list(parts)
    return BinSums(*(np.concatenate([getattr(part, field.name) for part in listed]) for field in fields(BinSums)))
