"""Keep freed memory for the next task.

Tasks allocate and free arrays of megabytes. glibc gives each back to the kernel and asks for it again, which costs a
page fault every 4 kB: a third of a worker's time. Arrow's own allocator does the same beside it, and cannot use what
NumPy has freed, so Arrow is made to ask glibc too. What is kept is bounded by the largest task, which is bounded by
the memory budget.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
_TOP_PAD_BYTES: Final = 64 << 20
_NEVER: Final = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory in this process, and Arrow to use it; False where it is not glibc.

    For processes of our own, commands and workers: it holds for all that a process does, so never in a user's notebook.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    kept = all(mallopt(option, value) == 1 for option, value in settings)
    if not kept:
        return False
    pool = os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # for an Arrow that is yet to be imported
    if pool == "system" and "pyarrow" in sys.modules:
        arrow = sys.modules["pyarrow"]
        arrow.set_memory_pool(arrow.system_memory_pool())
    return True


def give_back_freed_memory() -> None:
    """Give the kernel what was freed, once, after a step that took much more than those that follow.

    Python's own objects lie elsewhere, and would not use it.
    """
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
