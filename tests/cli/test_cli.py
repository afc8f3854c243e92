"""The command line: help, exit codes, JSON, and what it prints for people."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commandline import SMALL, Scene, call, done, report
from commandtree import leaves
from widths import check_fits, on_terminal

import ztfmatch
from ztfmatch import plot
from ztfmatch.cli import main
from ztfmatch.cli.common import counted, size_text
from ztfmatch.cli.paramtypes import Size
from ztfmatch.core.io.storefile import FORMAT_VERSION
from ztfmatch.core.operations.appendreport import AppendReport
from ztfmatch.core.operations.init import InitReport
from ztfmatch.core.operations.statistics import StatisticsReport
from ztfmatch.core.operations.status import Status
from ztfmatch.core.operations.verify import VerifyReport
from ztfmatch.core.schema import TABLES
from ztfmatch.demo import DemoReport
from ztfmatch.simulate.dataset import SimulationSummary

COMMANDS = sorted(leaves())
WITH_RESOURCES = ("append", "demo", "init", "statistics", "verify")


def names(kind: type) -> set[str]:
    """Fields of a dataclass: the documented keys."""
    return {field.name for field in dataclasses.fields(kind)}


def failure(*arguments: object, code: int) -> str:
    """The one line on standard error of a command that must fail."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ztfmatch: ")
    return lines[0]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program itself, in a process of its own."""
    words = [sys.executable, "-m", "ztfmatch", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **options)


HEAVY = {"astropy", "distributed", "matplotlib", "numba", "pandas"}


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_of_command_has_example_and_explains_every_option(self, command: str) -> None:
        text = done(*command.split(), "--help")
        assert re.search(rf"Examples?:\n +ztfmatch {command}\b", text)
        for option in leaves()[command].params:
            if isinstance(option, click.Option):
                assert option.help, option.name
                assert option.help.endswith((".", ")")), option.help
                assert option.opts[0] in text

    def test_help_of_program_lists_commands_in_order_of_work_and_exit_codes(self) -> None:
        text = done("--help")
        listed = re.findall(r"^  (\w+)  ", text[text.index("Commands:") :], re.MULTILINE)
        assert sorted(listed) == sorted(main.commands)
        assert listed[:2] == ["init", "append"]
        assert "Exit codes: 0 success" in text
        assert "..." not in text[text.index("Commands:") :]
        for name, group in main.commands.items():
            if isinstance(group, click.Group):
                below = done(name, "--help")
                assert "..." not in below[below.index("Commands:") :], name
        assert text == done("help")
        assert done("help", "view", "delta") == done("view", "delta", "--help")

    @pytest.mark.parametrize("command", WITH_RESOURCES)
    def test_help_of_operation_offers_workers_scheduler_cluster_and_memory(self, command: str) -> None:
        text = done(command, "--help")
        assert all(option in text for option in ("--workers", "--scheduler", "--cluster", "--memory"))
        assert "ztfmatch[slurm]" in text

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_json(self, command: str) -> None:
        assert "--json" in done(*command.split(), "-h")

    def test_version_is_the_package_s(self) -> None:
        assert done("-V") == done("--version") == f"ztfmatch, version {ztfmatch.__version__}\n"

    @pytest.mark.parametrize("command", ["status", "history", "schema", "query", "lightcurve"])
    def test_commands_that_read_load_no_compiler_and_no_dask(
        self, command: str, scene: Scene, star: dict[str, Any]
    ) -> None:
        """A third of the time that they take is numba's, if they do."""
        more = {"query": ["--limit", 3], "lightcurve": ["--objectid", star["objectid"]]}
        words = [command, *map(str, [] if command == "schema" else [scene.store, *more.get(command, [])])]
        code = f"from ztfmatch.cli import main\nimport sys\nmain({words}, standalone_mode=False)\n"
        code += f"print(*sys.modules.keys() & {HEAVY}, file=sys.stderr)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ended.stderr.split() == []


