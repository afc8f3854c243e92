"""The job of ``append`` done with hats-import and LSDB, as their documentation tells a user to do it.

Called by ``run.py`` as a process of its own, in an interpreter that has both packages; it imports nothing of ztfmatch.
Catalogs become a HATS source catalog, the reference a HATS object catalog with a margin; LSDB matches the one to the
other within 1.5 arcsec and writes the matched rows, sorted by object and time in each partition.

What a user has to add, and does here: a reader that carries header values (zero point, time, identity) into the rows
and calibrates them. It reads lists of catalogs, as hats-import advises for many small files. What the result lacks:
a detection matches the nearest seed of any unit, one seed can take two detections of an exposure, unmatched
detections are dropped, and nothing is said of files that are bad.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import astropy.units as u
import lsdb
import numpy as np
import pandas as pd
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from dask.distributed import Client
from hats_import.catalog.arguments import ImportArguments
from hats_import.catalog.file_readers import InputReader
from hats_import.margin_cache.margin_cache_arguments import MarginCacheArguments
from hats_import.pipeline import pipeline_with_client

CATALOGS_PER_LIST = 20
RADIUS_ARCSEC = 1.5
_PALOMAR = EarthLocation.from_geodetic(-116.8630 * u.deg, 33.3563 * u.deg, 1712 * u.m)
_EXPTIME_DAY = 30.0 / 86400.0


def _native(table: np.ndarray, names: dict[str, str]) -> dict[str, np.ndarray]:
    return {new: table[old].astype(table[old].dtype.newbyteorder("=")) for new, old in names.items()}


def _heliocentric(obsmjd: float, ra: float, dec: float) -> float:
    """Mid-exposure at one position of the image: cheaper for the peer than a time for each detection."""
    middle = Time(obsmjd + _EXPTIME_DAY / 2, format="mjd", scale="utc", location=_PALOMAR)
    delay = middle.light_travel_time(SkyCoord(ra, dec, unit="deg"), kind="heliocentric")
    return float(middle.mjd + delay.to_value("day"))


class CatalogListReader(InputReader):
    """Reads the epochal catalogs that a text file lists."""

    columns: ClassVar = {
        "sourceid": "sourceid", "ra": "ra", "dec": "dec", "xpos": "xpos", "ypos": "ypos", "psfflux": "flux",
        "psffluxerr": "sigflux", "chi": "chi", "sharp": "sharp", "flags": "flags",
    }  # fmt: skip

    def read(self, input_file: Any, read_columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        frames = [self._catalog(path) for path in self.read_index_file(input_file)]
        frame = pd.concat(frames, ignore_index=True)
        yield frame if read_columns is None else frame[read_columns]

    def _catalog(self, path: Any) -> pd.DataFrame:
        with fits.open(str(path), memmap=False) as hdus:
            header, columns = hdus[0].header, _native(hdus[1].data, self.columns)
        flux, error = columns["psfflux"].astype(float), columns["psffluxerr"]
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["mag"] = (header["MAGZP"] - 2.5 * np.log10(flux)).astype(np.float32)
            columns["magerr"] = (1.0857 * error / flux).astype(np.float32)
        rows = len(flux)
        middle = np.median(columns["ra"]), np.median(columns["dec"])
        columns["hmjd"] = np.full(rows, _heliocentric(header["OBSMJD"], *middle))
        columns["exposureid"] = np.full(rows, int(path.name.split("_")[1]) * 100 + header["RCID"])
        return pd.DataFrame(columns)


class ReferenceReader(InputReader):
    """Reads a reference catalog and gives its seeds objectids."""

    columns: ClassVar = {"ra": "ra", "dec": "dec", "refmag": "mag", "refchi": "chi", "refsharp": "sharp"}

    def read(self, input_file: Any, read_columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        with fits.open(str(self.regular_file_exists(input_file)), memmap=False) as hdus:
            header, table = hdus[0].header, hdus[1].data
            columns = _native(table, self.columns)
            base = header["FIELDID"] * 10**12 + header["FILTERID"] * 10**11
            base += header["CCDID"] * 10**9 + header["QID"] * 10**8
            columns["objectid"] = base + table["sourceid"].astype(np.int64)
        frame = pd.DataFrame(columns)
        yield frame if read_columns is None else frame[read_columns]


def write_lists(catalogs: Path, out: Path) -> list[Path]:
    """Text files, each with the paths of some catalogs."""
    paths = sorted(catalogs.rglob("*_psfcat.fits"))
    out.mkdir(parents=True)
    lists = []
    for start in range(0, len(paths), CATALOGS_PER_LIST):
        lists.append(out / f"list-{start:06d}.txt")
        lists[-1].write_text("\n".join(str(p) for p in paths[start : start + CATALOGS_PER_LIST]) + "\n")
    return lists


def import_catalog(client: Client, name: str, files: list[Path], reader: InputReader, out: Path) -> Path:
    """Make a HATS catalog."""
    kind = "source" if name == "detections" else "object"
    arguments = ImportArguments(
        output_path=out,
        output_artifact_name=name,
        catalog_type=kind,
        input_file_list=files,
        file_reader=reader,
        progress_bar=False,
    )
    pipeline_with_client(arguments, client)
    return out / name


def import_margin(client: Client, objects: Path, out: Path) -> Path:
    """Make the margin cache of the objects."""
    arguments = MarginCacheArguments(
        input_catalog_path=objects,
        output_path=out,
        output_artifact_name="objects_margin",
        margin_threshold=5.0,
        progress_bar=False,
    )
    pipeline_with_client(arguments, client)
    return out / "objects_margin"


def _by_object(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["objectid", "hmjd"])


def match(detections: Path, objects: Path, margin: Path, out: Path) -> int:
    """Match, write; return how many rows were written."""
    right = lsdb.open_catalog(objects, margin_cache=margin)
    matched = lsdb.open_catalog(detections).crossmatch(
        right[["objectid", "ra", "dec"]],
        n_neighbors=1,
        radius_arcsec=RADIUS_ARCSEC,
        suffixes=("", "_ref"),
        suffix_method="overlapping_columns",
        require_right_margin=True,
    )
    matched.map_partitions(_by_object).write_catalog(
        out, catalog_name="matched", progress_bar=False, as_collection=False
    )
    return len(lsdb.open_catalog(out))


def main(data: Path, out: Path, workers: int) -> None:
    """Do it; print one line of JSON."""
    steps: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        steps[name] = time.perf_counter() - started - sum(steps.values())

    with Client(n_workers=workers, threads_per_worker=1, dashboard_address=None) as client:
        lap("start")
        references = sorted((data / "references").rglob("*_refpsfcat.fits"))
        objects = import_catalog(client, "objects", references, ReferenceReader(), out)
        margin = import_margin(client, objects, out)
        lap("objects")
        lists = write_lists(data / "catalogs", out / "lists")
        detections = import_catalog(client, "detections", lists, CatalogListReader(), out)
        lap("detections")
        matched = match(detections, objects, margin, out / "matched")
        lap("match")
    print(json.dumps({"matched": matched, "steps": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
