"""What a store should hold after any operations: dictionaries, and the rules of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from small_survey import (
    CODES,
    CONTENT,
    FILED,
    FIRST,
    MADE,
    RELATIVE,
    SETS,
    UNITS,
    Row,
    SmallSurvey,
    is_imported,
    matchfile_exposures,
    statistics_from_scratch,
    unit_of,
)

from ztfmatch.core.survey import Unit

GENERATION = 10**7
LAST_GENERATION = 9


@dataclass(frozen=True)
class Taken:
    """An exposure in the store."""

    content: str
    source: str
    commit: int
    corrections: str | None = None
    """Set that its magnitudes have."""
    measured: str | None = None
    """Set that its residual zero point is of."""


@dataclass(frozen=True)
class Reference:
    """One generation of a unit."""

    variant: str
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
    references: dict[Unit, tuple[Reference, ...]] = field(default_factory=dict)
    """Generations of each unit."""
    sets: tuple[str, ...] = ()
    """Corrections in the order in which they came in; the last is that of appends to come."""
    rematches: tuple[int, ...] = ()
    """Commits whose lineage there is."""
    matchfiles: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Number of new exposures, and commit, by matchfile."""

    def variant(self, unit: Unit) -> str:
        """Reference that the unit's objects are from; a unit without one is what it is among the first."""
        generations = self.references.get(unit)
        return generations[-1].variant if generations else FIRST


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


@dataclass(frozen=True)
class ExpectedRematch:
    """What a rematch must report and lead to."""

    state: State
    generations: dict[str, int]
    """Of the units that were matched again."""
    known: int
    quarantined: dict[str, str]


