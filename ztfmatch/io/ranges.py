"""A file over ranged requests."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ztfmatch.io.remote import Remote


@dataclass
class RangeReader:
    """A seekable file over ranged requests, as pyarrow reads them: columns of a row group lie one behind the other.

    A request takes more than it is asked for, up to ``ahead`` bytes, and what was read last is kept.
    """

    remote: Remote
    path: str
    length: int
    ahead: int = 1 << 20
    closed: bool = False

    def __post_init__(self) -> None:
        self._at = 0
        self._start, self._held = 0, b""

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Bytes at the position, fewer at the end; all that are left for None or -1."""
        left = max(0, self.length - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size and not (self._start <= self._at and self._at + size <= self._start + len(self._held)):
            end = min(self.length, self._at + max(size, self.ahead))
            self._start, self._held = self._at, self.remote.read_range(self.path, self._at, end)
        begin = self._at - self._start
        self._at += size
        return self._held[begin : begin + size] if size else b""

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Forget what was read."""
        self.closed, self._held = True, b""
