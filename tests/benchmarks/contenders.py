"""The contenders: their commands, the data and stores they work on, and the rounds in which they take turns."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from measure import CommandFailedError, Measurement, own_cpu, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_UP = "import numpy, pyarrow.parquet"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to run, where, and how often."""

    workdir: Path
    ztfmatch: tuple[str, ...] = (sys.executable, "-m", "ztfmatch")
    repeat: int = 3
    peer_python: str = sys.executable
    peer_repeat: int = 1
    only: tuple[str, ...] = ()
    """Contenders to run; all without it."""
    progress: Progress = print


@dataclass
class Results:
    """Runs of one input, by contender; ``skipped`` says why a contender has none."""

    catalogs: int
    rows: int = 0
    """Rows of all catalogs: what a run of append takes in."""
    stored: int = 0
    """Rows of the detections table: what a run of statistics works through."""
    kept: int = 0
    """Rows of detections and orphans: what a run of rematch, or verify, works through."""
    runs: dict[str, list[Measurement]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


PEER = "hats-import + LSDB, 2 workers"
BESIDE_PEER = "append, in turn with it"

FREE_WORKER = "append, 1 worker on 2 cores"
CORES = {FREE_WORKER: 2, "append, 2 workers": 2, "statistics, 2 workers": 2, PEER: 2}
"""Cores of the contenders that are not pinned to one."""


class Bench:
    """One input of so many catalogs, and everything that is run on it."""

    def __init__(self, settings: Settings, catalogs: int) -> None:
        self.settings = settings
        self.results = Results(catalogs)
        self.place = settings.workdir / f"unit-{catalogs}"
        self.data = self.place / "data"
        self.initial, self.finished = self.place / "initial", self.place / "finished"
        self.rematched = self.place / "rematched"
        self.initial_linked, self.finished_linked = self.place / "initial-linked", self.place / "finished-linked"
        self.cpu = own_cpu()
        self.logs = self.place / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Make the data if they are not there, an initialised store, and one uncounted run of what is compiled."""
        self.make_data()
        self._remove(self.initial, self.finished, self.rematched)
        self._say("init and warm-up")
        self._run("init", [*self._ztfmatch("init"), str(self.initial), "--references", str(self.data / "references")])
        self._append("warm-up", self.finished)
        self.results.rows = _sum(self.finished, "exposures", "nrows")
        self.results.stored = _sum(self.finished, "exposures", "nmatched")
        self.results.kept = self.results.stored + _sum(self.finished, "exposures", "norphans")
        self._attempt("statistics", functools.partial(self._statistics, "warm-up", 0), keep=False)
        self._attempt("rematch", functools.partial(self._rematch, self.rematched), keep=False)
        for plain, linked in ((self.initial, self.initial_linked), (self.finished, self.finished_linked)):
            self._remove(linked)
            shutil.copytree(plain, linked, copy_function=os.link)
            self._attempt("link", functools.partial(self._run, "link", [*self._ztfmatch("link"), str(linked)]), False)

    def rounds(self) -> None:
        """Every contender once, then again: slow hours of the machine fall on all of them."""
        for number in range(1, self.settings.repeat + 1):
            for name, action in self._turns().items():
                self._say(f"round {number} of {self.settings.repeat}: {name}")
                self._attempt(name, action)

    def peers(self) -> None:
        """Run the peer, taking turns with one of ours."""
        for number in range(1, self.settings.peer_repeat + 1):
            self._say(f"round {number} of {self.settings.peer_repeat}: hats-import + LSDB (minutes)")
            self._attempt(BESIDE_PEER, functools.partial(self._append, "append-peer", self.place / "run"))
            self._attempt(PEER, self._peer)

    def _turns(self) -> dict[str, Callable[[], Measurement]]:
        part = functools.partial
        turns = {
            "append": part(self._append, "append", self.place / "run"),
            "limit": self._limit,
            "start-up": part(self._run, "start-up", [sys.executable, "-c", START_UP], self.cpu),
            "statistics": part(self._statistics, "statistics", 0),
            "append, 1 worker": part(self._append, "append-1", self.place / "run", 1, True),
            FREE_WORKER: part(self._append, "append-1-free", self.place / "run", 1),
            "append, 2 workers": part(self._append, "append-2", self.place / "run", 2),
            "statistics, 2 workers": part(self._statistics, "statistics-2", 2),
            "compact": self._compact,
            "append, linked": part(self._append, "append-linked", self.place / "run", initial=self.initial_linked),
            "rematch": part(self._rematch, self.place / "run"),
            "rematch, linked": part(self._rematch, self.place / "run", self.finished_linked),
            "rematch limit": self._rematch_limit,
            "verify": self._verify,
        }
        return {name: action for name, action in turns.items() if name in (self.settings.only or turns)}

    def _attempt(self, name: str, action: Callable[[], Measurement], keep: bool = True) -> None:
        if name in self.results.skipped:
            return
        try:
            measurement = action()
        except CommandFailedError as error:
            self.results.skipped[name] = str(error).strip().splitlines()[-1][-200:]
            self._say(f"{name} skipped: {error}")
            return
        if keep:
            self.results.runs.setdefault(name, []).append(measurement)

    def _append(
        self, log: str, store: Path, workers: int = 0, pinned: bool = False, initial: Path | None = None
    ) -> Measurement:
        self._remove(store)
        shutil.copytree(initial or self.initial, store, copy_function=os.link)
        command = [*self._ztfmatch("append"), str(store), str(self.data / "catalogs"), *_workers(workers)]
        return self._run(log, command, self.cpu if pinned or not workers else None)

    def _statistics(self, log: str, workers: int) -> Measurement:
        store = self.place / "run"
        self._remove(store)
        shutil.copytree(self.finished, store, copy_function=os.link)
        return self._run(
            log, [*self._ztfmatch("statistics"), str(store), *_workers(workers)], None if workers else self.cpu
        )

    def _compact(self) -> Measurement:
        store = self.place / "run"
        self._remove(store)
        shutil.copytree(self.finished, store, copy_function=os.link)
        return self._run("compact", [*self._ztfmatch("compact"), str(store), "--full", "--min-files", "2"], self.cpu)

    def _rematch(self, store: Path, finished: Path | None = None) -> Measurement:
        self._remove(store)
        shutil.copytree(finished or self.finished, store, copy_function=os.link)
        command = [*self._ztfmatch("rematch"), str(store), "--references", str(self.data / "references_1")]
        return self._run("rematch", command, self.cpu)

    def _rematch_limit(self) -> Measurement:
        out = self.place / "limit"
        self._remove(out)
        script = [sys.executable, str(HERE / "rematch_limit.py"), str(self.finished), str(self.rematched), str(out)]
        return self._run("rematch-limit", script, self.cpu)

    def _verify(self) -> Measurement:
        return self._run("verify", [*self._ztfmatch("verify"), str(self.finished)], self.cpu)

    def _limit(self) -> Measurement:
        out = self.place / "limit"
        self._remove(out)
        script = [sys.executable, str(HERE / "limit.py"), str(self.data / "catalogs"), str(self.finished), str(out)]
        return self._run("limit", script, self.cpu)

    def _peer(self) -> Measurement:
        out = self.place / "peer"
        self._remove(out)
        script = [self.settings.peer_python, str(HERE / "peers.py"), str(self.data), str(out), "2"]
        measurement = self._run("peers", script)
        matched = last_json(measurement)["matched"]
        self._say(f"hats-import + LSDB matched {matched} rows, ztfmatch {self.results.stored}")
        return measurement

    def _run(self, log: str, command: Sequence[str], cpu: int | None = None) -> Measurement:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(self.settings.workdir / "numba-cache")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        # Without bytecode every process would compile all modules that it imports: two seconds, and no user's.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return run(command, self.logs / f"{log}.txt", environment, cpu)

    def _ztfmatch(self, command: str) -> list[str]:
        return [*self.settings.ztfmatch, command]

    def make_data(self) -> None:
        """Make the data if they are not there, and read them once."""
        if not (self.data / "simulation.json").exists():
            self._say("making the data")
            shutil.rmtree(self.data, ignore_errors=True)
            self._simulate("benchmark_unit(Path(sys.argv[1]), int(sys.argv[2]))")
        if not (self.data / "references_1").exists():
            self._simulate("regenerate_references(Path(sys.argv[1]), benchmark_config(int(sys.argv[2])))")
        for path in sorted(self.data.rglob("*.fits")):
            path.read_bytes()

    def _simulate(self, call: str) -> None:
        code = f"import sys; from pathlib import Path; from ztfmatch.simulate import *; {call}"
        self._run("simulate", [sys.executable, "-c", code, str(self.data), str(self.results.catalogs)])

    def _remove(self, *places: Path) -> None:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)

    def _say(self, text: str) -> None:
        self.settings.progress(f"[{self.results.catalogs} catalogs] {text}")


def last_json(measurement: Measurement) -> dict[str, object]:
    """What a script of ours printed last."""
    return json.loads(measurement.output.strip().splitlines()[-1])


def _workers(workers: int) -> list[str]:
    return ["--workers", str(workers)] if workers else []


def _sum(store: Path, table: str, column: str) -> int:
    files = (store / "data" / table).rglob("*.parquet")
    return sum(sum(pq.ParquetFile(file).read([column])[column].to_pylist()) for file in files)
