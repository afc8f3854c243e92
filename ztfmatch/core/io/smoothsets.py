"""The continuous corrections of a set, as arrays and as rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.io.rows import units_of_rows
from ztfmatch.core.kernels.smoothcorrections import COLOUR_NUMBERS, SmoothExposures, SmoothTables
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema.corrections import COLOUR, CURVE, FADE, KNOTS_X, KNOTS_Y, MEAN_COLOUR, NODE, SPLINE
from ztfmatch.core.survey import Channel, Unit

NODE_PLACES: Final = 1 << 16
"""Place of a number of a node: the node's number times this, and the number's own."""

MODEL_SCHEMA: Final = pa.schema(
    [
        ("term", pa.string()),
        ("field", pa.int16()),
        ("rcid", pa.int8()),
        ("fid", pa.int8()),
        ("place", pa.int32()),
        ("value", pa.float64()),
    ]
)
"""Rows of numbers, as the table ``model`` of a directory has them."""


@dataclass(frozen=True)
class SmoothSet:
    """Continuous corrections of all channels.

    Attributes
    ----------
    channel : tuple of Channel
        Of each node, ascending; nodes of a channel in order of time.
    time : float64 ndarray, shape (R,)
        Of each node, MJD.
    numbers : mapping of str to float64 ndarray, shape (R, ...)
        ``knots_x``, ``knots_y``, ``maps``, ``curve``, ``colour`` as :class:`SmoothTables` has them.
    fade : float
    mean_colour : mapping of Unit to tuple of three float
        See :class:`SmoothExposures`.
    """

    channel: tuple[Channel, ...]
    time: Floats
    numbers: Mapping[str, Floats]
    fade: float
    mean_colour: Mapping[Unit, tuple[float, float, float]]

    def tables(self, valid: Mapping[Channel, Mask], shape: tuple[int, int]) -> SmoothTables:
        """Arrays for the kernel.

        Parameters
        ----------
        valid : mapping of Channel to bool ndarray, shape (cells,)
        shape : tuple of two int
            Cells along x and y.
        """
        known = np.array([valid[channel] for channel in self.channel], bool).reshape(-1, shape[0] * shape[1])
        return SmoothTables(**self.numbers, valid=known, shape=shape, fade=self.fade)

    def exposures(self, units: list[Unit], mjd: Floats, offset: Floats, gradient: Floats) -> SmoothExposures:
        """What exposures get, shape (E,); a unit of a channel without nodes gets nothing.

        Parameters
        ----------
        units : list of Unit
        mjd : float64 ndarray, shape (E,)
            Middle of the exposure.
        offset : float64 ndarray, shape (E,)
        gradient : float64 ndarray, shape (E, 6)
        """
        n = len(units)
        before, after, weight = np.full(n, -1, np.int32), np.full(n, -1, np.int32), np.zeros(n)
        of = np.array([(unit.rcid, unit.fid) for unit in units], np.int64).reshape(-1, 2)
        names = np.array(self.channel, np.int64).reshape(-1, 2)
        for channel in np.unique(of, axis=0):
            rows, mine = (np.flatnonzero((pairs == channel).all(axis=1)) for pairs in (names, of))
            if len(rows):
                first, second, weight[mine] = between(self.time[rows], mjd[mine])
                before[mine], after[mine] = rows[first], rows[second]
        none = (0.0,) * COLOUR_NUMBERS
        colour = np.array([self.mean_colour.get(unit, none) for unit in units], np.float64)
        return SmoothExposures(before, after, weight, offset, gradient, colour.reshape(-1, COLOUR_NUMBERS))

    def has_colour(self, channel: Channel) -> bool:
        """Whether a channel has a colour term."""
        mine = [row for row, other in enumerate(self.channel) if other == channel]
        return bool((self.numbers["colour"][mine, 1:] != 0.0).any())

    def steps(self, channel: Channel) -> tuple[float, ...]:
        """Times (MJD) at which a channel's corrections step: of two nodes."""
        times = self.time[[row for row, other in enumerate(self.channel) if other == channel]]
        return tuple(times[1:][np.diff(times) == 0.0].tolist())

    def rows(self) -> pa.Table:
        """All numbers, a row each, as MODEL_SCHEMA."""
        parts = [_rows(FADE, (None, None, None), np.array([[self.fade]]))]
        for channel in sorted(set(self.channel)):
            mine = [row for row, other in enumerate(self.channel) if other == channel]
            parts.append(_rows(NODE, (None, *channel), self.time[mine, None]))
            parts += [_rows(term, (None, *channel), self.numbers[name][mine]) for name, term in _TERM_OF.items()]
        for unit in sorted(self.mean_colour):
            key = (unit.field, unit.rcid, unit.fid)
            parts.append(_rows(MEAN_COLOUR, key, np.array([self.mean_colour[unit]])))
        return pa.concat_tables(parts)

    def canonical(self) -> bytes:
        """Bytes that tell it from any other set."""
        rows = self.rows()
        keys = zip(*(rows[name].to_pylist() for name in MODEL_SCHEMA.names[:-1]), strict=True)
        numbers = rows["value"].to_numpy()
        return repr(list(keys)).encode() + np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes()


