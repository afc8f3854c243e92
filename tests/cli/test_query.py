"""The command query: what it prints and writes is what the interface gives."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from commandline import Scene, call, done

import ztfmatch
from ztfmatch import Query
from ztfmatch.cli.common import open_store

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
    assert done(*asked).split()[:5] == ["objectid", "filter", "ra", "dec", "medianmag"]
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
        (("--polygon", "a b"), "--polygon 'a b' are not numbers"),
        (("--cone", 1, 2, 3, "--box", 1, 2, 3, 4), "cone and box contradict each other"),
        (("--epochs", "mag < 3"), "a condition on epochs needs select 'lightcurves'"),
        (("--format", "parquet"), "--format parquet needs --output"),
        (("--columns", "nobs"), "objects have no column 'nobs'; select 'statistics' has it; there are"),
        (("--columns", "ra,dec,ra"), "column 'ra' is asked for more than once"),
        (("--where", "refmag >"), "where 'refmag >': it cannot be read"),
        (("--where", "status > 3"), "values of types string, int8 do not go together"),
        (("--where", "refmag > 'faint'"), "values of types float, string do not go together"),
        (("--where", "refmag == nan"), "no column 'nan'"),
        (("--select", "lightcurves", "--epochs", "nobs > 3"), "epochs 'nobs > 3': no column 'nobs'"),
        (("--cone", "nan", 0, 1), "right ascension nan is outside -360..360"),
        (("--cone", 0, 0, "inf"), "radius inf arcsec is outside (0, 648000]"),
        (("--cone", 0, 0, "181deg"), "radius 651600.0 arcsec is outside (0, 648000]"),
        (("--cone", 0, 0, "2x"), "radius '2x' is not an angle"),
        (("--cone", 0, 90.5, 1), "declination 90.5 is outside -90..90"),
        (("--box", 0, 1, 1, 0), "from declination 1.0 to 0.0; expected the southern one first"),
        (("--polygon", "1 2 3"), "a polygon of 3 numbers; expected pairs of RA and Dec, at least three"),
        (("--polygon", "1 2 1 2 361 2"), "right ascension 361.0 is outside"),
        (("--objectid", 5), "5 is not an objectid"),
        (("--objectid", 10**20), "expected integers of 64 bits"),
        (("--status", "lost"), "'lost' is not one of 'active', 'retired', 'any'"),
        (("--snapshot", 99), "has no snapshot 99; the newest is 2"),
        (("--output", "x.txt"), "--output needs a name that ends in .csv, .json, .parquet"),
        (("--output", "x.fits", "--format", "csv"), "--output x.fits and the format csv contradict each other"),
        (("--output", "x.csv", "--json"), "--output x.csv and the format json contradict each other"),
        (("--output", "nowhere/x.csv"), "directory 'nowhere' does not exist"),
    ],
)
def test_query_of_what_cannot_be_says_so_and_exits_with_2(scene: Scene, options: tuple[object, ...], said: str) -> None:
    result = call("query", scene.store, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "\n" not in result.stderr.strip() or "Error: " in result.stderr


def test_query_that_finds_nothing_says_so(scene: Scene) -> None:
    result = call("query", scene.store, "--where", "nobs > 10000")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing found" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("moc.fits", b"SIMPLE  =  T", "moc.fits is not a MOC"),
        ("moc.json", b'{"3": [99999]}', "moc.json is not a MOC: pixels 99999 to 99999 of order 3; expected 0..767"),
        ("moc.txt", b"", "moc.txt is an empty MOC"),
        ("ids.txt", b"99999999999999999999999", "ids.txt: expected objectids, one a line or a column 'objectid'"),
        ("ids.txt", b"\xff\xfe", "ids.txt: expected objectids"),
    ],
)
def test_query_of_a_file_that_is_none_says_so_in_one_line(
    scene: Scene, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    result = call("query", scene.store, "--moc" if name.startswith("moc") else "--objectids", tmp_path / name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", [(0, 0, 5), (360, 0, 5), (-360, 0, 5), (12, 90, 5), (12, -90, 5)])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_query_without_an_answer_gives_an_empty_file(
    scene: Scene, tmp_path: Path, place: tuple[int, ...], form: str
) -> None:
    output = tmp_path / f"none.{form}"
    result = call("query", scene.store, "--select", "statistics", "--cone", *place, "--output", output)
    assert result.exit_code == 0
    assert "nothing found" in result.stderr
    if form == "parquet":
        rows = pq.read_table(output)
        assert (rows.num_rows, rows.num_columns) == (0, 69)
    elif form == "csv":
        assert len(list(csv.reader(io.StringIO(output.read_text())))) == 1
    else:
        assert json.loads(output.read_text()) == []


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_query_that_fails_leaves_what_was_there(
    scene: Scene, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its rows."""
    output = tmp_path / f"x.{form}"
    output.write_text("old")

    def broken(*_: object) -> object:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr("ztfmatch.query.answer.Answer._lightcurves", broken)
    result = call("query", scene.store, "--select", "lightcurves", "--output", output, "--overwrite")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the disk is gone" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_query_to_a_pipe_writes_into_it_and_leaves_it_a_pipe(scene: Scene, tmp_path: Path, form: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(pipe.read_bytes)
        done("query", scene.store, "--output", pipe, "-f", form)
        content = got.result(30)
    done("query", scene.store, "--output", tmp_path / "file", "-f", form)
    assert content == (tmp_path / "file").read_bytes()
    assert pipe.is_fifo()
    result = call("query", scene.store, "--output", pipe, "-f", "parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is a pipe, into which Parquet cannot be written" in result.stderr
    assert pipe.is_fifo()


def test_query_to_a_link_writes_the_file_that_it_leads_to(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "x.csv").symlink_to(tmp_path / "there" / "y.csv")
    done("query", scene.store, "--output", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").is_symlink()
    assert (tmp_path / "there" / "y.csv").read_text().startswith('"objectid"')
    assert len(list((tmp_path / "there").iterdir())) == 1


def test_query_to_a_directory_that_is_gone_says_so(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is where a directory may not be written to."""
    (tmp_path / "there").mkdir()

    def removing(store: str) -> object:
        (tmp_path / "there").rmdir()
        return open_store(store)

    monkeypatch.setattr(sys.modules["ztfmatch.cli.query"], "open_store", removing)
    result = call("query", scene.store, "--output", tmp_path / "there" / "x.parquet")
    assert result.exit_code == 1
    assert result.stderr == f"ztfmatch: {tmp_path}/there/x.parquet cannot be written: No such file or directory\n"


def test_query_of_objectids_names_those_that_no_object_has(scene: Scene, star: dict[str, Any]) -> None:
    known, unknown = star["objectid"], [star["objectid"] + 9_000_000 + i for i in range(7)]
    asked = [word for number in (known, *unknown) for word in ("--objectid", number)]
    result = call("query", scene.store, *asked, "--json")
    assert result.exit_code == 2
    assert [row["objectid"] for row in json.loads(result.stdout)] == [known]
    named = ", ".join(map(str, unknown[:5]))
    assert result.stderr == f"ztfmatch: {scene.store} has no object {named} and 2 more in snapshot 2\n"


def test_query_of_a_retired_objectid_says_that_it_is(copied: Scene, star: dict[str, Any], tmp_path: Path) -> None:
    regenerated = shutil.copytree(copied.sky / "references", tmp_path / "references")
    for path in regenerated.rglob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[1].data["dec"] += 0.3 / 3600.0
    done("rematch", copied.store, "--references", regenerated)
    old = star["objectid"]
    rows = json.loads(done("query", copied.store, "--objectid", old, "--json"))
    assert [(row["objectid"], row["status"]) for row in rows] == [(old, "retired")]
    assert call("query", copied.store, "--objectid", old, "--status", "active").stderr.endswith("nothing found\n")
    place = ("--cone", star["ra"], star["dec"], 5)
    retired = json.loads(done("query", copied.store, "--status", "retired", *place, "--json"))
    assert old in [row["objectid"] for row in retired]
    told = call("query", copied.store, "--objectid", old, "--select", "lightcurves").stderr.splitlines()
    assert told[0] == "ztfmatch: nothing found"
    assert told[1] == f"ztfmatch: retired, without epochs: {old}; 'ztfmatch lineage' says what became of them"


def test_query_of_positions_names_those_without_an_object(scene: Scene, tmp_path: Path) -> None:
    (row,) = json.loads(done("query", scene.store, "--limit", 1, "--json"))
    (tmp_path / "stars.csv").write_text(f"name,ra,dec\nmine,{row['ra']},{row['dec']}\nnone,10,10\n")
    result = call("query", scene.store, "--positions", tmp_path / "stars.csv", "--radius", "1arcsec", "--json")
    (found,) = json.loads(result.stdout)
    assert (found["id"], found["objectid"]) == ("mine", row["objectid"])
    assert found["separation"] < 1e-6
    assert result.stderr == "ztfmatch: nothing within 1arcsec of none\n"
    table = done("query", scene.store, "--positions", tmp_path / "stars.csv", "--radius", 1).splitlines()
    assert table[0].split()[:4] == ["id", "separation", "objectid", "filter"]
    for columns in ("objectid", "objectid,id,separation", "id"):
        some = done("query", scene.store, "--positions", tmp_path / "stars.csv", "--radius", 1, "--columns", columns)
        assert some.splitlines()[0].split() == ["id", "separation", "objectid"]


def test_query_by_sexagesimal_place_and_by_name(scene: Scene, tmp_path: Path) -> None:
    (row,) = json.loads(done("query", scene.store, "--limit", 1, "--json"))
    place = SkyCoord(row["ra"], row["dec"], unit="deg")
    degrees = done("query", scene.store, "--cone", row["ra"], row["dec"], 5)
    assert done("query", scene.store, "--cone", *place.to_string("hmsdms", precision=4).split(), "5arcsec") == degrees
    assert done("query", scene.store, "--cone", *place.to_string("hmsdms", sep=":", precision=4).split(), 5) == degrees
    (tmp_path / "names.csv").write_text(f"name,ra,dec\nMy Star,{row['ra']},{row['dec']}\n")
    assert done("query", scene.store, "--name", "my star", 5, "--names", tmp_path / "names.csv") == degrees
    result = call("query", scene.store, "--name", "other", 5)
    assert result.exit_code == 2
    assert "give a table of names with --names FILE" in result.stderr


def test_query_of_an_empty_cone_tells_the_nearest_object_and_the_exposures(scene: Scene) -> None:
    (row,) = json.loads(done("query", scene.store, "--limit", 1, "--json"))
    said = call("query", scene.store, "--cone", row["ra"], row["dec"] + 0.001, 0.1).stderr
    assert said.startswith("ztfmatch: nothing found; the nearest is ")
    assert said.endswith("; exposures of the place: 4 in g\n")
