"""LSDB on a release, and hats-import on its rows; called by ``release.py``.

``import ROWS_DIR OUT MOST``: hats-import of Parquet files of nested rows, partitions of at most so many.
``cone CATALOG``: open it, then a hundred cones of 60" around objects of it; one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import lsdb
import numpy as np

RADIUS_ARCSEC = 60.0
CONES = 100


def make(rows: Path, out: Path, most: int) -> None:
    """Import."""
    from dask.distributed import Client
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.pipeline import pipeline_with_client

    arguments = ImportArguments(
        output_path=out.parent,
        output_artifact_name=out.name,
        catalog_type="object",
        ra_column="objra",
        dec_column="objdec",
        input_file_list=sorted(rows.glob("*.parquet")),
        file_reader="parquet",
        pixel_threshold=most,
        progress_bar=False,
    )
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        pipeline_with_client(arguments, client)
    print(json.dumps({"rows": len(lsdb.open_catalog(out))}))


def cones(catalog: Path) -> None:
    """Open once, then ask."""
    started = time.perf_counter()
    opened = lsdb.open_catalog(catalog)
    open_s = time.perf_counter() - started
    places = lsdb.open_catalog(catalog, columns=["objectid"]).compute(progress_bar=False).sort_values("objectid")
    chosen = places.iloc[np.linspace(0, len(places) - 1, CONES + 1).astype(int)]
    times, rows = [], 0
    for ra, dec in zip(chosen.objra.to_numpy(float), chosen.objdec.to_numpy(float), strict=True):
        started = time.perf_counter()
        found = opened.cone_search(ra, dec, RADIUS_ARCSEC).compute(progress_bar=False)
        times.append(time.perf_counter() - started)
        rows += len(found)
    warm = statistics.median(times[1:])
    print(json.dumps({"open_s": open_s, "warm_s": warm, "rows": rows, "partitions": opened.npartitions}))


if __name__ == "__main__":
    if sys.argv[1] == "import":
        make(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        cones(Path(sys.argv[2]))
