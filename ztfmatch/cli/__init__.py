"""The command line: thin; parse, call, print."""

from __future__ import annotations

import click

import ztfmatch
from ztfmatch.cli.append import append
from ztfmatch.cli.calibration import calibrate, correct
from ztfmatch.cli.catalog import catalog
from ztfmatch.cli.completion import completion
from ztfmatch.cli.exchange import export, import_
from ztfmatch.cli.kowalski import exports, kowalski, load
from ztfmatch.cli.lightcurve import lightcurve
from ztfmatch.cli.maintenance import compact, diff, history, rollback, vacuum
from ztfmatch.cli.nightly import nightly
from ztfmatch.cli.plan import plan
from ztfmatch.cli.program import Program
from ztfmatch.cli.publish import publish
from ztfmatch.cli.publishcheck import check, diff_releases
from ztfmatch.cli.publishcheck import init as init_release
from ztfmatch.cli.query import query
from ztfmatch.cli.references import references
from ztfmatch.cli.rematch import lineage, rematch
from ztfmatch.cli.repair import doctor, repair
from ztfmatch.cli.report import report
from ztfmatch.cli.simulation import demo, simulate
from ztfmatch.cli.stars import link, offsets, stars
from ztfmatch.cli.store import init, quarantine, schema, statistics, status, transients, verify
from ztfmatch.cli.units import finish, work
from ztfmatch.cli.view import view

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Program, context_settings=_HELP)
@click.version_option(ztfmatch.__version__, "-V", "--version", prog_name="ztfmatch")
def main() -> None:
    """Lightcurve matchfile processor of the Zwicky Transient Facility.

    Ingests epochal PSF catalogs, matches every detection to the seeds of its reference catalog, and keeps the
    lightcurves in a Parquet store that is appended to night by night.

    \b
    Begin with:
      ztfmatch demo                                  simulate, build, verify, plot; a minute
      ztfmatch init STORE --references DIR           make a store
      ztfmatch append STORE CATALOGS...              ingest catalogs
      ztfmatch lightcurve STORE --cone RA DEC 2      see a lightcurve

    Every command has --json for machines, -q, -v and --log-file.

    Exit codes: 0 done; 1 something failed: the message says whether a rerun helps; 2 the command, an argument or a
    place is wrong; 130, 143 interrupted: a rerun resumes.

    A STORE, and catalogs, may lie in an object store: s3://BUCKET/PREFIX, gs:// or az:// in place of a path. Endpoint
    and credentials of S3 come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, or from a profile of ~/.aws (AWS_PROFILE), never from the command line; AWS_ALLOW_HTTP=true
    allows an endpoint without encryption.

    Defaults of options come from the environment (ZTFMATCH_APPEND_WORKERS=8) and from ~/.config/ztfmatch/config.toml or
    the file that ZTFMATCH_CONFIG names: [append] workers = 8, or [defaults] for every command that has the option.
    """


export.add_command(kowalski)
publish.add_command(init_release)
publish.add_command(check)
publish.add_command(diff_releases)
main.add_sections(
    {
        "Make and fill a store": (init, append, statistics, transients, link, stars, import_, catalog),
        "Read": (status, lightcurve, query, lineage, schema),
        "Maintain": (verify, quarantine, compact, history, diff, rollback, vacuum, repair, doctor),
        "References": (references, rematch),
        "Photometry": (calibrate, correct, report, offsets),
        "Release and export": (publish, view, export, exports, load),
        "Every night, and on clusters": (plan, nightly, work, finish),
        "Try": (simulate, demo, completion),
    }
)
