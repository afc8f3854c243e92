"""Merges in levels: files stay few, rows are seldom written again, over any history of appends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.mergeplan import Merge, merges_now
from ztfmatch.core.tasks.levels import Rule, level_of, runs_due, runs_of


def data_file(name: str, low: int, high: int, table: str = "detections", rows: int = 1) -> DataFile:
    return DataFile(table, 3, 5, f"data/{table}/{name}", rows, 30 * rows, low, high, None, None, "", 0, 0, "")


@pytest.mark.parametrize(("rows", "factor", "level"), [(0, 10, 0), (9, 10, 0), (10, 10, 1), (999, 10, 2), (8, 2, 3)])
def test_level_of_is_the_whole_part_of_the_logarithm(rows: int, factor: int, level: int) -> None:
    assert level_of(rows, factor) == level


@pytest.mark.parametrize(
    ("rows", "factor", "due"),
    [
        ([], 3, 0),
        ([5, 6, 7], 4, 0),
        ([5, 6, 7], 3, 3),
        ([1, 5, 6, 7], 3, 4),  # a smaller one comes with them
        ([9, 9, 9, 30, 40, 100], 3, 5),  # 27 of the second level: the third of that one
        ([9, 9, 9, 30, 100], 3, 3),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5], 3, 11),  # the result is of a higher level than what is between
    ],
)
def test_runs_due_are_the_smallest(rows: list[int], factor: int, due: int) -> None:
    assert runs_due(rows, Rule(factor)) == due


@given(st.lists(st.integers(0, 10**7), max_size=60), st.integers(2, 12))
def test_runs_due_leave_few_of_each_level_and_lift_all_that_they_take(rows: list[int], factor: int) -> None:
    rows = sorted(rows)
    due = runs_due(rows, Rule(factor))
    result = [sum(rows[:due])] if due else []
    left = Counter(level_of(one, factor) for one in rows[due:] + result if one)
    assert due != 1
    assert all(number < factor for number in left.values())
    held = [one for one in rows[:due] if one]
    if len(held) > 1:  # runs without rows go with any other, which they leave at its level
        assert level_of(sum(held), factor) > level_of(held[-1], factor)


FACTOR, NIGHT = 8, 27_000


@pytest.mark.parametrize(("nights", "every"), [(1000, 1), (1000, 7), (1000, 30), (3650, 30)])
def test_years_of_appends_keep_runs_few_and_write_little(nights: int, every: int) -> None:
    """Of a survey of many tiles; each night some of them get rows, and each compaction writes a share at most."""
    rng = np.random.default_rng(nights + every)
    tiles: list[list[int]] = [[] for _ in range(48)]
    ingested = written = most = waited = 0
    for night in range(1, nights + 1):
        for runs in tiles:
            if rng.random() < 0.5:
                runs.append(int(rng.integers(NIGHT // 2, 2 * NIGHT)))
                ingested += runs[-1]
        if night % every == 0:
            now, waiting = merges_now([due(n, runs) for n, runs in enumerate(tiles) if due(n, runs)], 31 * ingested)
            waited += waiting
            for merge in now:
                merge_runs(tiles[merge.tile.npix], len(merge.paths))
                written += merge.rows
            if night > 120:
                large = sum(merge.size for merge in now if merge.rows > 10**6)
                assert large <= 0.1 * 31 * ingested
        most = max(most, *map(len, tiles))
    total = max(sum(runs) for runs in tiles)
    levels = level_of(total, FACTOR) - level_of(NIGHT // 2, FACTOR) + 1
    assert most <= (FACTOR - 1) * levels + every
    assert written <= levels * ingested
    print(f"{nights} nights, each {every}: {most} runs, written {written / ingested:.2f} times, {waited} waited")
    assert waited > 0 or every < 30, "the share must have been felt"


def due(number: int, runs: list[int], most: int = 2**62) -> Merge | None:
    """The merge that is due of a tile."""
    rule = Rule(FACTOR, most)
    chosen = sorted(runs)[: runs_due(sorted(runs), rule)]
    if not chosen:
        return None
    names, sizes = tuple(str(i) for i in range(len(chosen))), tuple(31 * one for one in chosen)
    smaller = None if most == ROWS_PER_FILE else due(number, runs, ROWS_PER_FILE)
    return Merge(Tile(2, number), "detections", rule, 0, names, sizes, sum(chosen), (None,), smaller)


def merge_runs(runs: list[int], number: int) -> None:
    runs.sort()
    runs[:number] = [sum(runs[:number])]


def test_merges_now_does_one_at_least_and_all_small_ones() -> None:
    small = [due(n, [1000] * FACTOR) for n in range(3)]
    large = [due(n, [10**6] * (FACTOR + n)) for n in range(3)]
    every = [merge for merge in (*large, *small) if merge]
    now, waiting = merges_now(every, 0)
    assert ([merge.rows for merge in now], waiting) == ([1000 * FACTOR] * 3 + [10**6 * FACTOR], 2)
    mixed = due(3, [10**7] * FACTOR + [1000] * FACTOR)
    assert mixed is not None
    assert mixed.rows == 80_008_000
    assert [merge.rows for merge in merges_now([*every, mixed], 0)[0]][-1] == 8000
    assert merges_now(every, 10**12) == (sorted(every, key=lambda merge: (merge.rows, merge.tile.npix)), 0)


def test_runs_of_detections_are_files_of_one_writer_whose_ids_do_not_overlap() -> None:
    one = [data_file("0000000004-abc-0000-aa", 1, 5), data_file("0000000004-abc-0001-bb", 6, 9)]
    batch = data_file("0000000004-abc-0002-cc", 2, 8)
    other = data_file("0000000007-def-0000-dd", 10, 12)
    runs = {run.files for run in runs_of([other, batch, *one])}
    assert runs == {tuple(one), (batch,), (other,)}


def test_runs_of_orphans_leave_full_files_out() -> None:
    small, full = (data_file(f"0000000004-abc-{rows}-aa", 1, 5, "orphans", rows) for rows in (499_999, 500_000))
    assert [run.files for run in runs_of([small, full])] == [(small,)]
