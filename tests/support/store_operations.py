"""Operations drawn by Hypothesis: how each is run on a store, and what the model makes of it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import runner
from hypothesis import strategies as st
from small_survey import EXPOSURES, FILED, FIRST, LATER, MATCHFILES, REFERENCES, SETS, UNITS
from store_checks import named_files
from store_model import Catalog, Model, State

from ztfmatch.core.config import AppendConfig, CompactConfig
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.operations.history import rollback
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.statistics import StatisticsReport, update_statistics
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.operations.vacuum import vacuum
from ztfmatch.core.runner import Runner
from ztfmatch.core.survey import Unit
from ztfmatch.matchfile.ingest import ImportConfig, import_matchfiles

HOURS = 3600.0
PLACES = ("night", "copies", "hurt")
"""Directories with a file for every exposure; what is in those of ``hurt`` changes."""


@dataclass(frozen=True)
class Append:
    """Catalogs by exposure and directory, in any order."""

    catalogs: tuple[tuple[int, str], ...]
    rows_per_task: int
    corrections: str | None = None
    name: str = "append"


@dataclass(frozen=True)
class Compact:
    min_files: int
    max_rows_per_tile: int
    full: bool
    name: str = "compact"


@dataclass(frozen=True)
class Rollback:
    """To one of the retained snapshots, counted from the newest and round again."""

    back: int
    name: str = "rollback"

    def target(self, model: Model) -> int:
        return model.newest - self.back % (model.newest - model.oldest + 1)


@dataclass(frozen=True)
class Statistics:
    name: str = "statistics"


@dataclass(frozen=True)
class Transients:
    name: str = "transients"


@dataclass(frozen=True)
class Vacuum:
    """With no grace nothing else may run; with a day's, anything may."""

    keep: int
    grace_hours: float
    name: str = "vacuum"


@dataclass(frozen=True)
class Rematch:
    """References, one a unit."""

    references: tuple[tuple[Unit, str], ...]
    rows_per_task: int
    name: str = "rematch"


@dataclass(frozen=True)
class Correct:
    """With a set of corrections, or None."""

    corrections: str | None
    name: str = "correct"


@dataclass(frozen=True)
class Import:
    """A matchfile."""

    matchfile: str
    rows_per_task: int
    name: str = "import"


Operation = Append | Compact | Correct | Import | Rematch | Rollback | Statistics | Transients | Vacuum


def all_statistics(storage: Storage, runner: Runner) -> StatisticsReport:
    """Compute every statistic that is stale."""
    return update_statistics(storage, runner, 0.0)


def _unit(reference: tuple[Unit, str]) -> Unit:
    return reference[0]


_REFERENCES = [(unit, name) for unit in UNITS for name in REFERENCES if unit not in LATER or name != FIRST]
_catalogs = st.tuples(st.integers(0, len(EXPOSURES) - 1), st.sampled_from(PLACES))
appends = st.builds(
    Append,
    st.lists(_catalogs, min_size=1, max_size=6, unique=True).map(tuple),
    st.sampled_from([25, 1_000_000]),
    st.sampled_from([None, None, None, *SETS]),
)
rematches = st.builds(
    Rematch,
    st.lists(st.sampled_from(_REFERENCES), min_size=1, max_size=3, unique_by=_unit).map(tuple),
    st.sampled_from([25, 1_000_000]),
)
imports = st.builds(Import, st.sampled_from(sorted(MATCHFILES)), st.sampled_from([25, 1_000_000]))
corrections = st.builds(Correct, st.sampled_from([None, "early", "early", "late", "late", "foreign"]))
compactions = st.builds(Compact, st.integers(2, 4), st.sampled_from([25, 100_000_000, 100_000_000]), st.booleans())
rollbacks = st.builds(Rollback, st.integers(0, 6))
statistics = st.builds(Statistics)
transients = st.builds(Transients)
vacuums = st.builds(Vacuum, st.integers(1, 4), st.sampled_from([0.0, 24.0]))
late_vacuums = st.builds(Vacuum, st.integers(1, 4), st.just(24.0))
contenders = st.one_of(appends, st.builds(Compact, st.just(2), st.just(100_000_000)), rematches, corrections, imports)
anything = (appends, appends, compactions, rollbacks, statistics, transients, rematches, corrections, imports)
operations = st.one_of(*anything, vacuums)
beside_others = st.one_of(*anything, late_vacuums)


