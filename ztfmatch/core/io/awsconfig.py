"""Where S3 is and who asks: the environment first, then ~/.aws/config and ~/.aws/credentials.

obstore reads the environment by itself (keys, session token, region, endpoint, web identity, container and instance
credentials), but no file; profiles are read here. The order is that of AWS's own tools.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import ConfigError

_ELSEWHERE: Final = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
"""Variables that leave no question to which a file's keys would be the answer."""

_UNREAD: Final = ("role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source")
"""Ways to get credentials that need AWS's own tools."""


@dataclass(frozen=True, repr=False)
class S3Settings:
    """What to tell the client beyond what it reads from the environment; None where nothing is to be told."""

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
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
    if key and secret:
        return {"access_key_id": key, "secret_access_key": secret, "session_token": profile.get("aws_session_token")}
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    if unread := [way for way in _UNREAD if profile.get(way)]:
        raise ConfigError(
            f"AWS profile {name!r} gets its credentials by {unread[0]}, which is not read here: put them into the "
            f"environment with 'aws configure export-credentials --format env'"
        )
    return {}
