"""Options that several commands have, each declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ztfmatch.cli.paramtypes import CONE, FILE, Duration, OutputFile, Radius, Size
from ztfmatch.cli.progress import progress_shown
from ztfmatch.cli.tasklog import logged
from ztfmatch.core.config import Resources, StoreConfig

if TYPE_CHECKING:
    from ztfmatch.api.running import Running

    Runs = AbstractContextManager[Running]
    """A block in which tasks run: gives the keywords that say where, and shows their progress."""

Option = Callable[[Any], Any]
"""What adds an option, or several, to a command."""


def options(*declared: Option) -> Option:
    """Several options as one; help lists them in this order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(declared), command)


def dry_run_option(said: str = "Only say what would be done.") -> Option:
    """Add --dry-run."""
    return click.option("--dry-run", is_flag=True, help=said)


def strict_option(said: str) -> Option:
    """Add --strict."""
    return click.option("--strict", is_flag=True, help=f"Fail if {said}.")


def fail_if_empty_option(files: str) -> Option:
    """Add --fail-if-empty."""
    return click.option("--fail-if-empty", is_flag=True, help=f"Fail if there are no {files}, instead of saying so.")


def plot_option(said: str) -> Option:
    """Add --plot."""
    return click.option("--plot", type=OutputFile(), help=said)


def references_option(said: str) -> Option:
    """Add --references."""
    return click.option("--references", "-r", multiple=True, required=True, metavar="PLACE", help=said)


def cone_option(said: str) -> Option:
    """Add --cone."""
    return click.option("--cone", type=CONE, metavar="RA DEC RADIUS", help=said)


def store_config_options(of: str = "") -> Option:
    """Add what is settled when a store is made; the command gets one ``store_config``."""

    def gather(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, radius: float, seeds_per_tile: int, **rest: Any) -> Any:
            return command(*args, store_config=StoreConfig(radius, seeds_per_tile), **rest)

        return run

    return options(
        click.option("--radius", type=Radius(), default=StoreConfig.radius_arcsec, show_default=True,
                     help=f"Match radius in arcsec, inclusive; fixed for the life of the store{of}."),
        click.option("--seeds-per-tile", type=int, default=StoreConfig.seeds_per_tile, show_default=True,
                     help=f"A HEALPix tile with more seeds is split{of}."),
        gather,
    )  # fmt: skip


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")
note_option: Final = click.option("--note", help="Kept in the history.")
snapshot_option: Final = click.option(
    "--snapshot", type=click.IntRange(0), help="Number of the snapshot; the newest by default."
)
polygon_option: Final = click.option(
    "--polygon", metavar="'RA DEC RA DEC ...'", help="Vertices in degrees, joined by great circles."
)
moc_option: Final = click.option(
    "--moc", type=FILE, metavar="FILE", help="Coverage map (MOC): FITS, JSON or ASCII, also gzipped."
)


def polygon_numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers of --polygon."""
    try:
        return None if text is None else tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise click.UsageError(f"--polygon {text!r} are no numbers; expected 'RA DEC RA DEC ...'.") from None


def _with_resources(command: Any) -> Any:
    @functools.wraps(command)
    def run(*args: Any, workers: int, scheduler: str | None, cluster: str | None, memory: int, wait: float | None,
            as_json: bool, quiet: bool, log_file: Path | None, log_level: str, performance_report: Path | None,
            **rest: Any) -> Any:  # fmt: skip
        from ztfmatch.core import prefork
        from ztfmatch.core.clusters import read_profile

        report = None if performance_report is None else str(performance_report)
        resources = Resources(workers, scheduler, cluster, memory_bytes=memory, wait_s=wait, performance_report=report)
        resources.validate()
        if workers and cluster in (None, "local"):
            prefork.start()  # it gets ready while this process imports the rest
        if cluster is not None:
            read_profile(cluster)
        with logged(log_file, log_level):
            return command(*args, running=_running(resources, quiet), as_json=as_json, **rest)

    return run


@contextmanager
def _running(resources: Resources, quiet: bool) -> Iterator[Running]:
    with progress_shown(quiet) as progress:
        yield {"resources": resources, "progress": progress}


run_options: Final = options(
    click.option("--workers", "-w", type=click.IntRange(0), default=0,
                 help="Worker processes to start for this command, or the profile's number with --cluster. "
                 "Without either it works in this process alone."),
    click.option("--scheduler", metavar="ADDRESS",
                 help="Use the workers of the Dask scheduler that runs there, such as tcp://host:8786."),
    click.option("--cluster", metavar="PROFILE",
                 help="Start the workers of a profile: local, slurm (needs pip install 'ztfmatch[slurm]'), or the "
                 "path of a TOML file."),
    click.option("--memory", type=Size(), default="2GiB", show_default=True,
                 help="Memory budget of a worker; a task that would need more is refused before the start."),
    click.option("--wait", type=Duration(), metavar="TIME",
                 help="Give up after so long without any worker, such as 30m; by default 10m, or what the profile "
                 "of --cluster says."),
    click.option("--quiet", "-q", is_flag=True, help="No progress; only warnings and errors."),
    click.option("--log-file", type=OutputFile(), metavar="FILE",
                 help="Append a line of JSON for each task (key, seconds, peak memory, worker, outcome) and message."),
    click.option("--log-level", type=click.Choice(["info", "warning", "error"]), default="info", show_default=True,
                 help="What goes to --log-file: with error only what failed."),
    click.option("--performance-report", type=OutputFile(), metavar="FILE",
                 help="Write what Dask's workers did, as HTML, at the end (needs bokeh)."),
    json_option,
    _with_resources,
)  # fmt: skip
"""Where tasks run, and --json; the command gets ``running`` and ``as_json``."""
