"""Random histories of a store against a model of it: whatever is done, raced, refused or killed, the store is right.

Some histories are run here in every build, always the same; many more by ``pytest -m slow`` (CONTRIBUTING.md).
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from scripted_storage import Killed, ScriptedStorage, Trouble
from small_survey import EXPOSURES, FILED, SmallSurvey, make_survey
from store_checks import (
    check_content,
    check_equals_full,
    check_files,
    check_history,
    check_statistics,
    check_transients,
    named_files,
)
from store_model import Model, State
from store_operations import (
    PLACES,
    Append,
    Bench,
    Correct,
    Import,
    Operation,
    Rematch,
    Rollback,
    Statistics,
    Transients,
    Vacuum,
    all_statistics,
    appends,
    beside_others,
    contenders,
    corrections,
    operations,
    rollbacks,
    run,
    state_after,
    statistics,
    transients,
)

from ztfmatch.core.errors import CommitConflictError, JobFailedError, SnapshotNotFoundError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage, StorageError
from ztfmatch.core.operations.statistics import stale_tiles
from ztfmatch.core.operations.transients import ungrouped_tiles, update_transients

EXAMPLES = int(os.environ.get("ZTFMATCH_STATEFUL_EXAMPLES", "400"))
"""Histories of the slow test."""

PHASES = [Phase.reuse, Phase.generate, Phase.shrink]
"""No explanation: it traces every line, and takes many times as long as the failure took to be found."""

KINDS = st.sampled_from(["killed before", "killed after", "refused", "reply lost"])
MOMENTS = st.none() | st.integers(0, 25)
"""Which mutation: the one that commits, or any."""


class StoreMachine(RuleBasedStateMachine):
    """One store, one model, one thing done after another."""

    survey: SmallSurvey
    """Set by the fixture."""

    @initialize(first=appends)
    def begin(self, first: Append) -> None:
        """What the others do needs something to be there."""
        self.place = Path(tempfile.mkdtemp(prefix="store-", dir=self.survey.template.parent))
        shutil.copytree(self.survey.template, self.place / "store")
        self.bench = Bench(self.place / "store", self.place, Model(self.survey), {})
        for i in range(len(EXPOSURES)):
            for place in PLACES:
                self.bench.write(i, place, "good")
        self.storage = ScriptedStorage(str(self.place / "store"))
        self.unchecked: set[int] = {0}
        """Snapshots whose content is to be read at the next check."""
        self.sound = True
        """No operation has begun since the last check."""
        self._finish(first, self.storage)

    @property
    def model(self) -> Model:
        return self.bench.model

    @rule(exposure=st.integers(0, len(EXPOSURES) - 1), content=st.sampled_from(["cut", "junk", "other", "good"]))
    def replace_catalog(self, exposure: int, content: str) -> None:
        self.bench.write(exposure, "hurt", content)

    @rule(directory=st.sampled_from(["data", "staging", "manifests"]))
    def let_time_pass(self, directory: str) -> None:
        self.bench.let_time_pass(directory)

    @rule(operation=operations)
    def do(self, operation: Operation) -> None:
        self._finish(operation, self.storage)

    @rule(operation=corrections)
    def correct(self, operation: Correct) -> None:
        """Of which one is drawn too seldom for one set to follow another."""
        self._finish(operation, self.storage)

    @rule(operation=operations, at=MOMENTS, kind=KINDS, again=st.booleans())
    def do_in_trouble(self, operation: Operation, at: int | None, kind: str, again: bool) -> None:
        """The operation is killed, or the storage fails it, at some mutation; then it may be run again."""
        trouble = Trouble(at, kind)
        expected = self._expectation(operation)
        try:
            report = run(operation, self.bench, ScriptedStorage(self.storage.root, trouble))
        except (Killed, StorageError, JobFailedError) as error:
            assert trouble.happened
            note(f"{type(error).__name__}: {str(error)[:80]}")
            self._learn_what_became_of(operation, expected)
        else:
            assert trouble.may_pass
            self._take(operation, report, expected)
        if again:
            self._finish(operation, self.storage)

    @rule(operation=operations, other=beside_others, at=MOMENTS, aged=st.booleans())
    def race(self, operation: Operation, other: Operation, at: int | None, aged: bool) -> None:
        """Another operation runs from beginning to end at some mutation of the first."""
        if isinstance(operation, Vacuum):
            operation = dataclasses.replace(operation, grace_hours=24.0)
        self.bench.begin_now(aged)
        before, committed = self.model.newest, []
        expected = self._expectation(operation)

        def meanwhile() -> None:
            self._learn_what_became_of(operation, expected)
            committed.append(self.model.newest > before)
            self._beside(other)

        trouble = Trouble(at, "meanwhile", meanwhile)
        try:
            report = run(operation, self.bench, ScriptedStorage(self.storage.root, trouble))
        except (CommitConflictError, SnapshotNotFoundError) as error:
            note(f"{type(error).__name__}: {str(error)[:80]}")
            assert committed == [False]
            if isinstance(error, CommitConflictError):
                assert self.model.newest > before
                assert not self._must_land(operation, other, self.model.snapshots[before])
            else:
                assert isinstance(operation, Rollback)
                assert isinstance(other, Vacuum)
            return
        if committed and not isinstance(operation, Vacuum) and (report.committed, report.snapshot) == (False, before):
            assert expected.idle  # it had found nothing to do before the other began
        elif committed == [True]:
            assert (report.committed, report.snapshot) == (True, before + 1)
        elif committed and self._is_the_others(operation, report):
            assert (operation.name, report.snapshot) == (other.name, before + 1)
        else:
            self._take(operation, report, expected)

    @rule(operation=contenders | statistics | transients, other=contenders | rollbacks | statistics | transients)
    def race_for_the_commit(self, operation: Operation, other: Operation) -> None:
        """Those that can commit on top of each other, at the last moment."""
        self.race(operation=operation, other=other, at=None, aged=False)

    def _is_the_others(self, operation: Operation, report: Any) -> bool:
        """Whether an operation says that it committed what the other did: the very same, which is there once."""
        return not isinstance(operation, Vacuum) and report.committed and report.snapshot <= self.model.newest

    def _beside(self, other: Operation) -> None:
        try:
            self._finish(other, ScriptedStorage(self.storage.root))
        except SnapshotNotFoundError:
            assert isinstance(other, Rollback)  # a vacuum that runs now has declared it gone

    def _must_land(self, operation: Operation, other: Operation, before: State) -> bool:
        """Whether two operations cannot be in each other's way; what the other did is done."""
        if isinstance(operation, Correct):
            return True
        if isinstance(operation, Append) and isinstance(other, Append):
            same = {i for i, _ in operation.catalogs} & {i for i, _ in other.catalogs}
            return not same and self.model.state.sets == before.sets
        if isinstance(operation, Rematch) and isinstance(other, Append):
            units = {unit for unit, _ in operation.references}
            same = {EXPOSURES[i][0] for i, _ in other.catalogs} & units
            return not same
        if isinstance(operation, Import):
            filed = isinstance(other, Append) and any(EXPOSURES[i][0] == FILED for i, _ in other.catalogs)
            return isinstance(other, Append | Correct | Statistics | Transients) and not filed
        if isinstance(operation, Transients):
            return isinstance(other, Append | Statistics | Transients)
        if isinstance(operation, Statistics):
            return isinstance(other, Append | Statistics | Transients)
        return isinstance(operation, Append | Rematch) and isinstance(other, Statistics)

    def _finish(self, operation: Operation, storage: ScriptedStorage) -> None:
        expected = self._expectation(operation)
        self._take(operation, run(operation, self.bench, storage), expected)

    def _expectation(self, operation: Operation) -> Expectation:
        target = operation.target(self.model) if isinstance(operation, Rollback) else None
        oldest = self.model.oldest
        if isinstance(operation, Vacuum):
            oldest = max(oldest, self.model.newest - operation.keep + 1)
        self.sound = False
        return Expectation(target, oldest, state_after(operation, self.bench, target) == self.model.state)

    def _take(self, operation: Operation, report: Any, expected: Expectation) -> None:
        """Compare a report with the model, and bring the model up to date."""
        if isinstance(operation, Vacuum):
            assert (report.oldest, report.deleted) == (expected.oldest, True)
            self._retain(expected.oldest)
            if operation.grace_hours == 0.0:
                self._assert_clean()
            return
        state = state_after(operation, self.bench, expected.target)
        if isinstance(operation, Append):
            self._check_append(operation, report)
        if isinstance(operation, Rematch):
            self._check_rematch(operation, report)
        if isinstance(operation, Correct):
            self._check_correct(operation, report, state)
        if isinstance(operation, Import):
            self._check_import(operation, report, state)
        assert report.committed or state == self.model.state
        if report.committed:
            self._commit(operation, state)
        assert report.snapshot == self.model.newest
        if isinstance(operation, Statistics | Transients):
            self._check_derived(operation, report)

    def _check_derived(self, operation: Statistics | Transients, report: Any) -> None:
        of_statistics = isinstance(operation, Statistics)
        stale = (stale_tiles if of_statistics else ungrouped_tiles)(open_snapshot(self.storage))
        assert len(stale) == report.changed
        if report.committed and not stale:
            tables = ("statistics",) if of_statistics else ("transients", "transientdata")
            update = all_statistics if of_statistics else update_transients
            check_equals_full(Storage.at(self.storage.root), update, tables)

    def _check_append(self, operation: Append, report: Any) -> None:
        expected = self.model.append(self.bench.catalogs(operation), operation.corrections)
        quarantined = {row.source: row.code for row in report.quarantined}
        assert (report.exposures, report.known, quarantined) == (expected.new, expected.known, expected.quarantined)
        assert report.committed == expected.commits(self.model.state)

    def _check_rematch(self, operation: Rematch, report: Any) -> None:
        expected = self.model.rematch(operation.references)
        quarantined = {row.source: row.code for row in report.quarantined}
        generations = {unit.unit: unit.generation for unit in report.units}
        assert (generations, report.known, quarantined) == (expected.generations, expected.known, expected.quarantined)
        assert report.committed == (expected.state != self.model.state)

    def _check_import(self, operation: Import, report: Any, state: State) -> None:
        before, name = self.model.state, operation.matchfile
        fresh = len(state.exposures) - len(before.exposures)
        known, taken = name in before.matchfiles, name in state.matchfiles
        assert (report.committed, report.exposures) == (state != before, fresh)
        assert (report.known, report.imported, len(report.quarantined)) == (known, taken and not known, not taken)

    def _check_correct(self, operation: Correct, report: Any, state: State) -> None:
        before = self.model.state
        given = [taken.corrections == operation.corrections for taken in state.exposures.values()]
        changed = sum(taken.corrections != state.exposures[i].corrections for i, taken in before.exposures.items())
        applies = operation.corrections is None or any(given)
        assert (report.applies, report.committed) == (applies, state != before)
        assert report.changed == changed
        if operation.corrections is not None:
            assert report.exposures == (sum(given) if applies else 0)

    def _learn_what_became_of(self, operation: Operation, expected: Expectation) -> None:
        """After a failure: it is all there, or nothing of it."""
        if isinstance(operation, Vacuum):
            oldest = log.oldest_retained(self.storage)
            assert oldest in (self.model.oldest, expected.oldest)
            self._retain(oldest)
        elif log.commit_numbers(self.storage)[-1] > self.model.newest:
            self._commit(operation, state_after(operation, self.bench, expected.target))

    def _commit(self, operation: Operation, state: Any) -> None:
        self.model.commit(operation.name, state)
        self.unchecked.add(self.model.newest)

    def _retain(self, oldest: int) -> None:
        self.model.oldest = max(self.model.oldest, oldest)
        self.unchecked = set(range(self.model.oldest, self.model.newest + 1))

    def _assert_clean(self) -> None:
        root = self.bench.store
        there = [path for directory in ("data", "manifests", "staging") for path in (root / directory).rglob("*")]
        left = {str(path.relative_to(root)) for path in there if path.is_file()}
        assert left == named_files(root, self.model.oldest, self.model.newest)

    @invariant()
    def store_is_the_models(self) -> None:
        """The newest snapshots in full, the older ones by their files; all in full after a vacuum and at the end."""
        check_history(self.storage, self.model)
        check_files(self.storage, self.model)
        for number in sorted(self.unchecked):
            check_content(self.storage, self.model, number)
            check_statistics(self.storage, self.model, number)
            check_transients(self.storage, self.model, number)
        self.unchecked.clear()
        self.sound = True

    def teardown(self) -> None:
        try:
            for number in range(self.model.oldest, self.model.newest + 1) if self.sound else ():
                check_content(self.storage, self.model, number)
                check_statistics(self.storage, self.model, number)
        finally:
            shutil.rmtree(self.place)


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What is known of an operation before it begins."""

    target: int | None
    """Of a rollback."""
    oldest: int
    """Oldest snapshot after it, if it is a vacuum."""
    idle: bool
    """Whether it leads nowhere from the snapshot that it finds."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], StoreMachine]:
    survey = make_survey(tmp_path_factory.mktemp("stateful"))
    return type("Machine", (StoreMachine,), {"survey": survey})


def bounded(examples: int, steps: int, phases: list[Phase], **more: Any) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True, phases=phases,
        suppress_health_check=list(HealthCheck), **more,
    )  # fmt: skip


def test_store_after_random_histories_is_the_models(machine: Callable[[], StoreMachine]) -> None:
    """A failure is printed as it was found: to shorten it takes longer than a test may."""
    run_state_machine_as_test(machine, settings=bounded(16, 20, [Phase.generate], derandomize=True))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_store_after_many_random_histories_is_the_models(machine: Callable[[], StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=bounded(EXAMPLES, 30, PHASES))
