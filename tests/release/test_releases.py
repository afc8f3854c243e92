"""Releases: what is in them and what must not be, the same bytes each time, and nothing half-made left behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import corrected
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from corrected import ENOUGH, PRIVATE, PUBLIC, calibrated_survey
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at
from releases import CONFIG, MIDDLE, SCOPE, SMALL, Expected, assert_epochs, digests, expected, flat, hidden, make_survey
from small_survey import statistics_from_scratch, tolerance

import ztfmatch
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import (
    ConfigError,
    JobFailedError,
    MemoryBudgetError,
    OutputExistsError,
    ScopeError,
    SnapshotNotFoundError,
)
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.runner import LoopExecutor, Runner
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.photometry.tasks import residuals
from ztfmatch.query.area import cone_region, moc_region, polygon_region
from ztfmatch.release import HatsConfig, Part, publish_bulk
from ztfmatch.release.io.scope import Quality, ReleaseScope, Window
from ztfmatch.release.schema import BULK, RELEASED_LIGHTCURVES, RELEASED_OBJECTS
from ztfmatch.release.sectors import sector_dates, sector_region
from ztfmatch.release.tarball import sector_part
from ztfmatch.release.tasks import bulk, hats
from ztfmatch.simulate import regenerate_references

SCOPES = {
    "programs": SCOPE,
    "all": ReleaseScope("all", (Window(1), Window(2), Window(3))),
    "field": ReleaseScope("one", (Window(1), Window(3)), fids=(1,), fields=((679, 679),)),
    "quality": ReleaseScope("q", (Window(1), Window(2)), quality=Quality(True, 0xFFFF, 0.15, 1.6, 3.0, 19.0)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    return make_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def snapshot(store: ztfmatch.Store) -> ztfmatch.Snapshot:
    return store.snapshot()


@pytest.fixture(scope="module")
def truth(snapshot: ztfmatch.Snapshot) -> Expected:
    return expected(snapshot, SCOPE)


def bulk_rows(place: Path) -> pa.Table:
    return ds.dataset(sorted(place.rglob("*.parquet"))).to_table()


def primary(place: Path) -> list[Path]:
    """Files of the primary catalog of a collection, in order."""
    return sorted(path for path in place.glob("*-hats/dataset/Norder*/**/*.parquet"))


def nested(place: Path) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(path).read() for path in primary(place)])


@pytest.mark.parametrize("name", SCOPES)
def test_publish_hats_and_bulk_have_exactly_the_epochs_in_scope(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, name: str
) -> None:
    truth = expected(snapshot, SCOPES[name])
    assert 0 < len(truth.epochs) <= len(truth.every)
    report = snapshot.publish_hats(tmp_path / "hats", SCOPES[name], SMALL)
    assert (report.epochs, report.objects) == (len(truth.epochs), truth.epochs.objectid.nunique())
    assert_epochs(flat(nested(tmp_path / "hats"), "lightcurve"), truth.epochs)
    report = snapshot.publish_bulk(tmp_path / "bulk", SCOPES[name])
    assert (report.epochs, report.objects) == (len(truth.epochs), truth.epochs.objectid.nunique())
    assert_epochs(flat(bulk_rows(tmp_path / "bulk")), truth.epochs)


def test_publish_bulk_has_names_columns_and_checksums_as_irsas(
    snapshot: ztfmatch.Snapshot, truth: Expected, tmp_path: Path
) -> None:
    snapshot.publish_bulk(tmp_path / "bulk", SCOPE)
    root = tmp_path / "bulk" / "lc_dr2"
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))
    units = truth.epochs.objectid // 10**8
    assert len(files) == units.nunique() == 8
    assert files[0] == "0/field000679/ztf_000679_zg_c05_q1_dr2.parquet"
    done = subprocess.run(["md5sum", "-c", "checksum.md5"], cwd=root, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [f"./{name}: OK" for name in files]
    rows = pq.read_table(root / files[0])
    assert rows.schema.equals(BULK.schema)
    assert rows["objectid"].to_pylist() == sorted(rows["objectid"].to_pylist())
    one = truth.objects.set_index("objectid").loc[rows["objectid"].to_pylist()]
    np.testing.assert_array_equal(rows["objra"].to_numpy(), one.ra.to_numpy(np.float32))
    np.testing.assert_array_equal(rows["rcid"].to_numpy(), one.rcid)
    np.testing.assert_array_equal(rows["filterid"].to_numpy(), one.fid)
    np.testing.assert_array_equal(rows["__index_level_0__"].to_numpy(), one.sourceid)
    assert "objectid" in (root / "README.txt").read_text()


def test_publish_bulk_a_unit_of_many_tiles_in_small_portions_is_the_same(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot.publish_bulk(tmp_path / "whole", SCOPE)
    monkeypatch.setattr("ztfmatch.release.tasks.released.ROWS_IN_FLIGHT", 150)
    snapshot.publish_bulk(tmp_path / "portions", SCOPE)
    assert bulk_rows(tmp_path / "portions").equals(bulk_rows(tmp_path / "whole"))
    file = next((tmp_path / "portions").rglob("*.parquet"))
    assert pq.ParquetFile(file).num_row_groups > 3


def test_publish_objects_has_all_objects_and_statistics_of_the_release_alone(
    snapshot: ztfmatch.Snapshot, truth: Expected, tmp_path: Path
) -> None:
    report = snapshot.publish_objects(tmp_path / "objects", SCOPE, SMALL)
    rows = nested(tmp_path / "objects").sort_by("oid")
    assert report.objects == rows.num_rows == len(truth.objects)
    assert rows.schema.names == RELEASED_OBJECTS.names
    assert sorted(rows["cntr"].to_pylist()) == list(range(1, rows.num_rows + 1))
    got = rows.to_pandas().set_index("oid")
    np.testing.assert_array_equal(got.index, truth.objects.objectid)
    np.testing.assert_array_equal(got.ra, truth.objects.ra)
    np.testing.assert_array_equal(got.refmag, truth.objects.refmag)
    np.testing.assert_array_equal(got.ccdid, truth.objects.rcid // 4 + 1)
    assert (got.x**2 + got.y**2 + got.z**2 - 1.0).abs().max() < 1e-14
    assert set(got.filtercode) == {"zg", "zr"}
    good = (truth.every.catflags == 0) & truth.every.mag.notna() & truth.every.magerr.notna()
    counts = truth.every.groupby("objectid").size().reindex(got.index, fill_value=0)
    np.testing.assert_array_equal(got.nobs, counts)
    np.testing.assert_array_equal(
        got.ngoodobs, truth.every[good].groupby("objectid").size().reindex(got.index, fill_value=0)
    )
    assert (got.nobsrel < got.nobs).any()
    chosen = got.index[::40].tolist()
    scratch = statistics_from_scratch(
        pa.Table.from_pandas(truth.epochs), chosen, set(truth.epochs.exposureid.unique().tolist())
    )
    for objectid, row in scratch.items():
        for name, value in row.items():
            mine = got.loc[objectid, name]
            if name in ("nobs", "ngoodobs"):
                continue
            if value is None:
                assert pd.isna(mine), (objectid, name)
            else:
                assert mine == pytest.approx(value, rel=tolerance(name), abs=1e-7), (objectid, name)


def private_survey(place: Path, seed: int, exposures: int) -> ztfmatch.Snapshot:
    """Public epochs always the same; those of another program, on other nights, as the seed wills."""
    place.mkdir()
    rng = np.random.default_rng(5)
    ra, dec = 150.0 + rng.uniform(-0.02, 0.02, 60), 2.0 + rng.uniform(-0.02, 0.02, 60)
    storage = make_store(place / "store", [reference_file(place, rows_at(ra, dec))])
    for night in range(4):
        seen = rng.random(60) < 0.6
        rows = rows_at(ra[seen], dec[seen], flux=rng.uniform(100, 4000, seen.sum()))
        append(storage, [epochal_file(place, rows, 2 * night, CLRCOEFF=0.01 * night)])
    secret = np.random.default_rng(seed)
    for night in range(exposures):
        at = secret.choice(60, 30 + seed, replace=False)
        shift = secret.normal(0, 0.3, at.size) / 3600.0
        rows = rows_at(ra[at], dec[at] + shift, flux=secret.uniform(100, 4000, at.size))
        rows["flags"] = secret.choice([0, 0, 4], at.size)
        append(storage, [epochal_file(place, rows, 2 * night + 1, PROGRMID=PRIVATE)])
    return ztfmatch.open_store(place / "store").snapshot()


def test_private_epochs_change_nothing_in_a_release_but_nobs_and_ngoodobs(tmp_path: Path) -> None:
    scope = ReleaseScope("public", (Window(1),))
    places = []
    for seed, exposures in ((1, 3), (2, 4)):
        snapshot = private_survey(tmp_path / f"survey{seed}", seed, exposures)
        place = tmp_path / f"release{seed}"
        place.mkdir()
        snapshot.publish_hats(place / "hats", scope)
        snapshot.publish_bulk(place / "bulk", scope)
        snapshot.publish_objects(place / "objects", scope)
        places.append(place)
    first, second = (digests(place) for place in places)
    assert first.keys() == second.keys()
    of_snapshot = {"release.json", "sha256sums.txt", "hats.properties", "properties", "collection.properties"}
    of_snapshot.add("README.txt")
    for name in (name for name in first if name.endswith("README.txt")):
        lines = [set((place / name).read_text(encoding="utf-8").splitlines()) for place in places]
        assert all(line.startswith("    of snapshot ") for line in lines[0] ^ lines[1])
    differing = {name for name in first if first[name] != second[name] and Path(name).name not in of_snapshot}
    statistics = {name for name in first if name.startswith("objects/") and "/Norder=" in name}
    assert differing <= statistics | {name for name in first if name.startswith("objects/") and "_metadata" in name}
    assert differing & statistics
    rows = [nested(place / "objects") for place in places]
    changed = {name for name in RELEASED_OBJECTS.names if not rows[0][name].equals(rows[1][name])}
    assert changed == {"nobs", "ngoodobs"}
    texts = [(place / "hats" / "collection.properties").read_text().splitlines() for place in places]
    lines = {line.split(" = ")[0] for pair in zip(*texts, strict=True) if len(set(pair)) > 1 for line in pair}
    assert lines <= {"prov_progenitor", "hats_creation_date"}
    manifests = [json.loads((place / "bulk" / "release.json").read_text()) for place in places]
    keys = {key for key in manifests[0] if manifests[0][key] != manifests[1][key]}
    assert keys <= {"snapshot", "bytes", "checksums"}
    assert manifests[0]["bytes"] == manifests[1]["bytes"]


def test_publish_with_public_corrections_private_epochs_change_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightcurves are compared in portions of some 700 epochs, whose borders private ones must not move either."""
    monkeypatch.setattr(residuals, "ROWS_IN_FLIGHT", 700)
    scope, config, places = ReleaseScope("public", (Window(PUBLIC),)), replace(ENOUGH, programs=(PUBLIC,)), []
    for seed, exposures in ((1, 6), (2, 9)):
        place = tmp_path / f"survey{seed}"
        store = calibrated_survey(place, seed, exposures)
        store.calibrate(CalibrateInputs(place / "ps1.parquet", place / "set"), config)
        assert store.correct(place / "set").committed
        for publish in ("hats", "bulk", "objects"):
            getattr(store.snapshot(), f"publish_{publish}")(place / publish, scope)
        places.append(place)
    first, second = (digests(place / "set") for place in places)
    assert {name for name in first if first[name] != second[name]} == {"about.json"}  # its store, PS1 file and time
    epochs = [flat(nested(place / "hats"), "lightcurve") for place in places]
    assert epochs[0].num_rows > 2_000
    assert epochs[0].equals(epochs[1])
    assert bulk_rows(places[0] / "bulk").equals(bulk_rows(places[1] / "bulk"))
    rows = [nested(place / "objects") for place in places]
    changed = {name for name in RELEASED_OBJECTS.names if not rows[0][name].equals(rows[1][name])}
    assert changed == {"nobs", "ngoodobs"}
    for place in places:
        name = json.loads((place / "set" / "about.json").read_text())["corrections"]
        manifest = json.loads((place / "hats" / "release.json").read_text())
        assert manifest["corrections"] == [{"name": name, "programs": [PUBLIC]}]
        assert pq.read_table(place / "set" / "exposures.parquet").num_rows == 8
        assert pq.read_table(place / "set" / "errormodel.parquet").num_rows == 1