class TestReports:
    def test_simulate_reports_what_it_wrote(self, tmp_path: Path) -> None:
        summary = report("simulate", tmp_path / "sky", *SMALL, "--no-truth", "--stars", 20)
        assert summary.keys() == names(SimulationSummary)
        assert summary["catalogs"] == len([*(tmp_path / "sky").rglob("*_psfcat.fits")]) == 4
        assert not (tmp_path / "sky" / "truth").exists()

    def test_init_again_says_that_it_was_done(self, scene: Scene) -> None:
        again = report("init", scene.store, "--references", scene.sky / "references")
        assert again.keys() == names(InitReport)
        assert again["already_done"] is True
        assert "made of these references before" in done("init", scene.store, "-r", scene.sky / "references")

    def test_append_twice_says_nothing_new(self, copied: Scene) -> None:
        again = report(*copied.append)
        assert again.keys() == names(AppendReport)
        assert (again["committed"], again["exposures"], again["known"]) == (False, 0, 4)
        assert done(*copied.append).startswith("Nothing new in 4 catalogs; the store stays at snapshot 2.\n")

    def test_append_counts_add_up(self, scene: Scene, tmp_path: Path) -> None:
        done("init", tmp_path / "new", "--references", scene.sky / "references")
        text = done("append", tmp_path / "new", scene.sky / "catalogs", "--note", "first")
        counts = re.search(r"(\d+) rows = (\d+) matched \+ (\d+) orphans \+ (\d+) rejected", text)
        assert counts is not None
        rows, *parts = map(int, counts.groups())
        assert rows == sum(parts) > 0
        assert ztfmatch.open_store(tmp_path / "new").commits()[-1].note == "first"

    def test_append_without_reference_names_the_unit(self, scene: Scene, tmp_path: Path) -> None:
        done("simulate", tmp_path / "other", *SMALL, "--rcids", 29, "--visits", 1, "--stars", 20)
        done("init", tmp_path / "store", "--references", scene.sky / "references")
        text = done("append", tmp_path / "store", tmp_path / "other" / "catalogs")
        assert "No reference yet, so that all rows are orphans: 1 unit, " in text

    def test_statistics_again_says_up_to_date(self, copied: Scene) -> None:
        again = report("statistics", copied.store)
        assert again.keys() == names(StatisticsReport)
        assert again["committed"] is False
        assert done("statistics", copied.store) == "All statistics are up to date; the store stays at snapshot 2.\n"

    def test_verify_reports_every_check(self, scene: Scene) -> None:
        verified = report("verify", scene.store, "--deep")
        assert verified.keys() == names(VerifyReport)
        assert verified["passed"] is True
        text = done("verify", scene.store)
        assert all(check["check"] in text for check in verified["checks"] if "--deep" not in check["proves"])
        assert "FAILED" not in text
        assert "All checks passed: snapshot 2, 4 exposures" in text

    def test_verify_of_first_snapshot_sees_no_exposure(self, scene: Scene) -> None:
        assert report("verify", scene.store, "--snapshot", 0)["exposures"] == 0

    def test_status_shows_every_figure(self, scene: Scene) -> None:
        state = report("status", scene.store)
        assert state.keys() == names(Status)
        assert (state["exposures"], state["statistics"]) == (4, "up to date")
        text = done("status", scene.store)
        for name, value in state.items():
            if isinstance(value, int | str):
                assert re.search(rf"^{name.replace('_', ' ')} +{value if isinstance(value, str) else f'{value:,}'}$",
                                 text, re.MULTILINE)  # fmt: skip
        assert all(table["table"] in text for table in state["tables"])

    def test_status_plot_draws_a_map_beside_the_figures(self, scene: Scene, tmp_path: Path) -> None:
        result = call("status", scene.store, "--plot", tmp_path / "map.png", "--json")
        assert (result.exit_code, json.loads(result.stdout)["exposures"]) == (0, 4)
        assert f"wrote {tmp_path / 'map.png'}" in result.stderr
        assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
        assert "nothing to draw" in failure(
            "status", scene.store, "--snapshot", 0, "--plot", tmp_path / "0.png", code=2
        )

    def test_status_of_older_snapshot_is_of_that(self, scene: Scene) -> None:
        assert report("status", scene.store, "--snapshot", 0)["detections"] == 0

    def test_quarantine_lists_the_file_and_the_reason_until_it_is_mended(self, scene: Scene, tmp_path: Path) -> None:
        store, night = tmp_path / "store", tmp_path / "night"
        done("init", store, "--references", scene.sky / "references")
        assert done("quarantine", store) == "No file is in quarantine.\n"
        good, other = sorted(scene.sky.rglob("*_psfcat.fits"))[:2]
        night.mkdir()
        shutil.copy(other, night)
        bad = night / good.name
        bad.write_bytes(good.read_bytes()[:3000])
        assert "Quarantined: 1 file\n" in done("append", store, night)
        (entry,) = report("quarantine", store)
        assert entry["source"].endswith(good.name)
        listed = done("quarantine", store)
        assert good.name in listed
        assert f"{entry['code']}: {entry['reason']}" in listed
        shutil.copy(good, bad)
        done("append", store, night)
        assert report("quarantine", store) == []


