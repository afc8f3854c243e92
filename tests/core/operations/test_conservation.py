"""No detection may be lost or counted twice between the tasks and the commit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.operations.conservation import Tally, with_counts
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.results import ExposureCounts, Matched

LEDGER: list[dict[str, Any]] = [
    {"exposureid": 7, "source": "a.fits", "nrows": 10, "nrejected": 1},
    {"exposureid": 8, "source": "b.fits", "nrows": 2, "nrejected": 2},
]


def result(*counts: tuple[int, int, int]) -> Matched:
    return Matched([], ExposureCounts.of(counts))


def tallied(*results: Matched) -> Tally:
    tally = Tally(pa.Table.from_pylist(LEDGER[::-1]))
    for one in results:
        tally.add(one.counts)
    return tally


def test_tally_adds_up_the_tiles() -> None:
    tally = tallied(result((7, 3, 1)), result(), result((7, 4, 1)))
    tally.check()
    assert (tally.exposureid.tolist(), tally.matched.tolist(), tally.orphans.tolist()) == ([8, 7], [0, 7], [0, 2])


@pytest.mark.parametrize("twice", [(7, 7, 1), (7, 7, 3)])
def test_tally_lost_or_doubled_detection_raises(twice: tuple[int, int, int]) -> None:
    message = rf"a.fits: 10 rows, but 7 matched \+ {twice[2]} orphans \+ 1 rejected; nothing was committed"
    with pytest.raises(JobFailedError, match=message):
        tallied(result(twice)).check()


def test_with_counts_completes_the_ledger_in_its_order() -> None:
    ledger = pa.Table.from_pylist(LEDGER[::-1])
    made = with_counts(ledger, [result((7, 5, 0)), result(), result((7, 3, 1), (8, 0, 0))], 5)
    assert made.schema == EXPOSURES.schema
    rows = made.select(["exposureid", "nmatched", "norphans", "commit"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(8, 0, 0, 5), (7, 8, 1, 5)]


@pytest.mark.parametrize("counts", [(7, 7, 1), (7, 7, 3)])
def test_with_counts_lost_or_doubled_detection_raises(counts: tuple[int, int, int]) -> None:
    with pytest.raises(JobFailedError, match=r"a.fits: 10 rows, but 7 matched"):
        with_counts(pa.Table.from_pylist(LEDGER), [result(counts)], 5)
