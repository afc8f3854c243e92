"""Compare the bytes of files with their checksums."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ztfmatch.core.errors import StorageError
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import TABLES
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
        """The files."""
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
