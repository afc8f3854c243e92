"""Every kind of file altered, cut, lost or exchanged: verify names it, and readers fail rather than tell untruths."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from faults import (
    Sky,
    append_first,
    append_rest,
    command,
    content,
    copy,
    correct_all,
    import_legacy,
    init,
    make_sky,
    match_again,
    rows_digest,
    stars,
    statistics,
    transients,
    vacuum_old,
)
from helpers import UNIT

import ztfmatch
from ztfmatch.core.errors import StoreDamagedError, StoreFormatError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.commit import commit_on_top
from ztfmatch.core.operations.common import write_rows
from ztfmatch.core.schema import OFFSETS, TABLES
from ztfmatch.core.schema.stars import LINK_TABLES

RECORDS = ("store", "commit", "older commit", "manifest", "tiling")
KINDS = (*TABLES, *RECORDS)
FLIPS = 100


def offsets(store: Path, sky: Sky) -> None:
    """Of the unit, as if it shared stars with others: to measure them takes more stars than there are."""
    snapshot = open_snapshot(Storage.at(store))
    row = {"field": UNIT.field, "rcid": UNIT.rcid, "fid": UNIT.fid, "offset": 0.01, "error": 0.001, "nstars": 9}
    rows = [{**row, "group": 0, "nunits": 2, "snapshot": snapshot.number}]
    files = write_rows(snapshot.storage, OFFSETS, rows, snapshot.number + 1, "0" * 12)
    commit_on_top(snapshot, lambda _: log.Change("offsets", "by hand", {}, {}, files), lambda _: None)


def make_store(place: Path, brightness: float) -> Path:
    """A store whose newest snapshot has files of every table."""
    place.mkdir()
    sky = make_sky(place, brightness=brightness)
    steps = (init, append_first, match_again, append_rest, correct_all, offsets, statistics, transients, stars)
    for step in (*steps, import_legacy):
        step(place / "store", sky)
    return place / "store"


@dataclass(frozen=True)
class Stores:
    """A store, one of another sky, and the digests of the tables of the first."""

    whole: Path
    other: Path
    content: dict[str, str]
    """Of its newest snapshot."""
    older: dict[str, str]
    """Of its snapshot 1."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    place = tmp_path_factory.mktemp("damage")
    whole = make_store(place / "one", 0.0)
    return Stores(whole, make_store(place / "other", 0.5), content(whole), content(whole, 1))


@pytest.fixture
def copied(stores: Stores, tmp_path: Path) -> Path:
    """A copy of the store, to be damaged."""
    return Path(shutil.copytree(stores.whole, tmp_path / "store"))


def file_of(store: Path, kind: str, last: bool = True) -> Path:
    """A file of a kind; the last or the first of the snapshot's."""
    snapshot = open_snapshot(Storage.at(store))
    names = {
        "store": [paths.STORE_FILE],
        "commit": [paths.commit(snapshot.number)],
        "older commit": [paths.commit(1)],
        "manifest": [paths.manifest(part.id) for part in snapshot.commit.manifests],
        "tiling": [paths.tiling(snapshot.commit.tiling)],
    }
    found = names[kind] if kind in names else [file.path for file in snapshot.of_table(kind) if file.rows]
    return store / found[-1 if last else 0]


def flip(at: float) -> Callable[[Path, Path], None]:
    def damage(file: Path, other: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(at * len(data))] ^= 0x10
        file.write_bytes(data)

    return damage


def cut(to: float) -> Callable[[Path, Path], None]:
    return lambda file, other: file.write_bytes(file.read_bytes()[: int(to * len(file.read_bytes()))]) and None


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "first half flipped": flip(0.3),
    "second half flipped": flip(0.7),
    "cut": cut(0.8),
    "emptied": cut(0.0),
    "lost": lambda file, other: file.unlink(),
    "exchanged": lambda file, other: shutil.copy(other, file) and None,
}
CASES = [(kind, damage) for kind in KINDS for damage in DAMAGES]


def damaged(stores: Stores, store: Path, kind: str, damage: str) -> str:
    """Damage a file, and return its path in the store."""
    file = file_of(store, kind)
    other = file_of(stores.other, kind)
    same = ("tiling", "transientdata", "corrections", "exposureterms", "colours", "offsets")
    alike = kind in (*same, *LINK_TABLES)  # whatever the sky
    assert file.read_bytes() != other.read_bytes() or alike
    if alike and damage == "exchanged":
        other = file_of(stores.other, "store")
    DAMAGES[damage](file, other)
    return str(file.relative_to(store))


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_verify_deep_names_the_file_and_exits_1(stores: Stores, copied: Path, kind: str, damage: str) -> None:
    name = damaged(stores, copied, kind, damage)
    done = command("verify", copied, "--deep")
    assert done.exit_code == 1
    line = next(line for line in (done.stdout + done.stderr).splitlines() if name in line)
    if kind in TABLES:
        tile = ", tile N" if "Npix=" in name else ""
        assert f"(table {kind}{tile}" in line
        assert ", snapshot " in line
    elif done.stderr:
        assert done.stderr.count("\n") == 1


