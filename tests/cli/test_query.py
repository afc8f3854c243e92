"""The command query: what it prints and writes is what the interface gives."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from commandline import Scene, call, done

import ztfmatch
from ztfmatch import Query

WHERE = "nobs > 2 and refmag < 21"


@pytest.fixture(scope="module")
def rows(scene: Scene) -> list[dict[str, Any]]:
    found = ztfmatch.open_store(scene.store).snapshot().query(Query("statistics", WHERE)).to_arrow().to_pylist()
    assert len(found) > 10
    return found


def test_query_as_json_csv_and_parquet_has_the_same_rows(
    scene: Scene, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    asked = ("query", scene.store, "--select", "statistics", "--where", WHERE)
    ids = [row["objectid"] for row in rows]
    assert [row["objectid"] for row in json.loads(done(*asked, "--json"))] == ids
    assert [int(row["objectid"]) for row in csv.DictReader(io.StringIO(done(*asked, "-f", "csv")))] == ids
    done(*asked, "--output", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows
    done(*asked, "--output", tmp_path / "x.csv")
    assert len((tmp_path / "x.csv").read_text().splitlines()) == len(rows) + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.parquet"]


def test_query_prints_a_table_of_the_columns_and_rows_asked_for(scene: Scene, rows: list[dict[str, Any]]) -> None:
    asked = ("query", scene.store, "--select", "statistics", "--where", WHERE, "--limit", 3)
    assert done(*asked).split()[:5] == ["objectid", "fid", "ra", "dec", "medianmag"]
    lines = done(*asked, "--columns", "nobs, objectid").splitlines()
    assert lines[0].split() == ["nobs", "objectid"]
    assert [int(line.split()[1].replace(",", "")) for line in lines[1:]] == [row["objectid"] for row in rows[:3]]


def test_query_of_lightcurves_of_a_list_of_ids(scene: Scene, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(str(row["objectid"]) for row in rows[:4]))
    asked = ("query", scene.store, "--select", "lightcurves", "--objectids", tmp_path / "ids.txt", "--json")
    found = json.loads(done(*asked))
    assert len(found) == sum(row["nobs"] for row in rows[:4])
    clean = json.loads(done(*asked, "--epochs", "catflags == 0"))
    assert [row for row in found if row["catflags"] == 0] == clean


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "nosb > 3"), "where 'nosb > 3': no column 'nosb'; did you mean nobs"),
        (("--polygon", "a b"), "--polygon 'a b' are no numbers"),
        (("--cone", 1, 2, 3, "--box", 1, 2, 3, 4), "cone and box contradict each other"),
        (("--epochs", "mag < 3"), "a condition on epochs needs select 'lightcurves'"),
        (("--format", "parquet"), "--format parquet needs --output"),
        (("--columns", "nobs"), "objects have no column 'nobs'"),
    ],
)
def test_query_of_what_cannot_be_says_so_and_exits_with_2(scene: Scene, options: tuple[object, ...], said: str) -> None:
    result = call("query", scene.store, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_query_that_finds_nothing_says_so(scene: Scene) -> None:
    result = call("query", scene.store, "--where", "nobs > 10000")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing found" in result.stderr
