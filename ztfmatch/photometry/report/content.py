"""The content of a report, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from ztfmatch.core.camera import field_grid
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.report.exposures import Exposures, mjd_range
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import (
    BRIGHT_RANGE_MAG,
    GOAL_MMAG,
    PHASES,
    channel_rows,
    coarse_factor,
    filter_rows,
    stars_per_cell,
)
from ztfmatch.photometry.report.page import Grid, Judged, Page, Picture, Section
from ztfmatch.photometry.report.pictures import (
    draw_channels,
    draw_eras,
    draw_exposures,
    draw_focal_plane,
    draw_histograms,
    draw_magnitudes,
    draw_scatter,
    draw_sky,
    draw_times,
    png,
)
from ztfmatch.photometry.report.pictures.times import MOST_CHANNELS
from ztfmatch.photometry.report.times import JOINED_SIDE, MOST_ERAS, known_channels
from ztfmatch.photometry.tables import RMS_RANGE_MAG

_MAGNITUDES: Final = "{:g} to {:g} mag".format(*RMS_RANGE_MAG)
_BRIGHT: Final = "{:g} to {:g} mag".format(*BRIGHT_RANGE_MAG)

_HEADINGS: Final = {
    "filter": "filter",
    "phase": "magnitudes",
    "channels": "channels",
    "stars": f"objects of {_MAGNITUDES}",
    "median_mmag": "their median residual (mmag)",
    "rms_mmag": "their robust RMS (mmag)",
    "cells_mmag": "RMS of map cells (mmag)",
    "units_mmag": "RMS of units (mmag)",
    "epochs_mmag": "RMS of their epochs about medians (mmag)",
    "scatter_mmag": f"lightcurve scatter, {_BRIGHT} (mmag)",
}


def page_of(
    snapshot: SnapshotFiles, measured: tuple[Sums, Sums | None], found: Exposures, config: CalibrateConfig
) -> Page:
    """The page of a snapshot, of what it has, and perhaps what other corrections would make of it."""
    sums, compared = measured
    return Page(
        "Photometry of a lightcurve store",
        "Residuals of the magnitudes that are stored, without and with photometric corrections. A residual is observed "
        "minus expected, so positive is too faint; mmag is millimagnitude.",
        _facts(snapshot, sums, found, config),
        [
            _key_figures(sums),
            *_residuals(sums),
            *_maps(sums),
            *_over_time(sums),
            *([] if compared is None else [_comparison(compared)]),
            *_rest(sums, found),
        ],
        list(_notes(sums, found)),
    )


def _facts(snapshot: SnapshotFiles, sums: Sums, found: Exposures, config: CalibrateConfig) -> dict[str, str]:
    days = mjd_range(found)
    facts = {
        "store": snapshot.storage.root,
        "snapshot": f"{snapshot.number}, by {snapshot.commit.operation}, {snapshot.commit.time}",
        "corrections": _corrections(found),
        "exposures": f"{found.total:,}" + (f", MJD {days[0]} to {days[1]}" if days else ""),
        "epochs": f"{sums.detections:,}, of these {sums.used:,} pass the cuts",
    }
    if sums.against_ps1:
        facts["PS1"] = f"{sums.compared:,} objects with an isolated star within {config.match_arcsec:g} arcsec"
    return facts | {"cuts": _cuts(sums, config), "ztfmatch": snapshot.commit.ztfmatch}


def _corrections(found: Exposures) -> str:
    """Names of the sets, and how many exposures have each."""
    named = sorted(((name or "none", n) for name, n in found.corrections.items()), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({n:,} exposures)" for name, n in named) or "none"


def _cuts(sums: Sums, config: CalibrateConfig) -> str:
    ps1 = f", PS1 errors up to {config.max_ps1_error:g} mag, alone within {config.isolation_arcsec:g} arcsec"
    return (
        f"catflags 0, exposure not bad, S/N at least {config.min_snr:g}, at least {config.min_epochs} such epochs; "
        f"constant lightcurves of {config.bright:g} to {config.faint:g} mag" + (ps1 if sums.against_ps1 else "")
    )


def _notes(sums: Sums, found: Exposures) -> Iterator[str]:
    if not sums.against_ps1:
        yield (
            "Made without a PS1 catalog: epochs are compared with the medians of their own lightcurves. That tells "
            "their scatter, not whether magnitudes are right; give --ps1 for residuals relative to PS1, by field and "
            "channel too."
        )
    if sums.phases == 1:
        yield "The store has no corrections: all magnitudes are as measured, and there is no 'after'."
    elif found.corrections.get(None):
        n = found.corrections[None]
        yield f"{n:,} of {found.total:,} exposures have no corrections; theirs are the same before and after."


def _key_figures(sums: Sums) -> Section:
    rows = filter_rows(sums)
    names = [name for name in _HEADINGS if name in rows[0]] if rows else []
    caption = (
        "Robust RMS: half the width of the central 68.27 %. Lightcurve scatter: median over lightcurves of 1.4826 MAD, "
        "variable ones included."
    )
    if sums.against_ps1:
        caption += (
            " An object is a star in one field, channel and filter; its residual is the mean of its epochs'. Aim: "
            f"corrected, they are below {GOAL_MMAG:g} mmag. Maps have {_cells(sums)}; units: mean of all epochs of a "
            "field and channel."
        )
    body = [[_judged(name, row, sums.phases) for name in names] for row in rows]
    return Section("Key figures", "", [Grid([_HEADINGS[name] for name in names], body, caption)])


def _cells(sums: Sums) -> str:
    size, stars = coarse_factor(sums), stars_per_cell(sums)
    return f"{sums.bins.nx // size} x {sums.bins.ny // size} cells a quadrant, usually {stars:.0f} objects each"


def _judged(name: str, row: Row, phases: int) -> Any:
    """A value of a row; what the aim is for is judged by it: the RMS of what is stored, where it is corrected."""
    value = row[name]
    aimed = name == "rms_mmag" and phases == 2 and row["phase"] == PHASES[1]
    return Judged(value, value < GOAL_MMAG) if aimed and not math.isnan(value) else value


def _residuals(sums: Sums) -> Iterator[Section]:
    what = "relative to PS1" if sums.against_ps1 else "of epochs about their lightcurves"
    curve = (
        "Each object is the mean of its epochs. Magnitude: what PS1 predicts for the filter, colour term included. A "
        "bias that grows to the bright end is the magnitude term; beyond the range of a channel's corrections it stays."
        if sums.against_ps1
        else "Epochs of constant lightcurves less the median of their lightcurve, by the latter."
    )
    yield Section(
        f"Residuals {what}, against magnitude",
        pictures=[
            Picture(
                png(draw_magnitudes(sums)),
                "Residuals against magnitude",
                f"{curve} Grey: density, logarithmic; the same scale of residuals in all panels. Orange: running "
                "median; blue: where the central 68 % lie.",
            )
        ],
    )
    whose = "Objects" if sums.against_ps1 else "Epochs"
    goal = (
        f" Pale band: {GOAL_MMAG:g} mmag about zero, the aim."
        if sums.against_ps1
        else " The peak at zero is the middle epoch of each lightcurve, which is its own median."
    )
    yield Section(
        f"Distribution of residuals {what}",
        pictures=[
            Picture(
                png(draw_histograms(sums)),
                "Histograms of residuals",
                f"{whose} of {_MAGNITUDES}. RMS: robust. Dotted: the normal distribution of that RMS and median.{goal}",
            )
        ],
    )


def _maps(sums: Sums) -> Iterator[Section]:
    """Nothing without PS1: relative to its own lightcurve a star has no residual at its place on the quadrant."""
    if not sums.against_ps1:
        return
    cells = _cells(sums)
    filters = [fid for fid in sums.filters if sums.channels(fid)]
    yield Section(
        "Residual maps over the focal plane",
        f"The 64 readout channels (rcid in the corner) as they lie on the sky, north up, east left; {cells}. These "
        "maps and those by channel have one scale of colours. Grey: no data.",
        pictures=[
            Picture(png(draw_focal_plane(sums, fid)), f"Focal plane in {FILTER_CODES[fid]}",
                    f"{FILTER_CODES[fid]}: mean residual of all epochs in a cell, all magnitudes and fields.")
            for fid in filters
        ],
    )  # fmt: skip
    yield Section(
        "Residual maps by readout channel",
        "The same by channel, in pixels of the quadrant. A level is the channel's offset, a pattern the flat field's.",
        [_channel_grid(channel_rows(sums))],
        [
            Picture(png(draw_channels(sums, fid)), f"Readout channels in {FILTER_CODES[fid]}",
                    f"{FILTER_CODES[fid]}: channels with data, {cells}.")
            for fid in filters
        ],
    )  # fmt: skip
    yield Section(
        "Residuals by field on the sky",
        pictures=[
            Picture(
                png(draw_sky(sums)),
                "Residuals by field on the sky",
                "Mean residual of the epochs of each unit (field, channel and filter) at its place; east is left. "
                f"Outlines are fields; grey: no data. The colours have a scale of their own.{_off_grid(sums)}",
            )
        ],
    )


def _off_grid(sums: Sums) -> str:
    """What the picture of the sky leaves out."""
    missing = sorted({unit.field for unit in sums.units} - field_grid().keys())
    return f" Not shown, since the survey's grid has none: field {', '.join(map(str, missing))}." if missing else ""


def _channel_grid(rows: list[Row]) -> Grid:
    names = list(rows[0]) if rows else []
    body = [[row[name] for name in names] for row in rows]
    heads = [name.removesuffix("_mmag").replace("_", " ") + (" (mmag)" if "mmag" in name else "") for name in names]
    heads = ["objects" if head == "stars" else head for head in heads]
    caption = f"Objects of {_MAGNITUDES}: number, median and robust RMS of their residuals."
    return Grid(heads, body, caption, f"Table of {len(rows)} channels")


def _over_time(sums: Sums) -> Iterator[Section]:
    """Nothing of data of one time."""
    if not known_channels(sums):
        return
    yield Section(
        "Residuals over time",
        pictures=[
            Picture(
                png(draw_times(sums)),
                "Residuals over time",
                "By slice of time, medians over channels; bands: where the central 68 % of these lie. Left: mean "
                f"residual of constant stars of {_MAGNITUDES}. Right: root mean square over {JOINED_SIDE} x "
                f"{JOINED_SIDE} places of the map less that of all times, beyond noise. Dotted: steps of the "
                "corrections.",
            )
        ],
    )
    yield Section(
        "Residual maps by era",
        "Eras lie between the steps of a channel's corrections; where they have none, these are parts of the time. "
        f"Shown are at most {MOST_CHANNELS} channels, those with steps first, and of each the last {MOST_ERAS} eras.",
        pictures=[
            Picture(
                png(draw_eras(sums)),
                "Residual maps by era",
                f"Mean residual of the epochs of an era, of stars of {_MAGNITUDES}; places are joined until they have "
                "enough of them.",
            )
        ],
    )


def _comparison(compared: Sums) -> Section:
    """The store's magnitudes beside those that other corrections make of the same stars."""
    rows = filter_rows(compared)
    names = [name for name in _HEADINGS if name in rows[0]] if rows else []
    grid = Grid([_HEADINGS[name] for name in names], [[row[name] for name in names] for row in rows])
    pictures = [
        Picture(png(draw_focal_plane(compared, fid)), f"Both corrections in {FILTER_CODES[fid]}",
                f"{FILTER_CODES[fid]}: mean residual of all epochs in a cell, {compared.titles[0]} and "
                f"{compared.titles[1]}.")
        for fid in (compared.filters if compared.against_ps1 else ())
        if compared.channels(fid)
    ]  # fmt: skip
    return Section(
        f"Corrections compared: {compared.titles[0]}, and {compared.titles[1]}",
        "The same stars and epochs, once as the store has them, once with the corrections given to the report.",
        [
            grid,
            *([_channel_grid(channel_rows(compared))] if compared.against_ps1 else []),
            *([_gain_grid(compared)] if compared.gains else []),
        ],
        pictures,
    )