@dataclass
class Bench:
    """A store's place, the catalogs beside it, and the model."""

    store: Path
    sky: Path
    model: Model
    contents: dict[tuple[int, str], str]
    """What the file of each exposure and directory holds now."""

    def path(self, exposure: int, place: str) -> Path:
        return self.sky / place / self.model.survey.names[exposure]

    def write(self, exposure: int, place: str, content: str) -> None:
        path = self.path(exposure, place)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.model.survey.data[exposure, content])
        self.contents[exposure, place] = content

    def catalogs(self, operation: Append) -> list[Catalog]:
        return [Catalog(i, str(self.path(i, p)), self.contents[i, p]) for i, p in operation.catalogs]

    def let_time_pass(self, directory: str) -> None:
        """Make all objects of a directory of the store two days old."""
        self._date(self.store.joinpath(directory).rglob("*"), time.time() - 48 * HOURS)

    def begin_now(self, aged: bool) -> None:
        """Nothing that a job left is older than this moment; all that snapshots name is, if ``aged``.

        A job that uses what an earlier one left must not run beside a vacuum whose grace has passed since.
        """
        self._date(self.store.rglob("*"), time.time())
        if aged:
            named = named_files(self.store, self.model.oldest, self.model.newest)
            self._date([self.store / path for path in named], time.time() - 48 * HOURS)

    @staticmethod
    def _date(files: Iterable[Path], then: float) -> None:
        for path in files:
            if path.is_file():
                os.utime(path, (then, then))


@dataclass(frozen=True)
class Nothing:
    """In place of the report of an operation that could use none of its files, and so did nothing."""

    snapshot: int
    quarantined: list[Refused]
    committed: bool = False
    exposures: int = 0
    known: int = 0
    imported: int = 0
    units: tuple[Any, ...] = ()


def run(operation: Operation, bench: Bench, storage: Storage) -> Any:
    """Run an operation; return its report."""
    try:
        return _run(operation, bench, storage)
    except BadInputError as error:
        return Nothing(bench.model.newest, error.refused)


def _run(operation: Operation, bench: Bench, storage: Storage) -> Any:
    if isinstance(operation, Append):
        sources = [catalog.source for catalog in bench.catalogs(operation)]
        place = None if operation.corrections is None else bench.model.survey.corrections(operation.corrections)
        config = AppendConfig(rows_per_task=operation.rows_per_task, corrections=place)
        return append_catalogs(storage, sources, config, runner())
    if isinstance(operation, Rematch):
        sources = [str(bench.model.survey.reference(*reference)) for reference in operation.references]
        return rematch(storage, sources, RematchConfig(rows_per_task=operation.rows_per_task), runner())
    if isinstance(operation, Import):
        sources = [str(bench.model.survey.reference(FILED, operation.matchfile))]
        return import_matchfiles(storage, sources, ImportConfig(rows_per_task=operation.rows_per_task), runner())
    if isinstance(operation, Correct):
        name = operation.corrections
        return correct(storage, None if name is None else bench.model.survey.corrections(name), runner())
    if isinstance(operation, Compact):
        config = CompactConfig(operation.min_files, operation.max_rows_per_tile, full=operation.full)
        return compact(storage, config, runner())
    if isinstance(operation, Rollback):
        return rollback(storage, operation.target(bench.model))
    if isinstance(operation, Statistics):
        return all_statistics(storage, runner())
    if isinstance(operation, Transients):
        return update_transients(storage, runner())
    return vacuum(storage, operation.keep, operation.grace_hours)


def state_after(operation: Operation, bench: Bench, target: int | None) -> State:
    """State that the operation leads to, on top of the newest snapshot of the model."""
    if isinstance(operation, Append):
        return bench.model.append(bench.catalogs(operation), operation.corrections).state
    if isinstance(operation, Rematch):
        return bench.model.rematch(operation.references).state
    if isinstance(operation, Import):
        return bench.model.ingest(operation.matchfile)
    if isinstance(operation, Correct):
        return bench.model.correct(operation.corrections)
    if isinstance(operation, Rollback):
        assert target is not None
        return bench.model.snapshots[target]
    return dataclasses.replace(bench.model.state)
