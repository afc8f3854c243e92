"""Import in a worker that shares the user's terminal: a failed task is told once, by the job, without traceback."""

from __future__ import annotations

import logging


def is_news(record: logging.LogRecord) -> bool:
    """Whether a worker's message says more than that a task failed."""
    return not record.getMessage().startswith("Compute Failed")


logging.getLogger("distributed.worker").addFilter(is_news)
