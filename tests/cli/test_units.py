"""Work that is divided into units makes what the command alone does, whoever does them, when, and how often."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import call, done
from faults import (
    Operation,
    Sky,
    append_first,
    append_rest,
    compact_all,
    copy,
    init,
    init_unlinked,
    make_sky,
    statistics,
)
from report_scene import UNITS, make_scene, make_scene_store, write_scene

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

RELEASE = 'release = "dr1"\n\n[[programs]]\nid = 1\n'


@dataclass(frozen=True)
class Case:
    """A command, and what comes before it."""

    words: str
    before: tuple[Operation, ...] = (init, append_first, append_rest)


FULL = (init, append_first, append_rest, compact_all, statistics)
CASES = {
    "init": Case("init {store} --references {reference} --seeds-per-tile 3", ()),
    "init without stars": Case("init {store} --references {reference} --seeds-per-tile 3 --no-link", ()),
    "append": Case("append {store} {catalogs} --rows-per-task 3", (init, append_first)),
    "statistics": Case("statistics {store}"),
    "transients": Case("transients {store}"),
    "link": Case("link {store}", (init_unlinked, append_first, append_rest)),
    "stars": Case("stars {store}"),
    "rematch": Case("rematch {store} --references {regenerated}"),
    "rematch without stars": Case("rematch {store} --references {regenerated}", (init_unlinked, append_first)),
    "correct": Case("correct {store} {corrections}", (init, append_first, append_rest, statistics)),
    "compact": Case("compact {store} --min-files 2"),
    "compact of tiles that are split": Case("compact {store} --min-files 2 --max-rows-per-tile 3"),
    "verify": Case("verify {store} --deep"),
    "import": Case("import matchfile {store} {matchfile}", (init, append_first)),
    "import of a new store": Case("import matchfile {store} {matchfile} --create", ()),
    "export matchfile": Case("export matchfile {store} --output {product}", FULL),
    "export kowalski": Case("export kowalski {store} {product}", FULL),
    "publish hats": Case("publish hats {store} {product} --release {release}", FULL),
    "publish objects": Case("publish objects {store} {product} --release {release}", FULL),
    "publish bulk": Case("publish bulk {store} {product} --release {release}", FULL),
    "publish tar": Case("publish tar {store} {product} --release {release} --cone 90 66.4 1deg --label some", FULL),
    "view hats": Case("view hats {store} {product}", FULL),
}


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


def words_of(case: Case, sky: Sky, place: Path) -> list[str]:
    release = place / "release.toml"
    release.write_text(RELEASE)
    names = {
        "store": place / "store",
        "product": place / "product",
        "release": release,
        "reference": sky.references[0],
        "regenerated": sky.regenerated[0],
        "catalogs": " ".join(sky.catalogs),
        "corrections": sky.corrections,
        "matchfile": sky.matchfiles[0],
    }
    return case.words.format(**names).split()


TIMED = {"commits", "manifests", "store.json", "about.json"}
"""What says when it was made."""


def files_in(place: Path) -> dict[str, bytes]:
    """Content of every file that is the same in every run."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and TIMED.isdisjoint(path.relative_to(place).parts)
    }


def count(units: Path) -> int:
    return int(json.loads(done("work", units, "--count", "--json"))["units"])


def work_and_finish(words: Sequence[str], units: Path) -> int:
    """Do a command by units in random order, some twice; how many there were."""
    done(*words, "--units", units)
    number = count(units)
    order = [*range(number), *range(0, number, 2)]
    random.Random(1).shuffle(order)
    for unit in order:
        done("work", units, "--unit", unit)
    done("finish", units)
    return number


@pytest.mark.parametrize("name", CASES)
def test_units_make_what_the_command_makes(name: str, sky: Sky, tmp_path: Path) -> None:
    case, made = CASES[name], []
    place = tmp_path / "place"
    place.mkdir()
    for step in case.before:
        step(place / "store", sky)
    before = copy(place, tmp_path / "before")
    for by_units in (False, True):
        copy(before, place)
        words = words_of(case, sky, place)
        if by_units:
            assert work_and_finish(words, tmp_path / "units") >= 1
        else:
            done(*words)
        made.append(files_in(place))
    assert made[0].keys() == made[1].keys()
    assert [path for path in made[0] if made[0][path] != made[1][path]] == []
    again = call("finish", tmp_path / "units")
    assert (again.exit_code, "finished before" in again.stdout) == (0, True)


