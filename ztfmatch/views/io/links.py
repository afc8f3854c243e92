"""Hard links to files of a store, which take no space."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from ztfmatch.core.io.localfiles import beside

_ELSEWHERE: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
"""The file is on another file system, or that knows no hard links, or no more of them."""


def link(source: Path, place: Path) -> None:
    """Give a file a second name: a hard link, which outlives a vacuum, else a symbolic one; done twice it is no error.

    What else has that name, as a copy or a file that a power cut emptied, is replaced.

    Raises
    ------
    OSError
        If neither can be made.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        _link(source, place)
    except FileExistsError:
        if not place.exists() or not place.samefile(source):
            with beside(place) as part:
                _link(source, part)
                part.replace(place)


def _link(source: Path, place: Path) -> None:
    try:
        place.hardlink_to(source)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        place.symlink_to(os.path.abspath(source))  # noqa: PTH100 (a link of a link stays one)
