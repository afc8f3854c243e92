"""Cone searches by LSDB on the detections of a store, imported as a HATS catalog; called by ``store.py``.

``import ROWS_DIR OUT``: hats-import of Parquet files with the detections and the positions of their objects.
``cone CATALOG CENTRES``: the cones of ``probes.py``, each ``cone_search(...).compute()``; one line of JSON.

An epoch has its object's position, so that a cone gives whole lightcurves, as ztfmatch's does. There is no Dask client:
LSDB then uses threads of its own process, which is its fastest way for one cone.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import lsdb

RADIUS_ARCSEC = 10.0


def make(rows: Path, out: Path) -> None:
    """Import."""
    from dask.distributed import Client
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.pipeline import pipeline_with_client

    arguments = ImportArguments(
        output_path=out.parent,
        output_artifact_name=out.name,
        catalog_type="source",
        input_file_list=sorted(rows.glob("*.parquet")),
        file_reader="parquet",
        progress_bar=False,
    )
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        pipeline_with_client(arguments, client)
    print(json.dumps({"rows": len(lsdb.open_catalog(out))}))


def cones(catalog: Path, centres: Path) -> None:
    """Open once, then ask."""
    opened = lsdb.open_catalog(catalog, columns="all")
    times, rows = [], 0
    for ra, dec in zip(*json.loads(centres.read_text()), strict=True):
        started = time.perf_counter()
        rows += len(opened.cone_search(ra, dec, RADIUS_ARCSEC).compute())
        times.append(time.perf_counter() - started)
    warm = statistics.median(times[1:])
    print(json.dumps({"warm_s": warm, "rows": rows, "cones": len(times) - 1, "partitions": opened.npartitions}))


if __name__ == "__main__":
    {"import": make, "cone": cones}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