@pytest.mark.parametrize("command", ["calibrate", "report"])
def test_units_make_the_photometry_that_the_command_makes(command: str, tmp_path: Path) -> None:
    ps1 = write_scene(tmp_path / "catalogs", [make_scene(unit) for unit in UNITS])
    make_scene_store(tmp_path / "store", tmp_path / "catalogs")
    made = []
    for output in ("alone", "by units"):
        words = [command, str(tmp_path / "store"), "--ps1", str(ps1), "--output", str(tmp_path / output)]
        if output == "alone":
            done(*words)
        else:
            work_and_finish(words, tmp_path / "units")
        made.append(files_in(tmp_path / output))
    assert made[0].keys() == made[1].keys()
    assert [path for path in made[0] if made[0][path] != made[1][path]] == []


@pytest.fixture
def store(sky: Sky, tmp_path: Path) -> Path:
    """With objects alone."""
    init(tmp_path / "store", sky)
    return tmp_path / "store"


@pytest.fixture
def planned(sky: Sky, store: Path, tmp_path: Path) -> Path:
    """The units of an append of two nights, in a directory that can get others."""
    nights = tmp_path / "nights"
    nights.mkdir()
    for catalog in sky.catalogs[:2]:
        shutil.copy(catalog, nights)
    done("append", store, nights, "--units", tmp_path / "units", "--rows-per-task", 3)
    return tmp_path / "units"


def test_finish_before_all_is_done_fails_and_names_the_units(store: Path, planned: Path) -> None:
    last = count(planned) - 1
    assert last >= 2
    done("work", planned, "--unit", f"1-{last - 1}")
    result = call("finish", planned)
    assert result.exit_code == 1
    said = f"matching: 2 of {last + 1} units of work are not done: 0,{last}; nothing was committed"
    assert said in result.stderr
    assert json.loads(done("work", planned, "--count", "--json")) == {"units": last + 1, "missing": [0, last]}
    assert commit_numbers(Storage.at(store)) == [0]
    done("work", planned, "--unit", f"0,{last}")
    assert done("finish", planned).startswith("Snapshot 1: 2 exposures")


def test_what_comes_between_plan_and_finish_does_not_matter(sky: Sky, store: Path, planned: Path) -> None:
    """Another commits, and a catalog arrives, which is for the next append."""
    done("statistics", store)
    shutil.copy(sky.catalogs[2], planned.parent / "nights")
    done("work", planned, "--share", "0/1")
    found = json.loads(done("finish", planned, "--json"))
    assert (found["snapshot"], found["catalogs"], found["exposures"]) == (2, 2, 2)


def test_shares_are_all_units_once(planned: Path) -> None:
    for part in range(7):
        done("work", planned, "--share", f"{part}/7")
    assert json.loads(done("work", planned, "--count", "--json"))["missing"] == []
    assert done("work", planned, "--count") == f"{count(planned)} units, all done\n"


def test_plan_of_the_same_command_is_not_made_twice(store: Path, planned: Path) -> None:
    before = files_in(planned)
    again = ("append", store, planned.parent / "nights", "--units", planned, "--rows-per-task", 3)
    assert done(*again).startswith(f"{count(planned)} units of work in {planned}: ")
    assert json.loads(done(*again, "--json")) == {"units": count(planned), "directory": str(planned)}
    assert files_in(planned) == before


def test_append_of_several_commits_is_not_divided(sky: Sky, store: Path, tmp_path: Path) -> None:
    words = ("append", store, *sky.catalogs[:2], "--catalogs-per-commit", 1, "--units", tmp_path / "units")
    result = call(*words)
    assert result.exit_code == 2
    assert "--units: 2 catalogs are more than the 1 of --catalogs-per-commit" in result.stderr
    assert commit_numbers(Storage.at(store)) == [0]


