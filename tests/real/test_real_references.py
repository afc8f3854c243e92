"""The real reference catalog through all that needs no PS1: audit, lightcurves made with it, selection, plan, page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ztfmatch
from ztfmatch import AppendConfig, ImageSource, PageInputs, ReferenceSettings
from ztfmatch.query.tables import stream_parquet
from ztfmatch.simulate import SimulationConfig, simulate

EXPOSURES = 6


@pytest.fixture(scope="module")
def place(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the real reference and of exposures of its stars."""
    place = tmp_path_factory.mktemp("real")
    (reference,) = (data_dir / "refpsfcat").glob("*.fits")
    simulate(place, SimulationConfig(reference=reference, n_exposures=EXPOSURES, epoch_depth=0.25, bad_fraction=0.0,
                                     full_headers=True, truth=False))  # fmt: skip
    store = ztfmatch.init_store(place / "store", str(place / "references"))
    store.append(str(place / "catalogs"), AppendConfig(exposures=place / "exposures.csv"))
    store.update_transients()
    return place


def test_real_reference_is_good_by_its_lightcurves(place: Path) -> None:
    store = ztfmatch.open_store(place / "store")
    (row,) = store.audit_references().table.to_pylist()
    assert (row["nsources"], row["nexposures"], row["suspect_lightcurves"]) == (18_833, EXPOSURES, False)
    assert (row["confused"], row["shallow"], row["unknown"]) == (False, False, False)
    assert row["nspurious"] <= 0.01 * row["njudged"]
    assert row["njudged"] > 1_000
    assert max(row["lcdelta"], row["lcrms"]) < 0.03


def test_real_reference_is_planned_and_shown(place: Path, tmp_path: Path) -> None:
    store = ztfmatch.open_store(place / "store")
    audit = store.audit_references().table
    stream_parquet([audit], audit.schema, tmp_path / "audit.parquet")
    settings = ReferenceSettings()
    wide = replace(settings.select, fwhm=replace(settings.select.fwhm, g=(1.0, 6.0)), nmin=EXPOSURES,
                   maglimit=replace(settings.select.maglimit, g=15.0),
                   without=("status", "median", "rms", "flatness"))  # fmt: skip
    settings = replace(settings, select=wide)
    source = ImageSource(store.snapshot().files)
    selection = ztfmatch.select_images(source, settings)
    assert len(selection.choice.order) == EXPOSURES
    plan = ztfmatch.make_plan(source, audit, settings).table
    (row,) = plan.to_pylist()
    assert (row["field"], row["rcid"], row["fid"], row["npassed"]) == (202, 36, 1, EXPOSURES)
    assert row["action"] in ("keep", "deepen")
    assert np.isfinite(row["predicted"])
    stream_parquet([plan], plan.schema, tmp_path / "plan.parquet")
    inputs = PageInputs(tmp_path / "page", tmp_path / "audit.parquet", tmp_path / "plan.parquet")
    assert ztfmatch.make_page(inputs, settings, store.snapshot().files).references == 1
