"""Query stars, their objects and their lightcurves in a snapshot."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.parquet import read_rows, read_table
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, unit_vector
from ztfmatch.core.kernels.starids import is_starid, name_of_star, positions_of_starids, starid_of_name
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.plain import Row
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import DETECTIONS, MEMBERS, STARLINEAGE, STARS, STARSTATISTICS
from ztfmatch.core.schema.lineage import LOST
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import MAX_OBJECTID, unit_columns
from ztfmatch.query.area import Cone
from ztfmatch.query.finder import READING, SEARCHING, Finder, distinct_ids
from ztfmatch.query.lightcurves import (
    Selection,
    epochs_of,
    find_objects,
    joined,
    with_exposures,
    with_separation,
)
from ztfmatch.query.lineage import successors

_MEMBER_COLUMNS: Final = ("objectid", "starid")
_POSITION_COLUMNS: Final = ("starid", "ra", "dec")

NEAR_ARCSEC: Final = 10.0
"""Within so much of where a star was found are it and its objects."""

STAR_FIELDS: Final = (
    *STARS.schema,
    *(field.with_nullable(True) for field in STARSTATISTICS.schema if field.name != "starid"),
)
"""Columns of stars and of their statistics; the latter are null where they were not computed yet."""


def require_stars(snapshot: SnapshotFiles) -> None:
    """Refuse a snapshot without stars.

    Raises
    ------
    ConfigError
    """
    if not snapshot.files.has(STARS.name):
        raise ConfigError(
            f"{snapshot.storage.root} has no stars in snapshot {snapshot.number}: run 'ztfmatch link' first"
        )


def find_stars(snapshot: SnapshotFiles, starids: Sequence[int] | None = None, cone: Cone | None = None) -> pa.Table:
    """Stars by starid, or those whose position is in a cone, with their statistics; in order of starid.

    Of a cone with ``separation`` in arcsec.

    Raises
    ------
    ConfigError
        If the snapshot has no stars, a number is not a starid, or neither or both are given.
    """
    require_stars(snapshot)
    if (starids is None) == (cone is None):
        raise ConfigError("select stars either by starid or by cone: give one of them")
    wider = None if cone is None else _wider(cone)
    ids = _starids(starids or ()) if wider is None else np.unique(_members_in(snapshot, wider)["starid"].to_numpy())
    tiles = _tiles_around(snapshot, ids) if cone is None else cone.tiles(snapshot.tiling)
    rows = star_rows(snapshot, tiles, [field.name for field in STAR_FIELDS], ids)
    if cone is None:
        return rows
    rows = rows.filter(pa.array(cone.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    return with_separation(rows, cone)


def _starids(given: Sequence[int]) -> Ids:
    """Starids, ascending, without duplicates."""
    ids = distinct_ids(given)
    if (bad := ids[~is_starid(ids)]).size:
        raise ConfigError(f"{bad[0]} is not a starid: expected a number of 18 digits")
    return ids


def star_rows(
    snapshot: SnapshotFiles, tiles: Sequence[Tile], columns: Sequence[str], ids: Ids | None = None
) -> pa.Table:
    """Columns of the stars in some tiles, or of those of them with some ids, and of their statistics; by starid."""
    names = [name for name in columns if name in STARS.names]
    names += [] if "starid" in names else ["starid"]
    ranges = None if ids is None else [(one, one) for one in ids.tolist()]
    stars = _read(snapshot, STARS.name, tiles, names, ranges)
    others = [name for name in columns if name not in STARS.names]
    if others:
        computed = _read(snapshot, STARSTATISTICS.name, tiles, ["starid", *others], ranges)
        at = find_sorted(computed["starid"].to_numpy(), stars["starid"].to_numpy())
        index = pa.array(at, mask=at < 0)
        for name in others:
            stars = stars.append_column(name, computed[name].combine_chunks().take(index))
    schema = pa.schema([field for field in STAR_FIELDS if field.name in columns])
    return stars.select(schema.names).cast(schema)


def _read(snapshot: SnapshotFiles, table: str, tiles: Sequence[Tile], names: Sequence[str], ranges: Any) -> pa.Table:
    rows = read_rows(snapshot.storage, snapshot.of_tiles(table, tiles), names, ranges, threads=True)
    schema = (STARS if table == STARS.name else STARSTATISTICS).schema
    return schema.empty_table().select(names) if rows is None else rows.sort_by("starid")


def _tiles_around(snapshot: SnapshotFiles, starids: Ids) -> list[Tile]:
    """Tiles near the places at which stars were found."""
    centres = unit_vector(*positions_of_starids(starids))
    radius = NEAR_ARCSEC / ARCSEC_PER_RADIAN
    tiles = {tile for centre in centres for tile in snapshot.tiling.touched_by_cap(centre, radius)}
    return in_sky_order(tiles)


def _members_in(snapshot: SnapshotFiles, cone: Cone) -> pa.Table:
    """Objects in a cone, with the starid of each."""
    return _members(Finder(snapshot, area=cone, status=ACTIVE))


def _members(finder: Finder) -> pa.Table:
    names = ["objectid", "starid"]
    none = MEMBERS.empty.select(names)
    parts = [finder.rows(MEMBERS, tile, names, Wanted(ids)).cast(none.schema) for tile, ids in finder.objectids()]
    return pa.concat_tables([none, *parts])


def stars_of_objects(snapshot: SnapshotFiles, objectids: Sequence[int]) -> pa.Table:
    """``objectid`` and ``starid`` of those of some objects that are of a star; retired ones are of none."""
    require_stars(snapshot)
    return _members(Finder(snapshot, distinct_ids(objectids)))


def members_of(snapshot: SnapshotFiles, starids: Sequence[int]) -> pa.Table:
    """``objectid`` and ``starid`` of the objects of some stars, by objectid."""
    require_stars(snapshot)
    ids = _starids(starids)
    parts = [MEMBERS.empty.select(["objectid", "starid"])]
    for ra, dec in zip(*(values.tolist() for values in positions_of_starids(ids)), strict=True):
        rows = _members_in(snapshot, Cone(ra, dec, NEAR_ARCSEC))
        parts.append(rows.filter(pa.array(is_among(rows["starid"].to_numpy(), ids))))
    return pa.concat_tables(parts).group_by(["objectid", "starid"], use_threads=False).aggregate([]).sort_by("objectid")


def star_epochs(snapshot: SnapshotFiles, starids: Sequence[int]) -> pa.Table:
    """Epochs of some stars: ``starid`` and the columns of lightcurves, by star and time, over all of their objects."""
    members = members_of(snapshot, starids)
    objectid, starid = (members[name].to_numpy() for name in _MEMBER_COLUMNS)
    _, epochs = epochs_of(snapshot, Selection(tuple(objectid.tolist())))
    return _by_star(snapshot, epochs, objectid, starid)


def epochs_of_cone(snapshot: SnapshotFiles, cone: Cone) -> pa.Table:
    """The same of the stars whose position is in a cone; reads nothing but the tiles there."""
    found = [(tile, *_members_of_cone(snapshot, cone, tile)) for tile in _wider(cone).tiles(snapshot.tiling)]
    objectid, starid = (np.concatenate([members[i] for members in found]) for i in (1, 2))
    if not len(objectid):
        require_stars(snapshot)
    finder = Finder(snapshot)
    shown = tracked([(tile, np.sort(ids)) for tile, ids, _ in found if len(ids)], READING)
    epochs = joined(DETECTIONS, [finder.rows(DETECTIONS, tile, DETECTIONS.names, Wanted(ids)) for tile, ids in shown])
    order = np.argsort(objectid)
    return _by_star(snapshot, epochs, objectid[order], starid[order])


def _members_of_cone(snapshot: SnapshotFiles, cone: Cone, tile: Tile) -> tuple[Ids, Ids]:
    """Objects of a tile whose star is in a cone, and the starid of each.

    Positions are kept with the objects, so that one comparison finds both. Of the few objects next to the tile's border
    whose star is in another tile, that tile is asked.
    """
    members = snapshot.kept(_placed_members, tile, functools.partial(_placed_members, snapshot))
    near = replace(cone, radius_arcsec=cone.radius_arcsec + NEAR_ARCSEC).rows(members)
    objectid, starid, ra, dec, exact = (column.to_numpy() for column in near.columns)
    inside = cone.contains(ra, dec)
    if not exact.all():
        inside[~exact] = is_among(starid[~exact], _inside(snapshot, cone, starid[~exact]))
    return objectid[inside], starid[inside]


def _placed_members(snapshot: SnapshotFiles, tile: Tile) -> pa.Table:
    """Objects of a tile that are of a star, with its position, or its id's where it is not in the tile; by ``dec``."""
    members = snapshot.read(MEMBERS.name, _MEMBER_COLUMNS, tile=tile).combine_chunks()
    stars = snapshot.kept_rows(STARS.name, tile, _POSITION_COLUMNS)
    starid = members["starid"].to_numpy()
    at = find_sorted(stars["starid"].to_numpy(), starid)
    exact = at >= 0
    for name, values in zip(("ra", "dec"), positions_of_starids(starid), strict=True):
        values[exact] = stars[name].to_numpy()[at[exact]]
        members = members.append_column(name, pa.array(values))
    return members.append_column("exact", pa.array(exact)).sort_by("dec").combine_chunks()


