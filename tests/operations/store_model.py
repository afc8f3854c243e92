"""What a store should hold after any operations: dictionaries, and the rules of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from small_survey import CODES, CONTENT, Row, SmallSurvey, statistics_from_scratch


@dataclass(frozen=True)
class Taken:
    """An exposure in the store."""

    content: str
    source: str
    commit: int


@dataclass(frozen=True)
class Refused:
    """An entry of the quarantine."""

    code: str
    content: str
    commit: int


@dataclass(frozen=True)
class State:
    """Content of a snapshot."""

    exposures: dict[int, Taken] = field(default_factory=dict)
    """By number of the exposure."""
    quarantine: dict[str, Refused] = field(default_factory=dict)
    """By source."""


@dataclass(frozen=True)
class Catalog:
    """A file: of which exposure, where, with what content."""

    exposure: int
    source: str
    content: str


@dataclass(frozen=True)
class Expected:
    """What an append must report and lead to."""

    state: State
    new: int
    known: int
    quarantined: dict[str, str]

    def commits(self, before: State) -> bool:
        return self.state != before


@dataclass
class Model:
    """All snapshots that were ever committed."""

    survey: SmallSurvey
    snapshots: list[State] = field(default_factory=lambda: [State()])
    operations: list[str] = field(default_factory=lambda: ["init"])
    oldest: int = 0
    """Oldest snapshot that can be opened."""

    @property
    def newest(self) -> int:
        return len(self.snapshots) - 1

    @property
    def state(self) -> State:
        return self.snapshots[-1]

    def commit(self, operation: str, state: State) -> None:
        self.operations.append(operation)
        self.snapshots.append(state)

    def append(self, catalogs: Sequence[Catalog]) -> Expected:
        """Where an append on top of the newest snapshot leads."""
        number, before = self.newest + 1, self.state
        exposures, known = dict(before.exposures), 0
        quarantined = {c.source: (CODES[c.content], c.content) for c in catalogs if c.content in CODES}
        usable = [catalog for catalog in catalogs if catalog.content not in CODES]
        for catalog in sorted(usable, key=lambda c: (self.survey.ids[c.exposure], c.source)):
            there = exposures.get(catalog.exposure)
            if there is None:
                exposures[catalog.exposure] = Taken(catalog.content, catalog.source, number)
            elif there.content == catalog.content:
                known += 1
            else:
                quarantined[catalog.source] = ("conflict", catalog.content)
        sources, names = {c.source for c in usable}, {Path(c.source).name for c in usable}
        quarantine = {
            source: entry
            for source, entry in before.quarantine.items()
            if source in quarantined
            or not (source in sources or (entry.code != "conflict" and Path(source).name in names))
        }
        for source, (code, content) in quarantined.items():
            there_before = quarantine.get(source)
            if there_before is None or (there_before.code, there_before.content) != (code, content):
                quarantine[source] = Refused(code, content, number)
        codes = {source: code for source, (code, _) in quarantined.items()}
        return Expected(State(exposures, quarantine), len(exposures) - len(before.exposures), known, codes)

    def content(self, number: int) -> dict[str, pa.Table]:
        """Tables that a snapshot must have, sorted by their keys."""
        taken = sorted(self.snapshots[number].exposures.items(), key=lambda item: self.survey.ids[item[0]])
        any_piece = self.survey.pieces[0, "good"]
        tables = {}
        for name in CONTENT:
            parts = [self._piece(i, entry, name) for i, entry in taken]
            tables[name] = pa.concat_tables([any_piece[name].slice(0, 0), *parts]).combine_chunks()
        return tables

    def _piece(self, exposure: int, entry: Taken, name: str) -> pa.Table:
        piece = self.survey.pieces[exposure, entry.content][name]
        if name == "exposures":
            for column, value in (("source", entry.source), ("commit", entry.commit)):
                at = piece.column_names.index(column)
                piece = piece.set_column(at, piece.schema.field(at), [[value]])
        return piece

    def statistics(self, number: int) -> dict[int, Row]:
        """Statistics that a snapshot's content has, by objectid."""
        key = frozenset((i, entry.content) for i, entry in self.snapshots[number].exposures.items())
        if key not in self._statistics:
            content = self.content(number)
            ledger = content["exposures"].select(["exposureid", "programid"]).to_pylist()
            public = {row["exposureid"] for row in ledger if row["programid"] == 1}
            ids = self.survey.objects["objectid"].to_pylist()
            self._statistics[key] = statistics_from_scratch(content["detections"], ids, public)
        return self._statistics[key]

    _statistics: dict[Any, dict[int, Row]] = field(default_factory=dict)
