"""What errors say."""

from __future__ import annotations

import pytest

from ztfmatch.core.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (OSError("\n one"), "one"),
        (EOFError(), "EOFError"),
        (TypeError(" "), "TypeError"),
    ],
)
def test_first_line_of_an_error_without_words_is_its_class(error: Exception, line: str) -> None:
    assert first_line(error) == line
