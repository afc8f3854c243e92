"""The survey's own matchfile: what goes in is what is there, and it can be worked on like any other."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matchfiles import Tables, read_matchfile

import ztfmatch
from ztfmatch import api
from ztfmatch.core.errors import BadInputError
from ztfmatch.matchfile.ingest import ImportConfig

tables = pytest.importorskip("tables", reason="PyTables is the oracle: pip install 'ztfmatch[test]'")
pytest.importorskip("h5py", reason="matchfiles need h5py: pip install 'ztfmatch[matchfile]'")


def in_order_of_the_file(store: ztfmatch.Store) -> pa.Table:
    """Epochs of an imported store, with their rows in the file."""
    rows = store.snapshot().table("imported", columns=["exposureid", "sourceid", "row"])
    return store.snapshot().table("detections").join(rows, ["exposureid", "sourceid"]).sort_by("row")


@pytest.fixture(scope="module")
def path(data_dir: Path) -> Path:
    return data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable"


@pytest.fixture(scope="module")
def real(path: Path) -> Tables:
    return read_matchfile(path)


@pytest.fixture(scope="module")
def store(path: Path, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    place = tmp_path_factory.mktemp("legacy") / "store"
    imported, report = api.import_matchfiles(place, str(path), ImportConfig(create=ztfmatch.StoreConfig()))
    assert (report.imported, report.objects, report.exposures, report.matched) == (1, 10, 68, 336)
    assert (report.orphans, report.rejected, report.moved) == (0, 0, 0)
    return imported


def test_import_real_matchfile_has_every_object_as_it_is_there(store: ztfmatch.Store, real: Tables) -> None:
    objects = store.snapshot().table("objects").sort_by("objectid")
    sources = np.sort(real["sources"], order="matchid")
    assert objects["objectid"].to_pylist() == [245_210_100_000_000 + i for i in range(10)]
    for name in ("ra", "dec", "refmag", "refmagerr", "refsnr", "refchi", "refsharp"):
        assert objects[name].to_numpy().tobytes() == np.ascontiguousarray(sources[name]).tobytes(), name
    assert objects["refflags"].null_count == 10


def test_import_real_matchfile_has_every_epoch_as_it_is_there(store: ztfmatch.Store, real: Tables) -> None:
    detections, data = in_order_of_the_file(store), real["sourcedata"]
    assert detections.num_rows == len(data)
    assert (detections["objectid"].to_numpy() % 10**7).tolist() == data["matchid"].tolist()
    for name in ("ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp", "mag", "magerr", "catflags"):
        assert detections[name].to_numpy().tobytes() == np.ascontiguousarray(data[name]).tobytes(), name
    assert (detections["hmjd"].to_numpy() + 2400000.5).tobytes() == np.ascontiguousarray(data["hjd"]).tobytes()


def test_import_real_matchfile_has_exposures_and_nulls_where_it_knows_none(store: ztfmatch.Store, real: Tables) -> None:
    ledger = store.snapshot().table("exposures").sort_by("expid").to_pylist()
    expids = np.unique(real["sourcedata"]["expid"])
    assert [row["expid"] for row in ledger] == expids.tolist()
    listed = {row["expid"]: row for row in real["exposures"]}
    for row in ledger:
        mid = real["sourcedata"]["mjd"][real["sourcedata"]["expid"] == row["expid"]][0]
        assert row["obsmjd"] + 15.0 / 86400.0 == mid
        if row["expid"] in listed:
            said = listed[row["expid"]]
            assert row["exposureid"] == int(said["fracday"]) * 100 + 36
            assert (row["magzp"], row["airmass"]) == (float(said["magzp"]), float(said["airmass"]))
        else:
            day = datetime.date(2017, 1, 1) + datetime.timedelta(days=row["expid"] // 100_000)
            assert row["exposureid"] // 10**8 == int(f"{day:%Y%m%d}")
            assert row["exposureid"] // 100 % 10**6 >= 650_000
            assert row["exposureid"] % 100 == 36
            assert row["magzp"] is row["airmass"] is row["exptime"] is row["seeing"] is None


def test_verify_imported_store_finds_nothing_wrong(store: ztfmatch.Store) -> None:
    report = store.verify(deep=True)
    assert report.passed
    assert {check.check: check.checked for check in report.checks}["match"] == 336


def test_import_the_same_again_changes_nothing(store: ztfmatch.Store, path: Path) -> None:
    before = store.snapshot().number
    _, report = api.import_matchfiles(store.path, str(path))
    assert (report.committed, report.known, store.snapshot().number) == (False, 1, before)


def test_append_to_imported_objects_passes_over_exposures_of_the_matchfile(
    path: Path, data_dir: Path, tmp_path: Path
) -> None:
    store, _ = api.import_matchfiles(tmp_path / "store", str(path), ImportConfig(create=ztfmatch.StoreConfig()))
    replay = data_dir / "replay" / "matchfile_245"
    with pytest.raises(BadInputError, match="none of 68 catalogs can be used") as raised:
        store.append(str(replay))
    assert {row.code for row in raised.value.refused} == {"conflict", "duplicate"}


def test_import_into_store_of_appended_catalogs_passes_over_its_exposures(
    path: Path, data_dir: Path, tmp_path: Path
) -> None:
    replay = data_dir / "replay" / "matchfile_245"
    store = ztfmatch.init_store(tmp_path / "store", str(replay))
    catalogs = sorted(str(file) for file in replay.glob("*_psfcat.fits"))
    store.append(catalogs[:30])
    _, report = api.import_matchfiles(store.path, str(path))
    assert (report.objects, report.known_exposures, report.exposures, report.moved) == (0, 30, 38, 0)
    assert store.verify().passed
    assert store.snapshot().status.detections == 336
    counts = store.snapshot().table("detections", columns=["objectid"])["objectid"].value_counts().to_pylist()
    ids, numbers = np.unique(read_matchfile(path)["sourcedata"]["matchid"], return_counts=True)
    assert {row["values"] % 10**7: row["counts"] for row in counts} == dict(
        zip(ids.tolist(), numbers.tolist(), strict=True)
    )


def test_rematch_of_imported_objects_keeps_every_epoch(path: Path, data_dir: Path, tmp_path: Path) -> None:
    """To a reference of the same seeds and back to the same lightcurves, under the next generation's objectids."""
    store, _ = api.import_matchfiles(tmp_path / "store", str(path), ImportConfig(create=ztfmatch.StoreConfig()))
    before = in_order_of_the_file(store)
    report = store.rematch(str(data_dir / "replay" / "matchfile_245"))
    assert (report.matched, report.orphans) == (336, 0)
    after = in_order_of_the_file(store)
    assert pa.compute.equal(pa.compute.subtract(after["objectid"], before["objectid"]), 10**7).to_numpy().all()
    assert after.drop_columns("objectid").equals(before.drop_columns("objectid"))
    assert store.verify().passed
    assert store.update_statistics().objects == 10


