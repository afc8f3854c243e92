"""Releases by star: what LSDB and PyArrow read of them, held to the lightcurves that the store gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ARCSEC, append, epochal_file, make_store, reference_file, rows_at, runner

import ztfmatch
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.operations.link import link_stars
from ztfmatch.core.survey import Unit
from ztfmatch.query.stars import star_epochs
from ztfmatch.release import HatsConfig, publish_stars
from ztfmatch.release.io.scope import ReleaseScope, Window

pytestmark = [
    # Of packages that are not ours, on import or in use; our own code is still held to none.
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:The default suffix behavior will change:FutureWarning"),
]

UNITS = [Unit(500, 20, 1), Unit(500, 20, 2), Unit(501, 3, 2)]
PUBLIC = ReleaseScope("dr1", (Window(1),))


@dataclass
class Scene:
    snapshot: SnapshotFiles
    out: Path

    @property
    def catalog(self) -> Path:
        return self.out / "ztf_dr1_stars-hats"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Stars about the corner of four tiles, in three units; one night is not public."""
    place = tmp_path_factory.mktemp("starrelease")
    rng = np.random.default_rng(8)
    ra, dec = 45.0 + rng.uniform(-0.1, 0.1, 300), rng.uniform(-0.1, 0.1, 300)
    ra[:40], dec[:40] = 45.0 + rng.uniform(-2, 2, 40) * ARCSEC * 8, rng.uniform(-2, 2, 40) * ARCSEC * 8

    def seen(keep: float) -> np.ndarray:
        kept = rng.random(300) < keep
        n = int(kept.sum())
        return rows_at(ra[kept] + rng.normal(0, 0.05, n) * ARCSEC, dec[kept] + rng.normal(0, 0.05, n) * ARCSEC)

    files = [reference_file(place, seen(0.9), unit) for unit in UNITS]
    storage = make_store(place / "store", files, link=False, seeds_per_tile=200)
    for night in range(6):
        append(storage, [epochal_file(place, seen(0.7), night, UNITS[night % 3], PROGRMID=2 if night == 5 else 1)])
    snapshot = open_snapshot(storage)
    with pytest.raises(ConfigError, match="no stars"):
        publish_stars(snapshot, PUBLIC, place / "none", runner())
    out = place / "out"
    link_stars(storage, runner())
    snapshot = open_snapshot(storage)
    report = publish_stars(snapshot, PUBLIC, out, runner(), HatsConfig(partition_rows=60))
    assert report.objects > 200
    assert len(snapshot.tiles_with("stars")) > 3
    return Scene(snapshot, out)


def test_lsdb_opens_it_with_all_stars(scene: Scene, lsdb: Any) -> None:
    catalog = lsdb.open_catalog(scene.out)
    frame = catalog.compute()
    assert len(frame) == len(catalog) == len(set(frame["starid"]))
    one = frame.iloc[0]
    found = catalog.id_search({"starid": int(one["starid"])}).compute()
    assert found["starid"].tolist() == [one["starid"]]
    near = catalog.cone_search(float(one["objra"]), float(one["objdec"]), 1.0).compute()
    assert one["starid"] in near["starid"].tolist()


def test_rows_have_the_epochs_that_the_store_gives(scene: Scene) -> None:
    rows = pa.concat_tables(pq.read_table(path) for path in sorted(scene.catalog.rglob("Npix=*.parquet"))).to_pylist()
    stars = {row["starid"]: row for row in open_snapshot(scene.snapshot.storage).read("stars").to_pylist()}
    public = star_epochs(scene.snapshot, [row["starid"] for row in rows]).to_pandas()
    public = public[(public.programid == 1) & public.mag.notna()]
    expected = dict(iter(public.groupby("starid")))
    assert set(expected) == {row["starid"] for row in rows}
    for row in rows:
        epochs, curve = expected[row["starid"]], row["lightcurve"]
        assert row["nepochs"] == len(epochs)
        assert row["nobjects"] == epochs.objectid.nunique()
        assert (row["objra"], row["objdec"]) == (stars[row["starid"]]["ra"], stars[row["starid"]]["dec"])
        for name in ("hmjd", "mag", "objectid", "field", "rcid", "fid", "catflags"):
            assert curve[name] == epochs[name].tolist(), name


def test_a_store_whose_stars_are_out_of_date_is_refused(tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at(10.0, 10.0))), link=False)
    with pytest.raises(ConfigError, match="run 'ztfmatch link' first"):
        store.snapshot().publish_stars(tmp_path / "out", PUBLIC)
