"""Options shared by several commands."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ztfmatch.cli.messages import is_quiet
from ztfmatch.cli.paramtypes import (
    CONE,
    FILE,
    Duration,
    Filters,
    LogFile,
    OutputFile,
    OutputPlace,
    PictureFile,
    Radius,
    Size,
)
from ztfmatch.cli.progress import progress_shown
from ztfmatch.core.config import Resources, StoreConfig
from ztfmatch.core.plain import Keywords

if TYPE_CHECKING:
    from ztfmatch.api.running import Running

    Runs = AbstractContextManager[Running]
    """A block in which tasks run: gives the keywords that say where, and shows their progress."""

_MANY: Final = 1 << 17
"""Of places; they are packed."""

Option = Callable[[Any], Any]
"""What adds an option, or several, to a command."""


def together(*declared: Option) -> Option:
    """Several options as one; help lists them in this order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(declared), command)


def gathered(make: Callable[..., Keywords]) -> Option:
    """Let a command get in place of some options what is made of them; ``make`` takes them by their names."""
    names = inspect.signature(make).parameters

    def wrapped(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            own = {name: given.pop(name) for name in names if name in given}
            return command(*args, **given, **make(**own))

        return run

    return wrapped


def flag(option: str, said: str, *name: str) -> Option:
    """Add an option without a value."""
    return click.option(option, *name, is_flag=True, help=said)


def file(option: str, said: str, *name: str, **more: Any) -> Option:
    """Add an option that names a file which is read."""
    return click.option(option, *name, type=FILE, metavar="FILE", help=said, **more)


def new_file(option: str, said: str) -> Option:
    """Add an option that names a file which is written."""
    return click.option(option, type=OutputFile(), metavar="FILE", help=said)


def choice(option: str, choices: Sequence[str], said: str, *name: str) -> Option:
    """Add an option of some words, of which the first is the default."""
    return click.option(option, *name, type=click.Choice(choices), default=choices[0], show_default=True, help=said)


def dry_run(said: str = "Only report what would be done.") -> Option:
    """Add --dry-run."""
    return flag("--dry-run", said)


def strict(said: str) -> Option:
    """Add --strict."""
    return flag("--strict", f"Fail if {said}.")


def fail_if_empty(files: str) -> Option:
    """Add --fail-if-empty."""
    return flag("--fail-if-empty", f"Fail if there are no {files}, instead of only reporting it.")


def _keep(overwrite: bool) -> Keywords:
    """Refuse to write to a file that is there, unless --overwrite is given."""
    ctx = click.get_current_context()
    written = [param for param in ctx.command.params if type(param.type) in (OutputFile, PictureFile)]
    for path in [] if overwrite else [ctx.params.get(str(param.name)) for param in written]:
        if path is not None and path.is_file():
            raise click.UsageError(f"{path} is there already: give --overwrite to replace it, or another name.")
    return {}


overwrite: Final = together(flag("--overwrite", "Overwrite an existing output file."), gathered(_keep))
"""Add --overwrite, without which no file that the command is to write may be there."""


def plot(said: str) -> Option:
    """Add --plot."""
    return click.option("--plot", type=PictureFile(), help=said)


from_file: Final = click.option(
    "--from-file",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="LIST",
    help="File that lists places, one per line; - is standard input. Repeatable.",
)


def _lists(name: str, missing: str) -> Option:
    """Add --from-file, whose lines are places beside those given as ``name``; there ``-`` is the standard input."""

    def gather(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, from_file: tuple[str, ...], **rest: Any) -> Any:
            if not (rest[name] or from_file):
                raise click.UsageError(f"Missing {missing}, or --from-file.")
            parts = [listed("-") if one == "-" else [one] for one in rest[name]] + [listed(path) for path in from_file]
            every = _texts(itertools.chain.from_iterable(parts))
            rest[name] = tuple(every) if isinstance(every, list) else every
            return command(*args, **rest)

        return run

    return together(from_file, gather)


def lines_of(path: str) -> Iterator[str]:
    """Lines of a file, or of the standard input (``-``), that are not empty, as they are read.

    Raises
    ------
    click.UsageError
        If it is not text.
    """
    try:
        with click.open_file(path, encoding="utf-8") as lines:
            yield from (place for line in lines if (place := line.rstrip("\n")).strip())
    except UnicodeDecodeError:
        raise click.UsageError(f"--from-file {path} is not text; expected a place a line.") from None


def listed(path: str) -> Sequence[str]:
    """The same, once and for all: as they were noted where work was divided."""
    from ztfmatch.core.io.noted import noted, notes

    if notes() is not None:
        return noted(f"lines of {path}", list[str], lambda: list(lines_of(path)))
    return _texts(lines_of(path))


def _texts(texts: Iterator[str]) -> Sequence[str]:
    """A list; where they are very many a packed one."""
    few = list(itertools.islice(texts, _MANY))
    if len(few) < _MANY:
        return few
    from ztfmatch.core.io.packed import Packed

    return Packed(itertools.chain(few, texts))


catalogs: Final = together(click.argument("catalogs", nargs=-1), _lists("catalogs", "argument 'CATALOGS...'"))
"""CATALOGS, as places, and files that list such."""


def references(said: str) -> Option:
    """Add --references, and files that list such."""
    return together(
        click.option("--references", "-r", multiple=True, metavar="PLACE", help=said),
        _lists("references", "option '--references'"),
    )


def number(option: str, kind: click.ParamType[Any], default: float, said: str, *name: str) -> Option:
    """Add an option with a number that help shows; the command gets it as ``name``, if that is another."""
    return click.option(option, *name, type=kind, default=default, show_default=True, help=said)


def directory(said: str, required: bool = True) -> Option:
    """Add --output, a directory to be made."""
    kind = OutputPlace(path_type=Path)
    return click.option("--output", "-o", required=required, type=kind, metavar="DIR", help=said)


def cone(said: str) -> Option:
    """Add --cone."""
    return click.option("--cone", type=CONE, metavar="RA DEC RADIUS", help=said)


def _place(cone: tuple[str, str, str] | None, name: tuple[str, str] | None, names: Path | None) -> Keywords:
    """The circle that was given, or that about a name."""
    if name is None:
        return {"cone": cone}
    if cone is not None:
        raise click.UsageError("--cone and --name contradict each other: give one of them.")
    from ztfmatch.query.io.names import resolve_name

    ra, dec = resolve_name(name[0], names)
    return {"cone": (repr(ra), repr(dec), name[1])}


def place(said: str) -> Option:
    """Add --cone, or --name with a table of --names in its place; the command gets ``cone``."""
    return together(
        cone(said),
        click.option("--name", type=(str, str), metavar="NAME RADIUS",
                     help="Circle around a name: one of --names, or a coordinate name (J162819.90+325717.3)."),
        file("--names", "Table of names: columns name, ra, dec (.csv, .parquet, .ecsv, .fits, .xml); by default "
                    "ZTFMATCH_NAMES of the environment.", envvar="ZTFMATCH_NAMES"),
        gathered(_place),
    )  # fmt: skip


def filters(said: str = "Only these filters, comma-separated: g, r, i (or zg, or 1).", **more: Any) -> Option:
    """Add --filter, which means the same in every command; the command gets ids of filters as ``filters``."""
    return click.option("--filter", "filters", type=Filters(), metavar="g,r,i", help=said, **more)


def store_config(of: str = "") -> Option:
    """Add what is settled when a store is made; the command gets one ``store_config``."""
    return together(
        number("--radius", Radius(), StoreConfig.radius_arcsec,
                      f"Match radius in arcsec, inclusive; cannot be changed later{of}."),
        number("--seeds-per-tile", click.INT, StoreConfig.seeds_per_tile,
                      f"Maximum number of seeds of a HEALPix tile{of}."),
        gathered(lambda radius, seeds_per_tile: {"store_config": StoreConfig(radius, seeds_per_tile)}),
    )  # fmt: skip


as_json: Final = flag("--json", "Print the result as JSON.", "as_json")
note: Final = click.option("--note", help="Comment recorded in the history.")
snapshot: Final = click.option("--snapshot", type=click.IntRange(0), help="Snapshot number; by default the newest.")
polygon: Final = click.option(
    "--polygon", metavar="'RA DEC RA DEC ...'", help="Vertices in degrees, connected by great circles."
)
moc: Final = file("--moc", "Coverage map (MOC) as FITS, JSON or ASCII; may be gzipped.")


def polygon_numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers of --polygon."""
    try:
        return None if text is None else tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise click.UsageError(f"--polygon {text!r} are not numbers; expected 'RA DEC RA DEC ...'.") from None


def _resources(workers: int, scheduler: str | None, cluster: str | None, memory: int, wait: float | None,
               performance_report: Path | None, units: str | None = None) -> Keywords:  # fmt: skip
    """Where tasks run."""
    report = None if performance_report is None else str(performance_report)
    resources = Resources(
        workers, scheduler, cluster, memory_bytes=memory, wait_s=wait, performance_report=report, units=units
    )
    resources.validate()
    if workers and scheduler is None and cluster in (None, "local"):
        from ztfmatch.core import prefork

        prefork.start()  # it gets ready while this process imports the rest
    if cluster is not None:
        from ztfmatch.core.clusters import read_profile

        read_profile(cluster)
    return {"running": _running(click.get_current_context().obj or resources)}


@contextmanager
def _running(resources: Resources) -> Iterator[Running]:
    with progress_shown(is_quiet()) as progress:
        yield {"resources": resources, "progress": progress}


workers: Final = together(
    click.option("--workers", "-w", type=click.IntRange(0), default=0,
                 help="Number of worker processes to start; with --cluster by default that of the profile. Without "
                 "either everything runs in this process."),
    click.option("--scheduler", metavar="ADDRESS",
                 help="Use the workers of a running Dask scheduler, such as tcp://host:8786, or of a Dask gateway: "
                 "gateway://HOST starts a cluster of --workers, gateway://HOST/NAME uses a running one (needs "
                 "pip install 'ztfmatch[gateway]')."),
    click.option("--cluster", metavar="PROFILE",
                 help="Start the workers of a profile: local, slurm (needs pip install 'ztfmatch[slurm]'), allocation "
                 "(where srun started the command), or the path of a TOML file."),
    click.option("--memory", type=Size(), default="2GiB", show_default=True,
                 help="Memory budget of a worker; tasks that need more are refused before anything runs."),
    click.option("--wait", type=Duration(), metavar="TIME",
                 help="Give up after this long without any worker, such as 30m; by default 10m, or as set in the "
                 "profile of --cluster."),
    click.option("--performance-report", type=LogFile(), metavar="FILE",
                 help="Write Dask's performance report as HTML (needs bokeh)."),
    as_json,
    gathered(_resources),
)  # fmt: skip
"""Where tasks run, and --json; the command gets ``running`` and ``as_json``."""

runs: Final = together(
    click.option("--units", metavar="DIR",
                 help="Divide the work into units in DIR instead of running it: 'ztfmatch work DIR' runs them, "
                 "'ztfmatch finish DIR' completes the command."),
    workers,
)  # fmt: skip
"""The same of a command whose work can be divided."""
