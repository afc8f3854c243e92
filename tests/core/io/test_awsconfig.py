"""Settings of the S3 client: environment before files, profiles, and no secret in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.awsconfig import S3Settings, s3_settings

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
"""
CREDENTIALS = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = default%secret;with#marks
[lab]
aws_access_key_id = AKIALAB
aws_secret_access_key = lab-secret
aws_session_token = lab-token==
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
        ({"AWS_PROFILE": "role"}, "'role' gets its credentials by role_arn, which is not read here"),
        ({"AWS_ENDPOINT_URL": "http://host:9000"}, "http://host:9000 is not encrypted: set AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "host:9000"}, "not of the form https://HOST:PORT"),
        ({"AWS_ENDPOINT_URL": "https://me:HIDDEN@host"}, "not of the form https://HOST:PORT"),
        ({"AWS_ENDPOINT_URL": "https://host/?token=HIDDEN"}, "not of the form https://HOST:PORT"),
    ],
)
def test_settings_that_cannot_be_used_raise(home: dict[str, str], variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as caught:
        s3_settings({**home, **variables})
    assert "HIDDEN" not in str(caught.value)


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
