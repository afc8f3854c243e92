"""The program of workers: a failure is one, unless the run that it was to work for has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from distributed.cli import dask_worker

from ztfmatch.core.clusters import MEETING
from ztfmatch.core.runner import slurmworker


@pytest.fixture
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(dask_worker, "main", fail)
    monkeypatch.setattr(sys, "argv", ["worker", "tls://127.0.0.1:1", "--host", "127.0.0.1"])
    monkeypatch.delenv(MEETING, raising=False)


@pytest.mark.usefixtures("no_certificates")
def test_a_worker_that_cannot_start_fails_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="failed to start"):
        slurmworker.main()
    (tmp_path / "meeting").touch()
    monkeypatch.setenv(MEETING, str(tmp_path / "meeting"))
    with pytest.raises(RuntimeError, match="failed to start"):
        slurmworker.main()


@pytest.mark.usefixtures("no_certificates")
def test_a_worker_that_cannot_start_when_the_run_has_ended_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MEETING, str(tmp_path / "meeting"))
    slurmworker.main()
    assert capsys.readouterr().err == "ztfmatch worker: the run ended before this worker had begun\n"