@dataclass
class Model:
    """All snapshots that were ever committed."""

    survey: SmallSurvey
    snapshots: list[State] = field(default_factory=list)
    operations: list[str] = field(default_factory=lambda: ["init"])
    oldest: int = 0
    """Oldest snapshot that can be opened."""
    lineage: dict[int, Any] = field(default_factory=dict)
    """Links that each rematch must have told, by its commit."""

    def __post_init__(self) -> None:
        first = [unit for unit in UNITS if self.survey.reference(unit, FIRST).exists()]
        references = {unit: (Reference(FIRST, str(self.survey.reference(unit, FIRST)), 0),) for unit in first}
        self.snapshots.append(State(references=references))

    @property
    def newest(self) -> int:
        return len(self.snapshots) - 1

    @property
    def state(self) -> State:
        return self.snapshots[-1]

    def commit(self, operation: str, state: State) -> None:
        self.operations.append(operation)
        self.snapshots.append(state)

    # What operations do, on top of the newest snapshot.

    def append(self, catalogs: Sequence[Catalog], brought: str | None = None) -> Expected:
        """Where an append, with a set of corrections or with that of the store, leads."""
        number, before = self.newest + 1, self.state
        exposures, known = dict(before.exposures), 0
        quarantined = {c.source: (CODES[c.content], c.content) for c in catalogs if c.content in CODES}
        usable = [catalog for catalog in catalogs if catalog.content not in CODES]
        corrections = brought or (before.sets[-1] if before.sets else None)
        for catalog in sorted(usable, key=lambda c: (self.survey.ids[c.exposure], c.source)):
            there = exposures.get(catalog.exposure)
            if there is None:
                given = _given(corrections, catalog.exposure)
                exposures[catalog.exposure] = Taken(catalog.content, catalog.source, number, given)
            elif there.content == catalog.content:
                known += 1
            else:
                quarantined[catalog.source] = ("conflict", catalog.content)
        fresh = [taken for i, taken in exposures.items() if i not in before.exposures]
        sets = before.sets
        if corrections and corrections not in sets and any(taken.corrections for taken in fresh):
            sets = (*sets, corrections)
        codes = {source: code for source, (code, _) in quarantined.items()}
        if len(codes) == len(catalogs):
            return Expected(before, 0, 0, codes)  # none can be used: refused as a whole
        quarantine = _quarantine(before, quarantined, {c.source for c in usable}, number)
        state = replace(before, exposures=exposures, quarantine=quarantine, sets=sets)
        return Expected(state, len(fresh), known, codes)

    def rematch(self, references: Sequence[tuple[Unit, str]]) -> ExpectedRematch:
        """Where references of some units lead."""
        number, before = self.newest + 1, self.state
        quarantined: dict[str, tuple[str, str]] = {}
        usable, known, generations = set(), 0, {}
        held = dict(before.references)
        for unit, variant in references:
            source, there = str(self.survey.reference(unit, variant)), held.get(unit, ())
            if variant in CODES:
                quarantined[source] = (CODES[variant], variant)
                continue
            usable.add(source)
            if there and there[-1].variant == variant:
                known += 1
            elif len(there) > LAST_GENERATION:
                quarantined[source] = ("generations", variant)
            else:
                generations[str(unit)] = len(there)
                held[unit] = (*there, Reference(variant, source, number))
        if len(quarantined) == len(tuple(references)):
            return ExpectedRematch(before, {}, 0, {source: code for source, (code, _) in quarantined.items()})
        quarantine = _quarantine(before, quarantined, usable, number)
        rematches = (*before.rematches, number) if generations else before.rematches
        state = replace(before, quarantine=quarantine, references=held, rematches=rematches)
        codes = {source: code for source, (code, _) in quarantined.items()}
        return ExpectedRematch(state, generations, known, codes)

    def ingest(self, name: str) -> State:
        """Where the import of a matchfile leads."""
        number, before = self.newest + 1, self.state
        source = str(self.survey.reference(FILED, name))
        if name not in before.matchfiles and self.waits(before):
            return before  # the only file cannot be used: refused as a whole
        before = replace(before, quarantine=_quarantine(before, {}, {source}, number))
        if name in before.matchfiles:
            return before
        fresh = [i for i in matchfile_exposures(name) if i not in before.exposures]
        exposures = before.exposures | {i: Taken(name, source, number) for i in fresh}
        references = {FILED: (Reference(name, source, number),)} | before.references
        matchfiles = before.matchfiles | {name: (len(fresh), number)}
        return replace(before, exposures=exposures, references=references, matchfiles=matchfiles)

    def waits(self, state: State) -> bool:
        """Whether exposures of FILED wait for its reference, which a matchfile must not give them."""
        return FILED not in state.references and any(unit_of(i) == FILED for i in state.exposures)

    def correct(self, corrections: str | None) -> State:
        """Where a set of corrections, or none, leads."""
        before = self.state
        given = {i: _given(corrections, i) for i in before.exposures}
        if corrections is not None and not any(given.values()):
            return before
        exposures = {
            i: replace(taken, corrections=given[i], measured=_measured(corrections, i, taken))
            for i, taken in before.exposures.items()
        }
        return replace(before, exposures=exposures, sets=() if corrections is None else (corrections,))

    # What a snapshot holds.

    def content(self, number: int) -> dict[str, pa.Table]:
        """Tables that a snapshot must have, sorted by their keys."""
        state = self.snapshots[number]
        taken = sorted(state.exposures.items(), key=lambda item: self.survey.ids[item[0]])
        any_piece = self.survey.pieces[0, "good", FIRST]
        tables = {}
        for name in CONTENT:
            parts = [self._piece(state, i, name) for i, _ in taken]
            tables[name] = pa.concat_tables([any_piece[name].slice(0, 0), *parts]).combine_chunks()
        return tables

    def imported(self, number: int) -> pa.Table:
        """What the matchfiles say beside, of all their epochs."""
        parts = [self.survey.pieces[max(matchfile_exposures("young")), "young", "young"]["imported"].slice(0, 0)]
        for i, entry in sorted(self.snapshots[number].exposures.items()):
            if is_imported(i):
                parts.append(self.survey.pieces[i, entry.content, entry.content]["imported"])
        return pa.concat_tables(parts).combine_chunks()

    def _piece(self, state: State, exposure: int, name: str) -> pa.Table:
        entry, unit = state.exposures[exposure], unit_of(exposure)
        piece = self.survey.pieces[exposure, entry.content, state.variant(unit)][name]
        if name == "exposures":
            return _with(piece, self._of_ledger(exposure, entry))
        link = "objectid" if name == "detections" else "nearestid"
        generation = max(len(state.references.get(unit, ())) - 1, 0)
        return _with(piece, {link: _shifted(piece[link], generation)} | self._photometry(exposure, entry, piece))

    def _of_ledger(self, exposure: int, entry: Taken) -> dict[str, Any]:
        digest = None if entry.corrections is None else self.survey.digests[entry.corrections]
        measured = (None,) * 3 if entry.measured is None else SETS[entry.measured].measured[exposure]
        values = {"source": entry.source, "commit": entry.commit, "corrections": digest}
        return {name: [value] for name, value in {**values, **dict(zip(RELATIVE, measured, strict=True))}.items()}

    def _photometry(self, exposure: int, entry: Taken, piece: pa.Table) -> dict[str, Any]:
        if entry.corrections is None:
            return {}
        rows = self.survey.photometry[exposure, entry.content, entry.corrections]
        at = np.searchsorted(rows["sourceid"].to_numpy(), piece["sourceid"].to_numpy())
        return {name: rows[name].combine_chunks().take(pa.array(at)) for name in MADE}

    def objects(self, number: int) -> pa.Table:
        """All objects of a snapshot, by objectid."""
        parts = [self.survey.objects[UNITS[0], FIRST].slice(0, 0)]
        for unit, generations in self.snapshots[number].references.items():
            for i, reference in enumerate(generations):
                rows = self.survey.objects[unit, reference.variant]
                changed = {"objectid": _shifted(rows["objectid"], i), "generation": [i] * len(rows)}
                if i < len(generations) - 1:
                    changed["status"] = ["retired"] * len(rows)
                parts.append(_with(rows, changed))
        return pa.concat_tables(parts).sort_by("objectid").combine_chunks()

    def statistics(self, number: int) -> dict[int, Row]:
        """Statistics that a snapshot's content has, by objectid; those of its active objects."""
        state = self.snapshots[number]
        taken = frozenset((i, entry.content, entry.corrections) for i, entry in state.exposures.items())
        key = taken, tuple((unit, len(of), of[-1].variant) for unit, of in sorted(state.references.items()))
        if key not in self._statistics:
            content, objects = self.content(number), self.objects(number)
            active = np.array(objects["status"].to_pylist()) == "active"
            ids = objects["objectid"].to_numpy()[active].tolist()
            self._statistics[key] = statistics_from_scratch(content["detections"], ids, public(content["exposures"]))
        return self._statistics[key]

    _statistics: dict[Any, dict[int, Row]] = field(default_factory=dict)


