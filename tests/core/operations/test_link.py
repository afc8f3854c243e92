"""Stars of stores against the definition computed over the whole sky, and their ids through what happens to a store."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import healpy
import helpers
import numpy as np
import pytest
from helpers import ARCSEC, append, epochal_file, reference_file, rows_at, runner
from star_oracle import error_of, stars_of

from ztfmatch.core.config import CompactConfig, StoreConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.starids import name_of_star, places_of
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.history import rollback
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.link import link_stars, unlinked_tiles
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.schema import TABLES
from ztfmatch.core.survey import Unit

UNITS = [Unit(field, rcid, fid) for field, rcid in ((500, 20), (501, 3), (502, 60)) for fid in (1, 2)]

make_store = functools.partial(helpers.make_store, link=False)
"""So that it is ``link`` that makes the stars."""


def members(storage: Storage) -> dict[int, int]:
    """Starid of each object."""
    rows = open_snapshot(storage).read("members")
    assert len(rows) == len(set(rows["objectid"].to_pylist()))
    return dict(zip(rows["objectid"].to_pylist(), rows["starid"].to_pylist(), strict=True))


def grouped(of: dict[int, int]) -> set[frozenset[int]]:
    stars: dict[int, set[int]] = {}
    for objectid, starid in of.items():
        stars.setdefault(starid, set()).add(objectid)
    return {frozenset(ids) for ids in stars.values()}


def expected(storage: Storage) -> set[frozenset[int]]:
    """By the definition, of all active objects."""
    rows = [row for row in open_snapshot(storage).read("objects").to_pylist() if row["status"] == "active"]
    ra, dec = (np.array([row[name] for row in rows]) for name in ("ra", "dec"))
    unit = [row["objectid"] // 10**8 for row in rows]
    error = np.array([error_of(row["refsnr"]) for row in rows])
    return stars_of([row["objectid"] for row in rows], unit, ra, dec, error)


def assert_proved(storage: Storage) -> None:
    report = verify_store(storage, runner())
    assert [check for check in report.checks if not check.passed] == []
    assert next(check.checked for check in report.checks if check.check == "stars") > 0


@dataclass
class Sky:
    """Crowded patches at the poles, RA 0 and the corners of tiles, each seen by all units."""

    ra: np.ndarray
    dec: np.ndarray

    @classmethod
    def draw(cls, seed: int, place: tuple[float, float], n: int = 40) -> Sky:
        rng = np.random.default_rng(seed)
        spread = 12.0 * ARCSEC
        if abs(place[1]) > 89.0:
            away, angle = spread * np.sqrt(rng.uniform(0, 1, n)), rng.uniform(0, 360, n)
            return cls(angle, np.sign(place[1]) * (90.0 - away))
        ra = place[0] + rng.uniform(-spread, spread, n) / np.cos(np.radians(place[1]))
        return cls(ra % 360.0, place[1] + rng.uniform(-spread, spread, n))

    def seeds(self, seed: int, keep: float = 0.85, scatter: float = 0.15) -> np.ndarray:
        """What a reference has of it."""
        rng = np.random.default_rng(seed)
        kept = np.flatnonzero(rng.uniform(0, 1, len(self.ra)) < keep)
        dec = self.dec[kept] + rng.normal(0, scatter, len(kept)) * ARCSEC
        ra = self.ra[kept] + rng.normal(0, scatter, len(kept)) * ARCSEC / np.cos(np.radians(self.dec[kept]))
        dec = np.clip(dec, -90.0, 90.0)
        return rows_at(ra % 360.0, dec, snr=rng.uniform(4, 100, len(kept)).astype(np.float32))


def references(place: Path, sky: Sky) -> list[Path]:
    place.mkdir(exist_ok=True)
    return [reference_file(place, sky.seeds(i), unit) for i, unit in enumerate(UNITS)]


def corner(order: int, npix: int) -> tuple[float, float]:
    """One of the four corners of a tile, degrees."""
    ra, dec = healpy.vec2ang(healpy.boundaries(1 << order, npix, nest=True)[:, 0], lonlat=True)
    return float(ra[0]), float(dec[0])


PLACES = [(0.0, 90.0), (77.0, -90.0), (0.0, 12.0), corner(11, 12345678)]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_stars_are_those_of_the_definition_whatever_the_tiles_and_order(
    place: tuple[float, float], tmp_path: Path
) -> None:
    files = references(tmp_path / "references", Sky.draw(3, place))
    stores = [
        make_store(tmp_path / "small", files, seeds_per_tile=20),
        make_store(tmp_path / "other", files[::-1], seeds_per_tile=70),
        make_store(tmp_path / "whole", files, max_order=0),
    ]
    for storage in stores:
        link_stars(storage, runner())
        assert unlinked_tiles(open_snapshot(storage)) == []
    found = [members(storage) for storage in stores]
    assert found[0] == found[1] == found[2]
    assert grouped(found[0]) == expected(stores[0])
    if place != (0.0, 12.0):  # which is no corner
        assert len(open_snapshot(stores[0]).tiles_with("members")) > 1
    for storage in stores[:2]:
        assert_proved(storage)
    rows = [open_snapshot(storage).read("stars").sort_by("starid") for storage in stores]
    assert rows[0].equals(rows[1])
    assert rows[0].equals(rows[2])
    assert set(rows[0]["starid"].to_pylist()) == set(found[0].values())
    tolerance = places_of(rows[0]["ra"].to_numpy(), rows[0]["dec"].to_numpy()) // 100
    assert tolerance.tolist() == (rows[0]["starid"].to_numpy() // 100).tolist()


def test_a_store_that_is_linked_stays_as_it_is(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "store", references(tmp_path / "references", Sky.draw(1, (0.0, 12.0))))
    first = link_stars(storage, runner())
    assert (first.snapshot, first.committed, first.lost) == (1, True, 0)
    assert first.new == first.stars
    assert first.members == open_snapshot(storage).rows("objects")
    again = link_stars(storage, runner())
    assert (again.snapshot, again.committed) == (1, False)


def test_init_makes_the_stars_that_link_makes(tmp_path: Path) -> None:
    """At a corner of tiles, where stars lie in tiles that hold none of their objects."""
    files = references(tmp_path / "references", Sky.draw(1, corner(11, 12345678)))
    plain = make_store(tmp_path / "plain", files, seeds_per_tile=20)
    link_stars(plain, runner())
    config, places = StoreConfig(seeds_per_tile=20), [str(file) for file in files]
    storage = Storage.at(tmp_path / "linked")
    report = init_store(storage, places, config, runner())
    snapshot, other = open_snapshot(storage), open_snapshot(plain)
    assert (report.snapshot, report.stars) == (0, other.rows("stars"))
    for name in ("objects", "stars", "members"):
        assert snapshot.tiles_with(name) == other.tiles_with(name)
        assert (
            snapshot.read(name)
            .sort_by(TABLES[name].sorted_by[0])
            .equals(other.read(name).sort_by(TABLES[name].sorted_by[0]))
        )
    assert unlinked_tiles(snapshot) == []
    assert_proved(storage)
    again = init_store(storage, places, config, runner())
    assert (again.already_done, again.stars, again.warnings) == (True, report.stars, [])
    told = init_store(plain, places, config, runner())
    assert [(notice.code, "ztfmatch link" in notice.message) for notice in told.warnings] == [("unlinked", True)]


def test_nights_change_no_star(tmp_path: Path) -> None:
    sky = Sky.draw(1, (30.0, 12.0))
    storage = make_store(tmp_path / "store", references(tmp_path / "references", sky))
    link_stars(storage, runner())
    before = members(storage)
    append(storage, [epochal_file(tmp_path, sky.seeds(5), 0, UNITS[0])])
    assert link_stars(storage, runner()).committed is False
    assert members(storage) == before
    assert_proved(storage)


class TestRematch:
    def scene(self, tmp_path: Path) -> tuple[Storage, Sky]:
        sky = Sky.draw(1, corner(11, 12345678))
        storage = make_store(tmp_path / "store", references(tmp_path / "references", sky), seeds_per_tile=40)
        link_stars(storage, runner())
        append(storage, [epochal_file(tmp_path, sky.seeds(50 + i), i, UNITS[i % 6]) for i in range(12)])
        return storage, sky

    def regenerate(self, storage: Storage, sky: Sky, place: Path, seed: int) -> None:
        rows = sky.seeds(seed)
        place.mkdir()
        rematch(storage, [str(reference_file(place, rows, UNITS[seed % 6]))], RematchConfig(), runner())

    def test_stars_follow_the_new_objects(self, tmp_path: Path) -> None:
        storage, sky = self.scene(tmp_path)
        for seed in (900, 906):
            self.regenerate(storage, sky, tmp_path / str(seed), seed)
            assert unlinked_tiles(open_snapshot(storage)) == []
            assert grouped(members(storage)) == expected(storage)
            assert_proved(storage)
            assert link_stars(storage, runner()).committed is False

    def test_ids_are_those_of_the_stars_before(self, tmp_path: Path) -> None:
        """Ids that are new are of no star before, and are told; of those that are gone the lineage says why."""
        storage, sky = self.scene(tmp_path)
        before = members(storage)
        self.regenerate(storage, sky, tmp_path / "new", 900)
        after = members(storage)
        rows = open_snapshot(storage).read("starlineage").to_pylist()
        fresh = set(after.values()) - set(before.values())
        gone = set(before.values()) - set(after.values())
        assert fresh <= {row["newstarid"] for row in rows} - {row["starid"] for row in rows}
        assert gone == {row["starid"] for row in rows} - {None} - set(after.values())
        assert {row["kind"] for row in rows} <= {"split", "merged", "new", "lost"}
        kept = [starid for objectid, starid in before.items() if after.get(objectid) == starid]
        assert len(kept) > 0.8 * sum(objectid in after for objectid in before)

    def test_a_store_that_was_never_linked_stays_so(self, tmp_path: Path) -> None:
        sky = Sky.draw(1, (30.0, 12.0))
        storage = make_store(tmp_path / "store", references(tmp_path / "references", sky))
        self.regenerate(storage, sky, tmp_path / "new", 900)
        assert open_snapshot(storage).rows("members") == 0


def test_an_id_stays_with_most_of_the_epochs(tmp_path: Path) -> None:
    """Three objects of a star, whose third moves away with its epochs: they are fewer or more than the others' two."""
    for nights, keeps in ((1, "others"), (5, "moved")):
        place = tmp_path / keeps
        place.mkdir()
        first = [reference_file(place, rows_at(10.0, 20.0), unit) for unit in UNITS[:3]]
        storage = make_store(place / "store", first)
        link_stars(storage, runner())
        (starid,) = set(members(storage).values())
        at = rows_at(10.0, 20.0 + 1.0 * ARCSEC)
        append(storage, [epochal_file(place, rows_at(10.0, 20.0), i, UNITS[i % 2]) for i in range(4)])
        append(storage, [epochal_file(place, at, 10 + i, UNITS[2]) for i in range(nights)])
        (place / "new").mkdir()
        new = reference_file(place / "new", rows_at(10.0, 20.0 + 1.2 * ARCSEC), UNITS[2])
        rematch(storage, [str(new)], RematchConfig(), runner())
        after = members(storage)
        others, moved = after[min(after)], after[max(after)]
        assert len(after) == 3
        assert starid == (others if keeps == "others" else moved)
        assert others != moved
        rows = open_snapshot(storage).read("starlineage").to_pylist()
        assert {(row["starid"], row["newstarid"], row["kind"], row["nepochs"]) for row in rows} == {
            (starid, others, "split", 4),
            (starid, moved, "split", nights),
        }
        assert_proved(storage)


