"""Append end to end, against a whole-sky brute-force match of the same files."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.utils import iers
from helpers import (
    ARCSEC,
    UNIT,
    append,
    assert_same,
    brute_force,
    epochal_file,
    fate_in,
    make_store,
    reference_file,
    rows_at,
    runner,
    sky_content,
    table,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ztfmatch.core.config import AppendConfig, StoreConfig
from ztfmatch.core.errors import BadInputError, CommitConflictError, JobFailedError
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.snapshot import before_first, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import whole_sky
from ztfmatch.core.operations import matchplan
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.matchplan import match_tasks
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.runner import Job, LoopExecutor, Outcome, Runner
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.matchplan import read_part
from ztfmatch.core.tasks.results import Matched
from ztfmatch.simulate import SimulationConfig, simulate
from ztfmatch.simulate.fitsout import ROW

OTHER = Unit(1550, 63, 1)
EXTENT = 90.0
"""Of a scene, in arcsec from its middle: it reaches some ten tiles of the highest order."""
POLAR_CAP = math.degrees(math.asin(2.0 / 3.0))
PLACES = {
    "north pole": (123.0, 90.0),
    "south pole": (321.0, -90.0),
    "RA 0": (0.0, 12.3),
    "three base pixels": (0.0, POLAR_CAP),
    "four base pixels": (45.0, 0.0),
    "base pixel border": (90.0, 66.4),
    "four groups": (59.0625, 38.68218745),
    "plain": (150.1, 30.2),
}


def around(place: tuple[float, float], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec at offsets in arcsec in the plane tangent at a place."""
    lon, lat = np.radians(place)
    centre = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.cross(centre, east)
    xyz = centre + np.radians(x / 3600.0)[:, None] * east + np.radians(y / 3600.0)[:, None] * north
    ra = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360.0
    return ra, np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))


def seed_offsets(rng: np.random.Generator, extent: float) -> tuple[np.ndarray, np.ndarray]:
    """Seeds 2 arcsec apart about the place itself, where tiles meet, and scattered ones around."""
    steps = np.arange(-6, 6) * 2.0 + 0.31
    dense_x, dense_y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    x, y = rng.uniform(-extent, extent, (2, 100))
    return np.concatenate([dense_x, x]), np.concatenate([dense_y, y])


@dataclass(frozen=True)
class Scene:
    references: list[Path]
    catalogs: list[Path]


def write_scene(directory: Path, place: tuple[float, float], catalogs: int = 2, shuffle: int | None = None) -> Scene:
    """Two units over the same sky with unlike seeds; the same scene whatever the order of rows in its files."""
    references, epochal = [], []
    mix = np.random.default_rng(shuffle)

    def ordered(rows: np.ndarray) -> np.ndarray:
        return rows if shuffle is None else rows[mix.permutation(len(rows))]

    for unit in (UNIT, OTHER):
        rng = np.random.default_rng(unit.field)
        x, y = seed_offsets(rng, EXTENT)
        references.append(reference_file(directory, ordered(rows_at(*around(place, x, y))), unit))
        for night in range(catalogs):
            seen = rng.random(len(x)) < 0.8
            jitter = rng.normal(0.0, 0.6, (2, seen.sum()))
            blend = rng.integers(0, len(x), 80)
            stray = rng.uniform(-EXTENT, EXTENT, (2, 40))
            near = rng.uniform(-1.2, 1.2, (2, 80))
            at_x = np.concatenate([x[seen] + jitter[0], x[blend] + near[0], stray[0]])
            at_y = np.concatenate([y[seen] + jitter[1], y[blend] + near[1], stray[1]])
            rows = rows_at(*around(place, at_x, at_y))
            rows["flags"] = rng.choice([0, 2, 2048, 2050, 4, -1], len(rows))
            rows["ra"][::97] = [np.nan, np.inf, 720.5, -360.5, 5.0, np.nan, 1e9, 7.0][: len(rows[::97])]
            epochal.append(epochal_file(directory, ordered(rows), 14 * (unit is OTHER) + night, unit))
    return Scene(references, epochal)


def assert_conserved(storage: Storage) -> None:
    ledger = table(storage, "exposures")
    counts = [ledger[name].to_numpy() for name in ("nrows", "nmatched", "norphans", "nrejected")]
    np.testing.assert_array_equal(counts[0], counts[1] + counts[2] + counts[3])
    np.testing.assert_array_equal(
        ledger["nrejected"].to_numpy(), ledger["nrejectednan"].to_numpy() + ledger["nrejectedrange"].to_numpy()
    )
    for name, column in (("detections", "nmatched"), ("orphans", "norphans")):
        ids, n = np.unique(table(storage, name)["exposureid"].to_numpy(), return_counts=True)
        expected = dict(zip(ledger["exposureid"].to_pylist(), ledger[column].to_pylist(), strict=True))
        assert dict(zip(ids.tolist(), n.tolist(), strict=True)) == {k: v for k, v in expected.items() if v}


