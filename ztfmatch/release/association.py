"""The objects of two releases linked by lineage, as a HATS association catalog with which LSDB joins them.

The partitions are those of the older release. Each of its objects that the newer one has is there, under its own id or
as the successor that the lineage gives it; an object that is gone for good has no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Floats, Ids
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, unit_vector
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.progress import tracked
from ztfmatch.release.check import Manifest, files_of_rows, read_manifest
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import Output, write_table
from ztfmatch.release.publication import check_place
from ztfmatch.release.schema import ASSOCIATION, HEALPIX_COLUMN, KEPT
from ztfmatch.release.successors import NO_LINK, links_of

_COLUMNS: Final = {"hats lightcurves": ("objectid", "objra", "objdec"), "hats objects": ("oid", "ra", "dec")}
"""Id and position in each product that can be associated."""


@dataclass(frozen=True, kw_only=True)
class Association(Displayable):
    """What associates two releases."""

    output: str
    releases: tuple[str, str]
    objects: int
    """Of the older release, in the newer."""
    successors: int
    """Of these, under another objectid."""
    max_separation: float
    """In arcsec."""
    seconds: float


@dataclass(frozen=True)
class _Side:
    """One of the two products."""

    place: Path
    manifest: Manifest

    @classmethod
    def of(cls, place: Path) -> _Side:
        manifest = read_manifest(place)
        if manifest.product not in _COLUMNS:
            kinds = ", ".join(map(repr, _COLUMNS))
            raise ConfigError(f"{place} is {manifest.product!r}; an association is of {kinds}")
        return cls(place, manifest)

    @property
    def columns(self) -> tuple[str, str, str]:
        return _COLUMNS[self.manifest.product]

    @property
    def files(self) -> list[str]:
        return files_of_rows(self.place)

    @property
    def catalog(self) -> str:
        """Name of the primary catalog."""
        return self.files[0].split("/")[0]

    def read(self, files: Sequence[str], more: Sequence[str] = ()) -> pa.Table:
        names = [*self.columns, *more]
        return pa.concat_tables([pq.read_table(self.place / name, columns=names, partitioning=None) for name in files])


def write_association(before: Path, after: Path, snapshot: SnapshotFiles, output: Path) -> Association:
    """Write the association of two releases.

    Of the newer release 32 bytes an object are held, and a partition of the older one at a time.

    Parameters
    ----------
    before, after : Path
        HATS collections of lightcurves or of objects that ``publish`` made.
    snapshot : SnapshotFiles
        Of the store that the newer one was made of.
    output : Path
        Directory to be made: the catalog.

    Raises
    ------
    ConfigError, BadInputError
        If one of them is no such product.
    OutputExistsError
        If something is at the output's place.
    """
    watch = Stopwatch()
    sides = _Side.of(before), _Side.of(after)
    check_place(output)
    there = _Objects.of(sides[1].read(sides[1].files), sides[1].columns)
    with localfiles.whole(output) as part:
        part.mkdir()
        made = _Making(Storage.at(part.parent), part.name, sides[0], there, snapshot)
        links = [link for name in tracked(sides[0].files, "partitions") if (link := made.partition(name)) is not None]
        farthest = max((link.separation for link in links), default=0.0)
        rows = sum(link.output.rows for link in links)
        partitions = [(hats.tile_of_file(link.output.path), link.output.path) for link in links]
        properties = _properties(output.name, sides, snapshot, {"hats_nrows": rows}, farthest)
        hats.write_catalog(made.storage, part.name, properties, ASSOCIATION.schema, partitions)
    return Association(
        output=str(output),
        releases=(sides[0].manifest.release, sides[1].manifest.release),
        objects=rows,
        successors=sum(link.successors for link in links),
        max_separation=farthest,
        seconds=watch.seconds,
    )


def _properties(
    name: str, sides: tuple[_Side, _Side], snapshot: SnapshotFiles, counts: dict[str, int], separation: float
) -> hats.Properties:
    return {
        "obs_collection": name,
        "dataproduct_type": "association",
        **counts,
        "hats_primary_table_url": sides[0].catalog,
        "hats_col_assn_primary": sides[0].columns[0],
        "hats_col_assn_primary_assn": "objectid",
        "hats_assn_join_table_url": sides[1].catalog,
        "hats_col_assn_join": sides[1].columns[0],
        "hats_col_assn_join_assn": "newobjectid",
        "hats_assn_max_separation": f"{np.ceil(separation * 1e5) / 1e5:.5f}",
        "hats_assn_leaf_files": True,
        "hats_npix_suffix": ".parquet",
        **hats.healpix_properties(),
        **hats.provenance_properties(snapshot.commit),
    }


@dataclass(frozen=True)
class _Objects:
    """Objects, ascending, and where they are."""

    ids: Ids
    xyz: Floats

    @classmethod
    def of(cls, rows: pa.Table, columns: tuple[str, str, str]) -> _Objects:
        ids, ra, dec = (rows[name].to_numpy() for name in columns)
        order = np.argsort(ids)
        return cls(ids[order], unit_vector(ra[order], dec[order]))


@dataclass(frozen=True)
class _Linked:
    """A partition of the association."""

    output: Output
    successors: int
    separation: float


@dataclass(frozen=True)
class _Making:
    storage: Storage
    name: str
    before: _Side
    there: _Objects
    """Of the newer release."""
    snapshot: SnapshotFiles

    def partition(self, name: str) -> _Linked | None:
        """Write what associates the objects of a partition; None if the newer release has none of them."""
        key, ra, dec = self.before.columns
        rows = self.before.read([name], [HEALPIX_COLUMN])
        ids, xyz = rows[key].to_numpy(), unit_vector(rows[ra].to_numpy(), rows[dec].to_numpy())
        new, kind = self._heirs(ids)
        at = find_sorted(self.there.ids, new)
        kept = np.flatnonzero(at >= 0)
        if not len(kept):
            return None
        apart = np.linalg.norm(xyz[kept] - self.there.xyz[at[kept]], axis=1)
        separation = 2.0 * np.arcsin(apart / 2.0) * ARCSEC_PER_RADIAN
        columns = [rows[HEALPIX_COLUMN].to_numpy()[kept], ids[kept], new[kept], kind[kept], separation]
        table = pa.Table.from_arrays(
            [pa.array(values).cast(field.type) for values, field in zip(columns, ASSOCIATION.schema, strict=True)],
            schema=ASSOCIATION.schema,
        )
        path = hats.pixel_file(self.name, hats.tile_of_file(name))
        output = write_table(self.storage, path, ASSOCIATION, table)
        return _Linked(output, int((new[kept] != ids[kept]).sum()), float(separation.max()))

    def _heirs(self, ids: Ids) -> tuple[Ids, npt.NDArray[np.object_]]:
        """What each object is in the newer release, 0 for nothing, and the kind of the link."""
        new, kind = ids.copy(), np.full(len(ids), KEPT, object)
        gone = np.flatnonzero(find_sorted(self.there.ids, ids) < 0)
        gone = gone[np.argsort(ids[gone])]
        kind[gone], new[gone] = links_of(self.snapshot, ids[gone])
        new[kind == NO_LINK] = 0
        return new, kind
