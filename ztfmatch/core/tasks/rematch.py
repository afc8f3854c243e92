"""Match stored detections again, to the seeds of new references: one tile and a batch of exposures.

Works from the store alone: what the catalogs measured is in ``detections`` and ``orphans``, to the last bit. The same
rules decide as in an append, and rows keep every value but the object that they are of.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Array, Arrays, Rows
from ztfmatch.core.io.correctiondata import CorrectionData
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.merge import numpy_columns
from ztfmatch.core.io.parquet import DataFile, Destination, OpenFile, overlaps, read_table
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lineage import Flows, add_flows, count_flows
from ztfmatch.core.kernels.lookup import build_map, find_rows, in_ranges
from ztfmatch.core.kernels.tiling import fine_pixels, in_tile_or_margin, neighbours
from ztfmatch.core.schema import COLOURS, CORRECTIONS, DETECTIONS, ORPHANS, TRANSIENTDATA, Table
from ztfmatch.core.schema.sky import EPOCH, EPOCH_NAMES, MEASURED
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import Unit, objectid_range
from ztfmatch.core.tasks.assignment import Fates
from ztfmatch.core.tasks.ledger import exposures_of_fields
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.core.tasks.results import Matched
from ztfmatch.core.tasks.rowbuffer import RowBuffer, decide_all, pieces
from ztfmatch.core.tasks.seedgrids import lay_seeds
from ztfmatch.core.tasks.seeds import ReferenceInput, seed_positions
from ztfmatch.core.tasks.staging import keep
from ztfmatch.core.tasks.tile import TileTask

BYTES_PER_ROW: Final = 240
"""Peak memory of a task per row of its exposures; tests compare it with what is measured."""

_BATCH_ROWS: Final = 131_072


@dataclass(frozen=True)
class StoredExposure:
    """What a task needs to know of an exposure whose detections are stored."""

    exposureid: int
    unit: Unit
    rows: int
    """Stored detections, matched and orphans."""
    straddles: bool
    has_reference: bool = True


def encode_exposures(rows: pa.Table) -> bytes:
    """Bytes of exposures, some ten for each: columns ``exposureid``, unit, ``rows`` and ``straddles``."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed, pa.ipc.new_stream(packed, rows.schema) as writer:
        writer.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@dataclass(frozen=True)
class RematchTask(TileTask):
    """One tile and a batch of exposures, ordered by unit, then time."""

    plan: bytes
    """The exposures, see :func:`encode_exposures`."""
    nrows: int
    """Detections that are stored of these, in this tile and elsewhere."""
    references: tuple[ReferenceInput, ...]
    """New references of their units."""
    span: tuple[float, float]
    """First and last hmjd that their rows can have."""
    part: str
    flows: str
    """Where to write how many detections went from which old object to which new one, and which are set free."""
    write: bool = True
    """False only counts."""

    @functools.cached_property
    def exposures(self) -> tuple[StoredExposure, ...]:
        """Those of ``plan``, in its order; unpacked once."""
        with pa.CompressedInputStream(pa.BufferReader(self.plan), "zstd") as content:
            rows = pa.ipc.open_stream(content).read_all().to_pylist()
        return tuple(
            StoredExposure(row["exposureid"], unit, row["rows"], row["straddles"])
            for row in rows
            for unit in (unit_of(row),)
        )

    def near(self, table: Table) -> list[DataFile]:
        """Files of the tile, and of its neighbours if any of the exposures reaches into these."""
        straddling = any(exposure.straddles for exposure in self.exposures)
        tiles = neighbours(self.snapshot.tiling, self.tile) if straddling else [self.tile]
        return self.snapshot.of_tiles(table.name, tiles)

    def stored(self) -> list[DataFile]:
        """Files of detections and orphans that can have rows of the exposures."""
        units = [objectid_range(reference.unit) for reference in self.references]
        ids = [exposure.exposureid for exposure in self.exposures]
        detections = [file for file in self.near(DETECTIONS) if file.holds_id(units)]
        orphans = [file for file in self.near(ORPHANS) if file.holds_id([(min(ids), max(ids))])]
        return [file for file in (*detections, *orphans) if file.holds_time(*self.span)]


