"""How tasks are given out to workers: short ones many a call, long ones alone, what failed again and alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from test_runner import Scripted, perform, tries_of

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.runner import Job, Outcome, Runner, open_runner
from ztfmatch.core.runner.executor import DaskExecutor, _Left
from ztfmatch.core.tasks import agreement
from ztfmatch.core.tasks.agreement import Agreement, Call

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

_BUDGET = 2 << 30


@dataclass(frozen=True)
class Named:
    key: str


class OddError(Exception):
    """An error that can be pickled, but not read back."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def odd(task: Named) -> dict[str, Any]:
    raise OddError("scripted ", task.key)


def left_of(number: int, retries: int = 0) -> _Left[Any]:
    return _Left(Job("test", odd, [Named(f"task-{i}") for i in range(number)], "test"), retries)


def answer(tasks: list[Any], seconds: float, error: Exception | None = None) -> list[Outcome[Any]]:
    return [Outcome(task.key, None if error else task.key, error, seconds) for task in tasks]


def test_take_tasks_whose_length_is_unknown_go_alone() -> None:
    left = left_of(1000)
    assert [len(left.take(6)) for _ in range(6)] == [1] * 6


@pytest.mark.parametrize(("seconds", "number"), [(10.0, 1), (0.25, 1), (0.05, 5), (0.0, 64)])
def test_take_as_many_as_are_done_in_a_quarter_of_a_second(seconds: float, number: int) -> None:
    left = left_of(1000)
    tasks = left.take(6)
    assert len(list(left.settle(tasks, answer(tasks, seconds)))) == 1
    assert len(left.take(6)) == number


def test_take_the_last_tasks_are_shared_among_the_workers() -> None:
    left = left_of(13)
    tasks = left.take(6)
    assert len(list(left.settle(tasks, answer(tasks, 0.0)))) == 1
    assert [len(left.take(6)) for _ in range(12)] == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]


def test_settle_tasks_that_a_call_did_not_come_to_are_the_next() -> None:
    left = left_of(100)
    first = left.take(6)
    list(left.settle(first, answer(first, 0.0)))
    tasks = left.take(6)
    done = list(left.settle(tasks, answer(tasks[:2], 10.0)))
    assert [outcome.key for outcome in done] == ["task-1", "task-2"]
    assert [task.key for task in left.take(6)] == ["task-3"]


def test_settle_failed_task_is_tried_again_alone_and_given_up_after_its_retries() -> None:
    left, error = left_of(3, retries=1), RuntimeError("scripted")
    (task,) = left.take(1)
    assert list(left.settle([task], answer([task], 0.0, error))) == []
    assert left.take(1) == [task]
    (outcome,) = left.settle([task], answer([task], 0.0, error))
    assert (outcome.key, outcome.error) == (task.key, error)


def test_run_call_no_task_begins_behind_a_long_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tasks: list[Any] = [Scripted(f"task-{i}", str(tmp_path)) for i in range(5)]
    assert len(Call(Agreement.here(), perform, tasks, None, "test").run()) == 5
    monkeypatch.setattr(agreement, "CALL_S", -1.0)
    (outcome,) = Call(Agreement.here(), perform, tasks, None, "test").run()
    assert outcome.key == "task-0"


def test_run_call_error_that_cannot_be_sent_is_told_by_its_name() -> None:
    (outcome,) = Call(Agreement.here(), odd, [Named("task")], None, "test").run()
    assert repr(outcome.error) == "RuntimeError('OddError: scripted task')"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=tmp_path
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_run_short_tasks_are_many_a_call_and_few_are_in_flight(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    submit = DaskExecutor._submit

    def counted(self: DaskExecutor, job: Any, agreement: Any, given: dict[str, list[Any]]) -> list[Any]:
        sent.extend(map(len, given.values()))
        return submit(self, job, agreement, given)

    monkeypatch.setattr(DaskExecutor, "_submit", counted)
    tasks = [Scripted(f"task-{i}", str(tmp_path)) for i in range(400)]
    results = Runner(DaskExecutor(client, 2), _BUDGET).run(Job("test", perform, tasks, "many"))
    assert [result["key"] for result in results] == [task.key for task in tasks]
    assert [tries_of(tmp_path, task.key) for task in tasks] == [1] * 400
    assert sent[:3] == [1, 1, 1]
    assert max(sent) > 1
    assert len(sent) < 200


def test_run_of_short_tasks_only_the_one_that_kills_its_workers_fails(tmp_path: Path) -> None:
    tasks = [Scripted(f"task-{i}", str(tmp_path), ("kill",) if i == 150 else ("ok",)) for i in range(200)]
    with (
        open_runner(Resources(workers=1)) as runner,
        pytest.raises(JobFailedError, match=r"^test: 1 of 200 tasks failed after retries. task-150: KilledWorker"),
    ):
        runner.run(Job("test", perform, tasks, "killed"))
