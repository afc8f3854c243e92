"""Storage on local disk that does what a test tells it to at one of its mutations, and otherwise its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ztfmatch.core.io import paths
from ztfmatch.core.io.storage import Storage, StorageError


class Killed(BaseException):
    """The process ends here: nothing that handles errors may catch it."""


@dataclass
class Trouble:
    """What happens, once, at a mutation.

    Parameters
    ----------
    at : int or None
        Which mutation, from 0; None is the one that creates the commit record.
    kind : str
        ``killed before`` and ``killed after`` it took place, ``refused`` (it fails without effect), ``reply lost``
        (it took place, but the caller is told otherwise), ``meanwhile`` (``action`` runs first).
    action : callable, optional
    """

    at: int | None
    kind: str
    action: Callable[[], Any] | None = None
    seen: int = 0
    happened: bool = False
    path: str = ""
    """Where it happened."""

    @property
    def may_pass(self) -> bool:
        """Whether an operation need not fail of it: staged results are forgotten as far as storage lets it."""
        return not self.happened or self.kind == "reply lost" or self.path.startswith(paths.STAGING)

    def is_due(self, path: str) -> bool:
        """Whether it is time; counts the mutation."""
        due = path.startswith(paths.COMMITS) if self.at is None else self.seen == self.at
        self.seen += 1
        due = due and not self.happened
        if due:
            self.happened, self.path = True, path
        return due


class ScriptedStorage(Storage):
    """Storage with one trouble; forces nothing to disk, since no test cuts the power."""

    def __init__(self, root: str, trouble: Trouble | None = None) -> None:
        super().__init__(root)
        object.__setattr__(self, "trouble", trouble)

    trouble: Trouble | None

    def put(self, path: str, *parts: Any) -> None:
        self._mutate(path, lambda: super(ScriptedStorage, self).put(path, *parts))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        return bool(self._mutate(path, lambda: super(ScriptedStorage, self).put_if_absent(path, data)))

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._mutate(path, lambda path=path: super(ScriptedStorage, self).delete([path]))

    def sync(self, paths: Sequence[str]) -> None:
        missing = [path for path in paths if not (Path(self.root) / path).is_file()]
        if missing:
            raise FileNotFoundError(f"{missing} cannot be forced to disk")

    def _mutate(self, path: str, perform: Callable[[], Any]) -> Any:
        trouble = self.trouble
        if trouble is None or not trouble.is_due(path):
            return perform()
        if trouble.kind == "killed before":
            raise Killed
        if trouble.kind == "refused":
            raise StorageError(f"scripted: {path} is refused")
        if trouble.kind == "meanwhile":
            assert trouble.action is not None
            trouble.action()
            return perform()
        perform()
        if trouble.kind == "killed after":
            raise Killed
        if path.startswith(paths.COMMITS):
            return False  # what a repeated request is told once the first came through
        raise StorageError(f"scripted: the reply about {path} is lost")
