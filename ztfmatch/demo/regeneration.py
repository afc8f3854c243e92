"""The demonstration of a regenerated reference: how a bad one spoils lightcurves and a rematch repairs them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from ztfmatch.core.config import AppendConfig, Resources, StoreConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.rematch import RematchConfig, RematchReport, UnitReport, rematch
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Progress, Runner, open_runner
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.survey import Unit
from ztfmatch.demo.cases import Cases, Star, find_cases
from ztfmatch.demo.common import Say, clear_directory, must_pass
from ztfmatch.plot import Story, plot_regenerations
from ztfmatch.query.area import Cone
from ztfmatch.query.lightcurves import Selection, find_objects
from ztfmatch.query.lineage import describe, lineage_table
from ztfmatch.query.regeneration import regeneration_of
from ztfmatch.query.transients import find_transients
from ztfmatch.simulate import SimulationConfig, Simulator, regenerate_references, simulate, write_spoilt_reference
from ztfmatch.simulate.layout import reference_path

UNIT: Final = Unit(679, 16, 1)
"""The unit whose reference is spoilt and regenerated."""

_BESIDE_ARCSEC: Final = 3.0


def demo_config(seed: int) -> SimulationConfig:
    """One field and channel in two filters, with many variable stars and supernovae beside their hosts."""
    return SimulationConfig(
        seed=seed,
        fields=(UNIT.field,),
        rcids=(UNIT.rcid,),
        filters=(1, 2),
        n_exposures=60,
        stars_per_quadrant=4000,
        variable_fraction=0.15,
        transients_per_quadrant=150.0,
        hosted_fraction=0.8,
        epoch_depth=0.3,
        bad_fraction=0.0,
    )


@dataclass(frozen=True)
class RegenerationReport:
    """What the demonstration made, and where."""

    directory: str
    store: str
    plots: list[str]
    objectids: list[int]
    """Retired objects that the picture shows."""
    newobjectids: list[int | None]
    """Those that took their place."""
    transientid: int | None
    """The supernova that was blended with the second."""
    before: dict[str, int]
    """Detections that were ``matched``, and ``orphans``, of the unit with the bad reference."""
    forecast: list[UnitReport]
    """What the dry run said."""
    unit: UnitReport
    """What the rematch did."""
    matched: int
    orphans: int
    verified: bool
    seconds: float
    guide: list[str]
    """What to look at and try next."""


def run_regeneration(
    directory: Path, seed: int, resources: Resources | None, progress: Progress, say: Say
) -> RegenerationReport:
    """Simulate, match to a bad reference, regenerate it, match again, plot.

    Parameters
    ----------
    directory : Path
        New, empty, or of an earlier demonstration, which is replaced.
    say : callable
        Told what happens, a line at a time.

    Raises
    ------
    ConfigError
        If the directory holds something else, or the sky of that seed has no stars to show it on.
    JobFailedError
        If the store does not verify.
    """
    watch = Stopwatch()
    clear_directory(directory)
    say(f"1/6 simulating a small survey in {directory}")
    say(f"    the reference of {UNIT} holds transients and is misplaced")
    cases = _simulate(directory / "sky", demo_config(seed), progress)
    storage, regenerated = Storage.at(directory / "store"), str(_regenerated(directory))
    with open_runner(resources, progress) as runner:
        say("2/6 matching catalogs to it (the first run compiles kernels: some seconds)")
        before = _build(storage, directory / "sky", runner)
        say(f"    of {UNIT}: {before['matched']:,} matched, {before['orphans']:,} orphans")
        say("3/6 the reference was made anew: what would become of its objects? (--dry-run)")
        forecast = rematch(storage, [regenerated], RematchConfig(), runner, dry_run=True)
        for line in _forecast_lines(forecast):
            say(line)
        say("4/6 matching again, from the store alone (rematch)")
        done = rematch(storage, [regenerated], RematchConfig(note="reference made of other images"), runner)
        say(f"    of {UNIT}: {done.matched:,} matched, {done.orphans:,} orphans")
        say("5/6 verifying every row")
        verified = verify_store(storage, runner, deep=True)
    must_pass(verified)
    say("6/6 two stars, before and after")
    stories = _stories(storage, cases)
    for story in stories:
        say(f"    {story.title}:")
        say(_folded(_lineage_text(storage, story.regeneration.old["objectid"]), 6))
    supernova = _transient(storage, cases.blended)
    if supernova is not None:
        say(f"    the supernova beside it is transient {supernova['transientid']} of {supernova['nobs']} epochs")
    picture = directory / "regeneration.png"
    plot_regenerations(stories, picture, f"Reference {UNIT}: what a regeneration mends")
    changes = [story.regeneration for story in stories]
    old = [change.old["objectid"] for change in changes]
    return RegenerationReport(
        directory=str(directory),
        store=storage.root,
        plots=[str(picture)],
        objectids=old,
        newobjectids=[None if change.new is None else change.new["objectid"] for change in changes],
        transientid=None if supernova is None else supernova["transientid"],
        before=before,
        forecast=forecast.units,
        unit=done.units[0],
        matched=done.matched,
        orphans=done.orphans,
        verified=verified.passed,
        seconds=watch.seconds,
        guide=_guide(directory, old, supernova),
    )


def _simulate(sky: Path, config: SimulationConfig, progress: Progress) -> Cases:
    """Write the data set, the bad reference in the place of the good one, and the regenerated ones."""
    simulate(sky, config, lambda done, total: progress("simulating", done, total))
    regenerate_references(sky, config)
    simulator = Simulator(config)
    unit = next(one for one in simulator.units() if one.unit == UNIT)
    cases = find_cases(unit, simulator.exposures_of(UNIT), StoreConfig().radius_arcsec)
    write_spoilt_reference(unit, cases.defects, sky / "references")
    return cases


def _regenerated(directory: Path) -> Path:
    return directory / "sky" / "references_1" / reference_path(UNIT)


def _build(storage: Storage, sky: Path, runner: Runner) -> dict[str, int]:
    """Make the store of the bad reference; return how many detections of its unit matched."""
    init_store(storage, [str(sky / "references")], StoreConfig(), runner)
    append_catalogs(storage, [str(sky / "catalogs")], AppendConfig(exposures=sky / "exposures.csv"), runner)
    ledger = open_snapshot(storage).read("exposures", ["fid", "nmatched", "norphans"])
    ours = ledger.filter(pc.equal(ledger["fid"], UNIT.fid))
    return {"matched": pc.sum(ours["nmatched"]).as_py(), "orphans": pc.sum(ours["norphans"]).as_py()}


def _forecast_lines(report: RematchReport) -> list[str]:
    """The dry run's report in words."""
    lines = []
    for unit in report.units:
        values = asdict(unit)
        kinds = ", ".join(f"{values[kind]:,} {kind}" for kind in LINEAGE_KINDS if values[kind])
        lines.append(_folded(f"{unit.unit}, generation {unit.generation}, objects: {kinds}"))
    epochs = f"epochs: {report.matched:,} would be matched, {report.orphans:,} orphans;"
    lines.append(_folded(f"{epochs} {sum(unit.epochs_moved for unit in report.units):,} leave their object's line"))
    return lines


