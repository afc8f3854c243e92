"""Releases of real data: the survey's own bulk file must come out again, and a HATS catalog of half its size."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

import ztfmatch
from ztfmatch.core.config import AppendConfig
from ztfmatch.release.io.scope import ReleaseScope, Window

SCOPE = ReleaseScope("dr5", (Window(1),))
LISTS = ("hmjd", "mag", "magerr", "clrcoeff", "catflags")


@pytest.fixture(scope="module")
def real_file(data_dir: Path) -> Path:
    return data_dir / "lightcurves_dr5" / "ztf_000250_zg_c01_q1_dr5.parquet"


@pytest.fixture(scope="module")
def real(real_file: Path) -> pa.Table:
    return pq.read_table(real_file)


@pytest.fixture(scope="module")
def snapshot(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Snapshot:
    """The replayed catalogs, with metadata by which the quality rule flags the exposures that the release flagged."""
    place, replay = tmp_path_factory.mktemp("dr5"), data_dir / "replay" / "dr5_250"
    with (place / "exposures.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filefracday", "rcid", "airmass", "magzprms", "nmatches"])
        for path in sorted(replay.glob("*_psfcat.fits")):
            bad = fits.getheader(path)["BADEXP"]
            writer.writerow([path.name[4:18], 0, 1.0, 0.03, 10 if bad else 500])
    store = ztfmatch.init_store(place / "store", str(replay))
    store.append(str(replay), AppendConfig(exposures=place / "exposures.csv"))
    return store.snapshot()


@pytest.fixture(scope="module")
def published(snapshot: ztfmatch.Snapshot, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    place = tmp_path_factory.mktemp("bulk") / "out"
    snapshot.publish_bulk(place, SCOPE)
    return pq.read_table(place / "lc_dr5" / "0" / "field000250" / "ztf_000250_zg_c01_q1_dr5.parquet")


def test_bulk_file_has_the_real_columns_and_types_but_for_hmjd(published: pa.Table, real: pa.Table) -> None:
    assert published.column_names == real.column_names
    for name in real.column_names:
        expected = pa.list_(pa.float64()) if name == "hmjd" else real.schema.field(name).type
        assert published.schema.field(name).type == expected, name


def test_bulk_file_has_the_real_rows_in_their_order(published: pa.Table, real: pa.Table) -> None:
    for name in ("objectid", "filterid", "fieldid", "rcid", "nepochs", "__index_level_0__"):
        assert published[name].equals(real[name]), name
    for name in ("objra", "objdec"):
        np.testing.assert_array_equal(published[name].to_numpy(), real[name].to_numpy())
    for name in LISTS:
        ours, theirs = (pa.compute.list_value_length(table[name]) for table in (published, real))
        assert ours.equals(theirs)


def test_bulk_file_has_the_real_epochs(published: pa.Table, real: pa.Table) -> None:
    """Times of the real file are float32, 5.6 minutes coarse: epochs that these do not order are ordered by mag."""
    objectid = np.repeat(real["objectid"].to_numpy(), real["nepochs"].to_numpy())
    ours, theirs = (
        {name: table[name].combine_chunks().flatten().to_numpy() for name in LISTS} for table in (published, real)
    )
    assert (np.diff(ours["hmjd"])[np.diff(objectid) == 0] >= 0).all()
    # The replay's OBSMJD is the release's rounded hmjd: ours is later by half an exposure and the way of the light.
    late = np.sort(ours["hmjd"]) - np.sort(theirs["hmjd"].astype(float))
    assert np.abs(late).max() < 600.0 / 86400.0
    order = np.lexsort((theirs["mag"], objectid))
    mine = np.lexsort((ours["mag"], objectid))
    np.testing.assert_allclose(ours["mag"][mine], theirs["mag"][order], rtol=0, atol=np.spacing(np.float32(20.0)))
    np.testing.assert_allclose(ours["magerr"][mine], theirs["magerr"][order], rtol=3e-7)
    np.testing.assert_allclose(ours["clrcoeff"][mine], theirs["clrcoeff"][order], rtol=1e-6)
    assert (ours["catflags"][mine] == theirs["catflags"][order]).mean() > 0.9999  # mag ties of one object swap
    flags, counts = np.unique(ours["catflags"], return_counts=True)
    real_flags, real_counts = np.unique(theirs["catflags"], return_counts=True)
    np.testing.assert_array_equal(flags, real_flags)
    np.testing.assert_array_equal(counts, real_counts)
    same_place = np.abs(ours["hmjd"] - theirs["hmjd"]) < 600.0 / 86400.0
    assert same_place.all()


def test_nested_release_takes_half_the_bytes_of_the_real_file(
    snapshot: ztfmatch.Snapshot, real_file: Path, tmp_path: Path
) -> None:
    """With hmjd in double, mag exact, magerr to 0.05 %; footers and all included."""
    report = snapshot.publish_hats(tmp_path / "hats", SCOPE)
    assert report.epochs == 106_588
    files = list(tmp_path.glob("hats/*_lc-hats/dataset/Norder*/**/*.parquet"))
    assert sum(path.stat().st_size for path in files) <= 0.5 * real_file.stat().st_size


def test_objects_release_has_irsas_column_names(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    """The list is that of IRSA's documentation of its objects table."""
    snapshot.publish_objects(tmp_path / "objects", SCOPE)
    names = pq.read_schema(next(tmp_path.glob("objects/*-hats/dataset/_common_metadata"))).names
    irsa = (
        "cntr oid ra dec htm20 field ccdid qid fid filtercode x y z ngoodobs ngoodobsrel nobs nobsrel refchi refmag "
        "refmagerr refsharp refsnr astrometricrms chisq con lineartrend magrms maxmag maxslope meanmag medianabsdev "
        "medianmag medmagerr minmag nabovemeanbystd_1 nabovemeanbystd_3 nabovemeanbystd_5 nbelowmeanbystd_1 "
        "nbelowmeanbystd_3 nbelowmeanbystd_5 nconsecabovemeanbystd_1 nconsecabovemeanbystd_3 nconsecabovemeanbystd_5 "
        "nconsecbelowmeanbystd_1 nconsecbelowmeanbystd_3 nconsecbelowmeanbystd_5 nconsecfrommeanbystd_1 "
        "nconsecfrommeanbystd_3 nconsecfrommeanbystd_5 nmedianbufferrange npairposslope percentiles_05 "
        "percentiles_10 percentiles_175 percentiles_25 percentiles_325 percentiles_40 percentiles_60 "
        "percentiles_675 percentiles_75 percentiles_825 percentiles_90 percentiles_95 skewness smallkurtosis "
        "stetsonj stetsonk vonneumannratio weightedmagrms weightedmeanmag"
    )
    assert names == ["_healpix_29", *irsa.split(), "uncalibmeanmag"]
