"""Compare catalogs that are still where they were ingested from with the checksums that their headers name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.fits import read_table
from ztfmatch.core.io.fitssums import check_sums
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.sources import read_file, stamp
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.tasks.verifyepochs import Findings


@dataclass(frozen=True)
class CatalogSumTask:
    """Some rows of a ledger file."""

    key: str
    snapshot: SnapshotFiles
    file: int
    """Place in the ledger's list."""
    first: int
    stop: int


def compare_catalogs(task: CatalogSumTask) -> Findings:
    """Check DATASUM and CHECKSUM of the catalogs that are there and have any."""
    file = task.snapshot.of_table(EXPOSURES.name)[task.file]
    rows = read_file_rows(task.snapshot.storage, file, ["source", "origin"]).slice(task.first, task.stop - task.first)
    sources = [row["source"] for row in rows.to_pylist() if row["origin"] == CATALOG]
    said = [fault for source in sources if stamp(source) and (fault := _fault(source)) is not None]
    findings = Findings()
    findings.add("catalogs", np.array([bool(text) for text in said], bool), lambda row: said[row])
    return findings


def _fault(source: str) -> str | None:
    """What is wrong with the bytes of a catalog; None where no checksum says what they should be."""
    try:
        data = read_file(source, checksum=False).data
        return "" if check_sums(data, read_table(data)) else None
    except CatalogError as error:
        return f"{source}: {error.message}" if error.code in ("damaged", "truncated", "unreadable") else None
