"""List the exports in a directory, and prune those that no load needs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.storage import Storage
from ztfmatch.kowalski.manifest import MANIFEST, Manifest, is_name, read_manifest
from ztfmatch.kowalski.tasks.scope import json_text


@dataclass(frozen=True, kw_only=True)
class ListedExport(Displayable):
    """An export, finished or not."""

    name: str
    whole: bool
    """Whether it was finished; nothing else is known of one that was not."""
    since: int | None = None
    snapshot: int | None = None
    store: str | None = None
    scope: str | None = None
    time: str | None = None
    """When the snapshot was committed."""
    documents: int = 0
    epochs: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class PrunedExports(Displayable):
    """What was deleted."""

    kept: list[str]
    deleted: list[str]
    bytes: int
    """Of the files deleted."""


def list_exports(place: str) -> list[ListedExport]:
    """Exports below a directory, in the order in which they are to be loaded.

    Raises
    ------
    BadInputError
        If the manifest of one is damaged.
    ConfigError
        If there is none.
    """
    root = Storage.at(place)
    names = sorted({path.split("/")[0] for path, _ in root.list("") if is_name(path.split("/")[0])})
    if not names:
        raise ConfigError(f"{place} holds no export of 'ztfmatch export kowalski'")
    return [_listed(name, read_manifest(Storage.at(f"{root.root}/{name}"))) for name in names]


def _listed(name: str, manifest: Manifest | None) -> ListedExport:
    if manifest is None:
        return ListedExport(name=name, whole=False)
    return ListedExport(
        name=name,
        whole=True,
        since=manifest.span.since,
        snapshot=manifest.span.snapshot,
        store=manifest.span.store,
        scope=json_text(manifest.span.scope),
        time=manifest.time,
        documents=sum(file.documents for file in manifest.files),
        epochs=manifest.epochs,
        files=len(manifest.files),
        bytes=manifest.size,
    )


def prune_exports(place: str, keep: int = 1, dry_run: bool = False) -> PrunedExports:
    """Delete the exports that come before the newest full ones, of each store and scope, and those never finished.

    Increments after the oldest full export that is kept stay, since they go on from it. Where there is no full export
    all increments stay.

    Parameters
    ----------
    keep : int
        How many full exports stay of each store and scope; at least 1.
    dry_run : bool
        Only say what would be deleted. No export may be written or loaded meanwhile otherwise.

    Raises
    ------
    As :func:`list_exports`; ConfigError too if none is to be kept.
    """
    if keep < 1:
        raise ConfigError(f"keep {keep} must be at least 1: without a full export no load can begin")
    exports = list_exports(place)
    kept = [export.name for export in exports if export.whole and _is_needed(export, exports, keep)]
    deleted = [export.name for export in exports if export.name not in kept]
    root = Storage.at(place)
    files = {name: dict(root.list(f"{name}/")) for name in deleted}
    for name in deleted if not dry_run else []:
        # The manifest is deleted first: a partly deleted export does not count as one.
        root.delete([f"{name}/{MANIFEST}"])
        root.delete(list(files[name]))
        if root.local_root is not None:
            shutil.rmtree(root.local_root / name, ignore_errors=True)
    return PrunedExports(kept=kept, deleted=deleted, bytes=sum(sum(one.values()) for one in files.values()))


def _is_needed(export: ListedExport, exports: Sequence[ListedExport], keep: int) -> bool:
    full = [
        one.snapshot or 0
        for one in exports
        if one.whole and one.since is None and (one.store, one.scope) == (export.store, export.scope)
    ]
    first = sorted(full)[-keep:][:1]
    return not first or (export.snapshot or 0) > first[0] or (export.since is None and export.snapshot == first[0])
