"""HATS catalogs on disk: names, properties, sky maps and dataset metadata.

HATS 1.0 (IVOA note 2025) as the packages ``hats`` and ``lsdb`` 0.11 read it. Every name below a collection is decided
here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ztfmatch
from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.log import Commit
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.schema.voparquet import with_votable
from ztfmatch.release.io.outputs import Output, place_of, write_bytes
from ztfmatch.release.schema import HEALPIX_COLUMN

Properties = Mapping[str, str | int | float | None]
"""What a catalog says of itself, by the standard's names."""

SKYMAP_ORDER: Final = 8
HEALPIX_ORDER: Final = 29
VERSION: Final = "v1.0"
_RELEASE_DATE: Final = "2025-08-22"
_DATASET: Final = "dataset"


def healpix_pixels(ra: Floats, dec: Floats) -> Ints:
    """HEALPix pixel of HEALPIX_ORDER, NESTED, of positions in degrees, shape (N,)."""
    if not len(ra):
        return np.zeros(0, np.int64)
    return np.asarray(hpgeom.angle_to_pixel(1 << HEALPIX_ORDER, ra, dec), np.int64)


def in_order(rows: pa.Table, sorted_by: Sequence[str]) -> pa.Table:
    """Rows sorted by columns of integers."""
    keys = [rows[name].to_numpy() for name in reversed(sorted_by)]
    return rows.combine_chunks().take(pa.array(np.lexsort(keys)))


def pixel_file(catalog: str, tile: Tile) -> str:
    """File of a partition."""
    return f"{pixel_directory(catalog, tile)}.parquet"


def pixel_directory(catalog: str, tile: Tile) -> str:
    """Directory of a partition of many files."""
    directory = tile.npix // 10_000 * 10_000
    return f"{catalog}/{_DATASET}/Norder={tile.order}/Dir={directory}/Npix={tile.npix}"


def tile_of_file(path: str) -> Tile:
    """Tile of a partition's file."""
    order, _, pixel = path.removesuffix(".parquet").split("/")[-3:]
    return Tile(int(order.partition("=")[2]), int(pixel.partition("=")[2]))


def index_file(catalog: str, number: int) -> str:
    """Part of an index catalog."""
    return f"{catalog}/{_DATASET}/index/part.{number}.parquet"


def write_properties(storage: Storage, path: str, properties: Properties) -> Output:
    """Write ``key = value`` lines, in the order given; what is None is left out."""
    lines = [f"{key} = {_text(value)}" for key, value in properties.items() if value is not None]
    return write_bytes(storage, path, "\n".join(["#HATS", *lines, ""]).encode())


def write_catalog(
    storage: Storage,
    catalog: str,
    properties: Properties,
    schema: pa.Schema,
    partitions: Sequence[tuple[Tile, str]],
) -> list[Output]:
    """Write what stands at the root of a catalog on the sky, and its dataset's metadata.

    Parameters
    ----------
    partitions : sequence of (Tile, str)
        Every file and its tile, which may have several; in the order of the metadata.
    """
    return [
        *write_both_properties(storage, catalog, properties),
        write_partition_info(storage, catalog, {tile for tile, _ in partitions}),
        *write_dataset_metadata(storage, catalog, schema, [path for _, path in partitions]),
    ]


def write_both_properties(storage: Storage, catalog: str, properties: Properties) -> list[Output]:
    """Write a catalog's properties under their present name, and under the one that older readers know."""
    names = ("hats.properties", "properties")
    return [write_properties(storage, f"{catalog}/{name}", properties) for name in names]


def _text(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return " ".join(text.split()).replace("\\", "\\\\")


def provenance_properties(commit: Commit) -> Properties:
    """What every catalog says of what it was made from, and how."""
    return {
        "prov_progenitor": f"ztfmatch store {commit.store}, snapshot {commit.number}",
        "hats_builder": f"ztfmatch v{ztfmatch.__version__}",
        "hats_creation_date": commit.time,
        "hats_release_date": _RELEASE_DATE,
        "hats_version": VERSION,
    }


def spatial_properties(columns: tuple[str, str], suffix: str = ".parquet") -> Properties:
    """What a catalog on the sky says of its columns of right ascension and declination, and of its files."""
    return {"hats_col_ra": columns[0], "hats_col_dec": columns[1], "hats_npix_suffix": suffix}


def healpix_properties() -> Properties:
    """What a catalog says of its column of HEALPix pixels."""
    return {"hats_col_healpix": HEALPIX_COLUMN, "hats_col_healpix_order": HEALPIX_ORDER}


def write_partition_info(storage: Storage, catalog: str, tiles: Iterable[Tile]) -> Output:
    """Write the list of partitions, by order, then pixel's place on the sky."""
    ordered = in_sky_order(tiles)
    lines = "".join(f"{tile.order},{tile.npix}\n" for tile in ordered)
    return write_bytes(storage, f"{catalog}/partition_info.csv", f"Norder,Npix\n{lines}".encode())


def write_skymap(storage: Storage, catalog: str, counts: Mapping[int, int]) -> Output:
    """Write how many rows each pixel of SKYMAP_ORDER has, as a HEALPix map with explicit pixels."""
    from astropy.io import fits

    pixels = np.array(sorted(counts), np.int64)
    values = np.array([counts[pixel] for pixel in pixels.tolist()], np.int64)
    table = fits.BinTableHDU.from_columns(
        [fits.Column("PIXEL", "K", array=pixels), fits.Column("VALUE", "K", array=values)]
    )
    table.header.update({"PIXTYPE": "HEALPIX", "INDXSCHM": "EXPLICIT", "ORDERING": "NESTED", "COORDSYS": "C"})
    table.header.update({"NSIDE": 1 << SKYMAP_ORDER, "OBS_NPIX": len(pixels)})
    sink = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(sink)
    return write_bytes(storage, f"{catalog}/skymap.fits", sink.getvalue())


def skymap_counts(healpix: Ints) -> dict[int, int]:
    """Pixels of SKYMAP_ORDER of some rows, by their pixel of HEALPIX_ORDER, and how many each has."""
    pixels, counts = np.unique(healpix >> 2 * (HEALPIX_ORDER - SKYMAP_ORDER), return_counts=True)
    return dict(zip(pixels.tolist(), counts.tolist(), strict=True))


def write_dataset_metadata(storage: Storage, catalog: str, schema: pa.Schema, paths: Sequence[str]) -> list[Output]:
    """Write the dataset's ``_common_metadata`` and ``_metadata`` from the footers of its files, in the order given."""
    sink = pa.BufferOutputStream()
    pq.write_metadata(with_votable(schema), sink)
    common = sink.getvalue()
    gathered = pq.read_metadata(pa.BufferReader(common))
    for path in paths:
        footer = pq.read_metadata(place_of(storage, path))
        footer.set_file_path(path.removeprefix(f"{catalog}/{_DATASET}/"))
        gathered.append_row_groups(footer)
    sink = pa.BufferOutputStream()
    gathered.write_metadata_file(sink)
    return [
        write_bytes(storage, f"{catalog}/{_DATASET}/{name}", content.to_pybytes())
        for name, content in (("_common_metadata", common), ("_metadata", sink.getvalue()))
    ]
