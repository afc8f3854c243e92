"""What it costs to replace all i exposures of a field, beside ingesting them.

``python tests/benchmarks/replacing.py PLACE``

Four readout channels in three filters, as often in i as the survey (one exposure in nine). The store is as nights leave
it, or compacted. CPU seconds of one process, the median of passes in turns after a first one, and rows for each second.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import median

import numpy as np
from astropy.io import fits

import ztfmatch
from ztfmatch.core.config import AppendConfig, CompactConfig
from ztfmatch.core.tasks.ownprocess import make_own

EXPOSURES, INFRARED, NIGHTS, ROUNDS = 32, 8, 8, 9


def main(place: Path) -> None:
    """Make the sky once, and print a table."""
    make_own()  # as commands and workers do
    sky = place / "sky"
    if not sky.exists():
        _simulate(sky)
    catalogs = sorted(map(str, (sky / "catalogs").rglob("*_psfcat.fits")))
    infrared = [path for path in catalogs if "_zi_" in path]
    again = [str(place / "again" / Path(path).name) for path in infrared]
    settings = AppendConfig(sky / "exposures.csv")
    others = [path for path in catalogs if "_zi_" not in path]
    for name, full in (("as nights leave it", False), ("compacted", True)):
        stores = {kind: place / f"{kind}.store" for kind in ("without", "with")}
        for kind, store in stores.items():
            shutil.rmtree(store, ignore_errors=True)
            made = ztfmatch.init_store(store, str(sky / "references"))
            taken = others if kind == "without" else others + infrared
            for night in range(NIGHTS):
                made.append(taken[night::NIGHTS], settings)
            if full:
                made.compact(CompactConfig(2, full=True))
        print(f"\nstore {name}")
        _compare(place, stores, {"append": infrared, "replace": again, "replace one": again[:1]}, settings)


def _simulate(sky: Path) -> None:
    from ztfmatch.simulate import SimulationConfig, simulate

    simulate(
        sky,
        SimulationConfig(
            fields=(679,), rcids=(16, 17, 18, 19), filters=(1, 2, 3), n_exposures=EXPOSURES, stars_per_quadrant=18_800
        ),
    )
    (sky.parent / "again").mkdir()
    for number, path in enumerate(sorted((sky / "catalogs").rglob("*_zi_*_psfcat.fits"))):
        if number % (EXPOSURES // INFRARED):
            path.unlink()
            continue
        with fits.open(path) as hdus:
            hdus[1].data["flux"] *= np.float32(1.001)
            hdus.writeto(sky.parent / "again" / path.name)


def _compare(place: Path, stores: dict[str, Path], work: dict[str, list[str]], settings: AppendConfig) -> None:
    spent: dict[str, list[float]] = {name: [] for name in work}
    rows: dict[str, int] = {}
    for _ in range(ROUNDS + 1):
        for name, files in work.items():
            copy = place / "copy.store"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(stores["without" if name == "append" else "with"], copy)
            store = ztfmatch.open_store(copy)
            began = time.process_time()
            report = store.append(files, AppendConfig(settings.exposures, replace=name != "append"))
            spent[name].append(time.process_time() - began)
            rows[name] = report.rows
    for name, seconds in spent.items():
        middle, beside = (median(some[1:]) for some in (seconds, spent["append"]))
        rate = rows[name] / middle
        part = rate * beside / rows["append"]
        print(f"{name:12} {rows[name]:>10,} rows {middle:8.2f} s {rate / 1e3:9.0f} k rows/s, {part:.2f} of append")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path, metavar="PLACE")
    main(parser.parse_args().place)
