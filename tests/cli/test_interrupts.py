"""Signals that end a command: its exit code, one line on what stands, and a rerun that resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Scene, call, report

from ztfmatch.cli.interrupts import Interrupted, interruptible

CODES = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]

_ENDS_ITSELF = """
import os, signal, sys
import ztfmatch.core.tasks.match
from ztfmatch.core.tasks.match import match_group as real

def match_group(task):
    os.kill({pid}, signal.{name})
    signal.pause()

if __name__ == "__main__":
    import ending
    import ztfmatch.core.operations.append
    ztfmatch.core.operations.append.match_group = ending.match_group
    os.environ["ENDED"] = str(os.getpid())
    from ztfmatch.cli import main
    main(sys.argv[1:])
"""
"""The program, whose matching sends a signal to its main process and never returns."""


def run_until_signal(place: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    (place / "ending.py").write_text(_ENDS_ITSELF.format(pid='int(os.environ["ENDED"])', name=name))
    environment = {**os.environ, "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
    words = [sys.executable, str(place / "ending.py"), *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def empty(scene: Scene, tmp_path: Path) -> Path:
    """A store with objects alone."""
    where = tmp_path / "store"
    assert call("init", where, "--references", scene.sky / "references").exit_code == 0
    return where


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("name", "code"), CODES[:2])
def test_append_interrupted_in_a_task_says_what_stands_and_a_rerun_resumes(
    scene: Scene, empty: Path, tmp_path: Path, name: str, code: int, workers: int
) -> None:
    append = ("append", empty, *scene.append[2:], "--workers", workers, "-q")
    done = run_until_signal(tmp_path, name, *append)
    line = f"ztfmatch: interrupted by {name}: snapshot 0 of {empty} stands; the same command again resumes\n"
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line)
    assert report(*append[:-3])["snapshot"] == 1


def test_command_that_is_interrupted_before_there_is_a_snapshot_says_so(scene: Scene, tmp_path: Path) -> None:
    from click.testing import CliRunner

    import ztfmatch.core.operations.init
    from ztfmatch.cli import main

    def stop(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ztfmatch.core.operations.init, "inspect_all", stop)
        arguments = ["init", str(tmp_path / "new"), "--references", str(scene.sky / "references"), "--json"]
        result = CliRunner().invoke(main, arguments)
    line = f"interrupted by SIGTERM: {tmp_path / 'new'} has no snapshot yet; the same command again resumes"
    assert result.exit_code == 143
    assert result.stderr == f"ztfmatch: {line}\n"
    assert f'"message": "{line}", "exit": 143' in result.stdout


@pytest.fixture
def default_handlers() -> Iterator[dict[int, object]]:
    """Python's own handlers, as a command finds them; what another test imported may have set its own."""
    defaults = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    handlers = {**defaults, signal.SIGINT: signal.default_int_handler}
    before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    yield handlers
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("name", "code"), CODES)
def test_interruptible_signal_raises_and_handlers_are_as_before(
    name: str, code: int, default_handlers: dict[int, object]
) -> None:
    signum = signal.Signals[name]
    before = default_handlers[signum]
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(signum)
    assert (caught.value.name, caught.value.exit_code) == (name, code)
    assert signal.getsignal(signum) is before


def test_command_that_is_interrupted_while_it_is_loaded_says_so_in_one_line() -> None:
    code = """
import sys
from ztfmatch.__main__ import run

class Interrupting:
    def find_spec(name, *_):
        if name == "ztfmatch.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting)
run()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "ztfmatch: interrupted by SIGINT\n")


def test_interruptible_second_sigterm_does_not_interrupt_the_end() -> None:
    ended = []

    def work() -> None:
        with interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                ended.append("in order")

    with pytest.raises(Interrupted):
        work()
    assert ended == ["in order"]


def test_interruptible_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_interruptible_in_a_thread_leaves_signals_alone() -> None:
    seen = []

    def look() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
