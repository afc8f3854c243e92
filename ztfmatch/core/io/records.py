"""Small JSON records that tell when they are not what was written."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

_DIGEST: Final = "digest"
_DIGITS: Final = 16


def short_digest(content: Any) -> str:
    """Digest of some bytes, as names and records have it."""
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()[:_DIGITS]


def encode(record: dict[str, Any]) -> bytes:
    """Bytes of a record of plain values."""
    plain = json.loads(json.dumps(record))
    return json.dumps({**plain, _DIGEST: _digest(plain)}, indent=1).encode()


def decode(content: bytes) -> dict[str, Any]:
    """Record of some bytes.

    Raises
    ------
    ValueError
        If they are not what :func:`encode` gave.
    """
    try:
        record = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply for a record") from None
    if not isinstance(record, dict):
        raise ValueError(f"{str(record)[:40]} is no record")
    said = record.pop(_DIGEST, None)
    if said != _digest(record):
        raise ValueError("its content is not what its digest says")
    return record


def _digest(record: dict[str, Any]) -> str:
    return short_digest(json.dumps(record, sort_keys=True).encode())