def _inside(snapshot: SnapshotFiles, cone: Cone, starids: Ids) -> Ids:
    """Those of some stars whose position is in a cone, ascending."""
    inside = [starids[:0]]
    for tile in cone.tiles(snapshot.tiling):
        stars = snapshot.kept_rows(STARS.name, tile, _POSITION_COLUMNS)
        rows = find_sorted(stars["starid"].to_numpy(), starids)
        rows = rows[rows >= 0]
        ra, dec = (stars[name].to_numpy()[rows] for name in ("ra", "dec"))
        inside.append(stars["starid"].to_numpy()[rows[cone.contains(ra, dec)]])
    return np.unique(np.concatenate(inside))


def _wider(cone: Cone) -> Cone:
    """A cone that holds the objects of all stars in another."""
    return replace(cone, radius_arcsec=cone.radius_arcsec + 5.0)


def _by_star(snapshot: SnapshotFiles, epochs: pa.Table, members: Ids, starids: Ids) -> pa.Table:
    """Epochs of some objects, ascending, with the starid of each and its exposure, by star and time."""
    objectid = epochs["objectid"].to_numpy()
    starid = starids[find_sorted(members, objectid)]
    order = np.lexsort((objectid, epochs["hmjd"].to_numpy(), starid))
    rows = with_exposures(snapshot, epochs.take(pa.array(order)), unit_columns(objectid[order]))
    return rows.add_column(0, STARS.schema.field("starid"), pa.array(starid[order], pa.int64()))


