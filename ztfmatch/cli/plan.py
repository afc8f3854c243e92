"""The command plan: the cost of an operation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit_json, size_text
from ztfmatch.cli.terminal import print_table
from ztfmatch.core.display import duration_text

if TYPE_CHECKING:
    from ztfmatch.core.operations.forecast import Forecast, JobForecast

_OPERATIONS = ("init", "append", "statistics", "transients", "link", "compact", "rematch", "verify", "publish")

_UNEVEN = 2.0
"""Longest over mean task from which it is told of."""


@click.command(cls=Command)
@click.argument("operation", type=click.Choice(_OPERATIONS), metavar="OPERATION")
@click.argument("store")
@click.argument("places", nargs=-1)
@options.from_file
@click.option(
    "--on",
    type=click.IntRange(1),
    multiple=True,
    metavar="NUMBER",
    help="Number of workers for which to estimate the wall time; by default 1, 8, 64 and 512. Repeatable.",
)
@options.as_json
def plan(operation: str, store: str, places: tuple[str, ...], from_file: tuple[str, ...], on: tuple[int, ...],
         as_json: bool) -> None:  # fmt: skip
    """Estimate the cost of an OPERATION on a STORE.

    OPERATION is init, append, statistics, transients, link, compact, rematch, verify or publish.

    Reports tasks, bytes, files, memory, core-hours, and the wall time by number of workers, beside the speed of the
    same operation on this store so far. PLACES are the catalogs of an append, or the references of an init or a
    rematch. Of catalogs listed by name only the sizes of a sample are read, so that millions take minutes. 'publish' is
    'publish hats' of everything.

    Times are sums of constants measured on two shared cores of an AMD EPYC; --json gives them with the benchmark that
    measures each.

    \b
    Examples:
      ztfmatch plan append survey.store /data/ztf/sci/2019/0107 --on 16
      ztfmatch plan append survey.store --from-file first_year.txt --json
      ztfmatch plan init survey.store /data/ztf/ref
      ztfmatch plan compact survey.store
    """
    from ztfmatch.api.planning import OF_CATALOGS, forecast
    from ztfmatch.core.operations.forecast import WORKERS, as_machine

    if operation in OF_CATALOGS and not (places or from_file):
        raise click.UsageError(f"Missing argument 'PLACES...', or --from-file: the catalogs of this {operation}.")
    every = itertools.chain(places, *map(options.lines_of, from_file)) if from_file else places
    found = forecast(operation, store, every, workers=on or WORKERS)
    if as_json:
        emit_json(as_machine(found))
    else:
        _show(found)


def _show(found: Forecast) -> None:
    click.echo(f"{found.operation}: {found.what}")
    if not found.jobs:
        click.echo("There is nothing to do.")
        return
    click.echo()
    print_table(["job", "tasks", "core time", "longest", "read", "written", "files", "memory"], _rows(found.jobs))
    commits = f", in {counted(found.commits, 'commit')}" if found.commits > 1 else ""
    click.echo(
        f"\nIn all {duration_text(3600.0 * found.core_hours)} of a core, {counted(found.tasks, 'task')}; reads "
        f"{size_text(found.bytes_read)}, writes {size_text(found.bytes_written)} in {counted(found.files, 'file')}"
        f"{commits}.\nA worker needs {size_text(found.memory_bytes)}, the main process "
        f"{size_text(found.main_memory_bytes)}.\n"
    )
    print_table(
        ["workers", "wall time", "mostly"],
        [(one.workers, duration_text(one.seconds), one.dominated_by) for one in found.wall],
    )
    for line in _notes(found):
        click.echo(line)


def _rows(jobs: Sequence[JobForecast]) -> list[tuple[object, ...]]:
    return [
        (
            job.job,
            job.tasks,
            duration_text(job.cpu_s),
            duration_text(job.longest_s),
            size_text(job.bytes_read),
            size_text(job.bytes_written),
            job.files,
            size_text(job.memory_bytes),
        )
        for job in jobs
    ]


def _notes(found: Forecast) -> Iterator[str]:
    yield ""
    uneven = max(found.jobs, key=lambda job: job.longest_over_mean)
    if uneven.longest_over_mean > _UNEVEN:
        yield f"The longest task of {uneven.job} takes {uneven.longest_over_mean:.1f} times the mean."
    if found.history is not None and found.history_s is not None:
        of = found.history
        yield (
            f"{found.operation} on this store before: {counted(of.snapshots, 'commit')}, {of.rate:,.0f} {of.work} a "
            f"second of wall time; at that rate {duration_text(found.history_s)}."
        )
    for assumed in found.assumed:
        yield f"Assumed: {assumed}."
