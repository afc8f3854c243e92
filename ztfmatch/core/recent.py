"""What was asked for last, kept up to a total size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by their keys; those that were not asked for longest are dropped first. Threads may share it.

    Parameters
    ----------
    most : int
        Size of all values that are kept; none that is larger.
    size : callable, optional
        Of a value; by default each has 1.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size = most, size
        self._held: dict[K, V] = {}
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not kept; threads that ask for it meanwhile may each make it."""
        with self._lock:
            if key in self._held:
                self._held[key] = value = self._held.pop(key)
                return value
        value = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = value
                self._total += self._size(value)
            while self._total > self._most:
                self._total -= self._size(self._held.pop(next(iter(self._held))))
        return value
