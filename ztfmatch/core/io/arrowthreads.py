"""Wait for Arrow's own threads before Python ends.

A dataset is read by threads of Arrow's. They hold what they read of a Python file for a moment longer than it takes to
give the answer, and read ahead of one that nobody goes on with. Python ends a thread that asks for it once it has begun
to end itself: one of Arrow's is then in the middle of a destructor, and the process aborts ('terminate called without
an active exception', exit code 134), whatever it has done. Python 3.14 lets such a thread hang instead.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import time
from collections.abc import Callable
from typing import ClassVar, Final

import pyarrow as pa

from ztfmatch.core.io.sealed import Named, SealedFile
from ztfmatch.core.io.storage import Storage

_LONGEST_WAIT_S: Final = 10.0
"""Someone else's task in these threads may never end."""
_CHECK_S: Final = 0.001
_ROUNDS: Final = 4
"""Tasks of either pool can leave others to the other pool; those of a file that is read no more soon do not."""
_POOLS: Final = ("_ZN5arrow2io8internal15GetIOThreadPoolEv", "_ZN5arrow8internal16GetCpuThreadPoolEv")
_TASKS: Final = "_ZN5arrow8internal10ThreadPool11GetNumTasksEv"
"""C++ names of libarrow's: Python's interface tells only how many threads there are."""


class ScannedFile(SealedFile):
    """A file that Arrow's threads may read: they are waited for when Python ends, and read no more then."""

    _ended: ClassVar[bool] = False

    def __init__(self, storage: Storage, file: Named) -> None:
        super().__init__(storage, file)
        _wait_at_exit()

    def read_buffer(self, size: int = -1) -> memoryview:
        """Bytes from here, all of them verified."""
        if self._ended:
            raise OSError("Python is ending")
        return super().read_buffer(size)

    @classmethod
    def end(cls) -> None:
        """Refuse all reads from now on, and wait until none goes on."""
        cls._ended = True
        wait_for_threads()


@functools.cache
def _wait_at_exit() -> None:
    atexit.register(ScannedFile.end)


def wait_for_threads(longest_s: float = _LONGEST_WAIT_S) -> bool:
    """Wait until Arrow's threads have nothing to do, which includes to free; False where they went on for too long."""
    end = time.monotonic() + longest_s
    for _ in range(_ROUNDS):
        for tasks in task_counters():
            while tasks():  # each call lets go of Python, which these threads may be waiting for
                if time.monotonic() > end:
                    return False
                time.sleep(_CHECK_S)
    return True


@functools.cache
def task_counters() -> tuple[Callable[[], int], ...]:
    """Tasks queued and running in each of Arrow's pools; nothing where Arrow was built with other names."""
    arrow = ctypes.CDLL(pa.lib.__file__)
    try:
        count, pools = arrow[_TASKS], [arrow[name] for name in _POOLS]
    except AttributeError:
        return ()
    count.argtypes, count.restype = [ctypes.c_void_p], ctypes.c_int
    for pool in pools:
        pool.restype = ctypes.c_void_p
    return tuple(functools.partial(count, pool()) for pool in pools)
