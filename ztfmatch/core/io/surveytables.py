"""The survey's own tables of corrections, read and written in the format of its pipeline.

``Mag_Bias.txt``: CCD, quadrant, filter and a, b, c of a quadratic in magnitude, which is constant beyond 19.25.
``Field_Corrections.txt``: field, readout channel, filter and offset. ``ztf_z<filter>_c<CC>_q<Q>.out.txt.spline``: a
bivariate spline of degree 2 over the quadrant. All three are added to the magnitude. Columns are parted by blanks; a
first line may name them, lines with # are for people. Form and evaluation are those of A. Drake's instructions and of
P. Mroz's implementation of them (2020).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io.localfiles import write_directory
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.smoothsets import SmoothSet
from ztfmatch.core.kernels.smoothcorrections import COLOUR_NUMBERS, DEGREE, spline_values
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Json
from ztfmatch.core.survey import FILTER_CODES, N_RCID, QUADRANT_SHAPE_PIX, Channel, Unit

FORMAT: Final = "survey-tables"
"""In place of the name of our own format."""
BIAS: Final = "Mag_Bias.txt"
FIELDS: Final = "Field_Corrections.txt"
KNOTS: Final = 24
"""Of a spline along x, and along y."""
COEFFICIENTS: Final = KNOTS - DEGREE - 1
"""Along x, and along y: 441 of a spline."""
LAST_MAG: Final = 19.25
"""Beyond it the magnitude term stays as it is there."""
CELLS: Final = 30
"""Along x and y, of the map that says at which places a set knows something: here at all."""

_BRIGHTEST_MAG: Final = 0.0
"""To which the quadratic is taken; nothing is brighter."""
_FILTERS: Final = {code[1]: fid for fid, code in FILTER_CODES.items()} | {str(fid): fid for fid in FILTER_CODES}
_SPLINE_NAME: Final = re.compile(r"ztf_z(.)_c(\d\d)_q(\d)\.out\.txt\.spline")
_PLACE_OF_VALUE: Final = {"coeff": 3, "X": 5, "Y": 5}
"""Word of a line of a spline, by its first."""


class Spline(NamedTuple):
    """What is added to a magnitude at a position, mag."""

    knots_x: Floats
    """Pixels, shape (KNOTS,)."""
    knots_y: Floats
    coefficients: Floats
    """y runs fastest, as FITPACK has them; shape (COEFFICIENTS^2,)."""


@dataclass(frozen=True)
class SurveyTables:
    """All three kinds of tables; what they give is added to magnitudes."""

    bias: Mapping[Channel, tuple[float, float, float]]
    """a, b, c of a + b mag + c mag^2, by readout channel and filter."""
    splines: Mapping[Channel, Spline]
    """Of the same channels."""
    fields: Mapping[Unit, float]
    """Of the same channels; a unit that is missing has none."""

    def correction_tables(self) -> dict[str, pa.Table]:
        """The tables of a set of ours, which takes off what these add.

        The magnitude term of ours is zero at its faint end; what the survey's is there goes into the map.
        """
        channels = sorted(self.bias)
        at_end = {channel: _quadratic(self.bias[channel], LAST_MAG) for channel in channels}
        curves = np.array(
            [
                [_BRIGHTEST_MAG, LAST_MAG, -(b + 2.0 * LAST_MAG * c), -c]
                for _, b, c in (self.bias[channel] for channel in channels)
            ]
        ).reshape(-1, 4)
        grids = {c: self.splines[c].coefficients.reshape(COEFFICIENTS, COEFFICIENTS).T.ravel() for c in channels}
        model = SmoothSet(
            tuple(channels),
            np.zeros(len(channels)),
            {
                "knots_x": np.array([self.splines[channel].knots_x for channel in channels]),
                "knots_y": np.array([self.splines[channel].knots_y for channel in channels]),
                "maps": np.array([-(grids[channel] + at_end[channel]) for channel in channels]),
                "curve": curves,
                "colour": np.zeros((len(channels), COLOUR_NUMBERS)),
            },
            0.0,
            {},
        )
        return {**_tables(channels, curves, self.fields), "position": _cells(model), "model": model.rows()}


def _quadratic(numbers: tuple[float, float, float], mag: float) -> float:
    a, b, c = numbers
    return a + b * mag + c * mag * mag


def _tables(channels: list[Channel], curves: Floats, fields: Mapping[Unit, float]) -> dict[str, pa.Table]:
    """Tables of a set but for the map; those of what the survey does not tell are empty."""
    units = sorted(fields)
    none = {name: pa.array([], pa.float64()) for name in ("relzp", "relzprms", "a", "b", "c", "d")}
    no_units = {"field": pa.array([], pa.int16()), **_pairs([])}
    return {
        "magnitude": pa.table(
            {**_pairs(channels), **dict(zip(("bright", "faint", "slope", "curvature"), curves.T, strict=True))}
        ),
        "field": pa.table(
            {
                "field": pa.array([unit.field for unit in units], pa.int16()),
                **_pairs([(unit.rcid, unit.fid) for unit in units]),
                "value": pa.array([-fields[unit] for unit in units], pa.float64()),
            }
        ),
        "errormodel": pa.table({**no_units, **{name: none[name] for name in "abcd"}}),
        "exposures": pa.table(
            {
                "exposureid": pa.array([], pa.int64()),
                "relzp": none["relzp"],
                "relzprms": none["relzprms"],
                "nrelzp": pa.array([], pa.int32()),
            }
        ),
        "sums": pa.table(_pairs([])),
    }


def _pairs(channels: list[Channel]) -> dict[str, pa.Array]:
    return {"rcid": pa.array([c for c, _ in channels], pa.int8()), "fid": pa.array([f for _, f in channels], pa.int8())}


def _cells(model: SmoothSet) -> pa.Table:
    """Values of the maps at the centres of cells."""
    row, column = np.divmod(np.arange(CELLS * CELLS), CELLS)
    x, y = (0.5 + (at + 0.5) * n / CELLS for at, n in zip((column, row), QUADRANT_SHAPE_PIX, strict=True))
    numbers = (model.numbers[name] for name in ("knots_x", "knots_y", "maps"))
    values = [spline_values(*of, x, y) for of in zip(*numbers, strict=True)]
    n = len(model.channel)
    return pa.table(
        {
            **_pairs([channel for channel in model.channel for _ in range(CELLS * CELLS)]),
            "column": pa.array(np.tile(column, n), pa.int16()),
            "row": pa.array(np.tile(row, n), pa.int16()),
            "value": pa.array(np.concatenate(values), pa.float64()),
        }
    )


def is_there(place: Path) -> bool:
    """Whether a directory holds the survey's tables, or some of them."""
    return any((place / name).is_file() for name in (BIAS, FIELDS)) or any(place.glob("*.out.txt.spline"))


