"""No commit names what a power cut could take: every file that it names, and every directory on the way, is on disk.

The system's own calls are looked at, with strace.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import Sky, init, make_sky

from ztfmatch.core.io import localfiles, log
from ztfmatch.core.io.storage import Storage, forced_writes

traced = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: apt-get install strace")

_CALL = re.compile(r"^(?P<pid>\d+) +(?:(?P<call>\w+)\((?P<args>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<rest>.*))$")
_FILE = re.compile(r"<([^>]+)>")
_NAMES = re.compile(r'"([^"]+)"')

SCHEDULER = """
import sys
from distributed import LocalCluster
from ztfmatch import open_store, Resources
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
    open_store(sys.argv[1]).append(sys.argv[2:], resources=Resources(scheduler=cluster.scheduler_address))
"""


@dataclass
class Trace:
    """What became of files, in order of the calls: the names that they have got, and what is on disk."""

    commit: Path
    forced: dict[str, str] = field(default_factory=dict)
    """Thread that first forced it, by name."""
    made: dict[str, str] = field(default_factory=dict)
    """Thread that made it, by name."""
    renamed_in: set[str] = field(default_factory=set)
    """Directories that got a name since they were forced."""
    begun: dict[str, str] = field(default_factory=dict)

    def read(self, lines: list[str]) -> None:
        """Follow calls until the commit record gets its name."""
        for line in lines:
            match = _CALL.match(line)
            if match is None:
                continue
            pid = match["pid"]
            if match["call"] and match["args"].endswith("<unfinished ...>"):
                self.begun[pid] = match["args"]
                if self._is_commit(match["args"]):
                    return
                continue
            call = match["call"] or match["resumed"]
            if self._follow(pid, call, match["args"] if match["call"] else self.begun.pop(pid, "") + match["rest"]):
                return
        raise AssertionError("no commit in the trace")

    def _is_commit(self, args: str) -> bool:
        return _NAMES.findall(args)[-1:] == [str(self.commit)]

    def _follow(self, pid: str, call: str, args: str) -> bool:
        if "= -1" in args:
            return False
        if call in ("fsync", "fdatasync") and (found := _FILE.search(args)):
            self.forced.setdefault(found[1], pid)
            self.renamed_in.discard(found[1])
        elif call == "openat" and "O_CREAT" in args:
            self.made[_NAMES.findall(args)[0]] = pid
        elif call.startswith(("rename", "link")):
            source, target = _NAMES.findall(args)[-2:]
            if target == str(self.commit):
                return True
            for known in (self.forced, self.made):
                if source in known:
                    known[target] = known[source]
            self.renamed_in.add(str(Path(target).parent))
        return False


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


@pytest.fixture
def store(sky: Sky, tmp_path: Path) -> Path:
    init(tmp_path / "store", sky)
    return tmp_path / "store"


def trace(store: Path, number: int, words: list[str]) -> Trace:
    """Run a command under strace, up to the commit with a number."""
    out = store.parent / "trace"
    calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,link,linkat"
    strace = ["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-s", "4096", "-e", calls, "-o", str(out)]
    subprocess.run([*strace, sys.executable, *words], check=True, timeout=240, capture_output=True)
    found = Trace(store / "commits" / f"{number:010d}.json")
    found.read(out.read_text(errors="replace").splitlines())
    return found


def named(store: Path, number: int) -> list[Path]:
    """Files that a commit added: those of its tables, its manifests and its tiling."""
    place = Storage.at(store)
    before, after = (log.read_commit(place, n) for n in (number - 1, number))
    lists = [log.read_manifests(place, entry.manifests).paths() for entry in (before, after)]
    files = set(lists[1]) - set(lists[0])
    new = [part for part in after.manifests if part not in before.manifests]
    return [store / path for path in (*files, *(f"manifests/{part.id}.parquet" for part in new))]


def check(store: Path, found: Trace, number: int = 1) -> None:
    files = named(store, number)
    assert files
    assert [path for path in files if str(path) not in found.forced] == []
    directories = localfiles.directories_of(set(files), store)
    assert [path for path in directories if str(path) not in found.forced or str(path) in found.renamed_in] == []


@traced
def test_commit_comes_after_its_files_are_on_disk(store: Path, sky: Sky) -> None:
    found = trace(store, 1, ["-m", "ztfmatch", "append", str(store), *sky.catalogs])
    check(store, found)
    found = trace(store, 2, ["-m", "ztfmatch", "statistics", str(store)])
    check(store, found, 2)


@traced
def test_workers_elsewhere_force_their_files_themselves(store: Path, sky: Sky) -> None:
    """The process that commits could not: what they wrote is in the memory of their machine."""
    found = trace(store, 1, ["-c", SCHEDULER, str(store), *sky.catalogs])
    check(store, found)
    of_tiles = [str(path) for path in named(store, 1) if "/Norder=" in str(path)]  # the others are the planner's
    assert len(of_tiles) > 1
    assert [path for path in of_tiles if found.forced[path] != found.made[path]] == []


def test_forced_write_reaches_the_disk_and_what_is_staged_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []
    force = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (forced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), force(handle))
    )
    place = Storage.at(tmp_path)
    place.put("data/before", b"1")
    with forced_writes():
        place.put("data/within", b"1")
        place.put("staging/within", b"1")
    place.put("data/after", b"1")
    assert [Path(name).name.partition("#")[0] for name in forced] == ["within", "data"]
    assert forced[0].startswith(f"{tmp_path}/data/within")
