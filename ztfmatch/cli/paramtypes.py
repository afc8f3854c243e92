"""Types of option values: bytes, times, dates, radii, and files and places to write to."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Any, Final

import click

from ztfmatch.core.errors import ZtfmatchError

PICTURES: Final = (".png", ".pdf", ".svg")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class _Read(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A value that is read from text; what was read already stays as it is."""

    ready: type = tuple

    def read(self, value: Any) -> Any:
        """Value of a text; a ValueError says why there is none."""
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click asks for."""
        try:
            return value if isinstance(value, self.ready) else self.read(value)
        except (ValueError, ZtfmatchError) as error:
            self.fail(str(error), param, ctx)


class Size(_Read):
    """A number of bytes, as in 2GiB or 800MB."""

    name = "size"
    ready = int

    def read(self, value: Any) -> int:
        """Bytes of the text."""
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmg]i?)?b?\s*", str(value), re.IGNORECASE)
        if match is None:
            raise ValueError(f"{value!r} is not a size; expected something like 2GiB or 800MB")
        return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


class Duration(_Read):
    """A time in seconds, as in 45s, 10m, 2h or 1d."""

    name = "duration"

    def read(self, value: Any) -> float:
        """Seconds of the text."""
        from ztfmatch.core.clusters import duration_seconds

        try:
            return float(value) if isinstance(value, int | float) else duration_seconds(str(value))
        except ZtfmatchError as error:
            raise ValueError(f"{error}.") from None


class Numbers(_Read):
    """Numbers from 0 and ranges of them, as batch systems write arrays: 3,17-20."""

    name = "numbers"

    def read(self, value: Any) -> tuple[int, ...]:
        """All of them."""
        numbers: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"\s*(\d{1,7})(?:-(\d{1,7}))?\s*", part)
            if match is None or int(match[2] or match[1]) < int(match[1]):
                raise ValueError(f"{value!r} are not numbers; expected something like 7, 3-17 or 0,4-6.")
            numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
        return tuple(numbers)


class Filters(_Read):
    """Filters by any of their names, with commas: g, zg or 1."""

    name = "filters"

    def read(self, value: Any) -> tuple[int, ...]:
        """Their ids."""
        from ztfmatch.core.survey import FILTER_NAMES

        words = [word.strip() for word in str(value).split(",")]
        if not set(words) <= set(FILTER_NAMES):
            raise ValueError(f"{value!r}: expected some of g, r, i (or zg, zr, zi, or 1, 2, 3) with commas.")
        return tuple(dict.fromkeys(FILTER_NAMES[word] for word in words))


class Share(_Read):
    """One of so many parts, as in 0/8."""

    name = "share"

    def read(self, value: Any) -> tuple[int, int]:
        """Number of the part, from 0, and how many there are."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value))
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(f"{value!r} is not a part; expected one of 0/N to N-1/N.")
        return int(match[1]), int(match[2])


class Radius(_Read):
    """A radius in arcsec, as in 1.5 or 1.5arcsec."""

    name = "radius"

    def read(self, value: Any) -> float:
        """Arcsec of the text."""
        from ztfmatch.query.kernels.angles import radius_of

        return radius_of(value, "arcsec")


class OutputFile(click.Path):
    """A file to write, in a directory that exists: a wrong path is refused before the work, not after."""

    def __init__(self, dir_okay: bool = False) -> None:
        super().__init__(dir_okay=dir_okay, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Path of the file."""
        path = Path(str(super().convert(value, param, ctx)))
        if str(value).endswith("/") and not path.is_dir():
            self.fail(f"directory '{value}' does not exist.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"directory '{path.parent}' does not exist.", param, ctx)
        return path


class PictureFile(OutputFile):
    """A picture to write."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Path of the file."""
        path = super().convert(value, param, ctx)
        if path.suffix.lower() not in PICTURES:
            self.fail(f"cannot draw to {path}: expected a name that ends in {', '.join(PICTURES)}.", param, ctx)
        return path


class LogFile(OutputFile):
    """A file that may be there: what is written is of the command's run, not its answer."""


class OutputPlace(click.Path):
    """A file or directory to make, or a URL: one that cannot be made is refused before the work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click.Path makes of it."""
        from ztfmatch.core.io.urls import is_url

        made = super().convert(value, param, ctx)
        if is_url(str(value)):
            return made
        place = Path(str(made)).expanduser().absolute()
        there = next(path for path in place.parents if path.exists())
        if not there.is_dir():
            self.fail(f"'{place}' cannot be made: '{there}' is not a directory.", param, ctx)
        if not place.exists() and not os.access(there, os.W_OK):
            self.fail(f"'{place}' cannot be made: '{there}' may not be written to.", param, ctx)
        return made


class Date(_Read):
    """An instant: an MJD, or a date with or without a time, UTC."""

    name = "date"
    ready = float

    def read(self, value: Any) -> float:
        """MJD of the text."""
        from ztfmatch.release.io.scope import mjd_of

        try:
            plain: Any = float(value) if value.replace(".", "", 1).isdigit() else datetime.datetime.fromisoformat(value)
            return mjd_of(plain, 0.0) or 0.0
        except ValueError:
            raise ValueError(f"{value!r} is not a date; expected something like 2018-11-15, or an MJD") from None


FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
PLACE: Final = click.Path(path_type=Path)
PRODUCT: Final = OutputPlace()
"""Text: a Path would make s3:/ of a URL."""
CONE: Final = (str, str, str)
"""Types of RA, DEC and RADIUS; the Python interface reads what people may write."""
