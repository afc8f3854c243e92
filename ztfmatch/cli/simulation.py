"""Commands simulate and demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit, size_text
from ztfmatch.cli.messages import is_quiet
from ztfmatch.cli.paramtypes import FILE, OutputPlace
from ztfmatch.cli.progress import progress_shown

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs


@click.command(cls=Command)
@click.argument("directory", type=OutputPlace(file_okay=False, path_type=Path))
@options.number("--seed", click.IntRange(0), 1, "The same seed gives the same bytes.")
@click.option("--fields", default="679,680", show_default=True, help="Field numbers, comma-separated.")
@click.option("--rcids", default="16,29", show_default=True, help="Readout channels, comma-separated, or 'all' 64.")
@options.filters("Filters, comma-separated: g, r, i (or zg, or 1).", default="g,r", show_default=True)
@options.number("--visits", click.IntRange(1), 30, "Exposures of each field in each filter.", "n_exposures")
@options.number(
    "--stars", click.IntRange(1), 5000, "Mean number of seeds per reference; 18800 is realistic.", "stars_per_quadrant"
)
@options.number(
    "--depth",
    click.FloatRange(0, 1),
    0.4,
    "Fraction of the seeds detected in a typical exposure; 0.1 is realistic.",
    "epoch_depth",
)
@options.number(
    "--transients",
    click.FloatRange(0),
    6.0,
    "Mean number of transients per quadrant, which are not in the reference.",
    "transients_per_quadrant",
)
@options.number(
    "--systematics", click.FloatRange(0), 1.0, "Size of the photometric systematics relative to the real ones."
)
@options.number("--bad-references", click.FloatRange(0, 1), 0.0, "Fraction of suspect references; 0.13 is realistic.")
@click.option("--reference", type=FILE, help="Real refpsfcat to use as the sky; it sets field, channel and filter.")
@options.flag("--full-headers", "Write metadata to headers that the survey keeps only in its exposure table.")
@options.flag("--no-truth", "Do not write the truth.")
@options.as_json
def simulate(
    directory: Path, fields: str, rcids: str, filters: tuple[int, ...], no_truth: bool, as_json: bool, **options: Any
) -> None:
    """Simulate a data set in DIRECTORY.

    The directory must be new or empty. Writes reference and epochal catalogs in the survey's layout and naming, an
    exposure table, and the truth as Parquet: stars, variables, transients, noise, dithers, systematics, bad exposures,
    lost and spurious detections.

    \b
    Examples:
      ztfmatch simulate sky --fields 679 --visits 50
      ztfmatch init sky.store --references sky/references
      ztfmatch append sky.store sky/catalogs --exposures sky/exposures.csv
    """
    from ztfmatch.core.survey import N_RCID
    from ztfmatch.simulate import SimulationConfig
    from ztfmatch.simulate import simulate as run

    config = SimulationConfig(
        fields=_numbers("--fields", fields),
        rcids=tuple(range(N_RCID)) if rcids == "all" else _numbers("--rcids", rcids),
        filters=filters,
        truth=not no_truth,
        **options,
    )
    with progress_shown(is_quiet()) as progress:
        summary = run(directory, config, lambda done, total: progress("simulating", done, total))
    made = (
        f"{counted(summary.catalogs, 'catalog')} with {summary.rows:,} rows and "
        f"{counted(summary.references, 'reference')} with {summary.seeds:,} seeds in {directory}, "
        f"{size_text(summary.bytes)}."
    )
    emit(summary, as_json, [
        made,
        f"Next: ztfmatch init STORE --references {directory / 'references'}",
        f"      ztfmatch append STORE {directory / 'catalogs'} --exposures {directory / 'exposures.csv'}",
    ])  # fmt: skip


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} {text!r}: expected whole numbers with commas.") from None


@click.command(cls=Command)
@click.argument("directory", type=OutputPlace(file_okay=False, path_type=Path), default="ztfmatch-demo")
@options.number("--seed", click.IntRange(0), 1, "Random seed of the sky.")
@options.flag("--regenerate", "Show how a bad reference spoils lightcurves and a rematch repairs them.")
@options.workers
def demo(directory: Path, seed: int, regenerate: bool, running: Runs, as_json: bool) -> None:
    """Simulate, build, verify and plot, in about a minute.

    Writes everything to DIRECTORY (by default ztfmatch-demo), which must be new, empty, or from an earlier demo.

    \b
    Examples:
      ztfmatch demo
      ztfmatch demo --regenerate
    """
    from ztfmatch.demo import run_demo, run_regeneration

    run = run_regeneration if regenerate else run_demo
    with running as how:
        report = run(directory, seed, how["resources"], how["progress"], (lambda _: None) if as_json else click.echo)
    emit(report, as_json, report.guide)
