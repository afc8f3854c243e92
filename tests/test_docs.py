"""What the documentation says can be done is done here; what there is must be in it."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from commandtree import leaves

from ztfmatch.cli import main
from ztfmatch.core.config import Resources
from ztfmatch.core.runner import no_progress
from ztfmatch.demo import run_demo

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
DEPENDENCIES = PROJECT / "docs" / "explanation" / "dependencies.md"
DOCUMENTS = sorted(
    path for name in ("*.md", "docs/*/*.md", "docs/*.md", "jobs/*.md", "cluster/*.md", "tests/benchmarks/*.md")
    for path in PROJECT.glob(name)
)  # fmt: skip
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str
    line: int
    """Of its first line, from 1."""


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks of a Markdown text."""
    lines = text.splitlines()
    start, language = 0, ""
    for i, line in enumerate(lines):
        if not start and line.startswith("```"):
            start, language = i + 1, line[3:].strip()
        elif start and line == "```":
            yield Block(language, "\n".join(lines[start:i]), start + 1)
            start = 0


def commands(text: str) -> list[list[str]]:
    """Words of each ztfmatch command in a shell text, of several in one line too."""
    joined = text.replace("\\\n", " ")
    words = [part for line in joined.splitlines() for part in _parts(line)]
    found = []
    for part in words:
        names = [i for i, word in enumerate(part) if word == "ztfmatch" or word.endswith("/ztfmatch")]
        if names and all("=" in word for word in part[: names[0]]):
            found.append(part[names[0] + 1 :])
    return found


def _parts(line: str) -> list[list[str]]:
    """Words of each of the commands of a line, which && ; or | are between."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    between = itertools.groupby(lexer, lambda word: set(word) <= set(";&|") and bool(word))
    return [list(words) for is_operator, words in between if not is_operator]


def complaint(words: list[str]) -> str | None:
    """What is wrong with the command or its options, types and files aside."""
    if not words or words[0].startswith("-"):
        return None
    command: click.Command | None = main
    words = list(words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command, name = command.commands.get(words[0]), words.pop(0)
    if command is None:
        return f"no command {name}"
    context = click.Context(command, info_name=name, **main.context_settings)  # commands keep what -h is called first
    try:
        _, rest, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    return f"too many arguments: {rest}" if rest else None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demonstration has been run, as README tells its reader to."""
    place = tmp_path_factory.mktemp("reader")
    run_demo(place / "ztfmatch-demo", 1, Resources(), no_progress, lambda _: None)
    return place


def run_python(path: Path) -> dict[str, Any]:
    """Run the Python blocks of a document, from top to bottom, and give the names that they made."""
    namespace: dict[str, Any] = {}
    for block in blocks(path.read_text()):
        if block.language == "python":
            padded = "\n" * (block.line - 1) + block.text
            exec(compile(padded, str(path), "exec"), namespace)
    return namespace


