"""Every command has the exit codes of the table in docs/reference/exitcodes.md."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import PROJECT, Scene, call

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

PAGE = PROJECT / "docs" / "reference" / "exitcodes.md"

UNKNOWN = 679205100999999
"""An objectid of the scene's unit that no object has."""

SCOPE = 'release = "none"\nfields = [1]\n[[programs]]\nid = 1\nsince = 2017-01-01\nuntil = 2030-01-01\n'


@dataclass(frozen=True)
class Places:
    """Where a case finds what it is about."""

    scene: Scene
    place: Path

    @property
    def store(self) -> Path:
        return self.scene.store

    @property
    def empty(self) -> Path:
        made = self.place / "empty"
        made.mkdir(exist_ok=True)
        return made

    @property
    def bad(self) -> Path:
        """A directory with a file of each kind, none of which is what it is called."""
        made = self.place / "bad"
        made.mkdir(exist_ok=True)
        for name in ("ztf_20190107512763_000679_zg_c05_o_q1_psfcat.fits", "ztf_000679_zg_c05_q1_refpsfcat.fits",
                     "ztf_000679_zg_c05_q1_match.pytable"):  # fmt: skip
            (made / name).write_bytes(b"nothing of the kind")
        return made

    @property
    def file(self) -> Path:
        """A place that cannot be: below a file."""
        (self.place / "file").write_text("in the way")
        return self.place / "file" / "output"

    @property
    def release(self) -> Path:
        (self.place / "release.toml").write_text(SCOPE)
        return self.place / "release.toml"


