"""Endpoint and credentials of S3: from the environment, then ~/.aws/config and ~/.aws/credentials.

obstore reads the environment by itself (keys, session token, region, endpoint, web identity, container and instance
credentials), but no file. Region, endpoint and keys of a profile are read here, which spares the import of boto3; where
a profile gets its credentials in another way (a role, SSO, a program), boto3 gets and renews them.
"""

from __future__ import annotations

import configparser
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.errors import ConfigError

_ELSEWHERE: Final = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
"""Variables that leave no question to which a file's keys would be the answer."""

_BY_BOTO3: Final = ("role_arn", "sso_session", "sso_start_url", "login_session", "credential_process")
"""Ways of a profile to get credentials."""

_REGION: Final = "us-east-1"
"""The client's own, where none is named."""

_KEPT: Final = timedelta(minutes=10)
"""How long credentials may be used without asking botocore again. The client asks when 5 minutes are left, and botocore
renews those that expire within 10, so that none is used in its last 5 minutes."""


@dataclass(frozen=True, repr=False)
class S3Settings:
    """What to tell the client beyond what it reads from the environment; None where nothing is to be told."""

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    boto3_profile: str | None = None
    """Profile whose credentials boto3 gets."""
    allow_http: bool = False

    def options(self) -> dict[str, str]:
        """Settings of the client by obstore's names."""
        names = ("endpoint", "region", "access_key_id", "secret_access_key", "session_token")
        return {name: value for name in names if (value := getattr(self, name))}


def s3_settings(environ: Mapping[str, str]) -> S3Settings:
    """Settings by an environment and the files that it names.

    Raises
    ------
    ConfigError
        If a file cannot be read, the profile is not there or needs what is not supported, or the endpoint would be
        spoken to without encryption and AWS_ALLOW_HTTP does not allow it. No value of a secret is in the message.
    """
    profile = _profile(environ)
    endpoint = _endpoint(environ, profile)
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or profile.get("region")
    allow_http = environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
    if endpoint:
        _check_endpoint(endpoint, allow_http)
    keys = {} if any(environ.get(name) for name in _ELSEWHERE) else _keys(environ, profile)
    return S3Settings(endpoint, region, **keys, allow_http=allow_http)


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Keys of the profile in both files; those of the credentials file go first."""
    named = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    config = _read(environ, "AWS_CONFIG_FILE", "config")
    credentials = _read(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    section = name if name == "default" else f"profile {name}"
    if named and name != "default" and not config.has_section(section) and not credentials.has_section(name):
        raise ConfigError(f"there is no profile {name!r} (AWS_PROFILE) in the AWS configuration files")
    found = {**_section(config, section), **_section(credentials, name)}
    services = _section(config, f"services {found['services']}") if "services" in found else {}
    if endpoint := _nested(services.get("s3", "")).get("endpoint_url"):
        found["endpoint_url"] = endpoint
    return found


def _read(environ: Mapping[str, str], variable: str, name: str) -> configparser.RawConfigParser:
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    path = Path(environ[variable]).expanduser() if environ.get(variable) else home / ".aws" / name
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):  # whose text quotes the line, which may be a secret's
        raise ConfigError(f"{path} is not an AWS configuration file: expected [profile] and name = value") from None
    return parser


def _section(parser: configparser.RawConfigParser, name: str) -> dict[str, str]:
    return dict(parser.items(name)) if parser.has_section(name) else {}


def _nested(text: str) -> dict[str, str]:
    """Settings that are indented below another."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _endpoint(environ: Mapping[str, str], profile: Mapping[str, str]) -> str | None:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((environ[name] for name in names if environ.get(name)), None) or profile.get("endpoint_url")


def _check_endpoint(endpoint: str, allow_http: bool) -> None:
    scheme, _, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not host or "@" in host or "?" in host:
        raise ConfigError(
            "the S3 endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or endpoint_url of the profile) is not of the form "
            "https://HOST:PORT"
        )
    if scheme == "http" and not allow_http:
        raise ConfigError(f"the S3 endpoint {endpoint} is not encrypted: set AWS_ALLOW_HTTP=true if that is meant")


def _keys(environ: Mapping[str, str], profile: Mapping[str, str]) -> dict[str, str | None]:
    key, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
    if key and secret and not profile.get("role_arn"):  # with a role they are those that may assume it
        return {"access_key_id": key, "secret_access_key": secret, "session_token": profile.get("aws_session_token")}
    way = next((way for way in _BY_BOTO3 if profile.get(way)), None)
    if way is None:
        return {}
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    if find_spec("boto3") is None:
        raise ConfigError(
            f"AWS profile {name!r} gets its credentials by {way}, which needs boto3: pip install 'ztfmatch[aws]'"
        )
    if profile.get("mfa_serial"):
        raise ConfigError(
            f"AWS profile {name!r} asks for a code (mfa_serial), which workers cannot: put its credentials into the "
            f"environment with 'aws configure export-credentials --format env'"
        )
    return {"boto3_profile": name}


class ProfileCredentials:
    """Credentials of a profile as the client asks for them, got and renewed by boto3.

    Parameters
    ----------
    profile : str
        Name of it.
    region : str, optional
        Where a service is asked that gives them; boto3 does not read AWS_REGION.

    Raises
    ------
    ConfigError
        If it gives none, also when they are renewed. No value of a secret is in the message.
    """

    def __init__(self, profile: str, region: str | None = None) -> None:
        from boto3 import Session
        from obstore.auth.boto3 import Boto3CredentialProvider

        self._profile = profile
        with _failures(profile):
            session = Session(profile_name=profile, region_name=region or _REGION)
            self._provider = Boto3CredentialProvider(session, ttl=_KEPT)

    def __call__(self) -> Any:
        """Credentials that are good for some minutes."""
        with _failures(self._profile):
            return self._provider()


@contextlib.contextmanager
def _failures(profile: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as e:
        # What a credential_process printed may be secret, and botocore repeats it, or fails on it.
        tellable = isinstance(e, (BotoCoreError, ClientError, OSError, RuntimeError)) and "custom-process" not in str(e)
        reason = str(e) if tellable else "its credential_process failed; run it by hand to see why"
        raise ConfigError(f"AWS profile {profile!r} gives no credentials: {' '.join(reason.split())}") from None