def test_publish_with_corrections_of_private_epochs_is_refused_unless_allowed(tmp_path: Path) -> None:
    store = calibrated_survey(tmp_path / "survey", 1, 6)
    inputs = CalibrateInputs(tmp_path / "survey" / "ps1.parquet", tmp_path / "set")
    assert store.calibrate(inputs, ENOUGH).programs == [PUBLIC, PRIVATE]
    snapshot, scope = store.snapshot(), ReleaseScope("public", (Window(PUBLIC),))
    snapshot.publish_bulk(tmp_path / "uncorrected", scope)
    assert json.loads((tmp_path / "uncorrected" / "release.json").read_text())["corrections"] == []
    store.correct(tmp_path / "set")
    snapshot, part = store.snapshot(), Part("all", cone_region(150.0, 2.0, "5deg"))
    for publish, *more in ((snapshot.publish_hats,), (snapshot.publish_objects,), (snapshot.publish_bulk,),
                           (snapshot.publish_tar, part)):  # fmt: skip
        with pytest.raises(ScopeError, match="derived from epochs of program 3, which the release does not show"):
            publish(tmp_path / "out", scope, *more)
    snapshot.publish_bulk(tmp_path / "both", ReleaseScope("both", (Window(PUBLIC), Window(PRIVATE))))
    snapshot.publish_tar(tmp_path / "out.tar", replace(scope, private_corrections=True), part)
    with tarfile.open(tmp_path / "out.tar") as tar:
        held = tar.extractfile(next(name for name in tar.getnames() if name.endswith("release.json")))
        manifest = json.loads(held.read())  # type: ignore[union-attr]
    assert manifest["corrections"][0]["programs"] == [PUBLIC, PRIVATE]
    assert manifest["scope"]["private_corrections"] is True
    assert store.verify(deep=True).passed


