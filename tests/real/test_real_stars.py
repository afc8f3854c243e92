"""The real reference catalog as two overlapping fields in two filters: its crowding, its magnitudes, its S/N."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers import make_store, reference_file, rows_at, runner

from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.survey import Unit, objectid_base

UNITS = [Unit(202, 36, 1), Unit(202, 36, 2), Unit(1238, 5, 1), Unit(1238, 5, 2)]


@pytest.fixture(scope="module")
def truth(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, int], dict[int, int]]:
    """Star and starid of each object: seeds of all units are those of the catalog, moved by their errors.

    The second field sees the northern three quarters. A twentieth is missing from each unit at random.
    """
    place = tmp_path_factory.mktemp("realstars")
    (path,) = (data_dir / "refpsfcat").glob("*.fits")
    with fits.open(path) as held:
        real = np.array(held[1].data)
    rng = np.random.default_rng(11)
    files, true = [], {}
    for unit in UNITS:
        kept = rng.random(len(real)) < 0.95
        if unit.field == 1238:
            kept &= real["dec"] > np.quantile(real["dec"], 0.25)
        star = np.flatnonzero(kept)
        snr = real["snr"][star].astype(float)
        error = np.hypot(0.06, 2.0 / 2.355 / np.maximum(snr, 3.0)) / 3600.0
        dec = real["dec"][star] + rng.normal(0, error)
        ra = real["ra"][star] + rng.normal(0, error) / np.cos(np.radians(dec))
        files.append(reference_file(place, rows_at(ra % 360.0, dec, snr=snr), unit))
        true |= dict(zip((objectid_base(unit) + np.arange(len(star))).tolist(), star.tolist(), strict=True))
    storage = make_store(place / "store", files, seeds_per_tile=20_000)
    report = verify_store(storage, runner())
    assert next(check for check in report.checks if check.check == "stars").passed
    rows = open_snapshot(storage).read("members")
    return true, dict(zip(rows["objectid"].to_pylist(), rows["starid"].to_pylist(), strict=True))


def test_stars_are_the_seeds_of_the_catalog(truth: tuple[dict[int, int], dict[int, int]]) -> None:
    true, found = truth
    ids = np.array(sorted(true))
    star, starid = (np.array([of[one] for one in ids.tolist()]) for of in (true, found))

    def pairs(*keys: np.ndarray) -> int:
        counts = np.unique(np.stack(keys), axis=1, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    same = pairs(star, starid)
    purity, completeness = same / pairs(starid), same / pairs(star)
    print(f"{len(ids):,} objects: purity {purity:.5f}, completeness {completeness:.5f}")
    assert purity >= 0.999
    assert completeness >= 0.995
