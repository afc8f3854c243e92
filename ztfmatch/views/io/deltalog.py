"""The transaction log of a Delta table over Parquet files that are there: protocol 1, read by every Delta reader.

A version is a JSON file whose name is its number, with one action a line (delta-io/delta, PROTOCOL.md). Only what a
view needs is written: the schema once, then which files come and go. Paths are relative to the table: delta-rs, the
reader of deltalake and Polars, knows no others.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from ztfmatch.core.io.parquet import ID_COLUMN, DataFile
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.plain import Json
from ztfmatch.core.schema import Table
from ztfmatch.core.schema.types import plain_type

Action = Json
"""One line of a table's log, as the Delta protocol has it."""

PARTITION_COLUMNS: Final = ("Norder", "Npix")
"""Of a table divided over the sky: readers have them from the log and prune by them."""

_PRIMITIVE: Final = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.string(): "string",
    pa.float32(): "float",
    pa.float64(): "double",
    **dict.fromkeys((pa.int16(), pa.uint8()), "short"),
    **dict.fromkeys((pa.int32(), pa.uint16()), "integer"),
    **dict.fromkeys((pa.int64(), pa.uint32()), "long"),
}
"""Delta's names of types; it has no unsigned ones, and nothing for 64 unsigned bits."""

_NAMESPACE: Final = uuid.UUID("6a1b6d3a-5b63-4bb0-9d54-2f2a7b0c7e11")


@dataclass(frozen=True)
class DeltaFile:
    """A file of a Delta table."""

    path: str
    """Relative to the table."""
    file: DataFile
    size: int
    rows: int


def delta_columns(table: Table) -> list[tuple[pa.Field, str]]:
    """Columns that Delta can have, and their types."""
    found = []
    for field in table.schema:
        kind = plain_type(field.type)
        if kind in _PRIMITIVE:
            found.append((field, _PRIMITIVE[kind]))
    return found


def log_path(table: str, version: int) -> str:
    """Path of a version's record."""
    return f"{table}/_delta_log/{version:020d}.json"


@dataclass(frozen=True)
class LogState:
    """State of a table after the last version in its log."""

    versions: int
    live: tuple[str, ...]
    """Paths of the files of the last version."""
    metadata: Mapping[str, Any]
    """Its schema and configuration; empty where there is no version."""


def read_log(storage: Storage, table: str) -> LogState:
    """State of a table after its last version."""
    names = sorted(path for path, _ in storage.list(f"{table}/_delta_log/") if path.endswith(".json"))
    live: dict[str, None] = {}
    metadata: Json = {}
    for name in names:
        for line in storage.read(name).splitlines():
            action = json.loads(line)
            metadata = action.get("metaData", metadata)
            if "add" in action:
                live[action["add"]["path"]] = None
            elif "remove" in action:
                live.pop(action["remove"]["path"], None)
    return LogState(len(names), tuple(live), metadata)


def protocol_action() -> Action:
    """First action of a table's log."""
    return {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}


def bounded_columns(table: Table) -> list[str]:
    """Columns of which every file has bounds: its ids and times, where they are never null."""
    names = (ID_COLUMN[table.name], "hmjd" if "hmjd" in table.names else None)
    return [name for name in names if name is not None and not table[name].nullable]


def table_metadata(table: Table, store: str, moment_ms: int) -> Json:
    """Schema with the documentation of every column, and which columns have bounds.

    Readers need the list: by default deltalake assumes that the first 32 columns have bounds, and takes missing ones
    for null, so that a filter on such a column finds nothing in any file.
    """
    bounded = bounded_columns(table)
    skipping = (
        {"delta.dataSkippingStatsColumns": ",".join(bounded)} if bounded else {"delta.dataSkippingNumIndexedCols": "0"}
    )
    fields = [
        {"name": field.name, "type": kind, "nullable": True, "metadata": _documented(field)}
        for field, kind in delta_columns(table)
    ]
    partitions = PARTITION_COLUMNS if table.by_tile else ()
    kinds = {"Norder": "integer", "Npix": "long"}
    fields += [{"name": name, "type": kinds[name], "nullable": True, "metadata": {}} for name in partitions]
    return {
        "id": str(uuid.uuid5(_NAMESPACE, f"{store}/{table.name}")),
        "name": table.name,
        "description": table.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": list(partitions),
        "configuration": skipping,
        "createdTime": moment_ms,
    }


def _documented(field: pa.Field) -> dict[str, str]:
    known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    named = {"comment": known.get("description"), "unit": known.get("unit"), "source": known.get("source")}
    return {key: value for key, value in named.items() if value}


def add_action(table: Table, entry: DeltaFile, moment_ms: int, new: bool = True) -> Action:
    """A file that is added, or listed anew, with what readers prune by: rows, bounds of its ids and times."""
    file = entry.file
    known = bounded_columns(table)
    stats = {
        "numRecords": entry.rows,
        "minValues": {name: file.min_hmjd if name == "hmjd" else file.min_id for name in known},
        "maxValues": {name: file.max_hmjd if name == "hmjd" else file.max_id for name in known},
        "nullCount": dict.fromkeys(known, 0),
    }
    partition = {"Norder": str(file.order), "Npix": str(file.npix)} if table.by_tile else {}
    return {
        "add": {
            "path": entry.path,
            "partitionValues": partition,
            "size": entry.size,
            "modificationTime": moment_ms,
            "dataChange": new,
            "stats": json.dumps(stats),
        }
    }


def remove_action(path: str, moment_ms: int) -> Action:
    """A file that is removed."""
    return {"remove": {"path": path, "deletionTimestamp": moment_ms, "dataChange": True}}


def write_version(
    storage: Storage, table: str, version: int, actions: Sequence[Mapping[str, Any]], info: Mapping[str, Any]
) -> bool:
    """Write a version, unless another writer did; False then."""
    lines: Iterable[Mapping[str, Any]] = [{"commitInfo": dict(info)}, *actions]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    return storage.put_if_absent(log_path(table, version), content.encode())
