"""HATS collections, judged by the packages that define and read them: hats, hats-import, LSDB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from releases import SCOPE, SMALL, Expected, expected, make_survey

import ztfmatch
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.release import check_product

pytestmark = [
    # Of packages that are not ours, on import or in use; our own code is still held to none.
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:The default suffix behavior will change:FutureWarning"),
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Snapshot:
    return make_survey(tmp_path_factory.mktemp("survey")).snapshot()


@pytest.fixture(scope="module")
def truth(snapshot: ztfmatch.Snapshot) -> Expected:
    return expected(snapshot, SCOPE)


@pytest.fixture(scope="module")
def place(snapshot: ztfmatch.Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("release")
    snapshot.publish_hats(made / "lightcurves", SCOPE, SMALL)
    snapshot.publish_objects(made / "objects", SCOPE, SMALL)
    return made


@pytest.fixture(scope="module")
def catalog(place: Path, lsdb: Any) -> Any:
    return lsdb.open_catalog(place / "lightcurves")


@pytest.fixture
def star(truth: Expected) -> pd.Series:
    """An object with epochs in the release."""
    seen = truth.objects[truth.objects.objectid.isin(truth.epochs.objectid)]
    return seen.iloc[len(seen) // 3]


def computed(catalog: Any) -> pd.DataFrame:
    return catalog.compute(progress_bar=False)


def in_cone(truth: Expected, ra: float, dec: float, radius_arcsec: float) -> list[int]:
    """Objectids that have epochs in the release, within a radius, ascending."""
    seen = truth.objects[truth.objects.objectid.isin(truth.epochs.objectid)]
    apart = SkyCoord(seen.ra, seen.dec, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).arcsec
    return sorted(seen.objectid[apart <= radius_arcsec].tolist())


@pytest.mark.parametrize("name", ["lightcurves", "objects"])
def test_collection_passes_strict_validation_and_verification(
    place: Path, tmp_path: Path, lsdb: Any, name: str
) -> None:
    validation = pytest.importorskip("hats.io.validation")
    verification = pytest.importorskip("hats_import.verification.run_verification")
    arguments = pytest.importorskip("hats_import.verification.arguments")
    assert validation.is_valid_collection(place / name, strict=True)
    members = sorted(path for path in (place / name).iterdir() if path.is_dir())
    assert len(members) == 3
    for path in members:
        assert validation.is_valid_catalog(path, strict=True)
    skyward = [place / name, *(path for path in members if "_index_" not in path.name)]
    for path in skyward:
        given = arguments.VerificationArguments(
            input_catalog_path=path, output_path=tmp_path, verbose=False, check_metadata=False
        )
        verifier = verification.run(given)
        assert verifier.all_tests_passed, verifier.results_df[~verifier.results_df.passed].to_dict("records")
        assert len(verifier.results) > 5
    for path in members:  # as the verifier's check of metadata, but for the VOTable, which HATS has in one place alone
        common = pq.read_schema(path / "dataset" / "_common_metadata").remove_metadata()
        files = [*path.rglob("*.parquet"), path / "dataset" / "_metadata"]
        assert [file for file in files if not common.equals(pq.read_schema(file).remove_metadata(), True)] == []


@pytest.mark.parametrize("name", ["lightcurves", "objects"])
def test_statistics_of_columns_are_those_of_the_rows(place: Path, lsdb: Any, name: str) -> None:
    declared = lsdb.open_catalog(place / name).hc_structure.aggregate_column_statistics()
    files = sorted(place.glob(f"{name}/*-hats/dataset/Norder*/**/*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
    told = declared[declared.row_count > 0]
    assert {"objra", "objdec"} <= set(told.index) or {"ra", "dec"} <= set(told.index)
    for column, stated in told.iterrows():
        bounds = pa.compute.min_max(rows[column])
        assert (stated.min_value, stated.max_value) == (bounds["min"].as_py(), bounds["max"].as_py()), column
        assert (stated.null_count, stated.row_count) == (rows[column].null_count, rows.num_rows), column


def test_partitions_are_sorted_in_their_pixel_and_of_many_orders(place: Path) -> None:
    healpy = pytest.importorskip("healpy")
    files = sorted(place.glob("lightcurves/*-hats/dataset/Norder*/**/*.parquet"))
    orders = set()
    for path in files:
        rows = pq.ParquetFile(path).read()
        order, npix = int(path.parent.parent.name[7:]), int(path.stem[5:])
        orders.add(order)
        pixels = rows["_healpix_29"].to_numpy()
        assert (np.diff(pixels) >= 0).all()
        assert (pixels >> 2 * (29 - order) == npix).all()
        ra, dec = rows["objra"].to_numpy(), rows["objdec"].to_numpy()
        np.testing.assert_array_equal(pixels, healpy.ang2pix(1 << 29, ra, dec, nest=True, lonlat=True))
        assert rows.num_rows <= SMALL.partition_rows
    assert len(files) > 6
    assert len(orders) > 1


def test_margin_has_all_within_its_threshold_and_no_row_of_its_own(place: Path, catalog: Any) -> None:
    """Judged by stepping from every object in 24 directions: what lands in a partition is in its margin."""
    healpy = pytest.importorskip("healpy")
    files = sorted(place.glob("lightcurves/*-hats/dataset/Norder*/**/*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(path).read(["objectid", "objra", "objdec"]) for path in files])
    ids, ra, dec = (rows[name].to_numpy() for name in ("objectid", "objra", "objdec"))
    checked = 0
    for path in files:
        order, npix = int(path.parent.parent.name[7:]), int(path.stem[5:])
        own = healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True) == npix
        near = np.zeros(len(ids), bool)
        for angle in np.radians(np.arange(0, 360, 15)):
            step = 0.999 * MARGIN_ARCSEC / 3600.0
            north = dec + step * np.cos(angle)
            east = ra + step * np.sin(angle) / np.cos(np.radians(dec))
            near |= healpy.ang2pix(1 << order, east, north, nest=True, lonlat=True) == npix
        margin = Path(str(path).replace("-hats/dataset", f"-hats_margin_{MARGIN_ARCSEC:.0f}arcs/dataset"))
        held = set(pq.ParquetFile(margin).read(["objectid"])["objectid"].to_pylist()) if margin.exists() else set()
        assert set(ids[near & ~own].tolist()) <= held
        assert not held & set(ids[own].tolist())
        checked += int((near & ~own).sum())
    assert checked > 5
    assert catalog.margin is not None
    assert catalog.margin.hc_structure.catalog_info.margin_threshold == MARGIN_ARCSEC


def test_skymap_and_properties_tell_what_is_there(place: Path, catalog: Any, truth: Expected) -> None:
    healpy = pytest.importorskip("healpy")
    seen = truth.objects[truth.objects.objectid.isin(truth.epochs.objectid)]
    assert len(catalog) == len(seen)
    skymap = pytest.importorskip("hats.io.skymap").read_skymap(catalog.hc_structure, None)
    pixels = healpy.ang2pix(256, seen.ra.to_numpy(), seen.dec.to_numpy(), nest=True, lonlat=True)
    np.testing.assert_array_equal(skymap, np.bincount(pixels, minlength=healpy.nside2npix(256)))
    info = catalog.hc_structure.catalog_info
    assert info.obs_description == SCOPE.description
    assert (info.ra_column, info.dec_column, info.healpix_column, info.total_rows) == (
        "objra", "objdec", "_healpix_29", len(seen),
    )  # fmt: skip


def test_product_says_what_it_shows_of_what_it_was_made_and_how_to_cite_it(
    place: Path, snapshot: ztfmatch.Snapshot, tmp_path: Path
) -> None:
    licensed = replace(SCOPE, licence="CC BY 4.0", citation="Us 2026", fids=(1,), fields=((600, 699),))
    snapshot.publish_objects(tmp_path / "said", licensed, SMALL)
    commit = snapshot.number
    for root, licence, citation in (
        (place / "lightcurves", None, "2019, PASP 131, 018002"), (tmp_path / "said", "CC BY 4.0", "Us 2026"),
    ):  # fmt: skip
        readme = (root / "README.txt").read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.properties")):
            lines = dict(line.split(" = ", 1) for line in path.read_text(encoding="utf-8").splitlines()[1:])
            assert lines.get("obs_copyright") == licence
            assert citation in lines["obs_ack"]
            assert lines["ztf_release"] == "dr2"
            assert lines["prov_progenitor"].endswith(f"snapshot {commit}")
            assert lines["ztf_scope"].startswith("program 1 (public), program 2 (partnership) until MJD ")
            assert lines["ztf_scope"] in readme
            assert lines["hats_builder"] == f"ztfmatch v{ztfmatch.__version__}"
        assert citation in readme
        assert "\n\n\n" not in readme
        assert (licence or "none was stated") in readme
        assert f"of snapshot {commit} (" in readme
        assert check_product(root).passed
    assert "; filters zg; fields 600-699" in (tmp_path / "said" / "README.txt").read_text(encoding="utf-8")


def test_lsdb_cone_search_equals_our_own_query(
    catalog: Any, snapshot: ztfmatch.Snapshot, truth: Expected, star: pd.Series
) -> None:
    found = computed(catalog.cone_search(star.ra, star.dec, 200.0)).sort_values("objectid")
    assert found.objectid.tolist() == in_cone(truth, star.ra, star.dec, 200.0)
    assert len(found) > 5
    ours = snapshot.lightcurves(objectid=found.objectid.tolist()).to_pandas()
    known = set(truth.epochs.exposureid)
    ours = ours[ours.exposureid.isin(known) & ours.mag.notna()]
    theirs = found.lightcurve.nest.to_flat() if hasattr(found.lightcurve, "nest") else found["lightcurve"].explode()
    for name in ("hmjd", "mag", "magerr", "catflags"):
        np.testing.assert_array_equal(theirs[name].to_numpy(float), ours[name].to_numpy(float), err_msg=name)


def test_lsdb_box_search_equals_a_cut(catalog: Any, truth: Expected, star: pd.Series) -> None:
    box = {"ra": (star.ra - 0.1, star.ra + 0.1), "dec": (star.dec - 0.05, star.dec + 0.05)}
    found = computed(catalog.box_search(**box))
    seen = truth.objects[truth.objects.objectid.isin(truth.epochs.objectid)]
    inside = seen[seen.ra.between(*box["ra"]) & seen.dec.between(*box["dec"])]
    assert sorted(found.objectid) == sorted(inside.objectid)
    assert len(inside) > 5


def test_lsdb_id_search_reads_the_partition_that_the_index_names(
    catalog: Any, truth: Expected, star: pd.Series
) -> None:
    found = catalog.id_search(values={"objectid": int(star.objectid)})
    assert len(found.get_healpix_pixels()) == 1
    rows = computed(found)
    assert rows.objectid.tolist() == [star.objectid]
    epochs = truth.epochs[truth.epochs.objectid == star.objectid]
    assert rows.nepochs.tolist() == [len(epochs)]
    some = sorted(truth.epochs.objectid.unique()[::97].tolist())
    assert sorted(computed(catalog.id_search(values={"objectid": some})).objectid) == some


def test_lsdb_crossmatch_across_borders_equals_brute_force(
    catalog: Any, place: Path, lsdb: Any, truth: Expected
) -> None:
    """Objects of the g filter are matched to those of the r filter, with the margin of the right side."""
    objects = lsdb.open_catalog(place / "objects")
    left = catalog.query("filterid == 1")
    matched = computed(
        left.crossmatch(objects.query("fid == 2"), n_neighbors=1, radius_arcsec=2.0, suffixes=("_lc", "_ob"))
    )
    seen = truth.objects[truth.objects.objectid.isin(truth.epochs.objectid)]
    green, red = seen[seen.fid == 1], truth.objects[truth.objects.fid == 2]
    one = SkyCoord(green.ra, green.dec, unit="deg")
    other = SkyCoord(red.ra, red.dec, unit="deg")
    index, apart, _ = one.match_to_catalog_sky(other)
    near = apart.arcsec <= 2.0
    brute = dict(zip(green.objectid[near].tolist(), red.objectid.to_numpy()[index[near]].tolist(), strict=True))
    assert dict(zip(matched.objectid_lc.tolist(), matched.oid_ob.tolist(), strict=True)) == brute
    assert len(brute) > 100


def test_lsdb_nested_operations_work_on_lightcurves(catalog: Any, truth: Expected) -> None:
    clean = catalog.query("lightcurve.catflags == 0")
    rows = computed(clean)
    counts = {row.objectid: 0 if row.lightcurve is None else len(row.lightcurve) for row in rows.itertuples()}
    good = truth.epochs[truth.epochs.catflags == 0].groupby("objectid").size()
    assert {key: value for key, value in counts.items() if value} == good.to_dict()

    def spread(mag: np.ndarray) -> dict[str, float]:
        return {"spread": float(np.ptp(mag)) if len(mag) else np.nan}

    reduced = computed(
        catalog.map_rows(spread, columns=["lightcurve.mag"], row_container="args", meta={"spread": float})
    )
    ranges = truth.epochs.groupby("objectid").mag.agg(lambda m: float(np.float32(m.max()) - np.float32(m.min())))
    np.testing.assert_allclose(sorted(reduced.spread), sorted(ranges), atol=1e-6)


def test_lsdb_reads_one_nested_column_alone(place: Path, lsdb: Any, truth: Expected) -> None:
    partial = lsdb.open_catalog(place / "lightcurves", columns=["objectid", "lightcurve.mag"])
    rows = computed(partial)
    assert set(rows.columns) == {"objectid", "objra", "objdec", "lightcurve"}  # LSDB adds the position
    assert rows["lightcurve.mag"].size == len(truth.epochs)


def test_objects_opened_by_lsdb_have_the_statistics(place: Path, lsdb: Any, truth: Expected) -> None:
    rows = computed(lsdb.open_catalog(place / "objects").query("ngoodobsrel > 2"))
    good = truth.epochs[(truth.epochs.catflags == 0)].groupby("objectid").mag.median()
    some = rows.set_index("oid").medianmag.astype(float).sort_index()
    np.testing.assert_allclose(some, good.loc[some.index], atol=2e-6)
    assert len(some) > 50