class TestSchema:
    @pytest.mark.parametrize("table", TABLES)
    def test_schema_of_table_has_every_column(self, table: str) -> None:
        columns = TABLES[table].columns
        text, markdown = done("schema", table), done("schema", table, "--markdown")
        assert len(text.rstrip().splitlines()) == 3 + len(columns)
        for column in columns:
            assert re.search(rf"^{column.name} .*{re.escape(column.description)}", text, re.MULTILINE), column.name
            assert f"\n| `{column.name}` | " in markdown
        (described,) = report("schema", table)
        assert [column["name"] for column in described["columns"]] == [column.name for column in columns]

    def test_schema_without_table_has_all(self) -> None:
        assert [table["table"] for table in report("schema")] == list(TABLES)

    def test_schema_of_unknown_table_names_those_there_are(self) -> None:
        assert "no table 'sources'; there are: exposures" in failure("schema", "sources", code=2)


class TestLightcurve:
    def test_objectid_gives_its_epochs_in_order_of_time(self, scene: Scene, star: dict[str, Any]) -> None:
        epochs = report("lightcurve", scene.store, "--objectid", star["objectid"])
        assert {epoch["objectid"] for epoch in epochs} == {star["objectid"]}
        times = [epoch["hmjd"] for epoch in epochs]
        assert times == sorted(times)
        assert {"mag", "magerr", "catflags", "programid", "clrcoeff", "fid"} <= epochs[0].keys()

    def test_cone_gives_the_same_as_the_objectid(self, scene: Scene, star: dict[str, Any]) -> None:
        by_id = report("lightcurve", scene.store, "--objectid", star["objectid"])
        around = report("lightcurve", scene.store, "--cone", star["ra"], star["dec"], 2)
        assert report("lightcurve", scene.store, "--cone", star["ra"], star["dec"], "2arcsec") == around
        assert [epoch for epoch in around if epoch["objectid"] == star["objectid"]] == by_id

    def test_table_has_a_line_for_each_epoch(self, scene: Scene, star: dict[str, Any]) -> None:
        lines = done("lightcurve", scene.store, "--objectid", star["objectid"]).splitlines()
        assert lines[0].split()[:4] == ["objectid", "filter", "hmjd", "mag"]
        assert lines[1].split()[:3] == ["day", "mag", "mag"]
        assert len(lines) == 2 + len(report("lightcurve", scene.store, "--objectid", star["objectid"]))

    def test_formats_hold_the_same_rows(self, scene: Scene, star: dict[str, Any], tmp_path: Path) -> None:
        select = ("lightcurve", scene.store, "--objectid", star["objectid"])
        expected = report(*select)
        rows = list(csv.DictReader(io.StringIO(done(*select, "--format", "csv"))))
        assert [float(row["hmjd"]) for row in rows] == [epoch["hmjd"] for epoch in expected]
        for suffix in ("csv", "json", "parquet"):
            assert done(*select, "--output", tmp_path / f"star.{suffix}") == ""
        assert len((tmp_path / "star.csv").read_text().splitlines()) == 1 + len(expected)
        assert json.loads((tmp_path / "star.json").read_text()) == expected
        assert pq.read_table(tmp_path / "star.parquet")["hmjd"].to_pylist() == [epoch["hmjd"] for epoch in expected]

    def test_statistics_print_one_line_a_column(self, scene: Scene, star: dict[str, Any]) -> None:
        select = ("lightcurve", scene.store, "--objectid", star["objectid"], "--statistics")
        (expected,) = report(*select)
        lines = dict(line.split(maxsplit=1) for line in done(*select).splitlines() if " " in line)
        assert lines["nobs"] == str(expected["nobs"])
        assert lines["objectid"] == str(star["objectid"])
        assert len(done(*select, "-f", "csv").splitlines()) == 2

    @pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
    def test_plot_is_drawn_and_nothing_printed(
        self, scene: Scene, star: dict[str, Any], tmp_path: Path, suffix: str
    ) -> None:
        picture = tmp_path / f"star.{suffix}"
        done_with = call("lightcurve", scene.store, "--objectid", star["objectid"], "--plot", picture, "--period", 0.5)
        assert (done_with.exit_code, done_with.stdout) == (0, "")
        assert f"wrote {picture}" in done_with.stderr
        start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
        assert picture.read_bytes().startswith(start)

    def test_plot_of_a_cone_is_headed_by_what_was_asked(
        self, scene: Scene, star: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[Any] = []
        monkeypatch.setattr(plot, "plot_lightcurves", lambda epochs, path, options: drawn.append(options))
        place = (star["ra"], round(star["dec"], 3), 2.5)
        done("lightcurve", scene.store, "--cone", *place, "--plot", tmp_path / "star.png")
        done("lightcurve", scene.store, "--objectid", star["objectid"], "--plot", tmp_path / "star.png", "--period", 2)
        asked = f"Objects within 2.5 arcsec of RA {place[0]:.5f}  Dec {place[1]:+.5f}"
        assert [(options.title, options.period) for options in drawn] == [(asked, None), (None, 2.0)]

    def test_transients_are_headed_by_their_own_name(self, copied: Scene) -> None:
        assert report("transients", copied.store)["transients"] > 0
        (row, *_) = ztfmatch.open_store(copied.store).snapshot().table("transients").to_pylist()
        for select in (("--cone", row["ra"], row["dec"], 2, "--transients"), ("--objectid", row["transientid"])):
            assert done("lightcurve", copied.store, *select).split()[:2] == ["transientid", "filter"]
            epochs = report("lightcurve", copied.store, *select)
            assert {epoch["transientid"] for epoch in epochs} == {row["transientid"]}
        empty = call("lightcurve", copied.store, "--cone", 10, 10, 2, "--transients", "--statistics")
        assert (empty.exit_code, empty.stderr) == (0, "ztfmatch: no transient found\n")
        assert done("lightcurve", copied.store, "--cone", 10, 10, 2, "--transients", "-f", "csv").startswith(
            '"transientid"'
        )

    def test_empty_cone_is_no_error(self, scene: Scene) -> None:
        result = call("lightcurve", scene.store, "--cone", 10, 10, 2, "--json")
        assert (result.exit_code, result.stdout) == (0, "[]\n")
        near = "there is no object within half a degree, and no exposure covers the place"
        assert result.stderr == f"ztfmatch: no epoch found; {near}\n"

    def test_object_without_epochs_is_no_error(self, scene: Scene) -> None:
        snapshot = ztfmatch.open_store(scene.store).snapshot()
        seen = set(snapshot.table("detections")["objectid"].to_pylist())
        unseen = next(i for i in snapshot.table("objects")["objectid"].to_pylist() if i not in seen)
        assert report("lightcurve", scene.store, "--objectid", unseen) == []
        (row,) = report("lightcurve", scene.store, "--objectid", unseen, "--statistics")
        assert row["nobs"] == 0

    @pytest.mark.parametrize("unknown", [679205100005000, 679105109999999])
    def test_unknown_objectid_is_named(self, scene: Scene, star: dict[str, Any], unknown: int) -> None:
        line = failure("lightcurve", scene.store, "--objectid", star["objectid"], "--objectid", unknown, code=2)
        assert f"has no object {unknown} in snapshot 2" in line
        assert str(star["objectid"]) not in line

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("--objectid", 5), "5 is not an objectid"),
            (("--cone", 10, 100, 2), "declination 100.0 is outside -90..90"),
            (("--cone", 700, 10, 2), "right ascension 700.0 is outside"),
            (("--cone", 10, 10, 0), "radius 0.0 arcsec is outside"),
            (("--cone", 10, 10, "11deg", "--statistics"), "radius 39600.0 arcsec is outside (0, 36000]"),
            (
                ("--cone", 10, 10, "2min"),
                "radius '2min' is not an angle; expected something like 2deg, 3arcmin or 120arcsec",
            ),
            (("--cone", 10, 10, 1e6), "radius 1000000.0 arcsec is outside"),
            (("--cone", "nan", 10, 2), "right ascension nan is outside"),
            (("--cone", 10, 10, 2, "--snapshot", 99), "has no snapshot 99"),
        ],
    )
    def test_impossible_request_is_refused(self, scene: Scene, arguments: tuple[object, ...], complaint: str) -> None:
        assert complaint in failure("lightcurve", scene.store, *arguments, code=2)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ((), "Give one of --objectid, --star, --cone"),
            (("--objectid", 5, "--cone", 1, 1, 1), "Give one of --objectid, --star, --cone"),
            (("--objectid", "x"), "'x' is not a valid integer"),
            (("--cone", 1, 1), "requires 3 arguments. Expected: --cone RA DEC RADIUS."),
            ((679, 33, 2), "extra arguments (679 33 2). Did you mean --cone RA DEC RADIUS"),
            (("--objectid", 5, "--period", 1), "give it with --plot"),
            (("--objectid", 5, "--format", "parquet"), "needs --output FILE"),
            (("--objectid", 5, "--output", "x.txt"), "--output needs a name that ends in"),
            (("--objectid", 5, "--output", "nowhere/x.csv"), "directory 'nowhere' does not exist"),
            (("--objectid", 5, "--plot", "nowhere/x.png"), "directory 'nowhere' does not exist"),
            (
                ("--objectid", 5, "--plot", "x.gif"),
                "cannot draw to x.gif: expected a name that ends in .png, .pdf, .svg",
            ),
            (("--objectid", 5, "--json", "--format", "csv"), "contradict each other"),
        ],
    )
    def test_wrong_usage_exits_2(self, scene: Scene, arguments: tuple[object, ...], complaint: str) -> None:
        result = call("lightcurve", scene.store, *arguments)
        assert result.exit_code == 2
        assert complaint in result.stderr


