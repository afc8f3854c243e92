"""PS1 as a HATS catalog: which of its partitions are near a box on the sky.

A catalog has its partitions below ``dataset`` (before HATS 1.0: below its root) as ``Norder=<k>/Dir=<d>/Npix=<n>``,
each a file or a directory of files; a collection names its primary catalog. Metadata, margins and indexes beside them
are never read as data: a margin has the stars of its neighbours a second time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import hpgeom
import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.places import Places

_PROPERTIES: Final = ("hats.properties", "properties")
_NO_OBJECTS: Final = frozenset({"margin", "index", "association", "map"})
_PARTITION: Final = re.compile(r"Npix=(\d+)(\..*)?")


class Place(Protocol):
    """A part of the sky."""

    def may_touch(self, ra: Floats, dec: Floats, radius: Floats) -> npt.NDArray[np.bool_]:
        """Whether each circle may reach into it; degrees, shape (N,)."""
        ...


def partitions_of(path: Path) -> Path | None:
    """Directory of the partitions of a catalog, or of a collection's primary one; None of what is neither.

    Raises
    ------
    MetadataError
        If a collection names no catalog that is there, or the catalog is one of margins, say.
    """
    catalog = path
    if (path / "collection.properties").is_file():
        named = _read_properties(path / "collection.properties").get("hats_primary_table_url", "")
        catalog = path / named
        if not (named and catalog.is_dir()):
            raise MetadataError(f"{path / 'collection.properties'}: its primary catalog {named!r} is not there")
    for root in (catalog / "dataset", catalog):
        if any(root.glob("Norder=*")):
            _check_kind(catalog)
            return root
    if catalog != path:
        raise MetadataError(f"{catalog}: the primary catalog of the collection has no partitions (dataset/Norder=...)")
    return None


def _check_kind(catalog: Path) -> None:
    held = next((catalog / name for name in _PROPERTIES if (catalog / name).is_file()), None)
    kind = "" if held is None else _read_properties(held).get("dataproduct_type", "")
    if kind in _NO_OBJECTS:
        raise MetadataError(f"{held}: a HATS catalog of type {kind!r}; give the catalog of objects, or the collection")


def _read_properties(path: Path) -> dict[str, str]:
    """``key = value`` lines, as Java's properties."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{path}: cannot be read: {error}") from None
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in pairs}


def files_near(root: str, place: Place, stamp: str) -> list[str]:
    """Files of the partitions that may have anything of a place, in order of their names.

    Parameters
    ----------
    root : str
        As :func:`partitions_of` found it.
    place : Place
    stamp : str
        Of the catalog's state: the partitions of one state are listed once in a process.
    """
    held = _partitions(root, stamp)
    near = held.paths[place.may_touch(held.ra, held.dec, held.radius)]
    return [file for path in near.tolist() for file in data_files(Path(path))]


def first_file(root: str, stamp: str) -> str:
    """Any file of a catalog.

    Raises
    ------
    MetadataError
        If there is none.
    """
    files = (file for path in _partitions(root, stamp).paths.tolist() for file in data_files(Path(path)))
    found = next(files, None)
    if found is None:
        raise MetadataError(f"{root}: holds no partition (Norder=.../Dir=.../Npix=...) of a HATS catalog")
    return found


class _Partitions(NamedTuple):
    """Partitions of a catalog and the circles that hold them, degrees; shape (N,) each."""

    paths: npt.NDArray[np.object_]
    ra: Floats
    dec: Floats
    radius: Floats


@functools.lru_cache(maxsize=2)
def _partitions(root: str, stamp: str) -> _Partitions:  # noqa: ARG001  (the stamp distinguishes states)
    found = sorted(_found(Path(root)))
    order, pixel = (np.array([each[i] for each in found], np.int64) for i in (1, 2))
    nside = 2**order
    ra, dec = hpgeom.pixel_to_angle(nside, pixel) if found else (np.zeros(0), np.zeros(0))
    radius = np.array([hpgeom.max_pixel_radius(n) for n in nside.tolist()], np.float64)
    return _Partitions(np.array([path for path, _, _ in found], object), ra, dec, radius)


def _found(root: Path) -> Iterator[tuple[str, int, int]]:
    """Path, order and pixel of each partition."""
    for level in root.glob("Norder=*"):
        for path in level.glob("Dir=*/Npix=*"):
            match = _PARTITION.fullmatch(path.name)
            if match is not None:
                yield str(path), int(level.name.partition("=")[2]), int(match[1])


def data_files(place: Path) -> list[str]:
    """A file, or those of a directory that have rows: as to Arrow, not those whose name begins with _ or a dot."""
    files = [(str(path), path.relative_to(place).parts) for path in files_below(place)]
    return [path for path, parts in files if not any(part.startswith(("_", ".")) for part in parts)]


def files_below(place: Path) -> list[Path]:
    """A file, or all files in a directory and in those that it links to, each once; sorted."""
    found: set[str] = set()
    Places(lambda path, _: found.add(path)).look(str(place))
    return [path for path in map(Path, sorted(found)) if path.is_file()]
