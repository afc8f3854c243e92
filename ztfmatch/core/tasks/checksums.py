"""Compare files with their checksums: those of the store, and catalogs still at their place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ztfmatch.core.errors import CatalogError, StorageError
from ztfmatch.core.io.fits import read_table
from ztfmatch.core.io.fitssums import check_sums
from ztfmatch.core.io.parquet import DataFile, read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.sources import read_file, stamp
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import TABLES
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.tasks.verifyepochs import Findings


@dataclass(frozen=True)
class ChecksumTask:
    """All files of a tile, or some of a table that is not divided over the sky."""

    key: str
    snapshot: SnapshotFiles
    tile: Tile | None = None
    table: str = ""
    first: int = 0
    stop: int = 0
    """Places in the table's list."""
    deep: bool = True
    """False only looks whether the files are there."""

    def files(self) -> list[DataFile]:
        """Those of the tile, or of that part of the table's list."""
        if self.tile is None:
            return self.snapshot.of_table(self.table)[self.first : self.stop]
        tiled = (table.name for table in TABLES.values() if table.by_tile)
        return [file for name in tiled for file in self.snapshot.of_tile(name, self.tile)]


@dataclass(frozen=True)
class ComparedFiles(Findings):
    """What came of the comparison."""

    damaged: tuple[str, ...] = ()
    """What is wrong with each file that is."""
    paths: tuple[str, ...] = ()
    """Where these are."""


def compare_checksums(task: ChecksumTask) -> ComparedFiles:
    """Compare each file's SHA-256 with the manifest's."""
    findings = Findings()
    files = task.files()
    said = [_damage(task.snapshot.storage, file, task.deep) for file in files]
    paths = tuple(file.path for file, text in zip(files, said, strict=True) if text is not None)
    damaged = tuple(text for text in said if text is not None)
    findings.add("checksum", np.array([text is not None for text in said], bool), lambda row: said[row])
    return ComparedFiles(**vars(findings), damaged=damaged, paths=paths)


def _damage(storage: Storage, file: DataFile, deep: bool) -> str | None:
    """What is wrong with the bytes of a file."""
    if not deep:
        return None if storage.has(file.path) else f"{file.described}: it is missing"
    try:
        actual = hashlib.sha256(storage.read(file.path), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return f"{file.described}: it is missing"
    except StorageError:
        raise  # the service failed; that says nothing of the file
    except OSError as error:
        return f"{file.described}: {error.strerror or error}"
    return None if actual == file.sha256 else f"{file.described}: SHA-256 is {actual}, expected {file.sha256}"


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
    file = task.snapshot.ledger[task.file]
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
