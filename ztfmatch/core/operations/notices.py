"""Warnings about what may not have been intended: part of the report, or an error with ``--strict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.sources import Found
from ztfmatch.core.operations.ledger import Sorted
from ztfmatch.core.plain import Row
from ztfmatch.core.tasks.inspect import ODD_PROGRAM, WRAPPED


@dataclass(frozen=True)
class Notice:
    """A warning, and the files that it is about."""

    code: str
    message: str
    files: list[str] = field(default_factory=list)


def refuse(notices: Sequence[Notice], strict: bool) -> None:
    """Raise the first warning as an error.

    Raises
    ------
    BadInputError
        If ``strict`` and there is one.
    """
    if strict and notices:
        files = notices[0].files
        raise BadInputError(f"--strict: {notices[0].message}{f'; first {files[0]}' if files else ''}")


def misnamed(found: Found) -> list[Notice]:
    """Files that were left for their names."""
    return [Notice("misnamed", found.misnamed_text, found.misnamed)] if found.misnamed else []


def of_programs(work: Sorted) -> list[Notice]:
    """Catalogs whose program is unknown, or is not what the store has."""
    new, is_odd = work.new, work.new[ODD_PROGRAM].is_valid()
    none = new.filter(pc.and_not(new["programid"].is_null(), is_odd))["source"].to_pylist()
    notices = odd_programs(new.filter(is_odd).select(["source", ODD_PROGRAM]).to_pylist(), new.num_rows)
    if none:
        text = "of no program, which neither the header (PROGRMID) nor an exposure table gives: they are in no release"
        notices.append(Notice("no-program", f"{len(none):,} of {new.num_rows:,} new catalogs are {text}", none))
    if work.other_program:
        text = "of another program in the store, which stays: roll back, and append them again, to change it"
        known = f"{len(work.other_program):,} of {work.known:,} known catalogs are"
        notices.append(Notice("other-program", f"{known} {text}", work.other_program))
    return notices


def odd_programs(odd: Sequence[Row], new: int) -> list[Notice]:
    """Exposures, of so many new ones, with something in place of a program that is none of the survey's."""
    if not odd:
        return []
    values = sorted({row[ODD_PROGRAM] for row in odd})
    named = ", ".join(values[:5]) + (" ..." if len(values) > 5 else "")
    text = f"of a program that is none of 1, 2 and 3 ({named}), and are in no release"
    text += "; the store has it as it was, or null if it is not a number of 8 bits"
    files = sorted({row["source"] for row in odd})
    return [Notice("odd-program", f"{len(odd):,} of {new:,} new exposures are {text}", files)]


def wrapped_positions(found: pa.Table) -> list[Notice]:
    """Catalogs, of epochs or references, with right ascensions below 0 or above 360 degrees."""
    rows = found.select(["source", WRAPPED]).filter(pc.greater(found[WRAPPED], 0))
    files = dict(zip(*rows.to_pydict().values(), strict=True))
    if not files:
        return []
    text = "right ascensions below 0 or above 360 degrees, which are stored between"
    return [Notice("wrapped", f"{sum(files.values()):,} rows of {len(files):,} catalogs have {text}", [*files])]


def of_orphans(matched: int, orphans: int, radius_arcsec: float) -> list[Notice]:
    """An append of which most matched nothing."""
    if orphans <= matched:
        return []
    text = f"{orphans:,} of {matched + orphans:,} rows are orphans, more than half"
    hint = f"are these the references of the catalogs, and is the radius of the store, {radius_arcsec:g} arcsec, right?"
    return [Notice("orphans", f"{text}: {hint}")]
