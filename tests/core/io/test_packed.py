"""Packed texts against plain lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.io import packed
from ztfmatch.core.io.packed import Packed, Sorting
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find
from ztfmatch.core.operations.commitbatches import portions_of
from ztfmatch.core.survey import Unit, psfcat_name


@pytest.fixture(autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packed, "_BLOCK", 3)
        patched.setattr(packed, "RUN", 5)
        yield


paths = st.lists(st.text(st.characters(blacklist_characters="\0", codec="utf-8")) | st.just("/d/\udce4.fits"))


@given(paths, st.integers(-40, 40), st.integers(-40, 40))
def test_packed_is_the_list_that_it_was_made_of(texts: list[str], start: int, stop: int) -> None:
    made = Packed(iter(texts))
    assert (list(made), len(made), made[start:stop]) == (texts, len(texts), texts[start:stop])
    assert [text for block in made.blocks() for text in block] == texts
    assert [made[i] for i in range(-len(texts), len(texts))] == texts * 2
    rows = np.random.default_rng(len(texts)).integers(0, max(len(texts), 1), 20 if texts else 0)
    assert made.take(rows) == [texts[row] for row in rows.tolist()]
    with pytest.raises(IndexError):
        made[len(texts)]


@given(paths)
def test_sorting_gives_each_once_in_order(texts: list[str]) -> None:
    sorting = Sorting()
    for text in texts:
        sorting.add(text)
    assert list(sorting.texts()) == sorted(set(texts))


def test_portions_of_packed_names_are_those_of_a_list(tmp_path: Path) -> None:
    names = sorted(
        str(tmp_path / psfcat_name(Unit(field, 3, 1), 20190101000000 + n)) for n in range(9) for field in (5, 6, 7)
    )
    for name in names:
        Path(name).touch()
    (tmp_path / "x_psfcat.fit").touch()
    found = find([str(tmp_path), *names[:3]], EPOCHAL_PATTERN)
    assert isinstance(found.files, Packed)
    assert (list(found.files), found.misnamed) == (names, [str(tmp_path / "x_psfcat.fit")])
    assert [list(one) for one in portions_of(found.files, 12)] == [list(one) for one in portions_of(names, 12)]
