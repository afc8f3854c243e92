"""Workers that are not there, do not agree, or do not see what the planner sees; schedulers that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

import ztfmatch
from ztfmatch.core.config import Resources
from ztfmatch.core.display import duration_text
from ztfmatch.core.errors import ConfigError, JobFailedError, ServiceError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.runner import Job, Runner, open_runner
from ztfmatch.core.runner.executor import DaskExecutor
from ztfmatch.core.runner.workers import Workers, agreed
from ztfmatch.core.tasks.agreement import Agreement, Sight, differences, versions

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

_BUDGET = 2 << 30


@dataclass(frozen=True)
class Named:
    """A task that does nothing."""

    key: str = "task"
    storage: Storage | None = None


def answer(task: Named) -> dict[str, Any]:
    return {"key": task.key}


@contextlib.contextmanager
def cluster_of(place: Path, preload: str = "", workers: int = 1) -> Iterator[LocalCluster]:
    """A scheduler in this process with workers in others, each of which does something first."""
    script = place / "preloaded.py"
    script.write_text(preload)
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=_BUDGET, preload=[str(script)]
    ) as cluster:
        yield cluster


def run(resources: Resources, job: Job) -> list[dict[str, Any]]:
    with open_runner(resources) as runner:
        return runner.run(job)


OTHER_VERSION = "import ztfmatch; ztfmatch.__version__ = '0.0.9'"
OTHER_FORMAT = "import ztfmatch.core.io.storefile; ztfmatch.core.io.storefile.FORMAT_VERSION = 1"
NO_ZTFMATCH = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ztfmatch":
            raise ModuleNotFoundError("No module named 'ztfmatch'")
sys.meta_path.insert(0, Nothing())
"""


@pytest.mark.parametrize(
    ("preload", "complaint"),
    [
        (OTHER_VERSION, f"has ztfmatch 0.0.9 instead of {ztfmatch.__version__}: install the same version everywhere"),
        (OTHER_FORMAT, "has store format 1 instead of "),
        (NO_ZTFMATCH, f"has no ztfmatch {ztfmatch.__version__} ("),
    ],
    ids=["version", "format", "none"],
)
def test_open_runner_worker_of_another_installation_is_refused_before_any_task(
    tmp_path: Path, preload: str, complaint: str
) -> None:
    with cluster_of(tmp_path, preload) as cluster:
        resources = Resources(scheduler=cluster.scheduler_address, wait_s=20)
        with pytest.raises(ConfigError) as caught:
            run(resources, Job("test", answer, [Named()], "versions"))
    assert re.match(rf"worker tcp://\S+ of the Dask scheduler at {cluster.scheduler_address}", str(caught.value))
    assert complaint in str(caught.value)


def test_outcomes_worker_of_another_version_that_comes_later_computes_nothing(tmp_path: Path) -> None:
    """Each task asks again, since a worker may come after the others were asked."""
    with cluster_of(tmp_path, OTHER_VERSION) as cluster, Client(cluster) as client:
        unasked = DaskExecutor(client, 0, Workers(client, elsewhere=False))
        with pytest.raises(JobFailedError, match=r"1 of 1 tasks failed.*has ztfmatch 0.0.9 instead of"):
            Runner(unasked, _BUDGET).run(Job("test", answer, [Named()], "late"))


def test_agree_scheduler_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The scheduler of a LocalCluster is in this process."""
    with cluster_of(tmp_path) as cluster, Client(cluster) as client:
        agreement = Agreement.here()
        monkeypatch.setattr(ztfmatch, "__version__", "0.0.9")
        workers = Workers(client, "the scheduler")
        monkeypatch.setattr("ztfmatch.core.runner.workers.Agreement.here", lambda: agreement)
        with pytest.raises(ConfigError, match=r"the scheduler: .* has ztfmatch 0.0.9 instead of"):
            workers.agree(agreement)


def test_differences_names_all_and_which_is_whose() -> None:
    assert differences(versions(), versions()) == ""
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == "b 3 instead of 2, c 4 instead of None"


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text('{"id": "this one"}')
    return Storage.at(tmp_path / "store")


BLIND = """
import io, pathlib
def blind(self, *args, **kwargs):
    if "{hidden}" in str(self):
        raise FileNotFoundError(2, "No such file or directory", str(self))
    return io.open(self, *args, **kwargs)