def test_export_of_the_imported_matchfile_is_that_matchfile(
    store: ztfmatch.Store, path: Path, real: Tables, tmp_path: Path
) -> None:
    report = store.snapshot().export_matchfiles(tmp_path)
    (written,) = report.files
    assert written.path == str(tmp_path / path.name)
    got = read_matchfile(tmp_path / path.name)
    assert {name: rows.dtype for name, rows in got.items()} == {name: rows.dtype for name, rows in real.items()}
    assert got["sourcedata"].tobytes() == real["sourcedata"].tobytes()
    listed = np.isin(got["exposures"]["expid"], real["exposures"]["expid"])
    assert got["exposures"][listed].tobytes() == real["exposures"].tobytes()
    assert set(got["exposures"]["expid"].tolist()) == set(real["sourcedata"]["expid"].tolist())
    for name in ("matchid", "ra", "dec", "refmag", "refmagerr", "refchi", "refsharp", "refsnr"):
        assert got["sources"][name].tobytes() == real["sources"][name].tobytes(), name
    for name in "xyz":
        np.testing.assert_allclose(got["sources"][name], real["sources"][name], atol=1e-15)
    public = [(real["sourcedata"]["matchid"] == i).sum() for i in real["sources"]["matchid"]]
    assert got["sources"]["nobs"].tolist() == public
    seen = got["sources"]["nobs"] > 50
    ratio = got["sources"]["astrometricrms"][seen] / real["sources"]["astrometricrms"][seen]
    assert 0.5 < ratio.min() <= ratio.max() < 2.0, "as the survey's, in radians"


def test_export_has_titles_and_attributes_of_the_survey_with_their_types(
    store: ztfmatch.Store, path: Path, tmp_path: Path
) -> None:
    store.snapshot().export_matchfiles(tmp_path / "x.pytable")
    with tables.open_file(str(path)) as ours, tables.open_file(str(tmp_path / "x.pytable")) as theirs:
        for node in ours.walk_nodes():
            other = theirs.get_node(node._v_pathname)
            assert str(node._v_title) == str(other._v_title)
            assert sorted(node._v_attrs._v_attrnames) == sorted(other._v_attrs._v_attrnames)
            for name in node._v_attrs._v_attrnames:
                if name == "NROWS" and node._v_name == "exposures":
                    continue
                assert type(node._v_attrs[name]) is type(other._v_attrs[name]), name
                assert str(node._v_attrs[name]) == str(other._v_attrs[name]), name


def test_export_of_catalogs_is_a_matchfile_of_their_values(data_dir: Path, tmp_path: Path, real: Tables) -> None:
    """The replayed catalogs are the matchfile's own epochs: all that catalogs tell comes out again."""
    replay = data_dir / "replay" / "matchfile_245"
    store = ztfmatch.init_store(tmp_path / "store", str(replay))
    store.append(str(replay))
    store.snapshot().export_matchfiles(tmp_path / "x.pytable")
    got = read_matchfile(tmp_path / "x.pytable")
    keys = ("matchid", "expid")
    ours, theirs = (np.sort(rows["sourcedata"], order=keys) for rows in (got, real))
    for name in ("matchid", "expid", "ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp", "catflags"):
        if name != "catflags":
            assert ours[name].tobytes() == theirs[name].tobytes(), name
    np.testing.assert_allclose(ours["hjd"], theirs["hjd"], rtol=0, atol=0.01 / 86400)
    np.testing.assert_allclose(ours["mjd"], theirs["mjd"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours["magerrmodel"], theirs["magerrmodel"], atol=1.1e-3)
