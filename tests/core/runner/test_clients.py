"""Clients that others made, and clusters of a gateway, whose library is played here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import pytest
from distributed import Client, LocalCluster

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.runner import Job, open_runner


@dataclass(frozen=True)
class Number:
    key: str
    value: int


def double(task: Number) -> int:
    return 2 * task.value


JOB = Job("doubling", double, [Number(f"n{i}", i) for i in range(5)], "none")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as started:
        yield started


def test_client_of_another_runs_tasks_and_stays_open(cluster: LocalCluster) -> None:
    """It need not be the default one."""
    with Client(cluster, set_as_default=False) as client:
        for _ in range(2):
            with open_runner(Resources(client=client)) as runner:
                assert runner.run(JOB) == [0, 2, 4, 6, 8]
        assert client.status == "running"


def test_client_beside_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="client has workers of its own"):
        Resources(1, client=object()).validate()


def test_something_else_than_a_client_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected a distributed\.Client"), open_runner(Resources(client="tcp://x")):
        pass


class PlayedServerError(Exception):
    """As dask-gateway's."""


class PlayedCluster:
    """A cluster of a gateway, which is the local one."""

    def __init__(self, name: str, local: LocalCluster, said: list[Any]) -> None:
        self.name, self._local, self._said = name, local, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._said.append("closed")

    def scale(self, workers: int) -> None:
        self._said.append(workers)

    def get_client(self, set_as_default: bool) -> Client:
        return Client(self._local, set_as_default=set_as_default)


@pytest.fixture
def gateway(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a gateway is asked for."""
    said: list[Any] = []

    class Gateway:
        def __init__(self, address: str | None) -> None:
            said.append(address)
            if address == "https://nowhere":
                raise OSError("Cannot connect")

        def new_cluster(self) -> PlayedCluster:
            return PlayedCluster("new", cluster, said)

        def connect(self, name: str) -> PlayedCluster:
            if name == "none":
                raise ValueError("Cluster none not found")
            return PlayedCluster(name, cluster, said)

    module, client = ModuleType("dask_gateway"), ModuleType("dask_gateway.client")
    vars(module).update(Gateway=Gateway)
    vars(client).update(GatewayClusterError=PlayedServerError, GatewayServerError=PlayedServerError)
    monkeypatch.setitem(sys.modules, "dask_gateway", module)
    monkeypatch.setitem(sys.modules, "dask_gateway.client", client)
    return said


@pytest.mark.parametrize(
    ("address", "workers", "asked"),
    [
        ("gateway://host:8000", 3, ["https://host:8000", 3, "closed"]),
        ("gateway+http://host", 1, ["http://host", 1, "closed"]),
        ("gateway://host/mine", 0, ["https://host", "closed"]),
        ("gateway://", 2, [None, 2, "closed"]),
    ],
)
def test_gateway_starts_or_finds_a_cluster(gateway: list[Any], address: str, workers: int, asked: list[Any]) -> None:
    with open_runner(Resources(workers, scheduler=address)) as runner:
        assert runner.run(JOB) == [0, 2, 4, 6, 8]
    assert gateway == asked


@pytest.mark.parametrize(
    ("address", "workers", "kind", "said"),
    [
        ("gateway://host", 0, ConfigError, "say of how many workers"),
        ("gateway://host/mine", 2, ConfigError, "has workers of its own"),
        ("gateway:host", 2, ConfigError, "expected gateway://HOST"),
        ("gateway://nowhere", 1, ServiceError, "Cannot connect"),
        ("gateway://host/none", 0, ConfigError, "Cluster none not found"),
    ],
)
@pytest.mark.usefixtures("gateway")
def test_wrong_gateway_is_told(address: str, workers: int, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said), open_runner(Resources(workers, scheduler=address)):
        pass


def test_gateway_without_its_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_gateway", None)
    with pytest.raises(ConfigError, match=r"pip install 'ztfmatch\[gateway\]'"):
        open_runner(Resources(1, scheduler="gateway://host")).__enter__()
