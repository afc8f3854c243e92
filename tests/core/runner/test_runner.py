"""The runner: loop, local cluster and scheduler do the same; failures are scripted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import ztfmatch
from ztfmatch.core.config import AppendConfig, Resources
from ztfmatch.core.errors import ConfigError, JobFailedError, MemoryBudgetError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.runner import Executor, Job, LoopExecutor, Runner, open_runner
from ztfmatch.core.runner.executor import DaskExecutor
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_epochal
from ztfmatch.simulate import SimulationConfig, simulate

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

_BUDGET = 2 << 30


@dataclass(frozen=True)
class Scripted:
    """A task that does what its script says, try after try: ok, fail or kill."""

    key: str
    place: str
    script: tuple[str, ...] = ("ok",)


def perform(task: Scripted) -> dict[str, Any]:
    """Count the try in a file, then do what the script says for it."""
    tries = Path(task.place) / task.key
    done = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(done + 1))
    step = task.script[min(done, len(task.script) - 1)]
    if step == "fail":
        raise RuntimeError(f"scripted failure {done + 1} of {task.key}")
    if step == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"key": task.key, "tries": done + 1}


def tries_of(place: Path, key: str) -> int:
    return int((place / key).read_text())


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=_BUDGET) as cluster:
        yield cluster


@pytest.fixture(params=["loop", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "loop":
        yield LoopExecutor(retries=2)
        return
    with Client(request.getfixturevalue("cluster")) as client:
        yield DaskExecutor(client, retries=2)


def test_run_many_tasks_returns_results_in_order_of_tasks(executor: Executor, tmp_path: Path) -> None:
    tasks = [Scripted(f"task-{i}", str(tmp_path)) for i in range(40)]
    results = Runner(executor, _BUDGET).run(Job("test", perform, tasks, "many"))
    assert [result["key"] for result in results] == [task.key for task in tasks]


def test_run_no_tasks_returns_nothing(executor: Executor) -> None:
    assert Runner(executor, _BUDGET).run(Job("test", perform, [], "none")) == []


def test_run_task_that_fails_twice_succeeds(executor: Executor, tmp_path: Path) -> None:
    task = Scripted("twice", str(tmp_path), ("fail", "fail", "ok"))
    assert Runner(executor, _BUDGET).run(Job("test", perform, [task], "twice"))[0]["tries"] == 3


def test_run_task_that_always_fails_names_it_and_a_rerun_resumes(executor: Executor, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "store")
    place = tmp_path / "tries"
    place.mkdir()
    tasks = [Scripted(f"good-{i}", str(place)) for i in range(5)]
    tasks.insert(2, Scripted("tile-7", str(place), ("fail", "fail", "fail", "ok")))
    job = Job("matching", perform, tasks, "operation", storage)
    with pytest.raises(
        JobFailedError, match=r"matching: 1 of 6 tasks failed.*tile-7: RuntimeError: scripted failure 3"
    ):
        Runner(executor, _BUDGET).run(job)
    results = Runner(executor, _BUDGET).run(job)
    assert [result["key"] for result in results] == [task.key for task in tasks]
    assert [tries_of(place, f"good-{i}") for i in range(5)] == [1] * 5
    assert tries_of(place, "tile-7") == 4


def test_run_worker_killed_in_a_task_is_survived(cluster: LocalCluster, tmp_path: Path) -> None:
    tasks = [Scripted(f"task-{i}", str(tmp_path), ("kill", "ok") if i == 3 else ("ok",)) for i in range(12)]
    with Client(cluster) as client:
        results = Runner(DaskExecutor(client, 2), _BUDGET).run(Job("test", perform, tasks, "killed"))
    assert [result["key"] for result in results] == [task.key for task in tasks]
    assert tries_of(tmp_path, "task-3") >= 2


@pytest.mark.parametrize("stores", ["two stores", "one store"])
def test_run_two_clients_on_one_scheduler_get_their_own_results(
    cluster: LocalCluster, tmp_path: Path, stores: str
) -> None:
    """Two commands name their tasks alike, and the first holds a result while the second asks for its own."""
    places = [tmp_path / "a", tmp_path / ("b" if stores == "two stores" else "a")]
    for place in set(places):
        place.mkdir()
    jobs = [Job("reading", perform, [Scripted(f"inspect-{i}", str(p)) for i in range(2)], "inspect") for p in places]
    with Client(cluster) as one, Client(cluster) as other:
        first = DaskExecutor(one).outcomes(jobs[0])
        held = next(first)
        second = list(DaskExecutor(other).outcomes(jobs[1]))
        both = [held, *first]
    assert [outcome.error for outcome in (*both, *second)] == [None] * 4
    for place in set(places):
        assert [tries_of(place, f"inspect-{i}") for i in range(2)] == [2 if stores == "one store" else 1] * 2


def test_append_two_stores_on_one_scheduler_at_once_read_their_own_catalogs(
    sky: Path, tmp_path: Path, cluster: LocalCluster
) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    ours, theirs = sorted(map(str, (sky / "catalogs").rglob("*_psfcat.fits")))[:2]
    task = InspectTask("inspect-000000", (CatalogInput(theirs),))
    with Client(cluster) as client:
        other = DaskExecutor(client).outcomes(Job("reading catalogs", inspect_epochal, [task, task], "inspect"))
        next(other)
        store.append(ours, resources=Resources(scheduler=cluster.scheduler_address))
        other.close()
    assert store.snapshot().table("exposures", ["source"])["source"].to_pylist() == [ours]


def test_run_reports_progress_to_the_last_task(executor: Executor, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    tasks = [Scripted(f"task-{i}", str(tmp_path)) for i in range(3)]
    Runner(executor, _BUDGET, lambda *args: seen.append(args)).run(Job("test", perform, tasks, "progress"))
    assert seen == [("test", n, 3) for n in range(4)]


def test_check_memory_above_the_budget_names_the_worst_task() -> None:
    with pytest.raises(MemoryBudgetError, match=r"task b would need 300 MiB.*budget of a worker is 256 MiB"):
        Runner(LoopExecutor(), 256 << 20).check_memory({"a": 1 << 20, "b": 300 << 20})


def test_open_runner_unreachable_scheduler_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="invalid://nowhere"), open_runner(Resources(scheduler="invalid://nowhere")):
        pass


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runner") / "sky"
    simulate(place, SimulationConfig(n_exposures=6, stars_per_quadrant=600))
    return place


def build(sky: Path, place: Path, resources: Resources) -> list[tuple[str, str, str]]:
    """Build a store in small tasks; return table, path and checksum of every file."""
    config = ztfmatch.StoreConfig(seeds_per_tile=700)
    store = ztfmatch.init_store(place, str(sky / "references"), config, resources=resources)
    append = AppendConfig(exposures=sky / "exposures.csv", rows_per_task=3000)
    store.append(str(sky / "catalogs"), append, resources=resources)
    store.update_statistics(resources=resources)
    assert store.verify(deep=True, resources=resources).passed
    return sorted((file.table, file.path, file.sha256) for file in open_snapshot(store.storage).files)


def test_three_runners_give_equal_bytes(sky: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    loop = build(sky, tmp_path / "loop", Resources())
    assert len({path for table, path, _ in loop if table == "detections"}) > 8
    assert build(sky, tmp_path / "workers", Resources(workers=2)) == loop
    assert build(sky, tmp_path / "scheduler", Resources(scheduler=cluster.scheduler_address)) == loop


def test_append_killed_before_the_commit_resumes_without_redoing_tasks(sky: Path, tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    broken = _StoppingExecutor(after=1)
    with pytest.raises(KeyboardInterrupt):
        _append(store, sky, Runner(broken, _BUDGET))
    assert store.snapshot().number == 0
    staged = {path.stem for path in (tmp_path / "store" / "staging").rglob("*.json")}
    assert {name.split("-")[0] for name in staged} == {"inspect", "match"}
    assert len([name for name in staged if name.startswith("match")]) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "data" / "detections").rglob("*.parquet")}
    _append(store, sky, Runner(LoopExecutor(), _BUDGET))
    assert store.snapshot().number == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert store.verify().passed
    assert not list((tmp_path / "store" / "staging").rglob("*.json"))


def _append(store: ztfmatch.Store, sky: Path, runner: Runner) -> None:
    from ztfmatch.core.operations.append import append_catalogs

    config = AppendConfig(exposures=sky / "exposures.csv", rows_per_task=5000)
    append_catalogs(store.storage, [str(sky / "catalogs")], config, runner)


@dataclass
class _StoppingExecutor:
    """Runs so many matching tasks, then stops as if interrupted."""

    after: int

    def outcomes(self, job: Job) -> Iterator[Any]:
        for done, outcome in enumerate(LoopExecutor().outcomes(job)):
            if job.title == "matching" and done == self.after - 1:
                raise KeyboardInterrupt
            yield outcome


def test_staged_results_are_json(sky: Path, tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    with pytest.raises(KeyboardInterrupt):
        _append(store, sky, Runner(_StoppingExecutor(after=1), _BUDGET))
    (path,) = (tmp_path / "store" / "staging").rglob("match-*.json")
    assert set(json.loads(path.read_text())) == {"files", "counts", "digest"}


def test_open_runner_worker_killed_is_replaced_and_the_job_finishes(tmp_path: Path) -> None:
    """The workers of ``--workers`` are forks of a prepared process; one that is killed is forked again."""
    tasks = [Scripted(f"task-{i}", str(tmp_path), ("kill", "ok") if i == 3 else ("ok",)) for i in range(12)]
    with open_runner(Resources(workers=2)) as runner:
        results = runner.run(Job("test", perform, tasks, "forked"))
    assert [result["key"] for result in results] == [task.key for task in tasks]
    assert tries_of(tmp_path, "task-3") >= 2


def test_run_two_jobs_on_one_runner_after_another(tmp_path: Path) -> None:
    with open_runner(Resources(workers=1)) as runner:
        for name in ("first", "second"):
            tasks = [Scripted(f"{name}-{i}", str(tmp_path)) for i in range(3)]
            assert len(runner.run(Job(name, perform, tasks, name))) == 3
