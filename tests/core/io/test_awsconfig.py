"""Settings of the S3 client: environment before files, profiles, and no secret in an error."""

from __future__ import annotations

import datetime
import os
import pickle
import re
import sys
import traceback
from pathlib import Path

import pytest
from credentialhelper import CredentialHelper
from s3server import KEY, SECRET, TOKEN

from ztfmatch.core.errors import ConfigError, StorageError
from ztfmatch.core.io import awsconfig
from ztfmatch.core.io.awsconfig import ProfileCredentials, S3Settings, s3_settings
from ztfmatch.core.io.storage import Storage

CONFIG = """
[default]
region = us-west-2
[profile lab]
region=eu-central-1
endpoint_url = https://lab.example:9000
services = minio
aws_access_key_id = FROMCONFIG
aws_secret_access_key = config-secret
[profile plain]
endpoint_url = https://plain.example
[services minio]
s3 =
  endpoint_url = https://s3.lab.example
  addressing_style = path
dynamodb =
  endpoint_url = https://no.example
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
[profile sso]
sso_session = corp
region = us-east-2
[profile helper]
credential_process = helper
[profile code]
role_arn = arn:aws:iam::1:role/x
mfa_serial = arn:aws:iam::1:mfa/me
"""
CREDENTIALS = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = default%secret;with#marks
[lab]
aws_access_key_id = AKIALAB
aws_secret_access_key = lab-secret
aws_session_token = lab-token==
[role]
aws_access_key_id = AKIAROLE
aws_secret_access_key = role-secret
[helper]
aws_access_key_id = AKIAHELPER
aws_secret_access_key = helper-secret
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    return {"HOME": str(tmp_path)}


def test_nothing_set_tells_nothing(tmp_path: Path) -> None:
    assert s3_settings({"HOME": str(tmp_path)}) == S3Settings()
    assert s3_settings({"HOME": str(tmp_path)}).options() == {}


def test_default_profile_of_the_files(home: dict[str, str]) -> None:
    assert s3_settings(home).options() == {
        "region": "us-west-2",
        "access_key_id": "AKIADEFAULT",
        "secret_access_key": "default%secret;with#marks",
    }


def test_named_profile_credentials_file_before_config_and_service_endpoint_before_general(home: dict[str, str]) -> None:
    assert s3_settings({**home, "AWS_PROFILE": "lab"}).options() == {
        "endpoint": "https://s3.lab.example",
        "region": "eu-central-1",
        "access_key_id": "AKIALAB",
        "secret_access_key": "lab-secret",
        "session_token": "lab-token==",
    }
    assert s3_settings({**home, "AWS_PROFILE": "plain"}).endpoint == "https://plain.example"
    assert s3_settings({**home, "AWS_DEFAULT_PROFILE": "lab"}).region == "eu-central-1"


