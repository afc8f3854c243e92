"""The command nightly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.append import append_lines
from ztfmatch.cli.common import Command, as_plain, emit_json
from ztfmatch.cli.kowalski import described_export, described_load
from ztfmatch.cli.paramtypes import FILE
from ztfmatch.cli.store import statistics_lines, transients_lines
from ztfmatch.cli.terminal import print_table

if TYPE_CHECKING:
    from ztfmatch.api.nightly import NightStep
    from ztfmatch.cli.options import Runs


@click.command(cls=Command)
@click.argument("store")
@options.catalogs
@click.option(
    "--config", "path", type=FILE, metavar="FILE", help="TOML with the settings of the steps; see jobs/nightly.toml."
)
@options.workers
def nightly(store: str, catalogs: tuple[str, ...], path: Path | None, running: Runs, as_json: bool) -> None:
    """Ingest a night and run the steps that follow.

    Runs append, statistics, transients and export, in this order; the first that fails ends the run with its exit code.
    What was committed before stays, and a rerun continues from there.

    \b
    Examples:
      ztfmatch nightly survey.store /data/ztf/sci/2019/0107 --config nightly.toml --workers 8
      ztfmatch nightly survey.store --from-file arrived.txt
    """
    from ztfmatch import api
    from ztfmatch.api.nightly import NightConfig, read_night, run_night
    from ztfmatch.core.runner import open_runner

    config = NightConfig() if path is None else read_night(path)
    storage = api.open_store(store).storage
    steps: list[NightStep] = []
    try:
        with running as how, open_runner(**how) as runner:
            for step in run_night(storage, catalogs, config, runner, lambda text: click.echo(text, err=True)):
                steps.append(step)  # noqa: PERF402  (those before one that fails are told of, too)
    except BaseException:
        if steps and not as_json:
            _show(steps, catalogs, config.min_new)
        raise
    if as_json:
        emit_json({"store": store, "steps": {step.step: as_plain(step.report) for step in steps}})
    else:
        _show(steps, catalogs, config.min_new)


def _show(steps: list[NightStep], catalogs: tuple[str, ...], min_new: float) -> None:
    said = [(step, _lines(step, catalogs, min_new)) for step in steps]
    print_table(["step", "what it did"], [(step.step, lines[0]) for step, lines in said])
    for _, lines in said:
        for line in lines[1:]:
            click.echo(line)


def _lines(step: NightStep, catalogs: tuple[str, ...], min_new: float) -> list[str]:
    report: Any = step.report
    match step.step:
        case "append":
            return append_lines(report, catalogs)
        case "statistics":
            return statistics_lines(report, min_new)
        case "transients":
            return transients_lines(report)
        case "export":
            return [described_export(report)]
    return [described_load(report)]