def assert_files_sorted(storage: Storage) -> None:
    """Within each file detections are sorted by objectid, hmjd, exposureid."""
    from ztfmatch.core.io.parquet import read_file_rows

    for file in open_snapshot(storage).of_table("detections"):
        rows = read_file_rows(storage, file, ["objectid", "hmjd", "exposureid"]).to_pylist()
        keys = [tuple(row.values()) for row in rows]
        assert keys == sorted(keys)
        assert (file.min_id, file.max_id) == (keys[0][0], keys[-1][0])


# Exactness


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_append_anywhere_equals_brute_force_whatever_the_tiling_and_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[float, float]
) -> None:
    """Tiles alone, tiles of a group whose borders cross the scene, and groups whose borders do."""
    scene = write_scene(tmp_path, place)
    fate = brute_force(scene.references, scene.catalogs)
    assert len({reason for reason, _ in fate.orphans.values()}) == 2
    contents = []
    for name, settings_, rows_per_task, group_order in (
        ("one", {}, 10**6, 4),
        ("many", {"seeds_per_tile": 12}, 10**6, 4),
        ("coarse", {"seeds_per_tile": 60, "max_order": 4}, 200, 4),
        ("small groups", {"seeds_per_tile": 12}, 200, 7),
        ("one catalog a task", {"seeds_per_tile": 12}, 1, 4),
    ):
        monkeypatch.setattr("ztfmatch.core.kernels.coverage.MAX_GROUP_ORDER", group_order)
        storage = make_store(tmp_path / name, scene.references, **settings_)
        report = append(storage, scene.catalogs, rows_per_task=rows_per_task)
        assert fate_in(storage) == fate
        assert (report.matched, report.orphans) == (len(fate.matched), len(fate.orphans))
        assert_conserved(storage)
        assert_files_sorted(storage)
        contents.append(sky_content(storage))
    assert len(open_snapshot(Storage.at(tmp_path / "many")).tiles_with("detections")) > 4
    for content in contents[1:]:
        assert_same(contents[0], content)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return write_scene(tmp_path_factory.mktemp("scene"), PLACES["three base pixels"])


@pytest.fixture(scope="module")
def expected(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = make_store(tmp_path_factory.mktemp("expected") / "s", scene.references)
    append(storage, scene.catalogs)
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs)
    return sky_content(storage)


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(
    seeds_per_tile=st.sampled_from([1, 10, 100, 10**6]),
    rows_per_task=st.sampled_from([1, 300, 600, 10**6]),
    order=st.permutations(range(4)),
    cuts=st.sets(st.integers(1, 3)),
)
def test_append_any_history_gives_the_same_store(
    scene: Scene,
    expected: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    seeds_per_tile,
    rows_per_task,
    order,
    cuts,  # type: ignore[no-untyped-def]
) -> None:
    storage = make_store(tmp_path_factory.mktemp("history") / "s", scene.references, seeds_per_tile=seeds_per_tile)
    edges = [0, *sorted(cuts), 4]
    for low, high in itertools.pairwise(edges):
        append(storage, [scene.catalogs[i] for i in order[low:high]], rows_per_task=rows_per_task)
    assert commit_numbers(storage) == list(range(len(edges)))
    assert_same(sky_content(storage), expected)
    shutil.rmtree(storage.root)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_append_night_after_night_gives_the_statistics_of_one_build(
    scene: Scene, tmp_path: Path, order: tuple[int, ...]
) -> None:
    nights, at_once = (make_store(tmp_path / name, scene.references) for name in ("nights", "at_once"))
    for i in order:
        append(nights, [scene.catalogs[i]])
    append(at_once, scene.catalogs)
    for storage in (nights, at_once):
        update_statistics(storage, runner())
    found, expected = (
        open_snapshot(storage).read("statistics").sort_by("objectid").drop_columns(["snapshot"])
        for storage in (nights, at_once)
    )
    assert found.num_rows > 100
    assert found.schema == expected.schema
    for name in found.column_names:  # bit for bit: of floats, too
        one, other = (table[name].combine_chunks() for table in (found, expected))
        assert one.is_null().equals(other.is_null())
        assert one.fill_null(0).to_numpy().tobytes() == other.fill_null(0).to_numpy().tobytes(), name


def test_append_reads_and_rewrites_no_stored_detection(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make_store(tmp_path / "s", scene.references)
    append(storage, scene.catalogs[:2])
    stored = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "s" / "data").rglob("*.parq*")}
    read: list[str] = []
    for name in ("read", "read_range"):
        original = getattr(Storage, name)

        def noted(self: Storage, path: str, *rest: int, _do: Any = original) -> Any:
            read.append(path)
            return _do(self, path, *rest)

        monkeypatch.setattr(Storage, name, noted)
    append(storage, scene.catalogs)
    assert any(path.startswith("data/objects/") for path in read)
    assert not [path for path in read if path.startswith(("data/detections/", "data/orphans/"))]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in stored} == stored


