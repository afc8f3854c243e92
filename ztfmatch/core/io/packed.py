"""Very many paths in little memory: a survey has ten million, of some hundred similar bytes each."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ints

_BLOCK: Final = 4096
RUN: Final = 1 << 17
"""Fewer are a list."""
_CODEC: Final = "zstd"
_BETWEEN: Final = b"\0"
"""No path has it."""


class Packed(Sequence[str]):
    """Texts in the order in which they were given, compressed by blocks: some ten bytes a path where they are sorted.

    To go through all of them takes a microsecond for each; to get one, a block.

    Parameters
    ----------
    texts : iterable of str
        Gone through once.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._blocks: list[tuple[bytes, int]] = []
        self._len = 0
        left = iter(texts)
        while block := list(itertools.islice(left, _BLOCK)):
            content = _BETWEEN.join(text.encode("utf-8", "surrogateescape") for text in block)
            self._blocks.append((pa.compress(content, _CODEC, asbytes=True), len(content)))
            self._len += len(block)
        self._block = functools.lru_cache(2)(self._unpacked)

    def _unpacked(self, number: int) -> list[str]:
        packed, size = self._blocks[number]
        content: bytes = pa.decompress(packed, size, _CODEC, asbytes=True)
        return content.decode("utf-8", "surrogateescape").split(_BETWEEN.decode())

    def blocks(self) -> Iterator[list[str]]:
        """All texts, some at a time."""
        return map(self._unpacked, range(len(self._blocks)))

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self.blocks())

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self.take(np.arange(self._len)[at])
        number = range(self._len)[at]
        return self._block(number // _BLOCK)[number % _BLOCK]

    def take(self, rows: Ints) -> list[str]:
        """Some texts, in the order of ``rows``, which count from 0."""
        if not len(rows):
            return []
        found = np.empty(len(rows), object)
        order = np.argsort(rows, kind="stable")
        blocks, starts = np.unique(rows[order] // _BLOCK, return_index=True)
        for block, at in zip(blocks.tolist(), np.split(order, starts[1:]), strict=True):
            texts = self._unpacked(block)
            for i, row in zip(at.tolist(), (rows[at] % _BLOCK).tolist(), strict=True):
                found[i] = texts[row]
        return found.tolist()


class Sorting:
    """Texts that come one after the other, to be sorted, each once: runs are packed, and merged at the end."""

    def __init__(self) -> None:
        self._run: set[str] = set()
        self._packed: list[Packed] = []

    def add(self, text: str) -> None:
        """One more."""
        self._run.add(text)
        if len(self._run) >= RUN:
            self._packed.append(Packed(sorted(self._run)))
            self._run = set()

    def texts(self) -> Sequence[str]:
        """All of them: a list where there are few."""
        if not self._packed:
            return sorted(self._run)
        runs = heapq.merge(*self._packed, sorted(self._run))
        return Packed(text for text, _ in itertools.groupby(runs))
