"""Run tasks: in a loop, on a local cluster, or on a Dask scheduler. The only package that imports Dask.

A task that fails is tried again; when it keeps failing the others are finished, then the job stops with an error that
names it. A lost worker's tasks run elsewhere.
"""

from ztfmatch.core.progress import Progress, no_progress
from ztfmatch.core.runner.jobs import Executor, Job, LoopExecutor, Runner
from ztfmatch.core.runner.opening import open_runner
from ztfmatch.core.tasks.staging import Outcome

__all__ = [
    "Executor",
    "Job",
    "LoopExecutor",
    "Outcome",
    "Progress",
    "Runner",
    "no_progress",
    "open_runner",
]
