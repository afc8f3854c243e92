"""Where the tasks of a job meet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ztfmatch.core.clusters import AllocationProfile, read_profile
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.runner import allocation
from ztfmatch.core.runner.allocation import Meeting

STEP = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


@pytest.fixture
def profile(tmp_path: Path) -> AllocationProfile:
    (tmp_path / "site.toml").write_text(f'kind = "allocation"\ncertificates = "{tmp_path}"\n')
    made = read_profile(str(tmp_path / "site.toml"))
    assert isinstance(made, AllocationProfile)
    return made


def within(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    for name, value in {**STEP, **changed}.items():
        monkeypatch.setenv(name, value)


def test_here_is_the_step_and_its_restart(monkeypatch: pytest.MonkeyPatch, profile: AllocationProfile) -> None:
    within(monkeypatch)
    first = Meeting.here(profile)
    assert (first.task, first.tasks, first.path.name) == (1, 3, ".ztfmatch-allocation-7-0-0.json")
    within(monkeypatch, SLURM_RESTART_COUNT="1")
    assert Meeting.here(profile).path != first.path


def test_here_outside_of_srun_is_told(monkeypatch: pytest.MonkeyPatch, profile: AllocationProfile) -> None:
    within(monkeypatch)
    monkeypatch.delenv("SLURM_STEP_ID")
    with pytest.raises(ConfigError, match="start the command there with srun"):
        Meeting.here(profile)
    within(monkeypatch, SLURM_STEP_NUM_TASKS="1")
    with pytest.raises(ConfigError, match="this step has one task"):
        Meeting.here(profile)


def test_met_takes_only_a_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's would have the worker run his code."""
    meeting = Meeting(1, 2, tmp_path / "meeting.json")
    with allocation._announced(meeting, "tls://127.0.0.1:1", None):
        assert allocation._met(meeting, 5.0).address == "tls://127.0.0.1:1"
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with pytest.raises(ConfigError, match="is another user's"):
            allocation._met(meeting, 5.0)
    assert not meeting.path.exists()


def test_met_gives_up(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"task 1 of 2: the first task did not write"):
        allocation._met(Meeting(1, 2, tmp_path / "meeting.json"), 0.3)