def test_publish_with_corrections_of_unknown_programs_is_refused(tmp_path: Path) -> None:
    """Sets made by hand, or by versions that did not keep it, do not say whose epochs they are derived from."""
    store = calibrated_survey(tmp_path / "survey", 1, 0)
    corrected.write_set(tmp_path / "set", [UNIT])
    store.correct(tmp_path / "set")
    with pytest.raises(ScopeError, match="derived from epochs of programs that are not known"):
        store.snapshot().publish_bulk(tmp_path / "out", SCOPES["all"])
    others = ReleaseScope("other", (Window(1),), fields=((1, 2),))
    with pytest.raises(ScopeError, match="nothing to publish"):
        store.snapshot().publish_bulk(tmp_path / "out", others)


def test_publish_a_part_whose_dates_leave_out_a_program_has_the_corrections_of_its_release(tmp_path: Path) -> None:
    store = calibrated_survey(tmp_path / "survey", 1, 6)
    store.calibrate(CalibrateInputs(tmp_path / "survey" / "ps1.parquet", tmp_path / "set"), ENOUGH)
    store.correct(tmp_path / "set")
    scope = ReleaseScope("both", (Window(PUBLIC), Window(PRIVATE, 58520.0)))
    part = Part("early", cone_region(150.0, 2.0, "5deg"), until=58519.0)
    assert store.snapshot().publish_tar(tmp_path / "out.tar", scope, part).epochs > 300


