"""The command report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.calibration import cut_options, ps1_options
from ztfmatch.cli.common import Command, counted, emit, open_store, size_text
from ztfmatch.cli.paramtypes import PLACE
from ztfmatch.cli.terminal import cell, print_table
from ztfmatch.core.config import CalibrateConfig

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs


@click.command(cls=Command)
@click.argument("store")
@options.directory("Directory for the report; must not exist.")
@ps1_options()
@click.option(
    "--compare", type=PLACE, metavar="DIR", help="Other corrections, or the survey's tables, to compare with."
)
@cut_options
@options.snapshot
@options.runs
def report(store: str, output: Path, ps1: Path | None, compare: Path | None, columns: dict[str, str],
           snapshot: int | None, cells: int, running: Runs, as_json: bool, **cuts: Any) -> None:  # fmt: skip
    """Report on the photometric quality of a STORE.

    Writes a self-contained HTML page with plots without and with corrections: residuals from PS1 against magnitude,
    over the focal plane, over each readout channel, by field on the sky, and their distribution; the scatter of
    lightcurves; exposures by quality. The numbers are written as JSON, too. Without --ps1 it uses only lightcurves.
    --compare adds the result of other corrections, or of the survey's own tables, for the same stars. The store is not
    changed.

    \b
    Examples:
      ztfmatch report survey.store --output report --ps1 ps1.parquet --workers 8
      ztfmatch report survey.store --output report-old --snapshot 11
      ztfmatch report survey.store --output compared --ps1 ps1.parquet --compare /data/ztf/calibration/tables
    """
    from ztfmatch.photometry.report import ReportInputs

    config = CalibrateConfig(cells_x=cells, cells_y=cells, **cuts)
    with running as how:
        inputs = ReportInputs(output, ps1, columns, other=compare)
        done = open_store(store).report(inputs, config, snapshot=snapshot, **how)
    against = f"relative to PS1, {counted(done.stars, 'object')} with a PS1 star" if done.against_ps1 else "without PS1"
    line = (
        f"{done.page}: snapshot {done.snapshot}, {against}, {done.used:,} of {done.detections:,} detections; "
        f"{size_text(done.bytes)}, {done.seconds:.1f} s."
    )
    emit(done, as_json, [line])
    if not as_json and done.figures:
        names = list(done.figures[0])
        rows = [[cell(row[name], ".1f") for name in names] for row in done.figures]
        print_table(["objects" if name == "stars" else name.replace("_", " ") for name in names], rows)