@pytest.mark.parametrize("shuffle", [1, 2])
def test_append_order_of_rows_in_files_changes_nothing(expected: dict[str, Any], tmp_path: Path, shuffle: int) -> None:
    scene = write_scene(tmp_path, PLACES["three base pixels"], shuffle=shuffle)
    storage = make_store(tmp_path / "s", scene.references, seeds_per_tile=20)
    append(storage, scene.catalogs)
    got = sky_content(storage)
    of_files = ["sha256", "ra", "dec", "radius"]
    for content in (got, expected := dict(expected)):
        content["exposures"] = content["exposures"].drop_columns(of_files)
    assert got["exposures"]["digest"].to_pylist() == expected["exposures"]["digest"].to_pylist()
    assert_same(got, expected)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_append_lone_detection_beside_a_corner_finds_its_seed_in_the_next_tile(
    tmp_path: Path, place: tuple[float, float]
) -> None:
    """Footprints of a single point, on all sides of a corner of tiles, each with its only seed across it."""
    turns = np.radians(np.arange(8) * 45.0 + 11.0)
    catalogs = []
    x, y = -0.6 * np.cos(turns), -0.6 * np.sin(turns)
    references = [reference_file(tmp_path, rows_at(*around(place, 60.0 * np.cos(turns), 60.0 * np.sin(turns))))]
    for i in range(8):
        unit = Unit(700 + i, 5, 1)
        seeds = rows_at(*around(place, x[i : i + 1], y[i : i + 1]))
        references.append(reference_file(tmp_path, seeds, unit))
        point = around(place, -1.3 * x[i : i + 1], -1.3 * y[i : i + 1])
        catalogs.append(epochal_file(tmp_path, rows_at(*point), i, unit))
    for name, settings_ in {"one": {}, "many": {"seeds_per_tile": 1}}.items():
        storage = make_store(tmp_path / name, references, **settings_)
        assert append(storage, catalogs).matched == 8
        assert fate_in(storage) == brute_force(references, catalogs)


@pytest.mark.parametrize(("away", "reason"), [(1.4999, None), (1.5001, "no_seed")])
def test_append_radius_literals(tmp_path: Path, away: float, reason: str | None) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at(10.0, 20.0))])
    append(storage, [epochal_file(tmp_path, rows_at(10.0, 20.0 + away * ARCSEC))])
    assert table(storage, "orphans")["reason"].to_pylist() == ([reason] if reason else [])


def test_append_radius_of_the_store_is_the_one_used(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["plain"], 1)
    storage = make_store(tmp_path / "s", scene.references, radius_arcsec=0.7, seeds_per_tile=30)
    append(storage, scene.catalogs)
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs, 0.7)


def test_append_same_place_twice_lower_sourceid_wins_and_the_loser_names_the_object(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at(10.0, 20.0, sourceid=77))])
    append(storage, [epochal_file(tmp_path, rows_at([10.0, 10.0], [20.0, 20.0], sourceid=[9, 4]))])
    objectid = 500 * 10**12 + 2 * 10**11 + 6 * 10**9 + 1 * 10**8 + 77
    assert table(storage, "detections").select(["objectid", "sourceid"]).to_pylist() == [
        {"objectid": objectid, "sourceid": 4}
    ]
    assert table(storage, "orphans").select(["sourceid", "reason", "nearestid"]).to_pylist() == [
        {"sourceid": 9, "reason": "nearer_detection", "nearestid": objectid}
    ]


# The simulator


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("simulated") / "tiny"
    config = SimulationConfig(
        seed=3, filters=(1,), n_exposures=2, stars_per_quadrant=150, epoch_depth=0.6, spurious_fraction=0.1,
        bad_fraction=0.3, nonpositive_fraction=0.02, truth=False,
    )  # fmt: skip
    simulate(directory, config)
    return directory


@pytest.mark.parametrize(("seeds_per_tile", "rows_per_task"), [(10**6, 10**6), (60, 150)])
def test_append_simulated_survey_equals_brute_force(
    simulated: Path, tmp_path: Path, seeds_per_tile: int, rows_per_task: int
) -> None:
    references = sorted((simulated / "references").rglob("*.fits"))
    catalogs = sorted((simulated / "catalogs").rglob("*.fits"))
    storage = make_store(tmp_path / "s", [simulated / "references"], seeds_per_tile=seeds_per_tile)
    table_of_exposures = simulated / "exposures.csv"
    report = append(storage, [simulated / "catalogs"], exposures=table_of_exposures, rows_per_task=rows_per_task)
    assert (report.catalogs, report.exposures, report.quarantined) == (8, 8, [])
    assert fate_in(storage) == brute_force(references, catalogs)
    assert_conserved(storage)
    ledger = table(storage, "exposures")
    assert all(ledger[name].null_count == 0 for name in ("expid", "exptime", "airmass", "programid", "maglimit"))
    assert set(ledger["quality"].to_pylist()) == {"good", "bad"}
    assert report.matched > report.rows / 2


# What is stored


def by_key(storage: Storage, name: str) -> dict[tuple[int, int], dict[str, Any]]:
    rows = table(storage, name).to_pylist()
    return {(row["exposureid"], row["sourceid"]): row for row in rows}


