"""Link the objects of one tile and its surroundings into stars; write those that belong to the tile.

A star belongs to the tile that holds its position, a member to that of its object. What decides on either lies within
some arcseconds (:mod:`ztfmatch.core.kernels.starlinks`), its name within 20
(:mod:`ztfmatch.core.kernels.staridentity`); the tile looks at all objects within 30 arcsec at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array, Ids, Mask
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.parquet import table_from_columns, write_file
from ztfmatch.core.kernels.sphere import arcsec_of_chord2
from ztfmatch.core.kernels.staridentity import KINDS, LOST, NEW, SAME
from ztfmatch.core.kernels.starids import new_starids, places_of, positions_of_starids
from ztfmatch.core.kernels.starlinks import Stars
from ztfmatch.core.kernels.tiling import fine_pixels, in_tile
from ztfmatch.core.schema import MEMBERS, OBJECTS, STARLINEAGE, STARS
from ztfmatch.core.schema.stars import BANDS
from ztfmatch.core.tasks.linked import Linked, LinkTask, linked_objects, stars_in_tile
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.starnames import Former, former_stars

BYTES_PER_OBJECT: Final = 420
"""Peak memory of a task per object of its tile."""
BYTES_PER_OBJECT_NEAR: Final = 60
"""The same per object of a neighbouring tile, of which those in reach stay."""


@dataclass(frozen=True)
class WrittenStars(Written):
    """Stars of a tile; a file of them even if there are none, but of a tile with nothing in reach."""

    stars: int
    members: int
    new: int
    """Stars that have an id of their own for the first time."""
    split: int
    merged: int
    lost: int
    """Former stars of which this became."""


def link_tile(task: LinkTask) -> WrittenStars:
    """Write the tile's stars and members, and what became of former stars."""
    linked = linked_objects(task.storage, task.tile, task.now(OBJECTS))
    if not (len(linked.objectid) or len(linked.retired) or task.files(STARS)):
        return WrittenStars(files=[], stars=0, members=0, new=0, split=0, merged=0, lost=0)
    own = stars_in_tile(linked, task.tile)
    former = former_stars(task, linked, own)
    starid = _starids(task, linked, former.kept, former.used)
    lineage = _lineage(task, former, starid, own)
    files = [write_file(task.to(STARS), rows_of_stars(linked, starid, own))]
    for table, rows in ((MEMBERS, rows_of_members(linked, starid)), (STARLINEAGE, lineage)):
        if rows.num_rows:
            files.append(write_file(task.to(table), rows))
    counts = {name: _number(lineage, task.snapshot.number, name) for name in ("split", "merged", "lost")}
    new = int((own & (former.kept == 0)).sum())
    members = sum(file.rows for file in files if file.table == MEMBERS.name)
    return WrittenStars(files, files[0].rows, members, new, **counts)


def _starids(task: LinkTask, linked: Linked, kept: Ids, used: Ids) -> Ids:
    """Starid of each star: the one that it keeps, or a new one."""
    starid = kept.copy()
    new = np.flatnonzero(kept == 0)
    try:
        starid[new] = new_starids(places_of(linked.ra[new], linked.dec[new]), linked.first[new], used)
    except OverflowError as error:
        raise BadInputError(f"tile {task.tile}: {error}") from None
    return starid


def rows_of_stars(linked: Linked, starid: Ids, own: Mask) -> pa.Table:
    """Rows of the tile's stars."""
    stars, positions = linked.stars, linked.positions
    size = np.diff(stars.offsets)
    fields, bands = _counts(linked)
    scatter = np.where(size > 1, positions.scatter_arcsec, np.nan)
    columns: dict[str, Array] = {
        "starid": starid,
        "ra": linked.ra,
        "dec": linked.dec,
        "poserr": positions.error_arcsec.astype(np.float32),
        "posscatter": scatter.astype(np.float32),
        "nobjects": size.astype(np.int16),
        "nfields": fields,
        **{f"nobjects_{band}": bands[fid] for band, fid in BANDS.items()},
        "crowded": stars.crowded.astype(np.int8),
    }
    rows = np.flatnonzero(own)
    rows = rows[np.argsort(starid[rows], kind="stable")]
    return table_from_columns(STARS, {name: values[rows] for name, values in columns.items()})


