"""Settings for our own processes, commands and workers, but never for a user's notebook."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
from typing import Any, Final

from ztfmatch.core.tasks.heap import keep_freed_memory

_OBJECTS_UNTIL_COLLECTION: Final = 20_000
"""By default it is 700: what a process imports is looked through so often that it takes a tenth of a short command, and
hardly anything is found. Where tasks run, each looks for what it leaves when it ends."""

ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Variables for what NumPy calculates with: a task is to use one core, and threads that wait for work spin."""


@functools.cache
def make_own() -> None:
    """Make this process one of our own: it keeps freed memory, and leaves undone what takes time for nothing."""
    keep_freed_memory()
    for name, value in ONE_THREAD.items():  # for a NumPy that is yet to be imported
        os.environ.setdefault(name, value)
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTION)
    atexit.register(gc.freeze)  # else Python looks through all that is left before it ends
    _hide_pandas()


def _hide_pandas() -> None:
    """Keep Arrow from importing pandas until something needs it (``to_pandas``).

    It imports it as soon as it is given a list, for a fifth of a second, to know whether that is one of pandas' arrays.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)


class _Hidden:
    """Finds no pandas."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
