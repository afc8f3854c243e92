"""The documentation builds without a warning, and the notebooks, which are its tutorials, run with it."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from commandtree import leaves

import ztfmatch
from ztfmatch import documentation
from ztfmatch.core.schema import Table

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.timeout(600)  # the site is built once, with six notebooks, one after the other
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@dataclass(frozen=True)
class Site:
    """A build of the documentation."""

    place: Path
    temporary: Path
    """The temporary directory that the notebooks had."""
    exit_code: int
    output: str

    def page(self, name: str) -> str:
        """HTML of a page."""
        return (self.place / f"{name}.html").read_text()

    def complaint(self) -> str:
        """Output of the build, and what notebooks wrote to their standard error."""
        pages = "".join(page.read_text() for page in self.place.glob("tutorials/*.html"))
        return "\n".join([self.output, *re.findall(r'<div class="output stderr.*?</div>', pages, re.DOTALL)])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    place, temporary = tmp_path_factory.mktemp("site") / "html", tmp_path_factory.mktemp("temporary")
    environment = os.environ | {"TMPDIR": str(temporary), "IPYTHONDIR": str(temporary / "ipython")}
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "docs", str(place)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    return Site(place, temporary, done.returncode, done.stdout + done.stderr)


def test_site_builds_without_a_warning(site: Site) -> None:
    """A notebook that fails, or writes to its standard error, is one; so is a cross reference that leads nowhere."""
    assert site.exit_code == 0, site.complaint()


@each_notebook
def test_notebook_draws(site: Site, path: Path) -> None:
    assert re.search(r'<img[^>]* src="\.\./_images/[0-9a-f]+\.png"', site.page(f"tutorials/{path.stem}"))


def test_notebooks_leave_nothing_behind(site: Site) -> None:
    assert [*site.temporary.glob("ztfmatch-*")] == []


def test_reference_has_every_command_and_public_name(site: Site) -> None:
    commands, python = site.page("reference/commands"), site.page("reference/api")
    assert [name for name in leaves() if f'id="ztfmatch-{name.replace(" ", "-")}"' not in commands] == []
    documented = [name for name in ztfmatch.__all__ if name != "TABLES"]  # its pages are reference/tables, released
    assert [name for name in documented if not re.search(rf'id="ztfmatch\.(core\.errors\.)?{name}"', python)] == []


@pytest.mark.parametrize(
    ("page", "tables"), [("tables", documentation.tables()), ("released", documentation.released())]
)
def test_reference_has_every_column_as_it_is_declared(site: Site, page: str, tables: list[Table]) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", site.page(f"reference/{page}")))
    columns = [column for table in tables for column in table.columns]
    assert [column.name for column in columns if f"{column.name}\n" not in text] == []
    assert [column.name for column in columns if column.description not in text] == []


@each_notebook
def test_notebook_is_valid_and_has_no_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)


@each_notebook
def test_notebook_is_a_tutorial(path: Path) -> None:
    assert (PROJECT / "docs" / "tutorials" / path.name).resolve() == path
    assert f"\ntutorials/{path.stem}\n" in (PROJECT / "docs" / "index.md").read_text()
