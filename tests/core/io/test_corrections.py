"""Sets of corrections: what their name covers, and rows of a store."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from ztfmatch.core.io.correctionrows import set_of_store_rows, store_rows
from ztfmatch.core.io.corrections import CorrectionSet
from ztfmatch.core.io.smoothsets import SmoothSet
from ztfmatch.core.kernels.corrections import CorrectionTables
from ztfmatch.core.schema import corrections as schema
from ztfmatch.core.survey import Unit

UNIT = Unit(679, 3, 1)
FULL = CorrectionSet(
    ((3, 1), (3, 2)),
    CorrectionTables(np.arange(8.0).reshape(2, 4), np.linspace(-0.1, 0.1, 12).reshape(2, 6), (3, 2)),
    {UNIT: 0.01, Unit(680, 3, 2): -0.02},
    {UNIT: (0.1, 0.2, 0.3, math.nan)},
    (1, 2),
    SmoothSet(
        ((3, 1), (3, 1), (3, 2)),
        np.array([58000.0, 58100.0, 58000.0]),
        {
            "knots_x": np.linspace(0.0, 3072.0, 18).reshape(3, 6),
            "knots_y": np.linspace(0.0, 3080.0, 21).reshape(3, 7),
            "maps": np.linspace(-0.01, 0.01, 36).reshape(3, 12),
            "curve": np.full((3, 6), np.nan),
            "colour": np.full((3, 3), 0.01),
        },
        1.0,
        {UNIT: (0.1, 0.2, 0.003)},
    ),
    123456789,
)
TERMS = {value for name, value in vars(schema).items() if name.isupper() and isinstance(value, str)}
"""Terms that rows of a store can be of."""


def with_tables(**changed: Any) -> CorrectionSet:
    return replace(FULL, tables=FULL.tables._replace(**changed))


def altered(values: np.ndarray) -> np.ndarray:
    """With another number at its end."""
    out = values.copy()
    out.flat[-1] += 0.001
    return out


CHANGES: dict[str, CorrectionSet] = {
    "channels": replace(FULL, channels=((3, 1), (3, 3))),
    "tables.magnitude": with_tables(magnitude=altered(FULL.tables.magnitude)),
    "tables.maps": with_tables(maps=altered(FULL.tables.maps)),
    "tables.shape": with_tables(shape=(2, 3)),
    "offsets": replace(FULL, offsets={**FULL.offsets, UNIT: 0.011}),
    "errors": replace(FULL, errors={UNIT: (0.1, 0.2, 0.3, 0.4)}),
    "programs": replace(FULL, programs=(1,)),
    "smooth": replace(FULL, smooth=None),
    "data": replace(FULL, data=0),
}
"""A set that differs in one thing alone, for everything that a set has."""


def test_changes_are_of_everything_that_a_set_has() -> None:
    """Whoever gives a set another term says here how it can differ, and so learns whether the name covers it."""
    of_set = [field.name for field in fields(CorrectionSet) if field.name != "tables"]
    assert set(CHANGES) == {*of_set, *(f"tables.{name}" for name in CorrectionTables._fields)}


def test_digest_covers_every_term() -> None:
    assert len({FULL.digest, *(changed.digest for changed in CHANGES.values())}) == 1 + len(CHANGES)


SMOOTH = FULL.smooth
SMOOTH_CHANGES = {
    "time": lambda s: replace(s, time=s.time + 1.0),
    "channel": lambda s: replace(s, channel=((3, 1), (3, 2), (3, 2))),
    **{name: lambda s, n=name: replace(s, numbers={**s.numbers, n: np.nan_to_num(s.numbers[n]) + 0.5})
       for name in ("knots_x", "knots_y", "maps", "curve", "colour")},
    "fade": lambda s: replace(s, fade=0.0),
    "mean_colour": lambda s: replace(s, mean_colour={UNIT: (0.1, 0.2, 0.004)}),
}  # fmt: skip


def test_digest_covers_every_number_of_continuous_terms_and_store_rows_give_them_back() -> None:
    changed = [replace(FULL, smooth=change(SMOOTH)) for change in SMOOTH_CHANGES.values()]
    assert len({FULL.digest, *(one.digest for one in changed)}) == 1 + len(changed)
    for one in changed:
        assert set_of_store_rows(store_rows(one)).digest == one.digest


def test_digest_of_a_set_without_continuous_terms_is_what_it_was() -> None:
    """Sets of older versions keep their name, which exposures of stores have."""
    assert replace(FULL, smooth=None, data=0).digest == "d3c42f95c152fec9"


def test_digest_of_none_differs_from_that_of_no_programs_known() -> None:
    assert replace(FULL, programs=None).digest != replace(FULL, programs=()).digest


@pytest.mark.parametrize("change", [lambda: FULL, *(lambda one=one: one for one in CHANGES.values())])
def test_store_rows_of_a_set_give_it_back(change: Callable[[], CorrectionSet]) -> None:
    one = change()
    again = set_of_store_rows(store_rows(one))
    assert again.digest == one.digest
    for field in fields(CorrectionSet):
        if field.name != "tables":
            assert repr(getattr(again, field.name)) == repr(getattr(one, field.name))


def test_store_rows_of_a_full_set_have_every_term() -> None:
    assert set(store_rows(FULL)["term"].to_pylist()) == TERMS
