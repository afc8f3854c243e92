"""CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"(?<![\w/.])((?:ztfmatch|tests|docs(?!/_build))/[\w/.*]*\w)", TEXT)))


@pytest.mark.parametrize("place", PLACES)
def test_place_that_contributing_names_is_there(place: str) -> None:
    assert list(PROJECT.glob(place))


def test_names_in_the_table_of_what_to_touch_are_in_its_files() -> None:
    """`NAME` in brackets after a file."""
    named = re.findall(r"`(ztfmatch/[\w/]+\.py)` \(`([A-Z]+)`\)", TEXT)
    assert named
    assert all(
        re.search(rf"^{name}\b", (PROJECT / path).read_text(encoding="utf-8"), re.MULTILINE) for path, name in named
    )


def test_rooms_are_all_named() -> None:
    rooms = {path.parent.name for path in (PROJECT / "ztfmatch").glob("*/__init__.py")} - {"core", "cli", "api"}
    (row,) = re.findall(r"^\| capabilities \|.*$", TEXT, re.MULTILINE)
    assert {name.removeprefix("ztfmatch/") for name in re.findall(r"`([\w/]+)`", row.split("|")[2])} == rooms
