"""How fast matchfiles are imported, beside reading the same rows into documents with pandas, as a document store does.

Run as: python tests/benchmarks/imports.py [--sources 8000] [--exposures 300] [--repeat 3] [--workdir DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from matchfiles import ARCSEC, Content, make_content, set_times, write_matchfile

DOCUMENT_FIELDS = ["expid", "hjd", "mag", "magerr", "chi", "sharp", "catflags", "programid", "ra", "dec", "psfflux"]


def make_file(place: Path, sources: int, exposures: int) -> Path:
    """A matchfile whose sources are seen in every exposure, grouped by source as the survey's are."""
    rng = np.random.default_rng(1)
    few = make_content(sources=sources, exposures=exposures, transients=0)
    rows = np.zeros(sources * exposures, few.tables["sourcedata"].dtype)
    which, when = np.divmod(np.arange(len(rows)), exposures)
    listed, objects = few.tables["exposures"], few.tables["sources"]
    for name in ("expid", "programid"):
        rows[name] = listed[name][when]
    rows["matchid"], rows["mjd"] = which, listed["obsmjd"][when] + 15.0 / 86400.0
    for name in ("ra", "dec"):
        rows[name] = objects[name][which] + rng.normal(0.0, 0.1, len(rows)) * ARCSEC
    for name in ("psfflux", "psffluxerr", "mag", "magerr", "magerrmodel", "chi", "sharp", "xpos", "ypos"):
        rows[name] = np.round(rng.uniform(1.0, 20.0, len(rows)), 3)
    set_times(rows)
    return write_matchfile(place, Content(few.unit, {**few.tables, "sourcedata": rows}, few.attributes))


def documents(file: Path) -> Iterator[dict[str, object]]:
    """One document a source with its epochs as dicts: the rows, and no statistics."""
    import tables

    with tables.open_file(str(file)) as opened:
        group = opened.root.matches
        epochs = pd.DataFrame.from_records(group.sourcedata[:])
    for matchid, rows in epochs.groupby("matchid"):
        yield {"_id": int(matchid), "data": rows[DOCUMENT_FIELDS].to_dict(orient="records")}


def read_documents(file: Path) -> int:
    return sum(len(document["data"]) for document in documents(file))  # type: ignore[arg-type]


def import_file(file: Path, place: Path) -> int:
    """The whole command in a process of its own, from start to exit."""
    store = place / "store"
    shutil.rmtree(store, ignore_errors=True)
    words = [sys.executable, "-m", "ztfmatch", "import", "matchfile", str(store), str(file), "--create", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return int(json.loads(done.stdout)["matched"])


def seconds(work: Callable[[], int], expected: int) -> float:
    start = time.perf_counter()
    assert work() == expected
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=8000)
    parser.add_argument("--exposures", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    options = parser.parse_args()
    place = options.workdir or Path(tempfile.mkdtemp(prefix="ztfmatch-bench-"))
    place.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    file, rows = make_file(place, options.sources, options.exposures), options.sources * options.exposures
    import_file(file, place)  # compiles what numba caches
    rates: dict[str, list[float]] = {"import": [], "documents": []}
    for _ in range(options.repeat):
        rates["import"].append(rows / seconds(lambda: import_file(file, place), rows))
        rates["documents"].append(rows / seconds(lambda: read_documents(file), rows))
    ratios = [one / other for one, other in zip(*rates.values(), strict=True)]
    size = sum(path.stat().st_size for path in (place / "store" / "data").rglob("*.parquet"))
    print(f"{rows:,} epochs of {options.sources:,} sources, {file.stat().st_size / rows:.1f} bytes/epoch in the file")
    print(f"import (whole process, one core)  {statistics.median(rates['import']):12,.0f} epochs/s")
    print(f"pandas documents (one core)       {statistics.median(rates['documents']):12,.0f} epochs/s")
    print(f"ratio, median of pairs            {statistics.median(ratios):12.1f}")
    print(f"store                             {size / rows:12.1f} bytes/epoch")
    if options.workdir is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
