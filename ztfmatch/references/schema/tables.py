"""Tables of audits and plans: products, not tables of a store."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.ledger import unit_columns
from ztfmatch.core.schema.types import LABEL, Column, Table

_MAG: Final = pa.float32()
_COUNTS: Final = pa.list_(pa.int32())
_MEDIANS: Final = pa.list_(pa.float32())


def _number(name: str, kind: pa.DataType, unit: str, description: str) -> Column:
    return Column(name, kind, unit, description, "audit", True)


def _flag(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, pa.bool_(), "", description, "audit", nullable)


AUDIT: Final = Table(
    "audit",
    "One row per reference: what PS1 and its lightcurves say of it.",
    ("field", "rcid", "fid"),
    (
        *unit_columns("catalog")[:3],
        _number("generation", pa.int8(), "", "Number of the unit's reference in the store; null for a file"),
        Column("rank", pa.int32(), "", "1 is to be mended first: suspect, most epochs won, most beyond the limits",
               "audit"),
        Column("nsources", pa.int32(), "", "Seeds", "audit"),
        _number("nps1", pa.int32(), "", "Seeds with a PS1 star alone beside them; null without PS1"),
        _number("nflat", pa.int32(), "", "of which: within the range of magnitudes, with all that is needed"),
        _number("nbin", _COUNTS, "", "of which: in each of the 3 x 3 bins, x first"),
        _number("bins", _MEDIANS, "mag", "Median of PS1 less the seeds' magnitude in each bin; null without any"),
        _number("offset", _MAG, "mag", "Median of these differences"),
        _number("delta", _MAG, "mag", "Span of the medians of the bins that have enough"),
        _number("rms", _MAG, "mag", "Robust scatter of the differences: 1.4826 times the median distance from offset"),
        _number("neighbour", _MAG, "arcsec", "Median distance of a seed to the nearest other"),
        _number("crowded", _MAG, "", "Part of the seeds with another within 3 arcsec"),
        _number("depth", _MAG, "mag", "Where the seeds' errors reach 0.217, signal to noise 5; null if they do not"),
        _number("turnover", _MAG, "mag", "Fullest quarter magnitude: beyond it there are fewer seeds"),
        _number("nimages", pa.int32(), "", "Images that the reference is made of, where a table told"),
        _number("predicted", _MAG, "mag", "Depth of so many images: their limit and 1.25 log10(nimages)"),
        _number("nexposures", pa.int32(), "", "Good exposures of the unit in the store; null without lightcurves"),
        _number("njudged", pa.int32(), "", "Seeds that every exposure covers and is deep enough for"),
        _number("nspurious", pa.int32(), "", "of which: seen in too few exposures"),
        _number("nseen", pa.int32(), "", "Seeds, of any magnitude, seen in so many exposures that they are real"),
        _number("nmissing", pa.int32(), "", "Transients seen in so many exposures that they are missing seeds"),
        _number("nwon", pa.int64(), "", "Epochs of transients that a new reference would make objects"),
        _number("seedoffset", _MAG, "arcsec", "Largest median offset, of the bins, of the median positions from seeds"),
        _number("nlc", pa.int32(), "", "Lightcurves compared with the seeds' magnitudes"),
        _number("nlcbin", _COUNTS, "", "of which: in each of the 3 x 3 bins"),
        _number("lcbins", _MEDIANS, "mag", "Median of the lightcurves' less the seeds' magnitudes in each bin"),
        _number("lcdelta", _MAG, "mag", "Span of the medians of the bins that have enough"),
        _number("lcrms", _MAG, "mag", "Robust scatter of these differences"),
        _flag("suspect_ps1", "delta or rms is beyond its limit; null if PS1 cannot tell", True),
        _flag("suspect_lightcurves", "lcdelta, lcrms, seedoffset, spurious or missing seeds are beyond their limits; "
              "null if lightcurves cannot tell", True),
        _flag("suspect", "Either"),
        _flag("shallow", "depth is brighter than its limit"),
        _flag("confused", "Seeds are so crowded that errors and limits mean little: rms alone makes it not suspect"),
        _flag("unknown", "Neither can tell: too few matches or exposures"),
    ),
    by_tile=False,
)  # fmt: skip


def _planned(name: str, kind: pa.DataType, unit: str, description: str, nullable: bool = False) -> Column:
    return Column(name, kind, unit, description, "plan", nullable)


PLAN: Final = Table(
    "plan",
    "One row per unit that has images or a reference: what is to be made of it.",
    ("field", "rcid", "fid"),
    (
        *unit_columns("metadata")[:3],
        _planned("action", LABEL, "", "make, wait, keep, regenerate, potentially updatable or deepen"),
        _planned("reason", LABEL, "", "Why"),
        _planned("nimages", pa.int32(), "", "Images that were judged"),
        _planned("npassed", pa.int32(), "", "of which: meet every criterion"),
        _planned("exposures", pa.list_(pa.int64()), "", "The best of these, sharpest first: exposureids"),
        _planned("fwhm", pa.list_(pa.float32()), "arcsec", "Their FWHM"),
        _planned("maglimit", pa.list_(pa.float32()), "mag", "Their limits; null where that is no criterion"),
        _planned("predicted", pa.float32(), "mag", "Depth of a reference of them: their median limit and 1.25 log10(N)",
                 True),
        _planned("hasreference", pa.bool_(), "", "Whether there is a reference today"),
        _planned("suspect", pa.bool_(), "", "What the audit says of it; null without one", True),
        _planned("unknown", pa.bool_(), "", "Whether the audit cannot tell; null without a reference", True),
        _planned("depth", pa.float32(), "mag", "Its depth; null where it is not known", True),
        _planned("nwon", pa.int64(), "", "Epochs that a new one would win; null without a reference", True),
        _planned("rank", pa.int32(), "", "Its rank in the audit; null without a reference", True),
    ),
    by_tile=False,
)  # fmt: skip


def without_lists(table: pa.Table) -> pa.Table:
    """A table whose lists are texts with blanks between the values, for CSV."""
    for at, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if row is None else " ".join(map(_text, row)) for row in table[field.name].to_pylist()]
            table = table.set_column(at, field.name, pa.array(texts, pa.string()))
    return table


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
