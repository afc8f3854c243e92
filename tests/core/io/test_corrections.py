"""Sets of corrections: what their name covers, and rows of a store."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from ztfmatch.core.io.corrections import CorrectionSet, set_of_store_rows, store_rows
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
}
"""A set that differs in one thing alone, for everything that a set has."""


def test_changes_are_of_everything_that_a_set_has() -> None:
    """Whoever gives a set another term says here how it can differ, and so learns whether the name covers it."""
    of_set = [field.name for field in fields(CorrectionSet) if field.name != "tables"]
    assert set(CHANGES) == {*of_set, *(f"tables.{name}" for name in CorrectionTables._fields)}


def test_digest_covers_every_term() -> None:
    assert len({FULL.digest, *(changed.digest for changed in CHANGES.values())}) == 1 + len(CHANGES)


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
