"""Stars of a simulated sky in two fields and three filters: against its truth, and against NumPy on their epochs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Interrupted, epochal_file, make_store, reference_file, rows_at

import ztfmatch
from ztfmatch import AppendConfig, CommitConflictError, ConfigError, KowalskiConfig, Query, Store
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import Destination, read_rows, write_file
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.kernels.starids import name_of_star
from ztfmatch.core.kernels.tiling import fine_pixels
from ztfmatch.core.operations.commit import commit_on_top
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import TABLES
from ztfmatch.core.survey import Unit, objectid_base
from ztfmatch.kowalski.io.jsonlines import LinesForm
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate
from ztfmatch.stars.kernels.medians import group_medians
from ztfmatch.stars.kernels.offsets import groups_of, offset_errors, solve, star_equations, summed
from ztfmatch.stars.statistics import update_star_statistics

SKY = SimulationConfig(
    filters=(1, 2, 3), n_exposures=10, stars_per_quadrant=1500, transients_per_quadrant=0.5, epoch_depth=0.7
)
BANDS = {"g": 1, "r": 2, "i": 3}


@dataclass
class Scene:
    place: Path
    store: Store

    def truth(self, name: str) -> Any:
        return pq.read_table(self.place / "sky" / "truth" / f"{name}.parquet").to_pandas()

    @property
    def true_star(self) -> dict[int, int]:
        """Star of each object."""
        rows = self.truth("seeds").itertuples()
        return {
            objectid_base(Unit(row.field, row.rcid, row.fid), row.generation) + row.sourceid: row.star_id
            for row in rows
        }

    def found(self) -> dict[int, int]:
        rows = self.store.snapshot().table("members")
        return dict(zip(rows["objectid"].to_pylist(), rows["starid"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("stars")
    simulate(place / "sky", SKY)
    store = ztfmatch.init_store(place / "store", str(place / "sky" / "references"))
    store.append(str(place / "sky" / "catalogs"), AppendConfig(exposures=place / "sky" / "exposures.csv"))
    store.update_statistics()
    store.update_offsets()
    store.update_star_statistics()
    return Scene(place, store)


def places(rows: pa.Table) -> list[Any]:
    return [rows[name].to_numpy() for name in ("ra", "dec")]


def purity_and_completeness(found: dict[int, int], truth: dict[int, int]) -> tuple[float, float]:
    """Of pairs of objects of one star as found, those that are; of those that are, those found."""
    ids = sorted(found)
    both = [(found[one], truth[one]) for one in ids]

    def pairs(keys: list[Any]) -> int:
        counts = np.unique(np.array(keys), axis=0, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    same = pairs(both)
    return same / pairs([key for key, _ in both]), same / pairs([key for _, key in both])


def test_stars_are_those_of_the_truth(scene: Scene) -> None:
    purity, completeness = purity_and_completeness(scene.found(), scene.true_star)
    assert (purity, completeness) >= (0.999, 0.999)


def test_statistics_are_those_of_all_epochs_of_a_star(scene: Scene) -> None:
    snapshot = scene.store.snapshot()
    stars = snapshot.table("stars").to_pandas().nlargest(5, "nobjects")
    offset = {(row.field, row.rcid, row.fid): row.offset for row in snapshot.table("offsets").to_pandas().itertuples()}
    rows = snapshot.stars(starid=stars.starid.tolist()).to_pylist()
    assert len(rows) == 5
    assert max(row["nfields"] for row in rows) == 2
    for row in rows:
        epochs = snapshot.star_lightcurves(starid=row["starid"]).to_pandas()
        assert epochs.objectid.nunique() <= row["nobjects"]
        for band, fid in BANDS.items():
            good = epochs[(epochs.fid == fid) & (epochs.catflags == 0) & epochs.mag.notna() & epochs.magerr.notna()]
            keys = zip(good.field, good.rcid, good.fid, strict=True)
            taken = np.array([offset.get(key, 0.0) for key in keys])
            mag = good.mag.to_numpy(float) - taken
            assert row[f"n_{band}"] == len(good)
            if not len(good):
                assert row[f"{band}_mag"] is None
                continue
            assert row[f"{band}_mag"] == pytest.approx(np.median(mag), abs=2e-6)
            deviation = np.median(np.abs(mag - np.median(mag)))
            assert row[f"{band}_scatter"] == pytest.approx(1.4826 * deviation, abs=5e-6)
            assert (row[f"{band}_first"], row[f"{band}_last"]) == (good.hmjd.min(), good.hmjd.max())
        colour = None if row["g_mag"] is None or row["r_mag"] is None else row["g_mag"] - row["r_mag"]
        assert row["g_r"] == (None if colour is None else pytest.approx(colour, abs=1e-5))


def test_offsets_are_those_of_the_truth(scene: Scene) -> None:
    """Differences of two fields: the simulated offsets, and what the flat field has at the edges that overlap."""
    rows = scene.store.snapshot().table("offsets").to_pandas()
    truth = scene.truth("systematics").set_index(["field", "rcid", "fid"]).field_offset
    assert sorted(set(rows.fid)) == [1, 2, 3]
    for fid, of in rows.groupby("fid"):
        (one, other) = of.itertuples()
        assert one.offset + other.offset == pytest.approx(0.0, abs=1e-9)
        expected = truth[one.field, one.rcid, fid] - truth[other.field, other.rcid, fid]
        assert one.offset - other.offset == pytest.approx(expected, abs=0.03)
        assert 0.0 < one.error < 0.01


def test_a_cone_by_star_has_all_objects_of_its_stars(scene: Scene) -> None:
    snapshot = scene.store.snapshot()
    star = max(snapshot.table("stars").to_pylist(), key=lambda row: row["nobjects"])
    cone = (star["ra"], star["dec"], 1.0)
    found = snapshot.stars(cone=cone)
    assert found["starid"].to_pylist() == [star["starid"]]
    assert found["separation"][0].as_py() < 1e-6
    ids = [one for one, starid in scene.found().items() if starid == star["starid"]]
    assert snapshot.members(star["starid"])["objectid"].to_pylist() == sorted(ids)
    epochs = snapshot.star_lightcurves(cone=cone)
    assert set(epochs["starid"].to_pylist()) == {star["starid"]}
    assert epochs.num_rows == snapshot.lightcurves(objectid=ids).num_rows
    assert epochs["hmjd"].to_pylist() == sorted(epochs["hmjd"].to_pylist())


def test_a_cone_by_star_knows_members_in_the_next_tile(tmp_path: Path) -> None:
    """Of a star on a tile's border objects are on both sides: all belong to its cone, whichever tile has the star."""
    rng = np.random.default_rng(4)
    files = []
    for number in range(4):
        unit = Unit(500 + number, 20, 1)
        dec = 60.0 + np.arange(40) * 20.0 / 3600.0 + rng.normal(0, 0.1 / 3600.0, 40)
        rows = rows_at(90.0 + rng.normal(0, 0.4 / 3600.0, 40), dec)  # a border of tiles of every order
        files.append(reference_file(tmp_path, rows, unit))
        epochal_file(tmp_path, rows, number, unit)
    make_store(tmp_path / "store", files)
    store = ztfmatch.open_store(tmp_path / "store")
    store.append(sorted(map(str, tmp_path.glob("*_psfcat.fits"))))
    snapshot = store.snapshot()
    tiling, members, stars, objects = snapshot.files.tiling, *map(snapshot.table, ("members", "stars", "objects"))
    tile_of = [
        dict(zip(rows[name].to_pylist(), tiling.index_of_fine(fine_pixels(*places(rows))).tolist(), strict=True))
        for name, rows in (("objectid", objects), ("starid", stars))
    ]
    pairs = zip(members["objectid"].to_pylist(), members["starid"].to_pylist(), strict=True)
    across = {starid for objectid, starid in pairs if tile_of[0][objectid] != tile_of[1][starid]}
    assert len(across) > 10
    for star in stars.to_pylist():
        cone = (star["ra"], star["dec"], 0.02)  # closer than the position that its id tells
        ids = snapshot.stars(cone=cone)["starid"].to_pylist()
        assert star["starid"] in ids
        epochs = snapshot.star_lightcurves(cone=cone)
        assert epochs.equals(snapshot.star_lightcurves(starid=ids))
        assert epochs.num_rows == snapshot.members(ids).num_rows > 0


