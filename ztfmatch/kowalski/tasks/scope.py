"""Which exposures an export includes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Json
from ztfmatch.core.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.core.survey import FILTER_NAMES


@dataclass(frozen=True)
class Scope:
    """Exposures by field, filter, program and quality; None allows all.

    Attributes
    ----------
    fields, filters, programs : tuple of int, optional
        An exposure of no known program is in none.
    qualities : tuple of str, optional
        Of the ledger: good, bad, unknown.
    """

    fields: tuple[int, ...] | None = None
    filters: tuple[int, ...] | None = None
    programs: tuple[int, ...] | None = None
    qualities: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, terms: Sequence[str]) -> Scope:
        """Scope of terms such as ``program=1,2`` or ``filter=zg``; all must hold.

        Raises
        ------
        ConfigError
            If a term is not of that form, its name or a value unknown, or a name given twice.
        """
        given: dict[str, tuple[Any, ...]] = {}
        for term in terms:
            name, equals, values = term.partition("=")
            known = _TERMS.get(name.strip())
            if known is None or not equals:
                raise ConfigError(f"--only {term!r}: expected NAME=VALUE,... with a name of {', '.join(_TERMS)}")
            attribute, convert = known
            if attribute in given:
                raise ConfigError(f"--only {term!r}: {name} is given twice; put its values into one, as {name}=A,B")
            given[attribute] = tuple(sorted({convert(term, value.strip()) for value in values.split(",")}))
        return cls(**given)

    def mask(self, ledger: pa.Table) -> Mask:
        """Which rows of the ledger, with its SCOPE_COLUMNS, are in it."""
        inside = np.ones(ledger.num_rows, bool)
        for column, allowed in (
            ("field", self.fields), ("fid", self.filters), ("programid", self.programs), ("quality", self.qualities),
        ):  # fmt: skip
            if allowed is not None:
                values = ledger[column]
                values = values.cast(pa.string()) if column == "quality" else values
                among = pc.is_in(values, pa.array(allowed, values.type))
                inside &= among.to_numpy(zero_copy_only=False) if isinstance(among, pa.Array) else among.to_numpy()
        return inside

    @property
    def limits_epochs(self) -> bool:
        """Whether some epochs of an object may be in it and others not."""
        return self.programs is not None or self.qualities is not None

    def to_json(self) -> Json:
        """Plain values of what is limited."""
        names = ("fields", "filters", "programs", "qualities")
        return {name: list(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def __str__(self) -> str:
        return json_text(self.to_json())


def json_text(limits: Json) -> str:
    """What is limited, for people."""
    return ", ".join(f"{name} {' '.join(map(str, values))}" for name, values in limits.items()) or "everything"


def _number(low: int, high: int) -> Any:
    def convert(term: str, value: str) -> int:
        if not (value.isdigit() and low <= int(value) <= high):
            raise ConfigError(f"--only {term!r}: {value!r} is not a number from {low} to {high}")
        return int(value)

    return convert


def _among(names: Mapping[str, Any]) -> Any:
    def convert(term: str, value: str) -> Any:
        if value not in names:
            raise ConfigError(f"--only {term!r}: {value!r} is none of {', '.join(names)}")
        return names[value]

    return convert


_TERMS = {
    "field": ("fields", _number(1, 9999)),
    "filter": ("filters", _among(FILTER_NAMES)),
    "program": ("programs", _number(1, 3)),
    "quality": ("qualities", _among({name: name for name in (GOOD, BAD, UNKNOWN)})),
}
"""Attribute and conversion by the name of a term."""
