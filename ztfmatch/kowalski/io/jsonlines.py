"""Compressed JSON Lines files: written in parts of whole lines, read line by line.

Types that JSON lacks are written as MongoDB's Extended JSON v2 has them: a float that is not finite as
``{"$numberDouble": "NaN"}``, bytes as ``{"$binary": ...}``. All other floats have a point or an exponent, so that no
reader takes them for integers; integers have none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.storage import Storage
from ztfmatch.kowalski.kernels.decimals import NULL, TEXT, Cells, exact_cells, rounded_cells
from ztfmatch.kowalski.kernels.jsontext import Rows, Texts, texts_of

SUFFIXES: Final = {"zstd": ".zst", "gzip": ".gz", "none": ""}
"""By name of the compression."""

_LEVELS: Final = {"zstd": 1, "gzip": 1}
"""On lightcurves zstd's default is slower and saves nothing; gzip's takes four times as long, for a quarter."""

MOST_BYTES: Final = 64 << 20
"""Of a file, compressed, which is held in memory until it is written."""

_POSITION_DECIMALS: Final = 7
"""Of positions in catalogs; others get all their digits."""

_CHUNK_BYTES: Final = 1 << 22
_LONGEST_LINE: Final = 64 << 20
"""Bytes: MongoDB's documents have at most 16 MiB; compressed, a line of any length is a few bytes."""

Column = npt.NDArray[Any]


