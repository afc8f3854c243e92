"""Check the environment of a command, and the storage of a store."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ztfmatch
from ztfmatch.core import kernels
from ztfmatch.core.errors import ZtfmatchError
from ztfmatch.core.io import paths
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernelfiles import kernel_places
from ztfmatch.core.runner.heartbeat import beats

OK: Final = "ok"
WARN: Final = "warn"
BAD: Final = "BAD"

_MOST_CLOCK_S: Final = 5.0
_LEAST_FREE: Final = 10 << 30
_LEAST_MEMORY: Final = 2 << 30
_STALE_S: Final = 120.0
_LOCAL_TYPES: Final = {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"}
_NAME: Final = re.compile(r"^[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Finding:
    """What was looked at."""

    verdict: str
    """``ok``, ``warn`` or ``BAD``."""
    what: str
    found: str
    advice: str = ""
    """What to do about it."""


def examine(store: str | None) -> list[Finding]:
    """Findings on this process and machine and, if one is given, on a store; an error is a finding."""
    looks: list[Callable[[], Iterator[Finding]]] = [_versions, _kernels, _machine]
    if store is not None:
        looks.append(lambda: _store(store))
    return [finding for look in looks for finding in look()]


def _versions() -> Iterator[Finding]:
    yield Finding(OK, "ztfmatch", ztfmatch.__version__)
    yield Finding(OK, "Python", f"{platform.python_version()}, {platform.platform()}")
    core, extras = _requirements()
    missing = [name for name in core if _version(name) is None]
    said = ", ".join(f"{name} {_version(name)}" for name in core if name not in missing)
    advice = "" if not missing else f"install {', '.join(missing)}: pip install ztfmatch"
    yield Finding(BAD if missing else OK, "packages", said, advice)
    lacking = sorted(extra for extra, names in extras.items() if any(_version(name) is None for name in names))
    whole = sorted(set(extras) - set(lacking))
    found = f"{', '.join(whole) or 'none'}; not installed: {', '.join(lacking) or 'none'}"
    yield Finding(OK, "extras", found)


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Packages of the core, and of each extra that users choose; nothing where the package is not installed."""
    try:
        said = importlib.metadata.requires("ztfmatch") or []
    except importlib.metadata.PackageNotFoundError:
        said = []
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in said:
        name = (_NAME.match(line) or [""])[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        if extra is None:
            core.append(name)
        elif extra[1] not in ("test", "docs", "benchmark") and name != "ztfmatch":
            extras.setdefault(extra[1], []).append(name)
    return sorted(core), extras


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _kernels() -> Iterator[Finding]:
    place = kernel_places(Path(kernels.__file__).parent)[1]
    if place is None:
        advice = "give NUMBA_CACHE_DIR a directory that you can write to, or ask for 'python -m ztfmatch.precompile'"
        yield Finding(WARN, "compiled kernels", "no place to keep them: every process compiles, a minute", advice)
    else:
        yield Finding(OK, "compiled kernels", str(place))


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory_available()
    if memory is None:
        yield Finding(OK, "machine", f"{cores} cores")
    else:
        low = memory < _LEAST_MEMORY
        advice = "a worker is given 2 GiB by default: give --memory less, or free some" if low else ""
        found = f"{cores} cores, {memory / 2**30:.1f} GiB of memory free"
        yield Finding(WARN if low else OK, "machine", found, advice)


def _memory_available() -> int | None:
    """Bytes of memory that can be had, as Linux tells it."""
    try:
        said = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None
    return None if said is None else 1024 * int(said[1])


def _store(place: str) -> Iterator[Finding]:
    try:
        storage = Storage.at(place)
        snapshot = open_snapshot(storage)
        yield Finding(OK, "store", f"{storage.root}: snapshot {snapshot.number} of {snapshot.commit.time}")
        if storage.local_root is not None:
            yield from _file_system(storage.local_root)
        yield from _writing(storage)
        yield from _staged(storage)
    except (ZtfmatchError, OSError) as error:
        yield Finding(BAD, "store", f"{place} cannot be used", str(error))


def _file_system(root: Path) -> Iterator[Finding]:
    kind, free = _kind_of(root), shutil.disk_usage(root).free
    low = free < _LEAST_FREE
    advice = "an append needs room for what it adds, a compaction for as much as it merges" if low else ""
    remote = "" if kind in _LOCAL_TYPES or not kind else " (over a network: other machines' files reach it late)"
    yield Finding(WARN if low else OK, "file system", f"{kind}{remote}, {free / 2**30:.0f} GiB free".lstrip(), advice)


def _kind_of(root: Path) -> str:
    """Type of the file system, where Linux tells it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    above = [(len(words[1]), words[2]) for words in mounts if root.resolve().is_relative_to(words[1])]
    return max(above)[1] if above else ""


def _writing(storage: Storage) -> Iterator[Finding]:
    """Whether what makes a commit safe holds, and whether the place's clock is ours."""
    try:
        storage.try_commit()
    except (ZtfmatchError, OSError) as error:
        yield Finding(BAD, "commits", "refused", str(error))
        return
    yield Finding(OK, "commits", "of two writers of a name the second is refused")
    ahead = storage.clock() - time.time()
    wrong = abs(ahead) > _MOST_CLOCK_S
    advice = "set the clocks (NTP): by their times 'ztfmatch status --watch' tells who still runs" if wrong else ""
    yield Finding(
        WARN if wrong else OK,
        "time",
        f"the place's clock is {round(ahead, 1) + 0.0:+.1f} s from this machine's",
        advice,
    )


def _staged(storage: Storage) -> Iterator[Finding]:
    operations: dict[str, int] = {}
    for path, size in storage.list(paths.STAGING):
        name = path.removeprefix(paths.STAGING).split("/", 1)[0]
        operations[name] = operations.get(name, 0) + size
    running = [beat for beat in beats(storage) if time.time() - beat.written < _STALE_S]
    said = "; ".join(f"{beat.title} {beat.done}/{beat.total} by {beat.process}" for beat in running)
    yield Finding(OK, "running", said or "nothing that tells of itself")
    unfinished = sum(1 for _ in storage.unfinished())
    left = f"operations: {len(operations)}, {sum(operations.values()) / 2**20:.1f} MiB; {unfinished} unfinished files"
    waiting = bool(operations) and not running
    advice = "the same command again resumes what was broken off; 'ztfmatch vacuum' deletes what is old"
    yield Finding(OK, "staged", left, advice if waiting else "")
