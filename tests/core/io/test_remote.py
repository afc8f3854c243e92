"""Requests to an object store: repeated, recognised where the answer was lost, with errors that say what was asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import obstore
import pytest
from faultproxy import Fault, FaultProxy, always, every, first
from obstore.exceptions import GenericError
from obstore.store import AzureStore, GCSStore, S3Store

from ztfmatch.core.config import RequestConfig
from ztfmatch.core.errors import ConfigError, StorageError
from ztfmatch.core.io.client import open_backend, reason_of
from ztfmatch.core.io.remote import Remote, connect
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.io.urls import parse_url

CALLS: dict[str, tuple[str, Callable[[Remote], object], object]] = {
    "put": ("PUT", lambda r: r.put("new", b"1"), None),
    "put_if_absent": ("PUT", lambda r: r.put_if_absent("new", b"1"), True),
    "read": ("GET", lambda r: r.read("old"), b"0123456789"),
    "read_up_to": ("GET", lambda r: r.read_up_to("old", 100), (10, b"0123456789")),
    "read_range": ("GET", lambda r: r.read_range("old", 2, 5), b"234"),
    "size": ("HEAD", lambda r: r.size("old"), 10),
    "entries": ("GET", lambda r: [entry.path for entry in r.entries("")], ["old"]),
    "delete": ("POST", lambda r: r.delete(["old", "gone"]), None),
}
CONDITIONS = (Fault.CONFLICT_409, Fault.NO_CONDITION, Fault.REFUSED_409, Fault.REFUSED_304, Fault.NOT_IMPLEMENTED_501)
FAULTS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.QUOTES_REQUEST, *CONDITIONS)]


@pytest.fixture
def remote(s3_bucket: str, s3_faults: FaultProxy) -> Remote:
    made = connect(f"{s3_bucket}/prefix")
    made.put("old", b"0123456789")
    return made


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_request_that_fails_twice_is_repeated(remote: Remote, s3_faults: FaultProxy, call: str, fault: Fault) -> None:
    method, request, expected = CALLS[call]
    s3_faults.follow(first(method, "", fault, times=2))
    assert request(remote) == expected
    assert 1 <= len(s3_faults.broken()) <= 2


@pytest.mark.parametrize("fault", FAULTS[:-1])
@pytest.mark.parametrize("call", CALLS)
def test_request_that_fails_always_is_a_storage_error_that_names_the_place(
    remote: Remote, s3_faults: FaultProxy, call: str, fault: Fault
) -> None:
    s3_faults.follow(always(fault))
    with pytest.raises(StorageError) as caught:
        CALLS[call][1](remote)
    assert f" in {remote.url}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert len(s3_faults.seen) == (10 if call == "put_if_absent" else 5)  # once, and four retries; so the look after it


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.ERROR_AFTER])
def test_put_if_absent_whose_answer_is_lost_knows_its_own_bytes_from_others(
    remote: Remote, s3_faults: FaultProxy, fault: Fault
) -> None:
    s3_faults.follow(first("PUT", "/commits/1", fault))
    assert remote.put_if_absent("commits/1", b"ours") is True
    s3_faults.follow(first("PUT", "/commits/1", Fault.DROP_BEFORE))
    assert remote.put_if_absent("commits/1", b"theirs") is False
    assert remote.read("commits/1") == b"ours"


def test_put_if_absent_of_which_no_answer_ever_comes_is_ours_if_its_bytes_are_there(
    remote: Remote, s3_faults: FaultProxy
) -> None:
    s3_faults.follow(first("PUT", "", Fault.DROP_AFTER, times=100))
    assert remote.put_if_absent("commits/1", b"ours") is True
    with pytest.raises(StorageError, match=r"cannot write commits/1 in s3://"):
        remote.put_if_absent("commits/1", b"theirs")
    s3_faults.follow(first("PUT", "", Fault.DROP_BEFORE, times=100))
    with pytest.raises(StorageError, match=r"cannot write commits/2 in s3://"):
        remote.put_if_absent("commits/2", b"ours")
    assert remote.read("commits/1") == b"ours"


def test_put_if_absent_conflict_with_nothing_there_is_repeated(remote: Remote, s3_faults: FaultProxy) -> None:
    s3_faults.follow(first("PUT", "", Fault.CONFLICT_409, times=2))
    assert remote.put_if_absent("new", b"1") is True
    s3_faults.follow(always(Fault.CONFLICT_409))
    s3_faults.follow(first("PUT", "", Fault.CONFLICT_409, times=100))
    with pytest.raises(StorageError, match=r"cannot write other in s3://.*: the service says that it is there"):
        remote.put_if_absent("other", b"1")
    assert "other" not in {entry.path for entry in remote.entries("")}


def test_entries_of_many_pages_that_break_off_are_each_given_once(remote: Remote, s3_faults: FaultProxy) -> None:
    names = [f"many/{i:04d}" for i in range(2_050)]
    moto_put_all(remote, names)
    s3_faults.follow(every(2, Fault.CUT_BODY))
    assert [entry.path for entry in remote.entries("many/")] == names
    assert s3_faults.broken()


def moto_put_all(remote: Remote, names: list[str]) -> None:
    """Put them straight into the service's memory, which is in this process; requests would take seconds."""
    from moto.s3.models import s3_backends

    backend = next(iter(s3_backends.values()))["aws"]
    for name in names:
        backend.put_object(remote.url.bucket, f"{remote.url.key}/{name}", b"")