@dataclass(frozen=True)
class MatchedAgain(Matched):
    """Files of detections and orphans; none where nothing is written."""

    kept: list[dict[str, str]]
    """The flows."""


def rematch_tile(task: RematchTask) -> MatchedAgain:
    """Match again, write, count."""
    seeds = lay_seeds(
        seed_positions(task.references), [reference.unit for reference in task.references], task.tile,
        task.snapshot.config.radius_arcsec,
    )  # fmt: skip
    stored = _stored(task)
    fates = Fates((task.tile,), task.exposures, seeds, stored.rows)
    decide_all(stored, fates)
    epochs, orphans = fates.epochs(), fates.orphans()
    was = stored["was"]
    flows = add_flows(
        count_flows(was[epochs], fates.objectid[fates.group[epochs]]),
        count_flows(was[orphans], np.zeros(len(orphans), np.int64)),
    )
    kept = [keep(task.storage, task.flows, encode_flows(flows, _freed(stored, fates, orphans)))]
    files = []
    if task.write:
        columns = _Columns(task, stored, fates)
        for number, rows in enumerate(pieces(epochs)):
            files.append(fates.write_epochs(_to(task, DETECTIONS, number), rows, columns.of(rows, epochs=True)))
        for number, rows in enumerate(pieces(orphans)):
            files.append(fates.write_orphans(_to(task, ORPHANS, number), rows, columns.of(rows)))
    return MatchedAgain(files, fates.counts(), kept)


class _Columns:
    """Columns of rows as they are written: as they were, but where magnitudes depend on the object's colour."""

    def __init__(self, task: RematchTask, stored: RowBuffer, fates: Fates) -> None:
        self._stored, self._fates = stored, fates
        self._photometer: Photometer | None = None
        if task.snapshot.files.has(COLOURS.name):
            sets = read_store_sets(task.storage, task.snapshot.of_table(CORRECTIONS.name))
            ids = [exposure.exposureid for exposure in task.exposures]
            ledger = exposures_of_fields(task.snapshot, {e.unit.field for e in task.exposures}, _CALIBRATION)
            at = {key: row for row, key in enumerate(ledger["exposureid"].to_pylist())}
            columns = ledger.take([at[key] for key in ids]).to_pydict()
            data = CorrectionData.of(task.snapshot)
            self._photometer = Photometer(Calibration.of(columns, columns["corrections"], data, sets), sets)
            self._has_set = np.array([name is not None for name in columns["corrections"]], bool)

    def of(self, rows: Rows, epochs: bool = False) -> Arrays:
        """Columns of EPOCH and MEASURED of some rows, which are epochs or orphans."""
        columns = self._stored.columns(EPOCH_NAMES, rows)
        if self._photometer is None:
            return columns
        own = {"objectid": self._fates.objectid[self._fates.group[rows]]} if epochs else {}
        exposure = self._fates.exposure[rows]
        made = self._photometer.measure({**columns, **own}, exposure)
        here = self._has_set[exposure]
        return {**columns, **{name: np.where(here, values, columns[name]) for name, values in made.items()}}


_CALIBRATION: Final = (
    *("exposureid", "field", "rcid", "fid", "magzp", "obsmjd", "exptime", "corrections"),
    *("errora", "errorb", "errorc", "errord"),
)


def _stored(task: RematchTask) -> RowBuffer:
    """The detections of a task's exposures in its tile and margin, as read.

    ``was`` is the objectid that it is an epoch of, the transientid of a transient's detection, 0 of an orphan alone.
    """
    kinds = {column.name: numpy_type(column.type) for column in (*EPOCH, *MEASURED)}
    buffer = RowBuffer({**kinds, "was": np.int64}, task.nrows)
    links = _Links(task)
    for columns, exposure in _parts(task):
        was = columns["objectid"] if "objectid" in columns else links.transient_of(exposure, columns["sourceid"])
        buffer.add({**columns, "was": was}, exposure)
    return buffer


