"""The main job on real data: what the survey released must come out again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

import ztfmatch
from ztfmatch.core.config import AppendConfig
from ztfmatch.core.io.catalogs import read_epochal, read_reference
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import BAD_EXPOSURE, EDGE_CATFLAGS
from ztfmatch.core.schema import TRANSIENTDATA
from ztfmatch.simulate import SimulationConfig, simulate


@pytest.fixture(scope="module")
def dr5(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    return _build(data_dir / "replay" / "dr5_250", tmp_path_factory.mktemp("dr5") / "store")


@pytest.fixture(scope="module")
def matchfile_store(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    return _build(data_dir / "replay" / "matchfile_245", tmp_path_factory.mktemp("match") / "store")


def _build(catalogs: Path, place: Path) -> ztfmatch.Store:
    store = ztfmatch.init_store(place, str(catalogs))
    store.append(str(catalogs))
    return store


@pytest.fixture(scope="module")
def release(data_dir: Path) -> pa.Table:
    return pq.read_table(data_dir / "lightcurves_dr5" / "ztf_000250_zg_c01_q1_dr5.parquet").sort_by("objectid")


@pytest.fixture(scope="module")
def matchfile(data_dir: Path) -> Iterator[object]:
    tables = pytest.importorskip("tables")
    with tables.open_file(str(data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable")) as file:
        yield file.root.matches


def test_read_reference_real_catalog_has_every_seed_and_irsa_objectids(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits"
    assert len(read_reference(str(source)).records) == 18_833
    objects = ztfmatch.init_store(tmp_path / "store", str(source)).snapshot().table("objects").sort_by("objectid")
    assert objects["objectid"].to_pylist() == list(range(202_110_100_000_000, 202_110_100_000_000 + 18_833))
    fits = pytest.importorskip("astropy.io.fits")
    with fits.open(source) as hdus:
        rows = hdus[1].data
        np.testing.assert_array_equal(objects["ra"].to_numpy(), rows["ra"])
        np.testing.assert_array_equal(objects["dec"].to_numpy(), rows["dec"])
        np.testing.assert_allclose(objects["refmag"].to_numpy(), rows["mag"] + 26.325, atol=2e-6)


def test_append_dr5_replay_gives_the_released_objects_and_counts(dr5: ztfmatch.Store, release: pa.Table) -> None:
    detections = dr5.snapshot().table("detections", columns=["objectid"])
    counts = pc.value_counts(detections["objectid"].combine_chunks()).to_pylist()
    assert {row["values"]: row["counts"] for row in counts} == dict(
        zip(release["objectid"].to_pylist(), release["nepochs"].to_pylist(), strict=True)
    )
    assert detections.num_rows == 106_588
    assert dr5.snapshot().status.orphans == 0


def _released(release: pa.Table, column: str) -> npt.NDArray[np.float64]:
    return release[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)


def test_append_dr5_replay_gives_the_released_photometry(dr5: ztfmatch.Store, release: pa.Table) -> None:
    """Epochs of one object are compared as sets: the release's times are too coarse to order them."""
    stored = dr5.snapshot().table("detections").sort_by([("objectid", "ascending"), ("mag", "ascending")])
    objectid = np.repeat(release["objectid"].to_numpy(), release["nepochs"].to_numpy())
    order = np.lexsort((_released(release, "mag"), objectid))
    np.testing.assert_array_equal(stored["objectid"].to_numpy(), objectid[order])
    mag = _released(release, "mag")[order]
    np.testing.assert_allclose(stored["mag"].to_numpy(), mag, rtol=0, atol=np.spacing(np.float32(20.0)))
    hmjd = _released(release, "hmjd")[order].astype(np.float32)
    key = np.lexsort((hmjd, mag, objectid[order]))
    ours = np.lexsort((stored["hmjd"].to_numpy(), stored["mag"].to_numpy(), stored["objectid"].to_numpy()))
    magerr = _released(release, "magerr")[order][key]
    np.testing.assert_allclose(stored["magerr"].to_numpy()[ours], magerr, rtol=3e-7)
    flags = _released(release, "catflags")[order][key].astype(np.uint16)
    without_bad = np.where(flags == EDGE_CATFLAGS, flags, flags & ~np.uint16(BAD_EXPOSURE))
    np.testing.assert_array_equal(stored["catflags"].to_numpy()[ours], without_bad)


