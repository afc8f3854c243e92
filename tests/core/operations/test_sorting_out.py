"""Catalogs sorted out all together are what they are one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.operations import ledger
from ztfmatch.core.operations.common import digest_of
from ztfmatch.core.operations.ledger import SAME_TIME_DAY, sort_out
from ztfmatch.core.operations.quarantine import QuarantineChange
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.inspect import FOUND

Rows = list[dict[str, Any]]


@dataclass
class Store:
    """A snapshot without a quarantine, and its ledger."""

    exposures: pa.Table

    def of_table(self, name: str) -> list[Any]:
        return []


def row(exposureid: int, unit: int, slot: int, content: int, program: int | None, source: str) -> dict[str, Any]:
    return {
        "exposureid": exposureid,
        "field": unit,
        "rcid": 1,
        "fid": 1,
        "obsmjd": 58000.0 + slot * 0.6 * SAME_TIME_DAY,
        "programid": program,
        "filename": f"{source}.fits",
        "source": f"/d/{source}.fits",
        "size": 1,
        "sha256": str(content),
    }


rows = st.builds(
    row, st.integers(1, 8), st.integers(1, 2), st.integers(0, 12), st.integers(1, 2),
    st.none() | st.integers(1, 2), st.sampled_from("abcdefgh"),
)  # fmt: skip


def one_by_one(stored: Rows, found: Rows) -> tuple[list[str], int, list[str], list[tuple[str, str]]]:
    """New sources, number of the known, known of another program, refusals: as the documentation says."""
    seen, new, known, other, refused = list(stored), [], 0, [], []
    for one in sorted(found, key=lambda one: (one["exposureid"], one["source"])):
        same = next((s for s in seen if s["exposureid"] == one["exposureid"]), None)
        twin = any(
            (s["field"], s["rcid"], s["fid"]) == (one["field"], one["rcid"], one["fid"])
            and abs(s["obsmjd"] - one["obsmjd"]) < SAME_TIME_DAY
            for s in seen
        )
        if same is not None and same["sha256"] == one["sha256"]:
            known += 1
            other += [one["source"]] if one["programid"] not in (None, same["programid"]) else []
        elif same is not None or twin:
            refused.append((one["source"], "conflict" if same is not None else "duplicate"))
        else:
            new.append(one["source"])
            seen.append(one)
    return new, known, other, refused


def apart(stored: Rows) -> Rows:
    """Those that a store can have: no key twice, and no two of a unit at one time."""
    kept: Rows = []
    for one in stored:
        if not any(
            one["exposureid"] == other["exposureid"]
            or (one["field"] == other["field"] and abs(one["obsmjd"] - other["obsmjd"]) < SAME_TIME_DAY)
            for other in kept
        ):
            kept.append(one)
    return kept


@settings(max_examples=300)
@given(st.lists(rows, max_size=6).map(apart), st.lists(rows, max_size=9, unique_by=lambda one: one["source"]))
def test_sort_out_equals_one_by_one(stored: Rows, found: Rows) -> None:
    columns = EXPOSURES.schema.empty_table().select(ledger._COLUMNS).schema
    held = pa.Table.from_pylist(stored, schema=columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_ledger_near", lambda snapshot, *_: snapshot.exposures)
        patch.setattr(ledger, "quarantine_change", lambda *_: QuarantineChange([], [], frozenset()))
        work = sort_out(Store(held), pa.Table.from_pylist(found, schema=FOUND), [])  # type: ignore[arg-type]
    refused = [(file.source, file.code) for file in work.refused]
    got = work.new["source"].to_pylist(), work.known, work.other_program, refused
    assert got == one_by_one(stored, found)


def test_digest_of_is_that_of_the_values_whatever_the_pieces() -> None:
    labels = pa.array(["a", "b", None]).dictionary_encode()
    one = pa.table({"x": [1.5, None, 3.0], "y": ["", None, "z"], "l": labels})
    other = pa.concat_tables([one.slice(0, 1), one.slice(1).combine_chunks()])
    assert digest_of(one) == digest_of(other)
    for name, values in {"x": [1.5, 0.0, 3.0], "y": ["", "", "z"], "l": ["a", "b", ""]}.items():
        changed = one.set_column(one.column_names.index(name), name, pa.array(values))
        assert digest_of(changed) != digest_of(one)
