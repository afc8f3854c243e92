"""Regenerated references: what is matched again equals a store made of the new references, and lineage the truth."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from helpers import append, assert_same, epochal_file, interrupted, make_store, reference_file, rows_at, table
from references import Links, regenerate
from store_checks import assert_links
from store_lineage import Link, links, side
from transient_groups import groups_of

import ztfmatch
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import BadInputError, CommitConflictError
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.survey import MAX_OBJECTID, refpsfcat_name, unit_of_objectid
from ztfmatch.query.lineage import describe
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate

CONFIG = SimulationConfig(n_exposures=5, stars_per_quadrant=600, fields=(679,))
GENERATION = 10**7


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rematch") / "sky"
    simulate(place, CONFIG)
    regenerate_references(place, CONFIG)
    regenerate_references(place, CONFIG, 2)
    return place


@dataclass(frozen=True)
class Known:
    """References changed in a known way, twice: the pairs that the first made are those that the second merges."""

    first: Path
    second: Path
    links: dict[str, Links]
    """What the second made of the first, by file name."""

    @property
    def number(self) -> int:
        return sum(len(links) for links in self.links.values())


@pytest.fixture(scope="module")
def known(sky: Path) -> Known:
    first, second = sky / "known_1", sky / "known_2"
    links = {}
    for seed, path in enumerate(sorted((sky / "references").rglob("*.fits"))):
        regenerate(path, first / path.name, seed)
        links[path.name] = regenerate(first / path.name, second / path.name, seed + 100)
    return Known(first, second, links)


def make(sky: Path, place: Path, references: str = "references") -> ztfmatch.Store:
    store = ztfmatch.init_store(place, str(sky / references), ztfmatch.StoreConfig(seeds_per_tile=900))
    store.append(str(sky / "catalogs"))
    return store


def content(store: ztfmatch.Store, number: int | None = None) -> dict[str, pa.Table]:
    """Rows of detections and orphans, with objectids as if of generation 0."""
    snapshot = store.snapshot(number)
    keys = [("exposureid", "ascending"), ("sourceid", "ascending")]
    tables = {}
    for name, link in (("detections", "objectid"), ("orphans", "nearestid")):
        rows = snapshot.table(name).sort_by(keys)
        ids = rows[link].to_numpy()
        known = ~np.isnan(ids.astype(float))
        ids = np.where(known, ids, 0).astype(np.int64)
        ids -= ids // GENERATION % 10 * GENERATION
        at = rows.schema.get_field_index(link)
        tables[name] = rows.set_column(at, rows.schema.field(at), pa.array(ids, pa.int64(), mask=~known))
    return tables


def assert_rematched(store: ztfmatch.Store, sky: Path, references: str, place: Path) -> None:
    """The newest snapshot is that of a store made of these references, and verifies."""
    assert content(store) == content(make(sky, place, references))
    assert store.verify(deep=True).passed


@pytest.mark.parametrize("workers", [0, 2])
def test_rematch_equals_a_store_made_of_the_new_references(sky: Path, tmp_path: Path, workers: int) -> None:
    store = make(sky, tmp_path / "store")
    before = content(store)
    report = store.rematch(str(sky / "references_1"), resources=ztfmatch.Resources(workers))
    assert (report.committed, len(report.units), report.known) == (True, 4, 0)
    assert content(store) != before
    assert_rematched(store, sky, "references_1", tmp_path / "fresh")
    assert content(store, 1) == before


def test_rematch_twice_with_appends_between_and_after(sky: Path, tmp_path: Path) -> None:
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=900))
    store.append(catalogs[::3])
    store.rematch(str(sky / "references_1"))
    store.append(catalogs[1::3])
    store.compact(CompactConfig(2, full=True))
    store.rematch(str(sky / "references_2"))
    store.append(catalogs)
    assert_rematched(store, sky, "references_2", tmp_path / "fresh")
    objects = store.snapshot().table("objects")
    states = zip(objects["generation"].to_pylist(), objects["status"].to_pylist(), strict=True)
    assert set(states) == {(0, "retired"), (1, "retired"), (2, "active")}
    assert len(set(objects["objectid"].to_pylist())) == objects.num_rows


def test_rollback_undoes_a_rematch(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    before = content(store)
    store.rematch(str(sky / "references_1"))
    store.rollback(1)
    assert content(store) == before
    assert store.snapshot().table("lineage").num_rows == 0
    assert store.verify(deep=True).passed
    assert store.rematch(str(sky / "references_1")).committed


def test_rematch_leaves_other_units_as_they_are(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    one = sorted((sky / "references_1").rglob("*zg*c05*.fits"))
    assert len(one) == 1
    report = store.rematch(str(one[0]))
    assert [unit.unit for unit in report.units] == ["000679_zg_c05_q1"]
    low, high = 679105100000000 - 10**6, 679105100000000 + 10**8
    others = (pc.field("objectid") < low) | (pc.field("objectid") >= high)
    before, after = (
        {name: table(store.storage, name, number).filter(others) for name in ("objects", "detections")}
        for number in (1, 2)
    )
    assert_same(before, after)
    assert before["detections"].num_rows > 100
    assert store.verify(deep=True).passed


def test_rematch_to_the_same_references_is_no_operation(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    report = store.rematch(str(sky / "references"))
    assert (report.committed, report.known, report.units) == (False, 4, [])
    store.rematch(str(sky / "references_1"))
    assert not store.rematch(str(sky / "references_1")).committed
    assert len(store.commits()) == 3


def test_dry_run_says_what_the_rematch_then_does_and_changes_nothing(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    files = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())
    would = store.rematch(str(sky / "references_1"), dry_run=True)
    assert sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file()) == files
    did = store.rematch(str(sky / "references_1"))
    assert (would.units, would.matched, would.orphans, would.tiles) == (did.units, did.matched, did.orphans, did.tiles)
    assert not would.committed


def test_unit_without_reference_gets_its_first_and_its_orphans_are_matched(sky: Path, tmp_path: Path) -> None:
    references = sorted((sky / "references").rglob("*.fits"))
    store = ztfmatch.init_store(
        tmp_path / "store", [str(path) for path in references[1:]], ztfmatch.StoreConfig(seeds_per_tile=900)
    )
    assert len(store.append(str(sky / "catalogs")).without_reference) == 1
    report = store.rematch(str(references[0]))
    assert [unit.generation for unit in report.units] == [0]
    assert report.units[0].new == report.units[0].seeds
    assert_rematched(store, sky, "references", tmp_path / "fresh")


def test_reference_of_a_unit_without_exposures_is_taken(sky: Path, tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    report = store.rematch(str(sky / "references_1"))
    assert (report.committed, report.exposures, len(report.units)) == (True, 0, 4)
    assert all(unit.lost and unit.new and unit.same for unit in report.units)
    store.append(str(sky / "catalogs"))
    assert_rematched(store, sky, "references_1", tmp_path / "fresh")


def test_reference_without_seeds_makes_orphans_of_all_epochs(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    append(storage, [epochal_file(tmp_path, rows)])
    report = ztfmatch.Store(storage).rematch(str(reference_file(tmp_path, rows[:0])))
    assert (report.matched, report.orphans, report.units[0].lost, report.units[0].epochs_moved) == (0, 2, 2, 2)
    assert table(storage, "orphans")["reason"].to_pylist() == ["no_seed", "no_seed"]
    assert ztfmatch.Store(storage).verify(deep=True).passed


def said_links(store: ztfmatch.Store) -> dict[str, Links]:
    """Lineage by the name of the unit's reference, with sourceids for objectids."""
    said: dict[str, Links] = {}
    for row in store.snapshot().table("lineage").to_pylist():
        if row["kind"] == "split" and row["newobjectid"] > MAX_OBJECTID:
            continue  # epochs that it left to a transient beside its successor
        unit = unit_of_objectid(row["objectid"] or row["newobjectid"])
        old, new = (None if row[name] is None else row[name] % GENERATION for name in ("objectid", "newobjectid"))
        new = None if row["kind"] == "lost" else new  # else the transient that its epochs became
        said.setdefault(refpsfcat_name(unit), {})[old, new] = row["kind"]
    return said