def test_append_matchfile_replay_gives_every_epoch_its_matchid(
    matchfile_store: ztfmatch.Store, matchfile: object, data_dir: Path
) -> None:
    epochs = matchfile.sourcedata[:]  # type: ignore[attr-defined]
    snapshot = matchfile_store.snapshot()
    ids = snapshot.table("objects")["objectid"].to_pylist()
    stored = snapshot.lightcurves(objectid=ids)
    assert stored.num_rows == len(epochs) == 336
    ours = np.lexsort((stored["hmjd"].to_numpy(), stored["expid"].to_numpy(), stored["objectid"].to_numpy()))
    theirs = np.lexsort((epochs["hjd"], epochs["expid"], epochs["matchid"]))
    np.testing.assert_array_equal(stored["objectid"].to_numpy()[ours] % 10**7, epochs["matchid"][theirs])
    np.testing.assert_array_equal(stored["expid"].to_numpy()[ours], epochs["expid"][theirs])
    late = (stored["hmjd"].to_numpy()[ours] - (epochs["hjd"][theirs] - 2400000.5)) * 86400.0
    assert np.abs(late).max() < 0.01
    np.testing.assert_array_equal(stored["psfflux"].to_numpy()[ours], epochs["psfflux"][theirs])
    np.testing.assert_array_equal(stored["ra"].to_numpy()[ours], epochs["ra"][theirs])
    np.testing.assert_array_equal(stored["xpos"].to_numpy()[ours], epochs["xpos"][theirs])


