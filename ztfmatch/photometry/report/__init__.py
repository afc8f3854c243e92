"""A report on the photometry of a snapshot: one page of HTML with its pictures, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.display import Displayable
from ztfmatch.core.io.corrections import read_corrections
from ztfmatch.core.io.localfiles import check_vacant, write_directory
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.operations.corrections import check_channels
from ztfmatch.core.plain import Json, Row
from ztfmatch.core.runner import Runner
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import FILTER_IDS
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.report.exposures import Exposures, count_exposures, plain
from ztfmatch.photometry.report.measure import OtherSet, Sums, What, measure
from ztfmatch.photometry.report.numbers import channel_rows, field_rows, filter_rows, gain_rows
from ztfmatch.photometry.report.times import time_rows

PAGE: Final = "index.html"
NUMBERS: Final = "numbers.json"

__all__ = ["NUMBERS", "PAGE", "ReportInputs", "ReportSummary", "make_report"]


@dataclass(frozen=True)
class ReportInputs(WithPaths):
    """What a report is made from, and where it goes."""

    output: Path
    """Directory to be made."""
    ps1: Path | None = None
    """Without it the report has only what lightcurves alone can tell."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names that the PS1 catalog gives to columns, see :func:`ztfmatch.photometry.io.ps1.open_ps1`."""
    other: Path | None = field(default=None, kw_only=True)
    """Directory of corrections, or of the survey's tables, that those of the store are compared with."""


@dataclass(frozen=True, kw_only=True)
class ReportSummary(Displayable):
    """What a report found."""

    store: str
    snapshot: int
    page: str
    """Path of the page."""
    against_ps1: bool
    corrections: list[str]
    """Names of the sets that exposures have."""
    figures: list[Row]
    """By filter, without corrections, as stored, and with those that are compared."""
    exposures: dict[str, dict[str, int]]
    """By filter and quality."""
    detections: int
    used: int
    stars: int
    bytes: int
    """Of the page."""
    seconds: float


def make_report(
    snapshot: SnapshotFiles, inputs: ReportInputs, config: CalibrateConfig, runner: Runner
) -> ReportSummary:
    """Write a report on a snapshot: ``index.html`` and ``numbers.json``; the same snapshot gives the same bytes.

    Parameters
    ----------
    snapshot : SnapshotFiles
        Only the store's staging area is written to.
    inputs : ReportInputs
    config : CalibrateConfig
        Which detections count.
    runner : Runner

    Raises
    ------
    ConfigError
        If a setting is out of range, or the output is there.
    CorrectionsError
        If what is to be compared with is not a set of corrections, damaged, or has nothing for the store.
    MetadataError
        If there are no detections, PS1 cannot be read, covers none of the sky, or nothing in it can be compared.
    JobFailedError
        If a task failed after its retries; nothing is written, a rerun resumes.
    """
    watch = Stopwatch()
    config.validate()
    check_vacant(inputs.output, "report")
    ps1 = None if inputs.ps1 is None else open_ps1(inputs.ps1, inputs.columns)
    other = None if inputs.other is None else _other(snapshot, inputs.other)
    everything = measure(snapshot, What(ps1, config, other), runner)
    sums, compared = (everything, None) if other is None else _parted(everything, other)
    found = count_exposures(snapshot)
    text = _page(snapshot, (sums, compared), found, config)
    files = {PAGE: text, NUMBERS: _numbers(snapshot, (sums, compared), found)}
    write_directory(inputs.output, {name: content.encode() for name, content in files.items()})
    return ReportSummary(
        store=snapshot.storage.root,
        snapshot=snapshot.number,
        page=str(inputs.output / PAGE),
        against_ps1=sums.against_ps1,
        corrections=sorted(name for name in found.corrections if name is not None),
        figures=_plain_rows(_figures(sums, compared)),
        exposures=plain(found),
        detections=sums.detections,
        used=sums.used,
        stars=sums.compared,
        bytes=len(text.encode()),
        seconds=watch.seconds,
    )


def _figures(sums: Sums, compared: Sums | None) -> list[Row]:
    """Key figures of every phase, by filter; what the store has is the first of those compared."""
    rows = filter_rows(sums)
    if compared is None:
        return rows
    others = [row for row in filter_rows(compared) if row["phase"] == compared.titles[-1]]
    return sorted(rows + others, key=lambda row: FILTER_IDS[row["filter"]])


def _other(snapshot: SnapshotFiles, place: Path) -> OtherSet:
    held = read_corrections(place)
    check_channels(snapshot, held)
    gains = tuple((row["held"], row["term"], row["taken_mmag"]) for row in gain_rows(held.tables.get("heldout")))
    return OtherSet(str(place.absolute()), held.set.digest, gains)


def _parted(everything: Sums, other: OtherSet) -> tuple[Sums, Sums]:
    """What the store has, and its magnitudes beside those that other corrections make."""
    own = list(range(everything.phases - 1))
    names = ("as stored" if len(own) > 1 else "uncorrected", f"with {Path(other.place).name}")
    return everything.only(own), replace(everything.only([own[-1], len(own)], names), gains=other.gains)


def _page(
    snapshot: SnapshotFiles, measured: tuple[Sums, Sums | None], found: Exposures, config: CalibrateConfig
) -> str:
    from ztfmatch.photometry.report.content import page_of  # matplotlib takes a while
    from ztfmatch.photometry.report.page import render

    return render(page_of(snapshot, measured, found, config))


def _numbers(snapshot: SnapshotFiles, measured: tuple[Sums, Sums | None], found: Exposures) -> str:
    """All figures for machines."""
    sums, compared = measured
    content: Json = {
        "store": snapshot.storage.root,
        "snapshot": snapshot.number,
        "time": snapshot.commit.time,
        "corrections": dict(sorted((name or "none", n) for name, n in found.corrections.items())),
        "filters": _plain_rows(filter_rows(sums)),
        "channels": _plain_rows(channel_rows(sums)),
        "fields": _plain_rows(field_rows(sums)),
        "times": _plain_rows(time_rows(sums)),
        "exposures": plain(found),
    }
    if compared is not None:
        rows = {"filters": _plain_rows(filter_rows(compared)), "channels": _plain_rows(channel_rows(compared))}
        gains = [dict(zip(("held", "term", "taken_mmag"), gain, strict=True)) for gain in compared.gains]
        content["compared"] = rows | {"held_out": gains}
    return json.dumps(content, indent=1) + "\n"


def _plain_rows(rows: list[Row]) -> list[Row]:
    """Rows with None in place of NaN, which JSON lacks."""
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
