"""What all tests share."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from credentialhelper import CredentialHelper
from faultproxy import FaultProxy
from hypothesis import settings
from s3server import credentials, make_bucket, s3_server

from ztfmatch.core.config import RequestConfig

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ZTFMATCH_PROGRESS_S"] = "60"  # what commands print does not depend on how busy the machine is

# The first call of a compiled kernel takes seconds where its cache is cold.
settings.register_profile("ztfmatch", deadline=None)
settings.load_profile("ztfmatch")

_LONGEST = (
    "test_killed", "test_site", "test_stateful", "test_jobs", "test_processors", "test_interrupts", "test_full_disk",
    "test_partition", "test_workers", "test_rematch",
)  # fmt: skip
"""Modules of few tests that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest: the last that a worker gets is what all others wait for."""
    rank = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: the place that ZTFMATCH_DATA names, else ../shared/data beside the project."""
    place = Path(os.environ.get("ZTFMATCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"real data are not at {place}; set ZTFMATCH_DATA")
    return place


@pytest.fixture(scope="session")
def lsdb() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, as they are imported
        return pytest.importorskip("lsdb", reason="LSDB is not installed: pip install 'ztfmatch[test]'")


_BUCKETS = itertools.count()
_ELSEWHERE = ("AWS_", "GOOGLE_", "AZURE_", "ZTFMATCH_REQUEST")
"""How the variables begin that would lead a test to a real service."""


@pytest.fixture(scope="session")
def s3_address() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 service on the loopback."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'")
    with s3_server() as address:
        yield address


@pytest.fixture
def s3_environment(s3_address: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a client of the loopback's service, and of nothing else; may be changed."""
    for name in [name for name in os.environ if name.startswith(_ELSEWHERE)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in credentials("http://{}:{}".format(*s3_address)).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def s3_bucket(s3_address: tuple[str, int], s3_environment: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket of the test's own."""
    name = f"bucket-{next(_BUCKETS)}"
    make_bucket("http://{}:{}".format(*s3_address), name)
    return f"s3://{name}"


@pytest.fixture
def aws_helper(s3_environment: pytest.MonkeyPatch, tmp_path: Path) -> CredentialHelper:
    """The program of a profile that gets its credentials so; the environment names the profile and has no keys."""
    pytest.importorskip("boto3", reason="boto3 is not installed: pip install 'ztfmatch[aws]'")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        s3_environment.delenv(name)
    helper = CredentialHelper(tmp_path / "helper")
    s3_environment.setenv("AWS_CONFIG_FILE", str(helper.write_profile("helped")))
    s3_environment.setenv("AWS_PROFILE", "helped")
    return helper


@pytest.fixture
def s3_faults(s3_address: tuple[str, int], s3_bucket: str, s3_environment: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the service, undisturbed at first, which the environment names; retries hardly wait."""
    quick = RequestConfig(retries=4, first_wait_s=0.001, longest_wait_s=0.01)
    with FaultProxy(s3_address) as proxy:
        s3_environment.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        s3_environment.setenv("ZTFMATCH_REQUEST_RETRIES", "1")  # for processes that the test starts
        s3_environment.setattr(RequestConfig, "of_environment", lambda environ: quick)
        yield proxy
