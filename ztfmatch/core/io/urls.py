"""URLs of object stores: parsed, and refused where they contain a secret.

A place that a user names ends up in commit records, listings of processes and logs, so no part of it may be secret.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.errors import ConfigError

SCHEMES: Final = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}

_QUERY: Final = re.compile(r"\?[\w.-]+=")
_WITHIN_NAMES: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ObjectUrl:
    """A place in an object store."""

    scheme: str
    bucket: str
    """Bucket, or container."""
    key: str
    """Without slashes at its ends; empty for the whole bucket."""

    @property
    def root(self) -> str:
        """The bucket's own URL."""
        return f"{self.scheme}://{self.bucket}"

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root


def check_text(place: str | os.PathLike[str]) -> None:
    """Refuse a name that is not UTF-8, as file systems allow: stores record places as text, and so do their readers.

    Raises
    ------
    ConfigError
    """
    try:
        os.fspath(place).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"the name {os.fsencode(place)!r} is not UTF-8: give it another, or a link of another"
        ) from None


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a local path."""
    return "://" in place and not place.startswith("file://")


def parse_url(url: str) -> ObjectUrl:
    """Take a URL apart.

    Raises
    ------
    ConfigError
        If it is not one of an object store, or carries a user, a password or a query. What could be secret is not
        repeated in the message.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        shown = scheme if _WITHIN_NAMES.fullmatch(scheme) else "..."
        raise ConfigError(f"{shown}://...: expected a local path, or s3://, gs:// or az:// with a bucket and a prefix")
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise ConfigError(
            f"{scheme}://...: a URL names a bucket and a prefix, never a user, password or port. Credentials and the "
            "endpoint come from the environment or their configuration files only"
        )
    if _QUERY.search(rest):
        raise ConfigError(
            f"{scheme}://{_shown(bucket)}/...: a URL with a query (?name=value) is not taken: signatures, tokens and "
            "keys come from the environment or their configuration files only"
        )
    if not _WITHIN_NAMES.fullmatch(bucket):
        raise ConfigError(f"{scheme}://...: no valid bucket; expected {scheme}://BUCKET/PREFIX")
    return ObjectUrl(scheme, bucket, key.strip("/"))


def _shown(bucket: str) -> str:
    return bucket if _WITHIN_NAMES.fullmatch(bucket) else "..."
