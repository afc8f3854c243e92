"""Query transients and their detections in a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.parquet import DataFile, read_file_rows, read_rows, read_table
from ztfmatch.core.io.rows import FOOTPRINT
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import tiles_of_footprints
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.survey import MAX_OBJECTID, founder_of_transientid, transientid_of
from ztfmatch.query.area import Cone
from ztfmatch.query.lightcurves import Selection, with_exposures, with_separation


def find_transients(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Transients of a selection, in order of their ids; of a cone with ``separation`` in arcsec.

    Raises
    ------
    ConfigError
        If a number is not a transientid.
    """
    if selection.cone is not None:
        return _in_cone(snapshot, selection.cone)
    ids = sorted(set(selection.objectids or ()))
    bad = [number for number in ids if number <= MAX_OBJECTID]
    if bad:
        raise ConfigError(f"{bad[0]} is not a transientid: those are above {MAX_OBJECTID}")
    return _read(snapshot, _tiles_of_ids(snapshot, ids), [(number, number) for number in ids])


def _read(snapshot: SnapshotFiles, tiles: Sequence[Tile], ranges: Sequence[tuple[int, int]] | None = None) -> pa.Table:
    files = snapshot.of_tiles(TRANSIENTS.name, tiles)
    rows = read_rows(snapshot.storage, files, TRANSIENTS.names, ranges, threads=True)
    return TRANSIENTS.empty if rows is None else rows.cast(TRANSIENTS.schema).sort_by("transientid")


def _tiles_of_ids(snapshot: SnapshotFiles, ids: Sequence[int]) -> list[Tile]:
    """Tiles that the exposures which the transients are named after touch, or come near to."""
    exposures = sorted({int(founder_of_transientid(number)[0]) for number in ids})
    ranges = [(exposureid, exposureid) for exposureid in exposures]
    rows = snapshot.read(EXPOSURES.name, FOOTPRINT, ranges)
    return sorted(set().union(*tiles_of_footprints(snapshot.tiling, rows)))


def _in_cone(snapshot: SnapshotFiles, cone: Cone) -> pa.Table:
    rows = _read(snapshot, cone.tiles(snapshot.tiling))
    inside = cone.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    return with_separation(rows.filter(pa.array(inside)), cone)


def transient_epochs(snapshot: SnapshotFiles, selection: Selection) -> pa.Table:
    """Detections of the selected transients, by transientid and time, with the exposure's metadata.

    Returns
    -------
    pyarrow.Table
        The columns of a lightcurve query; ``objectid`` is the transientid.
    """
    found = find_transients(snapshot, selection)
    links = _links(snapshot, found)
    parts = [_epochs(snapshot, file, links) for file in _orphan_files(snapshot, found)]
    empty = DETECTIONS.empty
    epochs = pa.concat_tables([empty, *parts]).sort_by(DETECTIONS.order)
    at = np.searchsorted(found["transientid"].to_numpy(), epochs["objectid"].to_numpy())
    rcid, field, fid = (found[name].to_numpy()[at] for name in ("rcid", "field", "fid"))
    return with_exposures(snapshot, epochs, (rcid, field, fid))


def _tiles(snapshot: SnapshotFiles, found: pa.Table) -> list[Tile]:
    """Tiles that hold the transients."""
    tiles: set[Tile] = set()
    for ra, dec in zip(found["ra"].to_pylist(), found["dec"].to_pylist(), strict=True):
        tiles.update(Cone(ra, dec, 1e-3).tiles(snapshot.tiling))
    return sorted(tiles)


def _links(snapshot: SnapshotFiles, found: pa.Table) -> pa.Table:
    ranges = [(number, number) for number in found["transientid"].to_pylist()]
    files = snapshot.of_tiles(TRANSIENTDATA.name, _tiles(snapshot, found))
    return read_table(snapshot.storage, files, TRANSIENTDATA, ranges=ranges)


def _orphan_files(snapshot: SnapshotFiles, found: pa.Table) -> list[DataFile]:
    """Orphan files of the transients' tiles and of their neighbours, where their detections may lie."""
    tiles = {near for tile in _tiles(snapshot, found) for near in neighbours(snapshot.tiling, tile)}
    return snapshot.of_tiles(ORPHANS.name, sorted(tiles))


def _epochs(snapshot: SnapshotFiles, file: DataFile, links: pa.Table) -> pa.Table:
    """Rows of a file that are detections of transients, as epochs; the file is read whole only if it has any."""
    wanted = _keys(links)
    order = np.argsort(wanted)
    keys = _keys(read_file_rows(snapshot.storage, file, ["exposureid", "sourceid"]))
    rows = np.flatnonzero(np.isin(keys, wanted))
    if not rows.size:
        return DETECTIONS.empty
    names = [name for name in DETECTIONS.names if name != "objectid"]
    epochs = read_file_rows(snapshot.storage, file, names, threads=True).take(pa.array(rows))
    ids = links["transientid"].to_numpy()[order[np.searchsorted(wanted, keys[rows], sorter=order)]]
    return epochs.add_column(0, DETECTIONS.schema.field("objectid"), pa.array(ids)).cast(DETECTIONS.schema)


def _keys(rows: pa.Table) -> np.ndarray:
    """One number for each detection: the name of the transient that it would found."""
    return np.asarray(transientid_of(rows["exposureid"].to_numpy(), rows["sourceid"].to_numpy().astype(np.int64)))


def divided(selection: Selection) -> tuple[Selection | None, Selection | None]:
    """The part of a selection that is about objects, and the one about transients."""
    if selection.objectids is None:
        return selection, None
    objects = tuple(number for number in selection.objectids if number <= MAX_OBJECTID)
    transients = tuple(number for number in selection.objectids if number > MAX_OBJECTID)
    parts = (replace(selection, objectids=part) if part else None for part in (objects, transients))
    first, second = parts
    return (first, second) if first or second else (selection, None)
