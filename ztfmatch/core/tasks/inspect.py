"""Inspect catalogs: identity, metadata, footprint, usable rows; refuse bad ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.ipc

import ztfmatch
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.catalogs import EpochalCatalog, ReferenceCatalog, read_epochal, read_reference
from ztfmatch.core.io.metadata import Extra
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.sources import stamp
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.io.storefile import FORMAT_VERSION
from ztfmatch.core.kernels.rows import Summary, position_faults, summarise
from ztfmatch.core.kernels.seedcounts import GRID_ORDER
from ztfmatch.core.kernels.sphere import enclosing_cap_of_positions, lonlat_of
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, fine_pixels
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, REFERENCES
from ztfmatch.core.survey import MAX_SOURCEID
from ztfmatch.core.tasks.staging import run_staged

ODD_PROGRAM: Final = "odd_program"
"""Beside the ledger's columns: the program that a catalog names, if the survey has no such program."""

WRAPPED: Final = "wrapped"
"""The same: right ascensions that were outside 0 to 360 degrees, by a turn."""

FOUND: Final = pa.schema(
    [
        *(EXPOSURES.schema.field(name) for name in (
            *("exposureid", "fracday", "expid", "field", "rcid", "fid", "ccdid", "qid", "obsmjd", "exptime"),
            *("programid", "magzp", "magzpunc", "magzprms", "clrcoeff", "clrcounc", "pcolor", "nmatches", "airmass"),
            *("seeing", "maglimit", "infobits", "ra", "dec", "radius", "nrows", "nrejected", "nrejectednan"),
            *("nrejectedrange", "digest", "filename", "source", "size", "sha256"),
        )),
        pa.field(ODD_PROGRAM, pa.string()),
        pa.field(WRAPPED, pa.int64()),
    ]
)  # fmt: skip
"""Columns of the ledger that an epochal catalog gives, ODD_PROGRAM and WRAPPED."""

GRID: Final = "grid"
"""Beside the references' columns: their seeds on a coarse grid, see :func:`read_grid`."""

FOUND_REFERENCES: Final = pa.schema(
    [
        *(column for column in REFERENCES.schema if column.name not in ("generation", "commit")),
        pa.field(WRAPPED, pa.int64()),
        pa.field(GRID, pa.binary()),
    ]
)
"""Columns of ``references`` that a reference gives, WRAPPED and GRID."""

INSPECTIONS: Final = "inspections"
"""Under what inspections are staged, whatever operation they are for."""


@dataclass(frozen=True, slots=True)
class CatalogInput:
    """A catalog to inspect, with metadata that its header may lack."""

    source: str
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True)
class InspectTask:
    """Catalogs to inspect in one go."""

    key: str
    catalogs: tuple[CatalogInput, ...]
    staging: Storage | None = None
    """Where the result is kept for a rerun; None keeps none."""


@dataclass(frozen=True)
class FoundCatalogs:
    """What catalogs are, epochal ones or references."""

    usable: bytes
    """Rows of FOUND or FOUND_REFERENCES, as an Arrow stream."""
    refused: list[Refused] = field(default_factory=list)

    @property
    def table(self) -> pa.Table:
        """The rows of the usable ones."""
        return pa.ipc.open_stream(self.usable).read_all()


def inspect_epochal(task: InspectTask) -> FoundCatalogs:
    """Rows of the ledger without what the match adds.

    Kept under a name made of the catalogs' paths, sizes and times: one that has changed since is read again, and so are
    those that could not be used, which may be the fault of a disk.
    """
    if task.staging is None:
        return read_catalogs(task)
    seen = [[catalog.source, stamp(catalog.source), catalog.extra] for catalog in task.catalogs]
    identity = json.dumps([ztfmatch.__version__, FORMAT_VERSION, seen], sort_keys=True)
    named = replace(task, key=f"inspect-{hashlib.sha256(identity.encode()).hexdigest()[:32]}")
    return run_staged(read_catalogs, named, task.staging, INSPECTIONS, lambda found: not found.refused)


def read_catalogs(task: InspectTask) -> FoundCatalogs:
    """Read epochal catalogs, whatever is kept."""
    return _inspected(task, FOUND, lambda catalog: _ledger_row(read_epochal(catalog.source, catalog.extra)))


def inspect_references(task: InspectTask) -> FoundCatalogs:
    """Rows of ``references`` without generation and commit, and the seeds of each on a coarse grid."""
    return _inspected(task, FOUND_REFERENCES, lambda catalog: _reference_row(read_reference(catalog.source)))


