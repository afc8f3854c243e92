"""The class Store: creates, opens, fills, checks and changes a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from ztfmatch.api.running import Ids, Place, Places, Running, ids_of, places_of, runs_tasks
from ztfmatch.core.config import MIN_NEW_PERCENT, VACUUM_GRACE_HOURS, CalibrateConfig, CompactConfig, StoreConfig
from ztfmatch.core.display import Displayable, as_html
from ztfmatch.core.errors import ZtfmatchError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.staged import staged_beside
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.runner import open_runner

if TYPE_CHECKING:  # what only some calls need is imported by them
    from ztfmatch.api.snapshot import Snapshot
    from ztfmatch.core.config import AppendConfig
    from ztfmatch.core.operations.appendreport import AppendReport
    from ztfmatch.core.operations.compact import CompactReport
    from ztfmatch.core.operations.correct import CorrectReport
    from ztfmatch.core.operations.history import Difference, RollbackReport
    from ztfmatch.core.operations.init import InitReport
    from ztfmatch.core.operations.link import LinkReport
    from ztfmatch.core.operations.rematch import RematchConfig, RematchReport
    from ztfmatch.core.operations.repair import RepairReport
    from ztfmatch.core.operations.statistics import StatisticsReport
    from ztfmatch.core.operations.transients import TransientsReport
    from ztfmatch.core.operations.vacuum import VacuumReport
    from ztfmatch.core.operations.verify import VerifyReport
    from ztfmatch.kowalski.export import KowalskiConfig, KowalskiReport
    from ztfmatch.matchfile.ingest import ImportConfig, ImportReport
    from ztfmatch.photometry.calibrate import CalibrateInputs, CalibrateReport
    from ztfmatch.photometry.extend import ExtendReport
    from ztfmatch.photometry.report import ReportInputs, ReportSummary
    from ztfmatch.query.regeneration import Regeneration
    from ztfmatch.references.audit import AuditInputs, AuditReport
    from ztfmatch.references.flatness import FlatnessInputs, FlatnessReport
    from ztfmatch.references.schema.settings import ReferenceSettings
    from ztfmatch.stars.internal import InternalReport
    from ztfmatch.stars.offsets import OffsetsReport
    from ztfmatch.stars.statistics import StarStatisticsReport

_COMMITS_SHOWN: Final = 10
"""Number of newest commits in the notebook view of a store."""


@dataclass(frozen=True)
class Store(Displayable):
    """A lightcurve store; open one with :func:`open_store`."""

    storage: Storage

    def __post_init__(self) -> None:
        if not isinstance(self.storage, Storage):
            raise TypeError(f"open a store by its path with ztfmatch.open_store({str(self.storage)!r})")

    def _fields(self) -> Mapping[str, Any]:
        return {"path": self.path}  # no more: a debugger must not wait for the storage

    def _repr_html_(self) -> str:
        try:
            numbers = log.commit_numbers(self.storage)[: -_COMMITS_SHOWN - 1 : -1]
            commits = [log.read_commit(self.storage, number) for number in numbers]
        except (ZtfmatchError, OSError) as error:
            return as_html("Store", {**self._fields(), "error": str(error)})
        names = ("number", "time", "operation", "counts", "note")
        history = [{name: getattr(commit, name) for name in names} for commit in commits]
        return as_html("Store", {**self._fields(), "newest snapshots": history})

    def __len__(self) -> int:
        """Number of snapshots in the log, as in :meth:`commits`."""
        return len(log.commit_numbers(self.storage))

    def __bool__(self) -> bool:
        """True even if empty: ``if store`` tests for None."""
        return True

    @property
    def path(self) -> str:
        """Path or URL."""
        return self.storage.root

    def snapshot(self, number: int | None = None) -> Snapshot:
        """Open the newest snapshot, or one by number."""
        from ztfmatch.api.snapshot import Snapshot

        return Snapshot(open_snapshot(self.storage, number))

    def commits(self) -> list[log.Commit]:
        """The log, oldest first."""
        return [log.read_commit(self.storage, number) for number in log.commit_numbers(self.storage)]

    @runs_tasks
    def append(self, catalogs: Places, config: AppendConfig | None = None, **running: Unpack[Running]) -> AppendReport:
        """Ingest epochal catalogs; see :func:`ztfmatch.core.operations.append.append_catalogs`."""
        from ztfmatch.core.config import AppendConfig
        from ztfmatch.core.operations.append import append_catalogs

        with open_runner(**running) as runner:
            return append_catalogs(self.storage, places_of(catalogs), config or AppendConfig(), runner)

    @runs_tasks
    def rematch(
        self,
        references: Places,
        config: RematchConfig | None = None,
        *,
        dry_run: bool = False,
        **running: Unpack[Running],
    ) -> RematchReport:
        """Match stored epochs to regenerated references; see :func:`ztfmatch.core.operations.rematch.rematch`."""
        from ztfmatch.core.operations.rematch import RematchConfig, rematch

        with open_runner(**running) as runner:
            return rematch(self.storage, places_of(references), config or RematchConfig(), runner, dry_run)

    @runs_tasks
    def audit_references(
        self,
        inputs: AuditInputs | None = None,
        settings: ReferenceSettings | None = None,
        *,
        snapshot: int | None = None,
        **running: Unpack[Running],
    ) -> AuditReport:
        """Audit references: find suspect ones; see :func:`ztfmatch.references.audit.audit_store`."""
        from ztfmatch.references.audit import AuditInputs, audit_store
        from ztfmatch.references.schema.settings import ReferenceSettings

        at = open_snapshot(self.storage, snapshot)
        with open_runner(**running) as runner:
            return audit_store(at, inputs or AuditInputs(), settings or ReferenceSettings(), runner)

    @runs_tasks
    def measure_flatness(
        self,
        inputs: FlatnessInputs,
        settings: ReferenceSettings | None = None,
        *,
        note: str | None = None,
        **running: Unpack[Running],
    ) -> FlatnessReport:
        """Measure the flatness of exposures; see :func:`ztfmatch.references.flatness.update_flatness`."""
        from ztfmatch.references.flatness import update_flatness
        from ztfmatch.references.schema.settings import ReferenceSettings

        with open_runner(**running) as runner:
            return update_flatness(self.storage, inputs, settings or ReferenceSettings(), runner, note)

    def regenerations(self, objectid: Ids) -> list[Regeneration]:
        """Compare retired objects with their successors, epoch by epoch.

        See :func:`ztfmatch.query.regeneration.regeneration_of`; ``ztfmatch.plot.plot_regenerations`` plots them.
        """
        from ztfmatch.query.regeneration import regeneration_of

        return [regeneration_of(self.storage, one) for one in ids_of(objectid)]

    @runs_tasks
    def calibrate(
        self, inputs: CalibrateInputs, config: CalibrateConfig | None = None, **running: Unpack[Running]
    ) -> CalibrateReport:
        """Derive photometric corrections from PS1; see :func:`ztfmatch.photometry.calibrate.calibrate`."""
        from ztfmatch.photometry.calibrate import calibrate

        with staged_beside(self.storage, inputs.output) as storage, open_runner(**running) as runner:
            return calibrate(storage, inputs, config or CalibrateConfig(), runner)

    @runs_tasks
    def extend_corrections(
        self, inputs: CalibrateInputs, config: CalibrateConfig | None = None, **running: Unpack[Running]
    ) -> ExtendReport:
        """Add terms of newer exposures to corrections; see :func:`ztfmatch.photometry.extend.extend_corrections`."""
        from ztfmatch.photometry.extend import extend_corrections

        with staged_beside(self.storage, inputs.output) as storage, open_runner(**running) as runner:
            return extend_corrections(storage, inputs, config or CalibrateConfig(), runner)

    @runs_tasks
    def correct(
        self, corrections: Place | None, *, note: str | None = None, **running: Unpack[Running]
    ) -> CorrectReport:
        """Apply photometric corrections, or remove them; see :func:`ztfmatch.core.operations.correct.correct`."""
        from ztfmatch.core.operations.correct import correct

        place = None if corrections is None else Path(corrections)
        with open_runner(**running) as runner:
            return correct(self.storage, place, runner, note)

    @runs_tasks
    def report(
        self,
        inputs: ReportInputs,
        config: CalibrateConfig | None = None,
        *,
        snapshot: int | None = None,
        **running: Unpack[Running],
    ) -> ReportSummary:
        """Write a report on the photometry of a snapshot; see :func:`ztfmatch.photometry.report.make_report`."""
        from ztfmatch.photometry.report import make_report

        with staged_beside(self.storage, inputs.output) as storage, open_runner(**running) as runner:
            return make_report(open_snapshot(storage, snapshot), inputs, config or CalibrateConfig(), runner)

    @runs_tasks
    def update_statistics(
        self, min_new_percent: float = MIN_NEW_PERCENT, *, note: str | None = None, **running: Unpack[Running]
    ) -> StatisticsReport:
        """Update statistics in tiles whose epochs have grown by at least ``min_new_percent``; 0 updates all.

        See :func:`ztfmatch.core.operations.statistics.update_statistics`.
        """
        from ztfmatch.core.operations.statistics import update_statistics

        with open_runner(**running) as runner:
            return update_statistics(self.storage, runner, min_new_percent, note)

    @runs_tasks
    def update_transients(self, *, note: str | None = None, **running: Unpack[Running]) -> TransientsReport:
        """Group the orphans of all tiles with new ones into transients."""
        from ztfmatch.core.operations.transients import update_transients

        with open_runner(**running) as runner:
            return update_transients(self.storage, runner, note)

    @runs_tasks
    def link_stars(self, *, note: str | None = None, **running: Unpack[Running]) -> LinkReport:
        """Link objects of the same source in different units into stars; see :mod:`ztfmatch.core.operations.link`."""
        from ztfmatch.core.operations.link import link_stars

        with open_runner(**running) as runner:
            return link_stars(self.storage, runner, note)

    @runs_tasks
    def update_star_statistics(self, *, note: str | None = None, **running: Unpack[Running]) -> StarStatisticsReport:
        """Update the magnitudes of stars over all their objects, in tiles with new epochs or stars."""
        from ztfmatch.stars.statistics import update_star_statistics

        with open_runner(**running) as runner:
            return update_star_statistics(self.storage, runner, note)

    @runs_tasks
    def update_offsets(self, *, note: str | None = None, **running: Unpack[Running]) -> OffsetsReport:
        """Measure zero-point offsets between units; see :func:`ztfmatch.stars.offsets.update_offsets`."""
        from ztfmatch.stars.offsets import update_offsets

        with open_runner(**running) as runner:
            return update_offsets(self.storage, runner, note)

    def calibrate_internal(self, output: Place) -> InternalReport:
        """Write corrections from the measured offsets; see :func:`ztfmatch.stars.internal.calibrate_internal`."""
        from ztfmatch.stars.internal import calibrate_internal

        return calibrate_internal(open_snapshot(self.storage), Path(output))

    @runs_tasks
    def verify(self, deep: bool = False, *, snapshot: int | None = None, **running: Unpack[Running]) -> VerifyReport:
        """Verify the invariants of the newest snapshot, or of one by number."""
        from ztfmatch.core.operations.verify import verify_store
        from ztfmatch.stars.verify import check_offsets, check_statistics

        with open_runner(**running) as runner:
            return verify_store(self.storage, runner, deep, snapshot, (check_statistics, check_offsets))

    @runs_tasks
    def repair(
        self,
        catalogs: Places = (),
        *,
        deep: bool = False,
        note: str | None = None,
        **running: Unpack[Running],
    ) -> RepairReport:
        """Find lost files and restore their rows; see :func:`ztfmatch.core.operations.repair.repair`."""
        from ztfmatch.core.operations.repair import repair

        with open_runner(**running) as runner:
            return repair(self.storage, places_of(catalogs), runner, deep, note)

    @runs_tasks
    def compact(
        self,
        config: CompactConfig | None = None,
        *,
        dry_run: bool = False,
        note: str | None = None,
        **running: Unpack[Running],
    ) -> CompactReport:
        """Merge the small files of each tile; see :func:`ztfmatch.core.operations.compact.compact`."""
        from ztfmatch.core.operations.compact import compact

        with open_runner(**running) as runner:
            return compact(self.storage, config or CompactConfig(), runner, dry_run, note)

    @runs_tasks
    def export_kowalski(
        self, output: Place, config: KowalskiConfig | None = None, **running: Unpack[Running]
    ) -> KowalskiReport:
        """Export documents for Kowalski; see :func:`ztfmatch.kowalski.export.export_kowalski`."""
        from ztfmatch.kowalski.export import KowalskiConfig, export_kowalski

        with open_runner(**running) as runner:
            return export_kowalski(self.storage, os.fspath(output), config or KowalskiConfig(), runner)

    def compare(self, before: int, after: int) -> list[Difference]:
        """Compare two snapshots by table and tile."""
        from ztfmatch.core.operations.history import compare

        return compare(self.storage, before, after)

    def rollback(self, snapshot: int, *, dry_run: bool = False, note: str | None = None) -> RollbackReport:
        """Roll back to an older snapshot by a new commit; nothing is deleted."""
        from ztfmatch.core.operations.history import rollback

        return rollback(self.storage, snapshot, dry_run, note)

    def vacuum(self, keep: int, *, grace_hours: float = VACUUM_GRACE_HOURS, dry_run: bool = False) -> VacuumReport:
        """Delete files unused by the newest ``keep`` snapshots; see :func:`ztfmatch.core.operations.vacuum.vacuum`."""
        from ztfmatch.core.operations.vacuum import vacuum

        return vacuum(self.storage, keep, grace_hours, dry_run)


def open_store(path: Place) -> Store:
    """Open a store: a directory, or a URL such as ``s3://bucket/prefix`` (see the guide on object stores).

    Raises
    ------
    StoreNotFoundError, StoreFormatError
        If there is no store that this version can read.
    ConfigError
        If the URL contains a secret, or endpoint or credentials are unusable.
    StorageError
        If the service does not answer.
    """
    store = Store(Storage.at(path))
    storefile.read_config(store.storage)
    return store


@runs_tasks
def init_store(
    path: Place,
    references: Places,
    config: StoreConfig | None = None,
    *,
    link: bool = True,
    **running: Unpack[Running],
) -> Store:
    """Create a store from reference catalogs; see :func:`ztfmatch.core.operations.init.init_store`."""
    store, _ = create(path, references, config, link=link, **running)
    return store


@runs_tasks
def create(
    path: Place,
    references: Places,
    config: StoreConfig | None = None,
    *,
    strict: bool = False,
    link: bool = True,
    **running: Unpack[Running],
) -> tuple[Store, InitReport]:
    """Create a store; return it with the report."""
    from ztfmatch.core.operations.init import init_store as make

    storage = Storage.at(path)
    with open_runner(**running) as runner:
        return Store(storage), make(storage, places_of(references), config or StoreConfig(), runner, strict, link)


@runs_tasks
def import_matchfiles(
    path: Place, files: Places, config: ImportConfig | None = None, **running: Unpack[Running]
) -> tuple[Store, ImportReport]:
    """Import matchfiles into a store; see :func:`ztfmatch.matchfile.ingest.import_matchfiles`."""
    from ztfmatch.matchfile import ingest

    storage = Storage.at(path)
    with open_runner(**running) as runner:
        report = ingest.import_matchfiles(storage, places_of(files), config or ingest.ImportConfig(), runner)
    return Store(storage), report
