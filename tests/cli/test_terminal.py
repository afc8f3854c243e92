"""What people see: tables within the width of a terminal, whose ids, times and paths are whole."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from commandline import SMALL, Scene, call, done
from commandtree import leaves
from hypothesis import given
from hypothesis import strategies as st
from widths import check_fits, on_terminal

from ztfmatch.cli import main, rows
from ztfmatch.cli.terminal import table_lines
from ztfmatch.core.schema import TABLES
from ztfmatch.query.text import Layout, names_for_people, texts_of

COMMANDS: dict[str, Callable[[Scene, Any], tuple[object, ...]]] = {
    "status": lambda s, _: ("status", s.store),
    "verify": lambda s, _: ("verify", s.store, "--quiet"),
    "history": lambda s, _: ("history", s.store),
    "diff": lambda s, _: ("diff", s.store, 0, 1),
    "quarantine": lambda s, _: ("quarantine", s.store),
    "query objects": lambda s, _: ("query", s.store),
    "query statistics": lambda s, _: ("query", s.store, "--select", "statistics"),
    "query lightcurves": lambda s, _: ("query", s.store, "--select", "lightcurves"),
    "query columns": lambda s, _: ("query", s.store, "--columns", ",".join(TABLES["objects"].names)),
    "lightcurve": lambda s, star: ("lightcurve", s.store, "--objectid", star["objectid"]),
    "statistics of one": lambda s, star: ("lightcurve", s.store, "--objectid", star["objectid"], "--statistics"),
    "statistics of many": lambda s, star: ("lightcurve", s.store, "--cone", star["ra"], star["dec"], 200,
                                           "--statistics"),
    **{f"schema {name}": (lambda _s, _r, name=name: ("schema", name)) for name in TABLES},
}  # fmt: skip


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a terminal that commands believe to have."""
    on_terminal(monkeypatch, request.param)
    return int(request.param)


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_fit_the_terminal(scene: Scene, star: dict[str, Any], width: int, name: str) -> None:
    lines = done(*COMMANDS[name](scene, star)).splitlines()
    wide = [line for line in lines if len(line) > width]
    assert all(str(scene.store) in line or ": " in line for line in wide), wide  # a path, or a sentence


WITHOUT = [word for name in ("status", "median", "rms", "flatness") for word in ("--without", name)]
"""Criteria that simulated exposures have no values for."""


def writing(s: Scene, star: dict[str, Any], place: Path) -> tuple[tuple[object, ...], ...]:
    """Commands that change a store or write something, in an order in which each has something to do."""
    scope, units = place / "scope.toml", place / "units"
    ps1, audit, plan = s.sky / "truth" / "ps1.parquet", place / "audit.parquet", place / "plan.parquet"
    return (
        ("simulate", place / "sky", *SMALL),
        ("init", place / "new", "--references", s.sky / "references"),
        s.append,
        ("append", place / "new", s.sky / "catalogs", "--exposures", s.sky / "exposures.csv", "--units", units),
        ("work", units, "--share", "0/1"),
        ("finish", units),
        ("nightly", place / "new", s.sky / "catalogs"),
        ("catalog", "check", s.sky / "catalogs"),
        ("plan", "append", s.store, s.sky / "catalogs"),
        ("transients", s.store),
        ("statistics", s.store),
        ("link", s.store),
        ("stars", s.store),
        ("offsets", s.store),
        ("compact", s.store),
        ("history", s.store),
        ("diff", s.store, 1, 2),
        ("diff", s.store, 0, 2, "--objects"),
        ("lineage", s.store),
        ("repair", s.store),
        ("doctor", s.store),
        ("vacuum", s.store, "--keep", 1, "--dry-run"),
        ("rollback", s.store, 1, "--dry-run"),
        ("rematch", s.store, "--references", s.sky / "references", "--dry-run"),
        ("references", "select", s.store, "--nmin", 2, *WITHOUT),
        ("references", "flatness", s.store, "--ps1", ps1),
        ("references", "audit", s.store, "--ps1", ps1),
        ("references", "audit", s.store, "--ps1", ps1, "--output", audit, "--overwrite"),
        (
            "references",
            "plan",
            s.store,
            "--audit",
            audit,
            "--output",
            plan,
            "--retune",
            place / "loss.csv",
            "--overwrite",
            "--nmin",
            2,
            *WITHOUT,
        ),
        ("correct", s.store, "--none"),
        ("view", "delta", s.store, place / "delta"),
        ("view", "hats", s.store, place / "view"),
        ("publish", "init", scope),
        *(("publish", kind, s.store, place / kind, "--release", scope) for kind in ("hats", "objects", "bulk")),
        ("publish", "hats", s.store, place / "other", "--release", scope, "--dry-run"),
        ("publish", "tar", s.store, place / "x.tar", "--release", scope, "--cone", star["ra"], star["dec"], "1deg"),
        ("publish", "check", place / "bulk"),
        ("publish", "diff", place / "bulk", place / "bulk"),
        ("export", "kowalski", s.store, place / "exports"),
        ("exports", "list", place / "exports"),
        ("exports", "prune", place / "exports"),
        ("export", "matchfile", s.store, "-o", place / "one_match.pytable"),
        ("import", "matchfile", place / "imported", place / "one_match.pytable", "--create"),
        ("completion", "bash"),
    )


