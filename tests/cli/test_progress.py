"""What is seen of a running command: lines where nobody looks, a record of each task, and another shell's view."""

from __future__ import annotations

import json
import logging
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from commandline import Scene, call
from commandtree import leaves

from ztfmatch.cli import progress, watching
from ztfmatch.cli.progress import how_far, progress_shown
from ztfmatch.cli.tasklog import Tally, logged, tallied
from ztfmatch.core.config import STARTING
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.progress import tracked
from ztfmatch.core.runner import Job, LoopExecutor, Runner, heartbeat
from ztfmatch.core.runner.heartbeat import Beat, beating, beats
from ztfmatch.core.runner.outcomes import log_outcome, reasons
from ztfmatch.core.tasks.staging import Outcome
from ztfmatch.query.answer import Answer


@pytest.mark.parametrize(
    ("done", "seconds", "failed", "text"),
    [
        ((0, 18_400), 0.0, 0, "matching: 0 of 18,400"),
        ((1_204, 18_400), 100.0, 2, "matching: 1,204 of 18,400, 2 failed, 12/s, 23.8 min left"),
        ((3, 10), 90.0, 0, "matching: 3 of 10, 30 s each, 3.5 min left"),
        ((10, 10), 5.0, 0, "matching: 10 of 10, 2/s"),
    ],
)
def test_how_far_says_rate_and_rest(done: tuple[int, int], seconds: float, failed: int, text: str) -> None:
    assert how_far("matching", done, seconds, failed) == text
    assert len(f"2026-01-31T23:59:00Z {text}") <= 100


def test_progress_off_a_terminal_is_a_line_every_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while one long task runs, and with the summary at the end."""
    said = threading.Event()
    echo = click.echo

    def heard(message: str, err: bool = False) -> None:
        echo(message, err=err)
        said.set()

    monkeypatch.setattr(progress, "LINE_S", 0.01)
    monkeypatch.setattr(click, "echo", heard)
    with progress_shown(quiet=False) as show:
        show("matching", 1, 3)
        log_outcome("matching", Outcome("tile-7", None, ValueError("no"), 12.3, 300 << 20, "node1:5"))
        assert said.wait(20)
    lines = capsys.readouterr().err.splitlines()
    first, end = lines[0], lines[-2:]
    assert first[:4].isdigit()
    assert " matching: 1 of 3, 1 failed, " in first
    assert end == ["1 tasks, 1 failed; most memory of a process 300 MiB; slowest:", "    12.3 s  matching tile-7"]


def test_first_line_of_progress_comes_when_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZTFMATCH_PROGRESS_S", raising=False)
    assert progress._first_s() == 1.0
    monkeypatch.setenv("ZTFMATCH_PROGRESS_S", "30")
    assert progress._first_s() == 30.0
    monkeypatch.setenv("ZTFMATCH_PROGRESS_S", "soon")
    with pytest.raises(click.UsageError, match="ZTFMATCH_PROGRESS_S is 'soon'; expected a number of seconds"):
        progress._first_s()


def test_line_leaves_the_wait_for_workers_to_those_who_wait() -> None:
    with tallied() as tally:
        current = progress._Current(tally)
        assert current.line() == ""
        current.show(STARTING, 0, 1)
        assert current.line() == ""
        current.show("matching", 0, 1)
        assert current.line().endswith(" matching: 0 of 1")


def test_progress_quiet_and_short_runs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with progress_shown(quiet) as show:
            show("matching", 0, 3)
            show("matching", 3, 3)
    assert capsys.readouterr().err == ""


def test_log_file_has_a_line_of_json_for_each_task(scene: Scene, tmp_path: Path) -> None:
    log, where = tmp_path / "log.jsonl", tmp_path / "store"
    init = ("init", where, "--references", scene.sky / "references", "--log-file", log)
    assert call(*init).exit_code == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    tasks = [record for record in records if record["event"] == "task"]
    assert tasks
    for task in tasks:
        assert task["outcome"] == "done"
        assert task["level"] == "info"
        assert task["peak_memory_bytes"] > 1 << 20
        assert task["seconds"] >= 0.0
        assert ":" in task["worker"]
        assert task.keys() == {
            "time",
            "level",
            "event",
            "job",
            "key",
            "outcome",
            "seconds",
            "peak_memory_bytes",
            "worker",
        }


def test_every_command_has_the_options_that_say_what_it_tells() -> None:
    for name, command in leaves().items():
        words = {word for param in command.params for word in param.opts}
        assert {"-q", "--quiet", "-v", "--verbose", "--log-file", "--log-level"} <= words, name


def test_verbose_says_each_task_and_where_an_error_arose(scene: Scene, tmp_path: Path) -> None:
    made = call("init", tmp_path / "store", "--references", scene.sky / "references", "-v")
    assert re.search(r"^ztfmatch: .+: done, [\d.]+ s, peak [\d,]+ MiB$", made.stderr, re.MULTILINE)
    failed = call("status", tmp_path / "none", "-v")
    assert failed.exit_code == 2
    assert "StoreNotFoundError" in failed.stderr
    assert "Traceback" in failed.stderr
    assert "Traceback" not in call("status", tmp_path / "none").stderr
    assert call("status", tmp_path / "store", "-q").exit_code == 0


def test_log_file_of_a_command_without_tasks_has_its_end_and_its_error(scene: Scene, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert call("schema", "detections", "--log-file", log).exit_code == 0
    assert call("status", tmp_path / "none", "--log-file", log).exit_code == 2
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["level"] for record in records] == ["info", "error"]
    assert re.search(r"schema ended after [\d.]+ s$", records[0]["message"])
    assert "StoreNotFoundError: " in records[1]["message"]


def test_log_level_error_has_what_failed_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with logged(log, "error"), tallied():
        log_outcome("matching", Outcome("good", 1))
        log_outcome("matching", Outcome("bad", None, OSError("disk full")))
        logging.getLogger("ztfmatch").warning("waiting")
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (record["key"], record["outcome"], record["error"]) == ("bad", "failed", "OSError: disk full")


def test_log_file_that_cannot_be_written_is_refused(scene: Scene, tmp_path: Path) -> None:
    result = call("init", tmp_path / "s", "--references", scene.sky / "references", "--log-file", tmp_path)
    assert result.exit_code == 2
    assert "is a directory" in result.stderr


def test_performance_report_is_dask_s(scene: Scene, tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    path, init = tmp_path / "report.html", ("init", tmp_path / "s", "--references", scene.sky / "references")
    assert call(*init, "--performance-report", path).exit_code == 2
    assert call(*init, "--workers", 1, "--performance-report", path).exit_code == 0
    assert "<html" in path.read_text()


Told = list[tuple[str, int, int]]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What commands tell of how far they are, whenever that would be shown."""
    said: Told = []

    @contextmanager
    def lines(_: Tally) -> Iterator[progress.Show]:
        yield lambda what, done, total: said.append((what, done, total))

    monkeypatch.setattr(progress, "_lines", lines)
    return said


