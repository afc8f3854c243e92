"""Imported before all else, it makes a process as a command with workers is: Dask is loaded, and pandas is not."""

from ztfmatch.core.tasks.ownprocess import make_own

make_own()

import distributed  # noqa: E402, F401
