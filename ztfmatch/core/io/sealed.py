"""Parquet files whose every byte is verified before it is decoded.

Parquet has checksums of pages at most, and none of page headers and of the footer: a flipped bit there can give wrong
values, or leave out rows. So a file of the store has the length and XXH3 hash of each column chunk between its last row
group and its footer, where other readers look for nothing. This block and the footer are the tail; its size and
digest, the seal, are in the manifest, whose name has the digest of its own content.
"""

from __future__ import annotations

import bisect
import functools
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from xxhash import xxh3_64_intdigest

from ztfmatch.core.errors import StorageError, StoreDamagedError
from ztfmatch.core.io import paths
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.remote import Bytes
from ztfmatch.core.io.storage import Storage

MAGIC: Final = b"PAR1"
END_BYTES: Final = 8
"""Length of the footer, and the magic number once more."""
_CHUNK: Final = np.dtype([("length", "<u4"), ("hash", "<u8")])
_GAP_BYTES: Final = 1 << 13
"""What is read in vain rather than asked for with another request."""
_REQUEST_BYTES: Final = 1 << 25
"""Chunks are asked for together up to this."""


class Named(Protocol):
    """What a reader has to know of a file."""

    @property
    def path(self) -> str:
        """Where it is in the store."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the file."""
        ...

    @property
    def tail(self) -> int:
        """Bytes of its tail."""
        ...

    @property
    def seal(self) -> str:
        """Digest of its tail."""
        ...

    @property
    def described(self) -> str:
        """Path, table, tile and the snapshot that added it, for people."""
        ...


@dataclass(frozen=True)
class Sealed:
    """A file to be written."""

    data: tuple[Bytes, ...]
    """Its column chunks."""
    chunks: bytes
    """Length and hash of each."""
    footer: Bytes
    rows: int

    @functools.cached_property
    def parts(self) -> tuple[Bytes, ...]:
        """All its bytes; the last of them are the tail."""
        length = len(self.footer).to_bytes(END_BYTES - len(MAGIC), "little")
        return (MAGIC, *self.data, b"".join([self.chunks, self.footer, length, MAGIC]))

    @property
    def seal(self) -> str:
        """Digest of the tail."""
        return short_digest(self.parts[-1])

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(map(len, self.parts))

    @property
    def tail(self) -> int:
        """Bytes of its tail."""
        return len(self.parts[-1])

    @property
    def content(self) -> bytes:
        """All its bytes."""
        return b"".join(self.parts)


def seal(parquet: pa.Buffer) -> Sealed:
    """Put the checksums of its column chunks into a Parquet file.

    Raises
    ------
    ValueError
        If the chunks do not follow upon each other.
    """
    metadata = pq.read_metadata(pa.BufferReader(parquet))
    data = memoryview(parquet)
    end = len(data) - END_BYTES - int.from_bytes(data[-END_BYTES : -len(MAGIC)], "little")
    chunks = np.empty(metadata.num_row_groups * metadata.num_columns, _CHUNK)
    at = len(MAGIC)
    for i, length in enumerate(_chunk_lengths(metadata)):
        chunks[i] = length, xxh3_64_intdigest(data[at : at + length])
        at += length
    if at != end:
        raise ValueError(f"column chunks end at byte {at}; the footer begins at {end}")
    return Sealed((data[len(MAGIC) : end],), chunks.tobytes(), data[end:-END_BYTES], metadata.num_rows)


def _chunk_lengths(metadata: pq.FileMetaData) -> list[int]:
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    return [group.column(c).total_compressed_size for group in groups for c in range(metadata.num_columns)]


def leaf_paths(metadata: pq.FileMetaData) -> list[str]:
    """Path of each leaf column: its name, where columns are flat.

    Not by ``metadata.schema``, but where there are no rows: it and the metadata hold each other, so that a megabyte of
    each file that is read would stay until Python looks for such circles.
    """
    leaves = range(metadata.num_columns)
    if not metadata.num_row_groups:
        return [metadata.schema.column(leaf).path for leaf in leaves]
    group = metadata.row_group(0)
    return [group.column(leaf).path_in_schema for leaf in leaves]


