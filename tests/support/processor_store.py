"""Make a store of a simulated sky and print the digest of every column of its tables: run as a process of its own."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import ztfmatch
from ztfmatch.core.config import AppendConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.schema import TABLES


def make(sky: Path, place: Path) -> ztfmatch.Store:
    """All that commits: appends with corrections and error models, transients, a rematch, statistics, a compaction."""
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    store = ztfmatch.init_store(place, str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=900))
    config = AppendConfig(exposures=sky / "exposures.csv")
    store.append(catalogs[::2], config)
    store.update_transients()
    store.correct(sky / "corrections")
    store.append(catalogs[1::2], config)
    store.rematch(str(sky / "references_1"))
    store.update_statistics()
    store.compact(ztfmatch.CompactConfig(min_files=2, full=True))
    return store


def digests(store: ztfmatch.Store) -> dict[str, str]:
    """Digest of every column of every table of every snapshot, values in the order in which they are stored."""
    found = {}
    for number in range(len(store.commits())):
        snapshot = open_snapshot(store.storage, number)
        for name in TABLES:
            rows = snapshot.read(name)
            for column in rows.column_names:
                found[f"{number} {name}.{column}"] = _digest(rows[column])
    return found


def _digest(column: pa.ChunkedArray) -> str:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    known = column.is_valid().to_numpy()
    if pa.types.is_floating(column.type):
        values = np.where(known, column.to_numpy(), 0).tobytes()
    else:
        values = repr(column.to_pylist()).encode()
    return hashlib.sha256(known.tobytes() + values).hexdigest()


if __name__ == "__main__":
    json.dump(digests(make(Path(sys.argv[1]), Path(sys.argv[2]))), sys.stdout)
