"""The alarm of 'status' that corrections no longer fit the newest exposures: raised by a step, by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import ztfmatch
from ztfmatch.cli import main
from ztfmatch.core.config import AppendConfig
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.photometry.kernels.drift import LEAST_EXPOSURES, change_of
from ztfmatch.simulate import SimulationConfig, simulate

BINS, STARS = 36, 4


def maps(pattern: np.ndarray, exposures: int, seed: int, clouds: float = 0.0) -> tuple[np.ndarray, ...]:
    """Sums of exposures whose stars scatter by 10 mmag, about means of 20 older epochs."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(STARS, (exposures, BINS)).astype(float)
    own = np.full(BINS, 0.01**2 / 20 / STARS)
    mean = (
        pattern + rng.normal(0.0, np.sqrt(own)) + rng.normal(0.0, 0.01, (exposures, BINS)) / np.sqrt(np.maximum(n, 1))
    )
    mean += rng.normal(0.0, 0.01, (exposures, 1))  # zero points
    cloudy = rng.random((exposures, 1)) < 0.2
    mean += clouds * cloudy * rng.normal(0.0, 1.0, (exposures, 1)) * np.linspace(-1.0, 1.0, BINS)
    return 1e4 * n, 1e4 * n * mean, own


def test_change_of_a_pattern_is_its_size() -> None:
    pattern = 0.004 * np.sqrt(2.0) * np.sin(np.arange(BINS))
    changes = [change_of(*maps(pattern, 20, seed)) for seed in range(20)]
    assert all(change.certain for change in changes)
    np.testing.assert_allclose(np.median([change.size for change in changes]), 0.004, rtol=0.1)


@pytest.mark.parametrize(("exposures", "clouds"), [(LEAST_EXPOSURES, 0.0), (32, 0.0), (32, 0.03)])
def test_change_of_noise_zero_points_and_clouds_is_none(exposures: int, clouds: float) -> None:
    changes = [change_of(*maps(np.zeros(BINS), exposures, seed, clouds)) for seed in range(500)]
    assert sum(change.certain and change.size > 0.002 for change in changes) == 0


def test_change_of_too_few_exposures_is_not_known() -> None:
    change = change_of(*maps(np.ones(BINS), LEAST_EXPOSURES - 1, 1))
    assert np.isnan(change.size)
    assert not change.certain


def halves(place: Path, **settings: Any) -> tuple[ztfmatch.Store, list[str]]:
    """A store calibrated on the first half of a sky's nights, and the catalogs of the second."""
    config = SimulationConfig(seed=6, fields=(679,), rcids=(16,), filters=(2,), n_exposures=40, n_nights=200,
                              stars_per_quadrant=12_000, epoch_depth=0.12, bad_fraction=0.0, **settings)  # fmt: skip
    simulate(place / "sky", config)
    store = ztfmatch.init_store(place / "store", str(place / "sky" / "references"))
    catalogs = sorted(map(str, (place / "sky" / "catalogs").rglob("*.fits")))
    store.append(catalogs[:20], AppendConfig(exposures=place / "sky" / "exposures.csv"))
    store.calibrate(CalibrateInputs(place / "sky" / "truth" / "ps1.parquet", place / "set"))
    assert store.snapshot().status.corrections == "none"
    store.correct(place / "set")
    ledger = store.snapshot().table("exposures")
    assert ledger["relscatter"].null_count == ledger["photometric"].null_count == 0
    return store, catalogs[20:]


def status(store: ztfmatch.Store) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["status", str(store.path), "--json"])
    assert done.exit_code == 0
    return dict(json.loads(done.stdout))


def test_status_after_a_step_of_the_camera_says_that_corrections_no_longer_fit(tmp_path: Path) -> None:
    store, later = halves(tmp_path, flat_step=1.0)
    assert status(store)["drift"] == []
    store.append(later, AppendConfig(exposures=tmp_path / "sky" / "exposures.csv"))
    said = status(store)
    (drift,) = said["drift"]
    assert (drift["rcid"], drift["filter"], drift["exposures"], drift["drifted"]) == (16, "zr", 20, True)
    assert 2.0 < drift["map_mmag"] < 10.0
    assert "no longer fit the newest exposures of 1 of 1 channels, by up to" in said["corrections"]
    text = CliRunner().invoke(main, ["status", str(store.path)])
    assert text.exit_code == 0
    assert "rc 16 zr" in text.output
    store.calibrate(CalibrateInputs(tmp_path / "sky" / "truth" / "ps1.parquet", tmp_path / "new"))
    store.correct(tmp_path / "new")
    assert "no longer" not in status(store)["corrections"]


def test_status_of_a_steady_camera_under_clouds_is_silent(tmp_path: Path) -> None:
    store, later = halves(tmp_path, cloudy_fraction=0.2)
    store.append(later, AppendConfig(exposures=tmp_path / "sky" / "exposures.csv"))
    said = status(store)
    assert [one["drifted"] for one in said["drift"]] == [False]
    assert "no longer" not in said["corrections"]