pathlib.Path.open = blind
"""


@pytest.mark.parametrize("hidden", ["store.json", "seen-", "psfcat"])
def test_run_workers_that_do_not_see_the_files_are_refused_before_any_task(
    tmp_path: Path, store: Storage, hidden: str
) -> None:
    """They would call the store damaged, quarantine catalogs, or write where nobody reads."""
    catalog = tmp_path / "a_psfcat.fits"
    catalog.write_bytes(b"SIMPLE")
    with cluster_of(tmp_path, BLIND.format(hidden=hidden)) as cluster:
        resources = Resources(scheduler=cluster.scheduler_address, wait_s=20)
        job = Job("test", answer, [Named(storage=store)], "sight", store, (str(catalog),))
        with pytest.raises(ConfigError) as caught:
            run(resources, job)
    assert re.search(
        rf"on \S+ \S*{hidden}\S* cannot be read \(No such file or directory\): workers need", str(caught.value)
    )
    assert list(store.list("staging/")) == []


def test_run_workers_that_see_all_work_and_leave_no_trace(tmp_path: Path, store: Storage) -> None:
    with cluster_of(tmp_path) as cluster:
        resources = Resources(scheduler=cluster.scheduler_address, wait_s=20)
        assert run(resources, Job("test", answer, [Named(storage=store)], "sight")) == [{"key": "task"}]
        assert run(resources, Job("test", answer, [Named(storage=store)], "staged", store)) == [{"key": "task"}]
    assert not [path for path, _ in store.list("staging/") if "seen-" in path]


def test_sight_of_another_file_under_the_same_path_is_told(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    file.write_text("one")
    sight = Sight.of(file)
    assert sight.fault() == ""
    file.write_text("two")
    assert sight.fault() == f"{file} is another file"


def test_agreed_of_a_local_cluster_asks_nobody(store: Storage) -> None:
    workers = Workers(client=None, elsewhere=False)
    with agreed(workers, store, "operation", [Named(storage=store)], ("nowhere",)) as agreement:
        assert agreement == Agreement.here()
    assert list(store.list("staging/")) == []


def test_open_runner_scheduler_without_workers_is_told_and_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster_of(tmp_path, workers=0) as cluster:
        state = f"the Dask scheduler at {cluster.scheduler_address} has no workers"
        with (
            pytest.raises(ServiceError) as caught,
            open_runner(Resources(scheduler=cluster.scheduler_address, wait_s=1)),
        ):
            pass
    assert str(caught.value) == f"{state}: gave up after 1 s (--wait)"
    (said,) = [record.getMessage() for record in caplog.records if record.name == "ztfmatch"]
    assert said.startswith(f"{state}; waiting for them since 0.")


def test_outcomes_all_workers_gone_is_told_and_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with cluster_of(tmp_path, workers=0) as cluster, Client(cluster) as client:
        workers = Workers(client, "the cluster", wait_s=1.0, elsewhere=False)
        with pytest.raises(ServiceError, match="the cluster has no workers: gave up after 1 s"):
            Runner(DaskExecutor(client, 0, workers), _BUDGET).run(Job("test", answer, [Named()], "gone"))
    assert [record.getMessage() for record in caplog.records if record.name == "ztfmatch"]


def test_open_runner_scheduler_that_never_answers_is_given_up() -> None:
    """Something listens, as a hung scheduler does, and says nothing."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = "tcp://{}:{}".format(*mute.getsockname())
        expected = f"no Dask scheduler answers at {address} within 0.5 s"
        with pytest.raises(ServiceError, match=expected), open_runner(Resources(scheduler=address, wait_s=0.5)):
            pass


def test_open_runner_scheduler_that_is_stopped_later_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://\S+", line)))
        with Client(address) as client:
            workers = Workers(client, "the scheduler", wait_s=0.5)
            assert workers.check() is False
            os.kill(scheduler.pid, signal.SIGSTOP)
            with pytest.raises(ServiceError, match=r"the scheduler does not answer: gave up after 0.5 s"):
                workers.await_first()
            os.kill(scheduler.pid, signal.SIGCONT)
        scheduler.kill()


@pytest.mark.parametrize(
    ("address", "error", "complaint"),
    [
        ("tcp://127.0.0.1:1", ServiceError, "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("tcp://127.0.0.1", ConfigError, "expected an address such as tcp://host:8786"),
        ("tcp://127.0.0.1:port", ConfigError, "expected an address such as tcp://host:8786"),
        ("invalid://nowhere", ConfigError, "--scheduler invalid://nowhere: .* expected an address"),
        ("tls://127.0.0.1:8786", ConfigError, "tls://127.0.0.1:8786 needs certificates: .*tls.ca-file"),
    ],
)
def test_open_runner_scheduler_that_cannot_be_is_one_clear_error(
    address: str, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint), open_runner(Resources(scheduler=address, wait_s=0.5)):
        pass


def test_open_runner_certificates_that_are_not_there_are_told(tmp_path: Path) -> None:
    place = str(tmp_path / "nowhere")
    with (
        dask.config.set({"distributed.comm.tls.ca-file": place, "distributed.comm.tls.client.cert": place}),
        pytest.raises(ConfigError, match=r"the certificates of Dask's configuration: .*No such file"),
        open_runner(Resources(scheduler="tls://127.0.0.1:1", wait_s=0.5)),
    ):
        pass


def test_open_runner_within_a_running_loop_works_as_in_a_notebook(tmp_path: Path) -> None:
    async def notebook() -> list[dict[str, Any]]:
        return run(Resources(scheduler=cluster.scheduler_address, wait_s=20), Job("test", answer, [Named()], "loop"))

    with cluster_of(tmp_path) as cluster:
        assert asyncio.run(notebook()) == [{"key": "task"}]


def test_open_runner_other_service_at_the_address_is_told() -> None:
    """A web server, for instance, whose words make no sense to Dask."""
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = "tcp://{}:{}".format(*server.server_address[:2])
        with pytest.raises(ServiceError, match=f"at {address}"), open_runner(Resources(scheduler=address, wait_s=5)):
            pass
        server.shutdown()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (45, "45 s"), (60, "1 min"), (600, "10 min"), (43_200, "12 h")]
)
def test_duration_text_is_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