def test_verify_newest_record_lost_names_the_files_that_it_had(copied: Path) -> None:
    """Without --deep too; the next append would commit in its place."""
    snapshot = open_snapshot(Storage.at(copied))
    (copied / paths.commit(snapshot.number)).unlink()
    report = ztfmatch.open_store(copied).verify()
    check = next(check for check in report.checks if check.check == "newest")
    assert (report.passed, report.snapshot) == (False, snapshot.number - 1)
    written = {path for path in snapshot.files.paths() if f"/{snapshot.number:010d}-" in path}
    assert check.violations == len(written) + 1  # the manifest
    assert min(written) in (check.example or "")
    assert f"{paths.commit(snapshot.number)} was lost" in (check.example or "")
    assert [check.check for check in report.checks if not check.passed] == ["newest"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", TABLES)
def test_readers_of_a_damaged_file_fail(stores: Stores, copied: Path, table: str, damage: str) -> None:
    holder = "detections" if table == "detections" else "objects"
    objectid = ztfmatch.open_store(copied).snapshot().table(holder)["objectid"][-1].as_py()
    name = damaged(stores, copied, table, damage)
    with pytest.raises(StoreDamagedError, match=name):
        ztfmatch.open_store(copied).snapshot().table(table)
    with pytest.raises(StoreDamagedError, match=name):
        open_snapshot(Storage.at(copied)).read(table)
    if table in ("stars", "members"):
        done = command("lightcurve", copied, "--cone", 90.0, 66.4, 100.0, "--by-star")
        assert (done.exit_code, name in done.stderr, done.stderr.count("\n")) == (1, True, 1)
    if table in ("detections", "objects", "references"):
        done = command("lightcurve", copied, "--objectid", objectid)
        assert done.exit_code == 1
        assert name in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("table", ["objects", "detections", "orphans"])
def test_file_of_another_tile_is_found(copied: Path, table: str) -> None:
    first, last = file_of(copied, table, last=False), file_of(copied, table)
    assert first.parent != last.parent
    shutil.copy(first, last)
    done = command("verify", copied, "--deep", "--json")
    assert done.exit_code == 1
    assert str(last.relative_to(copied)) in done.stdout
    with pytest.raises(StoreDamagedError, match=last.name):
        ztfmatch.open_store(copied).snapshot().table(table)


COMMANDS: dict[str, tuple[object, ...]] = {
    "status": (),
    "history": (),
    "diff": (0, 9),
    "quarantine": (),
    "lightcurve": ("--cone", 90.0, 66.4, 100.0),
    "link": (),
    "stars": (),
    "verify": (),
    "append": ("CATALOGS",),
    "compact": ("--full", "--min-files", 2),
    "statistics": (),
    "transients": (),
    "lineage": (),
    "rollback": (1,),
    "vacuum": ("--keep", 1, "--grace-hours", 0),
}
READ_BY_ALL = ("store", "commit", "manifest")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_on_a_damaged_store_works_or_says_in_one_line_which_file_it_is(
    stores: Stores, tmp_path: Path, name: str
) -> None:
    catalogs = str(stores.whole.parent / "*_psfcat.fits")
    arguments = [catalogs if argument == "CATALOGS" else argument for argument in COMMANDS[name]]
    stopped = set()
    for kind in KINDS:
        store = copy(stores.whole, tmp_path / "store")
        file = damaged(stores, store, kind, "second half flipped")
        done = command(name, store, *arguments)
        if done.exit_code:
            stopped.add(kind)
            assert done.exit_code == 1
            assert done.stderr.count("\n") == 1
            assert file in done.stderr
    assert stopped >= ({"commit"} if name == "history" else set(READ_BY_ALL))


def positions(file: Path, number: int, seed: int) -> list[tuple[int, int]]:
    """Byte positions, and what to flip in them; all of them if there are no more than the number."""
    rng, size = np.random.default_rng(seed), file.stat().st_size
    at = np.arange(size) if size <= number else np.sort(rng.choice(size, number, replace=False))
    return list(zip(at.tolist(), rng.integers(1, 256, len(at)).tolist(), strict=True))


def assert_flips_are_found_or_harmless(stores: Stores, store: Path, kind: str, number: int) -> None:
    """Read what a file is read for with one byte changed, then another: an error, or exactly the right rows."""
    file = file_of(store, kind)
    whole = file.read_bytes()
    tables = {kind} if kind in TABLES else {"references", "objects"}
    right = stores.older if kind == "older commit" else stores.content
    found = 0
    for at, bits in positions(file, number, 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        try:
            snapshot = ztfmatch.open_store(store).snapshot(1 if kind == "older commit" else None)
            assert len(snapshot.files.tiling.tiles) == 12, at
            for name in tables:
                assert rows_digest(snapshot.files.read(name)) == right[name], at
                assert rows_digest(snapshot.table(name)) == right[name], at
        except StoreDamagedError:
            found += 1
        except StoreFormatError:
            assert kind == "store"
            found += 1
    file.write_bytes(whole)
    assert found > 0


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_are_found_or_harmless(stores: Stores, copied: Path, kind: str) -> None:
    assert_flips_are_found_or_harmless(stores, copied, kind, FLIPS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_is_found_or_harmless(stores: Stores, copied: Path, kind: str) -> None:
    assert_flips_are_found_or_harmless(stores, copied, kind, 10**9)


def test_damaged_limit_of_a_vacuum_stops_the_next_one(copied: Path) -> None:
    sky = make_sky(copied.parent)
    vacuum_old(copied, sky)
    limit = copied / paths.RETAINED_FILE
    limit.write_bytes(limit.read_bytes().replace(b'"oldest": 9', b'"oldest": 8'))
    before = sorted(copied.rglob("*"))
    done = command("vacuum", copied, "--keep", 1, "--grace-hours", 0)
    assert done.exit_code == 1
    assert done.stderr.startswith("ztfmatch: retained.json in ")
    assert sorted(copied.rglob("*")) == before