def read_survey_tables(place: Path) -> tuple[SurveyTables, dict[str, str]]:
    """Tables of a directory, and the digest of each file.

    Raises
    ------
    CorrectionsError
        If one is missing or cannot be read, a line is not of the form, a channel or a unit is there twice, or the
        tables are not of the same channels.
    """
    files: dict[str, str] = {}
    bias = _read_bias(place / BIAS, files)
    splines = {}
    for path in sorted(place.glob("*.out.txt.spline")):
        splines[_channel_of_name(path)] = _read_spline(path, files)
    fields = _read_fields(place / FIELDS, files)
    for channel in sorted(splines.keys() - bias.keys()):
        raise CorrectionsError(
            f"{place / spline_name(channel)} is of {_said(channel)}, of which {BIAS} has no line; expected the same "
            "channels in both"
        )
    for channel in sorted(bias.keys() - splines.keys()):
        raise CorrectionsError(
            f"{place / BIAS} has {_said(channel)}, of which there is no {spline_name(channel)}; expected the same "
            "channels in both"
        )
    for unit in sorted(unit for unit in fields if (unit.rcid, unit.fid) not in bias):
        raise CorrectionsError(
            f"{place / FIELDS} has field {unit.field} of {_said((unit.rcid, unit.fid))}, of which {BIAS} has no line; "
            "expected channels of that"
        )
    return SurveyTables(bias, splines, fields), files