def test_environment_goes_before_files_and_keys_are_never_mixed(home: dict[str, str]) -> None:
    environ = {**home, "AWS_PROFILE": "lab", "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
    environ |= {"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "https://env.example"}
    assert s3_settings(environ).options() == {"endpoint": "https://env.example", "region": "us-east-2"}
    environ["AWS_ENDPOINT_URL_S3"] = "https://s3.env.example"
    assert s3_settings(environ).endpoint == "https://s3.env.example"
    del environ["AWS_REGION"]
    assert s3_settings(environ).region == "us-east-1"


@pytest.mark.parametrize("variable", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"])
def test_other_ways_of_the_environment_go_before_keys_of_files(home: dict[str, str], variable: str) -> None:
    assert s3_settings({**home, variable: "true"}).access_key_id is None


def test_files_elsewhere(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "c").write_text("[default]\nregion = ap-south-1\n")
    (tmp_path / "k").write_text("[default]\naws_access_key_id=A\naws_secret_access_key=B\n")
    environ = {**home, "AWS_CONFIG_FILE": str(tmp_path / "c"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "k")}
    assert s3_settings(environ).options() == {"region": "ap-south-1", "access_key_id": "A", "secret_access_key": "B"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_PROFILE": "none"}, "there is no profile 'none'"),
        ({"AWS_PROFILE": "code"}, "'code' asks for a code (mfa_serial), which workers cannot"),
        ({"AWS_ENDPOINT_URL": "http://host:9000"}, "http://host:9000 is not encrypted: set AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "host:9000"}, "not of the form https://HOST:PORT"),
        ({"AWS_ENDPOINT_URL": "https://me:HIDDEN@host"}, "not of the form https://HOST:PORT"),
        ({"AWS_ENDPOINT_URL": "https://host/?token=HIDDEN"}, "not of the form https://HOST:PORT"),
    ],
)
def test_settings_that_cannot_be_used_raise(home: dict[str, str], variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        s3_settings({**home, **variables})
    assert "HIDDEN" not in str(caught.value)


@pytest.mark.parametrize("profile", ["role", "sso"])
def test_profile_whose_credentials_are_no_keys_is_for_boto3(home: dict[str, str], profile: str) -> None:
    """The keys of a profile with a role are those that assume it, never those to be used."""
    made = s3_settings({**home, "AWS_PROFILE": profile})
    assert (made.boto3_profile, made.access_key_id) == (profile, None)
    environ = {**home, "AWS_PROFILE": profile, "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
    assert s3_settings(environ).boto3_profile is None


def test_keys_of_a_profile_go_before_its_credential_process(home: dict[str, str]) -> None:
    made = s3_settings({**home, "AWS_PROFILE": "helper"})
    assert (made.boto3_profile, made.access_key_id) == (None, "AKIAHELPER")


def test_http_endpoint_where_allowed(home: dict[str, str]) -> None:
    made = s3_settings({**home, "AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "AWS_ALLOW_HTTP": "TRUE"})
    assert (made.endpoint, made.allow_http) == ("http://127.0.0.1:9000", True)


def test_damaged_file_is_named_and_its_lines_are_not_quoted(home: dict[str, str]) -> None:
    path = Path(home["HOME"]) / ".aws" / "credentials"
    path.write_text("aws_secret_access_key HIDDEN\n[default\nHIDDEN")
    with pytest.raises(ConfigError, match="credentials is not an AWS configuration file") as caught:
        s3_settings(home)
    assert "HIDDEN" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_settings_do_not_show_themselves() -> None:
    assert "secret" not in repr(S3Settings(secret_access_key="secret"))


def test_profile_by_boto3_reads_and_writes_and_asks_the_program_once(
    aws_helper: CredentialHelper, s3_bucket: str
) -> None:
    store = Storage.at(f"{s3_bucket}/place")
    for number in range(3):
        store.put(f"{number}.json", b"{}")
    assert pickle.loads(pickle.dumps(store)).read("2.json") == b"{}"
    assert aws_helper.runs == 1


def test_profile_by_boto3_credentials_that_have_expired_are_renewed(
    aws_helper: CredentialHelper, s3_bucket: str
) -> None:
    aws_helper.answer([-1, 60])
    Storage.at(f"{s3_bucket}/place").put("a.json", b"{}")
    assert aws_helper.runs == 2
    aws_helper.answer([-1, 60])
    assert ProfileCredentials("helped")()["access_key_id"] == KEY[:-1] + "2"


def test_profile_by_boto3_is_asked_again_before_what_it_gave_expires(
    aws_helper: CredentialHelper, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore gets new ones ten minutes before, and the client asks it anew within five."""
    aws_helper.answer([9])
    given = ProfileCredentials("helped")()
    left = (given["expires_at"] - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert 300 < left <= 600  # the client drops what has less than 300 s left
    monkeypatch.setattr(awsconfig, "_KEPT", datetime.timedelta(0))
    aws_helper.answer([9])
    store = Storage.at(f"{s3_bucket}/place")
    for number in range(3):
        store.put(f"{number}.json", b"{}")
    assert aws_helper.runs >= 3


def _fails(helper: CredentialHelper, bucket: str) -> str:
    with pytest.raises((ConfigError, StorageError)) as caught:
        Storage.at(f"{bucket}/place").read("a.json")
    assert not any(text in "".join(traceback.format_exception(caught.value)) for text in (SECRET, TOKEN, KEY))
    return str(caught.value)


def test_profile_by_boto3_that_gives_nothing_is_one_line_without_what_the_program_printed(
    aws_helper: CredentialHelper, s3_bucket: str
) -> None:
    aws_helper.answer([f"refused: {SECRET}"])
    message = "AWS profile 'helped' gives no credentials: its credential_process failed; run it by hand to see why"
    assert _fails(aws_helper, s3_bucket) == message
    aws_helper.answer([-1, f"refused: {SECRET}"])  # the first run as the place is opened, the second to renew
    assert _fails(aws_helper, s3_bucket) == f"cannot read a.json in {s3_bucket}/place: {message}"
    aws_helper.answer([-1])
    assert "the refreshed credentials are still expired" in _fails(aws_helper, s3_bucket)


def test_profile_by_boto3_without_a_login_says_what_to_run(
    aws_helper: CredentialHelper, s3_bucket: str, s3_environment: pytest.MonkeyPatch
) -> None:
    config = aws_helper.place / "config"
    config.write_text(
        "[profile helped]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n[sso-session corp]\n"
        "sso_region = us-east-1\nsso_start_url = https://sso.example\n"
    )
    message = "AWS profile 'helped' gives no credentials: Error loading SSO Token: Token for corp does not exist"
    assert message in _fails(aws_helper, s3_bucket)


def test_profile_by_boto3_with_a_role_assumes_it(
    aws_helper: CredentialHelper, s3_bucket: str, s3_environment: pytest.MonkeyPatch
) -> None:
    (aws_helper.place / "config").write_text(
        "[profile helped]\nrole_arn = arn:aws:iam::123456789012:role/ztf\nsource_profile = base\n"
        f"[profile base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    s3_environment.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL_S3"])  # of the service that gives roles
    store = Storage.at(f"{s3_bucket}/place")
    store.put("a.json", b"{}")
    assert store.read("a.json") == b"{}"
    given = ProfileCredentials("helped")()
    assert given["access_key_id"] != KEY
    assert given["token"]


def test_profile_that_needs_boto3_without_it_says_how_to_install_it(
    aws_helper: CredentialHelper, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)
    assert _fails(aws_helper, s3_bucket) == (
        "AWS profile 'helped' gets its credentials by credential_process, which needs boto3: "
        "pip install 'ztfmatch[aws]'"
    )
