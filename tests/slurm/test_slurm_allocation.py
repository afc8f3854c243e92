"""The tasks of one job of a real SLURM as a cluster, over two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import rig as slurm_rig
from faults import Judge
from rig import Ended, Rig
from slurmscene import Scene

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing())]

ON_TWO_NODES = ("--nodes=2", "--ntasks=3", "--cpus-per-task=1", "--mem-per-cpu=1000")


def profile(place: Path, *lines: str) -> Path:
    path = place / "site.toml"
    given = (f'certificates = "{place}"', f'local_directory = "{place}"', 'host = "127.0.0.1"', *lines)
    path.write_text("\n".join(('kind = "allocation"', *given)) + "\n")
    return path


def script(place: Path, command: str) -> Path:
    path = place / "job.sh"
    path.write_text(f"#!/bin/sh\n{command}\n")
    return path


def run(rig: Rig, place: Path, command: str, options: tuple[str, ...] = ON_TWO_NODES) -> Ended:
    return rig.ended(rig.submit(script(place, command), options=options), 120)


def append(scene: Scene, store: Path, cluster: Path, *options: str) -> str:
    words = ["append", str(store), *scene.sky.catalogs, "--cluster", str(cluster), "--memory", "512MiB", *options]
    return f"srun --kill-on-bad-exit=1 {scene.program} {' '.join(words)}"


def test_tasks_of_a_job_on_two_nodes_make_the_same_store(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    ended = run(rig, tmp_path, append(scene, store, profile(tmp_path)))
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.log
    assert sum(line.startswith("Snapshot 1: ") for line in ended.log.splitlines()) == 1
    assert "Traceback" not in ended.log  # the workers share the command's log
    assert "distributed" not in ended.log
    assert Judge().content(store) == scene.content
    assert list(tmp_path.glob(".ztfmatch-*")) == []


def test_failure_of_the_first_task_is_the_job_s(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    """All that can be used is one catalog, which is none."""
    command = append(scene, store, profile(tmp_path), "--strict")
    ended = run(rig, tmp_path, command)
    assert (ended.state, ended.exit_code) == ("FAILED", 1), ended.log
    assert commit_numbers(Storage.at(store)) == [0]
    assert list(tmp_path.glob(".ztfmatch-*")) == []


def test_one_task_is_told(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    command = append(scene, store, profile(tmp_path))
    ended = run(rig, tmp_path, command, ("--ntasks=1", "--mem-per-cpu=1000"))
    assert (ended.state, ended.exit_code) == ("FAILED", 2), ended.log
    assert "this step has one task" in ended.log


def test_killed_worker_task_is_replaced_by_the_others(rig: Rig, scene: Scene, store: Path, tmp_path: Path) -> None:
    """The third task ends as soon as it has begun; without --kill-on-bad-exit the step goes on."""
    command = append(scene, store, profile(tmp_path)).replace("--kill-on-bad-exit=1", "--kill-on-bad-exit=0")
    program = tmp_path / "dying"
    program.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" != 2 ] || kill -KILL $$\nexec "{scene.program}" "$@"\n')
    program.chmod(0o755)
    ended = run(rig, tmp_path, command.replace(str(scene.program), str(program)))
    assert "Snapshot 1: " in ended.log
    assert Judge().content(store) == scene.content
