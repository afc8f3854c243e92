"""The class Snapshot: tables, queries, and products of a snapshot."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from ztfmatch.api.plots import Plots
from ztfmatch.api.running import Ids, Place, Running, ids_of, runs_tasks
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import is_url
from ztfmatch.core.operations.status import Status, status_of, table_status
from ztfmatch.core.runner import open_runner
from ztfmatch.core.schema import CORRECTIONS, OBJECTS, TABLES, Table
from ztfmatch.query import lightcurves
from ztfmatch.query.area import Circle, cone_of

if TYPE_CHECKING:  # what only some calls need is imported by them: pyarrow.dataset alone brings pandas with it
    import pyarrow.dataset as ds

    from ztfmatch.matchfile.export import ExportReport, UnitFilter
    from ztfmatch.query.answer import Answer
    from ztfmatch.query.near import Near
    from ztfmatch.query.request import Query
    from ztfmatch.query.stars import Named
    from ztfmatch.release import HatsConfig, Part, PublishReport, ReleasePreview
    from ztfmatch.release.io.scope import ReleaseScope
    from ztfmatch.views import DeltaReport, HatsViewReport


@dataclass(frozen=True)
class Snapshot(Plots, Displayable):
    """One committed state of a store; later commits do not change it.

    Methods return Arrow tables, to be converted to pandas (``to_pandas``), Polars (``from_arrow``) or astropy
    (``Table.from_pandas``). Units and descriptions are in ``table.schema.field(name).metadata``.
    """

    files: SnapshotFiles

    def __post_init__(self) -> None:
        if not isinstance(self.files, SnapshotFiles):
            raise TypeError(f"open a snapshot with ztfmatch.open_store(...).snapshot(), not from {self.files!r}")

    def _fields(self) -> Mapping[str, Any]:
        commit = self.files.commit
        about = {name: getattr(commit, name) for name in ("operation", "time", "note")}
        return {"store": self.files.storage.root, "snapshot": self.number, **about, "tables": table_status(self.files)}

    def __len__(self) -> int:
        """Number of objects, including retired ones, from the manifest: no table is read."""
        return self.files.rows(OBJECTS.name)

    def __bool__(self) -> bool:
        """True even if empty: ``if snapshot`` tests for None."""
        return True

    @property
    def number(self) -> int:
        """Number of the snapshot."""
        return self.files.number

    @functools.cached_property
    def status(self) -> Status:
        """Summary of its content."""
        status = status_of(self.files)
        if not self.files.files.has(CORRECTIONS.name):
            return status
        from ztfmatch.photometry.drift import find_drift, said_of

        drift = find_drift(self.files)
        said = "; ".join(filter(None, [status.corrections, said_of(drift)]))
        return replace(status, corrections=said, drift=drift)

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: ds.Expression | None = None,  # noqa: A002
    ) -> pa.Table:
        """Rows of a table in memory, all or filtered.

        Parameters
        ----------
        name : str
            One of ``ztfmatch.TABLES``.
        columns : sequence of str, optional
            Columns to read, or a single one; all by default.
        filter : pyarrow.dataset.Expression, optional
            For instance ``pyarrow.dataset.field("catflags") == 0``.

        Raises
        ------
        ConfigError
            If there is no such table or column.
        """
        known = _table(name).names
        columns = [columns] if isinstance(columns, str) else columns
        for column in columns or ():
            if column not in known:
                raise ConfigError(f"table {name} has no column {column!r}; it has {', '.join(known)}")
        return self.dataset(name).to_table(columns=list(columns) if columns else None, filter=filter)

    def dataset(self, name: str) -> ds.Dataset:
        """A table as a lazy Arrow dataset over the snapshot's files, which DuckDB and Polars can scan.

        Everything read is verified against checksums; tools that read the files of :meth:`paths` skip that.
        """
        import pyarrow.dataset as ds

        schema = _table(name).schema
        if not self.files.files.has(name):
            return ds.dataset(schema.empty_table())
        return self.files.dataset(name)

    def paths(self, name: str) -> list[str]:
        """Parquet files of a table, for tools that read a list of files."""
        _table(name)
        return [f"{self.files.storage.root}/{file.path}" for file in self.files.of_table(name)]

    def objects(self, objectid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Objects by objectid, or active ones in a cone.

        A cone, here and below, is (right ascension, declination, radius) or (SkyCoord, radius). Numbers are degrees
        (ICRS), for the radius arcsec; strings may be sexagesimal, or have a unit: ``2deg``, ``3arcmin``; astropy
        quantities are accepted, too.
        """
        return lightcurves.find_objects(self.files, _selection(objectid, cone))

    def lightcurves(self, objectid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Epochs of objects by objectid or in a cone, one row per epoch.

        Sorted by objectid and time, with programid, clrcoeff and so on of each epoch's exposure. Flagged epochs are
        included: ``catflags == 0`` selects the clean ones. Objectids may include transientids.
        """
        from ztfmatch.query.transients import divided, transient_epochs

        objects, transients = divided(_selection(objectid, cone))
        parts = [] if objects is None else [lightcurves.lightcurve_table(self.files, objects)]
        return pa.concat_tables(parts + ([] if transients is None else [transient_epochs(self.files, transients)]))

    def transients(self, transientid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Transients by id or in a cone, with their statistics.

        Transients are those of the last ``update_transients`` or rematch.
        """
        from ztfmatch.query.transients import find_transients

        return find_transients(self.files, _selection(transientid, cone))

    def lineage(self, objectid: Ids | None = None) -> pa.Table:
        """Lineage of all objects over regenerated references, or of some, forwards and backwards."""
        from ztfmatch.query.lineage import lineage_table

        return lineage_table(self.files, None if objectid is None else ids_of(objectid))

    def successors(self, objectid: Ids) -> pa.Table:
        """Final lineage rows of retired objects: those that lead to an active object, or to none."""
        from ztfmatch.query.lineage import successors

        return successors(self.files, ids_of(objectid))

    def statistics(self, objectid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Statistics of objects, computed on the fly from their epochs, one row per object."""
        return lightcurves.fresh_statistics(self.files, _selection(objectid, cone))

    def sources(self, objectid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Objects with their statistics: the columns of the matchfile's ``sources``, and more."""
        return lightcurves.source_table(self.files, _selection(objectid, cone))

    def near(self, place: Any) -> Near:
        """The object nearest to a position, and the number of exposures that cover it: why a cone is empty.

        Parameters
        ----------
        place : (ra, dec) or SkyCoord
            A radius after them, as in a cone, is ignored.
        """
        from ztfmatch.query.near import near

        parts = (place,) if hasattr(place, "icrs") or isinstance(place, str) else tuple(place)[:2]
        if len(parts) != 2 and not hasattr(place, "icrs"):
            raise ConfigError(f"a position {place!r}; expected (ra, dec) or a SkyCoord")
        cone = cone_of((*parts, 0.0))
        return near(self.files, cone.ra, cone.dec)

    def query(self, query: Query) -> Answer:
        """Objects, statistics, lightcurves or stars by position, id and condition; see :class:`ztfmatch.Query`."""
        from ztfmatch.query.answer import Answer
        from ztfmatch.query.staranswer import StarAnswer

        return (StarAnswer if query.select == "stars" else Answer)(self.files, query)

    def stars(self, starid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Stars by starid or in a cone, with their magnitudes in each filter, scatter and colours."""
        from ztfmatch.query.stars import find_stars

        chosen = _selection(starid, cone)
        return find_stars(self.files, chosen.objectids, chosen.cone)

    def star_lightcurves(self, starid: Ids | None = None, cone: Circle | None = None) -> pa.Table:
        """Epochs of stars by starid or in a cone, over all their objects, sorted by ``starid`` and time."""
        from ztfmatch.query.stars import epochs_of_cone, star_epochs

        chosen = _selection(starid, cone)
        if chosen.cone is not None:
            return epochs_of_cone(self.files, chosen.cone)
        return star_epochs(self.files, chosen.objectids or ())

    def members(self, starid: Ids) -> pa.Table:
        """``objectid`` and ``starid`` of the objects of some stars."""
        from ztfmatch.query.stars import members_of

        return members_of(self.files, ids_of(starid))

    def named_stars(self, *names: int | str) -> Named:
        """Stars by starid, by name (``ZTF J162819.90+325717.3``), or by an objectid, even a retired one."""
        from ztfmatch.query.stars import named_stars

        return named_stars(self.files, names)

    @runs_tasks
    def export_matchfiles(
        self, output: Place, units: UnitFilter | None = None, overwrite: bool = False, **running: Unpack[Running]
    ) -> ExportReport:
        """Export units as matchfiles; see :func:`ztfmatch.matchfile.export.export_matchfiles`."""
        from ztfmatch.matchfile import export

        with open_runner(**running) as runner:
            return export.export_matchfiles(self.files, Path(output), units or export.UnitFilter(), runner, overwrite)

    @runs_tasks
    def publish_hats(
        self, output: Place, scope: ReleaseScope, config: HatsConfig | None = None, **running: Unpack[Running]
    ) -> PublishReport:
        """Publish lightcurves as a HATS collection; see :func:`ztfmatch.release.publish_hats`."""
        from ztfmatch.release import publish_hats

        with open_runner(**running) as runner:
            return publish_hats(self.files, scope, _directory(output), runner, config)

    @runs_tasks
    def publish_stars(
        self, output: Place, scope: ReleaseScope, config: HatsConfig | None = None, **running: Unpack[Running]
    ) -> PublishReport:
        """Publish lightcurves by star as a HATS collection; see :func:`ztfmatch.release.publish_stars`."""
        from ztfmatch.release import publish_stars

        with open_runner(**running) as runner:
            return publish_stars(self.files, scope, _directory(output), runner, config)

    @runs_tasks
    def publish_objects(
        self, output: Place, scope: ReleaseScope, config: HatsConfig | None = None, **running: Unpack[Running]
    ) -> PublishReport:
        """Publish objects with statistics; see :func:`ztfmatch.release.publish_objects`."""
        from ztfmatch.release import publish_objects

        with open_runner(**running) as runner:
            return publish_objects(self.files, scope, _directory(output), runner, config)

    @runs_tasks
    def publish_bulk(self, output: Place, scope: ReleaseScope, **running: Unpack[Running]) -> PublishReport:
        """Publish lightcurves as one file per unit; see :func:`ztfmatch.release.publish_bulk`."""
        from ztfmatch.release import publish_bulk

        with open_runner(**running) as runner:
            return publish_bulk(self.files, scope, _directory(output), runner)

    @runs_tasks
    def publish_tar(self, output: Place, scope: ReleaseScope, part: Part, **running: Unpack[Running]) -> PublishReport:
        """Publish lightcurves of a part of the sky as a tar file; see :func:`ztfmatch.release.publish_tar`."""
        from ztfmatch.release import publish_tar

        with open_runner(**running) as runner:
            return publish_tar(self.files, scope, _directory(output), runner, part)

    @runs_tasks
    def preview_release(
        self, output: Place, scope: ReleaseScope, part: Part | None = None, **running: Unpack[Running]
    ) -> ReleasePreview:
        """Count objects and epochs of a release by program; write nothing.

        See :func:`ztfmatch.release.preview_release`.
        """
        from ztfmatch.release import preview_release

        with open_runner(**running) as runner:
            return preview_release(self.files, scope, _directory(output), runner, part)

    def view_delta(self, output: Place) -> DeltaReport:
        """Write Delta tables over its files; see :func:`ztfmatch.views.view_delta`."""
        from ztfmatch.views import view_delta

        return view_delta(self.files, _directory(output))

    @runs_tasks
    def view_hats(self, output: Place, **running: Unpack[Running]) -> HatsViewReport:
        """Write a HATS view over its files; see :func:`ztfmatch.views.view_hats`."""
        from ztfmatch.views import view_hats

        with open_runner(**running) as runner:
            return view_hats(self.files, _directory(output), runner)


def _directory(output: Place) -> Path:
    if is_url(os.fspath(output)):
        raise ConfigError(f"{output}: products are made in a local directory; copy them from there")
    return Path(output).expanduser().absolute()


def _table(name: str) -> Table:
    if name not in TABLES:
        raise ConfigError(f"no table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]


def _selection(objectid: Ids | None, cone: Circle | None) -> lightcurves.Selection:
    ids = None if objectid is None else ids_of(objectid)
    if cone is None:
        return lightcurves.Selection(ids)
    return lightcurves.Selection(ids, cone_of(cone))
