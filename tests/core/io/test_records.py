"""Records: what is read is what was written, or an error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.io.records import decode, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(st.text().filter(lambda name: name != "digest"), values, max_size=4)


@given(records)
def test_decode_gives_back_what_encode_took(record: dict[str, Any]) -> None:
    assert decode(encode(record), dict) == record


@given(records, st.integers(0), st.integers(1, 255))
def test_decode_one_byte_changed_is_an_error_or_the_same(record: dict[str, Any], at: int, bits: int) -> None:
    content = bytearray(encode(record))
    content[at % len(content)] ^= bits
    with contextlib.suppress(ValueError):
        assert decode(bytes(content), dict) == record


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"3", b"\xff", json.dumps({"oldest": 1}).encode(),
                                     b"[" * 10**6])  # fmt: skip
def test_decode_of_what_is_no_record_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|Expecting|digest|decode"):
        decode(content, dict)