@pytest.mark.parametrize("workers", [0, 2])
def test_rematch_to_known_changes_equals_a_fresh_store_and_lineage_the_truth(
    sky: Path, known: Known, tmp_path: Path, workers: int
) -> None:
    """Sources moved by 0.1 to 0.6 arcsec, removed, added, split and merged, in units that lie in several tiles."""
    store = make(sky, tmp_path / "store", "known_1")
    rows = store.snapshot().status.detections + store.snapshot().status.orphans
    ledger = table(store.storage, "exposures", without=["commit"])
    report = store.rematch(str(known.second), resources=ztfmatch.Resources(workers))
    assert report.tiles > len(report.units) == 4
    assert report.matched + report.orphans == rows
    assert_rematched(store, sky, "known_2", tmp_path / "fresh")
    again = table(store.storage, "exposures", without=["commit"])
    fresh = table(ztfmatch.open_store(tmp_path / "fresh").storage, "exposures", without=["commit"])
    assert_same({"ledger": again}, {"ledger": fresh})
    assert again["digest"].equals(ledger["digest"])
    assert_lineage(store)
    said, kinds = said_links(store), {"same", "moved", "lost", "new"}
    wrong = [(name, link) for name, links in known.links.items() for link in links
             if links[link] in kinds and said[name].get(link) != links[link]]  # fmt: skip
    assert {kind for links in known.links.values() for kind in links.values()} == set(LINEAGE_KINDS)
    assert len(wrong) <= 0.001 * known.number, wrong
    divided = [
        said[name].get(link) for name, links in known.links.items() for link in links if links[link] not in kinds
    ]
    assert divided.count("split") > 10
    assert divided.count("merged") > 10