def test_epoch_without_a_magnitude_or_a_program_is_in_no_release(tmp_path: Path) -> None:
    ra, dec = np.array([150.0, 150.01]), np.array([2.0, 2.0])
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows_at(ra, dec))])
    append(storage, [epochal_file(tmp_path, rows_at(ra, dec, flux=[100.0, -5.0]), 0)])
    append(storage, [epochal_file(tmp_path, rows_at(ra, dec), 1, PROGRMID=None)])
    snapshot = ztfmatch.open_store(tmp_path / "store").snapshot()
    report = snapshot.publish_bulk(tmp_path / "bulk", SCOPES["all"])
    assert (report.objects, report.epochs) == (1, 1)
    snapshot.publish_objects(tmp_path / "objects", SCOPES["all"])
    rows = nested(tmp_path / "objects").sort_by("oid").select(["nobs", "nobsrel", "ngoodobs", "medianmag"]).to_pylist()
    assert [(row["nobs"], row["nobsrel"]) for row in rows] == [(2, 1), (2, 0)]
    assert rows[1]["medianmag"] is None


def test_publish_tar_with_a_label_that_no_file_can_have_is_refused(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    part = Part("K2/c 9", cone_region(0.0, 0.0, "180deg"))
    with pytest.raises(ConfigError, match="label is 'K2/c 9'; expected a label such as 'dr2'"):
        snapshot.publish_tar(tmp_path / "out.tar", SCOPE, part)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("product", ["hats", "objects", "bulk", "tar"])
def test_publish_again_gives_the_same_bytes_by_workers_too(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, product: str
) -> None:
    part = Part("all", cone_region(0.0, 0.0, "180deg"))
    for name, workers in (("once", 0), ("again", 2 if product == "hats" else 0)):
        place, resources = tmp_path / name, ztfmatch.Resources(workers)
        place.mkdir()
        if product == "hats":
            snapshot.publish_hats(place / "out", SCOPE, SMALL, resources=resources)
        elif product == "objects":
            snapshot.publish_objects(place / "out", SCOPE, SMALL, resources=resources)
        elif product == "bulk":
            snapshot.publish_bulk(place / "out", SCOPE, resources=resources)
        else:
            snapshot.publish_tar(place / "out.tar", SCOPE, part, resources=resources)
        assert hidden(place) == []
    assert digests(tmp_path / "once") == digests(tmp_path / "again")


def test_manifest_names_snapshot_scope_version_and_every_file(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    report = snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL)
    manifest = json.loads((tmp_path / "hats" / "release.json").read_text())
    assert manifest["snapshot"]["number"] == snapshot.number == 3
    assert manifest["snapshot"]["operation_id"] == snapshot.files.commit.operation_id
    assert (manifest["release"], manifest["ztfmatch"]) == ("dr2", ztfmatch.__version__)
    assert manifest["scope"] == SCOPE.to_json()
    assert manifest["counts"]["epochs"] == report.epochs
    files = digests(tmp_path / "hats")
    assert manifest["checksums"]["sha256"] == files.pop("sha256sums.txt")
    del files["release.json"]
    listed = dict(line.split("  ")[::-1] for line in (tmp_path / "hats" / "sha256sums.txt").read_text().splitlines())
    assert listed == files
    assert len(files) == manifest["files"] == report.files - 2
    text = "".join(p.read_text() for p in (tmp_path / "hats").rglob("*") if p.suffix in (".json", ".properties"))
    assert str(tmp_path) not in text


def test_publish_an_older_snapshot_shows_that_one(store: ztfmatch.Store, tmp_path: Path) -> None:
    older = store.snapshot(1)
    older.publish_bulk(tmp_path / "bulk", SCOPE)
    assert_epochs(flat(bulk_rows(tmp_path / "bulk")), expected(older, SCOPE).epochs)


def test_publish_after_a_rematch_shows_the_new_objects_alone(store: ztfmatch.Store, tmp_path: Path) -> None:
    sky = Path(shutil.copytree(Path(store.path).parent / "sky", tmp_path / "sky"))
    regenerate_references(sky, CONFIG)
    copy = ztfmatch.open_store(shutil.copytree(store.path, tmp_path / "store"))
    one = next((sky / "references_1").rglob("*zg*c05*.fits"))
    copy.rematch(str(one))
    truth = expected(copy.snapshot(), SCOPE)
    generations = set(truth.objects.generation)
    assert generations == {0, 1}
    copy.snapshot().publish_hats(tmp_path / "hats", SCOPE, SMALL)
    assert_epochs(flat(nested(tmp_path / "hats"), "lightcurve"), truth.epochs)
    copy.snapshot().publish_bulk(tmp_path / "bulk", SCOPE)
    assert_epochs(flat(bulk_rows(tmp_path / "bulk")), truth.epochs)
    copy.snapshot().publish_objects(tmp_path / "objects", SCOPE, SMALL)
    assert sorted(nested(tmp_path / "objects")["oid"].to_pylist()) == truth.objects.objectid.tolist()


def test_publish_from_an_object_store_is_the_same(s3_bucket: str, tmp_path: Path) -> None:
    ra, dec = np.array([150.0, 150.01, 150.02]), np.array([2.0, 2.0, 2.01])
    reference = reference_file(tmp_path, rows_at(ra, dec))
    catalogs = [epochal_file(tmp_path, rows_at(ra, dec), night) for night in range(3)]
    for place in (f"{s3_bucket}/store", tmp_path / "store"):
        append(make_store(place, [reference]), catalogs)  # type: ignore[arg-type]
        snapshot = ztfmatch.open_store(place).snapshot()
        assert snapshot.publish_bulk(tmp_path / f"bulk-{place}"[-10:].replace("/", "-"), SCOPES["all"]).epochs == 9
    first, second = (bulk_rows(path) for path in sorted(tmp_path.iterdir()) if path.is_dir() and path.name != "store")
    assert first.equals(second)
    assert first.num_rows == 3


def test_publish_resumes_what_a_failure_left(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot.publish_hats(tmp_path / "whole", SCOPE, SMALL)
    original, done = hats.write_partitions, []

    def failing(task: hats.WriteTask) -> hats.PartitionsWritten:
        done.append(task.key)
        if len(done) == 3:
            raise OSError(28, "No space left on device")
        return original(task)

    monkeypatch.setattr(hats, "write_partitions", failing)
    resources = ztfmatch.Resources(retries=0)
    with pytest.raises(JobFailedError, match=r"1 of .* tasks failed .*No space left on device"):
        snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL, resources=resources)
    assert not (tmp_path / "hats").exists()
    assert len(hidden(tmp_path)) == 1
    failed, tasks = done[2], len(done)
    snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL, resources=resources)
    assert done[tasks:] == [failed]
    assert hidden(tmp_path) == []
    assert digests(tmp_path / "hats") == digests(tmp_path / "whole")


