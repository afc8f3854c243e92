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

from ztfmatch.config import VACUUM_GRACE_HOURS, CalibrateConfig, CompactConfig, Resources, StoreConfig
from ztfmatch.errors import ConfigError
from ztfmatch.io import log
from ztfmatch.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.io.storage import Storage
from ztfmatch.products import query
from ztfmatch.products.status import Status, status_of
from ztfmatch.runner import Progress, no_progress, open_runner
from ztfmatch.schema import TABLES

if TYPE_CHECKING:  # what only some calls need is imported by them: pyarrow.dataset alone brings pandas with it
    import pyarrow.dataset as ds

    from ztfmatch.operations.append import AppendConfig, AppendReport
    from ztfmatch.operations.calibrate import CalibrateInputs, CalibrateReport
    from ztfmatch.operations.compact import CompactReport
    from ztfmatch.operations.correct import CorrectReport
    from ztfmatch.operations.history import Difference, RollbackReport
    from ztfmatch.operations.init import InitReport
    from ztfmatch.operations.rematch import RematchConfig, RematchReport
    from ztfmatch.operations.statistics import StatisticsReport
    from ztfmatch.operations.vacuum import VacuumReport
    from ztfmatch.operations.verify import VerifyReport
    from ztfmatch.products.report import ReportInputs, ReportSummary

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

    def objects(
        self, objectid: int | Iterable[int] | None = None, cone: tuple[float, float, float] | None = None
    ) -> pa.Table:
        """Objects by objectid, or active ones in a cone (ra, dec in degrees ICRS, radius in arcsec)."""
        return query.find_objects(self.files, _selection(objectid, cone))

    def lightcurves(
        self, objectid: int | Iterable[int] | None = None, cone: tuple[float, float, float] | None = None
    ) -> pa.Table:
        """Epochs of objects by objectid or in a cone (ra, dec in degrees ICRS, radius in arcsec), one row an epoch.

        Sorted by objectid and time; each epoch has its exposure's programid, clrcoeff and so on. Flagged epochs
        are there too: ``catflags == 0`` are the clean ones.
        """
        return query.lightcurve_table(self.files, _selection(objectid, cone))

    def lineage(self, objectid: int | Iterable[int] | None = None) -> pa.Table:
        """What became of all objects when references were regenerated, or of some, forward and back."""
        from ztfmatch.products.lineage import lineage_table

        return lineage_table(self.files, None if objectid is None else _objectids(objectid))

    def successors(self, objectid: int | Iterable[int]) -> pa.Table:
        """What the lines of some retired objects have come to: lineage rows that end in an active object or in none."""
        from ztfmatch.products.lineage import successors

        return successors(self.files, _objectids(objectid))

    def statistics(
        self, objectid: int | Iterable[int] | None = None, cone: tuple[float, float, float] | None = None
    ) -> pa.Table:
        """Statistics of objects, computed now from their epochs, one row an object."""
        return query.fresh_statistics(self.files, _selection(objectid, cone))

    def sources(
        self, objectid: int | Iterable[int] | None = None, cone: tuple[float, float, float] | None = None
    ) -> pa.Table:
        """Objects with their statistics in one row: the columns of the matchfile's ``sources``, and more."""
        return query.source_table(self.files, _selection(objectid, cone))


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
        """Take in epochal catalogs; see :func:`ztfmatch.operations.append.append_catalogs`."""
        from ztfmatch.operations.append import AppendConfig, append_catalogs

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
        """Match stored epochs again, to regenerated references; see :func:`ztfmatch.operations.rematch.rematch`."""
        from ztfmatch.operations.rematch import RematchConfig, rematch

        with open_runner(resources or Resources(), progress) as runner:
            return rematch(self.storage, _places(references), config or RematchConfig(), runner, dry_run)

    def calibrate(
        self,
        inputs: CalibrateInputs,
        config: CalibrateConfig | None = None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
    ) -> CalibrateReport:
        """Derive photometric corrections from PS1; see :func:`ztfmatch.operations.calibrate.calibrate`."""
        from ztfmatch.operations.calibrate import calibrate

        with open_runner(resources or Resources(), progress) as runner:
            return calibrate(self.storage, inputs, config or CalibrateConfig(), runner)

    def correct(
        self,
        corrections: Place | None,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        note: str | None = None,
    ) -> CorrectReport:
        """Apply photometric corrections, or take them off; see :func:`ztfmatch.operations.correct.correct`."""
        from ztfmatch.operations.correct import correct

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
        """Write a report on the photometry of a snapshot; see :func:`ztfmatch.products.report.make_report`."""
        from ztfmatch.products.report import make_report

        with open_runner(resources or Resources(), progress) as runner:
            files = open_snapshot(self.storage, snapshot)
            return make_report(files, inputs, config or CalibrateConfig(), runner)

    def update_statistics(
        self, resources: Resources | None = None, progress: Progress = no_progress, note: str | None = None
    ) -> StatisticsReport:
        """Compute the statistics of all objects whose lightcurve changed."""
        from ztfmatch.operations.statistics import update_statistics

        with open_runner(resources or Resources(), progress) as runner:
            return update_statistics(self.storage, runner, note)

    def verify(
        self,
        deep: bool = False,
        resources: Resources | None = None,
        progress: Progress = no_progress,
        snapshot: int | None = None,
    ) -> VerifyReport:
        """Prove the invariants on what is stored, in the newest snapshot or one by number."""
        from ztfmatch.operations.verify import verify_store

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
        """Bring small files into few sorted ones; see :func:`ztfmatch.operations.compact.compact`."""
        from ztfmatch.operations.compact import compact

        with open_runner(resources or Resources(), progress) as runner:
            return compact(self.storage, config or CompactConfig(), runner, dry_run, note)

    def compare(self, before: int, after: int) -> list[Difference]:
        """What changed from one snapshot to another, by table and tile."""
        from ztfmatch.operations.history import compare

        return compare(self.storage, before, after)

    def rollback(self, snapshot: int, dry_run: bool = False, note: str | None = None) -> RollbackReport:
        """Commit the state of an older snapshot again; nothing is deleted."""
        from ztfmatch.operations.history import rollback

        return rollback(self.storage, snapshot, dry_run, note)

    def vacuum(self, keep: int, grace_hours: float = VACUUM_GRACE_HOURS, dry_run: bool = False) -> VacuumReport:
        """Delete what none of the newest ``keep`` snapshots names; see :func:`ztfmatch.operations.vacuum.vacuum`."""
        from ztfmatch.operations.vacuum import vacuum

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
    log.read_config(store.storage)
    return store


def init_store(
    path: Place,
    references: str | Sequence[str],
    config: StoreConfig | None = None,
    resources: Resources | None = None,
) -> Store:
    """Make a store of the seeds in reference catalogs; see :func:`ztfmatch.operations.init.init_store`."""
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
    from ztfmatch.operations.init import init_store as make

    storage = Storage.at(path)
    with open_runner(resources, progress) as runner:
        return Store(storage), make(storage, _places(references), config, runner, strict)


def _places(places: str | Sequence[str]) -> list[str]:
    return [places] if isinstance(places, str) else [os.fspath(place) for place in places]


def _table(name: str) -> Any:
    if name not in TABLES:
        raise ConfigError(f"no table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]


def _selection(objectid: int | Iterable[int] | None, cone: tuple[float, float, float] | None) -> query.Selection:
    ids = None if objectid is None else _objectids(objectid)
    return query.Selection(ids, None if cone is None else query.Cone(*cone))


def _objectids(objectid: int | Iterable[int]) -> tuple[int, ...]:
    return (int(objectid),) if not isinstance(objectid, Iterable) else tuple(int(value) for value in objectid)
