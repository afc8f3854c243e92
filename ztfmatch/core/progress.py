"""Progress of loops, reported to a listener if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

Item = TypeVar("Item")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, '' where that is not told, tasks finished, and their number."""


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


_LISTENING: Final[ContextVar[Progress]] = ContextVar("listening", default=no_progress)


@contextmanager
def listening(progress: Progress) -> Iterator[None]:
    """A block in which somebody is told how far work without tasks is."""
    token = _LISTENING.set(progress)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def tracked(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Items one after the other; whoever listens is told how many are done, and at the end that nothing is told now."""
    progress = _LISTENING.get()
    progress(what, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        progress(what, done, len(items))
    progress("", 0, 0)
