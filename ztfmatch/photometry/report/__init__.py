"""A report on the photometry of a snapshot: one page of HTML with its pictures, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.localfiles import write_directory
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Row, Stopwatch
from ztfmatch.core.runner import Runner
from ztfmatch.core.shown import Shown
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.report.exposures import Exposures, count_exposures, plain
from ztfmatch.photometry.report.measure import Sums, What, measure
from ztfmatch.photometry.report.numbers import channel_rows, field_rows, filter_rows

PAGE: Final = "index.html"
NUMBERS: Final = "numbers.json"

__all__ = ["NUMBERS", "PAGE", "ReportInputs", "ReportSummary", "make_report"]


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made from, and where it goes."""

    output: Path
    """Directory to be made."""
    ps1: Path | None = None
    """Without it the report has only what lightcurves alone can tell."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names that the PS1 catalog gives to columns, see :func:`ztfmatch.photometry.io.ps1.open_ps1`."""


@dataclass(frozen=True, kw_only=True)
class ReportSummary(Shown):
    """What a report found."""

    store: str
    snapshot: int
    page: str
    """Path of the page."""
    against_ps1: bool
    corrections: list[str]
    """Names of the sets that exposures have."""
    figures: list[Row]
    """By filter, without corrections and as stored."""
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
    MetadataError
        If there are no detections, PS1 cannot be read, covers none of the sky, or nothing in it can be compared.
    JobFailedError
        If a task failed after its retries; nothing is written, a rerun resumes.
    """
    watch = Stopwatch()
    config.validate()
    if inputs.output.exists() and (not inputs.output.is_dir() or any(inputs.output.iterdir())):
        raise ConfigError(f"{inputs.output} is there already; give a new place for the report")
    ps1 = None if inputs.ps1 is None else open_ps1(inputs.ps1, inputs.columns)
    sums = measure(snapshot, What(ps1, config), runner)
    found = count_exposures(snapshot)
    text = _page(snapshot, sums, found, config)
    files = {PAGE: text, NUMBERS: _numbers(snapshot, sums, found)}
    write_directory(inputs.output, {name: content.encode() for name, content in files.items()})
    return ReportSummary(
        store=snapshot.storage.root,
        snapshot=snapshot.number,
        page=str(inputs.output / PAGE),
        against_ps1=sums.against_ps1,
        corrections=sorted(name for name in found.corrections if name is not None),
        figures=_plain_rows(filter_rows(sums)),
        exposures=plain(found),
        detections=sums.detections,
        used=sums.used,
        stars=sums.compared,
        bytes=len(text.encode()),
        seconds=watch.seconds,
    )


def _page(snapshot: SnapshotFiles, sums: Sums, found: Exposures, config: CalibrateConfig) -> str:
    from ztfmatch.photometry.report.content import page_of  # matplotlib takes a while
    from ztfmatch.photometry.report.page import render

    return render(page_of(snapshot, sums, found, config))


def _numbers(snapshot: SnapshotFiles, sums: Sums, found: Exposures) -> str:
    """All figures for machines."""
    content = {
        "store": snapshot.storage.root,
        "snapshot": snapshot.number,
        "time": snapshot.commit.time,
        "corrections": dict(sorted((name or "none", n) for name, n in found.corrections.items())),
        "filters": _plain_rows(filter_rows(sums)),
        "channels": _plain_rows(channel_rows(sums)),
        "fields": _plain_rows(field_rows(sums)),
        "exposures": plain(found),
    }
    return json.dumps(content, indent=1) + "\n"


def _plain_rows(rows: list[Row]) -> list[Row]:
    """Rows with None in place of NaN, which JSON lacks."""
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
