"""The command line: thin; parse, call, print."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

import click

import ztfmatch
from ztfmatch.cli.calibration import calibrate, correct
from ztfmatch.cli.lightcurve import lightcurve
from ztfmatch.cli.maintenance import compact, diff, history, rollback, vacuum
from ztfmatch.cli.rematch import lineage, rematch
from ztfmatch.cli.report import report
from ztfmatch.cli.simulation import demo, simulate
from ztfmatch.cli.store import append, init, quarantine, schema, statistics, status, verify

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _InOrder(click.Group):
    """Lists its commands in the order in which they were added, which is that of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=_InOrder, context_settings=_HELP)
@click.version_option(ztfmatch.__version__, prog_name="ztfmatch")
def main() -> None:
    """Lightcurve matchfile processor of the Zwicky Transient Facility.

    Takes epochal PSF catalogs, matches every detection to the seeds of its reference catalog, and keeps the
    lightcurves in a Parquet store that is appended to night by night.

    \b
    Begin with:
      ztfmatch demo                                  simulate, build, verify, plot; a minute
      ztfmatch init STORE --references DIR           make a store
      ztfmatch append STORE CATALOGS...              take in catalogs
      ztfmatch lightcurve STORE --cone RA DEC 2      see a lightcurve

    Every command has --json for machines. Exit codes: 0 done; 1 something failed, and a rerun resumes;
    2 the command or its arguments are wrong.
    """


for _command in (
    *(init, append, statistics, verify, status, lightcurve, quarantine),
    *(rematch, lineage),
    *(calibrate, correct, report),
    *(compact, history, diff, rollback, vacuum),
    *(schema, simulate, demo),
):
    main.add_command(_command)
