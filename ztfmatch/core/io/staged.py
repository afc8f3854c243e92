"""Staging area elsewhere, for commands that only read a store which they may not write to."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ztfmatch.core.errors import StorageError
from ztfmatch.core.io.paths import STAGING
from ztfmatch.core.io.remote import Bytes, Entry
from ztfmatch.core.io.storage import Storage


@dataclass(frozen=True)
class StagedElsewhere(Storage):
    """A storage whose staging area is at another place."""

    elsewhere: Storage

    def __reduce__(self) -> tuple[Any, Any]:
        """Pickle both places."""
        return StagedElsewhere, (self.root, self.elsewhere)

    def read(self, path: str) -> bytes:
        """Whole content of an object."""
        return self.elsewhere.read(path) if path.startswith(STAGING) else super().read(path)

    def put(self, path: str, *parts: Bytes) -> None:
        """Write an object of the staging area."""
        if not path.startswith(STAGING):
            raise StorageError(f"cannot write {path} in {self.root}, which is only read")
        self.elsewhere.put(path, *parts)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix."""
        return self.elsewhere.entries(prefix) if prefix.startswith(STAGING) else super().entries(prefix)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects of the staging area."""
        self.elsewhere.delete(paths)


@contextlib.contextmanager
def staged_beside(storage: Storage, output: Path) -> Iterator[Storage]:
    """A storage to read a store from and to stage in: itself, or with a staging area beside the output.

    That is a directory ``.NAME.staging``, which all workers must see; it is removed when nothing is staged any more.
    """
    probe = f"{STAGING}probe-{os.uname().nodename}-{os.getpid()}"
    try:
        storage.put(probe, b"")
        storage.delete([probe])
    except StorageError:
        beside = output.absolute().parent / f".{output.name}.staging"
        elsewhere = Storage.at(beside)
        try:
            yield StagedElsewhere(storage.root, elsewhere)
        finally:
            if next(elsewhere.entries(""), None) is None:
                shutil.rmtree(beside, ignore_errors=True)
    else:
        yield storage
