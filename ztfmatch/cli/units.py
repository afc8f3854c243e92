"""Commands for work divided into units: work, finish."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit
from ztfmatch.cli.dividing import FINISHED, end_if_finished, read_record
from ztfmatch.cli.paramtypes import Numbers, Share
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import paths
from ztfmatch.core.io.records import encode

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs


@click.command(cls=Command)
@click.argument("directory", metavar="DIR")
@click.option("--unit", "-u", type=Numbers(), metavar="NUMBERS", help="Units to run, from 0, such as 7, 3-17 or 0,4-6.")
@click.option("--share", type=Share(), metavar="I/N", help="Run the I-th of N shares of all units, I from 0.")
@options.flag("--count", "Only report the number of units and which are not done.")
@options.workers
def work(directory: str, unit: tuple[int, ...] | None, share: tuple[int, int] | None, count: bool, running: Runs,
         as_json: bool) -> None:  # fmt: skip
    """Run some of the units of work in DIR.

    A command with --units DIR writes them; when all are done, 'ztfmatch finish DIR' completes it. Units may run in any
    order, concurrently and repeatedly, on any machine with access to DIR and the store.

    \b
    Examples:
      ztfmatch work night --unit $SLURM_ARRAY_TASK_ID
      ztfmatch work night --share $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
      ztfmatch work night --count
    """
    from ztfmatch.core.runner import open_runner
    from ztfmatch.core.runner.units import Units, ranges_text

    if sum(chosen is not None for chosen in (unit, share, count or None)) != 1:
        raise click.UsageError("Give one of --unit, --share and --count.")
    units = Units.at(directory)
    end_if_finished(units.storage)
    if count:
        missing = units.missing()
        left = f", not done: {ranges_text(missing)}" if missing else ", all done"
        facts = {"units": units.plan.units, "missing": missing}
        emit(facts, as_json, [f"{counted(units.plan.units, 'unit')}{left if units.plan.units else ''}"])
        return
    numbers = units.share(*share) if share is not None else unit or ()
    with running as how, open_runner(**how) as runner:
        report = units.work(numbers, runner)
    done = f"units {ranges_text(sorted(set(numbers)))}" if numbers else "no unit"
    emit(report, as_json, [f"Done: {done} of {report.of} in {report.directory}."])


@click.command(cls=Command)
@click.argument("directory", metavar="DIR")
@options.workers
@click.pass_context
def finish(ctx: click.Context, directory: str, running: Runs, as_json: bool) -> None:
    """Complete the command whose units of work are in DIR.

    Checks the results of the units, runs the few remaining steps, and commits. If units are not done, it lists them
    with exit code 1. A second run reports that nothing is left to do, with exit code 0.

    \b
    Example:
      ztfmatch finish night
    """
    from ztfmatch.core.runner.units import Units

    units = Units.at(directory)
    end_if_finished(units.storage)
    _ = units.plan  # which raises where there is none
    command = read_record(units.storage, paths.COMMAND_FILE)
    if command is None:
        raise ConfigError(f"{units.storage.root} does not say which command its units are of")
    words, place = (command[name] for name in ("words", "directory"))
    os.chdir(str(place))
    with running as how:
        resources = replace(how["resources"], units=units.storage.root)  # type: ignore[type-var]
    code = _repeat(ctx, [str(word) for word in words], resources, as_json)  # type: ignore[attr-defined]
    if code == 0:
        units.storage.put(paths.FINISHED_FILE, encode(FINISHED))
    ctx.exit(code)


def _repeat(ctx: click.Context, words: list[str], resources: object, as_json: bool) -> int:
    """Run a command again with other resources; its exit code."""
    at = words.index("--") if "--" in words else len(words)
    args = [*words[:at], *(["--json"] if as_json else []), *words[at:]]
    root = ctx.find_root()
    try:
        code = root.command.main(args, root.info_name, standalone_mode=False, obj=resources)
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else 0