def test_plan_of_another_command_in_its_place_is_refused(store: Path, planned: Path) -> None:
    result = call("statistics", store, "--units", planned)
    assert (result.exit_code, "holds units of another command" in result.stderr) == (2, True)


def test_command_without_work_has_no_units(store: Path, tmp_path: Path) -> None:
    done("statistics", store)
    assert "up to date" in done("statistics", store, "--units", tmp_path / "units")
    assert count(tmp_path / "units") == 0
    assert "no unit" in done("work", tmp_path / "units", "--share", "0/4")
    assert "up to date" in done("finish", tmp_path / "units")


def test_finish_that_was_killed_as_it_had_committed_is_a_success(store: Path, planned: Path) -> None:
    done("work", planned, "--share", "0/1")
    done("finish", planned)
    (planned / "finished.json").unlink()
    assert done("finish", planned) == "This was finished before: it is snapshot 1.\n"
    assert commit_numbers(Storage.at(store)) == [0, 1]


def test_unit_that_comes_after_the_end_does_nothing(store: Path, planned: Path) -> None:
    done("work", planned, "--share", "0/1")
    done("finish", planned)
    before = files_in(store)
    assert "finished before" in done("work", planned, "--unit", 0)
    assert files_in(store) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unit", "99"], "unit 99: "),
        (["--unit", "3-1"], "'3-1' are not numbers"),
        (["--unit", "x"], "'x' are not numbers"),
        (["--share", "4/4"], "'4/4' is not a part"),
        ([], "Give one of --unit, --share and --count."),
        (["--unit", "0", "--count"], "Give one of --unit, --share and --count."),
    ],
)
def test_wrong_units_are_told(planned: Path, words: list[str], said: str) -> None:
    result = call("work", planned, *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("command", [["work", "--unit", "0"], ["finish"]])
def test_directory_without_units_is_told(tmp_path: Path, command: list[str]) -> None:
    result = call(command[0], tmp_path, *command[1:])
    assert (result.exit_code, "holds no units of work" in result.stderr) == (2, True)


def test_altered_unit_is_told(planned: Path) -> None:
    path = planned / "units" / "00000000.msgpack"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = call("work", planned, "--unit", "0")
    assert (result.exit_code, f"{path} is not what was written" in result.stderr) == (1, True)


def test_units_of_another_version_are_told(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ztfmatch.__version__", "0.0.1")
    result = call("work", planned, "--unit", "0")
    assert (result.exit_code, "install the same version everywhere" in result.stderr) == (2, True)


def test_units_on_a_machine_that_does_not_see_the_store_are_told(store: Path, planned: Path) -> None:
    store.rename(store.with_name("elsewhere"))
    result = call("work", planned, "--unit", "0")
    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)


def test_metadata_that_has_changed_since_the_plan_is_told(sky: Sky, store: Path, tmp_path: Path) -> None:
    table = tmp_path / "exposures.csv"
    table.write_text("filefracday,rcid,infobits\n20190201250000,20,1\n20190202250000,20,1\n")
    done("append", store, sky.catalogs[1], "--exposures", table, "--units", tmp_path / "units")
    done("work", tmp_path / "units", "--share", "0/1")
    table.write_text(table.read_text().replace(",1\n", ",2\n"))
    result = call("finish", tmp_path / "units")
    assert result.exit_code == 1
    assert "what is to be done is not what was planned" in result.stderr
    assert commit_numbers(Storage.at(store)) == [0]


def test_plan_whose_snapshot_a_vacuum_removed_is_told(store: Path, planned: Path) -> None:
    done("statistics", store)
    done("vacuum", store, "--keep", 1, "--grace-hours", 0)
    for words in (("work", planned, "--unit", "0"), ("finish", planned)):
        ended = call(*words)
        assert ended.exit_code == 2
        assert f"{store}: snapshot 0 was removed by a vacuum; the oldest is 1" in ended.stderr
    assert commit_numbers(Storage.at(store)) == [0, 1]
