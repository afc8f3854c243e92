"""Exports one after the other, applied in their order, are what one full export is, whatever happened between."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kowalski_exports import documents_of, export, lines_of, tables_of
from kowalski_oracle import Content, apply, differences, store_documents
from kowalski_survey import (
    LATE,
    NIGHTS,
    OTHER,
    UNITS,
    VERSIONS,
    Append,
    Compact,
    Correct,
    Operation,
    Rematch,
    Rollback,
    Statistics,
    Survey,
    make_survey,
)

import ztfmatch
from ztfmatch.core.survey import psfcat_name
from ztfmatch.kowalski.tasks.scope import Scope

EXAMPLES = int(os.environ.get("ZTFMATCH_STATEFUL_EXAMPLES", "400"))
"""Histories of the slow test."""

_nights = st.tuples(st.sampled_from(UNITS), st.integers(0, NIGHTS - 1))
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Append, st.lists(_nights, min_size=1, max_size=5, unique=True).map(tuple), st.integers(0, 1)),
    st.builds(Append, st.lists(_nights, min_size=1, max_size=5, unique=True).map(tuple), st.integers(0, 1)),
    st.builds(Rematch, st.sampled_from(UNITS), st.integers(0, VERSIONS - 1)),
    st.builds(Correct, st.sampled_from([*UNITS, None])),
    st.builds(Compact, st.sampled_from([12, 10**8])),
    st.builds(Rollback, st.integers(0, 5)),
    st.builds(Statistics),
)
histories = st.lists(st.lists(operations, min_size=1, max_size=3), min_size=2, max_size=5)
"""Operations between one export and the next."""
scopes = st.sampled_from([(), (), ("program=1,2",), ("quality=good", "filter=zr,zi"), ("field=500",)])


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(tmp_path_factory.mktemp("survey"))


def _empty_collections(content: Content) -> Content:
    return {name: documents for name, documents in content.items() if documents}


def run_history(
    survey: Survey, place: Path, history: list[list[Operation]], terms: tuple[str, ...], whole: bool
) -> None:
    storage = survey.store(place / "store")
    store = ztfmatch.Store(storage)
    scope = Scope.parse(terms)
    held: Content = {}
    for number, portion in enumerate(history):
        for operation in portion:
            operation.do(survey, storage)
        made = export(store, place / "exports", cursor=place / "cursor.json", scope=scope, whole=whole)
        if not (made / "manifest.json").exists():
            continue
        lines = list(lines_of(made))
        assert not whole or all(action != "update" for _, action, _ in lines)
        apply(held, copy.deepcopy(lines))
        once = copy.deepcopy(held)
        apply(held, copy.deepcopy(lines))
        assert held == once or differences(held, once) == []
        full = documents_of(export(store, place / f"full-{number}", scope=scope))
        assert differences(_empty_collections(held), _empty_collections(full)) == []
        expected = store_documents(tables_of(store), _allowed(scope))
        assert differences({name: full.get(name, {}) for name in expected}, expected) == []


def _allowed(scope: Scope):
    def allowed(exposure: dict) -> bool:
        limits = (
            ("field", scope.fields),
            ("fid", scope.filters),
            ("programid", scope.programs),
            ("quality", scope.qualities),
        )
        return all(among is None or exposure[name] in among for name, among in limits)

    return allowed


def bounded(examples: int, phases: list[Phase], **more: Any) -> settings:
    checks = list(HealthCheck)
    return settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=checks, **more)


@bounded(8, [Phase.generate], derandomize=True)
@given(history=histories, terms=scopes, whole=st.booleans())
def test_increments_of_random_histories_are_a_full_export(
    survey: Survey, history: list[list[Operation]], terms: tuple[str, ...], whole: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=survey.template.parent) as place:
        run_history(survey, Path(place), history, terms, whole)


@pytest.mark.slow
@pytest.mark.timeout(0)
@bounded(EXAMPLES, [Phase.reuse, Phase.generate, Phase.shrink], print_blob=True)
@given(history=histories, terms=scopes, whole=st.booleans())
def test_increments_of_many_random_histories_are_a_full_export(
    survey: Survey, history: list[list[Operation]], terms: tuple[str, ...], whole: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=survey.template.parent) as place:
        run_history(survey, Path(place), history, terms, whole)


ALL = tuple((unit, night) for unit in UNITS for night in range(NIGHTS))


HISTORIES: dict[str, list[list[Operation]]] = {
    "new epochs": [[Append(ALL[::3], 0)], [Append(ALL, 0)]],
    "rematch undone": [[Append(ALL, 0)], [Rematch(UNIT, 1)], [Rollback(1)], [Rematch(UNIT, 2)]],
    "first reference": [[Append(ALL, 0)], [Rematch(LATE, 0)], [Rematch(LATE, 1), Rematch(LATE, 2)]],
    "other content": [[Append(ALL, 0)], [Rollback(1), Append(ALL, 1)]],
    "split tiles": [[Append(ALL, 0)], [Compact(12)], [Rematch(OTHER, 1), Compact(10**8)]],
    "correct": [[Append(ALL[:6], 0)], [Correct(UNIT), Append(ALL, 0)], [Correct(OTHER), Compact(12)], [Correct(None)]],
    "compact": [[Append(ALL[:6], 0)], [Append(ALL[6:], 0), Compact(12), Statistics()], [Rollback(3)]],
    "rollback": [[Append(ALL[:2], 0)], [Append(ALL[::2], 0)], [Rollback(1)], [Append(ALL[2:4], 1)]],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_increments_of_history_are_a_full_export(
    survey: Survey, tmp_path: Path, history: list[list[Operation]]
) -> None:
    run_history(survey, tmp_path, history, (), False)


@pytest.mark.parametrize("name", ["new epochs", "correct"])
def test_whole_increments_of_history_are_a_full_export_without_updates(
    survey: Survey, tmp_path: Path, name: str
) -> None:
    run_history(survey, tmp_path, HISTORIES[name], (), True)


def test_epochs_at_the_same_time_are_in_order_of_uexpid_however_they_came(tmp_path: Path) -> None:
    """One exposure begins later and is as much shorter; by name it is the second, by number the first."""
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows)])
    store, held = ztfmatch.Store(storage), Content()
    names = [psfcat_name(UNIT, 20190201250000 + number) for number in range(2)]
    for name, expid, obsmjd, exptime in zip(names, (9, 7), (58515.25, 58515.25002), (30.0, 26.544), strict=True):
        append(storage, [epochal_file(tmp_path, rows, name=name, EXPID=expid, OBSMJD=obsmjd, EXPTIME=exptime)])
        apply(held, lines_of(export(store, tmp_path / "exports", cursor=tmp_path / "cursor.json")))
    full = documents_of(export(store, tmp_path / "full"))
    assert differences(held, full) == []
    for document in full["sources"].values():
        first, second = document["data"]
        assert first["hjd"] == second["hjd"]
        assert (first["expid"], second["expid"]) == (7, 9)