class Tail:
    """A verified tail: the metadata of the file, and where its chunks are.

    Raises
    ------
    StoreDamagedError
        If the file is missing, or is not the one that was written.
    """

    def __init__(self, storage: Storage, file: Named) -> None:
        self.start = file.size - file.tail
        self.content = _read(storage, file, self.start, file.tail)
        if short_digest(self.content) != file.seal:
            raise _unusable(file, f"is damaged: its last {file.tail} bytes are not as written")
        self.metadata: pq.FileMetaData = pq.read_metadata(pa.BufferReader(self.content))
        number = self.metadata.num_row_groups * self.metadata.num_columns
        chunks = np.frombuffer(self.content, _CHUNK, number)
        ends = len(MAGIC) + np.cumsum(chunks["length"], dtype=np.int64)
        self._edges: list[int] = [len(MAGIC), *ends.tolist()]
        self._hashes: list[int] = chunks["hash"].tolist()

    @functools.cached_property
    def _names(self) -> list[str]:
        """Column that each leaf is of; to ask Arrow for them takes longer than to read a small file."""
        return [path.split(".")[0] for path in leaf_paths(self.metadata)]

    def around(self, start: int, stop: int) -> tuple[int, int]:
        """Edges of the chunks that hold a range of bytes."""
        first = max(bisect.bisect_right(self._edges, start) - 1, 0)
        return self._edges[first], self._edges[min(bisect.bisect_left(self._edges, stop), len(self._hashes))]

    def runs(self, groups: Iterable[int], columns: Collection[str]) -> list[tuple[int, int]]:
        """Ranges of bytes that hold the chunks of some columns of row groups, ascending, to be read at once each."""
        number = self.metadata.num_columns
        leaves = [i for i, name in enumerate(self._names) if name in columns]
        runs: list[tuple[int, int]] = []
        for chunk in (number * group + leaf for group in sorted(groups) for leaf in leaves):
            start, stop = self._edges[chunk], self._edges[chunk + 1]
            if runs and start - runs[-1][1] <= _GAP_BYTES and stop - runs[-1][0] <= _REQUEST_BYTES:
                start = runs.pop()[0]
            runs.append((start, stop))
        return runs

    @property
    def footer(self) -> memoryview:
        """The footer, without its length."""
        return memoryview(self.content)[_CHUNK.itemsize * len(self._hashes) : -END_BYTES]

    def chunks(self, first: int, stop: int) -> bytes:
        """Lengths and hashes of the chunks of row groups from one to before another."""
        size = _CHUNK.itemsize * self.metadata.num_columns
        return bytes(memoryview(self.content)[size * first : size * stop])

    def span(self, first: int, stop: int) -> tuple[int, int]:
        """Where row groups from one to before another begin and end."""
        number = self.metadata.num_columns
        return self._edges[number * first], self._edges[number * stop]

    def wrong(self, data: memoryview, start: int) -> int | None:
        """First byte of the first chunk that is not as written, in data that begin where a chunk does."""
        at = bisect.bisect_left(self._edges, start)
        while self._edges[at] < start + len(data):
            part = data[self._edges[at] - start : self._edges[at + 1] - start]
            if xxh3_64_intdigest(part) != self._hashes[at]:
                return self._edges[at]
            at += 1
        return None


Run = tuple[int, memoryview]
"""Bytes of a file, and where the first of them is in it."""


class SealedFile(io.RawIOBase):
    """A file for pyarrow to read, opened for each read: a list of thousands holds none open.

    What is read of it is Python's, and aborts the process if a thread of Arrow's frees it when Python has begun to end:
    :class:`ztfmatch.core.io.parquet.OpenFile` has no such thread read it, and those that read a dataset are waited for
    (:mod:`ztfmatch.core.io.arrowthreads`).

    Raises
    ------
    StoreDamagedError
        From every read, if the file is missing or what is read is not what was written.
    """

    def __init__(self, storage: Storage, file: Named, tail: Tail | None = None, ahead: Sequence[Run] = ()) -> None:
        super().__init__()
        self._storage, self._file, self._tail, self._at = storage, file, tail, 0
        self._ahead = ahead

    @property
    def tail(self) -> Tail:
        """The verified tail; read once."""
        if self._tail is None:
            self._tail = Tail(self._storage, self._file)
        return self._tail

    def read_ahead(self, runs: Iterable[tuple[int, int]]) -> list[Run]:
        """Ranges of whole chunks, with a request each; a file that is given them reads them no more."""
        return [(first, self._verified(first, last)) for first, last in runs]

    def read_groups(self, first: int, stop: int) -> Run:
        """Row groups from one to before another, as they are encoded."""
        start, end = self.tail.span(first, stop)
        return start, self._verified(start, end)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from here, all of them verified."""
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int = -1) -> memoryview:
        """The same without a copy: pyarrow asks for it."""
        stop = self._file.size if size < 0 else min(self._at + size, self._file.size)
        start, self._at = self._at, max(stop, self._at)
        body = min(stop, self.tail.start)
        parts = [memoryview(MAGIC)[start:stop]] if start < len(MAGIC) else []
        if body > max(start, len(MAGIC)):
            parts.append(self._chunks(max(start, len(MAGIC)), body))
        if stop > self.tail.start:
            parts.append(memoryview(self.tail.content)[max(start - self.tail.start, 0) : stop - self.tail.start])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def _chunks(self, start: int, stop: int) -> memoryview:
        for first, data in self._ahead:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
        first, last = self.tail.around(start, stop)
        return self._verified(first, last)[start - first : stop - first]

    def _verified(self, first: int, last: int) -> memoryview:
        """Whole chunks."""
        data = memoryview(_read(self._storage, self._file, first, last - first))
        wrong = self.tail.wrong(data, first)
        if wrong is not None:
            raise _unusable(self._file, f"is damaged: the column chunk at byte {wrong} is not as written")
        return data


def _unusable(file: Named, what: str) -> StoreDamagedError:
    """What to say of a file, and of one of a table which command goes on from there."""
    advice = "; 'ztfmatch repair' tells what it held" if file.path.startswith(paths.DATA) else ""
    return StoreDamagedError(f"{file.described} {what}{advice}")


def _read(storage: Storage, file: Named, start: int, length: int) -> pa.Buffer:
    try:
        return storage.read_range(file.path, start, length)
    except FileNotFoundError:
        raise _unusable(file, f"is missing from {storage.root}") from None
    except StorageError:
        raise  # the disk or the service failed; that says nothing of the file
    except OSError as error:
        raise StoreDamagedError(f"{file.described}: {error}") from error
