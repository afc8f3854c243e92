"""Write the objects of one tile from the reference catalogs that overlap it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.io.catalogs import reread_records
from ztfmatch.io.parquet import Destination, table_from_columns, write_file
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.tiling import Tile, fine_pixels, in_tile
from ztfmatch.schema import OBJECTS
from ztfmatch.schema.sky import ACTIVE
from ztfmatch.survey import Unit, objectid_base
from ztfmatch.tasks.inspect import usable_rows

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
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


def write_objects(task: SeedTask) -> dict[str, Any]:
    """Write the tile's objects; return ``files`` (manifest rows) and ``objects``, their number."""
    parts = [_objects_of(reference, task.tile) for reference in task.references]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = len(columns["objectid"])
    if not rows:
        return {"files": [], "objects": 0}
    order = np.argsort(columns["objectid"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    status = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([ACTIVE]))
    table = table_from_columns(OBJECTS, {**columns, "status": status})
    file = write_file(Destination(task.storage, OBJECTS, task.tile, task.commit, task.part), table)
    return {"files": [file.to_json()], "objects": rows}


def _objects_of(reference: ReferenceInput, tile: Tile) -> Arrays:
    records = reread_records(reference.source, reference.nrows)
    usable = np.flatnonzero(usable_rows(records, reference.digest, reference.source))
    ra, dec = records["ra"].astype(np.float64), records["dec"].astype(np.float64)
    mine = usable[in_tile(fine_pixels(ra[usable], dec[usable]), tile)]
    rows, unit = records[mine], reference.unit
    sourceid = rows["sourceid"].astype(np.int64)
    mag = (rows["mag"].astype(np.float64) + reference.magzp).astype(np.float32)
    return {
        "objectid": objectid_base(unit, reference.generation) + sourceid,
        "field": np.full(len(mine), unit.field, np.int16),
        "rcid": np.full(len(mine), unit.rcid, np.int8),
        "fid": np.full(len(mine), unit.fid, np.int8),
        "generation": np.full(len(mine), reference.generation, np.int8),
        "sourceid": sourceid.astype(np.int32),
        "ra": ra[mine],
        "dec": dec[mine],
        "refmag": mag,
        "refmagerr": rows["sigmag"].astype(np.float32),
        "refsnr": rows["snr"].astype(np.float32),
        "refchi": rows["chi"].astype(np.float32),
        "refsharp": rows["sharp"].astype(np.float32),
        "refflags": rows["flags"].astype(np.int16),
    }
