"""What is told of catalogs beforehand is what an append then does with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import call, report
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at, table

import ztfmatch
from ztfmatch.core.survey import Unit

ROWS = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Good, known, bad, doubled, of a unit without reference, and a reference."""
    place = tmp_path / "night"
    place.mkdir()
    for number in range(3):
        epochal_file(place, ROWS, number)
    epochal_file(place, ROWS, 3, Unit(501, 3, 1), PROGRMID=None)
    bad = epochal_file(place, ROWS, 4)
    bad.write_bytes(bad.read_bytes()[:5000])
    epochal_file(place, rows_at([10.0, -0.1, 50.0], [20.0, 20.0, 95.0]), 5)
    (place / "again").mkdir()
    epochal_file(place / "again", ROWS, 2, MAGZP=25.5)
    return place


def test_check_says_what_append_then_does(night: Path, tmp_path: Path) -> None:
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, ROWS)])
    append(storage, sorted(night.glob("*.fits"))[:1])
    told = ztfmatch.check_catalogs(str(night), storage.root)
    assert told.snapshot == 1
    said = {one.source: one for one in told.catalogs}
    assert len(said) == told.usable + told.refused == 7
    done = append(storage, [night])
    faults = {row.source: (row.code, row.reason) for row in done.quarantined}
    ledger = {row["source"]: row for row in table(storage, "exposures").to_pylist()}
    assert {source: (one.verdict, one.reason) for source, one in said.items() if not one.usable} == faults
    assert sorted(fault for fault, _ in faults.values()) == ["conflict", "truncated"]
    new = {source for source, one in said.items() if one.verdict == "new"}
    assert new == {source for source, row in ledger.items() if row["commit"] == done.snapshot}
    assert done.known == sum(one.verdict == "known" for one in said.values()) == 1
    for source in new:
        one, row = said[source], ledger[source]
        assert (one.rows, one.rejected, one.programid) == (row["nrows"], row["nrejected"], row["programid"])
        assert one.obsmjd == row["obsmjd"]
        assert one.has_reference == (row["field"] == UNIT.field)
    assert {notice.code for notice in told.warnings} == {"no-program", "wrapped"} <= {n.code for n in done.warnings}


def test_check_without_a_store_tells_doubles_and_references(night: Path, tmp_path: Path) -> None:
    seeds = reference_file(tmp_path, ROWS)
    bad = reference_file(tmp_path, rows_at([10.0, 10.0], [20.0, 99.0]), Unit(502, 3, 1))
    told = ztfmatch.check_catalogs([str(night), str(seeds), str(bad)])
    said = {Path(one.source).name: one.verdict for one in told.catalogs if "again" not in one.source}
    assert said[seeds.name] == "reference"
    assert said[bad.name] == "positions"
    again = [one.verdict for one in told.catalogs if "again" in one.source]
    assert again == ["new"]  # in order of sources it is the first of its exposure
    assert sorted(said.values()) == ["conflict", "new", "new", "new", "new", "positions", "reference", "truncated"]
    assert told.store is told.snapshot is None
    assert all(one.has_reference is None for one in told.catalogs)


def test_check_command_prints_a_line_each_and_exits_1_for_the_bad(night: Path) -> None:
    result = call("catalog", "check", night)
    assert result.exit_code == 1
    assert len([line for line in result.stdout.splitlines() if line.startswith(("new", "conflict", "truncated"))]) == 7
    assert f"truncated: {'the file ends within its table header'}" in result.stdout
    assert result.stdout.endswith("7 catalogs: 5 usable, 2 refused.\n")
    good = sorted(night.glob("*.fits"))[:3]
    assert [one["verdict"] for one in report("catalog", "check", *good)["catalogs"]] == ["new"] * 3
    assert call("catalog", "check", night / "nothing").exit_code == 2


def test_check_of_a_directory_of_references_reads_them(tmp_path: Path) -> None:
    reference_file(tmp_path / "references", ROWS)
    assert [one["verdict"] for one in report("catalog", "check", tmp_path / "references")["catalogs"]] == ["reference"]
