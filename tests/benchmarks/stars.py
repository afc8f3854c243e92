"""How pure, complete and fast linking objects into stars is: prints tables.

    python tests/benchmarks/stars.py [--workdir /scratch/bench/stars]

- *Truth*: fields of stars of growing density, over a pole and RA 0 too, seen by six dithered fields in three filters.
  Seeds have errors of 0.06 arcsec and of photon noise, a part of the faint ones is missing, and what is within 1.5
  arcsec of a brighter star is blended with it: a seed of both at their centre of light, with the brighter one's name.
  Purity and completeness are those of pairs of objects; what is brighter than 20 is given by itself.
- *Kernel*: objects a CPU second on one core, of a million objects in twelve units.
- *Operation*, with --workdir: `link` of a store, objects a CPU second; what stars add to `init` and `verify`, and bytes
  of an object's; cones by star and by object; a rematch of a unit with and without stars, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from star_scenes import PLACES, around, purity_and_completeness, scene


def truth() -> None:
    """Print purity and completeness."""
    from ztfmatch.core.kernels.sphere import unit_vectors
    from ztfmatch.core.kernels.starlinks import link_objects, position_errors

    print(f"{'place':<8} {'stars/quadrant':>14} {'objects':>9} {'purity':>8} {'compl.':>8} {'r < 20':>8} {'compl.':>8}")
    for density in (2_000, 20_000, 100_000, 300_000):
        for name, place in PLACES.items():
            of = scene(density, place, 1)
            found = link_objects(unit_vectors(of["ra"], of["dec"]), of["unit"], position_errors(of["snr"])).star
            shown = [
                value
                for chosen in (of["mag"] < 99, of["mag"] < 20)
                for value in purity_and_completeness(found[chosen], of["star"][chosen])
            ]
            print(f"{name:<8} {density:>14,} {len(found):>9,} " + " ".join(f"{value:8.5f}" for value in shown))


def kernel(repeats: int) -> None:
    """Print objects a second."""
    from ztfmatch.core.kernels.sphere import unit_vectors
    from ztfmatch.core.kernels.starlinks import link_objects, position_errors, star_positions

    rng = np.random.default_rng(1)
    stars = rng.uniform(0, 1, (2, 100_000))
    parts = [stars[:, rng.random(100_000) < 0.85] for _ in range(12)]
    unit = np.concatenate([np.full(part.shape[1], i, np.int32) for i, part in enumerate(parts)])
    ra, dec = np.concatenate(parts, axis=1) + rng.normal(0, 0.07 / 3600, (2, len(unit))) + [[10.0], [20.0]]
    xyz, error = unit_vectors(ra, dec), position_errors(np.full(len(ra), 30.0))
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        star_positions(xyz, error, link_objects(xyz, unit, error))
        times.append(time.process_time() - started)
    best = statistics.median(times[1:])
    print(f"kernel: {len(ra):,} objects of 12 units in {best:.2f} s: {len(ra) / best / 1e6:.2f} million a CPU second")


def make(place: Path, stars: int) -> None:
    """References of six units of one field in two dithers, and a night of each."""
    from helpers import epochal_file, reference_file, rows_at

    from ztfmatch.core.survey import Unit

    rng = np.random.default_rng(3)
    east, north = rng.uniform(-0.43, 0.43, (2, stars))
    for number in range(6):
        unit = Unit(500 + number // 3, 20, 1 + number % 3)
        for what in ("references", "regenerated", "nights"):
            (place / what).mkdir(parents=True, exist_ok=True)
            seen = rng.random(stars) < 0.9
            x, y = (values[seen] + rng.normal(0, 0.06 / 3600, seen.sum()) for values in (east, north))
            ra, dec = around((180.0, 20.0), x, y)
            rows = rows_at(ra, dec, snr=rng.uniform(5, 100, len(ra)))
            if what == "nights":
                for night in range(4):
                    epochal_file(place / what, rows, 10 * number + night, unit)
            elif what == "references" or number == 0:
                reference_file(place / what, rows, unit)


def timed(work: Any) -> float:
    """CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def operation(workdir: Path, stars: int, repeats: int) -> None:
    """Print what linking, cones and a rematch of a store cost."""
    import ztfmatch
    from ztfmatch.core.tasks.ownprocess import make_own

    make_own()  # as commands and workers do
    if not (workdir / "references").exists():
        make(workdir, stars)
    store = workdir / "store"
    shutil.rmtree(store, ignore_errors=True)
    made = ztfmatch.init_store(store, str(workdir / "references"), link=False)
    made.append(str(workdir / "nights"))
    copies = [workdir / f"copy{i}" for i in range(repeats + 1)]
    linking = []
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        linking.append(timed(ztfmatch.open_store(copy).link_stars))
    linked = ztfmatch.open_store(copies[-1]).snapshot()
    objects, best = linked.files.rows("members"), statistics.median(linking[1:])
    tiles = len(linked.files.tiles_with("stars"))
    print(f"link: {objects:,} objects in {tiles} tiles, {best:.2f} s: {objects / best / 1e6:.2f} million a CPU second")
    added(workdir, copies, objects, linked.files.size("stars") + linked.files.size("members"))
    cones(linked, 320)
    pairs = []
    for copy in copies[1:]:
        shutil.rmtree(copy)
        shutil.copytree(store, copy)
        plain = timed(lambda where=copy: ztfmatch.open_store(where).rematch(str(workdir / "regenerated")))
        shutil.rmtree(copy)
        shutil.copytree(store, copy)
        ztfmatch.open_store(copy).link_stars()
        again = timed(lambda where=copy: ztfmatch.open_store(where).rematch(str(workdir / "regenerated")))
        pairs.append((plain, again))
    ratio = statistics.median(again / plain for plain, again in pairs)
    print("rematch of one unit of six, without and with stars, s: " + ", ".join(f"{a:.2f} {b:.2f}" for a, b in pairs))
    print(f"rematch: ratio {ratio:.3f}")
    for copy in copies:
        shutil.rmtree(copy)