def _counts(linked: Linked) -> tuple[npt.NDArray[np.int16], dict[int, npt.NDArray[np.int16]]]:
    """Number of fields, and of objects in each filter, of each star."""
    stars = linked.stars
    unit = linked.unit[stars.row]
    field, fid = linked.units // 10**4, linked.units // 10**3 % 10
    # Rows of a star are in order of objectid, and so of field.
    begins = np.ones(len(unit), bool)
    begins[1:] = np.diff(field[unit]) != 0
    begins[stars.offsets[:-1]] = True
    return _of_stars(begins, stars), {of: _of_stars(fid[unit] == of, stars) for of in BANDS.values()}


def _of_stars(counted: Mask, stars: Stars) -> npt.NDArray[np.int16]:
    """How many rows of each star are counted, shape (S,)."""
    total = np.zeros(len(counted) + 1, np.int32)
    np.cumsum(counted, out=total[1:])
    return np.diff(total[stars.offsets]).astype(np.int16)


def rows_of_members(linked: Linked, starid: Ids) -> pa.Table:
    """Rows of the tile's objects."""
    rows = np.flatnonzero(linked.own)
    columns = {
        "objectid": linked.objectid[rows],
        "starid": starid[linked.stars.star[rows]],
        "separation": arcsec_of_chord2(linked.positions.chord2[rows]).astype(np.float32),
    }
    return table_from_columns(MEMBERS, columns)


def _lineage(task: LinkTask, former: Former, starid: Ids, own: Mask) -> pa.Table:
    """What became of former stars, now and before: rows of the tile."""
    legacy = former.legacy
    kind = legacy.kinds()
    changed = np.flatnonzero((kind != SAME) & own[legacy.new])
    lost = former.lost[in_tile(fine_pixels(*positions_of_starids(former.lost)), task.tile)]
    new = starid[own & former.unheralded] if task.files(STARS) else starid[:0]
    epochs = np.where(former.counted, legacy.epochs, -1)[changed]
    nothing, zero = np.zeros(len(new), np.int64), np.zeros(len(lost) + len(new), np.int64)
    was = np.concatenate([legacy.old[changed], lost, nothing])
    now = np.concatenate([starid[legacy.new[changed]], np.zeros(len(lost), np.int64), new])
    kinds = np.concatenate([kind[changed], np.full(len(lost), LOST), np.full(len(new), NEW)]).astype(np.int8)
    shared = np.concatenate([epochs, zero - 1])
    rows = table_from_columns(
        STARLINEAGE,
        {
            "starid": pa.array(was, mask=was == 0),
            "newstarid": pa.array(now, mask=now == 0),
            "kind": pa.DictionaryArray.from_arrays(pa.array(kinds), pa.array(KINDS)),
            "nobjects": np.concatenate([legacy.objects[changed], zero]).astype(np.int16),
            "nepochs": pa.array(shared, mask=shared < 0),
            "snapshot": np.full(len(was), task.snapshot.number),
        },
    )
    both = pa.concat_tables([task.read(STARLINEAGE), rows]).unify_dictionaries()
    return both.sort_by([(name, "ascending") for name in ("starid", "newstarid", "snapshot")])


def _number(lineage: pa.Table, snapshot: int, kind: str) -> int:
    """Former stars of which something became just now."""
    mine = pc.and_(pc.equal(lineage["snapshot"], snapshot), pc.equal(lineage["kind"].cast(pa.string()), kind))
    return len(lineage.filter(mine)["starid"].unique())
