"""Small JSON records that detect whether they were altered."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import fields, is_dataclass
from typing import Any, Final, TypeVar

import msgspec

from ztfmatch.core.plain import Json

Record = TypeVar("Record")

_DIGEST: Final = "digest"
_DIGITS: Final = 16


def short_digest(content: Any) -> str:
    """Digest of some bytes, as names and records have it."""
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()[:_DIGITS]


def utc_now() -> str:
    """The time, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def encode(record: Json) -> bytes:
    """Bytes of a record of plain values; those of NumPy, which a notebook may give, and paths become such.

    Raises
    ------
    TypeError
        If there is anything else.
    """
    plain = json.loads(json.dumps(record, default=plain_value))
    return json.dumps({**plain, _DIGEST: _digest(plain)}, indent=1).encode()


def plain_value(value: Any) -> Any:
    """What JSON has for a value of NumPy, or a path."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(item := getattr(value, "item", None)):
        return item()
    raise TypeError(f"{value!r} is no plain value")


def decode(content: bytes, kind: type[Record]) -> Record:
    """Record of some bytes, as a dataclass (or as ``dict``, whatever it holds).

    Raises
    ------
    ValueError
        If they are not what :func:`encode` gave of such a dataclass.
    """
    plain = _plain(content)
    record = msgspec.convert(plain, kind)
    if is_dataclass(kind) and (unknown := plain.keys() - {field.name for field in fields(kind)}):
        raise ValueError(f"it holds {', '.join(sorted(unknown))}, which this ztfmatch does not know")
    return record


def _plain(content: bytes) -> Json:
    try:
        record = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply for a record") from None
    if not isinstance(record, dict):
        raise ValueError(f"{str(record)[:40]} is not a record")
    said = record.pop(_DIGEST, None)
    if said != _digest(record):
        raise ValueError("its content is not what its digest says")
    return record


def _digest(record: Json) -> str:
    return short_digest(json.dumps(record, sort_keys=True).encode())