@dataclass(frozen=True)
class Named:
    """Stars that were asked for by name."""

    starids: tuple[int, ...]
    followed: tuple[str, ...]
    """Messages about former stars and retired objects that were followed to them."""


def named_stars(snapshot: SnapshotFiles, names: Sequence[int | str]) -> Named:
    """Stars by starid, by name (``ZTF J162819.90+325717.3``), or as the star of an objectid.

    Of an object that retired those of its successors; of a starid that is no more those that have its objects now.

    Raises
    ------
    ConfigError
        If there is none: the number is no star's, no object's, or nothing is left of it.
    """
    require_stars(snapshot)
    found: list[int] = []
    followed: list[str] = []
    for name in names:
        number = _number(name)
        starids, said = _of_starid(snapshot, number) if is_starid(number) else _of_object(snapshot, number)
        found += starids
        followed += said
    return Named(tuple(dict.fromkeys(found)), tuple(followed))


def _number(name: int | str) -> int:
    text = str(name).strip()
    number = int(text) if text.isdecimal() and len(text) < 19 else starid_of_name(text)
    if number is None or not (is_starid(number) or number <= MAX_OBJECTID):
        raise ConfigError(
            f"{name!r} names no star: expected a starid (18 digits), a name such as 'ZTF J162819.90+325717.3', "
            "or an objectid"
        )
    return number