def test_append_measured_values_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    """Of every column but the position: NaN with their payloads, signed zeros, infinities, denormals."""
    rng = np.random.default_rng(5)
    place = PLACES["plain"]
    x, y = rng.uniform(-60, 60, (2, 200))
    rows = rng.integers(0, 256, 400 * ROW.itemsize, np.uint8).view(ROW)
    rows["sourceid"] = rng.permutation(2**20)[:400]
    rows["ra"], rows["dec"] = around(place, np.concatenate([x, x + 50.0]), np.concatenate([y, y]))
    for name in ("chi", "sharp", "flux", "sigflux", "xpos"):
        bits = np.array([0x80000000, 0, 0x7FC00001, 0x7F800001, 0xFFC12345, 1, 0x7F800000, 0x7FC00000], ">u4")
        rows[name][:8] = bits.view(">f4")
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at(*around(place, x, y)))], seeds_per_tile=50)
    path = epochal_file(tmp_path, rows)
    append(storage, [path])
    stored: dict[int, dict[str, bytes]] = {}
    names = {"psfflux": "flux", "psffluxerr": "sigflux"}
    columns = ["ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp", "flags"]
    for name in ("detections", "orphans"):
        got = table(storage, name)
        values = {column: got[column].to_numpy() for column in columns}
        for i, sourceid in enumerate(got["sourceid"].to_pylist()):
            stored[sourceid] = {c: v[i : i + 1].astype(v.dtype.newbyteorder(">")).tobytes() for c, v in values.items()}
    written = fits.getdata(path, 1)
    assert len(stored) == len(written) == 400
    assert written["sourceid"].tolist() == rows["sourceid"].tolist()
    for i, sourceid in enumerate(written["sourceid"].tolist()):
        for column, bits in stored[sourceid].items():
            assert bits == rows[names.get(column, column)][i : i + 1].tobytes(), (column, rows[i])


def test_append_bytes_kept_test_can_tell_payloads_apart() -> None:
    """The test above would be blind if numpy made one NaN of all."""
    payload = np.array([0x7FC00001], ">u4").view(">f4")
    assert payload.astype("<f4").astype(">f4").tobytes() == payload.tobytes()


def test_append_calibrated_columns_literals(tmp_path: Path) -> None:
    rows = rows_at(
        [10.0] * 4, 20.0 + np.arange(4) / 100.0, flux=[100.0, 1e4, -3.0, 0.0], sigflux=1.0, flags=[0, 2, 4, -1]
    )
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    good, bad = epochal_file(tmp_path, rows, 0, MAGZP=26.25), epochal_file(tmp_path, rows, 1, MAGZP=26.25, NMATCHES=3)
    unknown = epochal_file(tmp_path, rows, 2, MAGZP=26.25, AIRMASS=None)
    append(storage, [good, bad, unknown])
    assert table(storage, "exposures")["quality"].to_pylist() == ["good", "bad", "unknown"]
    got = table(storage, "detections")
    assert got["mag"].to_pylist() == [21.25, 16.25, None, None] * 3
    errors = np.array(got["magerr"].to_pylist()[:2])
    np.testing.assert_allclose(errors, [0.010857, 0.00010857], rtol=1e-6)
    assert got["magerr"].to_pylist()[2:4] == [None, None]
    assert got["catflags"].to_pylist() == [0, 0, 4, 65535, 32768, 32768, 32772, 65535, 0, 0, 4, 65535]
    assert got["flags"].to_pylist() == [0, 2, 4, -1] * 3


def test_append_error_model_of_the_unit_is_used_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "model_zr.dat").write_text("500 6 1 0.02 -5e-4 1.5e-9 -4e-18\n")
    rows = rows_at([10.0, 10.1], [20.0, 20.0], flux=[1000.0, -1.0])
    references = [reference_file(tmp_path, rows), reference_file(tmp_path, rows, OTHER)]
    storage = make_store(tmp_path / "s", references)
    catalogs = [epochal_file(tmp_path, rows, 0, MAGZP=26.0), epochal_file(tmp_path, rows, 1, OTHER, MAGZP=26.0)]
    append(storage, catalogs, error_models=(tmp_path / "model_zr.dat",))
    mag = 26.0 - 7.5
    modelled = 0.02 - 5e-4 * mag + 1.5e-9 * 10 ** (0.4 * mag) - 4e-18 * 10 ** (0.8 * mag)
    errors = table(storage, "detections")["magerr"].to_pylist()
    assert errors[0] == pytest.approx(modelled, rel=1e-6)
    assert errors[2] == pytest.approx(1.0857 * 10.0 / 1000.0, rel=1e-6)
    assert errors[1] is errors[3] is None
    assert table(storage, "exposures")["errora"].to_pylist() == [0.02, None]