def _said(channel: Channel) -> str:
    rcid, fid = channel
    return f"CCD {rcid // 4 + 1}, quadrant {rcid % 4 + 1}, filter {FILTER_CODES[fid][1]}"


def channels_said(channels: Iterable[Channel], most: int = 4) -> str:
    """Channels for people, the first of them by name."""
    some = sorted(channels)
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return "; ".join(_said(channel) for channel in some[:most]) + more


def spline_name(channel: Channel) -> str:
    """File of the spline of a channel."""
    rcid, fid = channel
    return f"ztf_{FILTER_CODES[fid]}_c{rcid // 4 + 1:02d}_q{rcid % 4 + 1}.out.txt.spline"


def _channel_of_name(path: Path) -> Channel:
    form = _SPLINE_NAME.fullmatch(path.name)
    if form is None or form[1] not in _FILTERS or not (1 <= int(form[2]) <= N_RCID // 4 and 1 <= int(form[3]) <= 4):
        raise CorrectionsError(f"{path}: the name tells no channel; expected one like {spline_name((26, 1))}")
    return 4 * (int(form[2]) - 1) + int(form[3]) - 1, _FILTERS[form[1]]


def _lines(path: Path, files: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Words of each line that says something, and where it is."""
    try:
        content = path.read_bytes()
        text = content.decode("ascii")
    except FileNotFoundError:
        raise CorrectionsError(f"{path} is missing; the survey's tables are {BIAS}, {FIELDS} and splines") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorrectionsError(f"{path} cannot be read as a table of the survey: {error}") from None
    files[path.name] = short_digest(content)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{path}: line {number}", line.split()


def _rows(path: Path, files: dict[str, str], form: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of a table with as many columns as its form names; a first line without a number names the columns."""
    for place, words in _lines(path, files):
        if place.endswith("line 1") and not _is_number(words[0]):
            continue
        if len(words) != len(form.split()):
            raise CorrectionsError(f"{place} has {len(words)} columns: {' '.join(words)!r}; expected {form!r}")
        yield place, words


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(place: str, word: str) -> float:
    value = float(word) if _is_number(word) else math.nan
    if not math.isfinite(value):
        raise CorrectionsError(f"{place}: {word!r} is no finite number; expected magnitudes, or pixels of knots")
    return value


def _whole(place: str, what: str, word: str, first: int, last: int) -> int:
    if not (word.isdigit() and first <= int(word) <= last):
        raise CorrectionsError(f"{place}: {what} is {word!r}; expected {first} to {last}")
    return int(word)


def _filter(place: str, word: str) -> int:
    if word not in _FILTERS:
        raise CorrectionsError(f"{place}: filter is {word!r}; expected g, r or i, or 1, 2 or 3")
    return _FILTERS[word]


def _read_bias(path: Path, files: dict[str, str]) -> dict[Channel, tuple[float, float, float]]:
    found: dict[Channel, tuple[float, float, float]] = {}
    for place, (ccd, quadrant, band, *numbers) in _rows(path, files, "ccd quadrant filter a b c"):
        rcid = 4 * (_whole(place, "CCD", ccd, 1, N_RCID // 4) - 1) + _whole(place, "quadrant", quadrant, 1, 4) - 1
        channel = (rcid, _filter(place, band))
        if channel in found:
            raise CorrectionsError(f"{place}: {_said(channel)} is there twice; expected one line each")
        a, b, c = (_number(place, word) for word in numbers)
        found[channel] = (a, b, c)
    if not found:
        raise CorrectionsError(f"{path} has no line of numbers; expected 'ccd quadrant filter a b c'")
    return found


def _read_fields(path: Path, files: dict[str, str]) -> dict[Unit, float]:
    found: dict[Unit, float] = {}
    for place, (field, rcid, band, value) in _rows(path, files, "field rc filter correction"):
        channel = _whole(place, "readout channel", rcid, 0, N_RCID - 1), _filter(place, band)
        unit = Unit(_whole(place, "field", field, 1, 9999), *channel)
        if unit in found:
            raise CorrectionsError(f"{place}: field {unit.field} of {_said(channel)} is there twice; expected once")
        found[unit] = _number(place, value)
    return found


def _read_spline(path: Path, files: dict[str, str]) -> Spline:
    """Lines that begin with ``coeff`` have a value as their fourth word, those with ``X`` or ``Y`` a knot as sixth."""
    found: dict[str, list[float]] = {name: [] for name in _PLACE_OF_VALUE}
    for place, words in _lines(path, files):
        if words[0] in found:
            at = _PLACE_OF_VALUE[words[0]]
            if len(words) <= at:
                raise CorrectionsError(f"{place}: {' '.join(words)!r} has no word {at + 1}; expected a number there")
            found[words[0]].append(_number(place, words[at]))
    for name, n in (("coeff", COEFFICIENTS**2), ("X", KNOTS), ("Y", KNOTS)):
        if len(found[name]) != n:
            raise CorrectionsError(f"{path} has {len(found[name])} lines of {name}; expected {n}")
    coefficients, x, y = (np.array(found[name]) for name in _PLACE_OF_VALUE)
    for name, knots in (("X", x), ("Y", y)):
        inner = knots[DEGREE : -DEGREE or None]
        if (np.diff(knots) < 0).any() or knots[0] != inner[0] or knots[-1] != inner[-1] or inner[0] == inner[-1]:
            raise CorrectionsError(
                f"{path}: {name} knots run from {knots[0]:g}, {knots[DEGREE]:g} to {knots[-1 - DEGREE]:g}, "
                f"{knots[-1]:g}; expected them in order, the first and the last three times"
            )
    return Spline(x, y, coefficients)


def write_survey_tables(place: Path, tables: SurveyTables) -> None:
    """Write a directory of the survey's tables, whole or not at all; numbers come back as they are.

    Parameters
    ----------
    place : Path
        Must not exist, or be empty.
    tables : SurveyTables
    """
    bias = ["# ccd quadrant filter a b c"]
    for (rcid, fid), numbers in sorted(tables.bias.items()):
        a, b, c = (repr(float(number)) for number in numbers)
        bias.append(f"{rcid // 4 + 1:02d} {rcid % 4 + 1} {FILTER_CODES[fid][1]} {a} {b} {c}")
    fields = ["# field rc filter correction"]
    for unit, value in sorted(tables.fields.items()):
        fields.append(f"{unit.field:06d} {unit.rcid} {FILTER_CODES[unit.fid][1]} {float(value)!r}")
    files = {BIAS: bias, FIELDS: fields}
    files |= {spline_name(channel): _spline_lines(spline) for channel, spline in tables.splines.items()}
    write_directory(place, {name: ("\n".join(lines) + "\n").encode() for name, lines in files.items()})


def _spline_lines(spline: Spline) -> list[str]:
    lines = [f"coeff {i} = {value!r}" for i, value in enumerate(spline.coefficients.tolist())]
    for name, knots in (("X", spline.knots_x), ("Y", spline.knots_y)):
        lines += [f"{name} knot number {i} = {value!r}" for i, value in enumerate(knots.tolist())]
    return lines


def record_of(place: Path, files: Mapping[str, str]) -> Json:
    """What is known of where tables are from, as the record of a set has it."""
    about = {"store": None, "root": f"the survey's tables in {place}", "snapshot": 0, "programs": None}
    return {"format": FORMAT, "cells_x": CELLS, "cells_y": CELLS, "files": dict(files), **about}
