"""Progress of a running job for other processes: a small record beside its staged results.

It is written every few seconds while tasks run, so a short job has none, and goes when they have ended. One that is not
written any more is of a command that was killed; a vacuum takes it away with what that one staged.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from ztfmatch.core.io import paths
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.io.storage import Storage

EVERY_S: Final = 10.0
SILENT_S: Final = 60.0
"""A record that was not written for so long is of a command that has ended, or stands still."""


@dataclass
class Beat:
    """How far a job is.

    Parameters
    ----------
    operation_id, title : str
        Which.
    done, total, failed : int
        Tasks.
    started, written : float
        Seconds since 1970.
    process : str
        Machine and process that runs it.
    """

    operation_id: str
    title: str
    total: int
    done: int = 0
    failed: int = 0
    started: float = field(default_factory=time.time)
    written: float = field(default_factory=time.time)
    process: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.done / max(self.written - self.started, 1e-9)


@contextlib.contextmanager
def beating(beat: Beat, storage: Storage | None, every_s: float = EVERY_S) -> Iterator[None]:
    """A block in which a record of the beat is kept where its operation stages; none where nothing is staged."""
    if storage is None:
        yield
        return
    stop, path = threading.Event(), paths.heartbeat(beat.operation_id)

    def keep() -> None:
        while not stop.wait(every_s):
            beat.written = time.time()
            with contextlib.suppress(OSError):  # who works needs no record
                storage.put(path, encode(asdict(beat)))

    thread = threading.Thread(target=keep, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if beat.written > beat.started + every_s / 2.0:
            with contextlib.suppress(OSError):
                storage.delete([path])


def beats(storage: Storage) -> list[Beat]:
    """What is known of the jobs that run on a store, or were killed as they did, in order of their start."""
    found = []
    for path, _ in storage.list(paths.HEARTBEATS):
        with contextlib.suppress(FileNotFoundError, ValueError):  # it goes, or is written, at this moment
            found.append(decode(storage.read(path), Beat))
    return sorted(found, key=lambda beat: beat.started)