def test_append_hmjd_is_astropys_mid_exposure(tmp_path: Path) -> None:
    iers.conf.auto_download = False
    ra, dec = np.array([10.0, 100.0, 200.0, 300.0]), np.array([-20.0, 85.0, 1.0, 45.0])
    rows = rows_at(ra, dec)
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    append(storage, [epochal_file(tmp_path, rows, 0, EXPTIME=300.0), epochal_file(tmp_path, rows, 5, EXPTIME=None)])
    palomar = EarthLocation.from_geodetic(lon=-116.8630 * u.deg, lat=33.3563 * u.deg, height=1712.0 * u.m)
    got = table(storage, "detections")["hmjd"].to_numpy().reshape(2, 4)
    for hmjd, start, half in zip(got, (58515.25, 58520.25), (150.0, 15.0), strict=True):
        mid = Time(start + half / 86400.0, format="mjd", scale="utc", location=palomar)
        expected = mid.mjd + mid.light_travel_time(SkyCoord(ra, dec, unit="deg"), "heliocentric").to_value("day")
        assert np.abs(hmjd - expected).max() * 86400.0 < 0.005
    assert table(storage, "exposures")["exptime"].to_pylist() == [300.0, None]


# Rows and catalogs out of the ordinary


def test_append_bad_rows_are_rejected_by_reason_and_the_others_go_in(tmp_path: Path) -> None:
    ra = [10.0, np.nan, 10.0, np.inf, -361.0, 720.001, 10.0, 360.0, 10.2]
    dec = [20.0, 20.0, -np.inf, np.nan, 20.0, 20.0, 90.5, -90.0, 20.0]
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    report = append(storage, [epochal_file(tmp_path, rows_at(ra, dec))])
    assert (report.rows, report.matched, report.orphans, report.rejected) == (9, 1, 2, 6)
    ledger = table(storage, "exposures").to_pylist()[0]
    assert (ledger["nrejected"], ledger["nrejectednan"], ledger["nrejectedrange"]) == (6, 3, 3)
    assert sorted(key[1] for key in by_key(storage, "orphans")) == [7, 8]


@pytest.mark.parametrize("rows", [np.zeros(0, ROW), rows_at([np.nan, 1500.0], [0.0, 0.0])], ids=["empty", "all bad"])
def test_append_catalog_without_usable_rows_is_in_the_ledger(tmp_path: Path, rows: np.ndarray) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    report = append(storage, [epochal_file(tmp_path, rows)])
    assert (report.exposures, report.rows, report.matched, report.orphans) == (1, len(rows), 0, 0)
    ledger = table(storage, "exposures").to_pylist()[0]
    assert (ledger["nrows"], ledger["nrejected"], ledger["ra"], ledger["radius"]) == (len(rows), len(rows), None, None)
    assert not append(storage, [epochal_file(tmp_path, rows)]).committed


def test_append_reference_without_seeds_makes_orphans_for_want_of_a_seed(tmp_path: Path) -> None:
    references = [reference_file(tmp_path, np.zeros(0, ROW)), reference_file(tmp_path, rows_at([10.0], [20.0]), OTHER)]
    storage = make_store(tmp_path / "s", references)
    report = append(storage, [epochal_file(tmp_path, rows_at([10.0], [20.0]))])
    assert report.without_reference == []
    assert table(storage, "orphans")["reason"].to_pylist() == ["no_seed"]


def test_append_exposures_without_reference_become_orphans_that_say_so(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["four base pixels"], 2)
    storage = make_store(tmp_path / "s", scene.references[:1], seeds_per_tile=20)
    report = append(storage, scene.catalogs)
    fate = brute_force(scene.references[:1], scene.catalogs)
    assert fate_in(storage) == fate
    assert {"no_reference", "no_seed"} < {reason for reason, _ in fate.orphans.values()}
    assert report.without_reference == [str(OTHER)]
    units = table(storage, "orphans").select(["field", "rcid", "fid", "reason"]).to_pylist()
    assert {(r["field"], r["rcid"], r["fid"]) for r in units if r["reason"] == "no_reference"} == {(1550, 63, 1)}


def test_append_far_from_all_seeds_is_stored_too(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    everywhere = rows_at([0.0, 190.0, 77.0, 10.0, 0.0], [0.0, -20.0, 90.0, 20.0, -90.0])
    report = append(storage, [epochal_file(tmp_path, everywhere)])
    assert (report.matched, report.orphans) == (1, 4)


# The same again


def test_append_same_catalogs_again_is_a_reported_no_op(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["plain"], 2)
    storage = make_store(tmp_path / "s", scene.references)
    first = append(storage, scene.catalogs)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (tmp_path / "s").rglob("*")}
    again = append(storage, [*scene.catalogs, *reversed(scene.catalogs)])
    assert (first.committed, first.snapshot, first.exposures, first.known) == (True, 1, 4, 0)
    assert (again.committed, again.snapshot, again.exposures, again.known) == (False, 1, 0, 4)
    assert (again.matched, again.orphans, again.rows, again.quarantined) == (0, 0, 0, [])
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (tmp_path / "s").rglob("*")} == before


