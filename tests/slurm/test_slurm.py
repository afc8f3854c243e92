"""Batch scripts and SLURM's workers on a real SLURM: exit codes, chains, waits, and the same store as without."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import rig as slurm_rig
from faults import Judge
from rig import Rig
from slurmscene import JOBS, SMALL, Scene

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing())]


def profile(place: Path, *lines: str) -> Path:
    """A profile of small jobs on the rig's nodes, which are this machine."""
    path = place / "site.toml"
    given = (f'log_directory = "{place}"', f'local_directory = "{place}"', 'interface = "lo"', *lines)
    path.write_text("\n".join(('kind = "slurm"', *given)) + "\n")
    return path


def words(scene: Scene, store: Path, cluster: Path, *options: str) -> list[str]:
    append = ["append", str(store), *scene.sky.catalogs, "--cluster", str(cluster), "--workers", "1"]
    return [*append, "--memory", "512MiB", *options]


def start(rig: Rig, scene: Scene, *command: str) -> subprocess.Popen[str]:
    """Start a command here, as on a login node."""
    environment = {**os.environ, **rig.environment}
    return subprocess.Popen(
        [scene.program, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_append_in_slurm_jobs_makes_the_same_store(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    with start(rig, scene, *words(scene, store, profile(tmp_path))) as main:
        out, said = main.communicate(timeout=120)
    assert (main.returncode, said) == (0, ""), said
    assert out.startswith("Snapshot 1: ")
    assert Judge().content(store) == scene.content
    assert rig.queued() == []


def test_chain_of_batch_scripts_runs_in_order(rig: Rig, scene: Scene, tmp_path: Path) -> None:
    where = {"ZTFMATCH": scene.program, "ZTFMATCH_STORE": tmp_path / "store", "ZTFMATCH_WORKERS": 0}
    first = rig.submit(JOBS / "init.sh", "--seeds-per-tile", 3, options=SMALL, **where,
                       ZTFMATCH_REFERENCES=Path(scene.sky.references[0]).parent)  # fmt: skip
    chain = [first]
    for name, arguments in (("append", tuple(scene.sky.catalogs)), ("statistics", ()), ("verify", ("--deep",))):
        options = (*SMALL, f"--dependency=afterok:{chain[-1]}")
        chain.append(rig.submit(JOBS / f"{name}.sh", *arguments, options=options, **where))
    for job in chain:
        ended = rig.ended(job, 120)
        assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert commit_numbers(Storage.at(tmp_path / "store")) == [0, 1, 2]


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_interrupted_job_fails_and_its_chain_does_not_go_on(
    rig: Rig, scene: Scene, store: Path, tmp_path: Path, name: str, code: int
) -> None:
    """The workers' job is held, so that the command waits when the signal comes."""
    held = profile(tmp_path, 'job_name = "held"', 'job_extra_directives = ["--hold"]')
    where = {"ZTFMATCH": scene.program, "ZTFMATCH_STORE": store, "ZTFMATCH_WORKERS": 1, "ZTFMATCH_MEMORY": "512MiB"}
    job = rig.submit(JOBS / "append.sh", *scene.sky.catalogs, "--cluster", held, options=SMALL, **where)
    then = rig.submit(JOBS / "statistics.sh", options=(*SMALL, f"--dependency=afterok:{job}"), **where)
    rig.await_queued("held PENDING")
    rig.call("scancel", f"--signal={name}", "--full", job)
    ended = rig.ended(job)
    assert (ended.state, ended.exit_code) == ("FAILED", code), ended.log
    line = f"ztfmatch: interrupted by SIG{name}: snapshot 0 of {store} stands; the same command again resumes"
    assert ended.log.splitlines()[-1] == line
    assert rig.ended(then).state == "CANCELLED"
    assert rig.queued() == []
    assert commit_numbers(Storage.at(store)) == [0]


def test_command_that_is_interrupted_cancels_its_jobs(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    held = profile(tmp_path, 'job_name = "held"', 'job_extra_directives = ["--hold"]')
    with start(rig, scene, *words(scene, store, held)) as main:
        rig.await_queued("held PENDING")
        main.send_signal(signal.SIGINT)
        out, said = main.communicate(timeout=60)
    line = f"ztfmatch: interrupted by SIGINT: snapshot 0 of {store} stands; the same command again resumes\n"
    assert (main.returncode, out, said) == (130, "", line)
    assert rig.queued() == []


def test_wrong_partition_is_told_at_once(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    with start(rig, scene, *words(scene, store, profile(tmp_path, 'partition = "nowhere"'))) as main:
        out, said = main.communicate(timeout=60)
    assert (main.returncode, out, said.count("\n")) == (2, "", 1), said
    assert "SLURM refuses the jobs: sbatch: error: invalid partition specified: nowhere" in said


def test_worker_that_cannot_start_is_told_with_its_log(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    broken = profile(tmp_path, 'python = "/nowhere/python"')
    with start(rig, scene, *words(scene, store, broken, "--wait", "10s")) as main:
        out, said = main.communicate(timeout=90)
    assert (main.returncode, out) == (2, ""), said
    last = said.splitlines()[-1]
    assert "SLURM jobs ended before a worker came, the last: job " in last
    assert "FAILED, exit code 127: " in last
    assert "/nowhere/python: No such file or directory" in last or "/nowhere/python: not found" in last
    assert rig.queued() == []


def test_jobs_that_stay_in_the_queue_are_told_and_given_up(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    held = profile(tmp_path, 'job_extra_directives = ["--hold"]')
    with start(rig, scene, *words(scene, store, held, "--wait", "3s")) as main:
        out, said = main.communicate(timeout=60)
    assert (main.returncode, out) == (1, ""), said
    news, last = said.splitlines()[0], said.splitlines()[-1]
    state = "ztfmatch: the cluster of SLURM jobs has no workers: 1 SLURM job PENDING, JobHeldUser"
    assert news.startswith(f"{state}; waiting for them since ")
    assert last == f"{state}: gave up after 3 s (--wait)"
    assert rig.queued() == []
