"""What becomes of jobs on a real SLURM: cancelled, requeued, out of memory, on a node that is lost, out of time."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import rig as slurm_rig
from faults import Judge
from rig import Rig
from slurmscene import JOBS, SMALL, Scene, program_at
from test_slurm import profile, start, words

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing())]

HANG = "sleep 120"
EAT = f"{sys.executable} -c 'import time; eaten = b\"x\" * (1500 << 20); time.sleep(120)'"
FATES = {
    "cancelled": f"scancel $SLURM_JOB_ID; {HANG}",
    "requeued": f"scontrol requeue $SLURM_JOB_ID; {HANG}",
    "killed": "kill -KILL $$",
    "out of memory": EAT,
    "on a node that is drained": "scontrol update nodename=$SLURMD_NODENAME state=drain reason=test; kill -KILL $$",
    "on a node that goes down": f"scontrol update nodename=$SLURMD_NODENAME state=down reason=test; {HANG}",
}
"""What the first job of workers does in place of its work."""


@pytest.fixture
def mended(rig: Rig) -> Rig:
    """With both nodes, whatever the test before did to them."""
    for node in ("n1", "n2"):
        if re.search("DOWN|DRAIN", rig.call("scontrol", "--oneliner", "show", "node", node)):
            rig.call("scontrol", "update", f"nodename={node}", "state=resume")
    return rig


SLOW = ("requeued", "on a node that goes down")
"""SLURM begins a job again after two minutes."""


@pytest.mark.parametrize("fate", [pytest.param(fate, marks=[pytest.mark.slow] * (fate in SLOW)) for fate in FATES])
def test_workers_job_that_ends_is_replaced(mended: Rig, scene: Scene, store: Path, tmp_path: Path, fate: str) -> None:
    mark = tmp_path / "mark"
    prologue = f"[ -e {mark} ] || {{ touch {mark}; {FATES[fate]}; }}"
    site = profile(tmp_path, f"job_script_prologue = ['''{prologue}''']")
    with start(mended, scene, *words(scene, store, site)) as main:
        out, said = main.communicate(timeout=280)
    assert main.returncode == 0, said
    assert mark.exists()
    assert out.startswith("Snapshot 1: ")
    assert Judge().content(store) == scene.content
    assert mended.queued() == []


@pytest.mark.slow
def test_requeued_job_of_a_command_goes_on(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    """Its first run is ended by SLURM as it begins."""
    again = f'[ "${{SLURM_RESTART_COUNT:-0}}" != 0 ] || {{ scontrol requeue $SLURM_JOB_ID; {HANG}; }}'
    where = {"ZTFMATCH": program_at(tmp_path / "again", again), "ZTFMATCH_STORE": store, "ZTFMATCH_WORKERS": 0}
    job = rig.submit(JOBS / "append.sh", *scene.sky.catalogs, options=(*SMALL, "--requeue"), **where)
    ended = rig.ended(job, 250)  # SLURM begins it again after two minutes
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert Judge().content(store) == scene.content


@pytest.mark.slow
def test_job_that_runs_out_of_time_changes_nothing_and_a_rerun_goes_on(
    rig: Rig, scene: Scene, store: Path, tmp_path: Path
) -> None:
    hanging = {"ZTFMATCH": program_at(tmp_path / "hanging", HANG), "ZTFMATCH_STORE": store, "ZTFMATCH_WORKERS": 0}
    job = rig.submit(JOBS / "append.sh", *scene.sky.catalogs, options=(*SMALL, "--time=00:01:00"), **hanging)
    then = rig.submit(JOBS / "statistics.sh", options=(*SMALL, f"--dependency=afterok:{job}"), **hanging)
    assert rig.ended(job, 200).state == "TIMEOUT"
    assert rig.ended(then).state == "CANCELLED"
    assert commit_numbers(Storage.at(store)) == [0]
    job = rig.submit(JOBS / "append.sh", *scene.sky.catalogs, options=SMALL, **hanging | {"ZTFMATCH": scene.program})
    assert rig.ended(job, 120).exit_code == 0
    assert Judge().content(store) == scene.content


def test_run_whose_certificates_end_is_told(mended: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    """No job can be had until then, and none that comes later could join."""
    brief = ("certificate_lifetime = '2s'", "wait = '1s'", "job_extra_directives = ['--begin=now+3600']")
    with start(mended, scene, *words(scene, store, profile(tmp_path, *brief), "--wait", "60s")) as main:
        _, said = main.communicate(timeout=90)
    assert main.returncode == 2, said
    assert said.count("\n") == 1
    assert "certificate" in said
    assert commit_numbers(Storage.at(store)) == [0]
    assert mended.queued() == []
