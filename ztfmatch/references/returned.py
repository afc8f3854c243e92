"""Check references that come back from an image pipeline against the plan that requested them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Runner
from ztfmatch.references.audit import AuditInputs, audit_files
from ztfmatch.references.plan import TO_BE_MADE, about_plan
from ztfmatch.references.planning import read_rows
from ztfmatch.references.schema import PLAN
from ztfmatch.references.schema.settings import ReferenceSettings

_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class ReturnedReport(Displayable):
    """References that came back, beside what was planned."""

    references: int
    missing: int
    """Units of the plan that did not come back."""
    shallower: list[Row]
    """References less deep than was predicted: unit, depth, predicted."""


def check_returned(plan: str | os.PathLike[str], references: Sequence[str], runner: Runner) -> ReturnedReport:
    """Check references against a plan, before they are matched.

    Parameters
    ----------
    plan : Path
        What ``references plan`` wrote.
    references : sequence of str
        Files, directories, globs.
    runner : Runner

    Raises
    ------
    MetadataError
        If it is not a plan.
    ConfigError
        If a reference is of a unit for which the plan requests none.
    BadInputError
        If no reference can be used.
    """
    rows = read_rows(Path(plan), "a plan", PLAN)
    about_plan(rows)
    settings = ReferenceSettings()
    names = ["field", "rcid", "fid", "action", "predicted"]
    planned = {unit_of(row): row for row in rows.select(names).to_pylist()}
    came = audit_files(references, AuditInputs(), settings, runner).table.to_pylist()
    unasked = [row for row in came if planned.get(unit_of(row), {}).get("action") not in TO_BE_MADE]
    if unasked:
        said = ", ".join(f"{unit_of(row)} ({planned.get(unit_of(row), {}).get('action', 'not in it')})"
                         for row in unasked[:_NAMED])  # fmt: skip
        raise ConfigError(
            f"{plan}: requests no reference of {len(unasked)} of the {len(came)} units that came back: {said}; "
            "expected units that are to be made"
        )
    asked = pc.sum(pc.is_in(rows["action"].cast("string"), pa.array(TO_BE_MADE))).as_py() or 0
    shallower = [
        {"unit": str(unit_of(row)), "depth": row["depth"], "predicted": predicted}
        for row in came
        if (predicted := planned[unit_of(row)]["predicted"]) is not None
        and row["depth"] is not None
        and predicted - row["depth"] > settings.plan.deeper
    ]
    units = len({unit_of(row) for row in came})  # two files may be of the same unit
    return ReturnedReport(references=units, missing=asked - units, shallower=shallower)
