"""What all methods that run tasks have in common."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypedDict, TypeVar

from ztfmatch.core.config import Resources
from ztfmatch.core.io.packed import Packed
from ztfmatch.core.runner import Progress, no_progress

AnyMethod = TypeVar("AnyMethod", bound=Callable[..., Any])

Place = str | os.PathLike[str]
Ids = int | Iterable[int]


class Running(TypedDict, total=False):
    """Where tasks run and who is told of their progress: keywords of all methods that run tasks."""

    resources: Resources | None
    progress: Progress


_KEYWORDS: Final = (
    inspect.Parameter("resources", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Resources | None"),
    inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=no_progress, annotation="Progress"),
)


def runs_tasks(method: AnyMethod) -> AnyMethod:
    """Show the keywords of :class:`Running` in the signature of a method, for help and completion."""
    signature = inspect.signature(method)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=[*own, *_KEYWORDS])  # type: ignore[attr-defined]
    return method


def places_of(given: str | Sequence[str]) -> Sequence[str]:
    """Places as texts, from one or several."""
    if isinstance(given, Packed):
        return given
    return [given] if isinstance(given, str) else [os.fspath(place) for place in given]


def ids_of(given: Ids) -> tuple[int, ...]:
    """Ids from one or several."""
    return (int(given),) if not isinstance(given, Iterable) else tuple(int(value) for value in given)