def _of_starid(snapshot: SnapshotFiles, starid: int) -> tuple[list[int], list[str]]:
    """The star itself, or what became of it."""
    pending, found, followed = [starid], [], []
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        seen.add(one)
        ids = np.array([one])
        tiles = _tiles_around(snapshot, ids)
        if _read(snapshot, STARS.name, tiles, ["starid"], [(one, one)]).num_rows:
            found.append(one)
            continue
        rows = _lineage_of(snapshot, tiles, one)
        if not rows:
            raise ConfigError(f"{snapshot.storage.root} has no star {one} ({name_of_star(one)}), nor had it")
        heirs = {row["newstarid"] for row in rows if row["newstarid"] is not None} - seen
        what = "was lost" if all(row["kind"] == LOST for row in rows) else "became"
        followed.append(f"star {one} ({name_of_star(one)}) {what} {', '.join(map(str, sorted(heirs)))}".strip())
        pending += sorted(heirs)
    if not found:
        raise ConfigError(f"{'; '.join(followed)} in {snapshot.storage.root}: nothing is left of it")
    return found, followed


def _lineage_of(snapshot: SnapshotFiles, tiles: Sequence[Tile], starid: int) -> list[Row]:
    rows = read_table(snapshot.storage, snapshot.of_tiles(STARLINEAGE.name, tiles), STARLINEAGE)
    found: list[Row] = rows.filter(pc.equal(rows["starid"], starid)).to_pylist()
    return found


def _of_object(snapshot: SnapshotFiles, objectid: int) -> tuple[list[int], list[str]]:
    """The star of an object, or those of the objects that took its place."""
    rows = find_objects(snapshot, Selection((objectid,))).select(["status"]).to_pylist()
    if not rows:
        raise ConfigError(f"{snapshot.storage.root} has no object {objectid} in snapshot {snapshot.number}")
    followed: list[str] = []
    ids = [objectid]
    if rows[0]["status"] != ACTIVE:
        ids = [row["newobjectid"] for row in successors(snapshot, [objectid]).to_pylist() if row["newobjectid"]]
        ids = [one for one in ids if one <= MAX_OBJECTID]
        became = f"became object {', '.join(map(str, ids))}" if ids else "has no object in its place"
        followed.append(f"object {objectid} retired and {became}")
    starids = sorted(set(stars_of_objects(snapshot, ids)["starid"].to_pylist())) if ids else []
    if not starids:
        also = "" if followed else ": its tile is not linked, run 'ztfmatch link'"
        raise ConfigError(f"{'; '.join(followed) or f'object {objectid} is of no star'}{also}")
    return starids, followed


class StarRows:
    """Stars of a part of the sky that meet a condition, tile by tile."""

    def __init__(self, snapshot: SnapshotFiles, area: Any, objectids: Ids | None, condition: Any) -> None:
        require_stars(snapshot)
        self._snapshot, self._area, self._condition = snapshot, area, condition
        self._ids = None
        if objectids is not None:
            self._ids = np.unique(stars_of_objects(snapshot, objectids.tolist())["starid"].to_numpy())

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of them."""
        needed = {*columns, *(() if self._condition is None else self._condition.columns)}
        needed |= set() if self._area is None else {"ra", "dec"}
        names = [field.name for field in STAR_FIELDS if field.name in needed]
        for tile in tracked(self._tiles(), SEARCHING):
            rows = star_rows(self._snapshot, [tile], names, self._ids)
            if self._area is not None:
                rows = rows.filter(pa.array(self._area.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
            rows = rows if self._condition is None else self._condition.rows(rows)
            if rows.num_rows:
                yield rows.select(list(columns))

    def _tiles(self) -> list[Tile]:
        linked = self._snapshot.tiles_with(STARS.name)
        if self._area is None:
            return linked
        wanted = set(self._area.tiles(self._snapshot.tiling))
        return [tile for tile in linked if tile in wanted]
