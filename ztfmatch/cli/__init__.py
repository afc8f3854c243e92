"""The command line: thin; parse, call, print."""

from __future__ import annotations

import click

import ztfmatch
from ztfmatch.cli.program import Program

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
      ztfmatch lightcurve STORE --cone RA DEC 2      show a lightcurve

    Every command has --json, -q, -v and --log-file.

    Exit codes: 0 success; 1 the work failed, and the message says whether a rerun helps; 2 wrong command line, argument
    or path; 130, 143 interrupted: a rerun resumes.

    A STORE and its catalogs may be in an object store: s3://BUCKET/PREFIX, gs:// or az:// instead of a path. Endpoint
    and credentials of S3 come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, or from a profile in ~/.aws (AWS_PROFILE), never from the command line; AWS_ALLOW_HTTP=true
    permits an unencrypted endpoint.

    Defaults of options are read from the environment (ZTFMATCH_APPEND_WORKERS=8) and from
    ~/.config/ztfmatch/config.toml or the file named by ZTFMATCH_CONFIG: [append] workers = 8, or [defaults] for every
    command that has the option.
    """


main.add_sections(
    {
        "Make and fill a store": (
            *("store.init", "append.append", "store.statistics", "store.transients", "stars.link", "stars.stars"),
            *("exchange.import_", "catalog.catalog"),
        ),
        "Read": ("store.status", "lightcurve.lightcurve", "query.query", "rematch.lineage", "store.schema"),
        "Maintain": (
            *("store.verify", "store.quarantine", "maintenance.compact", "maintenance.history", "maintenance.diff"),
            *("maintenance.rollback", "maintenance.vacuum", "repair.repair", "repair.doctor"),
        ),
        "References": ("references.references", "rematch.rematch"),
        "Photometry": ("calibration.calibrate", "calibration.correct", "report.report", "stars.offsets"),
        "Release and export": ("publish.publish", "view.view", "exchange.export", "kowalski.exports", "kowalski.load"),
        "Nightly runs and clusters": ("plan.plan", "nightly.nightly", "units.work", "units.finish"),
        "Try": ("simulation.simulate", "simulation.demo", "completion.completion"),
    }
)
