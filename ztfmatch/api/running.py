"""Shared by all methods that run tasks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypedDict, TypeVar

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.packed import Packed
from ztfmatch.core.runner import Progress, no_progress

AnyMethod = TypeVar("AnyMethod", bound=Callable[..., Any])

Place = str | os.PathLike[str]
Places = Place | Sequence[Place]
Ids = int | str | Iterable[int | str]


class Running(TypedDict, total=False):
    """Keywords of all methods that run tasks: where they run, and a progress callback."""

    resources: Resources | None
    progress: Progress


_KEYWORDS: Final = (
    inspect.Parameter("resources", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Resources | None"),
    inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=no_progress, annotation="Progress"),
)


def runs_tasks(method: AnyMethod) -> AnyMethod:
    """Add the keywords of :class:`Running` to the signature of a method, for help and completion; refuse others."""
    signature = inspect.signature(method)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    known = signature.replace(parameters=[*own, *_KEYWORDS])

    @functools.wraps(method)
    def run(*arguments: Any, **keywords: Any) -> Any:
        for name in keywords.keys() - known.parameters.keys():
            meant = f"; did you mean resources=Resources({name}=...)?" if name in Resources.__annotations__ else ""
            raise TypeError(f"{method.__name__}() got an unexpected keyword argument {name!r}{meant}")
        return method(*arguments, **keywords)

    run.__signature__ = known  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


def places_of(given: Places) -> Sequence[str]:
    """Paths as strings, from one or several."""
    if isinstance(given, Packed):
        return given
    return [os.fspath(place) for place in ([given] if isinstance(given, str | os.PathLike) else given)]


def ids_of(given: Ids) -> tuple[int, ...]:
    """Ids as integers, from one or several.

    Raises
    ------
    ConfigError
        If one is not an integer of 64 bits.
    """
    values = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    return tuple(map(_id, values))


def _id(value: Any) -> int:
    """An integer from a whole number or a string."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (number != value and not isinstance(value, str)) or not -(2**63) <= number < 2**63:
        raise ConfigError(f"id {value!r}: expected an integer of 64 bits")
    return number