def test_stars_are_found_by_conditions(scene: Scene) -> None:
    snapshot = scene.store.snapshot()
    every = snapshot.query(Query("stars")).to_arrow()
    assert every.num_rows == len(snapshot.query(Query("stars"))) == snapshot.table("stars").num_rows
    rows = every.to_pandas()
    some = snapshot.query(Query("stars", where="n_g > 5 and g_r < 1.0 and crowded == 0", columns=["starid", "n_g"]))
    expected = rows[(rows.n_g > 5) & (rows.g_r < 1.0) & (rows.crowded == 0)]
    assert 0 < len(expected) < len(rows)
    assert some.to_arrow()["starid"].to_pylist() == expected.starid.tolist()
    box = (float(rows.ra.min()), float(rows.ra.median()), -90.0, 90.0)
    assert len(snapshot.query(Query("stars", box=box))) == (rows.ra <= box[1]).sum()
    member = min(scene.found())
    of_object = snapshot.query(Query("stars", objectids=[member])).to_arrow()
    assert of_object["starid"].to_pylist() == [scene.found()[member]]
    with pytest.raises(ConfigError, match=r"^status: stars have none"):
        snapshot.query(Query("stars", status="retired"))


def test_stars_are_named_by_id_name_and_object(scene: Scene) -> None:
    snapshot = scene.store.snapshot()
    objectid, starid = next(iter(scene.found().items()))
    for name in (starid, str(starid), name_of_star(starid), objectid, str(objectid)):
        assert snapshot.named_stars(name).starids == (starid,)
    wrong = {
        starid + 7: "nor had it",
        "Vega": "names no star",
        objectid + 10**6: "has no object",
        10**17 * 5: "no star",
    }
    for name, said in wrong.items():
        with pytest.raises(ConfigError, match=said):
            snapshot.named_stars(name)


