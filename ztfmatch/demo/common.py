"""Shared by the demonstrations."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.errors import ConfigError, JobFailedError
from ztfmatch.core.operations.verify import VerifyReport

Say = Callable[[str], Any]

_MARK: Final = "ztfmatch-demo.txt"
_PARTS: Final = ("sky", "store")
_PICTURES: Final = ("lightcurve.png", "folded.png", "regeneration.png")


def clear_directory(directory: Path) -> None:
    """Make the directory ready; what an earlier demonstration left is removed, anything else is left alone.

    Raises
    ------
    ConfigError
        If it holds something else.
    """
    if directory.is_dir() and any(directory.iterdir()):
        if not (directory / _MARK).is_file():
            raise ConfigError(f"{directory} is not empty and not of an earlier demo: choose another directory")
        for name in _PARTS:
            shutil.rmtree(directory / name, ignore_errors=True)
        for name in _PICTURES:
            (directory / name).unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARK).write_text("Made by 'ztfmatch demo'; the next demo here replaces it.\n")


def must_pass(report: VerifyReport) -> None:
    """Stop if a store did not verify.

    Raises
    ------
    JobFailedError
    """
    if not report.passed:
        failed = ", ".join(check.check for check in report.checks if not check.passed)
        raise JobFailedError(f"the store at {report.store} does not verify: {failed}")