ELSEWHERE = {
    "calibrate": "cli/test_publish.py",
    "export corrections": "cli/test_publish.py",
    "publish tess": "cli/test_publish.py",
    "report": "photometry/test_report.py",
    "references page": "references/test_page.py",
    "load": "cli/test_kowalski_commands.py",
    "demo": "cli/test_cli.py",
}
"""Commands whose output is held to the width where it is made, and where that is."""


def test_output_of_every_command_is_looked_at(scene: Scene, star: dict[str, Any], tmp_path: Path) -> None:
    seen = {tuple(map(str, make(scene, star)[:2])) for make in COMMANDS.values()}
    seen |= {tuple(map(str, words[:2])) for words in writing(scene, star, tmp_path)}
    names = {" ".join(words) for words in seen} | {words[0] for words in seen}
    assert set(leaves()) - names == ELSEWHERE.keys()
    for name, module in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / module).read_text(encoding="utf-8")
        assert "check_fits(" in text, name


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", sorted(leaves()))
def test_help_fits_the_terminal(name: str, columns: int) -> None:
    shown = CliRunner().invoke(main, [*name.split(), "--help"], terminal_width=columns)
    assert shown.exit_code == 0
    lines = [line for line in shown.output.splitlines() if not re.match(r"    .*ztfmatch ", line)]  # to be copied
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [80, 120])
def test_what_commands_that_write_say_fits_the_terminal(
    copied: Scene, star: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """But for paths and sentences, which a terminal wraps and nothing in them is in columns."""
    on_terminal(monkeypatch, columns)
    for words in writing(copied, star, tmp_path / "made"):
        (tmp_path / "made").mkdir(exist_ok=True)
        text = done(*words)
        if words[0] != "completion":  # a script
            check_fits(text, columns)


def test_ids_and_times_are_whole(scene: Scene, star: dict[str, Any], width: int) -> None:
    history = done("history", scene.store)
    assert len(re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", history)) == len(json.loads(done("history", scene.store, "--json")))  # fmt: skip  # noqa: E501
    epochs = done("lightcurve", scene.store, "--objectid", star["objectid"]).splitlines()
    assert all(line.split()[0] == str(star["objectid"]) for line in epochs[2:])
    assert len({len(line) for line in epochs[2:]}) == 1  # in columns
    assert width - 30 < len(epochs[0]) <= width


def test_terminal_gets_forty_rows_and_is_told_of_the_others(scene: Scene, width: int) -> None:
    every = json.loads(done("query", scene.store, "--json"))
    result = call("query", scene.store)
    assert len(result.stdout.splitlines()) == 40 + 2
    more = re.search(r"and ([\d,]+) more rows, (\d+) more columns: --limit, --columns, --output", result.stderr)
    assert more is not None
    assert int(more[1].replace(",", "")) == len(every) - 40
    shown = result.stdout.splitlines()[0].split()
    assert int(more[2]) == len(every[0]) - len(shown)
    limited = call("query", scene.store, "--limit", 3)
    assert len(limited.stdout.splitlines()) == 3 + 2
    assert f"and {len(every) - 3:,} more rows" in limited.stderr
    assert "and 1 more row," in call("query", scene.store, "--limit", len(every) - 1).stderr
    assert width in (80, 120)


def test_wider_terminal_shows_more_columns_in_the_same_order(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []
    for columns in (40, 80, 120, 1000):
        monkeypatch.setattr(rows, "terminal_width", lambda columns=columns: columns)
        heads.append(done("query", scene.store, "--select", "lightcurves").splitlines()[0].split())
    assert heads[1][:6] == ["objectid", "filter", "hmjd", "mag", "magerr", "catflags"]
    assert [len(head) for head in heads] == sorted({len(head) for head in heads})
    assert len(heads[-1]) == 28  # all, with filter for fid


def test_pipe_gets_all_rows_one_a_line(scene: Scene) -> None:
    every = json.loads(done("query", scene.store, "--json"))
    assert len(done("query", scene.store).splitlines()) == len(every) + 2


@pytest.mark.parametrize("columns", [80, 120])
def test_real_terminal_has_its_own_width(scene: Scene, columns: int) -> None:
    """The flagship command in a process whose output is a terminal."""
    code = f"import os, sys; os.environ['COLUMNS'] = '{columns}'; from ztfmatch.cli import main; main()"
    first, second = pty.openpty()
    words = [sys.executable, "-c", code, "query", str(scene.store), "--select", "lightcurves", "--limit", "5"]
    with subprocess.Popen(words, stdout=second, stderr=subprocess.DEVNULL) as process:
        os.close(second)
        output = b""
        while piece := _read(first):
            output += piece
    os.close(first)
    assert process.returncode == 0
    lines = re.sub(rb"\x1b\[\d*m", b"", output).decode().splitlines()
    assert len(lines) == 5 + 2
    assert columns - 30 < max(map(len, lines)) <= columns


def _read(stream: int) -> bytes:
    try:
        return os.read(stream, 65536)
    except OSError:  # the other end is closed
        return b""


WORDS = st.text(st.sampled_from("abc-/:0123456789"), min_size=1, max_size=30)
CELLS = st.one_of(st.integers(), st.lists(WORDS, min_size=1, max_size=8).map(" ".join))


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5), st.integers(20, 150))
def test_words_of_a_table_are_never_broken(table: list[tuple[Any, ...]], columns: int) -> None:
    head, body = table_lines(["one", "two words", "three"], table, columns)
    words = " ".join([*head, *body]).split()
    for row in table:
        for cell in row:
            for word in (f"{cell:,}" if isinstance(cell, int) else cell).split():
                assert word in words
    if head:
        assert max(map(len, [*head, *body])) <= columns


def test_numbers_with_their_units_are_to_the_right_and_unknown_ones_with_them() -> None:
    rows = [("a", "5.3 s", 12, "2018-07-01"), ("b", "110.0 s", "-", "2018-07-02")]
    assert table_lines(["x", "took", "rows", "day"], rows, None)[1] == [
        "a    5.3 s    12  2018-07-01",
        "b  110.0 s     -  2018-07-02",
    ]


def test_table_without_room_is_blocks_of_lines_wrapped_at_words() -> None:
    head, body = table_lines(["what", "found"], [("place", "/a/" + 60 * "b"), ("packages", 10 * "astropy 8.0, ")], 60)
    assert not head
    assert body[1] == "found  /a/" + 60 * "b"
    assert max(map(len, body[3:])) <= 60
    assert body[-1].startswith("       ")


def test_value_wider_than_the_first_ones_is_whole() -> None:
    first, later = pa.table({"objectid": [1]}), pa.table({"objectid": [10**15]})
    assert list(Layout.of(first, ["objectid"]).lines(later)) == [str(10**15)]


def test_texts_have_the_decimals_that_mean_something() -> None:
    schema = TABLES["detections"].schema
    row = pa.table(
        {"hmjd": [58300.1234567], "mag": pa.array([None], pa.float32()), "ra": [float("nan")]},
        schema=pa.schema([schema.field("hmjd"), schema.field("mag"), schema.field("ra")]),
    )
    assert [texts_of(row, name) for name in ("hmjd", "mag", "ra")] == [["58300.123457"], [""], ["nan"]]
    assert texts_of(pa.table({"refsnr": [3.4, 84.475, -0.5]}), "refsnr") == ["3.40", "84.47", "-0.50"]
    assert texts_of(pa.table({"fid": [1, 2, 3, 9]}), "filter") == ["g", "r", "i", "9"]
    assert names_for_people("lightcurves", schema, all_of_them=False)[:2] == ["objectid", "hmjd"]


def test_stars_fit_the_terminal(copied: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    done("link", copied.store)
    monkeypatch.setattr(rows, "terminal_width", lambda: 80)
    lines = done("query", copied.store, "--select", "stars").splitlines()
    assert len(lines) == 40 + 2
    assert lines[0].split()[0] == "starid"
    assert max(map(len, lines)) <= 80
