"""Files of an uncommitted operation, as a manifest in its staging area, so that tasks need not hold them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from ztfmatch.core.io import log, paths
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.manifestpart import encode, open_part, part_of
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile

_KEPT = 4


@dataclass(frozen=True)
class _Manifest:
    """Where the list is."""

    path: str
    size: int
    tail: int
    seal: str

    @property
    def described(self) -> str:
        """For people."""
        return f"{self.path} (a list of files that are not committed yet)"


@dataclass(frozen=True)
class StagedFiles:
    """What an operation adds to the snapshot that it began with, and what it takes away."""

    snapshot: SnapshotFiles
    manifest: _Manifest

    @classmethod
    def write(
        cls, snapshot: SnapshotFiles, operation_id: str, added: Iterable[DataFile], removed: Iterable[str] = ()
    ) -> StagedFiles:
        """List files; ``removed`` are paths."""
        sealed = encode(FileList([part_of(added, removed)]).merged(last=False)).sealed
        path = paths.staged_files(operation_id, sealed.seal)
        snapshot.storage.put(path, *sealed.parts)
        return cls(snapshot, _Manifest(path, sealed.size, sealed.tail, sealed.seal))

    def added(self, table: str, tile: Tile) -> list[DataFile]:
        """Files of a tile that are not in the snapshot."""
        return _listed(self.snapshot.storage, (), self.manifest).of_tile(table, tile)

    @property
    def files(self) -> FileList:
        """All files that there will be: those of the snapshot that stay, and those added."""
        return _listed(self.snapshot.storage, self.snapshot.commit.manifests, self.manifest)

    @property
    def storage(self) -> Storage:
        """Of the store."""
        return self.snapshot.storage

    @property
    def ledger(self) -> list[DataFile]:
        """Files of the exposures that there will be."""
        return self.files.of_table("exposures")

    def of_tile(self, table: str, tile: Tile) -> list[DataFile]:
        """Files that a tile will have."""
        return self.files.of_tile(table, tile)


@functools.lru_cache(_KEPT)
def _listed(storage: Storage, manifests: tuple[log.ManifestPart, ...], staged: _Manifest) -> FileList:
    before = [open_part(storage, part, part.removed > 0) for part in manifests]
    return FileList([*before, open_part(storage, staged, removes=True)])