class RowsBuilder:
    """Puts columns together as rows of JSON, in the order in which they are added."""

    def __init__(self) -> None:
        self._literals = ["{"]
        self._cells: list[Cells] = []
        self._decimals: list[int] = []
        self._texts = [b""]
        self._offsets = [np.zeros(1, np.int64)]
        self._size = 0
        self._count = 0

    def say(self, literal: str) -> None:
        """Write the same into every row."""
        self._literals[-1] += literal

    def integers(self, name: str, values: Column, missing: Mask | None = None) -> None:
        """Integers; null where missing."""
        cells = values.astype(np.int64)
        self._named(name, cells if missing is None else np.where(missing, NULL, cells), 0)

    def rounded(self, name: str, values: Column, places: int, missing: Mask | None = None) -> None:
        """Floats as Python rounds them; null where missing."""
        cells, left = rounded_cells(values, places)
        if left.any():
            cells[left] = self._texts_of_floats([round(float(value), places) for value in values[left]])
        if missing is not None:
            cells[missing] = NULL
        self._named(name, cells, places)

    def exact(self, name: str, values: Column) -> None:
        """Floats to their last bit."""
        self.say(self._key(name))
        self.unnamed(values)

    def unnamed(self, values: Column) -> None:
        """Floats to their last bit, without a name."""
        cells, left = exact_cells(values, _POSITION_DECIMALS)
        if left.any():
            cells[left] = self._texts_of_floats(values[left])
        self._add(cells, _POSITION_DECIMALS)

    def texts(self, texts: Texts) -> None:
        """A text for each row, as it is, without a name."""
        self._add(self._pooled(texts.data.tobytes(), texts.offsets), 0)

    def ready(self, name: str, values: Iterable[bytes]) -> None:
        """Values that are JSON already."""
        self.say(self._key(name))
        self.texts(texts_of(list(values)))

    def rows(self) -> Rows:
        """The rows, as they are nested in documents."""
        return self._rows("}")

    def units(self, field: Column, rcid: Column, fid: Column) -> None:
        """Filter, field, CCD, quadrant and readout channel."""
        for name, values in (("filter", fid), ("field", field), ("ccd", rcid // 4 + 1), ("quad", rcid % 4 + 1)):
            self.integers(name, values)
        self.integers("rc", rcid)

    def documents(self, opening: str = "", closing: str = "}\n") -> Rows:
        """The rows as lines; what is nested in them comes between the two literals."""
        return self._rows(opening, closing)

    def _rows(self, *ends: str) -> Rows:
        last = self._literals[-1] + ends[0]
        literals = texts_of([literal.encode() for literal in (*self._literals[:-1], last, *ends[1:])])
        pool = Texts(np.frombuffer(b"".join(self._texts), np.uint8), np.concatenate(self._offsets))
        return Rows(np.ascontiguousarray(self._cells), np.array(self._decimals, np.int64), literals, pool)

    def _key(self, name: str) -> str:
        comma = "" if self._literals[-1].endswith("{") else ","
        return f'{comma}"{name}":'

    def _named(self, name: str, cells: Cells, places: int) -> None:
        self.say(self._key(name))
        self._add(cells, places)

    def _add(self, cells: Cells, places: int) -> None:
        self._cells.append(cells)
        self._decimals.append(places)
        self._literals.append("")

    def _texts_of_floats(self, values: Any) -> Cells:
        """The shortest texts that say them to the last bit."""
        texts = pa.array(values, pa.float64()).cast(pa.string())
        whole = pc.invert(pc.match_substring_regex(texts, "[.e]"))
        texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
        return self._pooled(*_buffers(texts))

    def _pooled(self, data: bytes, offsets: Ints) -> Cells:
        first = self._count
        self._texts.append(data)
        self._offsets.append(offsets[1:] + self._size)
        self._size += len(data)
        self._count += len(offsets) - 1
        return TEXT + np.arange(first, self._count, dtype=np.int64)


def _buffers(texts: pa.Array) -> tuple[bytes, Ints]:
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return bytes(data)[starts[0] : starts[-1]], starts - starts[0]


def binary_text(value: bytes) -> bytes:
    """Extended JSON of some bytes."""
    return b'{"$binary":{"base64":"%s","subType":"00"}}' % base64.b64encode(value)


@dataclass(frozen=True)
class LinesFile:
    """A file of JSON Lines, as a manifest lists it."""

    path: str
    collection: str
    action: str
    documents: int
    epochs: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class LinesWritten:
    """Files that a task wrote."""

    files: tuple[LinesFile, ...]


class LinesWriter:
    """Writes the lines of one collection and action to files of about so many each.

    Parameters
    ----------
    collection, action : str
        Begin the files' names, which end in a number.
    part : str
        What distinguishes them from the files of other tasks.
    """

    def __init__(self, storage: Storage, collection: str, action: str, part: str, form: LinesForm) -> None:
        self.files: list[LinesFile] = []
        self._storage, self._form, self._of = storage, form, (collection, action)
        self._stem = f"{collection}-{action}-{part}"
        self._frames: list[bytes] = []
        self._documents = self._epochs = self._bytes = 0

    def add(self, lines: npt.NDArray[np.uint8], documents: int, epochs: int = 0) -> None:
        """Add some lines; they are compressed at once."""
        frame = self._form.compress(lines)
        full = self._documents + documents > self._form.documents or self._bytes + len(frame) > MOST_BYTES
        if self._documents and full:
            self._finish()
        self._frames.append(frame)
        self._bytes += len(frame)
        self._documents += documents
        self._epochs += epochs

    def close(self) -> LinesWritten:
        """All files written."""
        if self._documents:
            self._finish()
        return LinesWritten(tuple(self.files))

    def _finish(self) -> None:
        path = f"{self._stem}-{len(self.files):04d}.jsonl{SUFFIXES[self._form.compression]}"
        checksum = hashlib.sha256(usedforsecurity=False)
        for frame in self._frames:
            checksum.update(frame)
        self._storage.put(path, *self._frames)
        self.files.append(LinesFile(path, *self._of, self._documents, self._epochs, self._bytes, checksum.hexdigest()))
        self._frames, self._documents, self._epochs, self._bytes = [], 0, 0, 0


@dataclass(frozen=True)
class LinesForm:
    """How lines are written."""

    compression: str = "zstd"
    documents: int = 20_000
    """Of a file, about."""

    def compress(self, lines: npt.NDArray[np.uint8]) -> bytes:
        """A frame (zstd) or member (gzip) of a file; one after the other they are the file."""
        if self.compression == "none":
            return lines.tobytes()
        codec = pa.Codec(self.compression, _LEVELS[self.compression])
        return bytes(codec.compress(pa.py_buffer(lines), asbytes=True))


def read_lines(storage: Storage, file: LinesFile) -> Iterator[bytes]:
    """Lines of a file, after its checksum was compared.

    Raises
    ------
    BadInputError
        If it is missing or not what was written.
    """
    try:
        content = storage.read(file.path)
    except FileNotFoundError:
        raise BadInputError(f"{file.path} is missing from the export {storage.root}: export it again") from None
    if hashlib.sha256(content, usedforsecurity=False).hexdigest() != file.sha256:
        raise BadInputError(
            f"{file.path} in the export {storage.root} is damaged: {len(content)} bytes of another checksum than the "
            f"manifest's, which has {file.bytes}; export it again"
        )
    yield from _decompressed(content, file.path)


def _decompressed(content: bytes, path: str) -> Iterator[bytes]:
    name = next(name for name, suffix in SUFFIXES.items() if path.endswith(f".jsonl{suffix}"))
    source = pa.BufferReader(content)
    stream = source if name == "none" else pa.CompressedInputStream(source, name)
    rest: list[bytes] = []
    while chunk := stream.read(_CHUNK_BYTES):
        first, *lines = chunk.split(b"\n")
        rest.append(first)
        if sum(map(len, rest)) > _LONGEST_LINE:
            raise BadInputError(f"{path} has a line of more than {_LONGEST_LINE >> 20} MiB, which is not a document")
        if lines:
            yield b"".join(rest)
            yield from lines[:-1]
            rest = lines[-1:]
    if last := b"".join(rest):
        yield last