def _folded(text: str, indent: int = 4) -> str:
    """In lines that a terminal of 80 columns takes, further lines indented more."""
    first, further = " " * indent, " " * (indent + 2)
    return textwrap.fill(text, 80, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _stories(storage: Storage, cases: Cases) -> list[Story]:
    variable, blended = cases.variable, cases.blended
    kind = variable.kind.replace("_", " ").replace("rr lyrae", "RR Lyrae")
    return [
        Story(f"Misplaced seed: {kind} star", _change(storage, variable), variable.period),
        Story("Seed blended with a supernova: steady star", _change(storage, blended)),
    ]


def _change(storage: Storage, star: Star) -> Any:
    """The object that a star was in before."""
    before = open_snapshot(storage, 1)
    near = find_objects(before, Selection(cone=Cone(star.ra, star.dec, 1.7)))
    near = near.filter(pc.equal(near["fid"], UNIT.fid)).sort_by("separation")
    return regeneration_of(storage, near["objectid"][0].as_py())


def _transient(storage: Storage, star: Star) -> Row | None:
    """The transient of most detections beside a star in the unit; None if the store groups none there."""
    near = find_transients(open_snapshot(storage), Selection(cone=Cone(star.ra, star.dec, _BESIDE_ARCSEC)))
    rows: list[Row] = near.filter(pc.equal(near["fid"], UNIT.fid)).sort_by("nobs").to_pylist()
    return rows[-1] if rows else None


def _lineage_text(storage: Storage, objectid: int) -> str:
    links = lineage_table(open_snapshot(storage), [objectid]).to_pylist()
    return "; ".join(describe(link) for link in links)


def _guide(directory: Path, objectids: Sequence[int], supernova: Row | None) -> list[str]:
    store = directory / "store"
    of_supernova = [] if supernova is None else [f"  ztfmatch lightcurve {store} --objectid {supernova['transientid']}"]
    return [
        "",
        "Done, all verified; no detection was lost.",
        f"  picture             {directory / 'regeneration.png'}",
        f"  lightcurve store    {store}",
        f"  bad reference       {directory / 'sky' / 'references'}",
        f"  regenerated one     {directory / 'sky' / 'references_1'}",
        "",
        "Try next:",
        f"  ztfmatch history {store}",
        f"  ztfmatch lineage {store} --objectid {objectids[0]}",
        f"  ztfmatch lightcurve {store} --objectid {objectids[0]} --follow",
        *of_supernova,
        f"  ztfmatch rollback {store} 1   (undoes it all)",
        f"  ztfmatch rematch {store} \\",
        f"    --references {_regenerated(directory).parents[2]}   (does it again)",
    ]
