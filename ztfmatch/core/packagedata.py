"""Tables in the package."""

from __future__ import annotations

import csv
import importlib.resources


def package_rows(name: str) -> list[dict[str, str]]:
    """Rows of a CSV table that the package holds."""
    text = (importlib.resources.files("ztfmatch") / "data" / name).read_text(encoding="ascii")
    return list(csv.DictReader(text.splitlines()))
