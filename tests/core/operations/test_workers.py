"""Tasks that fail, workers and schedulers that are killed: the job finishes right, or says why and can be resumed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults import Judge, Sky, append_rest, command, copy, init, make_sky

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage, StorageError
from ztfmatch.core.tasks.match import match_group
from ztfmatch.core.tasks.results import Matched

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

TILES = ("match-N0-0-0000", "match-N0-1-0000")


@dataclass(frozen=True, eq=False)
class Scripted:
    """The matching of a tile, but what the script says of a task, try after try: ok, fail, or the number to kill."""

    place: str
    script: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    function: Callable[[Any], Matched] = match_group
    __name__ = "scripted"

    def __call__(self, task: Any) -> Matched:
        tries = Path(self.place) / task.key
        done = self.tries(task.key)
        tries.write_text(str(done + 1))
        steps = self.script.get(task.key, ("ok",))
        step = steps[min(done, len(steps) - 1)]
        if step == "fail":
            raise RuntimeError(f"scripted failure {done + 1}")
        if step != "ok":
            os.kill(int(step) or os.getpid(), signal.SIGKILL)
        return self.function(task)

    def tries(self, key: str) -> int:
        tries = Path(self.place) / key
        return int(tries.read_text()) if tries.exists() else 0


Scripted.__annotations__ = {"return": Matched}
"""As what staged results are read back."""


@dataclass
class Scene:
    """A store with objects alone, the catalogs for it, and what it is to become."""

    sky: Sky
    before: Path
    content: dict[str, str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("workers")
    sky = make_sky(place)
    init(place / "before", sky)
    append_rest(copy(place / "before", place / "undisturbed"), sky)
    return Scene(sky, place / "before", Judge().content(place / "undisturbed"))


@pytest.fixture
def store(scene: Scene, tmp_path: Path) -> Path:
    return copy(scene.before, tmp_path / "store")


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    """Put a script in place of the matching."""

    def make(script: dict[str, tuple[str | int, ...]]) -> Scripted:
        made = Scripted(str(tmp_path), script)
        monkeypatch.setattr("ztfmatch.core.operations.append.match_group", made)
        return made

    return make


def append(store: Path, scene: Scene, *options: object) -> Any:
    return command("append", store, *scene.sky.catalogs, *options)


def assert_right(store: Path, scene: Scene) -> None:
    assert commit_numbers(Storage.at(store)) == [0, 1]
    assert Judge().content(store) == scene.content
    assert list(Storage.at(store).list("staging/")) == []


def test_worker_killed_in_a_task_and_a_task_that_fails_twice_are_survived(
    scene: Scene, store: Path, scripted: Callable[..., Scripted]
) -> None:
    script = scripted({TILES[0]: (0, "ok"), TILES[1]: ("fail", "fail", "ok")})
    done = append(store, scene, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert_right(store, scene)
    assert script.tries(TILES[0]) >= 2
    assert script.tries(TILES[1]) >= 3


@pytest.mark.parametrize("options", [("--workers", 2), ()], ids=["workers", "loop"])
def test_task_that_always_fails_stops_the_job_and_a_rerun_does_only_what_is_left(
    scene: Scene, store: Path, scripted: Callable[..., Scripted], options: tuple[object, ...]
) -> None:
    script = scripted({TILES[1]: ("fail", "fail", "fail", "ok")})
    done = append(store, scene, *options)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"ztfmatch: matching: 1 of 2 tasks failed after retries, nothing was committed; a rerun resumes. "
        f"{TILES[1]}: RuntimeError: scripted failure 3"
    )
    assert commit_numbers(Storage.at(store)) == [0]
    assert append(store, scene).exit_code == 0
    assert_right(store, scene)
    assert [script.tries(key) for key in TILES] == [1, 4]


STAGED: dict[str, Callable[[Path], Any]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "emptied": lambda file: file.write_bytes(b""),
    "altered": lambda file: file.write_bytes(file.read_bytes().replace(b'"rows": ', b'"rows": 1')),
    "other": lambda file: file.write_bytes(b"[1, 2]"),
}
FILES: dict[str, Callable[[Path], Any]] = {
    "lost": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "altered": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
}


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        *(("staging/**/*.json", damage) for damage in STAGED.values()),
        *(("data/detections/**/*.parquet", damage) for damage in FILES.values()),
    ],
    ids=[*(f"result {name}" for name in STAGED), *(f"file {name}" for name in FILES)],
)
def test_staged_result_that_is_not_whole_is_made_again(
    scene: Scene, store: Path, scripted: Callable[..., Scripted], pattern: str, damage: Callable[[Path], Any]
) -> None:
    """A power cut may take a part of what a task wrote, after it said that it was done."""
    script = scripted({TILES[1]: ("fail", "fail", "fail", "ok")})
    assert append(store, scene).exit_code == 1
    (file,) = store.glob(pattern)
    damage(file)
    done = append(store, scene)
    assert done.exit_code == 0, done.stderr
    assert_right(store, scene)
    assert script.tries(TILES[0]) == 2


def test_job_that_cannot_take_its_staged_results_away_is_done_all_the_same(
    scene: Scene, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(storage: Storage, paths: Any) -> None:
        raise StorageError("scripted refusal")

    monkeypatch.setattr(Storage, "delete", refuse)
    assert append(store, scene).exit_code == 0
    monkeypatch.undo()
    assert Judge().content(store) == scene.content
    assert command("vacuum", store, "--keep", 2, "--grace-hours", 0).exit_code == 0
    assert_right(store, scene)


def test_task_that_kills_every_worker_stops_the_job(
    scene: Scene, store: Path, scripted: Callable[..., Scripted]
) -> None:
    scripted({TILES[0]: (0,)})
    done = append(store, scene, "--workers", 1)
    assert done.exit_code == 1
    assert TILES[0] in done.stderr.splitlines()[-1]
    assert "nothing was committed; a rerun resumes" in done.stderr.splitlines()[-1]
    scripted({})
    assert append(store, scene).exit_code == 0
    assert_right(store, scene)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own."""
    words = [sys.executable, "-m", "ztfmatch", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_failed_tasks_of_workers_are_told_in_one_line(scene: Scene, store: Path) -> None:
    (store / "data" / "detections").write_text("in the way")
    done = run("append", store, *scene.sky.catalogs, "--workers", 1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("ztfmatch: matching: 2 of 2 tasks failed after retries, nothing was committed")
    assert "cannot write data/detections/Norder=0/" in done.stderr
    (store / "data" / "detections").unlink()
    assert append(store, scene).exit_code == 0
    assert_right(store, scene)


_ASSASSIN = """
import os, signal
import ztfmatch.core.tasks.match

def match_group(task):
    os.kill({scheduler}, signal.SIGKILL)

ztfmatch.core.tasks.match.match_group = match_group
"""
"""Loaded by a worker: there the task of that name is another."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a scheduler with a worker whose first matching task kills the scheduler."""
    dask = [sys.executable, "-m", "dask"]
    script = tmp_path / "assassin.py"
    words = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://\S+", line)))
        script.write_text(_ASSASSIN.format(scheduler=scheduler.pid))
        words = [*dask, "worker", address, "--no-nanny", "--no-dashboard", "--preload", str(script)]
        with subprocess.Popen([*words, "--local-directory", str(tmp_path)], stderr=subprocess.DEVNULL) as worker:
            yield address
            worker.kill()
        scheduler.kill()


def test_scheduler_killed_in_the_middle_is_told_and_a_rerun_finishes(scene: Scene, store: Path, address: str) -> None:
    done = run("append", store, *scene.sky.catalogs, "--scheduler", address, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ztfmatch: matching: the Dask scheduler at {address} is lost, nothing was committed; a rerun resumes\n"
    )
    assert commit_numbers(Storage.at(store)) == [0]
    assert append(store, scene).exit_code == 0
    assert_right(store, scene)
