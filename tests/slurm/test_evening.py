"""One evening: thirty nights by chains of arrays, by allocations and in a plain loop, while jobs are killed at random.

    .venv/bin/pytest -n 0 -m slow tests/slurm/test_evening.py

ZTFMATCH_EVENING_NIGHTS changes the number of nights, ZTFMATCH_EVENING_SEED when jobs are killed.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rig as slurm_rig
from faults import Judge, append, copy, make_sky
from helpers import make_store
from rig import Rig
from slurmscene import JOBS, SMALL, program_at
from test_slurm_allocation import ON_TWO_NODES, profile, script

from ztfmatch.core.io.storage import Storage

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing()),
]

NIGHTS = int(os.environ.get("ZTFMATCH_EVENING_NIGHTS", "30"))
SEED = int(os.environ.get("ZTFMATCH_EVENING_SEED", "1"))
_TRIES = 4
_TRIES_WITH_KILLS = 2
_LATEST_KILL_S = 30.0


class Evening:
    """Runs things until they succeed, and kills jobs meanwhile."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._dice, self.killed = rig, random.Random(SEED), list[str]()

    def until_done(self, run: Callable[[], tuple[int, str]]) -> None:
        """Do it again, as an operator does, until it succeeds; in the first tries a running job is killed."""
        said = ""
        for attempt in range(_TRIES):
            timer = threading.Timer(self._dice.uniform(1.0, _LATEST_KILL_S), self._kill)
            if attempt < _TRIES_WITH_KILLS:
                timer.start()
            code, said = run()
            timer.cancel()
            if code == 0:
                return
        raise AssertionError(said)

    def _kill(self) -> None:
        running = self._rig.call("squeue", "--noheader", "--states=RUNNING", "--format=%A").split()
        if running:
            self.killed.append(self._dice.choice(running))
            self._rig.call("scancel", "--signal=KILL", "--full", self.killed[-1])


def by_chain(rig: Rig, program: Path, store: Path, catalog: str, place: Path) -> tuple[int, str]:
    """Plan, array and finish; again with the same directory where one was killed."""
    where = {"ZTFMATCH": program, "ZTFMATCH_UNITS": place / "units", "ZTFMATCH_WORKERS": 0}
    plan = rig.submit(JOBS / "plan.sh", "append", store, catalog, "--rows-per-task", 3, options=SMALL, **where)
    chained = (*SMALL, f"--dependency=afterok:{plan}", "--array=0-1")
    array = rig.submit(JOBS / "array.sh", options=chained, **where)
    last = rig.submit(JOBS / "finish.sh", options=(*SMALL, f"--dependency=afterok:{array}"), **where)
    ended = rig.ended(last, 300)
    return int(ended.state != "COMPLETED"), ended.log


def by_allocation(rig: Rig, program: Path, store: Path, catalog: str, place: Path) -> tuple[int, str]:
    """All tasks of one job."""
    words = f"append {store} {catalog} --rows-per-task 3 --memory 512MiB --cluster {profile(place)}"
    job = rig.submit(script(place, f"srun --kill-on-bad-exit=1 {program} {words}"), options=ON_TWO_NODES)
    ended = rig.ended(job, 300)
    return int(ended.state != "COMPLETED"), ended.log


def test_evening_of_nights_with_killed_jobs_makes_equal_stores(rig: Rig, tmp_path: Path) -> None:
    sky = make_sky(tmp_path, nights=NIGHTS)
    make_store(tmp_path / "loop", sky.references)
    stores = {name: copy(tmp_path / "loop", tmp_path / name) for name in ("chain", "allocation")}
    program = program_at(tmp_path / "ztfmatch")
    ways = {"chain": by_chain, "allocation": by_allocation}
    evening = Evening(rig)
    for night, catalog in enumerate(sky.catalogs[:NIGHTS]):
        append(Storage.at(tmp_path / "loop"), [catalog])
        for name, store in stores.items():
            place = tmp_path / f"{name}-{night}"
            place.mkdir()
            evening.until_done(lambda way=ways[name], at=store, one=catalog, to=place: way(rig, program, at, one, to))
    contents = [Judge().content(store) for store in (tmp_path / "loop", *stores.values())]
    assert contents[0] == contents[1] == contents[2]
    assert evening.killed