@pytest.mark.parametrize("replay", ["dr5", "matchfile_store"])
def test_verify_replay_passes(replay: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(replay).verify(deep=True)
    assert report.passed, [check for check in report.checks if not check.passed]
    assert {check.check for check in report.checks} >= {"match", "conservation", "digest", "checksum"}


def test_append_replay_with_the_survey_error_model_uses_it(data_dir: Path, tmp_path: Path) -> None:
    replay = data_dir / "replay" / "matchfile_245"
    model = data_dir / "survey" / "ZTF_errorbar_correction_zr.dat"
    store = ztfmatch.init_store(tmp_path / "store", str(replay))
    store.append(str(replay), AppendConfig(error_models=(model,)))
    rows = store.snapshot().table("detections")
    with model.open() as lines:
        line = next(line for line in lines if line.split()[:3] == ["245", "10", "1"])
    a, b, c, d = (float(word) for word in line.split()[3:])
    mag = rows["mag"].to_numpy().astype(np.float64)
    polynomial = a + b * mag + c * 10 ** (0.4 * mag) + d * 10 ** (0.8 * mag)
    bright = mag <= 20.5
    np.testing.assert_allclose(rows["magerr"].to_numpy()[bright], polynomial[bright], rtol=1e-6)
    assert store.verify().passed


def test_append_simulation_on_the_real_reference_conserves_every_detection(data_dir: Path, tmp_path: Path) -> None:
    reference = data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits"
    simulate(tmp_path / "sky", SimulationConfig(reference=reference, n_exposures=12))
    store = ztfmatch.init_store(tmp_path / "store", str(tmp_path / "sky" / "references"))
    report = store.append(
        str(tmp_path / "sky" / "catalogs"), AppendConfig(exposures=tmp_path / "sky" / "exposures.csv")
    )
    sources = sorted((tmp_path / "sky" / "catalogs").rglob("*.fits"))
    assert len(sources) == report.exposures == 12
    snapshot = store.snapshot()
    columns = ["exposureid", "sourceid", "ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp", "flags"]
    stored = pa.concat_tables([snapshot.table("detections", columns), snapshot.table("orphans", columns)])
    for source in sources:
        catalog = read_epochal(str(source))
        rows = stored.filter(pc.equal(stored["exposureid"], catalog.exposureid)).sort_by("sourceid")
        np.testing.assert_array_equal(rows["sourceid"].to_numpy(), catalog.records["sourceid"])
        for ours, theirs in {"psfflux": "flux", "psffluxerr": "sigflux"}.items():
            np.testing.assert_array_equal(rows[ours].to_numpy(), catalog.records[theirs])
        for name in ("ra", "dec", "xpos", "ypos", "chi", "sharp", "flags"):
            np.testing.assert_array_equal(rows[name].to_numpy(), catalog.records[name])
    assert store.verify().passed


def test_statistics_of_real_lightcurves_agree_with_numpy(dr5: ztfmatch.Store) -> None:
    dr5.update_statistics()
    snapshot = dr5.snapshot()
    statistics = {row["objectid"]: row for row in snapshot.table("statistics").to_pylist()}
    epochs = snapshot.table("detections").to_pandas()
    for objectid, rows in list(epochs.groupby("objectid"))[::250]:
        good = rows[rows.catflags == 0].mag.to_numpy(np.float64)
        mine = statistics[objectid]
        assert mine["nobs"] == len(rows)
        assert mine["ngoodobs"] == len(good)
        if len(good) > 1:
            assert mine["medianmag"] == pytest.approx(np.median(good), abs=2e-6)
            assert mine["magrms"] == pytest.approx(np.std(good, ddof=1), rel=1e-5)
            assert mine["percentiles_25"] == pytest.approx(np.percentile(good, 25), abs=2e-6)


def test_rematch_and_back_gives_the_release_again(data_dir: Path, dr5: ztfmatch.Store, tmp_path: Path) -> None:
    """The reference regenerated with other positions and 3 % fewer sources, then as it was.

    The sources that it lacked are transients meanwhile, of all their epochs, if they have two; and objects again.
    """
    store = ztfmatch.Store(Storage.at(shutil.copytree(dr5.path, tmp_path / "store")))
    original = next((data_dir / "replay" / "dr5_250").glob("*_refpsfcat.fits"))
    before = _lightcurves(store)
    rng = np.random.default_rng(3)
    with fits.open(original) as hdus:
        rows = hdus[1].data
        rows["ra"] += rng.normal(0.0, 0.2 / 3600.0, len(rows))
        rows["dec"] += rng.normal(0.0, 0.2 / 3600.0, len(rows))
        hdus[1].data = rows[rng.random(len(rows)) > 0.03]
        hdus.writeto(tmp_path / original.name)
    changed = store.rematch(str(tmp_path / original.name))
    assert changed.units[0].lost > 100
    assert store.verify(deep=True).passed
    assert not _lightcurves(store).equals(before)
    snapshot = store.snapshot()
    links = [row for row in snapshot.table("lineage").to_pylist() if row["kind"] == "lost"]
    epochs = Counter(before["objectid"].to_pylist())
    assert {row["objectid"] for row in links if row["newobjectid"] is None} == {
        row["objectid"] for row in links if epochs[row["objectid"] % 10**7] < 2
    }
    named = [row for row in links if row["newobjectid"] is not None]
    assert len(named) > 80
    assert all(row["nshared"] == epochs[row["objectid"] % 10**7] for row in named)
    back = store.rematch(str(original))
    found = back.units[0].transients
    assert (back.units[0].generation, back.units[0].new + found) == (2, changed.units[0].lost)
    assert found == len(named)
    assert store.snapshot().table("transientdata").equals(TRANSIENTDATA.schema.empty_table())
    assert _lightcurves(store).equals(before)
    assert store.verify(deep=True).passed


def _lightcurves(store: ztfmatch.Store) -> pa.Table:
    """All detections, with the sourceid of the reference for the objectid."""
    rows = store.snapshot().table("detections").sort_by([(n, "ascending") for n in ("objectid", "hmjd", "exposureid")])
    ids = rows["objectid"].to_numpy()
    return rows.set_column(0, "objectid", pa.array(ids % 10**7))