READERS = [
    ("status",),
    ("quarantine",),
    ("statistics",),
    ("verify",),
    ("append", "x_psfcat.fits"),
    ("lightcurve", "--cone", "1", "1", "1"),
]


class TestFailures:
    @pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
    def test_missing_store_says_how_to_make_one(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        line = failure(command[0], tmp_path / "none", *command[1:], code=2)
        assert "no such store; make one with 'ztfmatch init'" in line

    @pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
    def test_directory_that_is_no_store_is_refused(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "file").touch()
        assert "is not a ztfmatch store" in failure(command[0], tmp_path, *command[1:], code=2)

    @pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
    def test_store_of_newer_version_asks_for_an_upgrade(self, copied: Scene, command: tuple[str, ...]) -> None:
        file = copied.store / "store.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"version": FORMAT_VERSION + 1}))
        line = failure(command[0], copied.store, *command[1:], code=2)
        assert f"has store format {FORMAT_VERSION + 1}" in line
        assert line.endswith("upgrade ztfmatch")

    def test_error_with_json_is_json(self, tmp_path: Path) -> None:
        result = call("status", tmp_path / "none", "--json")
        error = json.loads(result.stdout)
        assert (error["error"], error["exit"], result.exit_code) == ("StoreNotFoundError", 2, 2)
        assert result.stderr == f"ztfmatch: {error['message']}\n"

    def test_init_with_other_settings_is_refused(self, scene: Scene) -> None:
        line = failure("init", scene.store, "-r", scene.sky / "references", "--radius", 2, code=2)
        assert "other settings" in line

    def test_init_without_references_is_refused(self, tmp_path: Path) -> None:
        assert call("init", tmp_path / "new").exit_code == 2
        (tmp_path / "empty").mkdir()
        failure("init", tmp_path / "new", "-r", tmp_path / "empty", code=2)
        failure("init", tmp_path / "new", "-r", tmp_path / "none", code=2)
        assert not (tmp_path / "new" / "store.json").exists()

    def test_init_into_a_directory_of_something_else_is_refused(self, scene: Scene, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        line = failure("init", tmp_path, "-r", scene.sky / "references", code=2)
        assert f"{tmp_path} is not empty, and no store: choose a new or an empty place for one" in line
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    @pytest.mark.parametrize(
        "arguments",
        [("init", "ODD", "-r", "SKY"), ("status", "ODD"), ("append", "STORE", "ODD"), ("view", "delta", "STORE", "ODD"),
         ("query", "STORE", "--output", "ODD")],
    )  # fmt: skip
    def test_name_that_is_not_utf8_is_refused_in_one_line(
        self, scene: Scene, tmp_path: Path, arguments: tuple[str, ...]
    ) -> None:
        odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
        named = {"ODD": odd, "SKY": scene.sky / "references", "STORE": scene.store}
        line = failure(*(named.get(argument, argument) for argument in arguments), code=2)
        assert r"/caf\xe9' is not UTF-8: give it another, or a link of another" in line
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("radius", [0, -1, 4, "nan", 0.025, 0.000417])
    def test_init_with_radius_out_of_range_is_refused(self, scene: Scene, tmp_path: Path, radius: object) -> None:
        line = failure("init", tmp_path / "new", "-r", scene.sky / "references", "--radius", radius, code=2)
        assert "arcsec is outside 0.1..3.0" in line
        assert ("give it in arcseconds: 0.000417 degrees are 1.5012" in line) == (radius == 0.000417)

    def test_append_prints_warnings_with_their_files_and_strict_refuses_them(
        self, copied: Scene, tmp_path: Path
    ) -> None:
        done("init", tmp_path / "new", "--references", copied.sky / "references")
        command = ("append", tmp_path / "new", copied.sky / "catalogs")
        assert "4 of 4 new catalogs are of no program" in failure(*command, "--strict", code=1)
        result = report(*command)
        assert [(warning["code"], len(warning["files"])) for warning in result["warnings"]] == [("no-program", 4)]
        again = done(*command, "--exposures", copied.sky / "exposures.csv").splitlines()
        assert again[2].startswith("Warning: 4 of 4 known catalogs are of another program in the store, which stays")
        assert sorted(again[3:]) == sorted(f"  {path}" for path in (copied.sky / "catalogs").rglob("*.fits"))
        assert report(*copied.append, "--strict")["warnings"] == []

    def test_append_of_missing_or_empty_place_is_refused(self, scene: Scene, tmp_path: Path) -> None:
        assert "no such file or directory" in failure("append", scene.store, tmp_path / "none", code=2)
        assert done("append", scene.store, tmp_path).startswith(
            f"No catalogs (*_psfcat.fits) in {tmp_path}; the store stays at snapshot"
        )
        assert "_psfcat.fits in" in failure("append", scene.store, tmp_path, "--fail-if-empty", code=1)

    def test_append_with_strict_refuses_a_bad_catalog_and_changes_nothing(self, copied: Scene, tmp_path: Path) -> None:
        bad = tmp_path / next(copied.sky.rglob("*_psfcat.fits")).name.replace("c05", "c06")
        bad.write_bytes(b"not FITS")
        line = failure("append", copied.store, bad, "--strict", code=1)
        assert "--strict: 1 bad catalog" in line
        assert report("status", copied.store)["snapshot"] == 2

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (("--workers", 2, "--scheduler", "tcp://x:1"), "give it without --workers"),
            (("--cluster", "local", "--scheduler", "tcp://x:1"), "give one of them"),
            (("--memory", "1MB"), "--memory is 1000000; expected at least 512 MiB"),
            (("--cluster", "nowhere.toml"), "no cluster profile 'nowhere.toml'"),
        ],
    )
    @pytest.mark.parametrize("command", ["append", "demo"])
    def test_resources_that_contradict_are_refused_in_one_line(
        self, scene: Scene, tmp_path: Path, command: str, options: tuple[object, ...], complaint: str
    ) -> None:
        arguments = scene.append[1:] if command == "append" else [tmp_path / "demo"]
        assert complaint in failure(command, *arguments, *options, code=2)
        assert not (tmp_path / "demo").exists()

    @pytest.mark.parametrize(
        ("command", "options", "complaint"),
        [
            ("append", ("--wait", "0s"), "--wait is 0; expected above 0"),
            ("init", ("--seeds-per-tile", 0), "--seeds-per-tile is 0; expected at least 1"),
            ("calibrate", ("--cells", 1), "--cells is 1; expected 2 to 64"),
            ("calibrate", ("--min-epochs", 1), "--min-epochs is 1; expected at least 3"),
        ],
    )
    def test_setting_that_is_refused_is_named_by_its_option(
        self, scene: Scene, tmp_path: Path, command: str, options: tuple[object, ...], complaint: str
    ) -> None:
        (tmp_path / "ps1.parquet").touch()
        arguments = {
            "append": scene.append[1:],
            "init": (tmp_path / "new", "--references", scene.sky),
            "calibrate": (scene.store, "--ps1", tmp_path / "ps1.parquet", "--output", tmp_path / "set"),
        }
        assert failure(command, *arguments[command], *options, code=2) == f"ztfmatch: {complaint}"

    @pytest.mark.parametrize(
        "arguments",
        [(), ("nonsense",), ("append",), ("append", "x"), ("status",), ("status", "x", "--nonsense"),
         ("append", "x", "y", "--workers", "-1"), ("append", "x", "y", "--memory", "much"),
         ("append", "x", "y", "--exposures", "nowhere.csv"), ("simulate", "x", "--filter", "zz"),
         ("simulate", "x", "--fields", "a"), ("simulate", "x", "--stars", "0")],
    )  # fmt: skip
    def test_wrong_usage_exits_2(self, arguments: tuple[str, ...]) -> None:
        assert call(*arguments).exit_code == 2

    def test_simulate_into_a_full_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        failure("simulate", tmp_path, *SMALL, code=2)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_demo_in_a_directory_of_someone_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        assert "not of an earlier demo" in failure("demo", tmp_path, code=2)

    def test_store_that_cannot_be_written_is_one_line(self, scene: Scene, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = call("init", tmp_path / "file" / "new", "-r", scene.sky / "references")
        assert result.exit_code == 2
        assert f"'{tmp_path / 'file'}' is not a directory" in result.stderr


class TestDamage:
    def detections(self, scene: Scene) -> Path:
        return next((scene.store / "data" / "detections").rglob("*.parquet"))

    def test_verify_of_altered_value_exits_1_and_shows_it(self, copied: Scene) -> None:
        file = self.detections(copied)
        table = pq.read_table(file)
        mags = [value + 0.25 for value in table["mag"].to_pylist()]
        at = table.schema.get_field_index("mag")
        pq.write_table(table.set_column(at, table.schema.field("mag"), pa.array(mags, pa.float32())), file)
        result = call("verify", copied.store)
        assert result.exit_code == 1
        assert "FAILED" in result.output or result.stderr.startswith("ztfmatch: ")
        assert "All checks passed" not in result.output

    def test_verify_deep_of_altered_bytes_exits_1(self, copied: Scene) -> None:
        file = self.detections(copied)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        result = call("verify", copied.store, "--deep", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout).get("passed") is not True

    @pytest.mark.parametrize("damage", ["truncate", "remove"])
    def test_reader_of_damaged_file_exits_1(self, copied: Scene, star: dict[str, Any], damage: str) -> None:
        file = self.detections(copied)
        if damage == "remove":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:-100])
        line = failure("lightcurve", copied.store, "--objectid", star["objectid"], code=1)
        assert file.name in line