Words = tuple[object, ...]
CASES: dict[str, tuple[int, Callable[[Places], Words], str]] = {
    # nothing to do, nothing found: an answer
    "append of nothing": (0, lambda p: ("append", p.store, p.empty), "No catalogs (*_psfcat.fits) in "),
    "import of nothing": (0, lambda p: ("import", "matchfile", p.store, p.empty), "No matchfiles in "),
    "append of what is known": (0, lambda p: p.scene.append, "Nothing new in 4 catalogs"),
    "empty cone": (0, lambda p: ("query", p.store, "--cone", 1, 1, 1), "nothing found"),
    "empty cone of epochs": (0, lambda p: ("lightcurve", p.store, "--cone", 1, 1, 1), "no epoch found"),
    "empty cone of statistics": (0, lambda p: ("lightcurve", p.store, "--cone", 1, 1, 1, "--statistics"), "no object"),
    "no lineage": (0, lambda p: ("lineage", p.store), "no lineage found"),
    # the work failed
    "append of nothing, refused": (1, lambda p: ("append", p.store, p.empty, "--fail-if-empty"), "no *_psfcat.fits in"),
    "import of nothing, refused": (
        1, lambda p: ("import", "matchfile", p.store, p.empty, "--fail-if-empty"), "no *_match.pytable in"),
    "append of bad": (1, lambda p: ("append", p.store, p.bad), "none of 1 catalogs can be used, nothing was"),
    "init of bad": (1, lambda p: ("init", p.place / "new", "-r", p.bad), "none of 1 reference catalogs can be used"),
    "rematch of bad": (1, lambda p: ("rematch", p.store, "-r", p.bad), "none of 1 reference catalogs can be used"),
    "import of bad": (1, lambda p: ("import", "matchfile", p.store, p.bad), "none of 1 matchfiles can be used"),
    "import of bad, new": (
        1, lambda p: ("import", "matchfile", p.place / "new", p.bad, "--create"), "none of 1 matchfiles can be used"),
    "no scheduler": (
        1, lambda p: ("verify", p.store, "--scheduler", "tcp://127.0.0.1:1", "--wait", "1s"), "no Dask scheduler"),
    # the command is wrong
    "no store": (2, lambda p: ("status", p.place / "none"), "no such store"),
    "no snapshot": (2, lambda p: ("query", p.store, "--snapshot", 99), "has no snapshot 99"),
    "no catalogs there": (2, lambda p: ("append", p.store, p.place / "none"), "no such file or directory"),
    "init of nothing": (2, lambda p: ("init", p.place / "new", "-r", p.empty), "no *_refpsfcat.fits in"),
    "import of nothing, new": (
        2, lambda p: ("import", "matchfile", p.place / "new", p.empty, "--create"), "no store was made"),
    "unknown object, epochs": (2, lambda p: ("lightcurve", p.store, "--objectid", UNKNOWN), f"has no object {UNKNOWN}"),
    "unknown object, query": (2, lambda p: ("query", p.store, "--objectid", UNKNOWN), f"has no object {UNKNOWN}"),
    "unknown object, lineage": (2, lambda p: ("lineage", p.store, "--objectid", UNKNOWN), f"has no object {UNKNOWN}"),
    "unknown unit": (2, lambda p: ("export", "matchfile", p.store, "--field", 1), "has no unit of field 1"),
    "release of nothing": (
        2, lambda p: ("publish", "bulk", p.store, p.place / "bulk", "--release", p.release), "nothing to publish"),
    "picture of nothing": (
        2, lambda p: ("lightcurve", p.store, "--cone", 1, 1, 1, "--plot", p.place / "a.png"), "no epochs to plot"),
    "no time to wait": (2, lambda p: ("verify", p.store, "--wait", "soon"), "duration 'soon'"),
    "output: init": (2, lambda p: ("init", p.file, "-r", p.scene.sky / "references"), "is not a directory"),
    "output: report": (2, lambda p: ("report", p.store, "--output", p.file), "is not a directory"),
    "output: calibrate": (2, lambda p: ("calibrate", p.store, "--ps1", "x", "-o", p.file), "is not a directory"),
    "output: matchfile": (2, lambda p: ("export", "matchfile", p.store, "-o", p.file), "does not exist"),
    "output: matchfile, directory": (
        2, lambda p: ("export", "matchfile", p.store, "-o", f"{p.place}/nowhere/"), "nowhere/' does not exist"),
    "output: kowalski": (2, lambda p: ("export", "kowalski", p.store, p.file, "--cursor", "c"), "is not a directory"),
    "output: kowalski, a file": (
        2, lambda p: ("export", "kowalski", p.store, p.file.parent, "--cursor", "c"), "is a file"),
    "output: publish": (2, lambda p: ("publish", "hats", p.store, p.file, "--release", p.release), "not a directory"),
    "output: view": (2, lambda p: ("view", "delta", p.store, p.file), "is not a directory"),
    "output: simulate": (2, lambda p: ("simulate", p.file), "is not a directory"),
    "output: demo": (2, lambda p: ("demo", p.file), "is not a directory"),
    "full disk": (
        1, lambda p: ("query", p.store, "--limit", 3, "-o", "/dev/full", "-f", "csv"), "ztfmatch: /dev/full: No space"),
    "output: query": (2, lambda p: ("query", p.store, "--output", p.file / "a.csv"), "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_command_ends_with_its_code_and_says_why(scene: Scene, tmp_path: Path, name: str) -> None:
    code, words, said = CASES[name]
    before = commit_numbers(Storage.at(scene.store))
    result = call(*words(Places(scene, tmp_path)))
    output = " ".join((result.stdout + result.stderr).split())
    assert (result.exit_code, said in output) == (code, True), output
    assert "rerun resumes" not in output
    assert commit_numbers(Storage.at(scene.store)) == before
    assert not (tmp_path / "new" / "commits").exists()


def test_table_of_exit_codes_has_them_all() -> None:
    """Those of interruptions are in test_interrupts.py."""
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE.read_text(), re.MULTILINE)
    told = {int(code) for row in rows for code in row.split(",")}
    assert told == {code for code, _, _ in CASES.values()} | {129, 130, 143}


def test_query_gives_known_objects_and_fails_for_the_unknown(scene: Scene, star: dict[str, object]) -> None:
    result = call("query", scene.store, "--objectid", star["objectid"], "--objectid", UNKNOWN, "--format", "csv")
    assert result.exit_code == 2
    assert str(star["objectid"]) in result.stdout
    assert result.stderr.endswith(f"has no object {UNKNOWN} in snapshot 2\n")


def test_lineage_of_an_object_that_no_rematch_touched_is_an_answer(scene: Scene, star: dict[str, object]) -> None:
    result = call("lineage", scene.store, "--objectid", star["objectid"])
    assert result.exit_code == 0
    assert "no lineage found" in result.stderr


def test_good_catalog_beside_a_bad_one_goes_in(copied: Scene, tmp_path: Path) -> None:
    bad = Places(copied, tmp_path).bad
    result = call("append", copied.store, bad, copied.sky / "catalogs")
    assert result.exit_code == 0
    assert "Quarantined: 1 file" in result.stdout


def in_shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = shlex.join([sys.executable, "-m", "ztfmatch", *map(str, arguments)])
    return subprocess.run(["sh", "-c", f"{words} {redirection}"], capture_output=True, text=True, check=False)


def test_command_whose_streams_were_closed_does_its_work(copied: Scene) -> None:
    ended = in_shell("<&- >&- 2>&-", "statistics", copied.store, "--min-new", "0", "--workers", "1")
    assert ended.returncode == 0
    ended = in_shell(">&-", "query", copied.store)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("words", [("status", "--json"), ("--help",)])
def test_answer_for_which_there_is_no_room_fails_in_one_line(scene: Scene, words: tuple[str, ...]) -> None:
    store = [scene.store] if words[0] == "status" else []
    ended = in_shell(">/dev/full", *words, *store)
    assert (ended.returncode, ended.stderr) == (1, "ztfmatch: No space left on device\n")
