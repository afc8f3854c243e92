"""The list of live files of a survey that was never compacted: opening it for one tile, and committing to it.

    python tests/benchmarks/manifests.py --workdir /scratch/bench/manifests --files 6000000 --json manifests.json

makes, once, a snapshot of so many simulated files (365 nights in 12,288 tiles; no file is there), and commits nights to
it: files of a sixth of the tiles are added, and replaced. Each step is a process of its own.
``PYTHONPATH=/path/to/another/tree`` measures another version, with a list of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.io import log, paths, storefile
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, whole_sky

NIGHTS = 365
REPLACED = 8_000
TABLES = ("detections", "objects", "orphans", "statistics", "transients")
SHARE = (0.60, 0.02, 0.30, 0.04, 0.04)
ORDER = 5


def columns(number: int) -> pa.Table:
    """Manifest rows, in order of table and tile."""
    rng = np.random.default_rng(1)
    table = np.repeat(np.arange(len(TABLES)), (np.array(SHARE) * number).astype(int))
    npix = rng.integers(0, 12 * 4**ORDER, len(table))
    order = np.lexsort([npix, table])
    table, npix = table[order], npix[order]
    commit = rng.integers(0, NIGHTS, len(table))
    digests = pa.array([rng.bytes(32).hex() for _ in range(len(table))])
    names = np.array(TABLES)[table].tolist()
    path = [
        paths.data_file(name, Tile(ORDER, pixel), night, f"0123456789ab-0000-{digest[:8]}")
        for name, pixel, night, digest in zip(names, npix.tolist(), commit.tolist(), digests.to_pylist(), strict=True)
    ]
    ids = npix * 10**9
    return pa.table(
        {
            "table": names, "order": pa.array(np.full(len(table), ORDER), pa.int8()), "npix": npix, "path": path,
            "rows": rng.integers(100, 10**5, len(table)), "size": rng.integers(10**4, 10**7, len(table)),
            "min_id": ids, "max_id": ids + rng.integers(0, 10**9, len(table)),
            "min_hmjd": 58000.5 + commit, "max_hmjd": 58000.9 + commit,
            "sha256": digests, "commit": commit, "tail": rng.integers(1000, 9000, len(table)),
            "seal": pa.array([text[-16:] for text in digests.to_pylist()]),
        }
    )  # fmt: skip


def make(place: Path, number: int) -> dict[str, float]:
    """Make the store."""
    storage = Storage.at(place)
    storefile.create_store(storage, StoreConfig())
    _unchecked()
    first = log.commit(storage, None, log.Change("init", "0" * 32, {}, {}, [], tiling=whole_sky()))
    rows = columns(number)
    try:
        from ztfmatch.core.io import manifestpart
    except ImportError:
        content = FileList(rows.cast(manifest_schema())).encode()
        identity = log._named_by_content("0000000001-" + "1" * 12, content)
        storage.put(paths.manifest(identity), content)
        part = log.ManifestPart(identity, rows.num_rows)
    else:
        keys = [manifestpart.key_of(name, ORDER, 0) for name in TABLES]
        known = np.array(keys)[pa.compute.index_in(rows["table"], pa.array(TABLES)).to_numpy()]
        rows = rows.append_column("removed", pa.array(np.zeros(rows.num_rows, bool)))
        rows = rows.append_column("key", pa.array(known + rows["npix"].to_numpy())).sort_by("key")
        step = manifestpart.ROWS_PER_GROUP * 16
        rows = rows.cast(manifestpart.SCHEMA)
        made = manifestpart.encode(rows.slice(at, step) for at in range(0, rows.num_rows, step))
        identity = f"0000000001-{'1' * 12}-{made.sealed.seal}"
        storage.put(paths.manifest(identity), *made.sealed.parts)
        part = log.ManifestPart(identity, made.files, 0, made.sealed.size, made.sealed.tail)
    entry = replace(first, number=1, parent=0, operation="simulated", manifests=(part,))
    storage.put_if_absent(paths.commit(1), log.encode(log.asdict(entry)))
    return {"manifest_mb": sum(size for _, size in storage.list(paths.MANIFESTS)) / 1e6}


def manifest_schema() -> pa.Schema:
    """Schema of a list of the trees of before."""
    from ztfmatch.core.io import manifest

    return manifest._SCHEMA


def _unchecked() -> None:
    """Commit though the files are not there to be forced to disk."""
    original = Storage.sync
    Storage.sync = lambda self, names: original(self, [n for n in names if (self.local_root / n).exists()])  # type: ignore[method-assign]


def tile(place: Path) -> dict[str, Any]:
    """Open the newest snapshot for one tile: the files of three tables, then of a hundred more tiles."""
    started = time.perf_counter()
    snapshot = open_snapshot(Storage.at(place))
    files = [len(snapshot.of_tile(name, Tile(ORDER, 4321))) for name in TABLES[:3]]
    first = time.perf_counter() - started
    near = [len(snapshot.of_tile(name, Tile(ORDER, 4400 + n))) for n in range(100) for name in TABLES[:3]]
    return {"first_s": first, "other_ms": (time.perf_counter() - started - first) / len(near) * 1e3, "files": files}


def commit(place: Path, nights: int = 8) -> dict[str, Any]:
    """Commit nights."""
    _unchecked()
    storage = Storage.at(place)
    seconds, written = [], []
    for _ in range(nights):
        snapshot = open_snapshot(storage)
        number = snapshot.number + 1
        tiles = [Tile(ORDER, n) for n in range(number % 4, REPLACED, 4)]
        old = [file for one in tiles for file in snapshot.of_tile("statistics", one)]
        night = {"commit": number}
        new = [replace(f, path=paths.data_file(f.table, f.tile, number, f"{i}-{f.sha256[:8]}"), **night)
               for i, f in enumerate(old)]  # fmt: skip
        fresh = [replace(f, table=name, path=paths.data_file(name, f.tile, number, f"{i}-{f.sha256[:8]}"), **night)
                 for i, f in enumerate(old) for name in ("detections", "orphans")]  # fmt: skip
        before = _manifest_bytes(storage)
        started = time.perf_counter()
        change = log.Change("night", f"{number:032x}", {}, {}, new + fresh, frozenset(f.path for f in old))
        log.commit(storage, snapshot.commit, change)
        seconds.append(round(time.perf_counter() - started, 3))
        written.append(round((_manifest_bytes(storage) - before) / 1e6, 2))
    return {"commit_s": seconds, "written_mb": written, "changed": 4 * len(old)}


def _manifest_bytes(storage: Storage) -> int:
    return sum(size for _, size in storage.list(paths.MANIFESTS))


def whole(place: Path) -> dict[str, Any]:
    """Ask of all files what operations ask."""
    snapshot = open_snapshot(Storage.at(place))
    started = time.perf_counter()
    held = {name: snapshot.files.by_tile(name) for name in TABLES}
    files = sum(one.files for of in held.values() for one in of.values())
    by_tile = time.perf_counter() - started
    return {"by_tile_s": by_tile, "total_s": time.perf_counter() - started, "files": files}


STEPS = {"tile": tile, "commit": commit, "tile after commits": tile, "whole": whole}


def main() -> None:
    """Run every step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--files", type=int, default=6_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step")
    arguments = parser.parse_args()
    if arguments.step:
        step = arguments.step
        result = make(arguments.workdir, arguments.files) if step == "make" else STEPS[step](arguments.workdir)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps(result | {"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
        return
    results = {}
    for step in ([] if arguments.workdir.exists() else ["make"]) + list(STEPS):
        options = ["--workdir", arguments.workdir, "--files", str(arguments.files), "--step", step]
        done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
        results[step] = json.loads(done.stdout)
        print(step, done.stdout.strip(), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
