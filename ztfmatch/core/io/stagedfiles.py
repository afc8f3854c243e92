"""Files of an operation that is not committed yet, listed in its staging area: what a task needs of them is small."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ztfmatch.core.io import paths
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile

_KEPT = 4


@dataclass(frozen=True)
class StagedFiles:
    """What an operation adds to its snapshot, and what it takes away.

    Parameters
    ----------
    snapshot : SnapshotFiles
        That the operation began with.
    path : str
        Of the list, in the staging area; named by its content.
    """

    snapshot: SnapshotFiles
    path: str

    @classmethod
    def write(
        cls, snapshot: SnapshotFiles, operation_id: str, added: Iterable[DataFile], removed: Collection[str] = ()
    ) -> StagedFiles:
        """List files; ``removed`` are paths."""
        files = FileList.of(added).encode().to_pybytes()
        gone = json.dumps(sorted(removed)).encode()
        path = paths.staged_files(operation_id, short_digest(files + gone))
        snapshot.storage.put(path, len(files).to_bytes(8, "little"), files, gone)
        return cls(snapshot, path)

    def added(self, table: str, tile: Tile) -> list[DataFile]:
        """Files of a tile that the snapshot has not."""
        return _listed(self.snapshot.storage, self.path)[0].of_tile(table, tile)

    def of_tile(self, table: str, tile: Tile) -> list[DataFile]:
        """Files that a tile will have: those of the snapshot that stay, and those added."""
        removed = _listed(self.snapshot.storage, self.path)[1]
        stay = [file for file in self.snapshot.of_tile(table, tile) if file.path not in removed]
        return stay + self.added(table, tile)


@functools.lru_cache(_KEPT)
def _listed(storage: Storage, path: str) -> tuple[FileList, frozenset[str]]:
    content = storage.read(path)
    size = 8 + int.from_bytes(content[:8], "little")
    return FileList.decode(content[8:size]), frozenset(json.loads(content[size:]))
