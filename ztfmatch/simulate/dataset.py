"""A complete data set on disk: references, catalogs, the exposure table, the truth."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.plain import Json
from ztfmatch.core.survey import Unit
from ztfmatch.simulate.catalogs import Catalog, UnitSky
from ztfmatch.simulate.config import SLOTS_PER_NIGHT, SimulationConfig
from ztfmatch.simulate.exposures import Exposure, schedule
from ztfmatch.simulate.fitsout import write_catalog
from ztfmatch.simulate.layout import (
    EXPOSURE_COLUMNS,
    catalog_path,
    epochal_keys,
    reference_keys,
    reference_path,
    table_row,
)
from ztfmatch.simulate.realsky import RealReference, read_reference, real_config, real_region
from ztfmatch.simulate.sky import Region, Sky
from ztfmatch.simulate.truth import TruthWriter

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SimulationSummary:
    """What a simulation wrote.

    ``rows`` counts the rows of all epochal catalogs, ``transient_rows`` and ``spurious_rows`` parts of them;
    ``bytes`` the size of the FITS files.
    """

    references: int = 0
    seeds: int = 0
    exposures: int = 0
    bad_exposures: int = 0
    catalogs: int = 0
    rows: int = 0
    transient_rows: int = 0
    spurious_rows: int = 0
    bytes: int = 0


class Simulator:
    """The data set of a configuration, catalog by catalog and in any order; writes nothing.

    Parameters
    ----------
    config : SimulationConfig
        Validated here.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    CatalogError
        If the real reference cannot be used.
    """

    def __init__(self, config: SimulationConfig) -> None:
        config.validate()
        self.real: RealReference | None = None
        if config.reference is not None:
            self.real = read_reference(Path(config.reference))
            config = real_config(config, self.real)
        self.config = config
        self.exposures = schedule(config)

    def units(self) -> Iterator[UnitSky]:
        """Every unit, filters of a region together; a region is drawn when its turn comes."""
        for field in self.config.fields:
            for rcid in self.config.rcids:
                region = self.region(field, rcid)
                for fid in self.config.filters:
                    yield UnitSky(self.config, region, fid)

    def region(self, field: int, rcid: int) -> Region:
        """Stars that a channel of a field can see."""
        if self.real is not None:
            return real_region(self.config, self.real)
        return Sky(self.config).region(field, rcid)

    def exposures_of(self, unit: Unit) -> list[Exposure]:
        """Return the exposures of a unit's field and filter in order of time."""
        return [e for e in self.exposures if (e.field, e.fid) == (unit.field, unit.fid)]

    def n_catalogs(self) -> int:
        """How many epochal catalogs the data set has."""
        return len(self.exposures) * len(self.config.rcids)


def simulate(directory: Path, config: SimulationConfig, progress: Progress | None = None) -> SimulationSummary:
    """Write a data set.

    Parameters
    ----------
    directory : Path
        Made if absent; must be empty otherwise, or hold what a run of these settings left that was killed.
    config : SimulationConfig
        Equal settings give equal bytes.
    progress : callable, optional
        Called with the catalogs written so far and in all.

    Raises
    ------
    ConfigError
        If a setting is out of range, or the directory holds files.
    """
    simulator = Simulator(config)
    directory = Path(directory)
    about: Json = {"config": config.as_dict()}
    unfinished = directory / f".unfinished-{short_digest(json.dumps(about).encode())}"
    if directory.exists() and any(directory.iterdir()) and not unfinished.exists():
        raise ConfigError(f"{directory} is not empty; a simulation needs a new or empty directory")
    directory.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    with ExitStack() as stack:
        path = directory / "exposures.csv"
        table = stack.enter_context(path.open("w", newline="", encoding="ascii"))
        truth = stack.enter_context(TruthWriter(directory / "truth", config)) if config.truth else None
        bad = sum(exposure.bad != "good" for exposure in simulator.exposures)
        summary = SimulationSummary(exposures=len(simulator.exposures), bad_exposures=bad)
        rows = csv.writer(table, lineterminator="\n")
        summary = _Run(directory, simulator, rows, truth, progress, summary).write()
    about["summary"] = asdict(summary)
    (directory / "simulation.json").write_text(json.dumps(about, indent=2) + "\n", encoding="ascii")
    unfinished.unlink()
    return summary


