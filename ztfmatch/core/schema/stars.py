"""Stars: the objects of different units that are one source on the sky, and what became of stars."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.sky import unit_columns
from ztfmatch.core.schema.types import LABEL, Column, Table, delta, few, split

_NAME: Final = (
    "S HHMMSSss DDMMSSs QQ: S is 1 north and 2 south of the equator, then the right ascension and declination at which "
    "the star was first found, and a number that tells apart the stars of one place; it stays as the position improves"
)

STARS: Final = Table(
    "stars",
    "One row per star: objects of different units, at most one of each, that are one source on the sky.",
    ("starid",),
    (
        delta("starid", pa.int64(), "", _NAME, "link", bounds=True),
        split("ra", pa.float64(), "deg", "Mean right ascension of its objects, weighted by their errors, ICRS", "link"),
        split("dec", pa.float64(), "deg", "The same of the declination, ICRS", "link"),
        few("poserr", pa.float32(), "arcsec", "1-sigma error of the position in one axis", "link"),
        split("posscatter", pa.float32(), "arcsec", "Root mean square distance of its objects from the position; null "
               "of a single object", "link", True),
        few("nobjects", pa.int16(), "", "Its objects, each of a unit of its own", "link"),
        few("nfields", pa.int16(), "", "Fields that these are of", "link"),
        *(few(f"nobjects_{band}", pa.int16(), "", f"Its objects in {band}", "link")
          for band in "gri"),
        few("crowded", pa.int8(), "", "1 where an object of another star is within 1.5 arcsec of one of its "
               "objects, else 0", "link"),
    ),
)  # fmt: skip

MEMBERS: Final = Table(
    "members",
    "One row per active object: the star that it is of.",
    ("objectid",),
    (
        delta("objectid", pa.int64(), "", "The object", "objects", bounds=True),
        delta("starid", pa.int64(), "", "Its star", "link"),
        split("separation", pa.float32(), "arcsec", "From the position of the star", "link"),
    ),
    row_group_rows=32_768,
)  # fmt: skip

STARLINEAGE: Final = Table(
    "starlineage",
    "One row per link between a star and what it became when objects came or went; a star that alone became one star, "
    "which has its id, has none.",
    ("starid", "newstarid"),
    (
        Column("starid", pa.int64(), "", "The star before; null for 'new'", "link", nullable=True, bounds=True),
        Column("newstarid", pa.int64(), "", "The star after; null for 'lost'", "link", nullable=True),
        few("kind", LABEL, "", "'split': one became several; 'merged': several "
               "became one; 'lost': no object of it is active, nor any that succeeds one; 'new': of no star before. "
               "The id stays with the star that has most of the epochs", "link"),
        Column("nobjects", pa.int16(), "", "Objects, or successors of such, that went from one to the other", "link"),
        Column("nepochs", pa.int64(), "", "Epochs of these; null where nothing depended on it", "link", nullable=True),
        Column("snapshot", pa.int64(), "", "The snapshot before", "store"),
    ),
)  # fmt: skip

BANDS: Final = {"g": 1, "r": 2, "i": 3}
"""Filters by the letter in the names of columns."""


def _of_band(band: str) -> tuple[Column, ...]:
    """Columns of one filter."""
    epochs = f"good epochs in {band} of all its objects (catflags = 0, mag and magerr finite)"
    made = "star statistics"
    return (
        few(f"n_{band}", pa.int32(), "", f"Number of {epochs}", made),
        split(f"{band}_mag", pa.float32(), "mag", f"Median magnitude of the {epochs}, less the offsets of their units "
               "where these were measured", made, True),
        split(f"{band}_scatter", pa.float32(), "mag", "1.4826 times the median distance of these from it", made, True),
        split(f"{band}_first", pa.float64(), "day", "hmjd of the first of them", made, True),
        split(f"{band}_last", pa.float64(), "day", "hmjd of the last", made, True),
        few(f"{band}_discordant", pa.int8(), "", "1 where the median of one of its objects with 3 epochs or more "
               "differs from their mean by more than 5 times its error (with 0.015 mag added in square), else 0", made),
    )  # fmt: skip


STARSTATISTICS: Final = Table(
    "starstatistics",
    "One row per star: its magnitudes in each filter, from the epochs of all its objects.",
    ("starid",),
    (
        delta("starid", pa.int64(), "", "The star", "link", bounds=True),
        few("snapshot", pa.int64(), "", "The snapshot that it was computed from", "store"),
        *(column for band in BANDS for column in _of_band(band)),
        split("g_r", pa.float32(), "mag", "g_mag - r_mag", "star statistics", True),
        split("r_i", pa.float32(), "mag", "r_mag - i_mag", "star statistics", True),
        few("noffsets", pa.int16(), "", "Its objects from whose magnitudes the offset of the unit was taken off",
               "star statistics"),
    ),
)  # fmt: skip

OFFSETS: Final = Table(
    "offsets",
    "One row per unit: by how much its magnitudes are fainter than those of the units of its filter that share stars "
    "with it, directly or through others. The mean over such a group is 0: what it has in common cannot be told.",
    ("field", "rcid", "fid"),
    (
        *unit_columns("statistics"),
        Column("offset", pa.float64(), "mag", "Fainter than the group's mean by this", "offsets"),
        Column("error", pa.float64(), "mag", "Its 1-sigma error, of the stars' scatter", "offsets"),
        Column("nstars", pa.int64(), "", "Stars that it shares with other units of the group, but for outliers",
               "offsets"),
        Column("group", pa.int32(), "", "Number of the group that overlaps connect, from 0, in each filter", "offsets"),
        Column("nunits", pa.int32(), "", "Units of the group; an offset in one of another group is not comparable",
               "offsets"),
        Column("snapshot", pa.int64(), "", "The snapshot that it was measured in", "store"),
    ),
    by_tile=False,
)  # fmt: skip

LINK_TABLES: Final = (STARS.name, MEMBERS.name, STARLINEAGE.name)
"""What linking writes anew for a tile."""