def _inspected(task: InspectTask, schema: pa.Schema, row_of: Callable[[CatalogInput], Row]) -> FoundCatalogs:
    usable, refused = list[Row](), list[Refused]()
    for catalog in task.catalogs:
        try:
            usable.append(row_of(catalog))
        except CatalogError as error:
            refused.append(Refused.unreadable(catalog.source, error))
    return FoundCatalogs(as_stream(pa.Table.from_pylist(usable, schema=schema)), refused)


def as_stream(rows: pa.Table) -> bytes:
    """Rows as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def grid_of(fine: Pixels) -> bytes:
    """How many seeds each pixel of GRID_ORDER has, in a byte or two for each pixel.

    Parameters
    ----------
    fine : int64 ndarray, shape (N,)
        Fine pixel of each seed.
    """
    return pack_grid(*np.unique(fine >> 2 * (FINE_ORDER - GRID_ORDER), return_counts=True))


def pack_grid(pixels: Pixels, counts: Pixels) -> bytes:
    """The same of pixels of GRID_ORDER, ascending, and the number of seeds in each."""
    plain = np.concatenate([np.diff(pixels, prepend=0), counts]).astype("<u4").tobytes()
    packed: bytes = pa.compress(plain, "zstd", asbytes=True)
    return len(pixels).to_bytes(8, "little") + packed


def read_grid(grid: bytes) -> tuple[Pixels, Pixels]:
    """Pixels of GRID_ORDER that have seeds, ascending, and their number in each."""
    number = int.from_bytes(grid[:8], "little")
    plain = pa.decompress(grid[8:], 8 * number, "zstd", asbytes=True)
    steps, counts = np.frombuffer(plain, "<u4").astype(np.int64).reshape(2, number)
    return np.cumsum(steps), counts


def _ledger_row(catalog: EpochalCatalog) -> Row:
    found = _summary(catalog)
    return {
        "exposureid": catalog.exposureid,
        "fracday": catalog.fracday,
        **_unit_columns(catalog),
        "obsmjd": catalog.obsmjd,
        "magzp": catalog.magzp,
        **catalog.metadata,
        **({} if catalog.odd_program is None else {ODD_PROGRAM: catalog.odd_program}),
        **_footprint(found),
        "nrows": len(catalog.records),
        "nrejected": found.not_finite + found.outside,
        "nrejectednan": found.not_finite - catalog.undefined,
        "nrejectedrange": found.outside,
        WRAPPED: catalog.wrapped,
        "digest": found.digest,
        **_file_columns(catalog),
    }


def _reference_row(catalog: ReferenceCatalog) -> Row:
    found = _summary(catalog)
    if found.not_finite + found.outside:
        raise _without_position(found, catalog)
    return {
        **_unit_columns(catalog),
        "rfid": catalog.rfid,
        "magzp": catalog.magzp,
        "clrcoeff": catalog.clrcoeff,
        "infobits": catalog.infobits,
        **_footprint(found),
        "nseeds": len(catalog.records),
        WRAPPED: catalog.wrapped,
        "digest": found.digest,
        **_file_columns(catalog),
        GRID: grid_of(fine_pixels(found.ra, found.dec)),
    }


def _summary(catalog: EpochalCatalog | ReferenceCatalog) -> Summary:
    """Summary of a catalog whose sourceids can be the last digits of objectids and transientids."""
    found = summarise(catalog.records)
    low, high = found.sourceids
    if low < 0 or high > MAX_SOURCEID:
        raise CatalogError("layout", f"sourceids reach from {low} to {high}; expected 0..{MAX_SOURCEID}")
    return found


def _without_position(found: Summary, catalog: ReferenceCatalog) -> CatalogError:
    ids, ra, dec = (catalog.records[name] for name in ("sourceid", "ra", "dec"))
    row = int(np.argmax(np.logical_or(*position_faults(ra, dec))))
    return CatalogError(
        "positions",
        f"{found.not_finite} positions are not finite and {found.outside} are out of range, first that of sourceid "
        f"{ids[row]}: ra {ra[row]}, dec {dec[row]}; every seed needs a position",
    )


def _unit_columns(catalog: EpochalCatalog | ReferenceCatalog) -> Row:
    unit = catalog.unit
    return {"field": unit.field, "rcid": unit.rcid, "fid": unit.fid, "ccdid": unit.ccdid, "qid": unit.qid}


def _file_columns(catalog: EpochalCatalog | ReferenceCatalog) -> Row:
    file = catalog.file
    return {"filename": file.filename, "source": file.source, "size": file.size, "sha256": file.sha256}


def _footprint(found: Summary) -> Row:
    if not len(found.ra):
        return {"ra": None, "dec": None, "radius": None}
    centre, radius = enclosing_cap_of_positions(found.ra, found.dec)
    lon, lat = lonlat_of(centre)
    return {"ra": lon, "dec": lat, "radius": math.degrees(radius)}
