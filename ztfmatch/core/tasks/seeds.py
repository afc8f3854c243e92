"""Write the objects of one tile from the reference catalogs that overlap it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Arrays
from ztfmatch.core.io.catalogs import changed, reread_records
from ztfmatch.core.io.parquet import Destination, table_from_columns, write_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.rows import summarise
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile
from ztfmatch.core.schema import OBJECTS
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import Unit, objectid_base
from ztfmatch.core.tasks.results import WrittenObjects
from ztfmatch.core.tasks.seedgrids import SeedPositions


@dataclass(frozen=True, slots=True)
class ReferenceInput:
    """One checked reference catalog."""

    source: str
    nrows: int
    digest: int
    unit: Unit
    generation: int
    magzp: float


@dataclass(frozen=True)
class SeedTask:
    """One tile and the references that touch it, in order of their objectids."""

    key: str
    storage: Storage
    tile: Tile
    references: tuple[ReferenceInput, ...]
    commit: int
    part: str


def write_objects(task: SeedTask) -> WrittenObjects:
    """Write the tile's objects."""
    table = objects_of_tile(task.references, task.tile)
    if not table.num_rows:
        return WrittenObjects([], 0)
    file = write_file(Destination(task.storage, OBJECTS, task.tile, task.commit, task.part), table)
    return WrittenObjects([file], table.num_rows)


def objects_of_tile(references: Sequence[ReferenceInput], tile: Tile) -> pa.Table:
    """Rows of ``objects`` that the seeds of some references make in a tile, all active, by objectid."""
    parts = [_objects_of(reference, tile) for reference in references]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["objectid"], kind="stable")
    status = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(order), np.int8)), pa.array([ACTIVE]))
    return table_from_columns(OBJECTS, {**{name: values[order] for name, values in columns.items()}, "status": status})


def seed_positions(references: Sequence[ReferenceInput]) -> SeedPositions:
    """Objectids and positions of all seeds of some references."""
    parts = [_positions_of(reference) for reference in references]
    ids, ra, dec = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")
    return SeedPositions(ids[order], ra[order], dec[order])


def _positions_of(reference: ReferenceInput) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    rows = _records(reference)
    ids = objectid_base(reference.unit, reference.generation) + rows["sourceid"].astype(np.int64)
    return ids, rows["ra"].astype(np.float64), rows["dec"].astype(np.float64)


def _records(reference: ReferenceInput) -> npt.NDArray[np.void]:
    records = reread_records(reference.source, reference.nrows, reference=True)
    if summarise(records).digest != reference.digest:
        raise changed(reference.source)
    return records


def all_objects(reference: ReferenceInput) -> pa.Table:
    """Rows of ``objects`` that all seeds of a reference make, whatever their tile."""
    columns = _columns_of(reference, _records(reference))
    return pa.table({name: columns[name] for name in ("objectid", "ra", "dec", "refmag")})


def _objects_of(reference: ReferenceInput, tile: Tile) -> Arrays:
    records = _records(reference)
    fine = fine_pixels(records["ra"].astype(np.float64), records["dec"].astype(np.float64))
    return _columns_of(reference, records[in_tile(fine, tile)])


def _columns_of(reference: ReferenceInput, rows: npt.NDArray[np.void]) -> Arrays:
    unit = reference.unit
    sourceid = rows["sourceid"].astype(np.int64)
    mag = (rows["mag"].astype(np.float64) + reference.magzp).astype(np.float32)
    return {
        "objectid": objectid_base(unit, reference.generation) + sourceid,
        "field": np.full(len(rows), unit.field, np.int16),
        "rcid": np.full(len(rows), unit.rcid, np.int8),
        "fid": np.full(len(rows), unit.fid, np.int8),
        "generation": np.full(len(rows), reference.generation, np.int8),
        "sourceid": sourceid.astype(np.int32),
        "ra": rows["ra"].astype(np.float64),
        "dec": rows["dec"].astype(np.float64),
        "refmag": mag,
        "refmagerr": rows["sigmag"].astype(np.float32),
        "refsnr": rows["snr"].astype(np.float32),
        "refchi": rows["chi"].astype(np.float32),
        "refsharp": rows["sharp"].astype(np.float32),
        "refflags": rows["flags"].astype(np.int16),
    }