class TestProcess:
    def test_program_works_as_a_module_and_is_silent_on_standard_error(self, scene: Scene) -> None:
        process = run("append", *scene.append[1:], "-q")
        assert process.returncode == 0
        assert process.stdout.startswith("Nothing new in 4 catalogs")
        assert process.stderr == ""

    def test_newer_format_is_one_line_without_traceback(self, copied: Scene) -> None:
        file = copied.store / "store.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
        process = run("status", copied.store)
        assert process.returncode == 2
        assert process.stdout == ""
        assert len(process.stderr.splitlines()) == 1
        assert "Traceback" not in process.stderr

    def test_reader_that_leaves_the_pipe_is_no_traceback(self, scene: Scene) -> None:
        words = [sys.executable, "-m", "ztfmatch", "lightcurve", str(scene.store), "--cone", "247", "33", "20000"]
        command = " ".join(words) + " --format csv | head -1"
        process = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False)
        assert len(process.stdout.splitlines()) == 1
        assert "Traceback" not in process.stderr

    def test_progress_is_shown_on_a_terminal_only(self, scene: Scene, tmp_path: Path) -> None:
        reader, writer = pty.openpty()
        words = [sys.executable, "-m", "ztfmatch", "init", str(tmp_path / "new"), "-r", str(scene.sky / "references")]
        with ThreadPoolExecutor(1) as pool:
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=writer, text=True) as process:
                os.close(writer)
                reading = pool.submit(_all_of, reader)  # meanwhile: a terminal that nobody reads takes 10 s of bars
                output, _ = process.communicate(timeout=120)
            shown = reading.result()
        assert process.returncode == 0
        assert "1/1" in shown
        assert output.startswith("Store made. ")


