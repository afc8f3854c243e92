"""Commands for the scope of a release, and for checking and comparing products."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit, first_lines, open_store
from ztfmatch.cli.paramtypes import OutputFile, OutputPlace
from ztfmatch.cli.rows import compare_rows

_TEMPLATE = """\
# Scope of a release: what may leave the store. Give it to 'ztfmatch publish ... --release'.
release = "{label}"                # label in names of files
# description = "..."            # of the product
# licence = "CC BY 4.0"          # these are told in its README and properties
# citation = "..."               # by default the survey's papers
# filters = ["zg", "zr"]         # all without it
# fields = [250, "600-699"]      # all without it
private_corrections = false      # true: magnitudes whose corrections used epochs of other programs, too

[[programs]]
id = 1                           # 1 public, 2 partnership, 3 Caltech
# since = 2018-03-17             # a date (UTC), or an MJD
# until = 2018-12-31             # the whole day

# [quality]                      # all optional; a value that is unknown passes no cut
# only_good_exposures = true
# reject_catflags = 32768        # bits
# max_magerr = 0.5
# max_airmass = 2.5
# max_seeing = 4.0
# min_maglimit = 19.0
"""


@click.command("init", cls=Command)
@click.argument("scope", metavar="FILE", type=OutputFile())
@click.option("--label", default="dr1", show_default=True, help="Label of the release, used in file names.")
@options.as_json
def init(scope: Path, label: str, as_json: bool) -> None:
    """Write a template for the scope of a release to FILE.

    It allows only the public program; all other settings are in comments. FILE must not exist.

    \b
    Example:
      ztfmatch publish init dr2.toml --label dr2
    """
    from ztfmatch.core.errors import OutputExistsError
    from ztfmatch.release.io.scope import parse_scope

    text = _TEMPLATE.format(label=label)
    parse_scope(tomllib.loads(text))  # which refuses a label that no file can have
    try:
        with scope.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputExistsError(f"{scope} exists already: give a place where nothing is") from None
    emit({"scope": str(scope), "release": label}, as_json, [f"Written: {scope}; edit it, then publish with --dry-run."])


@click.command("check", cls=Command)
@click.argument("product", metavar="DIR", type=click.Path(path_type=Path))
@options.as_json
def check(product: Path, as_json: bool) -> None:
    """Check a copied or downloaded product in DIR.

    Checks that it has exactly the files in its list of checksums, each with its SHA-256; that the columns are those of
    a release and none gives the program; that each object occurs once; and the numbers of objects and epochs against
    the manifest. Needs no store. Exit code 1 if a check fails.

    \b
    Example:
      ztfmatch publish check dr2
    """
    from ztfmatch.release import check_product

    report = check_product(product)
    lines = []
    for one in report.checks:
        lines.append(f"{'FAILED' if one.wrong else 'ok':6}  {one.check}: {one.checked:,} checked")
        lines += first_lines(one.wrong, 8 * " ")
    what = f"{report.product} of release {report.release}, snapshot {report.snapshot}"
    emit(report, as_json, [*lines, f"{'Whole' if report.passed else 'DAMAGED'}: {what}."])
    sys.exit(0 if report.passed else 1)


@click.command("diff", cls=Command)
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=Path))
@click.argument("after", metavar="AFTER", type=click.Path(path_type=Path))
@click.option("--store", metavar="STORE",
              help="Store of AFTER: its lineage gives the successors of objects that are gone.")  # fmt: skip
@click.option(
    "--output", "-o", type=OutputFile(), help="File for all objects that differ; its suffix selects the format."
)
@click.option(
    "--association",
    type=OutputPlace(path_type=Path),
    metavar="DIR",
    help="Write a HATS association catalog, with which LSDB joins two HATS collections. Needs --store.",
)
@options.overwrite
@options.as_json
def diff_releases(
    before: Path, after: Path, store: str | None, output: Path | None, association: Path | None, as_json: bool
) -> None:
    """Compare the objects of two releases.

    BEFORE and AFTER are two products of the same kind: HATS lightcurves, objects, or bulk files. An object is changed
    if its epochs or any of their values differ; every value is compared.

    \b
    Example:
      ztfmatch publish diff dr1 dr2 --store survey.store -o changes.parquet
      ztfmatch publish diff dr1 dr2 --store survey.store --association dr1_dr2
    """
    from ztfmatch.query.formats import format_of
    from ztfmatch.release import Comparison, write_association
    from ztfmatch.release.difference import SCHEMA

    if output is not None:
        format_of(output)  # refuses a name before any work
    snapshot = None if store is None else open_store(store).snapshot().files
    if association is not None and snapshot is None:
        raise click.UsageError("--association is made of the lineage: give the --store too.")
    compared = Comparison(before, after, snapshot)
    report, of_gone, written = compare_rows(compared, SCHEMA, output)
    links = None if association is None or snapshot is None else write_association(before, after, snapshot, association)
    headline = (
        f"Release {report.releases[1]} has {counted(report.objects[1], 'object')} with "
        f"{counted(report.epochs[1], 'epoch')}; {report.releases[0]} had {report.objects[0]:,} with "
        f"{report.epochs[0]:,}."
    )
    lines = [
        headline,
        f"  new:      {report.new:,}",
        f"  gone:     {report.gone:,}{of_gone}",
        f"  changed:  {report.changed:,}",
        f"  the same: {report.same:,}",
        *written,
        *([f"Written: {association}, {counted(links.objects, 'link')}"] if links is not None else []),
    ]
    emit(report, as_json, lines)
