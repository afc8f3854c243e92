"""Measurements inside one process, each printed as a line of JSON; called by ``store.py``.

``manifest PLACE``: commit, and open, a snapshot of 200,000 live files.
``cone STORE``: lightcurves in many cones of 10 arcsec, the first of them cold, and of objects by their objectids.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  (pyarrow imports it where it is installed: an import, not a query)

import ztfmatch
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.parquet import DataFile, read_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling

FILES = 200_000
RADIUS_ARCSEC = 10.0
CONES = 100
_ORDER = 6
_TABLES = ("detections", "detections", "orphans", "objects", "statistics")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def finer(tiling: Tiling, keep: set[Tile]) -> Tiling:
    """The tiling with all but some tiles divided down to order 6."""
    tiles: list[Tile] = []
    for tile in tiling.tiles:
        depth = 2 * (_ORDER - tile.order)
        tiles += [tile] if tile in keep else [Tile(_ORDER, (tile.npix << depth) + i) for i in range(1 << depth)]
    return Tiling(tuple(tiles))


def simulated_files(tiling: Tiling, number: int) -> list[DataFile]:
    """Manifest rows of files that are not there, five in each tile of order 6 in turn."""
    tiles = [tile for tile in tiling.tiles if tile.order == _ORDER]
    files = []
    for i in range(number):
        table, tile, checksum = _TABLES[i % 5], tiles[i // 5 % len(tiles)], hashlib.sha256(b"%d" % i).hexdigest()
        path = paths.data_file(table, tile, i % 1000, f"0123456789ab-0000-{checksum[:8]}")
        ids, times = (10**15 + i, 10**15 + i + 10**9), (58000.5, 58001.5)
        sums = (checksum, i % 1000, 2_000, checksum[:16])
        files.append(DataFile(table, tile.order, tile.npix, path, 10**6, 31 * 10**6, *ids, *times, *sums))
    return files


def fill(store: Path) -> None:
    """Commit simulated files to a store until 200,000 are live."""
    storage = Storage.at(store)
    snapshot = open_snapshot(storage)
    tiling = finer(snapshot.tiling, set(snapshot.tiles_with("objects", "detections")))
    change = log.Change("simulated", "ab" * 16, {}, {}, simulated_files(tiling, FILES - len(snapshot.files)))
    _commit_unchecked(snapshot, replace(change, tiling=tiling))


def _commit_unchecked(snapshot: SnapshotFiles, change: log.Change) -> log.Commit:
    """Commit though the files that it adds are not there to be forced to disk."""
    original = Storage.sync
    Storage.sync = lambda self, names: original(self, [n for n in names if (self.local_root / n).exists()])  # type: ignore[method-assign]
    try:
        return log.commit(snapshot.storage, snapshot.commit, change)
    finally:
        Storage.sync = original  # type: ignore[method-assign]


def commit(store: Path) -> dict[str, float]:
    """On 200,000 live files, commit what an append adds; then what a compaction removes and adds."""
    storage = Storage.at(store)
    seconds = {}
    for name, removed in (("append", 0), ("compact", 200)):
        snapshot = open_snapshot(storage)
        fresh = [replace(file, path=f"{file.path}-{name}") for file in snapshot.files.of_table("orphans")[:200]]
        gone = frozenset(snapshot.files.paths("detections")[:removed])
        del snapshot.__dict__["files"]
        started = time.perf_counter()
        _commit_unchecked(snapshot, log.Change(name, "cd" * 16, {}, {}, fresh, gone))
        seconds[f"{name}_s"] = time.perf_counter() - started
    return {**seconds, "live": len(open_snapshot(storage).files), "peak_mib": _peak_mib()}


def cones(store: Path) -> dict[str, float]:
    """Open a store and ask for cones around objects of its own; the first is cold, then the median of the others."""
    ra, dec = _centres(store)
    started = time.perf_counter()
    snapshot = ztfmatch.open_store(store).snapshot()
    times, rows, ids = [], 0, list[int]()
    for one_ra, one_dec in zip(ra, dec, strict=True):
        found = snapshot.lightcurves(cone=(one_ra, one_dec, RADIUS_ARCSEC))
        times.append(time.perf_counter() - started)
        rows += found.num_rows
        ids += found["objectid"][:1].to_pylist()
        started = time.perf_counter()
    warm = times[1:]
    of_objects = []
    for one in ids:
        started = time.perf_counter()
        snapshot.lightcurves(one)
        of_objects.append(time.perf_counter() - started)
    return {
        "cold_s": times[0],
        "warm_s": statistics.median(warm),
        "warm_max_s": max(warm),
        "object_s": statistics.median(of_objects),
        "cones": len(warm),
        "rows": rows,
        "detections": snapshot.status.detections,
        "live": len(snapshot.files.files),
        "peak_mib": _peak_mib(),
    }


def _centres(store: Path) -> tuple[list[float], list[float]]:
    """Positions drawn from the real objects; kept beside the store, so that a cold process need not look for them."""
    cached = store.with_suffix(".centres.json")
    if not cached.exists():
        snapshot = open_snapshot(Storage.at(store))
        real = [
            file for file in snapshot.files.of_table("objects") if (Path(snapshot.storage.root) / file.path).exists()
        ]
        objects = read_rows(snapshot.storage, real, ["ra", "dec"])
        assert objects is not None
        chosen = np.random.default_rng(5).choice(objects.num_rows, CONES + 1, replace=False)
        cached.write_text(json.dumps([objects[name].to_numpy()[chosen].tolist() for name in ("ra", "dec")]))
    ra, dec = json.loads(cached.read_text())
    return ra, dec


def main(what: str, place: Path) -> None:
    """Do one and print it."""
    if what == "fill":
        fill(place)
        result: dict[str, float] = {}
    elif what == "commit":
        copy = place.with_name(f"{place.name}-commit")
        shutil.rmtree(copy, ignore_errors=True)
        for part in ("commits", "manifests"):
            shutil.copytree(place / part, copy / part)
        shutil.copy(place / "store.json", copy)
        result = commit(copy)
        shutil.rmtree(copy)
    else:
        result = cones(place)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute())