def test_append_some_known_takes_only_the_new(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["plain"], 2)
    storage = make_store(tmp_path / "s", scene.references)
    append(storage, scene.catalogs[:3])
    report = append(storage, scene.catalogs)
    assert (report.exposures, report.known) == (1, 3)
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs)


def test_append_same_file_in_another_directory_is_known(tmp_path: Path) -> None:
    path = epochal_file(tmp_path, rows_at([10.0], [20.0]))
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    copy = tmp_path / "copies" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    report = append(storage, [path, copy])
    assert (report.exposures, report.known, report.quarantined) == (1, 1, [])
    assert append(storage, [copy]).committed is False


# Trouble


class Troubled(LoopExecutor):
    """A plain loop that does something once before it begins with the matching."""

    def outcomes(self, job: Job) -> Iterator[Outcome]:
        if job.title == "matching":
            self.trouble()
        return super().outcomes(job)

    def trouble(self) -> None:
        raise NotImplementedError


def test_append_catalog_changed_meanwhile_commits_nothing(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    path = epochal_file(tmp_path, rows)
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])

    class Swaps(Troubled):
        def trouble(self) -> None:
            epochal_file(tmp_path, rows_at([10.0, 10.1], [20.0, 20.0], flux=7.0))

    with pytest.raises(JobFailedError, match="its content changed while it was ingested"):
        append_catalogs(storage, [str(path)], AppendConfig(), Runner(Swaps(), 2 << 30))
    assert commit_numbers(storage) == [0]
    assert append(storage, [path]).matched == 2
    assert table(storage, "detections")["psfflux"].to_pylist() == [7.0, 7.0]


def race(storage: Storage, first: list[Path], second: list[Path]) -> Any:
    """Append some catalogs while others, begun before, are between reading and matching theirs."""

    class Races(Troubled):
        def trouble(self) -> None:
            append(storage, first)

    return append_catalogs(storage, [str(p) for p in second], AppendConfig(), Runner(Races(), 2 << 30))


def test_append_two_at_once_of_the_same_exposure_one_wins_and_the_other_can_run_again(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["plain"], 2)
    storage = make_store(tmp_path / "s", scene.references)
    half, rest = scene.catalogs[:2], scene.catalogs[1:]
    with pytest.raises(
        CommitConflictError, match=r"ingested some of the same exposures \(snapshot 1, append\) during this append"
    ):
        race(storage, half, rest)
    assert commit_numbers(storage) == [0, 1]
    assert fate_in(storage) == brute_force(scene.references, half)
    report = append(storage, rest)
    assert (report.known, report.exposures) == (1, 2)
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs)


def test_append_two_at_once_of_the_very_same_catalogs_is_one_append(tmp_path: Path) -> None:
    """Both write files of the same names."""
    scene = write_scene(tmp_path, PLACES["plain"], 1)
    storage = make_store(tmp_path / "s", scene.references)
    assert race(storage, scene.catalogs, scene.catalogs).snapshot == 1
    assert commit_numbers(storage) == [0, 1]
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs)
    assert append(storage, scene.catalogs).committed is False


def test_append_two_at_once_of_other_exposures_both_go_in(
    scene: Scene, expected: dict[str, Any], tmp_path: Path
) -> None:
    storage = make_store(tmp_path / "s", scene.references, seeds_per_tile=30)
    junk = [tmp_path / f"ztf_2019030{i}000000_000500_zr_c06_o_q1_psfcat.fits" for i in (1, 2)]
    for path in junk:
        path.write_bytes(b"junk")
    report = race(storage, [*scene.catalogs[:2], junk[0]], [*scene.catalogs[2:], junk[1]])
    assert (report.snapshot, report.exposures) == (2, 2)
    assert commit_numbers(storage) == [0, 1, 2]
    assert_same(sky_content(storage), expected)
    assert table(storage, "quarantine")["source"].to_pylist() == [str(path) for path in junk]
    assert dict(zip(*np.unique(table(storage, "exposures")["commit"].to_numpy(), return_counts=True), strict=True)) == {
        1: 2,
        2: 2,
    }
    assert fate_in(storage) == brute_force(scene.references, scene.catalogs)


