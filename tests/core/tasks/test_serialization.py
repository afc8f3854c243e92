"""Tasks as bytes: the same again, and nothing else is ever called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.region import Cap, PixelSet, Polygon, Region
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.tasks.ledger import compact_ledger
from ztfmatch.core.tasks.match import match_group
from ztfmatch.core.tasks.serialization import decode_task, encode_task, function_of, name_of, shared_fields

numbers = st.floats(allow_nan=True, allow_infinity=True)


@dataclass(frozen=True)
class Some:
    """A task."""

    key: str
    storage: Storage
    tile: Tile
    numbers: tuple[float, ...]
    ids: npt.NDArray[np.int64]
    region: Region | None = None


def do_some(task: Some) -> int:
    return len(task.key)


regions = st.sampled_from(
    [
        None,
        Region((Cap(10.0, 20.0, 3.0), PixelSet(((0, 4), (7, 2**61)))), "some"),
        Region((Polygon(((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))),)),
    ]
)


@given(
    st.text(), st.lists(numbers), st.lists(st.integers(-(2**63), 2**63 - 1)), regions, st.sets(st.sampled_from("abc"))
)
def test_decode_gives_what_was_encoded(
    key: str, values: list[float], ids: list[int], region: Region | None, names: set[str]
) -> None:
    task = Some(key, Storage("/s"), Tile(3, 17), tuple(values), np.array(ids, np.int64), region)
    shared = {"a": "storage", "b": "ids", "c": "region"}
    only = [shared[name] for name in names]
    again = decode_task(do_some, encode_task(task, only=only), encode_task(task, without=only))
    assert isinstance(again, Some)
    assert repr((again.key, again.storage, again.tile, again.numbers)) == repr(
        (key, Storage("/s"), task.tile, task.numbers)
    )
    assert again.region == region
    assert again.ids.dtype == np.int64
    assert again.ids.tolist() == ids


def test_shared_fields_are_those_of_one_value() -> None:
    some = [Some(key, Storage("/s"), Tile(3, 17), (1.0,), np.zeros(1, np.int64)) for key in "ab"]
    assert shared_fields(some) == ("storage", "tile", "numbers", "region")


@pytest.mark.parametrize("function", [match_group, compact_ledger])
def test_function_of_finds_tasks_by_name(function: object) -> None:
    assert function_of(name_of(function)) is function  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "ztfmatch.core.tasks.match:os",
        "ztfmatch.core.tasks.staging:run_staged",
        "ztfmatch.core.tasks.staging:clear",
        "ztfmatch.core.tasks.match:_matched",
        "ztfmatch.core.tasks.nowhere:match_group",
        "ztfmatch.core.operations.vacuum:vacuum",
        "ztfmatch.core.tasks..match:match_group",
        "",
    ],
)
def test_function_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no task of ztfmatch|takes no task"):
        function_of(name)


@pytest.mark.parametrize("content", [b"", b"\x80", b"cos\nsystem\n(S'true'\ntR.", b"\x81\xa3key\x01"])
def test_bytes_of_something_else_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_task(match_group, content)
