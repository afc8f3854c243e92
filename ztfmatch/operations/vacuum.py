"""Delete what no retained snapshot names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from ztfmatch.config import VACUUM_GRACE_HOURS
from ztfmatch.errors import ConfigError
from ztfmatch.io import log, paths
from ztfmatch.io.snapshot import open_snapshot
from ztfmatch.io.storage import Entry, Storage
from ztfmatch.operations.common import Stopwatch


@dataclass(frozen=True)
class VacuumReport:
    """What a vacuum deleted, or would delete."""

    store: str
    oldest: int
    """Oldest snapshot that can still be opened."""
    newest: int
    deleted: bool
    files: int
    bytes: int
    spared: int
    """Unnamed files that are too young: a running job may be about to commit them."""
    seconds: float


def vacuum(storage: Storage, keep: int, grace_hours: float = VACUUM_GRACE_HOURS, dry_run: bool = False) -> VacuumReport:
    """Delete all files but those that the last ``keep`` snapshots name.

    Snapshots before these can no longer be opened; their entries in the log stay. First the limit is written, so
    that a reader gets a clear error rather than missing files; then files are deleted, so a vacuum that is stopped is
    finished by the next.

    Parameters
    ----------
    storage : Storage
    keep : int
        Snapshots to retain, the newest included; at least 1.
    grace_hours : float
        Unnamed files younger than this are spared: a job that runs now may name them in its commit.
    dry_run : bool
        Only say what would be deleted.

    Raises
    ------
    ConfigError
        If keep < 1 or grace_hours < 0.
    """
    watch = Stopwatch()
    if keep < 1:
        raise ConfigError(f"keep {keep} must be at least 1: the newest snapshot always stays")
    if grace_hours < 0:
        raise ConfigError(f"grace of {grace_hours} hours must not be negative")
    head = open_snapshot(storage)
    oldest = max(log.oldest_retained(storage), head.number - keep + 1, 0)
    named = _named(storage, oldest, head.number)
    young = time.time() - grace_hours * 3600.0
    doomed, size, spared = [], 0, 0
    for entry in _candidates(storage):
        if entry.path in named:
            continue
        if entry.modified > young:
            spared += 1
            continue
        doomed.append(entry.path)
        size += entry.size
    if not dry_run:
        log.retain_from(storage, oldest)
        storage.delete(doomed)
    return VacuumReport(storage.root, oldest, head.number, not dry_run, len(doomed), size, spared, watch.seconds)


def _candidates(storage: Storage) -> Iterator[Entry]:
    """Whatever may be deleted unless a snapshot names it; a staged result goes before the files it names."""
    for prefix in (paths.STAGING, paths.MANIFESTS, paths.DATA):
        yield from storage.entries(prefix)
    yield from storage.unfinished()


def _named(storage: Storage, oldest: int, newest: int) -> set[str]:
    """Every object that a retained snapshot needs."""
    named: set[str] = set()
    for number in range(oldest, newest + 1):
        commit = log.read_commit(storage, number)
        manifests = {paths.manifest(part.id) for part in commit.manifests}
        if not manifests <= named:
            named.update(log.read_manifests(storage, commit.manifests).paths())
        named.update(manifests | {paths.tiling(commit.tiling)})
    return named