def assert_lineage(store: ztfmatch.Store) -> None:
    """The newest snapshot's lineage, of one rematch of all units, is what an oracle makes of all detections."""
    newest = store.snapshot().number
    tables = [
        {name: table(store.storage, name, number) for name in ("objects", "detections", "orphans", "exposures")}
        for number in (newest - 1, newest)
    ]
    groups = [groups_of(store.storage, number) for number in (newest - 1, newest)]
    units = {(row["field"], row["rcid"], row["fid"]) for row in tables[1]["objects"].to_pylist()}
    expected: dict[tuple[int, int], Link] = {}
    for unit in units:
        expected |= links(*(side(t["objects"], t, g, unit) for t, g in zip(tables, groups, strict=True)))
    rows = [row for row in store.snapshot().table("lineage").to_pylist() if row["snapshot"] == newest - 1]
    assert_links({(row["objectid"] or 0, row["newobjectid"] or 0): row for row in rows}, expected)


def test_rematch_to_known_changes_twice_with_appends_between_and_after_and_back(
    sky: Path, known: Known, tmp_path: Path
) -> None:
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=900))
    store.append(catalogs[::3])
    before = content(store)
    first = store.rematch(str(known.first))
    store.append(catalogs[1::3])
    second = store.rematch(str(known.second))
    store.append(catalogs)
    assert [report.units[0].generation for report in (first, second)] == [1, 2]
    assert_rematched(store, sky, "known_2", tmp_path / "fresh")
    links = store.snapshot().table("lineage").to_pylist()
    made = {row["newobjectid"] for row in links if row["snapshot"] == 1 and row["kind"] != "lost"}
    gone = {row["objectid"] for row in links if row["snapshot"] == 3 and (row["objectid"] or 0) <= MAX_OBJECTID}
    assert made == gone - {None}  # every object of the generation between has its ancestors and its descendants
    store.rollback(1)
    assert content(store) == before
    assert store.snapshot().table("lineage").num_rows == 0
    assert store.verify(deep=True).passed


