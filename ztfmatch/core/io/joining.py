"""Join encoded row groups into one file without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.footer import Footer, RowGroup
from ztfmatch.core.io.remote import Bytes
from ztfmatch.core.io.sealed import MAGIC, Sealed, seal
from ztfmatch.core.schema import Table


@dataclass(frozen=True)
class Piece:
    """Row groups, encoded."""

    data: Bytes
    start: int
    """Where they begin in the file of the footer."""
    chunks: bytes
    """What the tail of that says of their column chunks."""
    groups: tuple[RowGroup, ...]
    footer: Footer


def file_of(table: Table, rows: pa.Table) -> Sealed:
    """Rows of a table, encoded, as a file of their own."""
    return seal(encode(table, rows))


def piece_of(file: Sealed) -> Piece:
    """All that a file of :func:`file_of` has."""
    footer = Footer.of(bytes(file.footer))
    return Piece(file.data[0], len(MAGIC), file.chunks, footer.groups, footer)


def joined(pieces: Sequence[Piece], rows: int) -> Sealed:
    """A file of some pieces, which have so many rows."""
    # Bytes of the pieces follow one another as they are; what footers say of places is moved along with them.
    at, groups = len(MAGIC), list[bytes]()
    for piece in pieces:
        groups += [group.moved(at - piece.start, len(groups) + i) for i, group in enumerate(piece.groups)]
        at += len(piece.data)
    footer = pieces[0].footer.holding(groups, rows)
    return Sealed(tuple(piece.data for piece in pieces), b"".join(piece.chunks for piece in pieces), footer, rows)