WITHOUT = [word for name in ("status", "median", "rms", "flatness") for word in ("--without", name)]
"""Criteria that simulated exposures have no values for."""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("query", "{store}"), "searching tiles"),
        (("query", "{store}", "--select", "lightcurves"), "searching tiles"),
        (("lightcurve", "{store}", "--cone", "{ra}", "{dec}", "1deg"), "searching tiles"),
        (("lightcurve", "{store}", "--cone", "{ra}", "{dec}", "1deg", "--statistics"), "reading epochs of tiles"),
        (("view", "delta", "{store}", "{place}/delta"), "files of detections"),
        (("references", "select", "{store}", "--nmin", 2, *WITHOUT), "reading files of the ledger"),
        (("references", "plan", "{store}", "--nmin", 2, *WITHOUT), "reading files of the ledger"),
        (("vacuum", "{store}", "--keep", 1, "--grace-hours", 0), "deleting thousands of files"),
        (("plan", "append", "{store}", "{sky}/catalogs"), "listing catalogs"),
        (("plan", "rematch", "{store}", "{sky}/references"), "neighbours of tiles"),
        (("diff", "{store}", 0, 1), "comparing lists of files"),
    ],
)
def test_commands_without_tasks_tell_how_far_they_are(
    copied: Scene, star: dict[str, Any], tmp_path: Path, heard: Told, words: tuple[object, ...], what: str
) -> None:
    if words[0] == "vacuum":
        assert call("compact", copied.store, "--full").exit_code == 0
    places = {"store": copied.store, "sky": copied.sky, "place": tmp_path, "ra": star["ra"], "dec": star["dec"]}
    given = [str(word).format(**places) for word in words]
    result = call(*given)
    assert result.exit_code == 0, result.output
    mine = [(done, total) for name, done, total in heard if name == what]
    total = mine[0][1]
    assert total > 0
    assert mine[: total + 1] == [(done, total) for done in range(total + 1)]
    heard.clear()
    call(*given, "--quiet")
    assert heard == []


def test_commands_with_tasks_tell_of_these_alone(scene: Scene, tmp_path: Path, heard: Told) -> None:
    with progress_shown(quiet=False) as show:
        assert list(tracked([7], "beside them")) == [7]
        show("matching", 1, 1)
    assert heard == [("matching", 1, 1)]
    heard.clear()
    assert call("init", tmp_path / "store", "--references", scene.sky / "references").exit_code == 0
    assert not [what for what, *_ in heard if "deleting" in what]


def test_comparison_and_check_of_releases_tell_how_far_they_are(scene: Scene, tmp_path: Path, heard: Told) -> None:
    scope, made = tmp_path / "scope.toml", tmp_path / "bulk"
    assert call("publish", "init", scope).exit_code == 0
    assert call("publish", "bulk", scene.store, made, "--release", scope).exit_code == 0
    for words in (("check", made), ("diff", made, made)):
        assert call("publish", *words).exit_code == 0
    done = {what for what, number, total in heard if number == total > 0}
    assert done >= {"checksums of files", "columns of files", "counting rows of files", "reading files"}


