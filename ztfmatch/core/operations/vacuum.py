"""Delete files that no retained snapshot references."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ztfmatch.core.config import VACUUM_GRACE_HOURS
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import StorageError, StoreDamagedError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Entry, Storage
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.progress import tracked
from ztfmatch.core.runs import chunks
from ztfmatch.core.settings import AtLeastOne, NotNegative, checked_value

_FILES_AT_ONCE: Final = 1000
"""How many are deleted before it is told how far that is."""


@dataclass(frozen=True, kw_only=True)
class VacuumReport(Displayable):
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
        Unnamed files younger than this by the place's own clock (in a dry run by this machine's) are spared: a job that
        runs now may name them in its commit. It must be longer than any job takes, reruns included; with 0 nothing else
        may run, and none is spared.
    dry_run : bool
        Only say what would be deleted.

    Raises
    ------
    ConfigError
        If ``keep`` is not a whole number above 0, or ``grace_hours`` is negative or no number.
    """
    watch = Stopwatch()
    keep = checked_value(keep, AtLeastOne, "keep")
    grace_hours = checked_value(grace_hours, NotNegative, "grace_hours")
    head = open_snapshot(storage)
    oldest = max(log.oldest_retained(storage), head.number - keep + 1, 0)
    if not dry_run:
        log.retain_from(storage, oldest)
    found = _Found(_now(storage, dry_run) - grace_hours * 3600.0 if grace_hours else math.inf)
    found.add(storage.entries(paths.STAGING), set())
    # What is held is looked for before the newest snapshot, which may have been made of it meanwhile.
    named = _held(storage, found.held)
    named |= _named(storage, range(oldest, open_snapshot(storage).number + 1))
    for prefix in (paths.MANIFESTS, paths.DATA):
        found.add(storage.entries(prefix), named)
    found.add(storage.unfinished(), set())
    if not dry_run:
        for some in tracked(list(chunks(found.doomed, _FILES_AT_ONCE)), "deleting thousands of files"):
            storage.delete(some)
    return VacuumReport(
        store=storage.root,
        oldest=oldest,
        newest=head.number,
        deleted=not dry_run,
        files=len(found.doomed),
        bytes=found.size,
        spared=found.spared,
        seconds=watch.seconds,
    )


def _now(storage: Storage, dry_run: bool) -> float:
    """Time by which files are dated, which another machine may keep; this one's where nothing is or can be written."""
    if not dry_run:
        with contextlib.suppress(StorageError):  # a full disk is what a vacuum is for
            return storage.clock()
    return time.time()


@dataclass
class _Found:
    """Objects that no retained snapshot names."""

    young: float
    """Time, in seconds since 1970, from which on objects are spared."""
    doomed: list[str] = field(default_factory=list)
    """Staged results first: they name files."""
    size: int = 0
    spared: int = 0
    held: list[int] = field(default_factory=list)
    """Older snapshots that an operation is about to make the newest."""

    def add(self, entries: Iterable[Entry], named: set[str]) -> None:
        """Add a listing."""
        for entry in entries:
            if entry.path in named:
                continue
            if entry.modified > self.young:
                self.spared += 1
                if (number := paths.number_held(entry.path)) is not None:
                    self.held.append(number)
                continue
            self.doomed.append(entry.path)
            self.size += entry.size


def _held(storage: Storage, numbers: Iterable[int]) -> set[str]:
    """Every object that the snapshots need that are held; not of those that an earlier vacuum took."""
    named: set[str] = set()
    for number in numbers:
        with contextlib.suppress(StoreDamagedError):
            named |= _named(storage, [number])
    return named


def _named(storage: Storage, numbers: Iterable[int]) -> set[str]:
    """Every object that some snapshots need."""
    named: set[str] = set()
    read = set()
    for number in numbers:
        commit = log.read_commit(storage, number)
        if commit.manifests not in read:
            named.update(log.read_manifests(storage, commit.manifests).paths())
            read.add(commit.manifests)
        named.update([*(part.path for part in commit.manifests), paths.tiling(commit.tiling)])
    return named