WITH_PYTHON = [path for path in DOCUMENTS if "```python\n" in path.read_text()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Right catalog does not have a margin cache:RuntimeWarning")  # views.md says why
@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda path: str(path.relative_to(PROJECT)))
def test_python_of_document_runs_from_top_to_bottom(
    path: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    made = run_python(path)
    assert made["ztfmatch"].open_store("ztfmatch-demo/store").snapshot().status.detections > 0
    if path.name == "ask.md":  # one object, as each tool has it
        values = made["values"]
        assert sorted(values) == ["DuckDB", "LSDB", "Polars", "astropy", "deltalake", "pandas", "ztfmatch"]
        assert len(values["ztfmatch"]) > 20


def test_five_minutes_of_readme_run(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    section = README.read_text().split("\n## ")[2]
    assert section.startswith("Five minutes of use")
    for words in [words for block in blocks(section) if block.language == "sh" for words in commands(block.text)]:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (words, done.output)
        assert "nothing found" not in done.output
    assert Path("star.png").stat().st_size > 10_000


def elsewhere(words: list[str]) -> bool:
    """Whether a command is of files, skies or services that the demonstration does not have."""
    others = ("/data/", "kepler", "--sector", "footprint.fits", "stars.csv", "dr1", "load", "359")
    return any(other in word for word in words for other in others)


def typed(words: list[str]) -> list[str]:
    """Words of a command in one process."""
    at = words.index("--workers") if "--workers" in words else len(words)
    return words[:at] + words[at + 2 :]


OF_THE_DEMONSTRATION = {
    page: [words for block in blocks((PROJECT / "docs" / page).read_text()) if block.language == "sh"
           for words in commands(block.text)]
    for page in ("explanation/stars.md", "guides/ask.md", "guides/kowalski.md", "guides/releases.md")
} | {
    command: commands("\n".join(line for line in (leaves()[command].help or "").splitlines() if "  ztfmatch" in line))
    for command in ("lightcurve", "transients", "stars")
}  # fmt: skip


@pytest.mark.parametrize("place", OF_THE_DEMONSTRATION)
def test_commands_find_what_is_there_in_the_demonstration(
    place: str, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo / "ztfmatch-demo" / "store", tmp_path / "survey.store")
    monkeypatch.chdir(tmp_path)
    of_releases = blocks((PROJECT / "docs/guides/releases.md").read_text())
    Path("dr2.toml").write_text(next(block.text for block in of_releases if block.language == "toml"))
    assert CliRunner().invoke(main, ["transients", "survey.store"]).exit_code == 0
    asked = [typed(words) for words in OF_THE_DEMONSTRATION[place] if not elsewhere(words)]
    assert len(asked) > 1
    for words in asked:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (words, done.output)
        assert not re.search("(no .*|nothing) found", done.output), (words, done.output)
        Path("star.png").unlink(missing_ok=True)  # which the next plots anew


def test_readme_and_guides_have_python() -> None:
    assert {"README.md", "ask.md", "operate.md", "releases.md", "views.md"} <= {path.name for path in WITH_PYTHON}


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


@each_document
def test_commands_of_document_exist_with_their_options(path: Path) -> None:
    for block in blocks(path.read_text()):
        if block.language in ("sh", "bash", "console"):
            for words in commands(block.text):
                assert complaint(words) is None, f"{path.name}, line {block.line}: ztfmatch {shlex.join(words)}"


@pytest.mark.parametrize("command", sorted(leaves()))
def test_example_in_help_exists_with_its_options(command: str) -> None:
    text = leaves()[command].help or ""
    examples = commands("\n".join(line for line in text.splitlines() if line.strip().startswith("ztfmatch ")))
    assert examples
    for words in examples:
        assert complaint(words) is None, words


@pytest.mark.parametrize("command", sorted(leaves()))
def test_command_is_in_the_table_of_readme(command: str) -> None:
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|$", README.read_text(), re.MULTILINE)
    assert f"`{command}`" in ", ".join(rows).split(", ")


def test_table_of_readme_has_no_other_command() -> None:
    text = README.read_text()
    table = text[text.index("| to | commands |") : text.index("Every command has `--help`")]
    assert set(re.findall(r"`([a-z][a-z0-9 ]+)`", table)) == set(leaves())


@pytest.mark.parametrize("path", sorted((PROJECT / "docs").glob("*/*.md")), ids=lambda path: path.stem)
def test_page_is_in_the_index(path: Path) -> None:
    assert f"\n{path.parent.name}/{path.stem}\n" in (PROJECT / "docs" / "index.md").read_text()


def _project() -> dict[str, list[str]]:
    with (PROJECT / "pyproject.toml").open("rb") as stream:
        table = tomllib.load(stream)["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


REQUIREMENTS = sorted({one for listed in _project().values() for one in listed if not one.startswith("ztfmatch")})


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_dependency_is_documented_with_its_reason(requirement: str) -> None:
    name = re.split(r"[<>=!~ ;]", requirement)[0]
    rows = [line.strip("|").split("|") for line in DEPENDENCIES.read_text().splitlines() if line.startswith("|")]
    assert any(name in packages.strip().split(", ") and len(reason) > 5 for *_, packages, reason in rows)


@pytest.mark.parametrize("extra", [name for name in _project() if name])
@pytest.mark.parametrize("page", ["explanation/dependencies.md", "guides/installation.md"])
def test_extra_is_documented(extra: str, page: str) -> None:
    assert f"`{extra}`" in (PROJECT / "docs" / page).read_text()


@each_document
def test_links_of_document_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


class TestBlocks:
    TEXT = "a\n\n```python\nx = 1\ny = 2\n```\n\n```sh\nls\n```\n"

    def test_blocks_have_language_text_and_line(self) -> None:
        assert list(blocks(self.TEXT)) == [Block("python", "x = 1\ny = 2", 4), Block("sh", "ls", 9)]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("ztfmatch status s", [["status", "s"]]),
            ("python3 -m venv v && v/bin/ztfmatch demo", [["demo"]]),
            ("ztfmatch status s --json | jq .rows  # counts", [["status", "s", "--json"]]),
            ("A=b ztfmatch verify s \\\n  --deep", [["verify", "s", "--deep"]]),
            ("cd ztfmatch\npip install ztfmatch", []),
        ],
    )
    def test_commands_of_shell_text(self, text: str, words: list[list[str]]) -> None:
        assert commands(text) == words

    @pytest.mark.parametrize(
        ("text", "wrong"),
        [("append s c --nonsense", "No such option"), ("nonsense", "no command"), ("append s c -w 8 --strict", None),
         ("--version", None)],
    )  # fmt: skip
    def test_complaint_names_what_is_not_there(self, text: str, wrong: str | None) -> None:
        found = complaint(text.split())
        assert found is None if wrong is None else found is not None and wrong in found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_imports_public_names_alone(path: Path) -> None:
    """Of the package itself, and of the front of its rooms: what their ``__all__`` lists."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        code = "".join(line for line in cell["source"] if not line.startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ztfmatch"):
                assert (node.module or "").count(".") <= 1, node.module
                public = importlib.import_module(node.module or "").__all__
                assert {alias.name for alias in node.names} <= set(public)
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("ztfmatch.") for alias in node.names)