_KILLED = """
import os, signal, sys
from pathlib import Path
import ztfmatch
store, out, product, scope, steps = sys.argv[1:]
left = [int(steps)]
replace = Path.replace
def counted(self, target):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return replace(self, target)
Path.replace = counted
getattr(ztfmatch.open_store(store).snapshot(), "publish_" + product)(out, ztfmatch.read_scope(scope))
print(int(steps) - left[0])
"""
"""Publishes, and is killed when so many files have got their names; prints how many there were."""


@pytest.mark.parametrize("product", ["hats", pytest.param("bulk", marks=pytest.mark.slow)])
def test_publish_killed_leaves_nothing_visible_and_the_same_command_finishes(tmp_path: Path, product: str) -> None:
    store = private_survey(tmp_path / "survey", 1, 1).files.storage.root
    (tmp_path / "scope.toml").write_text('release = "x"\n[[programs]]\nid = 1\n')

    def run(out: Path, steps: int) -> subprocess.CompletedProcess[str]:
        words = [store, str(out), product, str(tmp_path / "scope.toml"), str(steps)]
        return subprocess.run([sys.executable, "-c", _KILLED, *words], capture_output=True, text=True, check=False)

    steps = int(run(tmp_path / "whole", 10**6).stdout)
    assert steps > 5
    for killed_at in (1, steps // 2, steps - 1):
        place = tmp_path / f"killed{killed_at}"
        place.mkdir()
        assert run(place / "out", killed_at).returncode == -signal.SIGKILL
        assert not (place / "out").exists()
        done = run(place / "out", 10**6)
        assert int(done.stdout) <= steps
        assert hidden(place) == []
        assert digests(place / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"half", b""])
@pytest.mark.parametrize("kind", ["ztf_dr2_lc-hats/*.parquet", "staging/index/*", "staging/margins/*/*", "*.json"])
def test_publish_resumed_with_damaged_files_writes_them_again(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, content: bytes
) -> None:
    """As a power cut leaves them."""
    snapshot.publish_hats(tmp_path / "whole", SCOPE, SMALL)
    monkeypatch.setattr(hats, "write_margin", None)
    with pytest.raises(JobFailedError, match=r"margins: \d+ of \d+ tasks failed"):
        snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL)
    partial = tmp_path / hidden(tmp_path)[0]
    damaged = [path for path in partial.rglob("*") if path.is_file() and fnmatch(str(path.relative_to(partial)), kind)]
    for path in damaged:
        path.write_bytes(content)
    assert damaged
    monkeypatch.undo()
    snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL)
    assert digests(tmp_path / "hats") == digests(tmp_path / "whole")


def test_partitions_that_do_not_fit_into_memory_are_the_same(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, partition_rows=100)
    snapshot.publish_hats(tmp_path / "memory", SCOPE, config)
    spilled = []

    def tight(targets: object, spill: object) -> object:
        made = original(targets, spill, 1)  # type: ignore[arg-type]
        spilled.append(made)
        return made

    original = hats.Partitioner
    monkeypatch.setattr(hats, "Partitioner", tight)
    snapshot.publish_hats(tmp_path / "spilled", SCOPE, config)
    assert any(made._spills for made in spilled)
    assert digests(tmp_path / "spilled") == digests(tmp_path / "memory")


def test_publish_hats_default_rounds_magerr_and_nothing_else(
    snapshot: ztfmatch.Snapshot, truth: Expected, tmp_path: Path
) -> None:
    snapshot.publish_hats(tmp_path / "hats", SCOPE)
    got = flat(nested(tmp_path / "hats"), "lightcurve")
    exact = truth.epochs.magerr.to_numpy()
    assert np.abs(got["magerr"].to_numpy() / exact - 1.0).max() <= 2.0**-10
    assert (got["magerr"].to_numpy() != exact).any()
    assert_epochs(got.set_column(3, "magerr", pa.array(exact)), truth.epochs)


