"""Open a runner; Dask is imported only where it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ztfmatch.core.config import RETRIES, Resources
from ztfmatch.core.progress import Progress, no_progress
from ztfmatch.core.runner.jobs import Executor, LoopExecutor, Runner


@contextlib.contextmanager
def open_runner(resources: Resources | None = None, progress: Progress = no_progress) -> Iterator[Runner]:
    """Runner for the resources, by default a plain loop; a cluster that it started is stopped at the end.

    Raises
    ------
    ConfigError
        If the resources contradict each other, or workers are of another version of ztfmatch.
    ServiceError
        If no scheduler or no worker answers.
    """
    resources = resources or Resources()
    resources.validate()
    with contextlib.ExitStack() as stack:
        executor = _executor(resources, stack, progress)
        if resources.units is not None:
            from ztfmatch.core.runner.units import divided

            executor = stack.enter_context(divided(resources.units, executor))
        yield Runner(executor, resources.memory_bytes, progress)


def _executor(resources: Resources, stack: contextlib.ExitStack, progress: Progress) -> Executor:
    elsewhere = resources.scheduler is not None or resources.client is not None
    if not elsewhere and resources.cluster is None and resources.workers == 0:
        return LoopExecutor(RETRIES if resources.retries is None else resources.retries)
    if not elsewhere and resources.cluster in (None, "local"):
        from ztfmatch.core import prefork

        prefork.start()  # it gets ready while Dask is imported
    from ztfmatch.core.runner.start import dask_executor

    return dask_executor(resources, stack, progress)
