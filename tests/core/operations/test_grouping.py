"""Transients of a store: what all orphans of a unit give at once, whatever the tiles, exact over their borders."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from helpers import FRACDAY, UNIT, append, epochal_file, interrupted, make_store, reference_file, rows_at, table
from transient_groups import expected_groups, groups_of

import ztfmatch
from ztfmatch.core.config import MAX_TILE_ORDER, CompactConfig
from ztfmatch.core.errors import CommitConflictError, ConfigError, JobFailedError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import fine_pixels
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.survey import Unit, transientid_of
from ztfmatch.simulate import SimulationConfig, simulate

ARCSEC = 1.0 / 3600.0
CENTRE = (90.0, 66.4)
"""Where two tiles of order 0, and more of higher orders, meet."""

OTHER = Unit(500, 20, 1)


def crowd(rng: np.random.Generator, n: int, spread_arcsec: float) -> tuple[np.ndarray, np.ndarray]:
    """Places about CENTRE."""
    x, y = rng.uniform(-spread_arcsec, spread_arcsec, (2, n)) * ARCSEC
    return CENTRE[0] + x / np.cos(np.radians(CENTRE[1])), CENTRE[1] + y


def night_files(place: Path, nights: int = 6, per_night: int = 60, spread_arcsec: float = 25.0) -> list[Path]:
    """Catalogs of two units with nothing but orphans in them, some of which recur."""
    rng = np.random.default_rng(5)
    steady = crowd(rng, 20, spread_arcsec)
    files = []
    for night, unit in itertools.product(range(nights), (UNIT, OTHER)):
        strays = crowd(rng, per_night, spread_arcsec)
        seen = [np.concatenate([part + rng.normal(0.0, 0.15, 20) * ARCSEC, stray])
                for part, stray in zip(steady, strays, strict=True)]  # fmt: skip
        name_night = night if unit is UNIT else night + 10
        files.append(epochal_file(place, rows_at(*seen), name_night, unit))
    return files


def references(place: Path) -> list[Path]:
    far = rows_at([CENTRE[0] + 0.2] * 3, CENTRE[1] + np.array([0.0, 0.02, 0.04]))
    return [reference_file(place, far, unit) for unit in (UNIT, OTHER)]


def grouped(place: Path, files: Iterable[Iterable[Path]], seeds_per_tile: int = 500_000) -> Storage:
    storage = make_store(place, references(place.parent), seeds_per_tile=seeds_per_tile)
    for some in files:
        append(storage, some)
    ztfmatch.Store(storage).update_transients()
    return storage


def test_transients_equal_brute_force_whatever_the_tiles(tmp_path: Path) -> None:
    files = night_files(tmp_path)
    coarse = grouped(tmp_path / "coarse", [files])
    assert len(groups_of(coarse)) > 60
    assert groups_of(coarse) == expected_groups(coarse)
    fine = grouped(tmp_path / "fine", [files])
    store = ztfmatch.Store(fine)
    for _ in range(8):
        store.compact(CompactConfig(2, 10))
    assert max(tile.order for tile in store.snapshot().files.tiling.tiles) >= 8
    assert groups_of(fine) == groups_of(coarse)
    assert store.snapshot().status.transients == "up to date"
    assert not store.update_transients().committed
    store.rollback(1)
    store.append(str(files[0]))
    assert store.verify(deep=True).passed


def test_transients_of_fine_tiles_are_those_of_the_whole_sky(tmp_path: Path) -> None:
    """The tiles are divided before anything is grouped: each transient is found by one tile alone."""
    files = night_files(tmp_path)
    storage = make_store(tmp_path / "s", references(tmp_path))
    append(storage, files)
    store = ztfmatch.Store(storage)
    for _ in range(12):
        store.compact(CompactConfig(2, 10))
    tiling = store.snapshot().files.tiling
    assert max(tile.order for tile in tiling.tiles) == MAX_TILE_ORDER
    report = store.update_transients()
    assert (report.undecided, report.tiles > 3) == (0, True)
    groups = groups_of(storage)
    assert groups == expected_groups(storage)
    orphans = table(storage, "orphans")
    places = tiling.index_of_fine(fine_pixels(orphans["ra"].to_numpy(), orphans["dec"].to_numpy())).tolist()
    keys = zip(orphans["exposureid"].to_pylist(), orphans["sourceid"].to_pylist(), strict=True)
    tile_of = dict(zip(keys, places, strict=True))
    assert sum(len({tile_of[key] for key in members}) > 1 for members in groups.values()) >= 3
    assert store.verify(deep=True).passed


def test_transients_keep_their_detections_under_appends(tmp_path: Path) -> None:
    files = night_files(tmp_path)
    storage = grouped(tmp_path / "s", [files[:4]])
    store = ztfmatch.Store(storage)
    before = groups_of(storage)
    for part in (files[4:8], files[8:]):
        append(storage, part)
        assert store.snapshot().status.transients.endswith("stale")
        assert store.update_transients().committed
        after = groups_of(storage)
        assert all(members <= after[number] for number, members in before.items())
        assert after == expected_groups(storage)
        before = after
    assert store.verify(deep=True).passed


def test_transients_in_other_batches_are_the_same_where_they_stand_apart(tmp_path: Path) -> None:
    """Order tells only who founds: groups that are apart from others are the same in any order, ids or not."""
    rng = np.random.default_rng(1)
    x = np.arange(12) * 10.0 * ARCSEC
    nights = [rows_at(CENTRE[0] + x + rng.normal(0, 0.2, 12) * ARCSEC, CENTRE[1] + rng.normal(0, 0.2, 12) * ARCSEC)
              for _ in range(5)]  # fmt: skip
    files = [epochal_file(tmp_path, rows, night) for night, rows in enumerate(nights)]
    in_time = grouped(tmp_path / "in_time", [files])
    backwards = grouped(tmp_path / "backwards", [[file] for file in files[::-1]])
    assert set(groups_of(in_time).values()) == set(groups_of(backwards).values())
    assert groups_of(in_time).keys().isdisjoint(groups_of(backwards))
    assert len(groups_of(in_time)) == 12


def test_transient_has_mean_position_and_statistics_of_its_detections(tmp_path: Path) -> None:
    files = night_files(tmp_path, spread_arcsec=60.0)
    store = ztfmatch.Store(grouped(tmp_path / "s", [files]))
    snapshot = store.snapshot()
    rows = snapshot.transients(cone=(*CENTRE, 100.0))
    assert rows.num_rows == snapshot.table("transients").num_rows > 20
    for row in rows.slice(0, 5).to_pylist():
        epochs = snapshot.lightcurves(objectid=row["transientid"])
        assert set(epochs["objectid"].to_pylist()) == {row["transientid"]}
        assert epochs.num_rows == row["nobs"]
        assert (epochs["field"][0].as_py(), epochs["fid"][0].as_py()) == (row["field"], row["fid"])
        np.testing.assert_allclose(row["ra"], np.mean(epochs["ra"].to_numpy()), atol=1e-9)
        np.testing.assert_allclose(row["dec"], np.mean(epochs["dec"].to_numpy()), atol=1e-9)
        np.testing.assert_allclose(row["meanmag"], np.mean(epochs["mag"].to_numpy().astype(float)), rtol=1e-6)
        assert (row["firsthmjd"], row["lasthmjd"]) == (epochs["hmjd"][0].as_py(), epochs["hmjd"][-1].as_py())
        centre = SkyCoord(*CENTRE, unit="deg")
        apart = centre.separation(SkyCoord(row["ra"], row["dec"], unit="deg")).arcsec
        np.testing.assert_allclose(row["separation"], apart, atol=1e-6)


def test_orphans_that_lost_to_a_nearer_detection_are_a_transient_beside_the_object(tmp_path: Path) -> None:
    """Without any regeneration; one that is beside it in part says in how many exposures, one apart has no object."""
    seed = rows_at([CENTRE[0]], [CENTRE[1]])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, seed)])
    for night, north in enumerate((1.4, 1.55, 1.6, 1.45)):
        places = CENTRE[1] + np.array([0.0, -0.9, north, 30.0]) * ARCSEC
        append(storage, [epochal_file(tmp_path, rows_at([CENTRE[0]] * 4, places), night)])
    store = ztfmatch.Store(storage)
    store.update_transients()
    assert groups_of(storage) == expected_groups(storage)
    objectid = store.snapshot().table("objects")["objectid"][0].as_py()
    rows = store.snapshot().table("transients").to_pylist()
    said = {round((row["dec"] - CENTRE[1]) / ARCSEC, 1): (row["nobs"], row["besideid"], row["nbeside"]) for row in rows}
    assert said == {-0.9: (4, objectid, 4), 1.5: (4, objectid, 2), 30.0: (4, None, 0)}
    assert store.snapshot().status.transients == "up to date"
    assert store.verify(deep=True).passed


def test_orphans_that_wait_for_a_reference_are_no_transients(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([CENTRE[0]], [CENTRE[1]]))])
    rows = rows_at([CENTRE[0]] * 2, [CENTRE[1], CENTRE[1] + 0.5 * ARCSEC])
    append(storage, [epochal_file(tmp_path, rows, night, OTHER) for night in range(3)])
    store = ztfmatch.Store(storage)
    store.update_transients()
    assert groups_of(storage) == {}
    assert store.snapshot().status.transients == "up to date"


def test_transients_of_a_simulation_are_the_sources_that_no_reference_holds(tmp_path: Path) -> None:
    config = SimulationConfig(n_exposures=8, stars_per_quadrant=400, fields=(679,), transients_per_quadrant=25.0)
    simulate(tmp_path / "sky", config)
    store = ztfmatch.init_store(tmp_path / "s", str(tmp_path / "sky" / "references"))
    store.append(str(tmp_path / "sky" / "catalogs"))
    plain = store.update_transients()
    rows = store.snapshot().table("transients")
    stars = pq.read_table(tmp_path / "sky" / "truth" / "stars.parquet").to_pandas()
    truth = stars[stars["kind"] == "transient"]
    found = SkyCoord(rows["ra"].to_numpy(), rows["dec"].to_numpy(), unit="deg")
    _, apart, _ = SkyCoord(truth["ra"], truth["dec"], unit="deg").match_to_catalog_sky(found)
    assert plain.transients >= 20
    assert (apart.arcsec < 0.5).sum() >= 0.5 * len(truth)  # the others were too faint, or seen once
    with_dask = ztfmatch.Store(Storage.at(tmp_path / "dask"))
    assert store.verify(deep=True).passed
    again = ztfmatch.init_store(with_dask.path, str(tmp_path / "sky" / "references"))
    again.append(str(tmp_path / "sky" / "catalogs"))
    again.update_transients(resources=ztfmatch.Resources(2))
    assert groups_of(again.storage) == groups_of(store.storage)


def test_lost_object_becomes_a_transient_and_a_later_reference_makes_it_an_object(tmp_path: Path) -> None:
    """Lineage tells of both, and ids can be followed all along."""
    ra, dec = CENTRE[0] + np.array([0.0, 0.01]), np.full(2, CENTRE[1])
    both, one = (reference_file(tmp_path / name, rows_at(ra[:n], dec[:n])) for name, n in (("both", 2), ("one", 1)))
    storage = make_store(tmp_path / "s", [both])
    append(storage, [epochal_file(tmp_path, rows_at(ra, dec), night) for night in range(3)])
    store = ztfmatch.Store(storage)
    store.rematch(str(one))
    (transient,) = groups_of(storage)
    lost = store.snapshot().lineage(transient).to_pylist()
    base = int(table(storage, "objects", 1)["objectid"][0].as_py())
    assert [(row["objectid"], row["newobjectid"], row["kind"]) for row in lost] == [(base + 1, transient, "lost")]
    assert (lost[0]["nshared"], lost[0]["fractionold"], lost[0]["fractionnew"]) == (3, 1.0, 1.0)
    assert store.snapshot().lightcurves(objectid=transient).num_rows == 3
    append(storage, [epochal_file(tmp_path, rows_at(ra, dec), night) for night in range(3, 5)])
    store.update_transients()
    assert {len(members) for members in groups_of(storage).values()} == {5}
    assert set(groups_of(storage)) == {transient}
    brighter = rows_at(ra, dec, mag=-7.0)
    report = store.rematch(str(reference_file(tmp_path / "again", brighter)))
    assert [(unit.transients, unit.same, unit.new, unit.lost) for unit in report.units] == [(1, 1, 0, 0)]
    assert groups_of(storage) == {}
    chain = store.snapshot().lineage(base + 1).to_pylist()
    links = [(row["objectid"], row["newobjectid"], row["kind"]) for row in chain]
    assert links == [(base + 1, transient, "lost"), (transient, base + 2 * 10**7 + 1, "same")]
    assert [row["newobjectid"] for row in store.snapshot().successors(transient).to_pylist()] == [base + 2 * 10**7 + 1]
    assert store.verify(deep=True).passed


def test_few_epochs_that_a_moved_object_loses_do_not_make_it_split(tmp_path: Path) -> None:
    """Two of six epochs are too far from the new place and form a transient: the object moved all the same."""
    ra, dec = CENTRE[0], CENTRE[1]
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([ra], [dec]))])
    off = [0.0, 0.1, 0.2, 0.3, -0.9, -1.0]
    append(storage, [epochal_file(tmp_path, rows_at([ra], [dec + y * ARCSEC]), n) for n, y in enumerate(off)])
    store = ztfmatch.Store(storage)
    store.rematch(str(reference_file(tmp_path / "new", rows_at([ra], [dec + 1.0 * ARCSEC]))))
    assert {len(members) for members in groups_of(storage).values()} == {2}
    rows = store.snapshot().table("lineage").to_pylist()
    assert [(row["kind"], row["nshared"]) for row in rows] == [("moved", 4)]


def test_grouping_while_a_tile_is_divided_stops_the_compaction(tmp_path: Path) -> None:
    """Nothing was grouped when it began: transients of the undivided tile would stay beside those of its parts."""
    storage = make_store(tmp_path / "s", references(tmp_path))
    append(storage, night_files(tmp_path))
    store = ztfmatch.Store(storage)
    with pytest.raises(CommitConflictError):
        compact(storage, CompactConfig(2, 10), interrupted("compacting", store.update_transients))
    assert store.compact(CompactConfig(2, 10)).split
    assert groups_of(storage) == expected_groups(storage)


def test_grouping_while_references_are_matched_again_stops_the_rematch(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", references(tmp_path))
    append(storage, night_files(tmp_path))
    store = ztfmatch.Store(storage)
    new = str(reference_file(tmp_path / "new", rows_at([CENTRE[0]], [CENTRE[1]])))
    with pytest.raises(CommitConflictError):
        rematch(storage, [new], RematchConfig(), interrupted("lineage", store.update_transients))
    assert store.rematch(new).committed
    assert groups_of(storage) == expected_groups(storage)
    assert store.verify(deep=True).passed


def test_append_while_references_are_matched_again_leaves_its_tiles_to_be_grouped(tmp_path: Path) -> None:
    files = night_files(tmp_path)
    ours, others = ([path for path in files if code in path.name] for code in ("_zr_", "_zg_"))
    storage = make_store(tmp_path / "s", references(tmp_path))
    append(storage, [*ours, *others[:2]])
    store = ztfmatch.Store(storage)
    new = str(reference_file(tmp_path / "new", rows_at([CENTRE[0]], [CENTRE[1]])))
    rematch(storage, [new], RematchConfig(), interrupted("lineage", lambda: append(storage, others)))
    assert groups_of(storage) != expected_groups(storage)
    assert store.update_transients().committed
    assert groups_of(storage) == expected_groups(storage)


def test_transientid_that_is_none_raises(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "s", references(tmp_path))
    with pytest.raises(ConfigError, match=r"679 is not a transientid: those are above 9999999999999999"):
        ztfmatch.Store(storage).snapshot().transients(679)
    unknown = ztfmatch.Store(storage).snapshot().transients(transientid_of(FRACDAY * 100 + 20, 7))
    assert unknown.num_rows == 0


def test_verify_finds_a_transient_of_other_detections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ztfmatch.core.tasks import transients

    real = transients.link_detections

    def careless(xyz: np.ndarray, exposure: np.ndarray, edge: np.ndarray, radius: float) -> object:
        return real(xyz, exposure, edge, 2.0 * radius)

    monkeypatch.setattr(transients, "link_detections", careless)
    store = ztfmatch.Store(grouped(tmp_path / "s", [night_files(tmp_path)]))
    report = store.verify()
    failed = {check.check: check for check in report.checks if not check.passed}
    assert set(failed) == {"transients"}
    assert 0 < failed["transients"].violations < failed["transients"].checked
    assert str(failed["transients"].example).startswith("transient ")


@pytest.mark.parametrize("of_whom", ["none", "another"])
def test_verify_finds_a_transient_beside_a_wrong_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_whom: str
) -> None:
    from ztfmatch.core.tasks import transients

    real = transients.most_frequent

    def careless(group: np.ndarray, ids: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        found, counts = real(group, ids, groups)
        return (found * 0, counts) if of_whom == "none" else (found + (found > 0), counts)

    monkeypatch.setattr(transients, "most_frequent", careless)
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([CENTRE[0]], [CENTRE[1]]))])
    twice = rows_at([CENTRE[0]] * 2, [CENTRE[1], CENTRE[1] + 0.5 * ARCSEC])
    append(storage, [epochal_file(tmp_path, twice, night) for night in range(3)])
    ztfmatch.Store(storage).update_transients()
    (failed,) = (check for check in ztfmatch.Store(storage).verify().checks if not check.passed)
    assert (failed.check, failed.violations) == ("transients", 1)


def test_exposure_of_a_date_that_no_transientid_tells_is_named(tmp_path: Path) -> None:
    name = "ztf_20160101250000_000500_zr_c06_o_q1_psfcat.fits"
    rows = rows_at([CENTRE[0]], [CENTRE[1]])
    old = epochal_file(tmp_path, rows, name=name, OBSMJD=57388.25)
    storage = make_store(tmp_path / "s", references(tmp_path))
    append(storage, [old, epochal_file(tmp_path, rows)])
    with pytest.raises(JobFailedError, match=r"exposure 2016010125000020, source 0: .* 2017-01-12 to 2042-04-01"):
        ztfmatch.Store(storage).update_transients()