def test_kowalskis_sources_have_starids_on_request(scene: Scene, tmp_path: Path) -> None:
    def sources(config: KowalskiConfig) -> dict[int, dict[str, Any]]:
        report = scene.store.export_kowalski(tmp_path / str(config.starids), config)
        lines = [
            json.loads(line)
            for path in sorted(Path(report.export).glob("*sources*"))
            for line in path.read_text().splitlines()
        ]
        return {line["_id"]: line for line in lines}

    plain, named = (sources(KowalskiConfig(form=LinesForm("none"), starids=starids)) for starids in (False, True))
    place = {(row["ra"], row["dec"]): row["objectid"] for row in scene.store.snapshot().table("objects").to_pylist()}
    found = scene.found()
    assert plain.keys() == named.keys()
    for number, document in named.items():
        assert document.pop("starid") == found[place[document["ra"], document["dec"]]]
        assert document == plain[number]
    with pytest.raises(ConfigError, match="full exports"):
        scene.store.export_kowalski(tmp_path / "since", KowalskiConfig(since=1, starids=True))


def test_a_store_that_is_not_linked_says_so(tmp_path: Path, scene: Scene) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(scene.place / "sky" / "references"), link=False)
    for ask in (lambda: store.snapshot().stars(cone=(1, 2, 3)), lambda: store.snapshot().query(Query("stars"))):
        with pytest.raises(ConfigError, match="run 'ztfmatch link' first"):
            ask()
    with pytest.raises(ConfigError, match="no stars yet"):
        store.update_offsets()
    with pytest.raises(ConfigError, match="run 'ztfmatch offsets' first"):
        store.calibrate_internal(tmp_path / "corrections")
    with pytest.raises(ConfigError, match="run 'ztfmatch link' first"):
        store.update_star_statistics()


