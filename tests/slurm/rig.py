"""A SLURM of two nodes on this machine, started for the tests and ended by its pid files.

As root; Debian's slurmctld, slurmd, slurm-client and munge. No cgroups, no systemd, no accounting; a second to start.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_NODES = ("n1", "n2")
_START_S = 30.0


def missing() -> str:
    """Why there can be no rig here; empty if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "SLURM's daemons need root here"


@dataclass(frozen=True)
class Ended:
    """A job that ended."""

    state: str
    exit_code: int
    log: str


@dataclass(frozen=True)
class Rig:
    """A running SLURM."""

    place: Path

    @property
    def environment(self) -> dict[str, str]:
        """What its programs need to find it."""
        return {"SLURM_CONF": str(self.place / "slurm.conf")}

    def call(self, *words: object) -> str:
        """Output of one of its programs."""
        done = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, script: Path, *arguments: object, options: tuple[str, ...] = (), **environment: object) -> str:
        """Submit a script; the job's number."""
        given = {**os.environ, **self.environment, **{name: str(value) for name, value in environment.items()}}
        words = [
            "sbatch",
            "--parsable",
            f"--output={self.place}/log/%j.out",
            "--export=ALL",
            *options,
            script,
            *arguments,
        ]
        done = subprocess.run(
            [str(word) for word in words],
            env=given,
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def facts(self, job: str) -> Mapping[str, str]:
        """What SLURM knows of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "--oneliner", "show", "job", job)))

    def queued(self) -> list[str]:
        """Names and states of all jobs that wait or run."""
        return self.call("squeue", "--noheader", "--format=%j %T").split("\n")[:-1]

    def await_queued(self, entry: str, timeout_s: float = 60.0) -> None:
        """Wait until there is a job of this name and state."""
        _until(lambda: entry in self.queued(), timeout_s, lambda: f"no {entry!r} in {self.queued()}")

    def ended(self, job: str, timeout_s: float = 90.0) -> Ended:
        """Wait for the end of a job."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        _until(lambda: self.facts(job)["JobState"] in over, timeout_s, lambda: f"job {job} goes on: {self.log(job)}")
        facts = self.facts(job)
        return Ended(facts["JobState"], int(facts["ExitCode"].split(":")[0]), self.log(job))

    def log(self, job: str) -> str:
        """What a job printed."""
        path = self.place / "log" / f"{job}.out"
        return path.read_text() if path.exists() else ""


def _until(condition: object, timeout_s: float, complaint: object) -> None:
    end = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, complaint()  # type: ignore[operator]
        time.sleep(0.1)


def free_ports(number: int) -> list[int]:
    """Ports that nobody uses, of the system's own choice, so that two rigs do not meet."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _configure(place: Path) -> None:
    for name in ("state", "log", "run", "spool/n1", "spool/n2"):
        (place / name).mkdir(parents=True)
    ports = dict(zip(("CONTROLLER_PORT", "NODE1_PORT", "NODE2_PORT"), map(str, free_ports(3)), strict=True))
    text = Path(__file__).with_name("slurm.conf.in").read_text()
    for name, value in {"DIR": str(place), "HOST": socket.gethostname(), **ports}.items():
        text = text.replace(f"@{name}@", value)
    (place / "slurm.conf").write_text(text)
    (place / "munge.key").write_bytes(secrets.token_bytes(1024))
    (place / "munge.key").chmod(0o400)


@contextlib.contextmanager
def running() -> Iterator[Rig]:
    """Start a rig in a directory of its own, and end it."""
    place = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: munge's socket has at most 107 characters
    rig = Rig(place)
    try:
        _configure(place)
        # --force: munged dislikes parents that others may write to, such as /tmp.
        rig.call("munged", "--force", f"--key-file={place}/munge.key", f"--socket={place}/munge.socket",
                 f"--pid-file={place}/run/munged.pid", f"--log-file={place}/log/munged.log",
                 f"--seed-file={place}/run/munge.seed")  # fmt: skip
        rig.call("slurmctld", "-c")
        for node in _NODES:
            rig.call("slurmd", "-c", "-N", node)
        _until(lambda: _idle(rig), _START_S, lambda: (place / "log" / "slurmctld.log").read_text()[-2000:])
        yield rig
    finally:
        pids = [int(file.read_text()) for file in (place / "run").glob("*.pid")]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):  # they write until they end
            _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), _START_S, lambda: "goes on")
        shutil.rmtree(place, ignore_errors=True)


def _idle(rig: Rig) -> bool:
    with contextlib.suppress(AssertionError):
        return rig.call("sinfo", "--noheader", "--format=%D %t").split() == ["2", "idle"]
    return False
