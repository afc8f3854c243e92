"""Types of dictionaries whose keys are not declared by the program; others are dataclasses or TypedDicts."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
"""Plain values, nested, as JSON, TOML or MessagePack hold them."""

Row = dict[str, Any]
"""A row of a table or of a report, by those of its columns that were read; the schema says what a table has."""

Keywords = dict[str, Any]
"""Keyword arguments of a command, or of another library's function."""