def fail_on(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> list[int]:
    """Make the numbered calls of the match task fail; return the list of calls, which grows."""
    import ztfmatch.core.operations.append as module

    real, made = module.match_group, []

    def match_group(task: Any) -> Matched:
        made.append(len(made) + 1)
        if made[-1] in calls:
            raise OSError(f"scripted failure of call {made[-1]}")
        return real(task)

    monkeypatch.setattr(module, "match_group", match_group)
    return made


def test_append_failed_task_commits_nothing_and_a_rerun_repeats_only_it(
    scene: Scene, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make_store(tmp_path / "s", scene.references, seeds_per_tile=100)
    calls = fail_on(monkeypatch, {3})
    with pytest.raises(JobFailedError, match="scripted failure of call 3") as caught:
        append(storage, scene.catalogs, rows_per_task=300)
    assert "nothing was committed; a rerun resumes" in str(caught.value)
    assert commit_numbers(storage) == [0]
    assert table(storage, "detections").num_rows == 0
    first = len(calls)
    append(storage, scene.catalogs, rows_per_task=300)
    assert first > 4
    assert len(calls) == first + 1
    assert_same(sky_content(storage), expected)
    assert list(storage.list("staging/")) == []


def test_append_tasks_of_many_tiles_and_exposures_are_small(
    scene: Scene, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ztfmatch.core.operations.append as module

    storage = make_store(tmp_path / "s", scene.references, seeds_per_tile=1)
    real, sizes = module.match_group, []

    def match_group(task: Any) -> Matched:
        sizes.append(len(pickle.dumps(task)))
        return real(pickle.loads(pickle.dumps(task)))

    monkeypatch.setattr(module, "match_group", match_group)
    append(storage, scene.catalogs)
    assert len(open_snapshot(storage).tiles_with("objects")) > 4
    assert max(sizes) < 4_000
    assert_same(sky_content(storage), expected)


def test_append_of_very_many_exposures_has_tasks_that_stay_small(tmp_path: Path) -> None:
    ledger = [
        {**dict.fromkeys(("exptime", "errora", "errorb", "errorc", "errord", "corrections")), "exposureid": 10**14 + i,
         "source": f"/data/2019/0107/{i // 7:06d}/ztf_2019010{i:07d}_000679_zg_c05_o_q1_psfcat.fits", "nrows": 100,
         "digest": (i * 0x9E3779B97F4A7C15) % 2**64, "field": 679, "rcid": 16, "fid": 1, "ra": 150.0, "dec": 30.0,
         "radius": 0.6, "obsmjd": 58000.0 + 1.2345678 * i, "magzp": 26.0 + 0.0123 * (i % 77), "quality": "good"}
        for i in range(1000)
    ]  # fmt: skip
    snapshot = before_first(Storage.at(tmp_path / "s"), StoreConfig())
    vars(snapshot).update(tiling=whole_sky(), files=FileList.of([]))
    table = pa.Table.from_pylist(ledger, schema=EXPOSURES.schema)
    (task,) = match_tasks(snapshot, table, 10**6, "0" * 32)
    (batch,) = read_part(snapshot.storage, task.plan).batches
    assert [exposure.exposureid for exposure in batch] == [row["exposureid"] for row in ledger]
    tasks = match_tasks(snapshot, table, 1000, "1" * 32)
    assert 64 <= len(tasks) <= 70
    assert max(task.rows for task in tasks) <= 100_000 / 64
    assert max(task.rows_of_batch for task in tasks) <= 1000
    planned = [read_part(snapshot.storage, task.plan).batches for task in tasks]
    assert {len(batches) for batches in planned} == {1, 2}
    told = [exposure.exposureid for batches in planned for batch in batches for exposure in batch]
    assert told == [row["exposureid"] for row in ledger]
    assert max(len(pickle.dumps(one)) for one in (task, *tasks)) < 16_000


def test_append_in_tasks_of_many_batches_writes_few_files(
    scene: Scene, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [make_store(tmp_path / name, scene.references, seeds_per_tile=100) for name in ("one", "many")]
    monkeypatch.setattr(matchplan, "_LEAST_TASKS", 10**9)
    append(stores[0], scene.catalogs, rows_per_task=100)
    monkeypatch.setattr(matchplan, "_LEAST_TASKS", 1)
    append(stores[1], scene.catalogs, rows_per_task=100)
    snapshots = [open_snapshot(storage) for storage in stores]
    for name in ("detections", "orphans"):
        before, after = (snapshot.files.count(name) for snapshot in snapshots)
        assert after < before
    for storage in stores:
        assert_same(sky_content(storage), expected)
    assert verify_store(stores[1], runner(), deep=True).passed


def test_append_failed_then_rerun_after_its_files_were_taken_away_is_right(
    scene: Scene, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a vacuum whose grace had passed for the files, but not for the results that name them."""
    storage = make_store(tmp_path / "s", scene.references, seeds_per_tile=100)
    fail_on(monkeypatch, {3})
    with pytest.raises(JobFailedError):
        append(storage, scene.catalogs, rows_per_task=300)
    assert list(storage.list("staging/"))
    for table_of_append in ("detections", "orphans"):
        storage.delete([path for path, _ in storage.list(f"data/{table_of_append}")])
    append(storage, scene.catalogs, rows_per_task=300)
    assert_same(sky_content(storage), expected)


@pytest.mark.parametrize("rows_per_task", [100, 10**6])
def test_append_failed_then_rerun_in_other_batches_is_right(
    scene: Scene, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_task: int
) -> None:
    """What the first run staged belongs to other batches, whose numbers the second run uses again."""
    storage = make_store(tmp_path / "s", scene.references)
    calls = fail_on(monkeypatch, {2})
    with pytest.raises(JobFailedError):
        append(storage, scene.catalogs, rows_per_task=500)
    assert len(calls) > 2
    append(storage, scene.catalogs, rows_per_task=rows_per_task)
    assert_same(sky_content(storage), expected)


def test_append_snapshot_opened_before_sees_nothing_of_it(scene: Scene, tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", scene.references)
    append(storage, scene.catalogs[:2])
    reader = open_snapshot(storage)
    append(storage, scene.catalogs[2:])
    assert reader.number == 1
    assert reader.read("exposures").num_rows == 2
    assert reader.rows("detections") < open_snapshot(storage).rows("detections")
    assert_same({"d": table(storage, "detections", 1)}, {"d": table(storage, "detections", reader.number)})


def test_append_relative_paths_globs_and_directories_name_the_same_catalogs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "2019" / "0201" / "x"
    deep.mkdir(parents=True)
    rows = rows_at([10.0], [20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    path = epochal_file(deep, rows)
    monkeypatch.chdir(tmp_path)
    first = append_catalogs(storage, ["2019"], AppendConfig(), runner())
    second = append_catalogs(
        storage, [os.path.relpath(path), "2019/**/*_psfcat.fits", str(tmp_path), "2019/0*"], AppendConfig(), runner()
    )
    assert (first.exposures, second.catalogs, second.known) == (1, 1, 1)
    assert table(storage, "exposures")["source"].to_pylist() == [str(path)]


# Gzipped, in upper case, through links


def test_append_plain_and_gzipped_is_one_exposure_whichever_comes_first(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])
    references = [reference_file(tmp_path, rows)]
    plain = epochal_file(tmp_path, rows)
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    stores = [make_store(tmp_path / name, references) for name in ("plain", "packed", "both")]
    first, second = append(stores[0], [plain]), append(stores[1], [packed])
    assert (first.matched, second.matched) == (3, 3)
    both = append(stores[2], [plain, packed])
    assert (both.exposures, both.known, both.quarantined, both.matched) == (1, 1, [], 3)
    for storage, other in ((stores[0], packed), (stores[1], plain)):
        again = append(storage, [other])
        assert (again.committed, again.known, again.quarantined) == (False, 1, [])
    names = ["commit", "source", "filename"]
    ledgers = [table(storage, "exposures", without=names) for storage in stores]
    assert ledgers[0].equals(ledgers[1])
    assert ledgers[0].equals(ledgers[2])
    assert table(stores[0], "detections").equals(table(stores[1], "detections"))


def test_append_other_content_gzipped_is_a_conflict(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    plain = epochal_file(tmp_path, rows)
    append(storage, [plain])
    epochal_file(tmp_path, rows[:2], name="other.fits")
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / "other.fits").read_bytes()))
    with pytest.raises(BadInputError, match="none of 1 catalogs can be used"):
        append(storage, [packed])
    good = epochal_file(tmp_path, rows, 1)
    assert [row.code for row in append(storage, [packed, good]).quarantined] == ["conflict"]


def test_append_mended_file_gzipped_clears_the_entry_of_the_plain(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    plain = epochal_file(tmp_path, rows)
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    plain.write_bytes(b"junk")
    append(storage, [plain, epochal_file(tmp_path, rows, 1)])
    assert table(storage, "quarantine").num_rows == 1
    assert append(storage, [packed]).exposures == 1
    assert table(storage, "quarantine").num_rows == 0


def test_append_and_init_of_linked_gzipped_and_upper_case_files_equal_those_of_plain_ones(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, PLACES["plain"])
    expected = make_store(tmp_path / "expected", scene.references)
    append(expected, scene.catalogs)
    disk, night = tmp_path / "disk", tmp_path / "night"
    for place in (disk, night):
        place.mkdir()
    (night / "link").symlink_to(disk)
    for i, path in enumerate((*scene.references, *scene.catalogs)):
        data, place = path.read_bytes(), (night, disk)[i % 2]
        name, data = ((path.name, data), (f"{path.name.upper()}.GZ", gzip.compress(data)))[i // 2 % 2]
        (place / name).write_bytes(data)
    storage = make_store(tmp_path / "s", [night], seeds_per_tile=12)
    report = append(storage, [night])
    assert (report.exposures, report.quarantined, report.warnings) == (len(scene.catalogs), [], [])
    for name, rows in sky_content(storage).items():
        other = sky_content(expected)[name]
        without = [column for column in ("filename",) if column in rows.column_names]
        assert_same({name: rows.drop_columns(without)}, {name: other.drop_columns(without)})


@pytest.mark.parametrize("sourceid", [-1, 10**7])
def test_append_sourceid_that_no_transient_can_be_named_after_is_refused(tmp_path: Path, sourceid: int) -> None:
    """Once it is an orphan, it would be too late: no transient of the store could be made any more."""
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    bad = epochal_file(tmp_path, rows_at([10.0, 10.1], [20.0, 20.0], sourceid=[5, sourceid]), 1)
    report = append(storage, [epochal_file(tmp_path, rows), bad])
    assert report.exposures == 1
    assert [(row.code, row.filename) for row in report.quarantined] == [("layout", bad.name)]
    assert f"{sourceid}" in report.quarantined[0].reason
