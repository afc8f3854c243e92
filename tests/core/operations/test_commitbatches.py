"""Very many catalogs: by groups of fields, a commit each; equal to one commit, resumed where it was broken off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import append, assert_same, epochal_file, make_store, reference_file, rows_at, sky_content, table
from hypothesis import given
from hypothesis import strategies as st

import ztfmatch.core.operations.append as module
import ztfmatch.core.tasks.inspect
from ztfmatch.core.config import AppendConfig
from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.commitbatches import portions_of
from ztfmatch.core.runner import Job, LoopExecutor, Outcome, Runner
from ztfmatch.core.survey import Unit, psfcat_name

UNITS = [Unit(field, 20, 2) for field in (500, 501, 502)]
ROWS = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 400)), unique=True), st.integers(1, 20))
def test_portions_of_hold_each_catalog_once_and_no_field_in_two_where_it_fits(
    named: list[tuple[int, int]], most: int
) -> None:
    names = [f"/d/{psfcat_name(Unit(field, 3, 1), 20190101000000 + n)}" for field, n in named] + ["/d/other.fits"]
    portions = portions_of(names, most)
    assert sorted(name for portion in portions for name in portion) == sorted(names)
    assert all(len(portion) <= most for portion in portions)
    for field in {field for field, _ in named}:
        mine = [portion for portion in portions if any(f"_{field:06d}_" in name for name in portion)]
        n = sum(one == field for one, _ in named)
        assert len(mine) == 1 or n > most
        assert len(mine) <= n // most + 2


def test_portions_of_a_large_field_are_in_order_of_time() -> None:
    names = [psfcat_name(Unit(7, 3, 1), 20190101000000 + n) for n in (5, 3, 4, 1, 2)]
    assert [list(one) for one in portions_of(names, 2)] == [sorted(names)[:2], sorted(names)[2:4], sorted(names)[4:]]


def test_portions_of_few_are_one_and_as_given() -> None:
    assert portions_of(["b", "a"], 2) == [["b", "a"]]
    assert portions_of([], 2) == [[]]


@pytest.fixture
def catalogs(tmp_path: Path) -> list[Path]:
    """Four nights of each of three fields at the same place; one file is none."""
    files = [epochal_file(tmp_path, ROWS, 4 * i + night, unit) for i, unit in enumerate(UNITS) for night in range(4)]
    files[5].write_bytes(b"junk")
    return files


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_store(tmp_path / "s", [reference_file(tmp_path, ROWS, unit) for unit in UNITS])


def test_append_by_portions_equals_one_commit(tmp_path: Path, storage: Storage, catalogs: list[Path]) -> None:
    whole = make_store(tmp_path / "whole", [reference_file(tmp_path, ROWS, unit) for unit in UNITS])
    one = append(whole, catalogs)
    many = append(storage, catalogs, catalogs_per_commit=5)
    assert_same(sky_content(storage), sky_content(whole))
    assert (one.snapshot, many.snapshot, commit_numbers(storage)) == (1, 3, [0, 1, 2, 3])
    for name in ("catalogs", "exposures", "known", "quarantined", "rows", "matched", "orphans", "rejected"):
        assert getattr(many, name) == getattr(one, name), name
    again = append(storage, catalogs, catalogs_per_commit=5)
    assert (again.committed, again.snapshot, again.known, again.exposures) == (False, 3, 11, 0)


class Breaking(LoopExecutor):
    """A loop that is broken off at the second matching."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["matchings"] = []

    def outcomes(self, job: Job) -> Iterator[Outcome]:
        if job.title == "matching":
            self.__dict__["matchings"].append(job)
            if len(self.__dict__["matchings"]) == 2:
                raise KeyboardInterrupt
        return super().outcomes(job)


def test_append_by_portions_broken_off_goes_on_and_inspects_nothing_again(
    tmp_path: Path, storage: Storage, catalogs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CATALOGS_PER_INSPECTION", 1)
    read: list[str] = []
    real = ztfmatch.core.tasks.inspect.read_epochal

    def counted(source: str, *arguments: Any) -> Any:
        read.append(source)
        return real(source, *arguments)

    monkeypatch.setattr("ztfmatch.core.tasks.inspect.read_epochal", counted)
    config = AppendConfig(catalogs_per_commit=5)
    with pytest.raises(KeyboardInterrupt):
        append_catalogs(storage, [str(path) for path in catalogs], config, Runner(Breaking(), 2 << 30))
    assert commit_numbers(storage) == [0, 1]
    assert sorted(read) == sorted(map(str, catalogs[:8]))
    read.clear()
    rows = ROWS.copy()
    rows["flux"] = 7.0
    epochal_file(tmp_path, rows, 7, UNITS[1])
    report = append(storage, catalogs, catalogs_per_commit=5)
    assert sorted(read) == sorted(map(str, [catalogs[5], catalogs[7], *catalogs[8:]]))
    assert (report.known, report.exposures, report.snapshot) == (4, 7, 3)
    assert table(storage, "detections")["psfflux"].to_pylist().count(7.0) == 3
    assert list(storage.list("staging/")) == []


def test_append_by_portions_of_which_none_can_be_used_is_an_error(storage: Storage, tmp_path: Path) -> None:
    junk = [tmp_path / psfcat_name(unit, 20190201000000) for unit in UNITS]
    for path in junk:
        path.write_bytes(b"junk")
    with pytest.raises(BadInputError, match="none of 3 catalogs can be used"):
        append(storage, junk, catalogs_per_commit=1)


def test_append_catalogs_per_commit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="catalogs_per_commit is 0; expected at least 1"):
        AppendConfig(catalogs_per_commit=0).validate()


def test_append_by_portions_that_fails_says_what_is_committed(
    storage: Storage, catalogs: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BadInputError, match="--strict: 1 bad catalogs; "):
        append(storage, catalogs, catalogs_per_commit=5, strict=True)
    assert commit_numbers(storage) == [0, 1]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("1 of 3 groups of fields are committed, the last as snapshot 1;")
