"""Read exports as anyone would: gzip or zstd, JSON Lines, MongoDB's own parser of Extended JSON."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from bson import json_util
from kowalski_oracle import Content, Document, apply

import ztfmatch
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.kowalski.export import KowalskiConfig


def text_of(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content).decode()
    if path.suffix == ".zst":
        return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read().decode()
    return content.decode()


def lines_of(export: Path) -> Iterator[tuple[str, str, Document]]:
    """Collection, action and document of each line, in the order of the manifest."""
    manifest = json.loads((export / "manifest.json").read_text())
    for file in manifest["files"]:
        text = text_of(export / file["path"])
        assert text.endswith("\n")
        lines = text.splitlines()
        assert len(lines) == file["documents"]
        for line in lines:
            yield file["collection"], file["action"], json_util.loads(line)


def documents_of(export: Path) -> Content:
    """All documents of a full export; no ``_id`` may come twice."""
    content: Content = {}
    found = list(lines_of(export))
    assert {action for _, action, _ in found} <= {"upsert"}
    assert max(Counter((of, line["_id"]) for of, _, line in found).values(), default=0) <= 1
    apply(content, found)
    return content


def export(store: ztfmatch.Store, out: Path, **settings: Any) -> Path:
    """Export; return the directory of the export."""
    return Path(store.export_kowalski(out, KowalskiConfig(**settings)).export)


def tables_of(store: ztfmatch.Store, number: int | None = None) -> dict[str, list[Document]]:
    """Rows of the tables that documents are made of; nulls of floats as NaN."""
    snapshot = open_snapshot(store.storage, number)
    rows = {name: snapshot.read(name).to_pylist() for name in ("objects", "detections", "exposures")}
    for row in rows["detections"]:
        row["hjd"] = row["hmjd"] + 2_400_000.5
        for name in ("mag", "magerr"):
            row[name] = math.nan if row[name] is None else row[name]
    return rows