def added(workdir: Path, linked: list[Path], objects: int, size: int) -> None:
    """Print what stars add to an init and to a verification, microseconds of CPU an object, and to what is stored."""
    import ztfmatch

    plain, made = workdir / "store", workdir / "made"
    more: dict[str, list[float]] = {"init": [], "verify": []}
    for copy in linked:
        took = []
        for link in (False, True):
            shutil.rmtree(made, ignore_errors=True)
            took.append(timed(lambda link=link: ztfmatch.init_store(made, str(workdir / "references"), link=link)))
        more["init"].append(took[1] - took[0])
        more["verify"].append(timed(ztfmatch.open_store(copy).verify) - timed(ztfmatch.open_store(plain).verify))
    shutil.rmtree(made)
    for name, times in more.items():
        print(f"{name}: {1e6 * statistics.median(times[1:]) / objects:.2f} us an object more with stars")
    print(f"stars and members: {size / objects:.1f} bytes an object")


def cones(snapshot: Any, number: int) -> None:
    """Print what lightcurves in cones of 3 arcsec take, by object and by star, in turns."""
    rows = snapshot.table("stars", columns=["ra", "dec"]).to_pylist()
    places = [(row["ra"], row["dec"], 3.0) for row in rows[:: len(rows) // number][:number]]
    by = {
        "object": lambda cone: snapshot.lightcurves(cone=cone),
        "star": lambda cone: snapshot.star_lightcurves(cone=cone),
    }
    took: dict[str, list[float]] = {name: [] for name in by}
    for cone in places:
        for name, ask in by.items():
            took[name].append(timed(lambda ask=ask, cone=cone: ask(cone)))
    for name, times in took.items():
        print(f"cone of 3 arcsec by {name}: median {1000 * statistics.median(times[4:]):.1f} ms")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--stars", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    truth()
    kernel(asked.repeats)
    if asked.workdir is not None:
        operation(asked.workdir, asked.stars, asked.repeats)


if __name__ == "__main__":
    main()