def test_publish_hats_columns_have_units_and_descriptions(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    snapshot.publish_hats(tmp_path / "hats", SCOPE, SMALL)
    for path in (primary(tmp_path / "hats")[0], next((tmp_path / "hats").glob("*-hats/dataset/_common_metadata"))):
        schema = pq.read_schema(path)
        assert schema.equals(RELEASED_LIGHTCURVES.schema)
        assert schema.names[0] == "_healpix_29"
        for column in RELEASED_LIGHTCURVES.columns:
            assert schema.field(column.name).metadata[b"description"].decode() == column.description
            assert schema.field(column.name).metadata[b"unit"].decode() == column.unit
        hmjd = schema.field("lightcurve").type.field("hmjd")
        assert (hmjd.type, hmjd.metadata[b"unit"]) == (pa.list_(pa.float64()), b"day")
        assert all(field.metadata[b"description"] for field in schema.field("lightcurve").type)


# Tar files


def tar_rows(path: Path, place: Path) -> tuple[list[str], pa.Table]:
    with tarfile.open(path) as tar:
        names = tar.getnames()
        tar.extractall(place, filter="data")
    return names, bulk_rows(place)


def test_publish_tar_has_the_region_and_dates_with_readme_and_checksums(
    snapshot: ztfmatch.Snapshot, truth: Expected, tmp_path: Path
) -> None:
    centre = truth.objects[["ra", "dec"]].iloc[100]
    region = cone_region(centre.ra, centre.dec, "0.2deg")
    report = snapshot.publish_tar(tmp_path / "part.tar", SCOPE, Part("part", region, until=MIDDLE))
    names, rows = tar_rows(tmp_path / "part.tar", tmp_path / "out")
    inside = truth.objects[region.contains(truth.objects.ra.to_numpy(), truth.objects.dec.to_numpy())]
    epochs = truth.epochs[truth.epochs.objectid.isin(inside.objectid) & (truth.epochs.obsmjd < MIDDLE)]
    assert 0 < len(epochs) == report.epochs
    assert_epochs(flat(rows), epochs)
    root = "lc_dr2_part"
    assert names[:3] == [f"{root}/{name}" for name in ("README.txt", "release.json", "checksum.md5")]
    assert names[3:] == sorted(names[3:])
    assert f"until 2018-08-10 00:00 UTC (MJD {MIDDLE:.4f})" in (tmp_path / "out" / root / "README.txt").read_text()
    subprocess.run(["md5sum", "--quiet", "-c", "checksum.md5"], cwd=tmp_path / "out" / root, check=True)
    assert hidden(tmp_path) == []
    assert report.sha256 == digests(tmp_path)["part.tar"]


def test_publish_tar_of_a_moc_equals_that_of_its_region(
    snapshot: ztfmatch.Snapshot, truth: Expected, tmp_path: Path
) -> None:
    mocpy = pytest.importorskip("mocpy")
    from astropy import units as u

    centre = truth.objects[["ra", "dec"]].iloc[100]
    moc = mocpy.MOC.from_cone(centre.ra * u.deg, centre.dec * u.deg, radius=0.15 * u.deg, max_depth=12)
    inside = moc.contains_lonlat(truth.objects.ra.to_numpy() * u.deg, truth.objects.dec.to_numpy() * u.deg)
    expected_ids = set(truth.objects.objectid[inside]) & set(truth.epochs.objectid)
    for suffix, form in ((".fits", "fits"), (".json", "json"), (".txt", "ascii")):
        moc.save(str(tmp_path / f"moc{suffix}"), format=form)
        snapshot.publish_tar(tmp_path / f"{form}.tar", SCOPE, Part("moc", moc_region(tmp_path / f"moc{suffix}")))
        _, rows = tar_rows(tmp_path / f"{form}.tar", tmp_path / form)
        assert set(rows["objectid"].to_pylist()) == expected_ids
    assert len(expected_ids) > 50


@pytest.mark.parametrize("sector", [5, 14])
def test_tess_sector_footprint_equals_tess_points_own_answer(sector: int) -> None:
    stars2px = pytest.importorskip("tess_stars2px")
    rng = np.random.default_rng(sector)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    region = sector_region(sector)
    found = stars2px.tess_stars2px_function_entry(np.arange(500), ra, dec, trySector=sector)
    seen = np.isin(np.arange(500), found[0])
    assert seen.sum() > 15
    np.testing.assert_array_equal(region.contains(ra, dec), seen)


IMAGES = {
    1: ("2018-07-25 19:00:27", "2018-08-22 16:14:51"),
    2: ("2018-08-23 14:24:19", "2018-09-20 00:19:52"),
    5: ("2018-11-15 07:47:48", "2018-12-11 21:35:39"),
    22: ("2020-02-19 19:11:21", "2020-03-17 23:47:20"),
    31: ("2020-10-22 00:11:12", "2020-11-16 10:37:11"),
    34: ("2021-01-14 05:51:09", "2021-02-08 13:31:08"),
}
"""First and last full frame image of sectors."""


@pytest.mark.parametrize("sector", IMAGES)
def test_sector_dates_have_all_images_of_a_sector(sector: int) -> None:
    time = pytest.importorskip("astropy.time")
    since, until = sector_dates(sector)
    first, last = (time.Time(moment).mjd for moment in IMAGES[sector])
    assert since <= first < since + 2.0
    assert until - 4.0 < last <= until


@pytest.mark.parametrize(
    ("sector", "since", "until"),
    [(97, "2025-09-15", "2025-11-10"), (98, "2025-11-09", "2026-01-06"), (1751, "2026-01-15", "2026-01-23")],
)
def test_sector_dates_of_a_sector_of_another_length_are_its_own(sector: int, since: str, until: str) -> None:
    time = pytest.importorskip("astropy.time")
    assert sector_dates(sector) == (time.Time(since).mjd, time.Time(until).mjd)


def test_sector_dates_have_the_middle_that_tess_point_knows_and_leave_no_gap() -> None:
    known = pytest.importorskip("tess_stars2px").TESS_Spacecraft_Pointing_Data
    middles = {int(n): jd - 2_400_000.5 for n, jd in zip(known.sectors, known.midtimes, strict=True)}
    dates = {n: sector_dates(n) for n in middles}
    assert all(dates[n][0] + 2.0 < middles[n] < dates[n][1] - 2.0 for n in middles)
    assert all(dates[n][1] - dates[n + 1][0] == 1.0 for n in range(1, 134))  # a day of both


def test_sector_part_takes_what_is_told_and_looks_up_the_rest() -> None:
    region = cone_region(1.0, 2.0, "1deg")
    since, until = sector_dates(14)
    assert sector_part(14, region, None, None) == Part("s0014", region, since=since, until=until)
    assert sector_part(14, region, 0.0, None) == Part("s0014", region, since=0.0, until=until)
    assert sector_part(999, region, 1.0, 2.0) == Part("s0999", region, since=1.0, until=2.0)


# What would be published


@pytest.mark.parametrize(
    "part", [None, Part("x", polygon_region([247.0, 32.0, 248.0, 32.0, 247.5, 33.5]), until=MIDDLE)]
)
def test_preview_counts_by_program_what_the_release_has(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, part: Part | None
) -> None:
    preview = snapshot.preview_release(tmp_path / "out", SCOPE, part)
    assert list(tmp_path.iterdir()) == []
    truth = expected(snapshot, SCOPE if part is None else SCOPE.within(part.since, part.until))
    epochs, objects = truth.epochs, truth.objects
    if part is not None:
        objects = objects[part.region.contains(objects.ra.to_numpy(), objects.dec.to_numpy())]
        epochs = epochs[epochs.objectid.isin(objects.objectid)]
        assert 10 < len(objects) < len(truth.objects)
    counted = {row.program: (row.name, row.objects, row.epochs) for row in preview.programs}
    assert counted == {
        number: (name, epochs[epochs.programid == number].objectid.nunique(), (epochs.programid == number).sum())
        for number, name in ((1, "public"), (2, "partnership"))
    }
    assert (preview.objects, preview.epochs) == (epochs.objectid.nunique(), len(epochs))
    assert (preview.active, preview.snapshot_epochs) == (len(objects), snapshot.status.detections)


def test_preview_of_every_product_has_its_counts(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    preview = snapshot.preview_release(tmp_path / "out", SCOPE)
    hats, bulk = snapshot.publish_hats(tmp_path / "hats", SCOPE), snapshot.publish_bulk(tmp_path / "bulk", SCOPE)
    assert (hats.objects, hats.epochs) == (bulk.objects, bulk.epochs) == (preview.objects, preview.epochs)
    assert snapshot.publish_objects(tmp_path / "objects", SCOPE).objects == preview.active
    part = Part("x", polygon_region([247.0, 32.0, 248.0, 32.0, 247.5, 33.5]))
    tar = snapshot.publish_tar(tmp_path / "x.tar", SCOPE, part)
    some = snapshot.preview_release(tmp_path / "out", SCOPE, part)
    assert (tar.objects, tar.epochs) == (some.objects, some.epochs)
    assert 0 < some.epochs < preview.epochs


def test_preview_of_what_cannot_be_published_is_refused_alike(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="exists already"):
        snapshot.preview_release(tmp_path, SCOPE)
    with pytest.raises(ScopeError, match="no exposure of snapshot"):
        snapshot.preview_release(tmp_path / "out", ReleaseScope("late", (Window(1, 70000.0),)))
    elsewhere = Part("x", cone_region(10.0, -60.0, "1deg"))
    with pytest.raises(ScopeError, match=r"no epoch of snapshot .* and in 1 degrees around RA 10, Dec -60: nothing to"):
        snapshot.preview_release(tmp_path / "out", SCOPE, elsewhere)
    assert list(tmp_path.iterdir()) == []


# What cannot be published


def test_publish_empty_scope_is_told_before_anything_is_written(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    late = ReleaseScope("late", (Window(1, 70000.0),))
    for call in (snapshot.publish_hats, snapshot.publish_bulk, snapshot.publish_objects):
        with pytest.raises(ScopeError, match="no exposure of snapshot 3 is in the scope of release 'late'"):
            call(tmp_path / "out", late)
    with pytest.raises(ScopeError, match="no exposure of snapshot 3"):
        snapshot.publish_tar(tmp_path / "out", late, Part("x", cone_region(0, 0, "1deg")))
    assert list(tmp_path.iterdir()) == []


def test_publish_tar_without_epochs_leaves_nothing(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="release 'dr2_x' and in 1 degrees around RA 10"):
        snapshot.publish_tar(tmp_path / "out.tar", SCOPE, Part("x", cone_region(10.0, -60.0, "1deg")))
    assert list(tmp_path.iterdir()) == []


def test_publish_no_epoch_passes_the_cuts_leaves_nothing(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    strict = replace(SCOPE, quality=Quality(max_magerr=1e-9))
    with pytest.raises(ScopeError, match="no epoch of snapshot 3 is in the scope of release 'dr2'"):
        snapshot.publish_hats(tmp_path / "out", strict)
    with pytest.raises(ScopeError, match="no epoch of snapshot 3 is in the scope of release 'dr2'"):
        snapshot.publish_bulk(tmp_path / "out", strict)
    assert list(tmp_path.iterdir()) == []


def test_publish_target_that_exists_is_left_alone(snapshot: ztfmatch.Snapshot, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "file", "link"):
        with pytest.raises(OutputExistsError, match=f"{name} exists already: give a place where nothing is"):
            snapshot.publish_hats(tmp_path / name, SCOPE)
    assert (tmp_path / "file").read_text() == "mine"
    assert hidden(tmp_path) == []
    with pytest.raises(ConfigError, match=r"the directory .*missing does not exist: make it first"):
        snapshot.publish_bulk(tmp_path / "missing" / "out", SCOPE)


def test_publish_target_that_appears_meanwhile_is_left_alone(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "bulk"

    def appearing(task: bulk.BulkTask) -> bulk.UnitWritten:
        place.mkdir(exist_ok=True)
        return original(task)

    from ztfmatch.release import bulk as product

    original = product.write_unit
    monkeypatch.setattr(product, "write_unit", appearing)
    with pytest.raises(OutputExistsError, match="bulk exists already"):
        snapshot.publish_bulk(place, SCOPE)
    assert list(place.iterdir()) == []


def test_publish_snapshot_that_was_vacuumed_is_told(store: ztfmatch.Store, tmp_path: Path) -> None:
    copy = ztfmatch.open_store(shutil.copytree(store.path, tmp_path / "store"))
    old = copy.snapshot(2)
    copy.compact(CompactConfig(2, full=True))
    copy.vacuum(keep=1, grace_hours=0.0)
    with pytest.raises(SnapshotNotFoundError, match="snapshot 2 was removed by a vacuum; the oldest is 4"):
        copy.snapshot(2)
    with pytest.raises(SnapshotNotFoundError, match="snapshot 2 was removed by a vacuum; the oldest is 4"):
        old.publish_hats(tmp_path / "hats", SCOPE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_publish_more_memory_than_a_worker_has_is_told_before_the_start(
    snapshot: ztfmatch.Snapshot, tmp_path: Path
) -> None:
    with pytest.raises(MemoryBudgetError, match=r"would need .* MiB of memory; .* raise --memory"):
        publish_bulk(snapshot.files, SCOPE, tmp_path / "bulk", Runner(LoopExecutor(), 1 << 20))
    assert not (tmp_path / "bulk").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (HatsConfig(partition_bytes=0), "partition_bytes is 0; expected 1 to 32000000000"),
        (HatsConfig(partition_rows=0), "partition_rows is 0; expected at least 1"),
        (HatsConfig(min_order=13), "min_order is 13; expected 0 to 12"),
        (HatsConfig(magerr_bits=25), "magerr_bits is 25; expected 1 to 24"),
    ],
)
def test_hats_config_out_of_range_is_refused(
    snapshot: ztfmatch.Snapshot, tmp_path: Path, config: HatsConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        snapshot.publish_hats(tmp_path / "out", SCOPE, config)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: cone_region(400.0, 0.0, "1deg"), "right ascension 400.0 is outside"),
        (lambda _: cone_region(0.0, 91.0, "1deg"), "declination 91.0 is outside"),
        (lambda _: cone_region(0.0, 0.0, "0deg"), "radius 0.0 deg is outside"),
        (lambda _: polygon_region([1.0, 2.0, 3.0]), "a polygon of 3 numbers; expected pairs"),
        (lambda _: polygon_region([1.0, 2.0, 3.0, 4.0]), "a polygon of 4 numbers; expected pairs of RA and Dec"),
        (lambda place: moc_region(place / "none.fits"), "none.fits: cannot be read"),
        (lambda place: moc_region(place / "bad.fits"), "bad.fits is not a MOC"),
        (lambda place: moc_region(place / "bad.json"), "bad.json is not a MOC"),
        (lambda place: moc_region(place / "empty.json"), "empty.json is an empty MOC"),
        (lambda _: sector_region(9999), "no sector 9999; tess-point knows 1 to"),
        (lambda _: sector_dates(999), "no dates of sector 999; known are 1 to 134, 1751: give --since and --until"),
    ],
)
def test_region_that_is_none_is_one_line(tmp_path: Path, make: object, message: str) -> None:
    pytest.importorskip("tess_stars2px")
    (tmp_path / "bad.fits").write_bytes(b"SIMPLE  = nothing")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace(")", r"\)")):
        make(tmp_path)  # type: ignore[operator]


def test_region_description_is_all_that_its_digest_needs() -> None:
    region = cone_region(-10.0, 5.0, "2deg")
    assert region.to_json() == [{"shape": "cap", "ra": 350.0, "dec": 5.0, "radius_deg": 2.0}]
    assert isinstance(region, Region)
    assert region.name == "2 degrees around RA -10, Dec 5"
