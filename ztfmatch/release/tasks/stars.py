"""Nested lightcurves of the stars of a tile: one row per star, with the epochs of all its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Floats, Ids
from ztfmatch.core.io.parquet import table_from_columns
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.schema import DETECTIONS, MEMBERS, OBJECTS, STARS
from ztfmatch.core.survey import unit_columns
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.release.io.hats import healpix_pixels
from ztfmatch.release.kernels.rounding import rounded
from ztfmatch.release.schema import HEALPIX_COLUMN, LIGHTCURVE, LIGHTCURVE_COLUMN, RELEASED_STARS, STAR_LIGHTCURVE
from ztfmatch.release.tasks.bulk import list_array
from ztfmatch.release.tasks.released import (
    LEDGER_COLUMNS,
    Product,
    Source,
    exposures_in_scope,
    objects_in_scope,
    released,
)

STARS_PER_TABLE: Final = 50_000


@dataclass(frozen=True)
class TileStars:
    """Stars of a tile, ascending by starid."""

    starid: Ids
    ra: Floats
    dec: Floats


def stars_of_tile(product: Product, tile: Tile) -> TileStars:
    """Stars whose position is in a tile."""
    rows = product.snapshot.read(STARS.name, ["starid", "ra", "dec"], tile=tile).sort_by("starid")
    return TileStars(*(rows[name].to_numpy() for name in ("starid", "ra", "dec")))


def star_epochs(product: Product, tile: Tile, stars: TileStars) -> Ids:
    """Epochs in scope of each star, shape (S,)."""
    epochs = np.zeros(len(stars.starid), np.int64)
    for star, curves in _lightcurves(product, tile, stars, []):
        epochs += np.bincount(star, np.diff(curves.offsets), len(epochs)).astype(np.int64)
    return epochs


def star_rows(product: Product, tile: Tile, magerr_bits: int) -> Iterator[pa.Table]:
    """Rows of RELEASED_STARS of the stars of a tile that have an epoch, by starid, some at a time."""
    stars = stars_of_tile(product, tile)
    parts = list(_lightcurves(product, tile, stars, [column.name for column in LIGHTCURVE]))
    if not parts:
        return
    counts = [np.diff(curves.offsets) for _, curves in parts]
    star = np.concatenate([np.repeat(of, n) for (of, _), n in zip(parts, counts, strict=True)])
    columns: Arrays = {
        column.name: np.concatenate([curves.columns[column.name] for _, curves in parts]) for column in LIGHTCURVE
    }
    objectid = np.concatenate([np.repeat(curves.objectid, n) for (_, curves), n in zip(parts, counts, strict=True)])
    objects = np.bincount(np.concatenate([of for of, _ in parts]), minlength=len(stars.starid))
    parts.clear()
    order = np.lexsort((objectid, columns["hmjd"], star))
    columns = {name: values[order] for name, values in {**columns, "objectid": objectid}.items()}
    columns |= dict(zip(("rcid", "field", "fid"), unit_columns(columns["objectid"]), strict=True))
    columns["magerr"] = rounded(columns["magerr"], magerr_bits)
    edges = np.searchsorted(star[order], np.arange(len(stars.starid) + 1))
    for first in range(0, len(stars.starid), STARS_PER_TABLE):
        yield _rows(stars, objects, columns, edges, np.arange(first, min(first + STARS_PER_TABLE, len(stars.starid))))


def _rows(stars: TileStars, objects: Ids, columns: Arrays, edges: Ids, row: Ids) -> pa.Table:
    """Rows of consecutive stars, those without epochs left out."""
    begin, end = edges[row[0]], edges[row[-1] + 1]
    offsets = np.append(edges[row], end) - begin
    kept = np.diff(offsets) > 0
    row, offsets = row[kept], np.append(offsets[:-1][kept], end - begin)
    lists = [list_array(columns[column.name][begin:end], offsets, column.type) for column in STAR_LIGHTCURVE]
    kind = RELEASED_STARS[LIGHTCURVE_COLUMN].type
    return table_from_columns(
        RELEASED_STARS,
        {
            HEALPIX_COLUMN: healpix_pixels(stars.ra[row], stars.dec[row]),
            "starid": stars.starid[row],
            "objra": stars.ra[row],
            "objdec": stars.dec[row],
            "nobjects": objects[row].astype(np.int16),
            "nepochs": np.diff(offsets).astype(np.int32),
            LIGHTCURVE_COLUMN: pa.StructArray.from_arrays(lists, fields=list(kind)),
        },
    )


def _lightcurves(product: Product, tile: Tile, stars: TileStars, columns: list[str]) -> Iterator[tuple[Ids, Any]]:
    """What is in scope of the lightcurves of the stars' objects, with the row of each object's star.

    Objects may lie beyond the border; of the tiles there only these are read.
    """
    snapshot = product.snapshot
    for near in neighbours(snapshot.tiling, tile):
        rows = snapshot.read(MEMBERS.name, ["objectid", "starid"], tile=near).sort_by("objectid")
        star = find_sorted(stars.starid, rows["starid"].to_numpy())
        ids, star = rows["objectid"].to_numpy()[star >= 0], star[star >= 0]
        files = snapshot.of_tile(OBJECTS.name, near)
        scoped = objects_in_scope(snapshot.storage, files, product.scope, ["objectid"])["objectid"].to_numpy()
        at = find_sorted(scoped, ids)
        ids, star = ids[at >= 0], star[at >= 0]
        if not len(ids):
            continue
        exposures = exposures_in_scope(exposures_of_tile(snapshot, near, LEDGER_COLUMNS), product.scope)
        detections = snapshot.of_tile(DETECTIONS.name, near)
        source = Source(snapshot.storage, detections, product.scope, exposures, ids, by_id=near != tile)
        for part in released(source, columns):
            curves, row = part.with_epochs()
            if len(row):
                yield star[row], curves
