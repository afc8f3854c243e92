"""Reports as text and as HTML, against literals."""

from __future__ import annotations

from dataclasses import dataclass

from ztfmatch.core.display import Displayable, as_html, as_text


@dataclass(frozen=True)
class Part:
    table: str
    rows: int


@dataclass(frozen=True)
class Report(Displayable):
    store: str
    snapshot_rows: int
    committed: bool
    seconds: float
    note: str | None
    units: list[str]
    by_filter: dict[str, int]
    parts: list[Part]


REPORT = Report("a & b", 12345, True, 1.5, None, ["x", "y"], {"zg": 1000, "zr": 2}, [Part("objects", 1000)])


def test_repr_is_aligned_and_has_nested_rows_below() -> None:
    assert repr(REPORT).splitlines() == [
        "Report",
        "  store          a & b",
        "  snapshot rows  12,345",
        "  committed      yes",
        "  seconds        1.5",
        "  note",
        "  units          x, y",
        "  by filter      zg 1,000, zr 2",
        "",
        "  parts",
        "    table     rows",
        "    objects  1,000",
    ]


def test_html_is_escaped_and_has_the_same_cells() -> None:
    page = REPORT._repr_html_()
    assert "a &amp; b" in page
    assert page.count("<table>") == 2
    for cell in ("12,345", "zg 1,000, zr 2", "objects", "1,000"):
        assert f">{cell}</td>" in page


def test_numbers_are_to_the_right_as_texts_too() -> None:
    page = as_html("Answer", {"first rows": [{"mag": "17.50", "name": "a"}, {"mag": "", "name": "2"}]})
    assert '<td style="text-align: right">17.50</td>' in page
    assert '<td style="text-align: left">a</td>' in page


def test_text_of_many_rows_and_values_has_the_first_and_says_how_many() -> None:
    fields = {"numbers": list(range(25)), "rows": [{"objectid": 1234567, "n": 1234} for _ in range(21)]}
    lines = as_text("Many", fields).splitlines()
    assert lines[1] == f"  numbers  {', '.join(map(str, range(20)))} ... (25)"
    assert lines[3:6] == ["  rows (the first 20 of 21)", "    objectid      n", "     1234567  1,234"]
    assert len(lines) == 25


def test_html_of_nothing_is_a_title() -> None:
    assert as_html("<None>", {}) == "<div><strong>&lt;None&gt;</strong><table></table></div>"
