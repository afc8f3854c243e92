"""Stars: the objects of different units that are one source on the sky, and what became of stars."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import Column, Encoding, Table

_NAME: Final = (
    "S HHMMSSss DDMMSSs QQ: S is 1 north and 2 south of the equator, then the right ascension and declination at which "
    "the star was first found, and a number that tells apart the stars of one place; it stays as the position improves"
)

STARS: Final = Table(
    "stars",
    "One row per star: objects of different units, at most one of each, that are one source on the sky.",
    ("starid",),
    (
        Column("starid", pa.int64(), "", _NAME, "link", encoding=Encoding.DELTA, bounds=True),
        Column("ra", pa.float64(), "deg", "Mean right ascension of its objects, weighted by their errors, ICRS", "link",
               encoding=Encoding.SPLIT),
        Column("dec", pa.float64(), "deg", "The same of the declination, ICRS", "link", encoding=Encoding.SPLIT),
        Column("poserr", pa.float32(), "arcsec", "1-sigma error of the position in one axis", "link",
               encoding=Encoding.DICTIONARY),
        Column("posscatter", pa.float32(), "arcsec", "Root mean square distance of its objects from the position; null "
               "of a single object", "link", nullable=True, encoding=Encoding.SPLIT),
        Column("nobjects", pa.int16(), "", "Its objects, each of a unit of its own", "link",
               encoding=Encoding.DICTIONARY),
        Column("nfields", pa.int16(), "", "Fields that these are of", "link", encoding=Encoding.DICTIONARY),
        *(Column(f"nobjects_{band}", pa.int16(), "", f"Its objects in {band}", "link", encoding=Encoding.DICTIONARY)
          for band in "gri"),
        Column("crowded", pa.bool_(), "", "Whether an object of another star is within 1.5 arcsec of one of its "
               "objects", "link"),
    ),
)  # fmt: skip

MEMBERS: Final = Table(
    "members",
    "One row per active object: the star that it is of.",
    ("objectid",),
    (
        Column("objectid", pa.int64(), "", "The object", "objects", encoding=Encoding.DELTA, bounds=True),
        Column("starid", pa.int64(), "", "Its star", "link", encoding=Encoding.DELTA),
        Column("separation", pa.float32(), "arcsec", "From the position of the star", "link", encoding=Encoding.SPLIT),
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
        Column("kind", pa.dictionary(pa.int8(), pa.string()), "", "'split': one became several; 'merged': several "
               "became one; 'lost': no object of it is active, nor any that succeeds one; 'new': of no star before. "
               "The id stays with the star that has most of the epochs", "link", encoding=Encoding.DICTIONARY),
        Column("nobjects", pa.int16(), "", "Objects, or successors of such, that went from one to the other", "link"),
        Column("nepochs", pa.int64(), "", "Epochs of these; null where nothing depended on it", "link", nullable=True),
        Column("snapshot", pa.int64(), "", "The snapshot before", "store"),
    ),
)  # fmt: skip

LINK_TABLES: Final = (STARS.name, MEMBERS.name, STARLINEAGE.name)
"""What linking writes anew for a tile."""