def test_lineage_counts_are_those_of_the_lightcurves(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    store.rematch(str(sky / "references_1"))
    columns = ["objectid", "exposureid", "sourceid"]
    before, after = (store.snapshot(number).table("detections", columns=columns).to_pylist() for number in (1, 2))
    now = {(row["exposureid"], row["sourceid"]): row["objectid"] for row in after}
    was = {(row["exposureid"], row["sourceid"]): row["objectid"] for row in before}
    links = store.snapshot().table("transientdata").to_pylist()
    assert not now.keys() & {(row["exposureid"], row["sourceid"]) for row in links}
    now |= {(row["exposureid"], row["sourceid"]): row["transientid"] for row in links}
    shared = Counter((was[key], now[key]) for key in was.keys() & now.keys())
    length_before, length_after = Counter(was.values()), Counter(now.values())
    rows = store.snapshot().table("lineage").to_pylist()
    assert sum(row["nshared"] for row in rows) > 0.9 * len(was)
    for row in rows:
        old, new = row["objectid"], row["newobjectid"]
        assert row["nshared"] == shared[old, new]
        assert row["snapshot"] == 1
        for name, length in (("fractionold", length_before[old]), ("fractionnew", length_after[new])):
            expected = None if old is None or new is None or not length else pytest.approx(row["nshared"] / length)
            assert row[name] == expected


def test_lineage_follows_an_object_over_generations(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    store.rematch(str(sky / "references_1"))
    store.rematch(str(sky / "references_2"))
    snapshot = store.snapshot()
    links = snapshot.table("lineage").to_pylist()
    first = {row["objectid"]: row["newobjectid"] for row in links if row["kind"] == "same"}
    start = next(old for old in first if old // GENERATION % 10 == 0 and first.get(first[old]))
    chain = [start, first[start], first[first[start]]]
    for objectid in chain:
        rows = snapshot.lineage(objectid).to_pylist()
        assert [(row["objectid"], row["newobjectid"]) for row in rows] == list(itertools.pairwise(chain))
    assert [row["newobjectid"] for row in snapshot.successors(start).to_pylist()] == [chain[2]]
    assert snapshot.lineage().num_rows == len(links)
    assert snapshot.lightcurves(objectid=start).num_rows == 0
    assert snapshot.lightcurves(objectid=chain[2]).num_rows > 0


def test_lineage_of_an_object_that_shares_a_transient_with_an_old_orphan_has_the_fraction_of_all(
    tmp_path: Path,
) -> None:
    """The first night's detection is of the lost object, the second's, 2" away from it, was of none."""
    arcsec = 1.0 / 3600.0
    far = ([10.1, 10.2], [20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows_at([10.0, *far[0]], [20.0, *far[1]]))])
    nights = [rows_at([10.0], [20.0 + away * arcsec]) for away in (1.0, 2.0)]
    append(storage, [epochal_file(tmp_path, rows, night) for night, rows in enumerate(nights)])
    store = ztfmatch.Store(storage)
    store.rematch(str(reference_file(tmp_path, rows_at(*far))))
    (lost,) = (row for row in store.snapshot().lineage().to_pylist() if row["kind"] == "lost")
    assert store.snapshot().table("transientdata")["transientid"].to_pylist() == [lost["newobjectid"]] * 2
    assert (lost["nshared"], lost["fractionold"], lost["fractionnew"]) == (1, 1.0, 0.5)


def pair(place: Path, name: str, *seeds: tuple[float, float]) -> Path:
    """A reference with seeds of these magnitudes, so many arcsec north of one place, in this order."""
    north, mag = (np.array(values) for values in zip(*seeds, strict=True))
    return reference_file(place / name, rows_at(np.full(len(seeds), 10.0), 20.0 + north / 3600.0, mag=mag - 26.0))


def two_stars(place: Path, seeds: tuple[tuple[float, float], ...], nights: int = 20) -> ztfmatch.Store:
    """Stars of 16 and 19 mag 1.1 arcsec apart, both in every exposure, and a reference."""
    storage = make_store(place / "s", [pair(place, "old", *seeds)])
    both = rows_at([10.0, 10.0], [20.0, 20.0 + 1.1 / 3600.0])
    append(storage, [epochal_file(place, both, night) for night in range(nights)])
    return ztfmatch.Store(storage)


BRIGHT, FAINT = (0.0, 16.0), (1.1, 19.0)


def told(store: ztfmatch.Store) -> dict[int | None, tuple[Any, ...]]:
    """Kind, shared detections, and where the old one's epochs are now, by sourceid of the old one."""
    places = ("ninobjects", "nintransients", "norphaned")
    rows = store.snapshot().table("lineage").to_pylist()
    found = {row["objectid"] and row["objectid"] % GENERATION: row for row in rows if (row["objectid"] or 0) < 10**16}
    return {old: (row["kind"], row["nshared"], *(row[name] for name in places)) for old, row in found.items()}


def test_lineage_of_a_faint_neighbour_whose_seed_vanishes_is_lost_and_its_epochs_are_a_transient_beside(
    tmp_path: Path,
) -> None:
    store = two_stars(tmp_path, (BRIGHT, FAINT))
    (unit,) = store.rematch(str(pair(tmp_path, "new", BRIGHT))).units
    assert told(store) == {0: ("same", 20, 20, 0, 0), 1: ("lost", 20, 0, 20, 0)}
    assert (unit.same, unit.lost, unit.merged) == (1, 1, 0)
    (transient,) = store.snapshot().table("transients").to_pylist()
    bright = 500206100000000 + GENERATION
    assert (transient["nobs"], transient["besideid"], transient["nbeside"]) == (20, bright, 20)
    (lost,) = (row for row in store.snapshot().lineage().to_pylist() if row["kind"] == "lost")
    assert lost["newobjectid"] == transient["transientid"]
    assert store.verify(deep=True).passed


def test_lineage_of_a_seed_that_jumps_to_a_brighter_neighbour_is_lost_not_moved(tmp_path: Path) -> None:
    store = two_stars(tmp_path, (FAINT,))
    (unit,) = store.rematch(str(pair(tmp_path, "new", BRIGHT))).units
    assert told(store) == {0: ("lost", 20, 0, 20, 0), None: ("new", 0, None, None, None)}
    assert (unit.moved, unit.lost, unit.new) == (0, 1, 1)
    assert store.verify(deep=True).passed


def test_lineage_of_a_neighbour_that_had_no_seed_goes_from_transient_to_object(tmp_path: Path) -> None:
    """The reference finds the faint star too: the bright one is not split, the transient becomes an object."""
    store = two_stars(tmp_path, (BRIGHT,))
    assert store.update_transients().transients == 1
    (unit,) = store.rematch(str(pair(tmp_path, "new", FAINT, BRIGHT))).units
    assert (unit.same, unit.split, unit.new, unit.lost, unit.transients) == (1, 0, 0, 0, 1)
    rows = store.snapshot().lineage().to_pylist()
    links = [(row["kind"], row["newobjectid"] % GENERATION, row["nshared"]) for row in rows]
    assert links == [("same", 1, 20), ("same", 0, 20)]
    assert store.snapshot().table("transients").num_rows == 0


def test_seeds_never_detected_change_the_kind_of_no_neighbour(tmp_path: Path) -> None:
    """One that vanishes, one that appears and one that stays, all within the radius of a star that is seen."""
    star, gone, come, stays = (0.0, 16.0), (1.0, 21.0), (-1.0, 21.0), (0.7, 21.0)
    storage = make_store(tmp_path / "s", [pair(tmp_path, "old", star, gone, stays)])
    append(storage, [epochal_file(tmp_path, rows_at([10.0], [20.0]), night) for night in range(3)])
    store = ztfmatch.Store(storage)
    store.rematch(str(pair(tmp_path, "new", stays, come, star)))
    nothing = (0, 0, 0, 0)
    assert told(store) == {
        0: ("same", 3, 3, 0, 0), 1: ("lost", *nothing), 2: ("same", *nothing), None: ("new", 0, None, None, None),
    }  # fmt: skip


def test_describe_of_a_lost_object_says_where_its_epochs_are(tmp_path: Path) -> None:
    store = two_stars(tmp_path, (BRIGHT, FAINT))
    store.rematch(str(pair(tmp_path, "new", BRIGHT)))
    (lost,) = (row for row in store.snapshot().lineage().to_pylist() if row["kind"] == "lost")
    assert describe(lost) == (
        f"object {lost['objectid']} is retired: no source of the newer reference took its place; of its 20 epochs 20 "
        f"are of transient {lost['newobjectid']}, 0 of others, 0 of objects, and 0 are orphans alone"
    )


def test_eleventh_generation_is_refused_and_named(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    store = ztfmatch.Store(storage)
    append(storage, [epochal_file(tmp_path, rows)])
    for generation in range(1, 11):
        rows["flux"] += 1
        path = reference_file(tmp_path, rows)
        if generation < 10:
            assert len(store.rematch(str(path)).units) == 1
    with pytest.raises(BadInputError, match="is at generation 9, the last that an objectid can tell") as caught:
        store.rematch(str(path))
    assert [(row.code, row.filename) for row in caught.value.refused] == [("generations", path.name)]
    assert store.commits()[-1].number == 10
    assert store.snapshot().table("detections")["objectid"].to_pylist() == [500206190000000, 500206190000001]
    with pytest.raises(BadInputError, match=r"--strict: 1 bad reference catalogs; .* is at generation 9, the last"):
        store.rematch(str(path), RematchConfig(strict=True))


def test_bad_reference_is_refused_whole_and_the_good_one_taken(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    good, bad = sorted((sky / "references_1").rglob("*.fits"))[:2]
    spoilt = tmp_path / bad.name
    with fits.open(bad) as hdus:
        hdus[1].data["ra"][3] = np.nan
        hdus.writeto(spoilt)
    report = store.rematch([str(good), str(spoilt)])
    assert len(report.units) == 1
    assert [(row.code, row.filename) for row in report.quarantined] == [("positions", bad.name)]
    assert "sourceid" in report.quarantined[0].reason
    assert store.rematch(str(bad)).committed
    assert store.snapshot().table("quarantine").num_rows == 0


def test_reference_with_a_sourceid_twice_is_refused_and_changes_nothing(sky: Path, tmp_path: Path) -> None:
    store = make(sky, tmp_path / "store")
    before = content(store)
    original = min((sky / "references_1").rglob("*.fits"))
    spoilt = tmp_path / original.name
    with fits.open(original) as hdus:
        hdus[1].data["sourceid"][7] = hdus[1].data["sourceid"][3]
        hdus.writeto(spoilt)
    with pytest.raises(BadInputError, match=f"none of 1 reference catalogs .*{original.name}: .*sourceid 3"):
        store.rematch(str(spoilt))
    assert content(store) == before
    assert len(store.rematch([str(spoilt), *map(str, (sky / "references").rglob("*.fits"))]).quarantined) == 1
    assert content(store) == before
    with pytest.raises(BadInputError, match=f"--strict: 1 bad reference catalogs; .*{original.name}.*sourceid 3"):
        store.rematch(str(spoilt), RematchConfig(strict=True))


def test_append_of_other_units_meanwhile_does_not_stop_a_rematch(sky: Path, tmp_path: Path) -> None:
    catalogs = sorted((sky / "catalogs").rglob("*.fits"))
    ours = [str(path) for path in catalogs if "_zg_c05" in path.name]
    others = [str(path) for path in catalogs if "_zr_c08" in path.name]
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    store.append(ours)
    reference = str(next((sky / "references_1").rglob("*zg*c05*.fits")))
    report = rematch(store.storage, [reference], RematchConfig(), interrupted("lineage", lambda: store.append(others)))
    assert report.snapshot == 3
    assert store.verify(deep=True).passed
    assert store.snapshot().table("references")["commit"].to_pylist().count(3) == 1


def test_append_of_the_same_unit_meanwhile_stops_a_rematch(sky: Path, tmp_path: Path) -> None:
    ours = sorted(str(path) for path in (sky / "catalogs").rglob("*_zg_c05*.fits"))
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    store.append(ours[:2])
    reference = str(next((sky / "references_1").rglob("*zg*c05*.fits")))
    with pytest.raises(CommitConflictError):
        rematch(store.storage, [reference], RematchConfig(), interrupted("lineage", lambda: store.append(ours[2:])))
    assert len(store.commits()) == 3
    assert store.rematch(reference).committed
    assert store.verify(deep=True).passed


def test_bad_reference_in_both_writers_is_quarantined_once(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    path = reference_file(tmp_path, rows)
    store = ztfmatch.Store(make_store(tmp_path / "store", [path]))
    bad = tmp_path / "bad" / path.name
    bad.parent.mkdir()
    bad.write_bytes(path.read_bytes()[:-2881])
    ours, theirs = RematchConfig(), RematchConfig(rows_per_task=7)
    meanwhile = interrupted("lineage", lambda: store.rematch([str(path), str(bad)], theirs))
    report = rematch(store.storage, [str(path), str(bad)], ours, meanwhile)
    assert (report.committed, report.snapshot, len(report.quarantined)) == (False, 1, 1)
    assert store.snapshot().table("quarantine")["source"].to_pylist() == [str(bad)]
    assert len(store.commits()) == 2


def test_rematch_on_top_of_another_quarantine_keeps_both_entries(tmp_path: Path) -> None:
    """The other writer has written the quarantine anew, since a file of it was mended."""
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    path = reference_file(tmp_path, rows)
    store = ztfmatch.Store(make_store(tmp_path / "store", [path]))
    *catalogs, good = (epochal_file(tmp_path, rows, night) for night in range(3))
    contents = [catalog.read_bytes() for catalog in catalogs]
    for catalog in catalogs:
        catalog.write_bytes(b"")
    store.append([str(catalog) for catalog in (*catalogs, good)])
    catalogs[0].write_bytes(contents[0][:2880])
    bad = tmp_path / "bad" / path.name
    bad.parent.mkdir()
    bad.write_bytes(path.read_bytes()[:-2881])
    meanwhile = interrupted("lineage", lambda: store.append([str(catalogs[0]), str(good)]))
    report = rematch(store.storage, [str(path), str(bad)], RematchConfig(), meanwhile)
    assert (report.committed, report.snapshot) == (True, 3)
    sources = [str(file) for file in (bad, *catalogs)]
    assert sorted(store.snapshot().table("quarantine")["source"].to_pylist()) == sorted(sources)


@pytest.mark.parametrize(("limit", "files"), [(200_000, 1), (4, 2), (1, 4)])
def test_rematch_makes_few_ledger_files_of_many_and_leaves_those_of_other_units(
    sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, files: int
) -> None:
    monkeypatch.setattr("ztfmatch.core.operations.ledgerrevision.ROWS_PER_RECOUNT", limit)
    ours, others = ([str(path) for path in sorted((sky / "catalogs").rglob(f"*_{name}_*"))]
                    for name in ("zg_c05", "zg_c08"))  # fmt: skip
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    for number in range(4):
        store.append([ours[number], others[number]])
    store.append(others[4])
    before = table(store.storage, "exposures", without=["nmatched", "norphans"])
    paths = set(store.snapshot().paths("exposures"))
    store.rematch(str(next((sky / "references_1").rglob("*zg*c05*.fits"))))
    assert_same({"ledger": before}, {"ledger": table(store.storage, "exposures", without=["nmatched", "norphans"])})
    after = set(store.snapshot().paths("exposures"))
    assert (len(paths), len(after), len(paths & after)) == (5, files + 1, 1)
    assert store.verify(deep=True).passed