def test_an_id_is_never_used_again(tmp_path: Path) -> None:
    """A star is lost, and another comes to the same place: it has the next number."""
    far = rows_at([10.0, 10.0], [20.0, 20.1])
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, far, UNITS[0])])
    link_stars(storage, runner())
    before = set(members(storage).values())
    for step, rows in enumerate((rows_at(10.0, 20.1), far)):
        place = tmp_path / str(step)
        place.mkdir()
        rematch(storage, [str(reference_file(place, rows, UNITS[0]))], RematchConfig(), runner())
    after = set(members(storage).values())
    (gone,), (fresh,) = before - after, after - before
    assert fresh == gone + 1
    assert name_of_star(fresh) == f"{name_of_star(gone)}_2"
    assert_proved(storage)


def test_compaction_divides_stars_and_changes_none(tmp_path: Path) -> None:
    sky = Sky.draw(1, corner(11, 12345678))
    storage = make_store(tmp_path / "store", references(tmp_path / "references", sky), seeds_per_tile=1000)
    append(storage, [epochal_file(tmp_path, sky.seeds(5), 0, UNITS[0])])
    link_stars(storage, runner())
    content = {name: open_snapshot(storage).read(name) for name in ("stars", "members")}
    while compact(storage, CompactConfig(max_rows_per_tile=20, full=True), runner()).split:
        snapshot = open_snapshot(storage)
        assert unlinked_tiles(snapshot) == []
        for name, rows in content.items():
            assert snapshot.read(name).sort_by(rows.column_names[0]).equals(rows.sort_by(rows.column_names[0]))
        assert_proved(storage)
    assert len(open_snapshot(storage).tiles_with("stars")) > 10