def test_statistics_that_offsets_overtake_are_not_committed(scene: Scene, tmp_path: Path) -> None:
    """They are of the magnitudes without them; the next pass takes over nothing that was staged."""
    shutil.copytree(scene.store.storage.root, tmp_path / "store")
    store = ztfmatch.open_store(tmp_path / "store")
    store.rollback(2)
    assert [store.snapshot().table(name).num_rows for name in ("offsets", "starstatistics")] == [0, 0]
    with pytest.raises(CommitConflictError, match="starstatistics"):
        update_star_statistics(store.storage, Runner(Interrupted(store.update_offsets), 2 << 30))
    assert store.snapshot().table("offsets").num_rows
    assert store.update_star_statistics().committed
    assert {check.check: check.passed for check in store.verify().checks}["starstatistics"]


@pytest.mark.parametrize("name", ["starstatistics", "offsets"])
def test_verify_finds_a_magnitude_that_is_not_of_the_epochs(scene: Scene, tmp_path: Path, name: str) -> None:
    """A value off by a little, in files that are whole: the check names its star or unit."""
    shutil.copytree(scene.store.storage.root, tmp_path / "store")
    store = ztfmatch.open_store(tmp_path / "store")
    checks = {check.check: check for check in store.verify().checks}
    column, which = {"starstatistics": ("r_mag", "star"), "offsets": ("offset", "'field'")}[name]
    assert (checks[name].passed, checks[name].checked) == (True, store.snapshot().table(name).num_rows)
    snapshot = open_snapshot(store.storage)
    file = snapshot.of_table(name)[0]
    rows = read_rows(store.storage, [file], TABLES[name].names).cast(TABLES[name].schema)
    at, values = rows.column_names.index(column), rows[column].to_numpy().copy()
    row = int(np.flatnonzero(np.isfinite(values))[0])
    values[row] += 0.001
    forged = rows.set_column(at, rows.schema.field(column), pa.array(values, from_pandas=True))
    to = Destination(store.storage, TABLES[name], file.tile, snapshot.number + 1, "forged")
    written = replace(write_file(to, forged), commit=file.commit)
    change = log.Change("forged", "by hand", {}, {}, [written], frozenset([file.path]))
    commit_on_top(snapshot, lambda _: change, lambda _: None)
    wrong = {check.check: check for check in store.verify().checks if not check.passed}
    assert set(wrong) == {name, "starstatistics"}  # magnitudes are less the offsets
    assert wrong[name].violations == 1
    assert which in wrong[name].example


