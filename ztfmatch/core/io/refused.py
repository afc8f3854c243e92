"""Files that cannot be used: what the quarantine tells of each, but the commit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.sources import read_file


@dataclass(frozen=True)
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
        return cls(code, reason, row["filename"], row["source"], row["size"], row["sha256"])

    @classmethod
    def unreadable(cls, source: str, error: CatalogError) -> Refused:
        """One whose reading failed; size and checksum are of the packed file if it cannot be unpacked."""
        told = error.code, error.message, source.rsplit("/", 1)[-1], source
        for unpack in (True, False):
            with contextlib.suppress(CatalogError):
                content = read_file(source, unpack=unpack)
                return cls(*told, content.size, content.sha256)
        return cls(*told, None, None)
