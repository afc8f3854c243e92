"""Files below a directory or matching a glob on local disks; follows links, and reports what it cannot list."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import ConfigError, StorageError
from ztfmatch.core.survey import plain_name

_BESIDE: Final = (
    ".md5",
    ".sha1",
    ".sha256",
    ".sha512",
    ".asc",
    ".sig",
    ".json",
    ".log",
    ".txt",
    ".png",
    "_psfcatscorr.fits",
)
"""How files end that are about a catalog, or made of one."""


def is_named(name: str, pattern: str) -> bool:
    """Whether a file's name fits a pattern such as ``*_psfcat.fits``, in any case, and compressed or not."""
    return fnmatch.fnmatchcase(plain_name(name), pattern)


def is_misnamed(name: str, pattern: str) -> bool:
    """Whether a name does not fit ``*_WORD.SUFFIX``, but is so near that the file may be meant: x.fit, x.fits.bz2."""
    word, _, suffix = pattern.removeprefix("*_").partition(".")
    lower = name.lower()
    near = word in lower and f".{suffix[:3]}" in lower.partition(word)[2] and not lower.endswith(_BESIDE)
    return near and (word.startswith("ref") or f"ref{word}" not in lower) and not is_named(name, pattern)


class Places:
    """Finds files; directories that were gone through are not entered again, whatever leads to them.

    Parameters
    ----------
    found : callable
        Called with each path, and whether it was named, itself or by a glob; else it is one in a directory.
    """

    def __init__(self, found: Callable[[str, bool], None]) -> None:
        self._found = found
        self._entered: set[tuple[str, tuple[str, ...]]] = set()

    def look(self, place: str) -> None:
        """Find what a file, a directory or a glob stands for.

        Raises
        ------
        ConfigError
            If it is not there, or fits nothing.
        StorageError
            If it cannot be looked at, or a directory cannot be listed.
        """
        path = Path(place).expanduser()
        if self._entry(path.absolute(), ()):
            return
        top = Path(path.anchor) if path.is_absolute() else Path.cwd()
        parts = path.relative_to(path.anchor).parts
        if not glob.has_magic(place) or not self._glob(top, parts):
            raise ConfigError(f"{place}: no such file or directory, and no file fits it as a glob")

    def _walk(self, top: Path) -> None:
        """All files below a directory; links are followed last, so that what is really here goes by its own name."""
        directories = [str(top)]
        links: list[str] = []
        while directories or links:
            directory = directories.pop() if directories else links.pop(0)
            if not self._enter(directory):
                continue
            for entry in _listed(directory):
                self._found(entry.path, False)  # a directory too: if it is named as a catalog, it is to be refused
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif _leads_to_directory(entry):
                    links.append(entry.path)

    def _glob(self, directory: Path, parts: tuple[str, ...]) -> bool:
        """Find what fits the parts of a glob below a directory; whether anything does."""
        if not parts:
            self._walk(directory)
            return True
        head, rest = parts[0], parts[1:]
        if head == "**":
            return self._glob_deep(directory, parts)
        if not glob.has_magic(head) or os.path.lexists(directory / head):
            return self._entry(directory / head, rest)
        fits = False
        for entry in _listed(directory):
            if fnmatch.fnmatchcase(entry.name, head) and (head.startswith(".") or not entry.name.startswith(".")):
                fits = self._entry(Path(entry.path), rest) or fits
        return fits

    def _entry(self, path: Path, rest: tuple[str, ...]) -> bool:
        """Find what is at a path, and below it fits the rest of a glob."""
        if _is_directory(path):
            return self._glob(path, rest)
        if rest or not os.path.lexists(path):
            return False
        self._found(str(path), True)
        return True

    def _glob_deep(self, directory: Path, parts: tuple[str, ...]) -> bool:
        """``**``: no directory, or any number of them; where it is the last part, all files in them."""
        if not self._enter(str(directory), parts):
            return True
        fits = self._glob(directory, parts[1:])
        for entry in _listed(directory):
            if entry.name.startswith("."):
                continue
            if _leads_to_directory(entry):
                fits = self._glob_deep(Path(entry.path), parts) or fits
            elif not parts[1:]:
                self._found(entry.path, True)
        return fits

    def _enter(self, directory: str, parts: tuple[str, ...] = ()) -> bool:
        """Whether a directory is new; remembered."""
        key = os.path.realpath(directory), parts
        if key in self._entered:
            return False
        self._entered.add(key)
        return True


def _is_directory(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return False
        raise StorageError(f"{path}: cannot be looked at: {error.strerror or error}") from error
    return os.path.isdir(path)  # noqa: PTH112 (False, where Path's raises, for what cannot be reached)


def _listed(directory: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot be listed: {error.strerror or error}; what is in it would be passed over: mend it, "
            f"or name the others"
        ) from error


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory, or a link to one.

    Raises
    ------
    StorageError
        If it is a link that leads nowhere, and may be meant for a directory since its name has no suffix.
    """
    try:
        if entry.is_dir():
            return True
        gone = entry.is_symlink() and not Path(entry.path).exists()
    except OSError as error:
        gone = error.errno != errno.ELOOP
    if gone and "." not in entry.name:
        raise StorageError(
            f"{entry.path}: a link to {Path(entry.path).readlink()}, which is not there or cannot be reached; what is "
            f"in it would be passed over: mount or mend it, or remove the link"
        )
    return False
