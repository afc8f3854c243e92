"""Suppress tracebacks that Dask prints for failures which the job reports in one line.

Preloaded by a worker that shares the terminal, it keeps the worker's own from it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

_TOLD: Final = (
    *("Compute Failed", "Failed to reconnect to scheduler"),
    *("Async instruction for", "Worker process still alive"),  # the end of a task that was interrupted
)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message says more than that a task or a connection failed, or was ended."""
    return not (record.exc_info or record.getMessage().startswith(_TOLD))


def dask_setup(_worker: Any) -> None:
    """Filter what a worker process logs; Dask calls this when the worker starts.

    The thread that waits there for the nanny's word to end logs a traceback if the worker ends before it.
    """
    for name in ("distributed.worker", "distributed.worker.state_machine", "distributed.nanny"):
        logging.getLogger(name).addFilter(is_news)
