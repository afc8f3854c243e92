"""Read catalogs once to learn what they are: identity, metadata, footprint, usable rows; refuse the bad ones."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.catalogs import EpochalCatalog, ReferenceCatalog, read_epochal, read_reference
from ztfmatch.core.io.metadata import Extra
from ztfmatch.core.io.sources import read_file
from ztfmatch.core.kernels.rows import Columns, Mask, decode, digest, position_faults
from ztfmatch.core.kernels.sphere import enclosing_cap_of_positions, lonlat_of
from ztfmatch.core.kernels.tiling import fine_pixels
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.survey import MAX_SOURCEID

Row = dict[str, Any]

ODD_PROGRAM: Final = "odd_program"
"""Key of a ledger row, of no column: what a catalog says in place of a program that the ledger holds."""

_COARSEN_BITS = 4
"""Seeds are counted on pixels two orders above the fine ones."""


@dataclass(frozen=True)
class CatalogInput:
    """A catalog to inspect, with metadata that its header may lack."""

    source: str
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True)
class InspectTask:
    """Catalogs to inspect in one go."""

    key: str
    catalogs: tuple[CatalogInput, ...]


@dataclass(frozen=True)
class Inspected:
    """What catalogs are."""

    usable: list[Row] = field(default_factory=list)
    quarantined: list[Row] = field(default_factory=list)
    """Rows of the quarantine."""


def inspect_epochal(task: InspectTask) -> Inspected:
    """Rows of the ledger without what the match adds, and with ODD_PROGRAM where that is."""
    return _inspected(task, lambda catalog: _ledger_row(read_epochal(catalog.source, catalog.extra)))


def inspect_references(task: InspectTask) -> Inspected:
    """Rows of ``references`` without generation and commit, plus ``pixels`` and ``counts``: seeds on a coarse grid."""
    return _inspected(task, lambda catalog: _reference_row(read_reference(catalog.source)))


def _inspected(task: InspectTask, row_of: Callable[[CatalogInput], Row]) -> Inspected:
    found = Inspected()
    for catalog in task.catalogs:
        try:
            found.usable.append(row_of(catalog))
        except CatalogError as error:
            found.quarantined.append(quarantine_row(catalog.source, error))
    return found


def quarantine_row(source: str, error: CatalogError) -> Row:
    """Row of the quarantine, without the commit; size and checksum are of the packed file if it cannot be unpacked."""
    row: Row = {
        "code": error.code,
        "reason": error.message,
        "source": source,
        "filename": source.rsplit("/", 1)[-1],
    }
    for unpack in (True, False):
        with contextlib.suppress(CatalogError):
            content = read_file(source, unpack=unpack)
            return {**row, "size": content.size, "sha256": content.sha256}
    return {**row, "size": None, "sha256": None}


def usable_columns(columns: Columns) -> tuple[Mask | None, int, int]:
    """Which decoded rows can be used (None: all), and how many cannot: position not finite, out of range."""
    not_finite, outside = position_faults(columns["ra"], columns["dec"])
    nan, out = int(not_finite.sum()), int(outside.sum())
    return (~(not_finite | outside) if nan + out else None), nan, out


def _check_sourceids(columns: Columns) -> None:
    """They are the last digits of objectids and transientids."""
    ids = columns["sourceid"]
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= MAX_SOURCEID:
        raise CatalogError("layout", f"sourceids reach from {ids.min()} to {ids.max()}; expected 0..{MAX_SOURCEID}")


def _ledger_row(catalog: EpochalCatalog) -> Row:
    columns = decode(catalog.records)
    _check_sourceids(columns)
    usable, nan, out = usable_columns(columns)
    return {
        "exposureid": catalog.exposureid,
        "fracday": catalog.fracday,
        **_unit_columns(catalog),
        "obsmjd": catalog.obsmjd,
        "magzp": catalog.magzp,
        **catalog.metadata,
        **({} if catalog.odd_program is None else {ODD_PROGRAM: catalog.odd_program}),
        "origin": CATALOG,
        **_footprint(columns, usable),
        "nrows": len(catalog.records),
        "nrejected": nan + out,
        "nrejectednan": nan,
        "nrejectedrange": out,
        "digest": digest(columns, usable),
        **_file_columns(catalog),
    }


def _reference_row(catalog: ReferenceCatalog) -> Row:
    columns = decode(catalog.records)
    usable, nan, out = usable_columns(columns)
    ids = columns["sourceid"]
    _check_sourceids(columns)
    if usable is not None:
        row = int(np.argmin(usable))
        raise CatalogError(
            "positions",
            f"{nan} positions are not finite and {out} are out of range, first that of sourceid {ids[row]}: "
            f"ra {columns['ra'][row]}, dec {columns['dec'][row]}; every seed needs a position",
        )
    fine = fine_pixels(columns["ra"], columns["dec"])
    pixels, counts = np.unique(fine >> _COARSEN_BITS, return_counts=True)
    return {
        **_unit_columns(catalog),
        "rfid": catalog.rfid,
        "magzp": catalog.magzp,
        "clrcoeff": catalog.clrcoeff,
        "infobits": catalog.infobits,
        **_footprint(columns, None),
        "nseeds": ids.size,
        "digest": digest(columns),
        **_file_columns(catalog),
        "pixels": (pixels << _COARSEN_BITS).tolist(),
        "counts": counts.tolist(),
    }


def _unit_columns(catalog: EpochalCatalog | ReferenceCatalog) -> Row:
    unit = catalog.unit
    return {"field": unit.field, "rcid": unit.rcid, "fid": unit.fid, "ccdid": unit.ccdid, "qid": unit.qid}


def _file_columns(catalog: EpochalCatalog | ReferenceCatalog) -> Row:
    file = catalog.file
    return {"filename": file.filename, "source": file.source, "size": file.size, "sha256": file.sha256}


def _footprint(columns: Columns, usable: Mask | None) -> Row:
    ra, dec = columns["ra"], columns["dec"]
    if usable is not None:
        ra, dec = ra[usable], dec[usable]
    if not len(ra):
        return {"ra": None, "dec": None, "radius": None}
    centre, radius = enclosing_cap_of_positions(ra, dec)
    lon, lat = lonlat_of(centre)
    return {"ra": lon, "dec": lat, "radius": math.degrees(radius)}
