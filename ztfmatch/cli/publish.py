"""Commands that make data releases of a snapshot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, InOrder, counted, emit, open_store, size_text
from ztfmatch.cli.paramtypes import PRODUCT, Date, Size
from ztfmatch.cli.publishcheck import check, diff_releases, init
from ztfmatch.core.plain import Keywords

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.release import HatsConfig, Part, PublishReport, ReleasePreview


@click.group(cls=InOrder)
def publish() -> None:
    """Make a data release of a STORE.

    Only epochs in the scope given by --release are published: a TOML file with programs and their dates, filters,
    fields and quality cuts. OUTPUT must not exist; it appears only when it is complete, and a rerun resumes an
    interrupted command. The same snapshot and scope give the same bytes.

    \b
    Examples:
      ztfmatch publish hats survey.store dr2 --release dr2.toml --dry-run
      ztfmatch publish hats survey.store dr2 --release dr2.toml --workers 8
      ztfmatch publish bulk survey.store dr2-files --release dr2.toml --workers 8
      ztfmatch publish tess survey.store s0014.tar --release dr2.toml --sector 14
    """


@dataclass(frozen=True)
class _Product:
    """What a command makes: a method of a snapshot, and what it gets beside output and scope."""

    make: Callable[..., PublishReport]
    arguments: tuple[Any, ...] = ()
    part: Part | None = None
    """Part of the sky and of time that it is restricted to."""


def _published(command: Callable[..., _Product]) -> Any:
    """Make the product that a command names, or with --dry-run count what it would have."""

    @functools.wraps(command)
    def run(*, store: str, output: str, number: int | None, release: Path, allow: bool, dry_run: bool, running: Runs,
            as_json: bool, **rest: Any) -> None:  # fmt: skip
        from ztfmatch.release.io.scope import read_scope

        scope = read_scope(release)
        scope = replace(scope, private_corrections=True) if allow else scope
        snapshot = open_store(store).snapshot(number)
        product = command(**rest)
        with running as how:
            if dry_run:
                preview = snapshot.preview_release(output, scope, product.part, **how)
            else:
                report = product.make(snapshot, output, scope, *product.arguments, **how)
        if dry_run:
            _show_preview(preview, as_json)
        else:
            _show(report, as_json)

    return run


def _layout(partition_size: int, partition_rows: int, magerr_bits: int = 24) -> Keywords:
    from ztfmatch.release import HatsConfig

    return {"layout": HatsConfig(partition_size, partition_rows, magerr_bits=magerr_bits)}


def _region(cone: tuple[str, str, str] | None, polygon: str | None, moc: Path | None) -> Keywords:
    """The region that was named, None where none was."""
    from ztfmatch.query import area

    given = [name for name, value in (("--cone", cone), ("--polygon", polygon), ("--moc", moc)) if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} contradict each other: give one of them.")
    if cone is not None:
        return {"region": area.cone_region(*cone)}
    if (numbers := options.polygon_numbers(polygon)) is not None:
        return {"region": area.polygon_region(numbers)}
    return {"region": None if moc is None else area.moc_region(moc)}


release_options = options.together(
    click.argument("store"),
    click.argument("output", type=PRODUCT),
    options.dry_run("Only count objects and epochs by program; write nothing."),
    options.file("--release", "Scope of the release (TOML).", required=True),
    click.option("--snapshot", "number", type=click.IntRange(0), help="Snapshot to publish; the newest by default."),
    options.flag("--allow-private-corrections", "Publish magnitudes even if their corrections were derived from epochs "
                "of programs outside the scope.", "allow"),
    options.runs,
    _published,
)  # fmt: skip
"""STORE, OUTPUT and what all products take. The command gets none of it: it names the product."""

layout_options = options.together(
    click.option("--partition-size", type=Size(), default="160MB", show_default=True,
                 help="Maximum size of a partition in memory."),
    options.number("--partition-rows", click.IntRange(1), 1_000_000, "Maximum number of rows of a partition."),
    options.gathered(_layout),
)  # fmt: skip
"""How large partitions are; the command gets ``layout``."""

region_options = options.together(
    options.cone("Circle: centre in degrees (ICRS), radius with unit: 8deg, 30arcmin, 120arcsec."),
    options.polygon,
    options.moc,
    click.option("--since", type=Date(), help="Only exposures that began at or after this date (UTC) or MJD."),
    click.option("--until", type=Date(), help="Only exposures that began before this date (UTC) or MJD."),
    options.gathered(_region),
)
"""A part of the sky and of time; the command gets ``region``, ``since`` and ``until``."""


@publish.command("hats", cls=Command)
@release_options
@layout_options
@options.number(
    "--magerr-bits",
    click.IntRange(1, 24),
    10,
    "Significant bits of magerr: 10 round it by at most 0.05 %, 24 keep it exactly.",
)
@options.choice(
    "--by",
    ("object", "star"),
    "One row per object, or per star with the epochs of all its objects in all filters.",
)
def publish_hats(layout: HatsConfig, by: str) -> _Product:
    """Publish lightcurves as a HATS collection for LSDB.

    One row per object with a nested lightcurve, in partitions of similar size, with margin cache, objectid index and
    sky map. With --by star one row per star ('ztfmatch link'), whose epochs have their object, field, channel and
    filter.

    \b
    Examples:
      ztfmatch publish hats survey.store dr2 --release dr2.toml --workers 8
      ztfmatch publish hats survey.store dr2-stars --release dr2.toml --by star
    """
    from ztfmatch.api import Snapshot

    return _Product(Snapshot.publish_stars if by == "star" else Snapshot.publish_hats, (layout,))


@publish.command("objects", cls=Command)
@release_options
@layout_options
def publish_objects(layout: HatsConfig) -> _Product:
    """Publish all objects with the statistics of their released epochs.

    The object source database: a HATS collection with the columns of IRSA's objects table; its files are plain Parquet.
    nobs and ngoodobs count the epochs of all programs; all other statistics use only released epochs.

    \b
    Example:
      ztfmatch publish objects survey.store dr2-objects --release dr2.toml
    """
    from ztfmatch.api import Snapshot

    return _Product(Snapshot.publish_objects, (layout,))


@publish.command("bulk", cls=Command)
@release_options
def publish_bulk() -> _Product:
    """Publish one Parquet file per field, filter and quadrant.

    As IRSA's bulk downloads, with a list of MD5 sums:
    OUTPUT/lc_<release>/<0|1>/field<FFFFFF>/ztf_<FFFFFF>_<filter>_c<CC>_q<Q>_<release>.parquet

    \b
    Example:
      ztfmatch publish bulk survey.store dr2-files --release dr2.toml --workers 8
    """
    from ztfmatch.api import Snapshot

    return _Product(Snapshot.publish_bulk)


@publish.command("tess", cls=Command)
@release_options
@region_options
@click.option(
    "--sector",
    type=click.IntRange(1),
    required=True,
    help="TESS sector. Its footprint is taken from tess-point (pip install 'ztfmatch[publish]') and its dates from the "
    "mission's schedule, unless a region, --since and --until are given.",
)
def publish_tess(sector: int, region: Any, since: float | None, until: float | None) -> _Product:
    """Publish the lightcurves of a TESS sector as one tar file.

    Epochs in the footprint and the dates of the sector.

    \b
    Examples:
      ztfmatch publish tess survey.store s0014.tar --release dr2.toml --sector 14
      ztfmatch publish tess survey.store s0099.tar --release dr2.toml --sector 99 --moc s0099.fits --since 2026-01-10
    """
    from ztfmatch.api import Snapshot
    from ztfmatch.release import sector_part

    part = sector_part(sector, region, since, until)
    return _Product(Snapshot.publish_tar, (part,), part)


@publish.command("tar", cls=Command)
@release_options
@region_options
@click.option(
    "--label", default="region", show_default=True, help="Label of the region, appended to the release's in file names."
)
def publish_tar(label: str, region: Any, since: float | None, until: float | None) -> _Product:
    """Publish the lightcurves of a region of the sky as one tar file.

    \b
    Example:
      ztfmatch publish tar survey.store kepler.tar --release dr2.toml --cone 290.7 44.5 8deg --label kepler
    """
    from ztfmatch.api import Snapshot
    from ztfmatch.release import Part

    if region is None:
        raise click.UsageError("give a region: --cone, --polygon or --moc.")
    part = Part(label, region, since=since, until=until)
    return _Product(Snapshot.publish_tar, (part,), part)


def _show_preview(made: ReleasePreview, as_json: bool) -> None:
    """Say what a product would have of each program."""
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
    from ztfmatch.release.publication import noun_of_rows

    rows = counted(report.objects, noun_of_rows(report.product))
    epochs = f", {counted(report.epochs, 'epoch')}" if report.epochs else ""
    headline = (
        f"Release {report.release} of snapshot {report.snapshot}: {rows}{epochs} in "
        f"{counted(report.files, 'file')}, {size_text(report.bytes)}, {report.seconds:.1f} s: {report.output}"
    )
    emit(report, as_json, [headline, *([f"sha256 {report.sha256}"] if report.sha256 else [])])


for command in (init, check, diff_releases):
    publish.add_command(command)
