"""Rows of cells as JSON, read by Python's parser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.kowalski.kernels.decimals import NAN, NEGATIVE_INFINITY, NEGATIVE_ZERO, NULL, POSITIVE_INFINITY, TEXT
from ztfmatch.kowalski.kernels.jsontext import NO_ROWS, Rows, most_bytes, texts_of, write_documents

LARGE = 2**61 - 1


def one_column(cells: list[int], places: int, texts: list[bytes] | None = None) -> Rows:
    literals = texts_of([b'{"a":', b"}\n", b""])
    return Rows(np.array([cells], np.int64), np.array([places]), literals, texts_of(texts or []))


def lines(rows: Rows) -> list[str]:
    count = rows.cells.shape[1]
    return bytes(write_documents(rows, NO_ROWS, np.zeros(count + 1, np.int64))).decode().splitlines()


@given(st.lists(st.integers(-LARGE, LARGE), min_size=1), st.integers(0, 9))
def test_numbers_are_read_as_what_they_are(cells: list[int], places: int) -> None:
    """An integer without a point, any other number with one, and no more digits than it needs."""
    for cell, line in zip(cells, lines(one_column(cells, places)), strict=True):
        text = line.removeprefix('{"a":').removesuffix("}")
        if places == 0:
            assert text == str(cell)
        else:
            whole, _, decimals = text.partition(".")
            assert int(whole + decimals.ljust(places, "0")) == cell or cell == 0
            assert decimals == "0" or not decimals.endswith("0")
            assert isinstance(json.loads(text), float)


@pytest.mark.parametrize(
    ("cell", "places", "text"),
    [(0, 0, "0"), (0, 5, "0.0"), (7, 3, "0.007"), (-7, 3, "-0.007"), (1000, 3, "1.0"), (1200, 3, "1.2"),
     (245832098462, 5, "2458320.98462"), (-1, 0, "-1"), (LARGE, 0, str(LARGE)), (-LARGE, 1, f"-{LARGE / 10:.0f}.1"),
     (NULL, 3, "null"), (NEGATIVE_ZERO, 3, "-0.0"), (NAN, 3, '{"$numberDouble":"NaN"}'),
     (POSITIVE_INFINITY, 3, '{"$numberDouble":"Infinity"}'), (NEGATIVE_INFINITY, 3, '{"$numberDouble":"-Infinity"}'),
     (TEXT, 3, "first"), (TEXT + 1, 0, ""), (TEXT + 2, 0, "a third that is much longer than any number can be at all")],
)  # fmt: skip
def test_cell_is_written_as(cell: int, places: int, text: str) -> None:
    texts = [b"first", b"", b"a third that is much longer than any number can be at all"]
    if cell == -LARGE:
        text = f"-{LARGE // 10}.{LARGE % 10}"
    assert lines(one_column([cell], places, texts)) == [f'{{"a":{text}}}']


@given(st.lists(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**12)), max_size=4), max_size=6))
def test_nested_rows_are_their_documents(documents: list[list[tuple[int, int]]]) -> None:
    nested = Rows(
        np.array([row for rows in documents for row in rows], np.int64).reshape(-1, 2).T.copy(),
        np.array([5, 0]),
        texts_of([b'{"mag":', b',"expid":', b"}"]),
        texts_of([]),
    )
    outer = Rows(
        np.arange(len(documents), dtype=np.int64)[None],
        np.array([0]),
        texts_of([b'{"_id":', b',"data":[', b"]}\n"]),
        texts_of([]),
    )
    offsets = np.cumsum([0, *(len(rows) for rows in documents)])
    text = bytes(write_documents(outer, nested, offsets)).decode()
    expected: list[Any] = [
        {"_id": i, "data": [{"mag": mag / 1e5, "expid": expid} for mag, expid in rows]}
        for i, rows in enumerate(documents)
    ]
    assert [json.loads(line) for line in text.splitlines()] == expected


def test_most_bytes_bounds_a_row_of_the_widest_cells() -> None:
    for cells in ([-LARGE], [NEGATIVE_INFINITY], [TEXT]):
        rows = one_column(cells, 9, [b"x" * 100])
        assert len(lines(rows)[0]) + 1 <= most_bytes(rows)
