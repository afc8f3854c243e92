"""The commands of stars: on a small store of two fields and two filters, whose stars a person can count."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from commandline import call, done, report
from helpers import ARCSEC, epochal_file, reference_file, rows_at
from matchfiles import make_content, write_matchfile

import ztfmatch
from ztfmatch.core.io.storefile import FORMAT_VERSION
from ztfmatch.core.kernels.starids import name_of_star
from ztfmatch.core.survey import Unit

UNITS = [Unit(500, 20, 1), Unit(500, 20, 2), Unit(501, 3, 1)]
RA = 10.0 + np.array([0.0, 30.0, 60.0]) * ARCSEC / np.cos(np.radians(20.0))
NIGHTS = 3


@dataclass(frozen=True)
class Stars:
    """A store with stars; the last unit has not the third of them."""

    place: Path

    @property
    def store(self) -> Path:
        return self.place / "store"

    @property
    def members(self) -> dict[int, int]:
        """Starid of each object."""
        rows = ztfmatch.open_store(self.store).snapshot().table("members").to_pylist()
        return {row["objectid"]: row["starid"] for row in rows}


def seeds(number: int, shift: float = 0.0) -> np.ndarray:
    return rows_at(RA[:number], np.full(number, 20.0 + shift * ARCSEC))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Stars:
    place = tmp_path_factory.mktemp("stars")
    for i, (unit, number) in enumerate(zip(UNITS, (3, 3, 2), strict=True)):
        reference_file(place, seeds(number), unit)
        for night in range(NIGHTS):
            epochal_file(place, seeds(number, 0.1), 10 * i + night, unit)
    done("init", place / "store", "--references", place / "*refpsfcat.fits")
    done("append", place / "store", place / "*_psfcat.fits")
    done("stars", place / "store")
    return Stars(place)


@pytest.fixture
def copied(made: Stars, tmp_path: Path) -> Stars:
    """To be changed."""
    shutil.copytree(made.store, tmp_path / "store")
    return Stars(tmp_path)


def refused(*arguments: object) -> str:
    """The one line that a command which exits with 2 says."""
    result = call(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    return result.stderr


def test_link_finds_nothing_left_after_an_init(made: Stars) -> None:
    assert sorted(made.members.values()).count(max(made.members.values())) in (2, 3)
    assert len(set(made.members.values())) == 3
    assert "All stars are up to date" in done("link", made.store)


def test_status_says_whether_stars_are_up_to_date(copied: Stars) -> None:
    assert report("status", copied.store)["stars"] == "up to date"
    assert "stars                 up to date" in done("status", copied.store)
    legacy = write_matchfile(copied.place, make_content(sources=9, exposures=12, centre=(10.0, 20.0)))
    done("import", "matchfile", copied.store, legacy)
    assert report("status", copied.store)["stars"].endswith("tiles are stale")
    assert "run 'ztfmatch link'" in refused("lightcurve", copied.store, "--star", legacy_object(copied))
    done("link", copied.store)
    assert report("status", copied.store)["stars"] == "up to date"
    assert report("lightcurve", copied.store, "--star", legacy_object(copied)) != []


def test_release_by_star_counts_stars(made: Stars, tmp_path: Path) -> None:
    (tmp_path / "scope.toml").write_text('release = "dr1"\n\n[[programs]]\nid = 1\n')
    said = done("publish", "hats", made.store, tmp_path / "out", "--release", tmp_path / "scope.toml", "--by", "star")
    assert ": 3 stars, " in said


def legacy_object(stars: Stars) -> int:
    """One that an import brought."""
    rows = ztfmatch.open_store(stars.store).snapshot().table("objects").to_pylist()
    return next(int(row["objectid"]) for row in rows if Unit(row["field"], row["rcid"], row["fid"]) not in UNITS)


def test_a_star_is_given_by_starid_name_and_any_of_its_objects(made: Stars) -> None:
    objectid, starid = next(iter(made.members.items()))
    mine = [one for one, star in made.members.items() if star == starid]
    answers = [report("lightcurve", made.store, "--star", name) for name in (starid, name_of_star(starid), objectid)]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == NIGHTS * len(mine)
    assert {row["starid"] for row in answers[0]} == {starid}
    assert {row["objectid"] for row in answers[0]} == set(mine)
    assert [row["hmjd"] for row in answers[0]] == sorted(row["hmjd"] for row in answers[0])
    two = report("lightcurve", made.store, "--star", starid, "--star", max(made.members.values()))
    assert {row["starid"] for row in two} == {starid, max(made.members.values())}


def test_a_star_in_one_filter_and_its_statistics(made: Stars) -> None:
    starid = min(made.members.values())
    assert {row["fid"] for row in report("lightcurve", made.store, "--star", starid, "--filter", "g")} == {1}
    (row,) = report("lightcurve", made.store, "--star", starid, "--statistics")
    assert (row["starid"], row["n_g"], row["n_r"], row["nobjects"]) == (starid, 2 * NIGHTS, NIGHTS, 3)


def test_a_cone_by_star_is_the_epochs_of_its_stars(made: Stars, tmp_path: Path) -> None:
    cone = ("--cone", RA[1], 20.0, 5.0)
    rows = report("lightcurve", made.store, *cone, "--by-star")
    (starid,) = {row["starid"] for row in rows}
    assert rows == report("lightcurve", made.store, "--star", starid)
    by_object = report("lightcurve", made.store, *cone)
    assert sorted((row["objectid"], row["hmjd"]) for row in by_object) == sorted(
        (row["objectid"], row["hmjd"]) for row in rows
    )
    done("lightcurve", made.store, *cone, "--by-star", "--output", tmp_path / "stars.csv")
    assert pyarrow.csv.read_csv(tmp_path / "stars.csv")["starid"].to_pylist() == [row["starid"] for row in rows]
    everywhere = report("lightcurve", made.store, "--cone", RA[1], 20.0, 60.0, "--by-star", "--statistics")
    assert {row["starid"] for row in everywhere} == set(made.members.values())
    empty = call("lightcurve", made.store, "--cone", 200, 20, 5, "--by-star")
    assert (empty.exit_code, "no epoch found" in empty.stderr) == (0, True)


def test_a_star_is_drawn(made: Stars, tmp_path: Path) -> None:
    picture = tmp_path / "star.png"
    shown = call("lightcurve", made.store, "--star", min(made.members.values()), "--plot", picture)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_query_selects_stars(made: Stars) -> None:
    rows = report("query", made.store, "--select", "stars", "--where", f"n_g == {NIGHTS} and nobjects == 2")
    assert [row["starid"] for row in rows] == [max(made.members.values())]


def test_what_is_no_star_is_refused(made: Stars) -> None:
    starid = min(made.members.values())
    assert f"has no star {starid + 1} ({name_of_star(starid + 1)}), nor had it" in refused(
        "lightcurve", made.store, "--star", starid + 1
    )
    assert "'Vega' names no star: expected a starid" in refused("lightcurve", made.store, "--star", "Vega")
    unknown = min(made.members) + 99
    assert f"has no object {unknown}" in refused("lightcurve", made.store, "--star", unknown)
    usage = call("lightcurve", made.store, "--star", starid, "--by-star")
    assert (usage.exit_code, "--by-star is about the stars in a --cone" in usage.stderr) == (2, True)


def test_the_star_of_a_retired_object_is_followed_and_said(copied: Stars) -> None:
    """Objects of the first unit retire; its third star moves away and is found by what it became."""
    before = copied.members
    anew = seeds(3, 0.2)
    anew["dec"][2] += 20.0 * ARCSEC
    new = reference_file(copied.place, anew, UNITS[0])
    done("rematch", copied.store, "--references", new)
    retired = min(before)
    result = call("lightcurve", copied.store, "--star", retired, "--json")
    assert result.exit_code == 0
    assert f"ztfmatch: object {retired} retired and became object" in result.stderr
    rows = json.loads(result.stdout)
    assert {row["starid"] for row in rows} == {before[retired]}
    assert retired not in {row["objectid"] for row in rows}
    lost = next(one for one, star in before.items() if star == max(before.values()))
    assert f"object {lost} retired and has no object in its place" in refused(
        "lightcurve", copied.store, "--star", lost
    )


def test_a_star_that_is_no_more_is_followed_and_said(copied: Stars) -> None:
    """Three references without the second star: nothing is left of it."""
    (copied.place / "new").mkdir()
    gone = sorted(set(copied.members.values()))[1]
    for unit, number in zip(UNITS, (3, 3, 2), strict=True):
        reference_file(copied.place / "new", np.delete(seeds(number), 1), unit)
    done("rematch", copied.store, "--references", copied.place / "new")
    said = refused("lightcurve", copied.store, "--star", gone)
    assert f"star {gone} ({name_of_star(gone)}) was lost" in said
    assert "nothing is left of it" in said


def test_a_store_without_stars_says_how_to_make_them(copied: Stars) -> None:
    done("rollback", copied.store, 0)
    shutil.rmtree(copied.store)
    done("init", copied.store, "--references", reference_file(copied.place, seeds(3), UNITS[0]), "--no-link")
    any_star: list[tuple[Any, ...]] = [("--star", 116281990325717300), ("--cone", RA[0], 20.0, 5, "--by-star")]
    for asked in any_star:
        assert "has no stars in snapshot 0: run 'ztfmatch link' first" in refused("lightcurve", copied.store, *asked)
    assert "has no stars yet: run 'ztfmatch link' first" in refused("stars", copied.store)


@pytest.mark.parametrize("command", ["link", "stars", "offsets"])
def test_a_store_of_an_older_format_is_refused(copied: Stars, command: str) -> None:
    file = copied.store / "store.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": FORMAT_VERSION - 1}))
    assert f"has store format {FORMAT_VERSION - 1}" in refused(command, copied.store)
    assert "recreate it with" in refused("lightcurve", copied.store, "--star", min(116281990325717300, 10**18))


@pytest.mark.parametrize("option", [("--ps1", "x"), ("--update", "x"), ("--extend", "x"), ("--program", "1")])
def test_calibrate_internal_refuses_what_it_would_not_use(made: Stars, tmp_path: Path, option: tuple[str, ...]) -> None:
    result = call("calibrate", made.store, "--internal", "--output", tmp_path / "corrections", *option)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--internal goes without" in result.stderr
