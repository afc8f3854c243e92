"""Certificates of a run: private, of the run alone, gone at its end; what is told where they are wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.runner import open_runner
from ztfmatch.core.runner.certificates import Credentials, credentials_for_run
from ztfmatch.core.runner.start import start_cluster

quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def test_credentials_only_the_user_can_read_them_and_the_end_removes_them(tmp_path: Path) -> None:
    with credentials_for_run(str(tmp_path), 60.0) as made:
        assert made.directory.parent == tmp_path
        assert made.directory.stat().st_mode & 0o777 == 0o700
        assert {path.name: path.stat().st_mode & 0o777 for path in made.directory.iterdir()} == {
            "key.pem": 0o600,
            "certificate.pem": 0o600,
        }
        assert made.expired() is None
    assert list(tmp_path.iterdir()) == []


def test_credentials_of_a_killed_run_are_removed_by_the_next_after_their_end(tmp_path: Path) -> None:
    with ExitStack() as forgotten:
        for lifetime_s in (3600.0, -1.0):
            forgotten.enter_context(credentials_for_run(str(tmp_path), lifetime_s))
        ended, running = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime)
        with credentials_for_run(str(tmp_path), 60.0):
            assert (ended.exists(), running.exists()) == (False, True)


def test_credentials_that_ended_end_the_run_with_what_to_do(tmp_path: Path) -> None:
    with credentials_for_run(str(tmp_path), -1.0) as made:
        said = made.expired()
    assert isinstance(said, ConfigError)
    assert "certificates of this run ended at 20" in str(said)
    assert "raise certificate_lifetime in the profile" in str(said)


def test_credentials_where_nothing_can_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            ConfigError, match=r"cannot write the certificates of this run in .*/file/below: Not a directory"
        ),
        credentials_for_run(str(tmp_path / "file" / "below"), 60.0),
    ):
        pass


def dask_settings(credentials: Credentials) -> dict[str, Any]:
    """Dask's configuration that names a client's certificates."""
    certificate, key = str(credentials.directory / "certificate.pem"), str(credentials.directory / "key.pem")
    tls = "distributed.comm.tls"
    return {f"{tls}.ca-file": certificate, f"{tls}.client.cert": certificate, f"{tls}.client.key": key}


@contextmanager
def scheduler(credentials: Credentials) -> Iterator[str]:
    """Address of a scheduler with certificates."""
    certificate, key = (str(credentials.directory / name) for name in ("certificate.pem", "key.pem"))
    words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        try:
            yield next(found[0] for line in started.stderr if (found := re.search(r"tls://\S+", line)))
        finally:
            started.kill()


@quiet
def test_open_runner_wrong_certificate_is_one_line(tmp_path: Path) -> None:
    with (
        credentials_for_run(str(tmp_path), 60.0) as own,
        credentials_for_run(str(tmp_path), 60.0) as foreign,
        scheduler(own) as address,
        dask.config.set(dask_settings(foreign)),
        pytest.raises(
            ConfigError, match=f"--scheduler {address}: its certificates and those of Dask's .* disagree: self-signed"
        ),
        open_runner(Resources(scheduler=address, wait_s=5)),
    ):
        pass


@quiet
def test_open_runner_expired_certificate_is_one_line(tmp_path: Path) -> None:
    with (
        credentials_for_run(str(tmp_path), -1.0) as own,
        scheduler(own) as address,
        dask.config.set(dask_settings(own)),
        pytest.raises(
            ConfigError,
            match=f"--scheduler {address}: its certificates and those of Dask's .* disagree: certificate has expired",
        ),
        open_runner(Resources(scheduler=address, wait_s=5)),
    ):
        pass


@quiet
def test_open_runner_plain_words_to_a_scheduler_with_certificates_are_told(tmp_path: Path) -> None:
    with credentials_for_run(str(tmp_path), 60.0) as own, scheduler(own) as address:
        plain = address.replace("tls:", "tcp:")
        with (
            pytest.raises(ServiceError, match=f"at {plain}: .*; one with certificates is at {address}"),
            open_runner(Resources(scheduler=plain, wait_s=5)),
        ):
            pass


@quiet
@pytest.mark.parametrize("security", ["none", "tls"])
def test_local_cluster_listens_on_the_loopback_alone(tmp_path: Path, security: str) -> None:
    psutil = pytest.importorskip("psutil")
    site = tmp_path / "site.toml"
    site.write_text(f'kind = "local"\nworkers = 1\nsecurity = "{security}"\n')
    before = {one.laddr for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN}
    with start_cluster(Resources(cluster=str(site))) as workers:
        workers.await_first()
        here = {one.laddr for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN}
        there = workers.client.run(_listening)
        protocol = workers.client.scheduler.address.partition(":")[0]
    hosts = {place[0] for place in here - before} | {place[0] for places in there.values() for place in places}
    assert hosts == {"127.0.0.1"}
    assert protocol == {"none": "tcp", "tls": "tls"}[security]


def _listening() -> list[Any]:
    import psutil

    return [one.laddr for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN]
