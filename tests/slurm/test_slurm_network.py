"""What listens during a run in SLURM jobs: none but its own processes can talk to it, and no stranger reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import rig as slurm_rig
from distributed.comm import connect
from distributed.utils import get_ip
from rig import Rig

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ServiceError
from ztfmatch.core.runner import Job, open_runner
from ztfmatch.core.runner.certificates import credentials_for_run
from ztfmatch.core.runner.start import start_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm_rig.missing()), reason=slurm_rig.missing())]
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
_MARK = "ZTFMATCH_TEST_RUN"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with slurm_rig.running() as started:
        yield started


def profile(place: Path, *lines: str) -> Path:
    """A profile of small jobs on the rig's nodes; of two lines for a key the later counts."""
    given = ('kind = "slurm"', f'log_directory = "{place}"', f'local_directory = "{place}"', 'interface = "lo"',
             *lines)  # fmt: skip
    path = place / "site.toml"
    path.write_text("\n".join({line.partition(" =")[0]: line for line in given}.values()))
    return path


@dataclass(frozen=True)
class Port:
    """A port that a process of a run listens on."""

    host: str
    port: int
    program: str


def listening(mark: str) -> list[Port]:
    """Ports of all processes that have a mark in their environment, on whatever node they run."""
    found: list[Port] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.environ().get(_MARK) == mark:
                program = " ".join(process.cmdline())
                sockets = process.net_connections("inet")
                found += [Port(*one.laddr, program) for one in sockets if one.status == psutil.CONN_LISTEN]
    return found


def answers(port: Port, protocol: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether what listens there exchanges the first words of Dask."""

    async def greet() -> bool:
        arguments: dict[str, Any] = {"ssl_context": context} if context else {}
        comm = await connect(f"{protocol}://{port.host}:{port.port}", timeout=3, **arguments)
        await comm.write({"op": "identity", "reply": True})
        return "id" in await comm.read()

    try:
        return asyncio.run(asyncio.wait_for(greet(), 5))
    except (OSError, TimeoutError, ValueError, TypeError):
        return False


def contexts(own: Path, foreign: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    """Ways to speak TLS: as nobody, with the certificate of another run, and as one of the run."""
    for name, directory in (("nobody", None), ("another run", foreign), ("the run", own)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if directory is not None:
            context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
        yield name, context


@pytest.fixture
def mark(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> str:
    """What all processes of a run have in their environment."""
    text = uuid.uuid4().hex
    for name, value in {**rig.environment, _MARK: text}.items():
        monkeypatch.setenv(name, value)
    return text


def resources(place: Path, *lines: str) -> Resources:
    return Resources(cluster=str(profile(place, f'certificates = "{place}"', *lines)), workers=2, wait_s=60)


@quiet
def test_no_port_of_a_run_answers_without_its_certificate(mark: str, tmp_path: Path) -> None:
    with start_cluster(resources(tmp_path)) as workers, credentials_for_run(str(tmp_path), 3600) as foreign:
        workers.client.wait_for_workers(2, timeout=60)
        (own,) = (place for place in tmp_path.glob(".ztfmatch-run-*") if place != foreign.directory)
        assert own.stat().st_mode & 0o077 == 0
        found = {port: [name for name, context in contexts(own, foreign.directory) if answers(port, "tls", context)]
                 + ["plain"] * answers(port, "tcp") for port in listening(mark)}  # fmt: skip
    assert {port.host for port in found} == {"127.0.0.1"}
    assert not [port for port, who in found.items() if {"nobody", "another run", "plain"} & set(who)]
    # The scheduler, two workers and their nannies; the others are web servers that serve nothing.
    assert sum(who == ["the run"] for who in found.values()) == 5, found
    assert not list(tmp_path.glob(".ztfmatch-run-*"))


@quiet
def test_without_an_interface_one_address_is_listened_on(mark: str, tmp_path: Path) -> None:
    """That by which this machine reaches others; never all of them."""
    with start_cluster(resources(tmp_path, 'interface = ""')) as workers:
        workers.client.wait_for_workers(2, timeout=60)
        hosts = {port.host for port in listening(mark)}
    assert hosts == {"127.0.0.1", get_ip()}


@quiet
def test_without_encryption_only_where_asked_and_told(
    mark: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_cluster(resources(tmp_path, 'security = "none"')) as workers:
        workers.client.wait_for_workers(2, timeout=60)
        open_to_all = [port for port in listening(mark) if answers(port, "tcp")]
    assert len(open_to_all) == 5
    assert 'security = "none": whoever reaches tcp://127.0.0.1:' in caplog.text
    assert "can run code as you" in caplog.text


@quiet
def test_second_command_with_the_same_port_is_told(mark: str, tmp_path: Path) -> None:
    (port,) = slurm_rig.free_ports(1)
    given = resources(tmp_path, f"scheduler_port = {port}", 'job_name = "held"', 'job_extra_directives = ["--hold"]')
    with (
        start_cluster(given),
        pytest.raises(ServiceError, match=f"scheduler_port: port {port} of 127.0.0.1 is in use, perhaps by another"),
        start_cluster(given),
    ):
        pass


@dataclass(frozen=True)
class Named:
    """A task that does nothing."""

    key: str


def named(task: Named) -> dict[str, Any]:
    return {"key": task.key}


@quiet
def test_elastic_jobs_are_there_while_there_are_tasks(
    rig: Rig, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None before, and none after a while."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")  # for the task
    given = resources(tmp_path, "elastic = true", 'idle = "1s"', 'job_name = "elastic"')
    with open_runner(given) as runner:
        assert rig.queued() == []
        done = runner.run(Job("test", named, [Named(f"task-{i}") for i in range(4)], "elastic"))
        assert [result["key"] for result in done] == ["task-0", "task-1", "task-2", "task-3"]
        while any(job.startswith("elastic ") for job in rig.queued()):
            pass
