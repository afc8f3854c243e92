"""Unusable files: their entries in the quarantine, without the commit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.sources import read_file
from ztfmatch.core.plain import Row


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that cannot be used, and why."""

    code: str
    """Short reason: truncated, not-fits, layout, contradiction, duplicate ..."""
    reason: str
    """What was found and what was expected."""
    filename: str
    source: str
    """Path or URL."""
    size: int | None
    """Bytes; None where it could not be read."""
    sha256: str | None

    @classmethod
    def read(cls, row: Mapping[str, Any], code: str, reason: str) -> Refused:
        """One that was read, and whose row of the ledger or of references, or the like, is known."""
        return cls(code=code, reason=reason, **{name: row[name] for name in ("filename", "source", "size", "sha256")})

    @classmethod
    def unreadable(cls, source: str, error: CatalogError) -> Refused:
        """One whose reading failed; size and checksum are of the packed file if it cannot be unpacked."""
        row: Row = {"filename": source.rsplit("/", 1)[-1], "source": source, "size": None, "sha256": None}
        for unpack in (True, False):
            with contextlib.suppress(CatalogError):
                content = read_file(source, unpack=unpack)
                row |= {"size": content.size, "sha256": content.sha256}
                break
        return cls.read(row, error.code, error.message)
