"""Lightcurves of the objects of a snapshot in a release: only epochs in its scope."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Ints, Mask, Singles
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, IdRange, read_table
from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows, find_sorted
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import OBJECTS, Table
from ztfmatch.core.schema.ledger import GOOD
from ztfmatch.core.survey import Unit, objectid_range, unit_columns
from ztfmatch.release.io.scope import Quality, ReleaseScope

LEDGER_COLUMNS: Final = (
    *("exposureid", "obsmjd", "programid", "field", "fid", "quality"),
    *("airmass", "seeing", "maglimit", "clrcoeff"),
)
"""What has to be known of exposures."""

ROWS_IN_FLIGHT: Final = 1_000_000
BYTES_PER_ROW_IN_FLIGHT: Final = 320
"""Peak memory by rows in flight: as read, as merged, and what is kept of them."""


@dataclass(frozen=True)
class Product(OfSnapshot):
    """What a product is made from, and where."""

    snapshot: SnapshotFiles
    scope: ReleaseScope
    out: Storage


@dataclass(frozen=True)
class UnitFiles:
    """Where the objects and detections of a unit are: files of the tiles that it touches."""

    snapshot: SnapshotFiles
    unit: Unit
    tiles: tuple[Tile, ...]

    def files(self, table: Table) -> list[DataFile]:
        """Those that may have something of it."""
        return self.snapshot.of_tiles(table.name, self.tiles, [objectid_range(self.unit)])


@dataclass(frozen=True)
class ScopedExposures:
    """Exposures in the scope of a release."""

    row_of: IdMap
    clrcoeff: Singles
    """By row; NaN where unknown."""
    programid: npt.NDArray[np.int8]
    """By row."""


def exposures_in_scope(ledger: pa.Table, scope: ReleaseScope) -> ScopedExposures:
    """The exposures of ledger rows, with LEDGER_COLUMNS, that a release may show."""
    chosen = ledger.filter(pa.array(in_scope(ledger, scope)))
    clrcoeff = chosen["clrcoeff"].to_numpy().astype(np.float32)
    return ScopedExposures(build_map(chosen["exposureid"].to_numpy()), clrcoeff, chosen["programid"].to_numpy())


def in_scope(ledger: pa.Table, scope: ReleaseScope) -> Mask:
    """Whether each exposure of ledger rows, with LEDGER_COLUMNS, is in a scope."""
    programid = pc.fill_null(ledger["programid"], 0).to_numpy()
    inside = scope.of_programs(programid, ledger["obsmjd"].to_numpy())
    inside &= scope.of_units(ledger["field"].to_numpy(), ledger["fid"].to_numpy())
    return inside & _good_enough(ledger, scope.quality)


def _good_enough(ledger: pa.Table, quality: Quality) -> Mask:
    """Whether each exposure passes the cuts; what is not known passes none."""
    passes = np.ones(ledger.num_rows, bool)
    if quality.only_good_exposures:
        named = ledger["quality"].cast(pa.string())
        passes &= pc.equal(named, GOOD).to_numpy()
    values = {name: ledger[name].to_numpy().astype(np.float64) for name in ("airmass", "seeing", "maglimit")}
    if quality.max_airmass is not None:
        passes &= values["airmass"] <= quality.max_airmass
    if quality.max_seeing is not None:
        passes &= values["seeing"] <= quality.max_seeing
    if quality.min_maglimit is not None:
        passes &= values["maglimit"] >= quality.min_maglimit
    return passes


@dataclass(frozen=True)
class Released:
    """Lightcurves of some objects, ascending by objectid; only epochs in scope."""

    row: Ints
    """Row of each object in the table of objects."""
    lightcurves: Lightcurves
    """Of all objects that have an epoch at all, in scope or not; with ``clrcoeff`` if it was asked for."""
    nobs: Ints
    """Number of epochs of each object, in scope or not."""
    ngoodobs: Ints
    """Number of good ones; only if the columns that tell were asked for."""

    def with_epochs(self) -> tuple[Lightcurves, Ints]:
        """Lightcurves that have epochs in scope, and the row of each object in the table of objects."""
        curves, seen = self.lightcurves, np.diff(self.lightcurves.offsets) > 0
        offsets = np.concatenate([curves.offsets[:1], curves.offsets[1:][seen]])
        return Lightcurves(curves.objectid[seen], offsets, curves.columns), self.row[seen]


@dataclass(frozen=True)
class Source:
    """Files of detections, and what is wanted of them."""

    storage: Storage
    detections: Sequence[DataFile]
    scope: ReleaseScope
    exposures: ScopedExposures
    objectid: Ints
    """Objects wanted, ascending."""
    ids: IdRange | None = None
    """Where they are, to read no more than that."""
    by_id: bool = False
    """Whether they are few of those there, so that it is worth to look for each."""


def columns_that_decide(scope: ReleaseScope) -> list[str]:
    """Columns of detections that say whether an epoch is in a scope."""
    quality = scope.quality
    asked = [("magerr", quality.max_magerr is not None), ("catflags", quality.reject_catflags != 0)]
    return ["exposureid", "mag", *(name for name, needed in asked if needed)]


def released(source: Source, columns: Sequence[str]) -> Iterator[Released]:
    """Lightcurves of the objects wanted, some at a time, with what of their epochs is in scope."""
    wanted = list(dict.fromkeys([*columns_that_decide(source.scope), *columns]))
    read = [name for name in wanted if name != "clrcoeff"]
    for chunk in iterate_lightcurves(
        source.storage,
        source.detections,
        read,
        ROWS_IN_FLIGHT,
        wanted=Wanted(source.objectid if source.by_id else None, span=source.ids),
    ):
        yield _released(source, chunk, wanted)


def _released(source: Source, chunk: Lightcurves, wanted: Sequence[str]) -> Released:
    counts = np.diff(chunk.offsets)
    row = find_sorted(source.objectid, chunk.objectid)
    known = row >= 0
    exposure = find_rows(source.exposures.row_of, chunk.columns["exposureid"])
    keep = (exposure >= 0) & np.repeat(known, counts) & epochs_in_scope(chunk.columns, source.scope.quality)
    offsets = np.concatenate([[0], np.cumsum(keep)])[chunk.offsets]
    columns = {name: chunk.columns[name][keep] for name in wanted if name != "clrcoeff"}
    if "clrcoeff" in wanted:
        columns["clrcoeff"] = source.exposures.clrcoeff[exposure[keep]]
    edges = np.concatenate([[0], offsets[1:][known]])  # objects that are not wanted have no epochs left
    kept = Lightcurves(chunk.objectid[known], edges, columns)
    return Released(row[known], kept, counts[known], _good_counts(chunk)[known])


def epochs_in_scope(columns: Arrays, quality: Quality) -> Mask:
    """Whether each epoch has a magnitude and passes the cuts on epochs."""
    keep = np.isfinite(columns["mag"])
    if quality.max_magerr is not None:
        keep &= columns["magerr"] <= np.float32(quality.max_magerr)
    if quality.reject_catflags:
        keep &= (columns["catflags"] & np.uint16(quality.reject_catflags)) == 0
    return keep


def _good_counts(chunk: Lightcurves) -> Ints:
    """Number of good epochs of each object; zeros where the columns that tell are not there."""
    if not {"mag", "magerr", "catflags"} <= chunk.columns.keys():
        return np.zeros(len(chunk.objectid), np.int64)
    columns = chunk.columns
    good = (columns["catflags"] == 0) & np.isfinite(columns["mag"]) & np.isfinite(columns["magerr"])
    return np.diff(np.concatenate([[0], np.cumsum(good)])[chunk.offsets])


def objects_in_scope(
    storage: Storage, files: Sequence[DataFile], scope: ReleaseScope, columns: Sequence[str], ids: IdRange | None = None
) -> pa.Table:
    """Active objects of the units that a release may show, by objectid.

    Parameters
    ----------
    files : sequence of DataFile
        Of the table ``objects``.
    columns : sequence of str
        Columns wanted, ``objectid`` among them.
    ids : IdRange, optional
        Only objects of this range.
    """
    wanted = list(dict.fromkeys([*columns, "status"]))
    table = active_rows(read_table(storage, files, OBJECTS, wanted, None if ids is None else [ids]))
    table = table.select(list(columns))
    _, field, fid = unit_columns(table["objectid"].to_numpy())
    return table.filter(pa.array(scope.of_units(field, fid))).sort_by("objectid").combine_chunks()