@dataclass
class _Run:
    """One call of ``simulate``: where its output goes and what it has counted."""

    directory: Path
    simulator: Simulator
    table: Any
    """Writer of CSV."""
    truth: TruthWriter | None
    progress: Progress | None
    summary: SimulationSummary

    def write(self) -> SimulationSummary:
        self.table.writerow(EXPOSURE_COLUMNS)
        previous: Region | None = None
        for sky in self.simulator.units():
            if self.truth is not None:
                if sky.region is not previous:
                    self.truth.region(sky.region)
                self.truth.unit(sky)
            previous = sky.region
            self.reference(sky)
            for exposure in self.simulator.exposures_of(sky.unit):
                self.catalog(sky, exposure)
        return self.summary

    def reference(self, sky: UnitSky) -> None:
        seeds, size = write_reference(self.directory / "references", self.simulator, sky, 0, self.truth)
        self.count(references=1, seeds=seeds, bytes=size)

    def catalog(self, sky: UnitSky, exposure: Exposure) -> None:
        found, state = sky.detect(exposure)
        keys = epochal_keys(sky, exposure, state, len(found.rows))
        size = write_catalog(self.directory / "catalogs" / catalog_path(sky.unit, exposure.fracday), keys, found.rows)
        self.table.writerow(table_row(sky, exposure, state))
        if self.truth is not None:
            self.truth.catalog(sky, exposure, state, found)
        self.count(catalogs=1, bytes=size, **_row_counts(found))
        if self.progress is not None:
            self.progress(self.summary.catalogs, self.simulator.n_catalogs())

    def count(self, **more: int) -> None:
        self.summary = replace(self.summary, **{k: getattr(self.summary, k) + v for k, v in more.items()})


def _row_counts(found: Catalog) -> dict[str, int]:
    transient, spurious = (int((found.kind == kind).sum()) for kind in (1, 2))
    return {"rows": len(found.rows), "transient_rows": transient, "spurious_rows": spurious}


def write_reference(
    root: Path, simulator: Simulator, sky: UnitSky, generation: int, truth: TruthWriter | None = None
) -> tuple[int, int]:
    """Write a unit's reference of a generation below ``root``; returns its seeds and bytes.

    A real reference is copied.
    """
    path = root / reference_path(sky.unit)
    if simulator.real is not None and generation == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(simulator.real.path, path)
        star_id = simulator.real.sourceid.astype("int64")
        n, size = len(star_id), path.stat().st_size
    else:
        rows, star_id = sky.reference(generation)
        n, size = (len(rows), write_catalog(path, reference_keys(sky.unit, n=len(rows), generation=generation), rows))
    if truth is not None:
        truth.seeds(sky, star_id, generation)
    return n, size


def regenerate_references(directory: Path, config: SimulationConfig, generation: int = 1) -> int:
    """Write new references of all units of a data set into ``references_<generation>``.

    As the survey does at times: some seeds vanish, others appear, positions move by hundredths of an arcsec
    and the numbering is new. The stars of the new seeds are in ``truth_<generation>/seeds.parquet``.

    Returns
    -------
    int
        How many references were written.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    """
    if not 1 <= generation <= 9:
        raise ConfigError(f"generation is {generation}; expected 1 to 9")
    simulator = Simulator(config)
    root = Path(directory) / f"references_{generation}"
    done = 0
    with TruthWriter(Path(directory) / f"truth_{generation}", config, ("seeds",)) as truth:
        for sky in simulator.units():
            write_reference(root, simulator, sky, generation, truth)
            done += 1
    return done


def benchmark_unit(
    directory: Path, n_catalogs: int, rows_per_catalog: int = 17_000, seed: int = 1
) -> SimulationSummary:
    """Write one unit with catalogs of about the survey's mean size, and no truth.

    Parameters
    ----------
    directory : Path
        New or empty.
    n_catalogs : int
        Epochs of the unit.
    rows_per_catalog : int
        Mean number of rows; the reference has about a tenth more seeds.
    """
    return simulate(directory, benchmark_config(n_catalogs, rows_per_catalog, seed))


def benchmark_config(n_catalogs: int, rows_per_catalog: int = 17_000, seed: int = 1) -> SimulationConfig:
    """Settings of :func:`benchmark_unit`, with which its reference can be regenerated."""
    return SimulationConfig(
        seed=seed,
        fields=(679,),
        rcids=(16,),
        filters=(2,),
        n_exposures=n_catalogs,
        n_nights=max(30, -(-2 * n_catalogs // SLOTS_PER_NIGHT), n_catalogs // 3),
        stars_per_quadrant=round(rows_per_catalog * 1.108),
        epoch_depth=0.925,
        depth_scatter=0.005,
        bad_fraction=0.0,
        truth=False,
    )
