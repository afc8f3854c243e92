"""Iterate in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunks(items: Sequence[Item], number: int) -> Iterator[tuple[Item, ...]]:
    """Consecutive runs of so many items; the last may have fewer."""
    for start in range(0, len(items), number):
        yield tuple(items[start : start + number])


def bounded_runs(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Consecutive runs of items whose sizes add up to ``most`` or less; a larger item is a run of its own."""
    run: list[Item] = []
    held = 0
    for item in items:
        if run and held + size(item) > most:
            yield run
            run, held = [], 0
        run.append(item)
        held += size(item)
    if run:
        yield run
