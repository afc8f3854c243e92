"""A second name for a file of a store, which takes no space."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

_ELSEWHERE: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
"""The file is on another file system, or that knows no hard links, or no more of them."""


def link(source: Path, place: Path) -> None:
    """Give a file a second name: a hard link, which outlives a vacuum, else a symbolic one; done twice it is no error.

    Raises
    ------
    OSError
        If neither can be made.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        try:
            place.hardlink_to(source)
        except OSError as error:
            if isinstance(error, FileExistsError) or error.errno not in _ELSEWHERE:
                raise
            place.symlink_to(os.path.abspath(source))  # noqa: PTH100 (a link of a link stays one)
