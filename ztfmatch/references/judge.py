"""Judge measured references: flags, and their rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import Unit
from ztfmatch.references.schema.settings import ReferenceSettings


def judged(rows: Sequence[Row], settings: ReferenceSettings) -> list[Row]:
    """Rows of an audit with flags and rank, by field, readout channel and filter."""
    severity: dict[Unit, float] = {}
    for row in rows:
        confused = row["neighbour"] is not None and row["neighbour"] <= settings.audit.confused
        by_ps1, by_curves = _ps1_ratios(row, settings, confused), _lightcurve_ratios(row, settings, confused)
        row["suspect_ps1"], row["suspect_lightcurves"] = _beyond(by_ps1), _beyond(by_curves)
        row["suspect"] = bool(row["suspect_ps1"] or row["suspect_lightcurves"])
        row["unknown"] = row["suspect_ps1"] is None and row["suspect_lightcurves"] is None
        row["confused"] = confused
        row["shallow"] = row["depth"] is not None and row["depth"] < settings.audit.shallow
        severity[unit_of(row)] = max([0.0, *(by_ps1 or ()), *(by_curves or ())])
    ordered = sorted(rows, key=unit_of)
    first = sorted(ordered, key=lambda row: (not row["suspect"], -(row.get("nwon") or 0), -severity[unit_of(row)]))
    for rank, row in enumerate(first, 1):
        row["rank"] = rank
    return ordered


def _beyond(ratios: Iterable[float] | None) -> bool | None:
    """Whether any ratio to a limit is above 1; None if there are none."""
    return None if ratios is None else any(ratio > 1.0 for ratio in ratios)


def _ps1_ratios(row: Row, settings: ReferenceSettings, confused: bool) -> list[float] | None:
    """Delta and RMS over their limits; None where PS1 has too few stars in a bin.

    Where sources are confused their scatter tells of their neighbours, not of the reference.
    """
    if row.get("nbin") is None or min(row["nbin"]) < settings.flatness.min_bin:
        return None
    rms, delta = settings.flatness.limits_of(row["field"], row["fid"])
    return [row["delta"] / delta, *([] if confused else [row["rms"] / rms])]


def _lightcurve_ratios(row: Row, settings: ReferenceSettings, confused: bool) -> list[float] | None:
    """What lightcurves tell, each over its limit; None where there are too few exposures or lightcurves."""
    limits = settings.lightcurves
    if (row.get("nexposures") or 0) < limits.min_exposures or min(row["nlcbin"]) < settings.flatness.min_bin:
        return None
    flat, missing = limits.limits.of(row["fid"]), row["nmissing"] or 0
    parts: list[tuple[Any, float]] = [
        (row["lcdelta"], flat.delta),
        (row["seedoffset"], limits.max_offset),
        (row["nspurious"] / max(row["njudged"], 1), limits.max_spurious),
        (missing / max(row["nseen"] + missing, 1), limits.max_missing),
    ]
    parts += [] if confused else [(row["lcrms"], flat.rms)]
    return [value / limit if limit else float(value > 0) * 2.0 for value, limit in parts if value is not None]
