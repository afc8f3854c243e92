"""The command that checks a product of a release."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

import sys
from pathlib import Path

import click

from ztfmatch.cli.common import SHOWN_BAD_FILES, Command, emit
from ztfmatch.cli.options import json_option


@click.command("check", cls=Command)
@click.argument("product", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def check(product: Path, as_json: bool) -> None:
    """Check a product that lies in DIR, copied or downloaded.

    Every file that its list of checksums names is there, none beside, and has its SHA-256; the columns are those of the
    release, and none tells a program; each object is there once, and objects and epochs are as many as the manifest
    says. Needs no store. Exit code 1 if anything is wrong.

    \b
    Example:
      ztfmatch publish check dr2
    """
    from ztfmatch.release import check_product

    report = check_product(product)
    lines = []
    for one in report.checks:
        lines.append(f"{'FAILED' if one.wrong else 'ok':6}  {one.check}: {one.checked:,} checked")
        lines += [f"        {text}" for text in one.wrong[:SHOWN_BAD_FILES]]
        more = len(one.wrong) - SHOWN_BAD_FILES
        lines += [f"        ... and {more:,} more"] if more > 0 else []
    what = f"{report.product} of release {report.release}, snapshot {report.snapshot}"
    emit(report, as_json, [*lines, f"{'Whole' if report.passed else 'DAMAGED'}: {what}."])
    sys.exit(0 if report.passed else 1)
