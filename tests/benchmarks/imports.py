"""How fast matchfiles are imported, beside reading the same rows into documents with pandas, as a document store does.

Run as: python tests/benchmarks/imports.py [--files 4] [--sources 8000] [--exposures 300] [--repeat 3] [--workdir DIR]

The documents are made in this process, whose start they are not charged with. ``--ztfmatch`` names the command to
measure, such as that of an installation without pandas and SciPy, which pyarrow and Numba load where they find them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import ztfmatch
from ztfmatch.api import import_matchfiles
from ztfmatch.core.survey import Unit
from ztfmatch.matchfile.ingest import ImportConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from matchfiles import ARCSEC, Content, make_content, set_times, write_matchfile

DOCUMENT_FIELDS = ["expid", "hjd", "mag", "magerr", "chi", "sharp", "catflags", "programid", "ra", "dec", "psfflux"]


def make_file(place: Path, number: int, sources: int, exposures: int) -> Path:
    """A matchfile of a unit, whose sources are seen in every exposure.

    As in the survey's files, epochs are grouped by source and in no order of time, and values have so many decimals.
    """
    rng = np.random.default_rng(number)
    unit = Unit(300 + number, 20, 2)
    few = make_content(unit, sources=sources, exposures=1, transients=0)
    when = {"exposures": exposures, "first_mjd": 58300.25 + 0.01 * number}
    few.tables["exposures"] = make_content(unit, sources=1, transients=0, **when).tables["exposures"]
    n = sources * exposures
    rows = np.zeros(n, few.tables["sourcedata"].dtype)
    which, when = np.divmod(np.arange(n), exposures)
    when = rng.permuted(when.reshape(sources, exposures), axis=1).ravel()
    listed, objects = few.tables["exposures"], few.tables["sources"]
    for name in ("expid", "programid"):
        rows[name] = listed[name][when]
    rows["matchid"], rows["mjd"] = which, listed["obsmjd"][when] + 15.0 / 86400.0
    for name in ("ra", "dec"):
        rows[name] = np.round(objects[name][which] + rng.normal(0.0, 0.1, n) * ARCSEC, 7)
    sigma = rng.uniform(0.01, 0.3, n)
    rows["mag"], rows["magerr"], rows["magerrmodel"] = rng.uniform(14.0, 21.0, n), sigma, np.round(sigma, 3)
    rows["psfflux"] = 10.0 ** (0.4 * (26.0 - rows["mag"]))
    rows["psffluxerr"] = rows["psfflux"] * sigma / 1.0857
    rows["chi"], rows["sharp"] = np.round(rng.lognormal(0.0, 0.3, n), 3), np.round(rng.normal(0.0, 0.1, n), 3)
    rows["xpos"], rows["ypos"] = np.round(rng.uniform(1.0, 3072.0, n), 3), np.round(rng.uniform(1.0, 3080.0, n), 3)
    set_times(rows)
    rows["hjd"] = np.round(rows["hjd"], 8)
    return write_matchfile(place, Content(few.unit, {**few.tables, "sourcedata": rows}, few.attributes))


def documents(file: Path) -> Iterator[dict[str, object]]:
    """One document a source with its epochs as dicts: the rows, and no statistics."""
    import tables

    with tables.open_file(str(file)) as opened:
        group = opened.root.matches
        epochs = pd.DataFrame.from_records(group.sourcedata[:])
    for matchid, rows in epochs.groupby("matchid"):
        yield {"_id": int(matchid), "data": rows[DOCUMENT_FIELDS].to_dict(orient="records")}


def read_documents(files: list[Path]) -> int:
    return sum(len(document["data"]) for file in files for document in documents(file))  # type: ignore[arg-type,misc]


def import_files(files: list[Path], store: Path) -> int:
    """Into a store that is made of them, in this process."""
    config = ImportConfig(create=ztfmatch.StoreConfig())
    return import_matchfiles(store, [str(file) for file in files], config)[1].matched


def import_by_command(command: list[str], files: list[Path], store: Path) -> int:
    """The whole command in a process of its own, from start to exit."""
    words = [*command, "import", "matchfile", str(store), *map(str, files), "--create", "--json"]
    return int(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["matched"])


def cpu_seconds(work: Callable[[], int], expected: int) -> float:
    """User and system time of this process and of those that it waited for: the machine may be shared."""
    before = os.times()
    assert work() == expected
    return sum(os.times()[:4]) - sum(before[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--sources", type=int, default=8000)
    parser.add_argument("--exposures", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--ztfmatch", default=f"{shlex.quote(sys.executable)} -m ztfmatch")
    options = parser.parse_args()
    place = options.workdir or Path(tempfile.mkdtemp(prefix="ztfmatch-bench-"))
    place.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    files = [make_file(place, number, options.sources, options.exposures) for number in range(options.files)]
    rows, store = len(files) * options.sources * options.exposures, place / "store"
    shutil.rmtree(store, ignore_errors=True)
    import_files(files[:1], store)  # compiles what numba caches
    contenders: dict[str, Callable[[], int]] = {
        "import, warm process": lambda: import_files(files, store),
        "import, whole command": lambda: import_by_command(shlex.split(options.ztfmatch), files, store),
        "pandas documents": lambda: read_documents(files),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repeat):
        for name, work in reversed(contenders.items()):
            shutil.rmtree(store, ignore_errors=True)
            rates[name].append(rows / cpu_seconds(work, rows))
    size = sum(path.stat().st_size for path in (store / "data").rglob("*.parquet"))
    source = sum(file.stat().st_size for file in files)
    print(
        f"{rows:,} epochs of {len(files)} x {options.sources:,} sources, {source / rows:.1f} bytes/epoch in the files"
    )
    for name, values in rates.items():
        pairs = [one / other for one, other in zip(values, rates["pandas documents"], strict=True)]
        median = statistics.median(values)
        print(f"{name:24}{median:12,.0f} epochs/CPU s, {statistics.median(pairs):5.1f} times the documents")
    print(f"{'store':24}{size / rows:12.1f} bytes/epoch")
    if options.workdir is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