def test_rollback_brings_back_the_stars(tmp_path: Path) -> None:
    storage, sky = TestRematch().scene(tmp_path)
    before, number = members(storage), open_snapshot(storage).number
    TestRematch().regenerate(storage, sky, tmp_path / "new", 900)
    assert members(storage) != before
    rollback(storage, number)
    assert members(storage) == before
    assert unlinked_tiles(open_snapshot(storage)) == []
    assert_proved(storage)


@dataclass
class History:
    """Operations drawn at random on a store of stars that stand apart, and which star each id was ever of."""

    place: Path
    seed: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        east, north = np.meshgrid(np.arange(6), np.arange(6))
        dec = 12.0 + 30.0 * ARCSEC * north.ravel() + self.rng.uniform(-8, 8, 36) * ARCSEC
        ra = 359.99 + (30.0 * east.ravel() + self.rng.uniform(-8, 8, 36)) * ARCSEC / np.cos(np.radians(12.0))
        self.sky = Sky(ra % 360.0, dec)
        self.storage = make_store(self.place / "store", references(self.place / "first", self.sky), seeds_per_tile=60)
        link_stars(self.storage, runner())
        self.star_of_id: dict[int, int] = {}
        self.steps = 0
        self.surviving = self.kept = 0
        self.check()

    def true_stars(self) -> dict[int, int]:
        """Star of each object, by the nearest position."""
        rows = open_snapshot(self.storage).read("objects").to_pylist()
        away = [np.hypot((self.sky.ra - row["ra"] + 180.0) % 360.0 - 180.0, self.sky.dec - row["dec"]) for row in rows]
        return {row["objectid"]: int(np.argmin(one)) for row, one in zip(rows, away, strict=True)}

    def ids(self) -> dict[int, set[int]]:
        """Starids of each star."""
        true = self.true_stars()
        found: dict[int, set[int]] = {}
        for objectid, starid in members(self.storage).items():
            found.setdefault(true[objectid], set()).add(starid)
        return found

    def check(self) -> None:
        """No id is, or ever was, of two stars; and the objects are linked as they are to be."""
        for star, starids in self.ids().items():
            for starid in starids:
                assert self.star_of_id.setdefault(starid, star) == star
        assert unlinked_tiles(open_snapshot(self.storage)) == []

    def append(self) -> None:
        seeds = self.sky.seeds(self.steps + 1000 * self.seed)
        append(self.storage, [epochal_file(self.place, seeds, self.steps, UNITS[self.steps % 6])])

    def rematch(self) -> None:
        before = self.ids()
        place = self.place / f"references{self.steps}"
        place.mkdir()
        unit = UNITS[self.rng.integers(len(UNITS))]
        seeds = self.sky.seeds(self.steps + 7000 * self.seed, keep=0.8)
        rematch(self.storage, [str(reference_file(place, seeds, unit))], RematchConfig(), runner())
        after = self.ids()
        both = [star for star in before if star in after]
        self.surviving += len(both)
        self.kept += sum(bool(before[star] & after[star]) for star in both)

    def compact(self) -> None:
        compact(self.storage, CompactConfig(max_rows_per_tile=int(self.rng.integers(40, 200)), min_files=2), runner())

    def rollback(self) -> None:
        rollback(self.storage, int(self.rng.integers(1, open_snapshot(self.storage).number + 1)))

    def step(self) -> None:
        """One operation."""
        self.steps += 1
        chosen = self.rng.choice(["append", "rematch", "compact", "rollback"], p=[0.3, 0.4, 0.15, 0.15])
        getattr(self, str(chosen))()
        self.check()


def run_histories(place: Path, seeds: range, steps: int) -> tuple[int, int]:
    """Stars that were there before and after a rematch, and those of them that kept an id."""
    surviving = kept = 0
    for seed in seeds:
        (place / str(seed)).mkdir()
        history = History(place / str(seed), seed)
        for _ in range(steps):
            history.step()
        assert_proved(history.storage)
        surviving, kept = surviving + history.surviving, kept + history.kept
    return surviving, kept


def test_no_id_moves_to_another_star_in_random_histories(tmp_path: Path) -> None:
    surviving, kept = run_histories(tmp_path, range(1), 6)
    assert kept >= 0.999 * surviving > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_id_moves_to_another_star_in_a_hundred_histories(tmp_path: Path) -> None:
    surviving, kept = run_histories(tmp_path, range(100), 8)
    assert kept >= 0.999 * surviving > 1000