def test_a_retired_object_is_followed_to_its_star(scene: Scene) -> None:
    sky = scene.place / "sky"
    before = scene.found()
    regenerate_references(sky, SKY)
    scene.store.rematch(str(sky / "references_1"))
    snapshot = scene.store.snapshot()
    after = set(scene.found().values())
    kept = {one for one in before.values() if one in after}
    assert len(kept) > 0.98 * len(set(before.values()))
    rows = [row for row in snapshot.table("lineage").to_pylist() if row["kind"] in ("same", "moved")]
    for row in rows[:: max(len(rows) // 10, 1)]:
        named = snapshot.named_stars(row["objectid"])
        assert named.starids == (scene.found()[row["newobjectid"]],)
        assert f"object {row['objectid']} retired" in named.followed[0]
    kinds: dict[int, set[str]] = {}
    for row in snapshot.table("starlineage").to_pylist():
        kinds.setdefault(row["starid"], set()).add(row["kind"])
    for gone in set(before.values()) - after:
        if kinds[gone] == {"lost"}:
            with pytest.raises(ConfigError, match="nothing is left of it"):
                snapshot.named_stars(gone)
        else:
            named = snapshot.named_stars(gone)
            assert set(named.starids) <= after
            assert str(gone) in named.followed[0]


def test_internal_corrections_bring_fields_to_agree(scene: Scene) -> None:
    store = scene.store
    report = store.calibrate_internal(scene.place / "internal")
    assert report.units == store.snapshot().table("offsets").num_rows
    store.correct(scene.place / "internal")
    with pytest.raises(ConfigError, match="has corrections"):
        store.calibrate_internal(scene.place / "again")
    assert store.snapshot().table("offsets").num_rows == 0
    store.update_statistics(0.0)
    store.update_offsets()
    rows = store.snapshot().table("offsets").to_pandas()
    assert rows.offset.abs().max() < 0.002
    assert store.verify().passed


class TestKernels:
    def test_medians_are_numpys(self) -> None:
        rng = np.random.default_rng(2)
        parts = [rng.normal(17, 1, n).astype(np.float32) for n in (0, 1, 2, 7, 100)]
        offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        median, deviation = group_medians(np.concatenate(parts), offsets)
        assert np.isnan(median[0])
        for part, one, other in zip(parts[1:], median[1:], deviation[1:], strict=True):
            assert one == pytest.approx(np.median(part.astype(float)), abs=1e-6)
            assert other == pytest.approx(np.median(np.abs(part.astype(float) - one)), abs=2e-6)

    def test_offsets_are_those_of_dense_least_squares(self) -> None:
        """Magnitudes of stars and offsets as unknowns of one dense system, solved by NumPy; two groups."""
        rng = np.random.default_rng(4)
        units, stars = 9, 300
        true = rng.normal(0, 0.03, units)
        star, unit = [], []
        for s in range(stars):
            some = rng.choice(np.arange(6) if s % 3 else np.arange(6, 9), rng.integers(2, 4), replace=False)
            star += [s] * len(some)
            unit += sorted(some.tolist())
        star, unit = np.array(star), np.array(unit)
        error = rng.uniform(0.01, 0.05, len(star))
        mag = rng.uniform(14, 19, stars)[star] + true[unit] + rng.normal(0, error)
        found = star_equations(star, unit, mag, error**-2, np.zeros(units), (1e9, 0.0))
        first, second, entry, right, _ = summed(*found[:2], *found[2:4])
        group = groups_of(first, second, units)
        assert group.tolist() == [0] * 6 + [1] * 3
        offset = solve(first, second, entry, right, group)
        design = np.zeros((len(star) + 2, stars + units))
        design[np.arange(len(star)), star] = 1 / error
        design[np.arange(len(star)), stars + unit] = 1 / error
        design[-2, stars : stars + 6] = design[-1, stars + 6 :] = 1.0
        values = np.append(mag / error, [0.0, 0.0])
        expected = np.linalg.lstsq(design, values, rcond=None)[0][stars:]
        assert np.allclose(offset, expected, atol=1e-9)
        errors = offset_errors(first, second, entry, group)
        assert 0.5 < np.std((offset - true + np.array([true[:6].mean()] * 6 + [true[6:].mean()] * 3)) / errors) < 1.6

    def test_outliers_have_no_say(self) -> None:
        star = np.repeat(np.arange(50), 2)
        unit = np.tile([0, 1], 50)
        mag = np.where(unit == 1, 17.1, 17.0)
        mag[1] += 2.0
        found = star_equations(star, unit, mag, np.full(100, 1e4), np.array([-0.05, 0.05]), (0.03, 4.0))
        first, second, entry, right, _ = summed(*found[:2], *found[2:4])
        assert solve(first, second, entry, right, groups_of(first, second, 2)) == pytest.approx(
            [-0.05, 0.05], abs=1e-12
        )
        assert found[5] == 49