def test_read_up_to_a_limit_reads_no_more(remote: Remote) -> None:
    assert remote.read_up_to("old", 10) == (10, b"0123456789")
    assert remote.read_up_to("old", 9) == (10, None)


def test_delete_where_the_service_stops_at_what_is_gone(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Google's and Azure's do."""
    whole = obstore.delete

    def delete(store: Any, paths: list[str]) -> None:
        if "gone" in paths:
            raise FileNotFoundError("gone")
        whole(store, paths)

    monkeypatch.setattr("ztfmatch.core.io.remote.obstore.delete", delete)
    remote.delete(["gone", "old"])
    assert list(remote.entries("")) == []


def test_read_of_nothing_names_it(remote: Remote) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        remote.read("a/b")
    assert str(caught.value) == f"[Errno 2] no such object: '{remote.url}/a/b'"


def test_answer_that_quotes_the_request_is_not_repeated(remote: Remote, s3_faults: FaultProxy) -> None:
    s3_faults.follow(always(Fault.QUOTES_REQUEST))
    with pytest.raises(StorageError, match="403 Forbidden: SignatureDoesNotMatch, as planned") as caught:
        remote.read("old")
    assert "uthorization" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            (
                "Generic AZ error: Error performing GET https://h/c/b?sv=1&sig=HIDDEN in 1s, after 3 retries, "
                "max_retries: 3, retry_timeout: 30s  - HTTP error: error sending request\n\nDebug source:\nHIDDEN"
            ),
            "Error performing GET https://h/c/b in 1s, after 3 retries - HTTP error: error sending request",
        ),
        (
            "Generic S3 error: Error in 1s - Server returned non-2xx status code: 403 Forbidden: HIDDEN plain text",
            "Error in 1s - Server returned non-2xx status code: 403 Forbidden",
        ),
        (
            (
                "x - Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Token>HIDDEN</Token>"
                "<Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
            ),
            "x - Server returned non-2xx status code: 403 Forbidden: ExpiredToken, The token has expired.",
        ),
        (
            "Error performing PUT http://169.254.169.254/latest/api/token in 3s",
            (
                "there are no credentials, and no service of the machine that gives some: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws with AWS_PROFILE"
            ),
        ),
        ("", "GenericError"),
    ],
)
def test_reason_of_literals(said: str, reason: str) -> None:
    assert reason_of(GenericError(said)) == reason


def test_open_backend_of_s3_uses_settings_and_retries(s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("ZTFMATCH_REQUEST_RETRIES", "3")
    s3_environment.setenv("ZTFMATCH_REQUEST_TIMEOUT", "7.5")
    store = open_backend(parse_url("s3://bucket/a/b"))
    assert isinstance(store, S3Store)
    assert (store.config["bucket"], store.prefix) == ("bucket", "a/b")
    assert store.config["endpoint"].startswith("http://127.0.0.1:")
    assert store.client_options is not None
    assert store.client_options["allow_http"] in (True, "true")
    assert store.retry_config is not None
    assert store.retry_config["max_retries"] == 3
    assert store.retry_config["retry_timeout"] == timedelta(seconds=180)


def test_open_backend_of_gs_and_az(s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    google = open_backend(parse_url("gs://bucket/a/b"))
    assert isinstance(google, GCSStore)
    assert (google.config["bucket"], google.prefix) == ("bucket", "a/b")
    s3_environment.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    s3_environment.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    azure = open_backend(parse_url("az://container/a"))
    assert isinstance(azure, AzureStore)
    assert (azure.config["container_name"], azure.prefix) == ("container", "a")
    for store in (google, azure):
        assert store.retry_config is not None
        assert store.retry_config["max_retries"] == RequestConfig.retries


def test_open_backend_without_what_it_needs_is_one_clear_error(s3_environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"az://container/a cannot be opened: .*[Aa]ccount"):
        open_backend(parse_url("az://container/a"))
    s3_environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match=r"s3://bucket cannot be opened: .*SecretAccessKey"):
        open_backend(parse_url("s3://bucket"))


def test_connect_follows_the_environment(s3_environment: pytest.MonkeyPatch) -> None:
    one = connect("s3://bucket/x")
    assert connect("s3://bucket/x") is one
    s3_environment.setenv("AWS_REGION", "eu-west-1")
    assert connect("s3://bucket/x") is not one


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ZTFMATCH_REQUEST_RETRIES", "many", "ZTFMATCH_REQUEST_RETRIES is 'many'; expected a number"),
        ("ZTFMATCH_REQUEST_RETRIES", "-1", "ZTFMATCH_REQUEST_RETRIES -1 is outside 0..100"),
        ("ZTFMATCH_REQUEST_TIMEOUT", "0", "ZTFMATCH_REQUEST_TIMEOUT 0.0 is outside"),
        ("ZTFMATCH_REQUEST_TIMEOUT", "nan", "ZTFMATCH_REQUEST_TIMEOUT nan is outside"),
    ],
)
def test_request_config_of_a_bad_environment_raises(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RequestConfig.of_environment({name: value})


def test_request_config_of_environment() -> None:
    assert RequestConfig.of_environment({}) == RequestConfig()
    assert RequestConfig.of_environment({"ZTFMATCH_REQUEST_RETRIES": "0"}).retries == 0


def test_storage_at_refuses_secrets_before_anything_else() -> None:
    with pytest.raises(ConfigError, match="never a user, password or port"):
        Storage.at("s3://me:secret@bucket/x")