def public(ledger: pa.Table) -> set[int]:
    """Exposures whose epochs count as released."""
    rows = ledger.select(["exposureid", "programid"]).to_pylist()
    return {row["exposureid"] for row in rows if row["programid"] == 1}


def _given(corrections: str | None, exposure: int) -> str | None:
    """The set that an exposure gets."""
    if corrections is None or is_imported(exposure):  # what matchfiles have is corrected already
        return None
    return corrections if unit_of(exposure) in SETS[corrections].units else None


def _measured(corrections: str | None, exposure: int, taken: Taken) -> str | None:
    """The set that its residual zero point is of: what another set measured stays until all corrections go."""
    if corrections is None:
        return None
    return corrections if exposure in SETS[corrections].measured else taken.measured


def _quarantine(
    before: State, quarantined: Mapping[str, tuple[str, str]], usable: set[str], number: int
) -> dict[str, Refused]:
    """Entries after some files, with their codes and contents, were refused and others were usable."""
    accepted = usable - quarantined.keys()
    names = {Path(source).name for source in accepted}
    quarantine = {
        source: entry
        for source, entry in before.quarantine.items()
        if source in quarantined
        or not (source in accepted or (entry.code != "conflict" and Path(source).name in names))
    }
    for source, (code, content) in quarantined.items():
        there = quarantine.get(source)
        if there is None or (there.code, there.content) != (code, content):
            quarantine[source] = Refused(code, content, number)
    return quarantine


def _shifted(ids: pa.ChunkedArray, generation: int) -> Any:
    return pc.add(ids, GENERATION * generation)


def _with(rows: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for name, values in columns.items():
        at = rows.column_names.index(name)
        kind = rows.schema.field(at).type
        array = values.cast(kind) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
        rows = rows.set_column(at, rows.schema.field(at), array)
    return rows
