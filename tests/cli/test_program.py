"""Defaults from a file and the environment, and completion."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import call, done, report


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("ZTFMATCH_CONFIG", str(path))
    return path


def stars(place: Path, *arguments: object) -> int:
    small = ("--fields", "679", "--rcids", "16", "--filter", "zg", "--visits", "1", "--no-truth")
    done("simulate", place, *small, *arguments)
    (catalog,) = (place / "references").rglob("*.fits*")
    return catalog.stat().st_size


def test_file_environment_and_command_line_in_order(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("[simulate]\nstars = 50\n")
    of_file, of_line = stars(tmp_path / "a"), stars(tmp_path / "b", "--stars", 400)
    assert of_file < of_line
    monkeypatch.setenv("ZTFMATCH_SIMULATE_STARS", "400")
    assert stars(tmp_path / "c") == of_line
    assert stars(tmp_path / "d", "--stars", 50) == of_file


def test_defaults_are_of_every_command_that_has_the_option(config: Path, tmp_path: Path) -> None:
    config.write_text('[defaults]\nmemory = "nonsense"\n')
    assert "'nonsense' is not a size" in call("statistics", tmp_path / "none").output
    assert call("schema").exit_code == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[appendd]\nworkers = 1\n", "[appendd] is not a command"),
        ("[append]\nworker = 1\n", "[append] worker: the command has no such option"),
        ("[defaults]\nworker = 1\n", "[defaults] worker: no command has such an option"),
        ("[view.delta]\nnothing = 1\n", "[delta] nothing: the command has no such option"),
        ("[append\n", "config.toml"),
        ('[query]\ncolumns = ["ra", "dec"]\n', "[query] columns is ['ra', 'dec']; expected one value"),
        ("[append]\nworkers = 1.5\n", "[append] workers is 1.5; expected a whole number"),
        ("[defaults]\nworkers = true\n", "[defaults] workers is true; expected a whole number"),
    ],
)
def test_file_with_what_is_no_option_is_refused(config: Path, text: str, complaint: str) -> None:
    config.write_text(text)
    result = call("schema")
    assert result.exit_code == 2
    assert complaint in result.output
    assert call("--help").exit_code == 0


def test_one_value_is_a_list_of_it_where_an_option_may_be_repeated(config: Path, tmp_path: Path) -> None:
    config.write_text('[append]\nfrom-file = "nowhere.txt"\n')
    assert "'nowhere.txt' does not exist" in call("append", tmp_path).output


def test_variable_that_is_no_option_s_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZTFMATCH_APPEND_WORKER", "ZTFMATCH_SCHEMA_JSON", "ZTFMATCH_STORE", "ZTFMATCH_VIEW_DELTA_NOTHING"):
        monkeypatch.setenv(name, "1")
    result = call("schema")
    assert result.exit_code == 0
    assert [line.split("; ")[0] for line in result.stderr.splitlines()] == [
        f"ztfmatch: ZTFMATCH_{name} is set, and no option has this variable"
        for name in ("APPEND_WORKER", "VIEW_DELTA_NOTHING")
    ]
    assert "did you mean ZTFMATCH_APPEND_WORKERS?" in result.stderr
    assert call("--help").stderr == ""


def test_value_that_is_wrong_says_where_it_comes_from(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('[query]\nlimit = "x"\n')
    assert "'x' is not a valid integer range. It comes from the file of defaults." in call("query", tmp_path).output
    monkeypatch.setenv("ZTFMATCH_QUERY_LIMIT", "y")
    assert "'y' is not a valid integer range. It comes from ZTFMATCH_QUERY_LIMIT." in call("query", tmp_path).output
    assert "comes from" not in call("query", tmp_path, "--limit", "z").output


def test_missing_file_is_refused(config: Path) -> None:
    assert "there is no such file" in call("schema").output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_or_installed(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = done("completion", shell)
    assert "_ZTFMATCH_COMPLETE" in script
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    path = Path(report("completion", shell, "--install")["path"])
    assert path.is_relative_to(tmp_path)
    assert path.read_text().strip() == script.strip()
    assert ("fpath" in done("completion", shell, "--install")) == (shell == "zsh")