def _all_of(reader: int) -> str:
    """What a terminal was sent; its end is an error on Linux."""
    shown = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:
            part = b""
        if not part:
            os.close(reader)
            return shown.decode()
        shown += part


class TestDemo:
    def test_demo_makes_a_store_that_verifies_and_can_be_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # what it advises to try writes there
        made = report("demo")
        assert made.keys() == names(DemoReport)
        assert made["verified"] is True
        assert all(Path(plot).read_bytes().startswith(b"\x89PNG") for plot in made["plots"])
        on_terminal(monkeypatch, 80)
        text = done("demo")
        check_fits(text, 80)
        assert [line for line in text.splitlines() if len(line) > 80 and "python -c" not in line] == []
        assert "5/5" in text
        tries = re.findall(r"^  ztfmatch (.*?)(?:   .*)?$", text.replace("\\\n     ", ""), re.MULTILINE)
        assert len(tries) == 7
        for words in tries:
            done(*words.split())


class TestParts:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("2GiB", 2 << 30), ("800MB", 800_000_000), ("1.5 g", 1_500_000_000), ("4096", 4096), ("512MiB", 512 << 20)],
    )
    def test_size_of_text(self, text: str, size: int) -> None:
        assert Size().convert(text, None, None) == size

    @pytest.mark.parametrize("text", ["", "much", "2XB", "1.2.3G", "-1G"])
    def test_size_of_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(click.BadParameter, match="is not a size"):
            Size().convert(text, None, None)

    @pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (20_100, "20.1 kB"), (3 * 10**12, "3.00 TB")])
    def test_size_text_has_a_unit(self, size: int, text: str) -> None:
        assert size_text(size) == text

    @pytest.mark.parametrize(("number", "text"), [(0, "0 tiles"), (1, "1 tile"), (2000, "2,000 tiles")])
    def test_counted_agrees_in_number(self, number: int, text: str) -> None:
        assert counted(number, "tile") == text


@pytest.mark.parametrize("name", ["note", "strict", "dry_run", "fail_if_empty", "as_json", "workers", "memory", "wait",
                                  "references", "radius", "seeds_per_tile", "polygon", "moc"])  # fmt: skip
def test_option_of_several_commands_is_the_same_in_all(name: str) -> None:
    found = [param for command in leaves().values() for param in command.params if param.name == name]
    facts = {(tuple(one.opts), type(one.type), one.default, one.multiple, one.required) for one in found}
    assert len(found) > 1
    assert len(facts) == 1