def _gain_grid(compared: Sums) -> Grid:
    caption = (
        "What terms take away of the systematics of bright stars on a fifth of the exposures, and of the stars, that "
        "were held out when the corrections were made; negative: what a term makes worse."
    )
    rows = [[held, term, math.nan if taken is None else taken] for held, term, taken in compared.gains]
    return Grid([f"held out, {compared.titles[1]}", "term", "taken away (mmag)"], rows, caption)


def _rest(sums: Sums, found: Exposures) -> Iterator[Section]:
    yield Section(
        "Scatter of lightcurves against magnitude",
        pictures=[
            Picture(
                png(draw_scatter(sums)),
                "Scatter of lightcurves against magnitude",
                "1.4826 times the median absolute deviation of each lightcurve's clean epochs, all lightcurves. "
                "Corrections that do not change in time leave it as it is. At the faint end only epochs above the S/N "
                "cut count, so it falls. Dashed: mean error of the same epochs as stored, which it should follow.",
            )
        ],
    )
    zero_points = (
        " Residual zero point (relzp of the ledger): mean of bright constant stars less their lightcurves' medians."
        if found.relzp.any()
        else " Residual zero points (relzp) are not in the ledger: 'ztfmatch correct' brings them."
    )
    yield Section(
        "Exposures by quality",
        pictures=[
            Picture(
                png(draw_exposures(found)),
                "Exposures by quality",
                "Quality: the survey's rule on zero point, its scatter and its number of calibrators; unknown: its "
                f"inputs are missing. Epochs of bad exposures are in no other figure.{zero_points}",
            )
        ],
    )
