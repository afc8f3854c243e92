"""What commands print on a terminal of some width."""

from __future__ import annotations

import re

import pytest

from ztfmatch.cli import rows, terminal


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Let commands believe that their output is a terminal of so many columns."""
    for module in (terminal, rows):
        monkeypatch.setattr(module, "terminal_width", lambda: columns)


def check_fits(text: str, columns: int) -> None:
    """What is in columns is within the width; paths and sentences are wrapped by the terminal."""
    tabular = [line for line in text.splitlines() if re.search(r"\S   +\S", line)]
    wide = [line for line in tabular if len(line) > columns and "/" not in line]
    assert not wide, wide