@pytest.fixture
def own_interrupts() -> Iterator[None]:
    """Python's own answer to SIGINT, whatever another test imported: dask_jobqueue puts its own in place of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("own_interrupts")
def test_command_without_tasks_says_a_line_after_a_while_and_ends_when_interrupted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, echo = threading.Event(), click.echo

    def slow(*_: object) -> None:
        said.wait(20)
        signal.raise_signal(signal.SIGINT)

    def hear(text: str, err: bool = False) -> None:
        echo(text, err=err)
        said.set()

    monkeypatch.setattr(progress, "FIRST_S", 0.01)
    monkeypatch.delenv("ZTFMATCH_PROGRESS_S", raising=False)
    monkeypatch.setattr(click, "echo", hear)
    monkeypatch.setattr(Answer, "_objects", slow)
    result = call("query", scene.store)
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"\S+Z searching tiles: 0 of \d+", lines[0])
    assert lines[-1].startswith("ztfmatch: interrupted by SIGINT: snapshot ")
    assert result.exit_code == 130


def test_reasons_groups_errors_that_differ_in_names_and_numbers() -> None:
    many = [Outcome(f"tile-{i}", None, OSError(f"cannot write /store/data/{i}.parquet: 28")) for i in range(30)]
    other = Outcome("tile-99", None, ValueError("bad flux"))
    assert reasons([other, *many]) == (
        "tile-0 and 29 like it: OSError: cannot write /store/data/0.parquet: 28; tile-99: ValueError: bad flux"
    )


def test_reasons_names_the_most_frequent_and_counts_the_rest() -> None:
    failures = [Outcome(f"t{i}{j}", None, ValueError("abcdefgh"[i])) for i in range(8) for j in range(8 - i)]
    said = reasons(failures)
    assert said.startswith("t00 and 7 like it: ValueError: a; t10 and 6 like it: ValueError: b; ")
    assert said.endswith("; and 6 for 3 other reasons")


class TestBeats:
    def test_record_is_there_while_tasks_run_and_gone_after(self, tmp_path: Path) -> None:
        storage, beat = Storage.at(tmp_path), Beat("op", "matching", 10, done=4, started=time.time() - 20.0)
        with beating(beat, storage, every_s=0.01):
            while not (found := beats(storage)):
                pass
            assert (found[0].title, found[0].done, found[0].total) == ("matching", 4, 10)
        assert beats(storage) == []

    def test_short_job_has_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        puts: list[str] = []
        monkeypatch.setattr(Storage, "put", lambda _, path, *__: puts.append(path))
        with beating(Beat("op", "matching", 1), Storage.at(tmp_path)):
            pass
        assert puts == []

    def test_watch_says_how_far_running_and_killed_operations_are(
        self, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage, now = Storage.at(scene.store), time.time()
        running = Beat("running", "matching", 100, 50, 1, now - 100.0, now, "node1:5")
        killed = Beat("killed", "statistics", 100, 10, 0, now - 1000.0, now - 900.0, "node2:6")
        monkeypatch.setattr(watching.time, "sleep", lambda _: heartbeat_ends(storage, running))
        for beat in (running, killed):
            storage.put(heartbeat.paths.heartbeat(beat.operation_id), heartbeat.encode(heartbeat.asdict(beat)))
        result = call("status", scene.store, "--watch")
        storage.delete([heartbeat.paths.heartbeat("killed")])
        lines = result.stdout.splitlines()
        assert lines[0].startswith(
            "statistics: 10 of 100, 0.1/s, 15 min left; node2:6, silent for 15 min: it was killed"
        )
        assert lines[1].startswith("matching: 50 of 100, 1 failed, 0.5/s, 100 s left; node1:5, ")
        assert lines[2].startswith("statistics: ")
        assert len(lines) == 3
        assert call("status", scene.store, "--watch").stdout.startswith("No operation runs")

    def test_runner_counts_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Beat] = []
        monkeypatch.setattr(
            "ztfmatch.core.runner.jobs.beating", lambda beat, _: (seen.append(beat), beating(beat, None))[1]
        )
        Runner(LoopExecutor(), 1 << 30).run(Job("test", doubled, [Numbered(1), Numbered(2)], "op"))
        assert [(beat.done, beat.total, beat.failed) for beat in seen] == [(2, 2, 0)]


def heartbeat_ends(storage: Storage, beat: Beat) -> None:
    storage.delete([heartbeat.paths.heartbeat(beat.operation_id)])


class Numbered:
    def __init__(self, number: int) -> None:
        self.number, self.key = number, f"task-{number}"


def doubled(task: Numbered) -> dict[str, int]:
    return {"number": 2 * task.number}
