"""Commands that make data releases of a snapshot."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

import datetime
import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli.angles import CONE
from ztfmatch.cli.common import (
    AnyCommand,
    Command,
    InOrder,
    OutputPlace,
    Size,
    counted,
    emit,
    json_option,
    open_store,
    polygon_numbers,
    progress_bar,
    resource_options,
    size_text,
)
from ztfmatch.core.config import Resources

if TYPE_CHECKING:
    from ztfmatch.release import HatsConfig, PublishReport

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUTPUT = OutputPlace()  # text: a Path would make s3:/ of a URL


class Date(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """An instant: an MJD, or a date with or without a time, UTC."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """MJD of the text."""
        if isinstance(value, float):
            return value
        from ztfmatch.release.io.scope import mjd_of

        try:
            plain: Any = float(value) if value.replace(".", "", 1).isdigit() else datetime.datetime.fromisoformat(value)
            return mjd_of(plain, 0.0) or 0.0
        except ValueError:
            self.fail(f"{value!r} is no date; expected something like 2018-11-15, or an MJD", param, ctx)


@click.group(cls=InOrder)
def publish() -> None:
    """Make a data release of a STORE.

    Only epochs in the scope of --release leave the store: a TOML file with programs and their dates, filters, fields
    and quality. OUTPUT must not exist; it appears when all of it is there, and the same command resumes what was
    interrupted. The same snapshot and scope give the same bytes.

    \b
    Examples:
      ztfmatch publish hats survey.store dr2 --release dr2.toml --dry-run
      ztfmatch publish hats survey.store dr2 --release dr2.toml --workers 8
      ztfmatch publish bulk survey.store dr2-files --release dr2.toml --workers 8
      ztfmatch publish tess survey.store s0014.tar --release dr2.toml --sector 14
    """


def release_options(command: AnyCommand) -> AnyCommand:
    """Add STORE, OUTPUT and what all products take; the command gets ``snapshot``, ``scope`` and ``resources``."""

    @functools.wraps(command)
    def gather(*args: Any, store: str, number: int | None, release: Path, allow: bool, **rest: Any) -> Any:
        from ztfmatch.release.io.scope import read_scope

        scope = read_scope(release)
        scope = replace(scope, private_corrections=True) if allow else scope
        return command(*args, snapshot=open_store(store).snapshot(number), scope=scope, **rest)

    decorators = [
        click.argument("store"),
        click.argument("output", type=_OUTPUT),
        click.option("--dry-run", is_flag=True, help="Only count objects and epochs by program; nothing is written."),
        click.option("--release", required=True, type=_FILE, metavar="FILE", help="Scope of the release, a TOML file."),
        click.option(
            "--snapshot", "number", type=click.IntRange(0), help="Snapshot to publish; the newest by default."
        ),
        click.option(
            "--allow-private-corrections",
            "allow",
            is_flag=True,
            help="Publish magnitudes even if their corrections were derived from epochs of programs out of scope.",
        ),
    ]
    gather = resource_options(json_option(gather))
    for decorator in reversed(decorators):
        gather = decorator(gather)
    return gather  # type: ignore[return-value]


def layout_options(command: AnyCommand) -> AnyCommand:
    """Add how large partitions are; the command gets ``layout``."""

    @functools.wraps(command)
    def gather(*args: Any, partition_size: int, partition_rows: int, magerr_bits: int = 24, **rest: Any) -> Any:
        from ztfmatch.release import HatsConfig

        layout = HatsConfig(partition_size, partition_rows, magerr_bits=magerr_bits)
        return command(*args, layout=layout, **rest)

    size = click.option("--partition-size", type=Size(), default="160MB", show_default=True,
                        help="Most bytes of a partition in memory.")  # fmt: skip
    rows = click.option("--partition-rows", type=click.IntRange(1), default=1_000_000, show_default=True,
                        help="Most rows of a partition.")  # fmt: skip
    return size(rows(gather))  # type: ignore[return-value]


@publish.command("hats", cls=Command)
@release_options
@layout_options
@click.option(
    "--magerr-bits",
    type=click.IntRange(1, 24),
    default=10,
    show_default=True,
    help="Significant bits kept of magerr: 10 round it by at most 0.05 %, 24 keep it exactly.",
)
def publish_hats(snapshot: Any, scope: Any, output: str, layout: HatsConfig, dry_run: bool,
                 resources: Resources, as_json: bool) -> None:  # fmt: skip
    """Write lightcurves as a HATS collection, which LSDB opens.

    One row an object with its lightcurve nested, in partitions of like size, with margin cache, index of objectids and
    sky map.

    \b
    Example:
      ztfmatch publish hats survey.store dr2 --release dr2.toml --workers 8
    """
    if dry_run:
        return _preview(snapshot, scope, output, None, resources, as_json)
    with progress_bar(as_json) as progress:
        return _show(snapshot.publish_hats(output, scope, layout, resources, progress), as_json)


@publish.command("objects", cls=Command)
@release_options
@layout_options
def publish_objects(snapshot: Any, scope: Any, output: str, layout: HatsConfig, dry_run: bool,
                    resources: Resources, as_json: bool) -> None:  # fmt: skip
    """Write the object source database: every object with the statistics of its released epochs.

    A HATS collection with the columns of IRSA's objects table; its files are plain Parquet. nobs and ngoodobs count
    the epochs of all programs, all else is made of the release's own.

    \b
    Example:
      ztfmatch publish objects survey.store dr2-objects --release dr2.toml
    """
    if dry_run:
        return _preview(snapshot, scope, output, None, resources, as_json)
    with progress_bar(as_json) as progress:
        return _show(snapshot.publish_objects(output, scope, layout, resources, progress), as_json)


@publish.command("bulk", cls=Command)
@release_options
def publish_bulk(snapshot: Any, scope: Any, output: str, dry_run: bool, resources: Resources, as_json: bool) -> None:
    """Write one Parquet file a field, filter and quadrant, as IRSA's bulk downloads.

    Files OUTPUT/lc_<release>/<0|1>/field<FFFFFF>/ztf_<FFFFFF>_<filter>_c<CC>_q<Q>_<release>.parquet, with a list of MD5
    sums.

    \b
    Example:
      ztfmatch publish bulk survey.store dr2-files --release dr2.toml --workers 8
    """
    if dry_run:
        return _preview(snapshot, scope, output, None, resources, as_json)
    with progress_bar(as_json) as progress:
        return _show(snapshot.publish_bulk(output, scope, resources, progress), as_json)


def region_options(command: AnyCommand) -> AnyCommand:
    """Add ways to name a part of the sky and of time; the command gets ``region``, ``since`` and ``until``."""

    @functools.wraps(command)
    def gather(*args: Any, cone: tuple[float, float, str] | None, polygon: str | None, moc: Path | None,
               **rest: Any) -> Any:  # fmt: skip
        return command(*args, region=_region(cone, polygon, moc), **rest)

    options = [
        click.option("--cone", type=CONE, metavar="RA DEC RADIUS",
                     help="Circle: centre in degrees (ICRS), radius with its unit: 8deg, 30arcmin, 120arcsec."),
        click.option("--polygon", metavar="'RA DEC RA DEC ...'", help="Vertices in degrees, joined by great circles."),
        click.option("--moc", type=_FILE, metavar="FILE",
                     help="Coverage map (MOC): FITS, JSON or ASCII, or such gzipped."),
        click.option("--since", type=Date(), help="Only exposures that began at this date (UTC) or MJD, or later."),
        click.option("--until", type=Date(), help="Only exposures that began before this date (UTC) or MJD."),
    ]  # fmt: skip
    for option in reversed(options):
        gather = option(gather)
    return gather  # type: ignore[return-value]


def _region(cone: tuple[float, float, str] | None, polygon: str | None, moc: Path | None) -> Any:
    """The region that was named, None where none was."""
    from ztfmatch.query import area

    given = [name for name, value in (("--cone", cone), ("--polygon", polygon), ("--moc", moc)) if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} contradict each other: give one of them.")
    if cone is not None:
        return area.cone_region(*cone)
    if polygon is not None:
        return area.polygon_region(polygon_numbers(polygon))
    return None if moc is None else area.moc_region(moc)


@publish.command("tess", cls=Command)
@release_options
@region_options
@click.option(
    "--sector",
    type=click.IntRange(1),
    required=True,
    help="Sector of TESS. Its footprint comes from tess-point (pip install 'ztfmatch[publish]') and its dates from the "
    "mission's schedule, unless a region, --since and --until are given.",
)
def publish_tess(snapshot: Any, scope: Any, output: str, sector: int, region: Any, since: float | None,
                 until: float | None, dry_run: bool, resources: Resources, as_json: bool) -> None:  # fmt: skip
    """Write the lightcurves in a TESS sector's footprint and dates as one tar file.

    \b
    Examples:
      ztfmatch publish tess survey.store s0014.tar --release dr2.toml --sector 14
      ztfmatch publish tess survey.store s0099.tar --release dr2.toml --sector 99 --moc s0099.fits --since 2026-01-10
    """
    from ztfmatch.release.tarball import sector_part

    part = sector_part(sector, region, since, until)
    if dry_run:
        return _preview(snapshot, scope, output, part, resources, as_json)
    with progress_bar(as_json) as progress:
        return _show(snapshot.publish_tar(output, scope, part, resources, progress), as_json)


@publish.command("tar", cls=Command)
@release_options
@region_options
@click.option("--label", default="region", show_default=True, help="Added to the release's label in file names.")
def publish_tar(snapshot: Any, scope: Any, output: str, label: str, region: Any, since: float | None,
                until: float | None, dry_run: bool, resources: Resources, as_json: bool) -> None:  # fmt: skip
    """Write the lightcurves of a region of the sky as one tar file.

    \b
    Example:
      ztfmatch publish tar survey.store kepler.tar --release dr2.toml --cone 290.7 44.5 8deg --label kepler
    """
    from ztfmatch.release.tarball import Part

    if region is None:
        raise click.UsageError("give a region: --cone, --polygon or --moc.")
    part = Part(label, region, since, until)
    if dry_run:
        return _preview(snapshot, scope, output, part, resources, as_json)
    with progress_bar(as_json) as progress:
        return _show(snapshot.publish_tar(output, scope, part, resources, progress), as_json)


def _preview(snapshot: Any, scope: Any, output: str, part: Any, resources: Resources, as_json: bool) -> None:
    """Say what a product would have of each program."""
    with progress_bar(as_json) as progress:
        made = snapshot.preview_release(output, scope, part, resources, progress)
    headline = (
        f"Release {made.release} of snapshot {made.snapshot} would have, of {made.region}, "
        f"{counted(made.objects, 'object')} with {made.epochs:,} of all {counted(made.snapshot_epochs, 'epoch')}; "
        f"{counted(made.active - made.objects, 'object')} without, which only 'publish objects' has"
    )
    programs = [
        f"  program {program.program} ({program.name}): {counted(program.objects, 'object')}, "
        f"{counted(program.epochs, 'epoch')}"
        for program in made.programs
    ]
    emit(made, as_json, [headline, *programs, "Nothing was written."])


def _show(report: PublishReport, as_json: bool) -> None:
    epochs = f", {counted(report.epochs, 'epoch')}" if report.epochs else ""
    headline = (
        f"Release {report.release} of snapshot {report.snapshot}: {counted(report.objects, 'object')}{epochs} in "
        f"{counted(report.files, 'file')}, {size_text(report.bytes)}, {report.seconds:.1f} s: {report.output}"
    )
    emit(report, as_json, [headline, *([f"sha256 {report.sha256}"] if report.sha256 else [])])
