"""The Python interface: the same as the command line, for notebooks and scripts.

>>> store = ztfmatch.open_store("survey.store")  # doctest: +SKIP
>>> store.snapshot().lightcurves(cone=(210.8, 54.3, 2.0)).to_pandas()  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ztfmatch.core.config import VACUUM_GRACE_HOURS, CalibrateConfig, CompactConfig, Resources, StoreConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.staged import staged_beside
from ztfmatch.core.io.storage import Storage, is_url
from ztfmatch.core.operations.status import Status, status_of
from ztfmatch.core.runner import Progress, no_progress, open_runner
from ztfmatch.core.schema import TABLES
from ztfmatch.query import lightcurves as query
from ztfmatch.query.area import Circle, radius_of

if TYPE_CHECKING:  # what only some calls need is imported by them: pyarrow.dataset alone brings pandas with it
    import pyarrow.dataset as ds

    from ztfmatch.core.operations.append import AppendConfig, AppendReport
    from ztfmatch.core.operations.compact import CompactReport
    from ztfmatch.core.operations.correct import CorrectReport
    from ztfmatch.core.operations.history import Difference, RollbackReport
    from ztfmatch.core.operations.init import InitReport
    from ztfmatch.core.operations.rematch import RematchConfig, RematchReport
    from ztfmatch.core.operations.statistics import StatisticsReport
    from ztfmatch.core.operations.transients import TransientsReport
    from ztfmatch.core.operations.vacuum import VacuumReport
    from ztfmatch.core.operations.verify import VerifyReport
    from ztfmatch.kowalski.export import KowalskiConfig, KowalskiReport
    from ztfmatch.matchfile.export import ExportReport, UnitFilter
    from ztfmatch.matchfile.ingest import ImportConfig, ImportReport
    from ztfmatch.photometry.calibrate import CalibrateInputs, CalibrateReport
    from ztfmatch.photometry.report import ReportInputs, ReportSummary
    from ztfmatch.query.regeneration import Regeneration
    from ztfmatch.query.search import Answer, Query
    from ztfmatch.release import HatsConfig, Part, PublishReport, ReleasePreview
    from ztfmatch.release.io.scope import ReleaseScope
    from ztfmatch.views import DeltaReport, HatsViewReport

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Snapshot:
    """One committed state of a store; what is committed later does not change it.

    All methods return Arrow tables, which pandas (``to_pandas``), Polars (``from_arrow``) and astropy
    (``Table.from_pandas``) take. Units and descriptions are in ``table.schema.field(name).metadata``.
    """

    files: SnapshotFiles

    @property
    def number(self) -> int:
        """Number of the snapshot."""
        return self.files.number

    @functools.cached_property
    def status(self) -> Status:
        """What is in it."""
        return status_of(self.files)

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: ds.Expression | None = None,  # noqa: A002
    ) -> pa.Table:
        """Rows of a table, whole or filtered, in memory.

        Parameters
        ----------
        name : str
            One of ``ztfmatch.TABLES``.
        columns : sequence of str, optional
            Columns wanted; all by default.
        filter : pyarrow.dataset.Expression, optional
            For instance ``pyarrow.dataset.field("catflags") == 0``.

        Raises
        ------
        ConfigError
            If there is no such table or column.
        """
        for column in columns or ():
            if column not in _table(name).names:
                raise ConfigError(f"table {name} has no column {column!r}; it has {', '.join(_table(name).names)}")
        return self.dataset(name).to_table(columns=list(columns) if columns else None, filter=filter)

    def dataset(self, name: str) -> ds.Dataset:
        """A table as a lazy Arrow dataset over exactly the snapshot's files; DuckDB and Polars scan it too.

        What is read is verified, as by all readers; tools that take :meth:`paths` do without that.
        """
        import pyarrow.dataset as ds

        schema = _table(name).schema
        if not self.files.of_table(name):
            return ds.dataset(schema.empty_table())
        return self.files.dataset(name)

    def paths(self, name: str) -> list[str]:
        """Live Parquet files of a table, for tools that take a list of files."""
        _table(name)
        return [f"{self.files.storage.root}/{file.path}" for file in self.files.of_table(name)]

    def objects(self, objectid: int | Iterable[int] | None = None, cone: Circle | None = None) -> pa.Table:
        """Objects by objectid, or active ones in a cone.

        Of a cone, here and below, right ascension and declination are in degrees (ICRS); the radius is in arcsec, or a
        text with its unit: ``2deg``, ``3arcmin``, ``120arcsec``.
        """
        return query.find_objects(self.files, _selection(objectid, cone))

    def lightcurves(self, objectid: int | Iterable[int] | None = None, cone: Circle | None = None) -> pa.Table:
        """Epochs of objects by objectid or in a cone, one row an epoch.

        Sorted by objectid and time; each epoch has its exposure's programid, clrcoeff and so on. Flagged epochs
        are there too: ``catflags == 0`` are the clean ones. Among the objectids may be transientids.
        """
        from ztfmatch.query.transients import divided, transient_epochs

        objects, transients = divided(_selection(objectid, cone))
        parts = [] if objects is None else [query.lightcurve_table(self.files, objects)]
        return pa.concat_tables(parts + ([] if transients is None else [transient_epochs(self.files, transients)]))

    def transients(self, transientid: int | Iterable[int] | None = None, cone: Circle | None = None) -> pa.Table:
        """Transients by id or in a cone, with their statistics.

        They are of the orphans that the last ``update_transients`` or rematch knew.
        """
        from ztfmatch.query.transients import find_transients

        return find_transients(self.files, _selection(transientid, cone))

    def lineage(self, objectid: int | Iterable[int] | None = None) -> pa.Table:
        """What became of all objects when references were regenerated, or of some, forward and back."""
        from ztfmatch.query.lineage import lineage_table

        return lineage_table(self.files, None if objectid is None else _objectids(objectid))

    def successors(self, objectid: int | Iterable[int]) -> pa.Table:
        """What the lines of some retired objects have come to: lineage rows that end in an active object or in none."""
        from ztfmatch.query.lineage import successors

        return successors(self.files, _objectids(objectid))

    def statistics(self, objectid: int | Iterable[int] | None = None, cone: Circle | None = None) -> pa.Table:
        """Statistics of objects, computed now from their epochs, one row an object."""
        return query.fresh_statistics(self.files, _selection(objectid, cone))

    def sources(self, objectid: int | Iterable[int] | None = None, cone: Circle | None = None) -> pa.Table:
        """Objects with their statistics in one row: the columns of the matchfile's ``sources``, and more."""
        return query.source_table(self.files, _selection(objectid, cone))

    def query(self, query: Query) -> Answer:
        """Objects, statistics or lightcurves by place, objectid and condition, lazily; see :class:`ztfmatch.Query`."""
        from ztfmatch.query.search import Answer

        return Answer(self.files, query)

    def export_matchfiles(
        self,
        output: Place,
        units: UnitFilter | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> ExportReport:
        """Write units as matchfiles; see :func:`ztfmatch.matchfile.export.export_matchfiles`."""
        from ztfmatch.matchfile import export as product

        with open_runner(resources or Resources(), progress) as runner:
            return product.export_matchfiles(self.files, Path(output), units or product.UnitFilter(), runner)

    def publish_hats(
        self,
        output: Place,
        scope: ReleaseScope,
        config: HatsConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> PublishReport:
        """Write lightcurves as a HATS collection; see :func:`ztfmatch.release.publish_hats`."""
        from ztfmatch import release as publish

        with open_runner(resources or Resources(), progress) as runner:
            return publish.publish_hats(self.files, scope, _directory(output), runner, config)

    def publish_objects(
        self,
        output: Place,
        scope: ReleaseScope,
        config: HatsConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> PublishReport:
        """Write objects with statistics; see :func:`ztfmatch.release.publish_objects`."""
        from ztfmatch import release as publish

        with open_runner(resources or Resources(), progress) as runner:
            return publish.publish_objects(self.files, scope, _directory(output), runner, config)

    def publish_bulk(
        self,
        output: Place,
        scope: ReleaseScope,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> PublishReport:
        """Write lightcurves as one file a unit; see :func:`ztfmatch.release.publish_bulk`."""
        from ztfmatch import release as publish

        with open_runner(resources or Resources(), progress) as runner:
            return publish.publish_bulk(self.files, scope, _directory(output), runner)

    def publish_tar(
        self,
        output: Place,
        scope: ReleaseScope,
        part: Part,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> PublishReport:
        """Write lightcurves of a part of the sky as a tar file; see :func:`ztfmatch.release.publish_tar`."""
        from ztfmatch import release as publish

        with open_runner(resources or Resources(), progress) as runner:
            return publish.publish_tar(self.files, scope, _directory(output), runner, part)

    def preview_release(
        self,
        output: Place,
        scope: ReleaseScope,
        part: Part | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> ReleasePreview:
        """Count by program what a product would have, and write nothing.

        See :func:`ztfmatch.release.preview_release`.
        """
        from ztfmatch import release as publish

        with open_runner(resources or Resources(), progress) as runner:
            return publish.preview_release(self.files, scope, _directory(output), runner, part)

    def view_delta(self, output: Place) -> DeltaReport:
        """Show it as Delta tables over its own files; see :func:`ztfmatch.views.view_delta`."""
        from ztfmatch.views import view_delta

        return view_delta(self.files, _directory(output))

    def view_hats(
        self, output: Place, resources: Resources | None = None, progress: Progress = no_progress
    ) -> HatsViewReport:
        """Show it to LSDB over its own files; see :func:`ztfmatch.views.view_hats`."""
        from ztfmatch.views import view_hats

        with open_runner(resources or Resources(), progress) as runner:
            return view_hats(self.files, _directory(output), runner)


@dataclass(frozen=True)
class Store:
    """A lightcurve store."""

    storage: Storage

    @property
    def path(self) -> str:
        """Where it is."""
        return self.storage.root

    def snapshot(self, number: int | None = None) -> Snapshot:
        """Open the newest snapshot, or one by number."""
        return Snapshot(open_snapshot(self.storage, number))

    def commits(self) -> list[log.Commit]:
        """The log, oldest first."""
        return [log.read_commit(self.storage, number) for number in log.commit_numbers(self.storage)]

    def append(
        self,
        catalogs: str | Sequence[str],
        config: AppendConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> AppendReport:
        """Ingest epochal catalogs; see :func:`ztfmatch.core.operations.append.append_catalogs`."""
        from ztfmatch.core.operations.append import AppendConfig, append_catalogs

        with open_runner(resources or Resources(), progress) as runner:
            return append_catalogs(self.storage, _places(catalogs), config or AppendConfig(), runner)

    def rematch(
        self,
        references: str | Sequence[str],
        config: RematchConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        dry_run: bool = False,
    ) -> RematchReport:
        """Match stored epochs to regenerated references; see :func:`ztfmatch.core.operations.rematch.rematch`."""
        from ztfmatch.core.operations.rematch import RematchConfig, rematch

        with open_runner(resources or Resources(), progress) as runner:
            return rematch(self.storage, _places(references), config or RematchConfig(), runner, dry_run)

    def regenerations(self, objectid: int | Iterable[int]) -> list[Regeneration]:
        """Retired objects beside those that took their place, epoch by epoch.

        See :func:`ztfmatch.query.regeneration.regeneration_of`; ``ztfmatch.plot.plot_regenerations`` draws
        them.
        """
        from ztfmatch.query.regeneration import regeneration_of

        return [regeneration_of(self.storage, one) for one in _objectids(objectid)]

    def calibrate(
        self,
        inputs: CalibrateInputs,
        config: CalibrateConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> CalibrateReport:
        """Derive photometric corrections from PS1; see :func:`ztfmatch.photometry.calibrate.calibrate`."""
        from ztfmatch.photometry.calibrate import calibrate

        with (
            staged_beside(self.storage, inputs.output) as storage,
            open_runner(resources or Resources(), progress) as runner,
        ):
            return calibrate(storage, inputs, config or CalibrateConfig(), runner)

    def correct(
        self,
        corrections: Place | None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        note: str | None = None,
    ) -> CorrectReport:
        """Apply photometric corrections, or take them off; see :func:`ztfmatch.core.operations.correct.correct`."""
        from ztfmatch.core.operations.correct import correct

        place = None if corrections is None else Path(corrections)
        with open_runner(resources or Resources(), progress) as runner:
            return correct(self.storage, place, runner, note)

    def report(
        self,
        inputs: ReportInputs,
        config: CalibrateConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        snapshot: int | None = None,
    ) -> ReportSummary:
        """Write a report on the photometry of a snapshot; see :func:`ztfmatch.photometry.report.make_report`."""
        from ztfmatch.photometry.report import make_report

        with (
            staged_beside(self.storage, inputs.output) as storage,
            open_runner(resources or Resources(), progress) as runner,
        ):
            files = open_snapshot(storage, snapshot)
            return make_report(files, inputs, config or CalibrateConfig(), runner)

    def update_statistics(
        self, resources: Resources | None = None, progress: Progress = no_progress, note: str | None = None
    ) -> StatisticsReport:
        """Compute the statistics of all objects whose lightcurve changed."""
        from ztfmatch.core.operations.statistics import update_statistics

        with open_runner(resources or Resources(), progress) as runner:
            return update_statistics(self.storage, runner, note)

    def update_transients(
        self, resources: Resources | None = None, progress: Progress = no_progress, note: str | None = None
    ) -> TransientsReport:
        """Group the orphans of all tiles that have new ones into transients."""
        from ztfmatch.core.operations.transients import update_transients

        with open_runner(resources or Resources(), progress) as runner:
            return update_transients(self.storage, runner, note)

    def verify(
        self,
        deep: bool = False,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        snapshot: int | None = None,
    ) -> VerifyReport:
        """Prove the invariants on what is stored, in the newest snapshot or one by number."""
        from ztfmatch.core.operations.verify import verify_store

        with open_runner(resources or Resources(), progress) as runner:
            return verify_store(self.storage, runner, deep, snapshot)

    def compact(
        self,
        config: CompactConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        dry_run: bool = False,
        note: str | None = None,
    ) -> CompactReport:
        """Bring small files into few sorted ones; see :func:`ztfmatch.core.operations.compact.compact`."""
        from ztfmatch.core.operations.compact import compact

        with open_runner(resources or Resources(), progress) as runner:
            return compact(self.storage, config or CompactConfig(), runner, dry_run, note)

    def export_kowalski(
        self,
        output: Place,
        config: KowalskiConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> KowalskiReport:
        """Write documents for Kowalski; see :func:`ztfmatch.kowalski.export.export_kowalski`."""
        from ztfmatch.kowalski.export import KowalskiConfig, export_kowalski

        with open_runner(resources or Resources(), progress) as runner:
            return export_kowalski(self.storage, os.fspath(output), config or KowalskiConfig(), runner)

    def compare(self, before: int, after: int) -> list[Difference]:
        """What changed from one snapshot to another, by table and tile."""
        from ztfmatch.core.operations.history import compare

        return compare(self.storage, before, after)

    def rollback(self, snapshot: int, dry_run: bool = False, note: str | None = None) -> RollbackReport:
        """Commit the state of an older snapshot again; nothing is deleted."""
        from ztfmatch.core.operations.history import rollback

        return rollback(self.storage, snapshot, dry_run, note)

    def vacuum(self, keep: int, grace_hours: float = VACUUM_GRACE_HOURS, dry_run: bool = False) -> VacuumReport:
        """Delete what the newest ``keep`` snapshots do not name; see :func:`ztfmatch.core.operations.vacuum.vacuum`."""
        from ztfmatch.core.operations.vacuum import vacuum

        return vacuum(self.storage, keep, grace_hours, dry_run)


def open_store(path: Place) -> Store:
    """Open a store: a directory, or a URL such as ``s3://bucket/prefix`` (README, "Object stores").

    Raises
    ------
    StoreNotFoundError, StoreFormatError
        If there is none that this version reads.
    ConfigError
        If the URL carries a secret, or endpoint and credentials cannot be used.
    StorageError
        If the service does not answer.
    """
    store = Store(Storage.at(path))
    storefile.read_config(store.storage)
    return store


def init_store(
    path: Place,
    references: str | Sequence[str],
    config: StoreConfig | None = None,
    resources: Resources | None = None,
) -> Store:
    """Make a store of the seeds in reference catalogs; see :func:`ztfmatch.core.operations.init.init_store`."""
    store, _ = create(path, references, config or StoreConfig(), resources or Resources())
    return store


def create(
    path: Place,
    references: str | Sequence[str],
    config: StoreConfig,
    resources: Resources,
    progress: Progress = no_progress,
    strict: bool = False,
) -> tuple[Store, InitReport]:
    """Make a store and say what was done."""
    from ztfmatch.core.operations.init import init_store as make

    storage = Storage.at(path)
    with open_runner(resources, progress) as runner:
        return Store(storage), make(storage, _places(references), config, runner, strict)


def import_matchfiles(
    path: Place,
    files: str | Sequence[str],
    config: ImportConfig | None = None,
    resources: Resources | None = None,
    progress: Progress = no_progress,
) -> tuple[Store, ImportReport]:
    """Take matchfiles into a store; see :func:`ztfmatch.matchfile.ingest.import_matchfiles`."""
    from ztfmatch.matchfile import ingest as operation

    storage = Storage.at(path)
    with open_runner(resources or Resources(), progress) as runner:
        report = operation.import_matchfiles(storage, _places(files), config or operation.ImportConfig(), runner)
    return Store(storage), report


def _places(places: str | Sequence[str]) -> list[str]:
    return [places] if isinstance(places, str) else [os.fspath(place) for place in places]


def _directory(output: Place) -> Path:
    if is_url(os.fspath(output)):
        raise ConfigError(f"{output}: products are made in a local directory; copy them to where they are to be")
    return Path(output).expanduser().absolute()


def _table(name: str) -> Any:
    if name not in TABLES:
        raise ConfigError(f"no table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]


def _selection(objectid: int | Iterable[int] | None, cone: Circle | None) -> query.Selection:
    ids = None if objectid is None else _objectids(objectid)
    if cone is None:
        return query.Selection(ids)
    ra, dec, radius = cone
    return query.Selection(ids, query.Cone(ra, dec, radius_of(radius, "arcsec")))


def _objectids(objectid: int | Iterable[int]) -> tuple[int, ...]:
    return (int(objectid),) if not isinstance(objectid, Iterable) else tuple(int(value) for value in objectid)
