"""The documentation: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import ztfmatch
from ztfmatch import documentation

project = "ztfmatch"
author = "The ztfmatch developers"
copyright = author  # noqa: A001
release = version = ztfmatch.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ztfmatch {release}"
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing.external"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
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


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("ztfmatch-tables", TablesDirective)
