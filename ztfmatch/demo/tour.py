"""The demonstration: simulate a small survey, build its store, verify it, plot a variable star."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.config import AppendConfig, Resources, StoreConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Progress, open_runner
from ztfmatch.demo.common import Say, clear_directory, must_pass
from ztfmatch.plot import PlotOptions, plot_lightcurves
from ztfmatch.query.area import Cone
from ztfmatch.query.lightcurves import Selection, lightcurve_table
from ztfmatch.simulate import SimulationConfig, simulate

_CONE_ARCSEC: Final = 2.0
_PLOTTED_MAG: Final = (15.0, 19.0)
"""Range of g in which the star to plot is sought: neither saturated nor lost in noise."""


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration made, and where."""

    directory: str
    store: str
    plots: list[str]
    objectids: list[int]
    exposures: int
    detections: int
    orphans: int
    verified: bool
    seconds: float
    guide: list[str]
    """What to look at and try next."""


def run_demo(directory: Path, seed: int, resources: Resources | None, progress: Progress, say: Say) -> DemoReport:
    """Simulate, build, verify, plot.

    Parameters
    ----------
    directory : Path
        New, empty, or of an earlier demonstration, which is replaced.
    say : callable
        Told what happens, a line at a time.

    Raises
    ------
    ConfigError
        If the directory holds something else.
    JobFailedError
        If the store does not verify.
    """
    watch = Stopwatch()
    clear_directory(directory)
    say(f"1/5 simulating a small survey in {directory}")
    config = SimulationConfig(seed=seed, n_exposures=60)
    simulate(directory / "sky", config, lambda done, total: progress("simulating", done, total))
    storage = Storage.at(directory / "store")
    with open_runner(resources, progress) as runner:
        say("2/5 making the store (the first run compiles kernels: some seconds)")
        init_store(storage, [str(directory / "sky" / "references")], StoreConfig(), runner)
        say("3/5 matching the epochal catalogs")
        taken = AppendConfig(exposures=directory / "sky" / "exposures.csv")
        report = append_catalogs(storage, [str(directory / "sky" / "catalogs")], taken, runner)
        say("4/5 computing statistics, verifying every row")
        update_statistics(storage, runner)
        verified = verify_store(storage, runner, deep=True)
    must_pass(verified)
    say("5/5 plotting a variable star")
    star = _star_to_plot(directory / "sky" / "truth")
    epochs = lightcurve_table(open_snapshot(storage), Selection(cone=Cone(star["ra"], star["dec"], _CONE_ARCSEC)))
    plots = [directory / "lightcurve.png", directory / "folded.png"]
    plot_lightcurves(epochs, plots[0], PlotOptions())
    plot_lightcurves(epochs, plots[1], PlotOptions(period=star["period"]))
    objectids = pc.unique(epochs["objectid"]).to_pylist()
    return DemoReport(
        directory=str(directory),
        store=storage.root,
        plots=[str(plot) for plot in plots],
        objectids=objectids,
        exposures=report.exposures,
        detections=report.matched,
        orphans=report.orphans,
        verified=verified.passed,
        seconds=watch.seconds,
        guide=_guide(directory, star, objectids, f"{report.matched:,} detections of {report.exposures} exposures"),
    )


def _star_to_plot(truth: Path) -> Row:
    """The RR Lyrae star of largest amplitude among those that are well exposed and in a reference."""
    stars: pa.Table = pq.read_table(truth / "stars.parquet")
    seeded = pc.is_in(stars["star_id"], pq.read_table(truth / "seeds.parquet")["star_id"].combine_chunks())
    stars = stars.filter(seeded)
    low, high = _PLOTTED_MAG
    bright = pc.and_(pc.greater(stars["g"], low), pc.less(stars["g"], high))
    chosen = stars.filter(pc.and_(bright, pc.equal(stars["kind"], "rr_lyrae")))
    if not chosen.num_rows:
        chosen = stars.filter(pc.greater(stars["period"], 0.0))
    star: Row = chosen.sort_by([("amplitude", "descending")]).slice(0, 1).to_pylist()[0]
    return star


def _guide(directory: Path, star: Row, objectids: list[int], what: str) -> list[str]:
    store = directory / "store"
    cone = f"{star['ra']:.5f} {star['dec']:.5f} {_CONE_ARCSEC:g}"
    call = f"ztfmatch.open_store('{store}').snapshot().lightcurves(cone=({cone.replace(' ', ', ')}))"
    return [
        "",
        f"Done: {what}, all verified.",
        f"  simulated catalogs  {directory / 'sky'}",
        f"  their truth         {directory / 'sky' / 'truth'}",
        f"  lightcurve store    {store}",
        f"  pictures            {directory / 'lightcurve.png'}, {directory / 'folded.png'}",
        "",
        "Try next:",
        f"  ztfmatch status {store}",
        f"  ztfmatch lightcurve {store} --statistics \\",
        f"      --cone {cone}",
        f"  ztfmatch lightcurve {store} --objectid {objectids[0]} \\",
        f"      --plot star.png --period {star['period']:.6f}",
        f"  ztfmatch stars {store}   (magnitudes over all objects of a star)",
        f"  ztfmatch lightcurve {store} --star {objectids[0]} \\",
        f"      --plot allbands.png --period {star['period']:.6f}",
        f"  ztfmatch append {store} {directory / 'sky' / 'catalogs'}   (nothing new)",
        f'  python -c "import ztfmatch; print({call})"',
        "  ztfmatch --help",
    ]
