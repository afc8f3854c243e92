"""Units of work in job arrays of a real SLURM: plan, array and finish in a chain make the store that the loop makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import rig as slurm_rig
from faults import Judge
from rig import Rig
from slurmscene import JOBS, SMALL, Scene, program_at

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing())]


def where(scene: Scene, units: Path) -> dict[str, object]:
    return {"ZTFMATCH": scene.program, "ZTFMATCH_UNITS": units, "ZTFMATCH_WORKERS": 0}


def plan(rig: Rig, scene: Scene, store: Path, units: Path) -> str:
    words = ("append", store, *scene.sky.catalogs, "--rows-per-task", 3)
    return rig.submit(JOBS / "plan.sh", *words, options=SMALL, **where(scene, units))


def after(job: str, *options: str) -> tuple[str, ...]:
    return (*SMALL, f"--dependency=afterok:{job}", *options)


def test_chain_of_plan_array_and_finish_makes_the_same_store(
    rig: Rig, scene: Scene, store: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units"
    first = plan(rig, scene, store, units)
    array = rig.submit(JOBS / "array.sh", options=after(first, "--array=0-3"), **where(scene, units))
    again = rig.submit(JOBS / "array.sh", options=after(first, "--array=0-1"), **where(scene, units))
    last = rig.submit(JOBS / "finish.sh", options=after(f"{array}:{again}"), **where(scene, units))
    ended = rig.ended(last, 180)
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert ended.log.startswith("Snapshot 1: ")
    assert Judge().content(store) == scene.content


def test_killed_job_of_an_array_stops_the_chain_and_a_second_array_goes_on(
    rig: Rig, scene: Scene, store: Path, tmp_path: Path
) -> None:
    """The program of the first array kills itself where its part is the second."""
    units = tmp_path / "units"
    killed = program_at(tmp_path / "killed", 'case " $* " in *" 1/3 "*) kill -KILL $$ ;; esac')
    first = plan(rig, scene, store, units)
    assert rig.ended(first).exit_code == 0
    array = rig.submit(JOBS / "array.sh", options=(*SMALL, "--array=0-2"), **where(scene, units) | {"ZTFMATCH": killed})
    cancelled = rig.submit(JOBS / "finish.sh", options=after(array), **where(scene, units))
    anyway = rig.submit(JOBS / "finish.sh", options=(*SMALL, f"--dependency=afterany:{array}"), **where(scene, units))
    early = rig.ended(anyway, 120)
    assert rig.ended(cancelled).state == "CANCELLED"
    assert (early.state, early.exit_code) == ("FAILED", 1)
    assert "units of work are not done: " in early.log
    assert f"ztfmatch work {units} --unit " in early.log
    assert commit_numbers(Storage.at(store)) == [0]
    array = rig.submit(JOBS / "array.sh", options=(*SMALL, "--array=0-2"), **where(scene, units))
    ended = rig.ended(rig.submit(JOBS / "finish.sh", options=after(array), **where(scene, units)), 120)
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert Judge().content(store) == scene.content


def test_units_in_random_order_on_two_nodes_make_the_same_store(
    rig: Rig, scene: Scene, store: Path, tmp_path: Path
) -> None:
    """One job a unit, the last first, each node some."""
    units = tmp_path / "units"
    assert rig.ended(plan(rig, scene, store, units)).exit_code == 0
    work = tmp_path / "work.sh"
    work.write_text(f'#!/bin/sh\nexec "{scene.program}" work "{units}" --unit "$1"\n')
    jobs = [rig.submit(work, unit, options=(*SMALL, f"--nodelist=n{1 + unit % 2}")) for unit in reversed(range(4))]
    finish = rig.submit(JOBS / "finish.sh", options=after(":".join(jobs)), **where(scene, units))
    ended = rig.ended(finish, 180)
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert Judge().content(store) == scene.content