class _Links:
    """Which orphans of the task's exposures are detections of transients."""

    def __init__(self, task: RematchTask) -> None:
        columns = numpy_columns(read_table(task.storage, task.near(TRANSIENTDATA), TRANSIENTDATA))
        exposures = build_map(np.array([exposure.exposureid for exposure in task.exposures], np.int64))
        exposure = find_rows(exposures, columns["exposureid"])
        mine = exposure >= 0
        self._ids = columns["transientid"][mine]
        self._rows = build_map(_detection_key(exposure[mine], columns["sourceid"][mine]))

    def transient_of(self, exposure: npt.NDArray[np.int32], sourceid: npt.NDArray[np.int32]) -> Rows:
        """Transientid of each detection, 0 where it has none."""
        if not len(self._ids):
            return np.zeros(len(exposure), np.int64)
        row = find_rows(self._rows, _detection_key(exposure, sourceid))
        return np.where(row >= 0, self._ids[row], 0)


def _detection_key(exposure: Array, sourceid: npt.NDArray[np.int32]) -> Rows:
    """Number that no other detection has: of the row of its exposure and its sourceid, which is not negative."""
    return (exposure.astype(np.int64) << 32) + sourceid


def _parts(task: RematchTask) -> Iterator[tuple[Arrays, npt.NDArray[np.int32]]]:
    """Rows of the task's exposures in its tile and margin, some at a time, with the row of the exposure of each."""
    exposures = build_map(np.array([exposure.exposureid for exposure in task.exposures], np.int64))
    units = sorted({exposure.unit for exposure in task.exposures})
    for file in task.stored():
        rows = _detections if file.table == DETECTIONS.name else _orphans
        for columns in rows(task.storage, file, units):
            exposure = find_rows(exposures, columns["exposureid"]).astype(np.int32)
            keep = exposure >= 0
            if file.tile != task.tile:  # its own have a seed in it, or lie in it themselves
                keep &= in_tile_or_margin(fine_pixels(columns["ra"], columns["dec"]), task.tile)
            if keep.all():
                yield columns, exposure
            else:
                yield {name: values[keep] for name, values in columns.items()}, exposure[keep]


def _detections(storage: Storage, file: DataFile, units: Sequence[Unit]) -> Iterator[Arrays]:
    """Detections of some units in a file, row group by row group."""
    ranges = [objectid_range(unit) for unit in units]
    parquet = OpenFile(storage, file)
    for number, group in enumerate(parquet.groups):
        if overlaps(group.ids, ranges):
            columns = numpy_columns(parquet.read([number], DETECTIONS.names))
            mine = in_ranges(columns["objectid"], ranges)
            yield columns if mine.all() else {name: values[mine] for name, values in columns.items()}


def _orphans(storage: Storage, file: DataFile, units: Sequence[Unit]) -> Iterator[Arrays]:  # noqa: ARG001
    """Orphans of a file, some at a time."""
    for batch in OpenFile(storage, file).batches(list(EPOCH_NAMES), _BATCH_ROWS):
        yield numpy_columns(batch)


def _to(task: RematchTask, table: Table, number: int) -> Destination:
    return Destination(task.storage, table, task.tile, task.commit, f"{task.part}-{number:04d}")


@dataclass(frozen=True)
class Freed:
    """Detections that were an object's or a transient's and are orphans now, shape (N,)."""

    exposureid: Rows
    sourceid: npt.NDArray[np.int32]
    old: Rows
    """What they were of."""


def _freed(stored: RowBuffer, fates: Fates, orphans: Rows) -> Freed:
    rows = orphans[stored["was"][orphans] > 0]
    return Freed(stored["exposureid"][rows], fates.sourceid[rows], stored["was"][rows])


def encode_flows(flows: Flows, freed: Freed) -> bytes:
    """Bytes of a file of flows."""
    sink = io.BytesIO()
    parts = {f"{type(part).__name__}.{name}": getattr(part, name) for part in (flows, freed) for name in vars(part)}
    np.savez(sink, **parts)
    return sink.getvalue()


def read_flows(storage: Storage, path: str) -> tuple[Flows, Freed]:
    """What a task counted, and what it set free."""
    with np.load(io.BytesIO(storage.read(path))) as arrays:
        return Flows(**_of(Flows, arrays)), Freed(**_of(Freed, arrays))


def _of(kind: type[Flows | Freed], arrays: Any) -> Arrays:
    return {name: arrays[f"{kind.__name__}.{name}"] for name in kind.__dataclass_fields__}
