"""The manifest of an export, written last, and the cursor, which records the last exported snapshot."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.plain import Json
from ztfmatch.kowalski.io.jsonlines import SUFFIXES, LinesFile
from ztfmatch.kowalski.schema import ACTIONS, COLLECTIONS
from ztfmatch.kowalski.tasks.scope import json_text

MANIFEST: Final = "manifest.json"
_FORMAT: Final = "ztfmatch-kowalski-export"
_CURSOR_FORMAT: Final = "ztfmatch-kowalski-cursor"
_VERSION: Final = 1


@dataclass(frozen=True)
class Span:
    """Which snapshots of which store, and what of them."""

    store: str
    """Identity of the store."""
    since: int | None
    """The snapshot that the export goes on from; None for all."""
    snapshot: int
    scope: Json
    """Limits; empty for everything."""
    whole: bool = False
    """Whether objects with new epochs are whole documents, not updates."""

    @property
    def name(self) -> str:
        """Name of the export's directory; directories sort in the order in which they are to be loaded."""
        return f"{self.snapshot:010d}-full" if self.since is None else f"{self.snapshot:010d}-since-{self.since:010d}"


def is_name(name: str) -> bool:
    """Whether a directory's name is an export's."""
    return re.fullmatch(r"\d{10}-(full|since-\d{10})", name) is not None


@dataclass(frozen=True)
class Manifest:
    """The files of a finished export."""

    span: Span
    time: str
    """When the snapshot was committed."""
    ztfmatch: str
    compression: str
    files: tuple[LinesFile, ...]

    def count(self, collection: str, action: str) -> int:
        """Documents of a collection that are to be treated so."""
        return sum(f.documents for f in self.files if (f.collection, f.action) == (collection, action))

    @property
    def epochs(self) -> int:
        """Epochs in all documents."""
        return sum(file.epochs for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    def encode(self) -> bytes:
        """Bytes of ``manifest.json``; the same for the same export."""
        counts = sorted({(file.collection, file.action) for file in self.files})
        return encode(
            {
                "format": _FORMAT,
                "version": _VERSION,
                **asdict(self.span),
                "time": self.time,
                "ztfmatch": self.ztfmatch,
                "compression": self.compression,
                "counts": {f"{of} {action}": self.count(of, action) for of, action in counts},
                "epochs": self.epochs,
                "files": [asdict(file) for file in self.files],
            }
        )


def read_manifest(export: Storage) -> Manifest | None:
    """Manifest of an export; None if it is not finished, or not an export.

    Raises
    ------
    BadInputError
        If it is damaged, or of a newer version.
    """
    try:
        content = export.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        raw = _of_format(content, _FORMAT)
        manifest = msgspec.convert({**raw, "span": raw}, Manifest)
        for file in manifest.files:
            _check(file)
    except ValueError as error:
        raise BadInputError(f"{export.root}/{MANIFEST} is damaged: {error}; export it again") from None
    return manifest


def _of_format(content: bytes, name: str) -> Json:
    """A record of this version of a format."""
    raw: Json = decode(content, dict)
    if (raw.get("format"), raw.get("version")) != (name, _VERSION):
        raise ValueError(f"format {raw.get('format')!r}, version {raw.get('version')}; expected {name!r}, {_VERSION}")
    return raw


def _check(file: LinesFile) -> None:
    """A file of the export itself, for a collection that loads know: exports may come from elsewhere."""
    if file.collection not in COLLECTIONS or file.action not in ACTIONS:
        raise ValueError(f"{file.path!r} is to {file.action} {file.collection}")
    if "/" in file.path or not file.path.endswith(tuple(f".jsonl{suffix}" for suffix in SUFFIXES.values())):
        raise ValueError(f"{file.path!r} is not a file of an export")


@dataclass(frozen=True)
class Cursor:
    """Up to where a series of exports has come."""

    store: str
    snapshot: int
    commit: str
    """Digest of the snapshot's record: a store restored from a copy may have another with that number."""
    scope: Json

    def write(self, path: Path) -> None:
        """Replace the file, whole and on disk, or leave it as it is."""
        record = {"format": _CURSOR_FORMAT, "version": _VERSION, **asdict(self)}
        localfiles.replace(path, memoryview(encode(record)), durable=True)
        localfiles.remove_leftovers([path])


def read_cursor(path: Path) -> Cursor | None:
    """The cursor in a file; None if there is no file yet.

    Raises
    ------
    ConfigError
        If the file is something else, or damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.convert(_of_format(content, _CURSOR_FORMAT), Cursor)
    except ValueError as error:
        raise ConfigError(f"{path} is not a cursor of 'ztfmatch export kowalski', or a damaged one: {error}") from None


def check_cursor(path: Path, cursor: Cursor, store: str, root: str, scope: Json) -> None:
    """Refuse a cursor of another store or another scope.

    Raises
    ------
    ConfigError
    """
    if cursor.store != store:
        raise ConfigError(
            f"{path} is the cursor of another store ({cursor.store}), not of {root} ({store}): give that store's "
            "cursor, or --full for a full export that begins it anew"
        )
    if cursor.scope != scope:
        raise ConfigError(
            f"{path} is the cursor of exports of {json_text(cursor.scope)}, not of {json_text(scope)}: give the "
            "same --only, or --full for a full export that begins it anew"
        )
