"""Plan the first year of the survey: ``python tests/benchmarks/surveylist.py --workdir W --json FILE``.

A store that has nothing but 102,000 references, as dense as the sky is, and their tiles; and the names of 10.6 million
catalogs that are not there, written to the standard input of ``ztfmatch plan append``. Printed are the CPU and wall
seconds of that process, its peak memory, and its forecast; then the same of ``plan init`` with the names of the
references; then the peak memory of a process that lists the catalogs and divides them into commits, as an append does;
and how uneven tiles are by their seeds, and the tasks that write objects by the references that they read.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measure import peak_kib, run

from ztfmatch.core import camera
from ztfmatch.core.config import CATALOGS_PER_COMMIT, StoreConfig
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.packed import Sorting
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import lonlats_of
from ztfmatch.core.kernels.tiling import FINE_ORDER
from ztfmatch.core.operations.commitbatches import portions_of
from ztfmatch.core.operations.common import write_table
from ztfmatch.core.operations.forecastappend import forecast_objects, tiling_of_images
from ztfmatch.core.operations.forecastunits import IMAGE_ORDER, Images, Units, by_geometry
from ztfmatch.core.schema import REFERENCES
from ztfmatch.core.survey import psfcat_name, refpsfcat_name, unit_codes, unit_of_code

SEEDS = 4.5e9
CATALOGS = 10_600_000
UNITS = 102_000
_WORKERS = 512
_POLE = np.radians(192.85948), np.radians(27.12825)
"""Of the Galaxy."""


def units(number: int = UNITS) -> Units:
    """Units of the northern fields, in g and r and of some in i; twenty times denser in the galactic plane."""
    north = sorted(field for field, (_, dec) in camera.field_grid().items() if field < 1000 and dec > -31.0)
    pairs = [(field, fid) for fid in (1, 2, 3) for field in north][: number // 64]
    field, fid = (np.repeat(np.array(values), 64) for values in zip(*pairs, strict=True))
    found = by_geometry(np.sort(unit_codes(field, np.tile(np.arange(64), len(pairs)), fid)), 0)
    ra, dec = np.radians(np.stack(lonlats_of(found.xyz)))
    pole_ra, pole_dec = _POLE
    sin_b = np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    density = 1.0 + 19.0 * np.exp(-np.abs(np.degrees(np.arcsin(sin_b))) / 6.0)
    seeds = (density * (SEEDS * len(found.code) / UNITS / density.sum())).astype(np.int64)
    return Units(found.code, seeds, found.has_reference, found.xyz, found.radius)


def make_store(place: Path, found: Units) -> None:
    """The store."""
    storage = Storage.at(place)
    storefile.create_store(storage, StoreConfig())
    ra, dec = lonlats_of(found.xyz)
    code = found.code
    known = {
        "field": code // 256, "rcid": code // 4 % 64, "fid": code % 4, "ccdid": code // 16 % 16 + 1,
        "qid": code // 4 % 4 + 1, "ra": ra, "dec": dec, "radius": np.degrees(found.radius), "nseeds": found.seeds,
    }  # fmt: skip
    rows = pa.table(
        [_column(field, known.get(field.name), len(code)) for field in REFERENCES.schema], schema=REFERENCES.schema
    )
    files = write_table(storage, REFERENCES, rows, 0, "0" * 12)
    tiling = tiling_of_images(Images.of(found.code, found.seeds), StoreConfig())
    log.commit(
        storage, None, log.Change("init", "0" * 32, {}, {"objects": int(found.seeds.sum())}, files, tiling=tiling)
    )


def _column(field: pa.Field, values: Any, number: int) -> pa.Array:
    if values is None and field.nullable:
        return pa.nulls(number, field.type)
    if values is None and pa.types.is_string(field.type):
        return pa.array([""] * number, field.type)
    return pa.array(np.zeros(number) if values is None else values).cast(field.type)


def catalogs(found: Units, number: int) -> Iterator[str]:
    """Names of so many catalogs, night after night, as a survey writes them."""
    exposures = -(-number // len(found.code))
    named = [unit_of_code(code) for code in found.code.tolist()]
    for i in range(exposures):
        for at, unit in enumerate(named[: number - i * len(named)]):
            fracday = (20180101 + i % 28 + 100 * (i // 28)) * 10**6 + at // 64 * 400
            day, fraction = divmod(fracday, 10**6)
            yield f"/data/ztf/sci/2018/{day % 10**4:04d}/{fraction:06d}/{psfcat_name(unit, fracday)}"


def references(found: Units) -> Iterator[str]:
    """Names of the references."""
    for code in found.code.tolist():
        unit = unit_of_code(code)
        yield f"/data/ztf/ref/{unit.field:06d}/{refpsfcat_name(unit)}"


def _write(names: Iterator[str], pipe: Path) -> None:
    with pipe.open("w") as lines, contextlib.suppress(BrokenPipeError):
        lines.writelines(f"{name}\n" for name in names)


def measure(command: list[str], names: Iterator[str], place: Path) -> dict[str, Any]:
    """Run a command with names in a pipe, as a list."""
    pipe = place / "names"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    threading.Thread(target=_write, args=(names, pipe), daemon=True).start()
    words = [sys.executable, "-m", "ztfmatch", *command, "--from-file", str(pipe), "--json"]
    measured = run(words, place / "log.txt", os.environ)
    told = json.loads(measured.output[measured.output.index("{") :])
    return {"wall_s": measured.wall_s, "cpu_s": measured.user_s + measured.system_s, "peak_mib": measured.main_rss_mib,
            "forecast": told}  # fmt: skip


def divided(number: int, units_of: int) -> tuple[int, float]:
    """Commits of an append of so many catalogs, and MiB that listing and dividing them adds to a process."""
    found, listed = units(units_of), Sorting()
    before = peak_kib(os.getpid())
    for name in catalogs(found, number):
        listed.add(name)
    commits = len(portions_of(listed.texts(), CATALOGS_PER_COMMIT))
    return commits, (peak_kib(os.getpid()) - before) / 1024


def unevenness(found: Units) -> tuple[float, float, float]:
    """Most over mean of seeds of a tile, and of planned seconds of a task that writes objects.

    And wall time over what it were if all workers ended at once, of tasks that take as long as their tile has seeds.
    """
    images = Images.of(found.code, found.seeds)
    tiling = tiling_of_images(images, StoreConfig())
    shift = 2 * (FINE_ORDER - IMAGE_ORDER)
    held = np.bincount(tiling.index_of_fine(images.pixels << shift), images.spread)
    held = held[held > 0]
    ends = [0.0] * _WORKERS
    for seeds in held.tolist():
        heapq.heapreplace(ends, ends[0] + seeds)
    late = max(ends) * _WORKERS / held.sum()
    return float(held.max() / held.mean()), forecast_objects(tiling, images).longest_over_mean, float(late)


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--catalogs", type=int, default=CATALOGS)
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found, store = units(options.units), options.workdir / "store"
    shutil.rmtree(store, ignore_errors=True)
    options.workdir.mkdir(parents=True, exist_ok=True)
    make_store(store, found)
    results = {}
    for name, names in (("append", catalogs(found, options.catalogs)), ("init", references(found))):
        results[name] = got = measure(["plan", name, str(store)], names, options.workdir)
        print(f"{name}: {got['wall_s']:.0f} s, {got['cpu_s']:.0f} CPU s, {got['peak_mib']:.0f} MiB", flush=True)
        told = got["forecast"]
        print(f"  {told['what']}: {told['tasks']:,} tasks, {told['commits']} commits, {told['files']:,} files, "
              f"{told['core_hours']:.1f} core-hours, a worker {told['memory_bytes'] / 2**30:.2f} GiB, "
              f"main {told['main_memory_bytes'] / 2**30:.2f} GiB")  # fmt: skip
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        commits, mib = alone.submit(divided, options.catalogs, options.units).result()
    print(f"catalogs listed and divided into {commits} commits: {mib:.0f} MiB")
    tile, task, late = unevenness(found)
    print(f"most over mean: seeds of a tile {tile:.1f}, seconds of a task that writes objects {task:.1f}; "
          f"{_WORKERS} workers take {late:.2f} of their share of the tiles")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
