"""The documentation: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import re
from typing import ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import ztfmatch
from ztfmatch import documentation
from ztfmatch.core import errors

project = "ztfmatch"
author = "The ztfmatch developers"
copyright = author  # noqa: A001
release = version = ztfmatch.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
smartquotes = False  # options begin with two hyphens
html_theme = "furo"
html_title = f"ztfmatch {release}"
html_static_path = ["static"]
html_css_files = ["wide.css"]

myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_output_stderr = "error"

HAVE_SECTIONS = ["open_store", "init_store", "check_catalogs", "forecast", "Store", "Snapshot", "TABLES"]
"""Of their own, in reference/api.md."""
ERRORS = [name for name in vars(errors) if name.endswith("Error")]
autodoc_default_options = {"exclude-members": ", ".join(HAVE_SECTIONS + ERRORS)}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_google_docstring = False
napoleon_use_ivar = True


class TablesDirective(SphinxDirective):
    """Sections of the tables of a store, or of a release, from their declaration."""

    has_content = False
    required_arguments = 0
    option_spec: ClassVar = {"of": lambda value: directives.choice(value, ("store", "release"))}

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown that ``ztfmatch schema`` prints."""
        tables = documentation.tables() if self.options.get("of", "store") == "store" else documentation.released()
        return self.parse_text_to_nodes("\n".join(map(documentation.as_markdown, tables)), allow_section_headings=True)


def literal(text: str) -> str:
    """The text with what reStructuredText takes for markup escaped."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def describe(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Make code blocks of the examples in a command's help, which sphinx-click gives as lines with a bar."""
    described = []
    for line in lines:
        example = re.match(r"\|  +(.+)", line)
        heading = re.match(r"\| (\S.*)", line)
        if heading:
            described += [literal(heading[1]), "", ".. code-block:: sh", ""]
        else:
            described.append(f"   {example[1]}" if example else literal(line))
    lines[:] = described


def describe_options(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Keep the help of options as it is written."""
    lines[:] = [line if re.match(r"\s*(\.\.|:\w+:)", line) else literal(line) for line in lines]


def setup(app: Sphinx) -> None:
    """Register the directive, and what is done to the help of commands."""
    app.add_directive("ztfmatch-tables", TablesDirective)
    app.connect("sphinx-click-process-description", describe)
    app.connect("sphinx-click-process-options", describe_options)
