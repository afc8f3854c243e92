"""A simulated library of references of which 13 % are bad: audits find them, and the plan mends them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import runner

import ztfmatch
from ztfmatch import AppendConfig, api
from ztfmatch.references.audit import AuditInputs, audit_files
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.plan import make_plan
from ztfmatch.references.returned import check_returned
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.selection import with_limits
from ztfmatch.simulate import SimulationConfig, simulate
from ztfmatch.simulate.dataset import Simulator, write_reference
from ztfmatch.simulate.truth import TruthWriter

SUSPECT = 0.13
SPARSE = replace(ReferenceSettings(), flatness=replace(ReferenceSettings().flatness, min_bin=5))
"""The simulated sky has a third of the real one's stars."""


def truth_of(place: Path, kind: str = "suspect") -> dict[tuple[int, int, int], object]:
    rows = pq.read_table(place / "truth" / "references.parquet").to_pylist()
    return {(row["field"], row["rcid"], row["fid"]): row[kind] for row in rows}


def scores(truth: dict, rows: list[dict], flag: str = "suspect") -> tuple[float, float]:
    """Completeness and purity."""
    said = {(row["field"], row["rcid"], row["fid"]): bool(row[flag]) for row in rows}
    both = sum(said[key] and bad for key, bad in truth.items())
    return both / sum(map(bool, truth.values())), both / max(sum(said.values()), 1)


def test_suspects_of_a_library_are_found_by_ps1(tmp_path: Path) -> None:
    """References alone."""
    config = SimulationConfig(
        fields=(679,), rcids=tuple(range(64)), filters=(1, 2), n_exposures=1, stars_per_quadrant=6_000,
        bad_references=SUSPECT, crowded_references=0.05, seed=4,
    )  # fmt: skip
    simulator = Simulator(config)
    with TruthWriter(tmp_path / "truth", config) as writer:
        previous = None
        for sky in simulator.units():
            if sky.region is not previous:
                writer.region(sky.region)
            writer.unit(sky)
            previous = sky.region
            write_reference(tmp_path / "references", simulator, sky, 0)
    truth = truth_of(tmp_path)
    assert sum(map(bool, truth.values())) / len(truth) == pytest.approx(SUSPECT, abs=0.05)
    inputs = AuditInputs(tmp_path / "truth" / "ps1.parquet")
    rows = audit_files([str(tmp_path / "references")], inputs, SPARSE, runner()).table.to_pylist()
    completeness, purity = scores(truth, rows)
    assert completeness >= 0.95
    assert purity >= 0.95
    kinds = truth_of(tmp_path, "kind")
    confused = {key for row in rows if row["confused"] and (key := (row["field"], row["rcid"], row["fid"]))}
    assert confused == {key for key, kind in kinds.items() if kind == "crowded"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulationConfig]:
    """A store of 48 units with their exposures."""
    place = tmp_path_factory.mktemp("survey")
    config = SimulationConfig(
        fields=(679,), rcids=tuple(range(48)), filters=(2,), n_exposures=8, stars_per_quadrant=8_000, n_nights=200,
        bad_references=SUSPECT, bad_fraction=0.0, seed=7, full_headers=True,
    )  # fmt: skip
    simulate(place, config)
    store = api.init_store(place / "store", str(place / "references"))
    store.append(str(place / "catalogs"), AppendConfig(exposures=place / "exposures.csv"))
    store.update_transients()
    return place, config


def test_suspects_of_a_store_are_found_by_lightcurves_alone(survey: tuple[Path, SimulationConfig]) -> None:
    """And both audits agree on nearly all."""
    place, _ = survey
    ps1 = place / "truth" / "ps1.parquet"
    rows = api.open_store(place / "store").audit_references(AuditInputs(ps1), SPARSE).table.to_pylist()
    truth = truth_of(place)
    for flag in ("suspect_ps1", "suspect_lightcurves", "suspect"):
        assert min(scores(truth, rows, flag)) >= 0.95
    assert np.mean([row["suspect_ps1"] == row["suspect_lightcurves"] for row in rows]) >= 0.95


def test_plan_mends_what_the_audit_found_and_wins_what_it_said(
    survey: tuple[Path, SimulationConfig], tmp_path: Path
) -> None:
    """Audit, select, plan, regenerate, rematch, audit again."""
    place, config = survey
    shutil.copytree(place / "store", tmp_path / "store")
    store = api.open_store(tmp_path / "store")
    ps1 = AuditInputs(place / "truth" / "ps1.parquet")
    audit = store.audit_references(ps1, SPARSE).table
    wide = replace(SPARSE.select.fwhm, r=(1.0, 6.0))
    limits = with_limits(SPARSE, without=("status", "median", "rms", "flatness"), nmin=5, fwhm=wide)
    plan = make_plan(ImageSource(store.snapshot().files), audit, limits).table
    asked = [row for row in plan.to_pylist() if row["action"] == "regenerate"]
    bad = {key for key, suspect in truth_of(place).items() if suspect}
    assert {(row["field"], row["rcid"], row["fid"]) for row in asked} == bad
    new = regenerated(place, config, bad, tmp_path)
    pq.write_table(plan, tmp_path / "plan.parquet")
    assert check_returned(tmp_path / "plan.parquet", [str(new)], runner()).references == len(bad)
    before = orphans_of(store, bad)
    store.rematch(str(new))
    after = {
        (row["field"], row["rcid"], row["fid"]): row for row in store.audit_references(ps1, SPARSE).table.to_pylist()
    }
    assert not any(row["suspect"] for row in after.values())
    assert {after[key]["generation"] for key in bad} == {1}
    won = len(before - orphans_of(store, bad))
    assert won == pytest.approx(sum(row["nwon"] for row in asked), rel=0.05)


def regenerated(place: Path, config: SimulationConfig, units: set[tuple[int, int, int]], to: Path) -> Path:
    """New references of some units."""
    simulator = Simulator(config)
    for sky in simulator.units():
        if (sky.unit.field, sky.unit.rcid, sky.unit.fid) in units:
            write_reference(to / "new", simulator, sky, 1)
    return to / "new"


def orphans_of(store: ztfmatch.Store, units: set[tuple[int, int, int]]) -> set[tuple[int, int]]:
    names = ["field", "rcid", "fid", "exposureid", "sourceid"]
    rows = store.snapshot().files.read("orphans", names).to_pylist()
    return {(row["exposureid"], row["sourceid"]) for row in rows if (row["field"], row["rcid"], row["fid"]) in units}