_TERM_OF: Final = {"knots_x": KNOTS_X, "knots_y": KNOTS_Y, "maps": SPLINE, "curve": CURVE, "colour": COLOUR}


def _rows(term: str, key: tuple[int | None, ...], values: Floats) -> pa.Table:
    """Rows of the numbers of one term, shape (nodes, places)."""
    nodes, places = values.shape
    place = np.arange(nodes)[:, None] * NODE_PLACES + np.arange(places)
    n = values.size
    columns: list[Any] = [[term] * n, *([value] * n for value in key), place.ravel(), values.ravel()]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, MODEL_SCHEMA, strict=True)], MODEL_SCHEMA
    )


def smooth_set_of(rows: pa.Table) -> SmoothSet | None:
    """What :meth:`SmoothSet.rows` made; None where there are no such rows."""
    terms = rows["term"].cast(pa.string())
    fade = rows.filter(pc.equal(terms, FADE))
    if not len(fade):
        return None
    found = rows.filter(pc.is_in(terms, pa.array([NODE, *_TERM_OF.values()])))
    blocks = _blocks(found)
    channels = sorted({channel for _, channel in blocks})
    channel = [c for c in channels for _ in range(len(blocks[NODE, c]))]
    numbers = {name: np.concatenate([blocks[term, c] for c in channels]) for name, term in _TERM_OF.items()}
    time = np.concatenate([blocks[NODE, c][:, 0] for c in channels])
    means = rows.filter(pc.equal(terms, MEAN_COLOUR))
    values = _floats(means).reshape(-1, COLOUR_NUMBERS).tolist()
    named = units_of_rows(means)[::COLOUR_NUMBERS]
    mean_colour = {unit: (a, b, c) for unit, (a, b, c) in zip(named, values, strict=True)}
    return SmoothSet(tuple(channel), time, numbers, float(_floats(fade)[0]), mean_colour)


def _floats(rows: pa.Table) -> Floats:
    return np.asarray(rows["value"].cast(pa.float64()).to_numpy(zero_copy_only=False))


def _blocks(rows: pa.Table) -> dict[tuple[str, Channel], Floats]:
    """Numbers of each term and channel, shape (nodes, places)."""
    term = np.array(rows["term"].cast(pa.string()).to_pylist(), object)
    rcid, fid, place = (rows[name].to_numpy() for name in ("rcid", "fid", "place"))
    node, at = np.divmod(place.astype(np.int64), NODE_PLACES)
    value = _floats(rows)
    blocks = {}
    for name in (NODE, *_TERM_OF.values()):
        of_term = np.flatnonzero(term == name)
        pairs = np.unique(np.stack([rcid[of_term], fid[of_term]]), axis=1).T
        for channel in pairs.tolist():
            mine = of_term[(rcid[of_term] == channel[0]) & (fid[of_term] == channel[1])]
            block = np.full((node[mine].max() + 1, at[mine].max() + 1), np.nan)
            block[node[mine], at[mine]] = value[mine]
            blocks[name, (int(channel[0]), int(channel[1]))] = block
    return blocks


def between(times: Floats, mjd: Floats) -> tuple[Ids, Ids, Floats]:
    """Nodes around times, and the weight of the later one; before the first and after the last it is that one alone.

    Parameters
    ----------
    times : float64 ndarray, shape (R,)
        Ascending; of two equal ones the first ends what was before, the second begins what follows.
    mjd : float64 ndarray, shape (E,)
    """
    last = len(times) - 1
    second = np.searchsorted(times, mjd, side="right")
    first = np.clip(second - 1, 0, last)
    second = np.clip(second, 0, last)
    apart = times[second] - times[first]
    weight = np.where(apart > 0.0, (mjd - times[first]) / np.where(apart > 0.0, apart, 1.0), 0.0)
    weight = np.clip(weight, 0.0, 1.0)
    return first, np.where(weight > 0.0, second, first), np.asarray(weight)


def digest_of_data(tables: Iterable[pa.Table]) -> int:
    """A number that a double holds to its last digit; 0 for no rows."""
    hasher = hashlib.sha256(usedforsecurity=False)
    held = [table for table in tables if len(table)]
    for table in held:
        for name in sorted(table.column_names):
            hasher.update(name.encode() + np.ascontiguousarray(table[name].to_numpy()).tobytes())
    return int(hasher.hexdigest()[:12], 16) if held else 0
