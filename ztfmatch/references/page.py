"""HTML report on the references of a survey: coverage, quality, the plan, and the survey's summary table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError, OutputExistsError
from ztfmatch.core.io.localfiles import write_directory
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Stopwatch, references_by_unit
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.report.page import Grid, Page, Picture, Section, render
from ztfmatch.references.plan import ACTIONS
from ztfmatch.references.planning import read_rows
from ztfmatch.references.schema import AUDIT, PLAN
from ztfmatch.references.schema.settings import ReferenceSettings

PAGE: Final = "index.html"
VISITS: Final = 20
"""Visits of a unit from which lightcurves are of use; the summary table counts such units."""

_FIRST: Final = 50
_FLAGS: Final = ("suspect", "suspect_ps1", "suspect_lightcurves", "shallow", "confused", "unknown")


@dataclass(frozen=True)
class PageInputs(WithPaths):
    """What a page is made from.

    Parameters
    ----------
    output : Path
        Directory to be made.
    audit : Path
        What ``references audit`` wrote.
    plan : Path, optional
        What ``references plan`` wrote.
    """

    output: Path
    audit: Path
    plan: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PageReport(Displayable):
    """What was made."""

    page: str
    references: int
    suspect: int
    bytes: int
    seconds: float


def make_page(
    inputs: PageInputs, settings: ReferenceSettings, snapshot: SnapshotFiles | None = None, visits: int = VISITS
) -> PageReport:
    """Write ``index.html``, which needs nothing but itself; the same inputs give the same bytes.

    Raises
    ------
    OutputExistsError
        If the output is there.
    MetadataError
        If audit or plan are none.
    ConfigError
        If the audit has no reference.
    """
    watch = Stopwatch()
    if inputs.output.exists():
        raise OutputExistsError(f"{inputs.output} is there already: give a new place for the page")
    audit = read_rows(inputs.audit, "an audit", AUDIT)
    plan = None if inputs.plan is None else read_rows(inputs.plan, "a plan", PLAN)
    if not audit.num_rows:
        raise ConfigError(f"{inputs.audit} has no reference, so there is nothing to show")
    text = render(_page(audit, plan, settings, snapshot, visits)).encode()
    write_directory(inputs.output, {PAGE: text})
    suspect = pc.sum(audit["suspect"]).as_py() or 0
    return PageReport(page=str(inputs.output / PAGE), references=audit.num_rows, suspect=suspect, bytes=len(text),
                      seconds=watch.seconds)  # fmt: skip


def _page(
    audit: pa.Table, plan: pa.Table | None, settings: ReferenceSettings, snapshot: SnapshotFiles | None, visits: int
) -> Page:
    sections = [_summary(snapshot, visits)] if snapshot is not None else []
    sections += [_quality(audit), _maps(audit, plan), _flatness(audit, settings)]
    sections += [] if plan is None else [_planned(plan)]
    facts = {"references": f"{audit.num_rows:,}", "units planned": "none" if plan is None else f"{plan.num_rows:,}"}
    facts |= {} if snapshot is None else {"store": snapshot.storage.root, "snapshot": str(snapshot.number)}
    return Page("References", "Coverage and quality of the survey's references.", facts, [*sections, _first(audit)])


def _summary(snapshot: SnapshotFiles, visits: int) -> Section:
    """The survey in figures, by filter."""
    rows = snapshot.read(EXPOSURES.name, ["fracday", "field", "rcid", "fid", "nmatched", "norphans", "size"])
    references = references_by_unit(snapshot, ["nseeds"])
    table = []
    for fid in FILTER_CODES:
        own, of_filter = (part.filter(pc.equal(part["fid"], fid)) for part in (rows, references))
        table.append(_summary_row(own, of_filter, visits))
    headings = ["filter", *table[0]]
    grid = Grid(headings, [[FILTER_CODES[k + 1], *row.values()] for k, row in enumerate(table)])
    return Section("The survey", "What the store has. Bytes are those of the epochal catalogs.", [grid])


def _summary_row(rows: pa.Table, references: pa.Table, visits: int) -> Row:
    by_unit = rows.group_by(["field", "rcid"]).aggregate([("fid", "count")])
    detections = (pc.sum(rows["nmatched"]).as_py() or 0) + (pc.sum(rows["norphans"]).as_py() or 0)
    return {
        "exposures": pc.count_distinct(rows["fracday"]).as_py(),
        "catalogs": rows.num_rows,
        "units with a reference": references.num_rows,
        f"units with {visits} visits": pc.sum(pc.greater_equal(by_unit["fid_count"], visits)).as_py() or 0,
        "detections": detections,
        "seeds": pc.sum(references["nseeds"]).as_py() or 0,
        "bytes": pc.sum(rows["size"]).as_py() or 0,
    }


def _quality(audit: pa.Table) -> Section:
    rows = []
    for fid, name in FILTER_CODES.items():
        own = audit.filter(pc.equal(audit["fid"], fid))
        if own.num_rows:
            counts = [pc.sum(own[flag]).as_py() or 0 for flag in _FLAGS]
            rows.append([name, own.num_rows, *counts, 100.0 * counts[0] / own.num_rows])
    headings = ["filter", "references", *(flag.replace("_", " ") for flag in _FLAGS), "suspect (%)"]
    return Section("Quality", "Suspect by PS1, by the store's own lightcurves, or by both.", [Grid(headings, rows)])


def _maps(audit: pa.Table, plan: pa.Table | None) -> Section:
    from ztfmatch.photometry.report.pictures.style import png
    from ztfmatch.references.pictures import draw_maps

    suspect = audit["suspect"].to_numpy(zero_copy_only=False).astype(np.float64)
    shown = [
        ("references", np.ones(audit.num_rows), False),
        ("depth (mag)", audit["depth"].to_numpy().astype(np.float64), True),
        ("part suspect", suspect, True),
    ]
    where = "Galactic coordinates, l = b = 0 in the centre, longitude to the left; dashed is the celestial equator, "
    where += "the cross its pole. Quadrants as they lie on the sky; where fields overlap references are counted, "
    where += "other values averaged."
    pictures = [Picture(png(draw_maps(audit, shown)), "maps of references, their depth and suspects", where)]
    if plan is not None:
        counts = [("images that pass", plan["npassed"].to_numpy().astype(np.float64), True)]
        pictures.append(
            Picture(png(draw_maps(plan, counts)), "map of images that pass", "Images that meet every criterion.")
        )
    return Section("On the sky", "", pictures=pictures)


def _flatness(audit: pa.Table, settings: ReferenceSettings) -> Section:
    from ztfmatch.photometry.report.pictures.style import png
    from ztfmatch.references.pictures import draw_flatness

    pictures = [
        Picture(png(draw_flatness(audit, settings, names)), f"{names[0]} against {names[1]}", said)
        for names, said in (
            (("delta", "rms"), "Relative to PS1. Dashed: the thresholds."),
            (("lcdelta", "lcrms"), "Relative to the lightcurves. Suspects may be so for their seeds alone."),
        )
        if audit[names[0]].null_count < audit.num_rows
    ]
    return Section("Flatness", "" if pictures else "Nothing was compared.", pictures=pictures)


def _planned(plan: pa.Table) -> Section:
    from ztfmatch.photometry.report.pictures.style import png
    from ztfmatch.references.pictures import draw_histograms, filters_of

    fid = plan["fid"].to_numpy()
    action = plan["action"].cast(pa.string()).to_numpy(zero_copy_only=False)
    filters = filters_of(plan)
    rows = [[FILTER_CODES[k], *(int(((fid == k) & (action == name)).sum()) for name in ACTIONS)] for k in filters]

    def column(name: str, own: Any) -> Any:
        return plan[name].to_numpy(zero_copy_only=False).astype(np.float64)[own]

    depths = draw_histograms(
        filters,
        lambda k: [("now", column("depth", fid == k)),
                   ("new", column("predicted", (fid == k) & np.isin(action, ("make", "regenerate", "deepen"))))],
        "depth (mag)",
    )  # fmt: skip
    numbers = draw_histograms(
        filters, lambda k: [("judged", column("nimages", fid == k)), ("pass", column("npassed", fid == k))], "images"
    )
    pictures = [
        Picture(png(depths), "depths now and new", "Depth of today's references, and of those that are to be made."),
        Picture(png(numbers), "images of units", "Images of a unit, and those that meet every criterion."),
    ]
    return Section("What is planned", "", [Grid(["filter", *ACTIONS], rows)], pictures)


def _first(audit: pa.Table) -> Section:
    """Those to be mended first."""
    names = ["rank", "nwon", "nmissing", "nspurious"]
    flats = ["delta", "rms", "lcdelta", "lcrms"]
    chosen = audit.filter(audit["suspect"]).sort_by("rank").slice(0, _FIRST).to_pylist()
    rows = [[str(unit_of(row)), *(row[name] for name in names),
             *(None if row[name] is None else 1000.0 * row[name] for name in flats)] for row in chosen]  # fmt: skip
    headings = ["unit", *names, *(f"{name} (mmag)" for name in flats)]
    said = "Suspect references by the epochs that new ones would win, then by how far they are beyond the limits."
    return Section(
        "To be mended first", said if rows else "No reference is suspect.", [Grid(headings, rows)] if rows else []
    )
