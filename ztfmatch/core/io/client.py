"""The client of object stores (obstore): configured from the environment, with errors in one line."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from ztfmatch.core.config import RequestConfig
from ztfmatch.core.errors import ConfigError, first_line
from ztfmatch.core.io.awsconfig import ProfileCredentials, s3_settings
from ztfmatch.core.io.urls import SCHEMES, ObjectUrl
from ztfmatch.core.plain import Keywords

if TYPE_CHECKING:  # which is all that they are there for
    from obstore.store import ClientConfig

_SETTINGS: Final = ("AWS_", "GOOGLE_", "AZURE_", "ZTFMATCH_", "HOME")
"""How variables begin that say where an object store is and who asks."""

_IF_ABSENT: Final = {"gs": "x-goog-if-generation-match: 0"}
"""Header of a request to write an object only where there is none, of services whose is not ``If-None-Match: *``."""

_NO_CREDENTIALS: Final = (
    "The operation lacked valid authentication credentials for path External AWS credential provider: ConfigError: "
)
"""What the client puts before an error of :class:`ProfileCredentials`."""

_METADATA_SERVICE: Final = "169.254.169.254"


def environment() -> dict[str, str]:
    """Variables of the environment that say where an object store is and who asks: what another process needs too."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}


def open_backend(url: ObjectUrl) -> Any:
    """The client's store for a URL, with endpoint and credentials of the environment or their configuration files.

    Raises
    ------
    ConfigError
        If they are not usable.
    """
    requests = RequestConfig.of_environment(os.environ)
    common: Keywords = {"prefix": url.key or None, "retry_config": _retries(requests)}
    options: ClientConfig = {
        "timeout": timedelta(seconds=requests.timeout_s),
        "connect_timeout": timedelta(seconds=requests.connect_timeout_s),
    }
    try:
        if url.scheme == "gs":
            return GCSStore(url.bucket, **common, client_options=options)
        if url.scheme == "az":
            return AzureStore(url.bucket, **common, client_options=options)
        settings = s3_settings(os.environ)
        options["allow_http"] = settings.allow_http
        if settings.boto3_profile:
            common["credential_provider"] = ProfileCredentials(settings.boto3_profile, settings.region)
        return S3Store(url.bucket, **common, client_options=options, **Keywords(settings.options()))
    except (BaseError, ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{url} cannot be opened: {reason_of(error)}") from None


def if_absent_of(url: ObjectUrl) -> tuple[str, str]:
    """Who serves a URL, and the header by which it is asked to write an object only where there is none."""
    endpoint = s3_settings(os.environ).endpoint if url.scheme == "s3" else None
    return endpoint or SCHEMES[url.scheme], _IF_ABSENT.get(url.scheme, "If-None-Match: *")


def _retries(requests: RequestConfig) -> Keywords:
    return {
        "max_retries": requests.retries,
        "retry_timeout": timedelta(seconds=requests.give_up_after_s),
        "backoff": {
            "init_backoff": timedelta(seconds=requests.first_wait_s),
            "max_backoff": timedelta(seconds=requests.longest_wait_s),
            "base": 3,
        },
    }


def reason_of(error: Exception) -> str:
    """What a client's error says, in one line without anything that signs a request.

    Services quote requests in their answers, session tokens included, and the client quotes URLs with their
    queries; only the answer's code and message are repeated, and URLs without queries.
    """
    text = str(error).split("\n\nDebug source", 1)[0]
    if _METADATA_SERVICE in text:
        return (
            "there are no credentials, and no service of the machine that gives some: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws with AWS_PROFILE"
        )
    line = first_line(error).split("<", 1)[0]
    line = line.removeprefix(_NO_CREDENTIALS)
    line = re.sub(r"(status code: \d+[^:]*).*", r"\1", line)
    line = re.sub(r"\?\S*|^Generic \S+ error: |, max_retries.*?(?= +- )", "", line)
    code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message"))
    if code:
        line += f": {code[1]}" + (f", {message[1]}" if message else "")
    return re.sub(r"\s+", " ", line)
