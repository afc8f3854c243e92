"""Divide the matching of new exposures into tasks: one for each group of tiles and batch of exposures."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.coverage import Coverage, Members, runs, shared_caps
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vector
from ztfmatch.core.kernels.tiling import cap_pixels
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.schema import REFERENCES
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import DEFAULT_EXPTIME_S
from ztfmatch.core.tasks.match import BYTES_PER_ROW, BYTES_PER_SEED, MatchTask
from ztfmatch.core.tasks.matchplan import EXPOSURES, encode_part

Rows = npt.NDArray[np.int64]

MOST_EXPOSURES: Final = 256
"""Of a task: some 50 bytes each."""

_COLUMNS: Final = (
    *("exposureid", "source", "digest", "nrows", "field", "rcid", "fid", "ra", "dec", "radius", "obsmjd", "exptime"),
    *("magzp", "quality", "errora", "errorb", "errorc", "errord", "corrections"),
)
"""Of the ledger, that matching needs."""


def units_with_reference(snapshot: SnapshotFiles) -> dict[str, int]:
    """Seeds of the units that have a reference, by the units' names."""
    table = snapshot.read(REFERENCES.name, ["field", "rcid", "fid", "nseeds"])
    return {str(unit_of(row)): row["nseeds"] for row in table.to_pylist()}


def match_tasks(
    snapshot: SnapshotFiles,
    ledger: pa.Table,
    rows_per_task: int,
    operation_id: str,
    corrections: tuple[DataFile, ...] = (),
    data: tuple[DataFile, ...] = (),
) -> list[MatchTask]:
    """Tasks for groups of neighbouring tiles and batches of exposures.

    Parameters
    ----------
    snapshot : SnapshotFiles
    ledger : pa.Table
        New exposures, with the ledger's columns.
    rows_per_task : int
    operation_id : str
    corrections : tuple of DataFile
        The sets that the exposures name.
    data : tuple of DataFile
        What of them is of single exposures and objects, and in no snapshot yet.
    """
    rows = ledger.filter(ledger["ra"].is_valid()).select(_COLUMNS)
    if not rows.num_rows:
        return []
    plan = _Plan.of(snapshot, _in_order(rows), rows_per_task)
    return [
        MatchTask(
            f"match-N{one.group.order}-{one.group.npix}-{i:04d}",
            snapshot,
            one.group,
            plan.encode(one, batch),
            int(plan.rows[batch].sum()),
            plan.seeds(batch),
            f"{operation_id[:12]}-{i:04d}",
            corrections,
            data,
        )
        for one in plan.members
        for i, batch in enumerate(plan.batches(one))
    ]


def _in_order(rows: pa.Table) -> pa.Table:
    """By unit, then time, as tasks have them."""
    assumed = pc.fill_null(rows["exptime"], DEFAULT_EXPTIME_S)
    mid = pc.add(rows["obsmjd"], pc.divide(pc.multiply(assumed, 0.5), 86400.0))
    keys = ("field", "fid", "rcid", "mid_mjd", "exposureid")
    return rows.append_column("mid_mjd", mid).sort_by([(key, "ascending") for key in keys]).combine_chunks()


@dataclass(frozen=True)
class _Plan:
    """New exposures, in order, and where they lie."""

    exposures: pa.Table
    """Columns of EXPOSURES; all are said to straddle."""
    rows: Rows
    """Of each exposure, shape (E,)."""
    size: Floats
    """The same, and the seeds of its unit with the first of each: in rows, by the memory that they take."""
    unit: Rows
    """Number of the unit of each, ascending."""
    unit_seeds: Rows
    """Seeds of each unit."""
    footprint: Rows
    """Of each exposure."""
    cover: Coverage
    members: list[Members]
    rows_per_task: int

    @classmethod
    def of(cls, snapshot: SnapshotFiles, rows: pa.Table, rows_per_task: int) -> _Plan:
        """Plan of rows that :func:`_in_order` gave."""
        names, unit = _units(rows)
        known = units_with_reference(snapshot)
        xyz = unit_vector(rows["ra"].to_numpy(), rows["dec"].to_numpy())
        radius = np.radians(rows["radius"].to_numpy()) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
        footprint, centres, radii = shared_caps(unit, xyz, radius)
        pixels = [cap_pixels(centre, size) for centre, size in zip(centres, radii.tolist(), strict=True)]
        nrows = rows["nrows"].to_numpy()
        seeds = np.array([known.get(name, 0) for name in names], np.int64)
        size = nrows + np.where(np.diff(unit, prepend=-1), seeds[unit], 0) * (BYTES_PER_SEED / BYTES_PER_ROW)
        cover = Coverage(
            snapshot.tiling,
            np.concatenate(pixels),
            np.array([len(found) for found in pixels], np.int64),
            np.bincount(footprint, size).astype(np.int64),
        )
        has_reference = np.array([name in known for name in names])[unit]
        exposures = _exposures(rows, has_reference)
        members = cover.members(rows_per_task)
        return cls(exposures, nrows, size, unit, seeds, footprint, cover, members, rows_per_task)

    @functools.cached_property
    def _by_footprint(self) -> tuple[Rows, Rows, Rows]:
        """Exposures, one footprint's after the other's; where those of each begin, and their number."""
        counts = np.bincount(self.footprint, minlength=len(self.cover.counts))
        return np.argsort(self.footprint, kind="stable"), np.cumsum(counts) - counts, counts

    def _share(self, members: Members, exposures: Rows) -> Floats:
        """Part of each exposure that lies in a group that it touches."""
        return np.asarray(members.share[np.searchsorted(members.footprint, self.footprint[exposures])])

    def batches(self, members: Members) -> Iterator[Rows]:
        """Split the exposures of a group into batches of about equal size, none above the limit unless one catalog is.

        A batch has at most ``rows_per_task`` rows in the group, and its catalogs twice that: they are read as a whole.
        Seeds count too, by the memory that they take; and exposures, by the bytes that a task is told of each.
        """
        order, starts_of, counts = self._by_footprint
        exposures = np.sort(order[runs(starts_of[members.footprint], counts[members.footprint])])
        size = np.maximum(self._share(members, exposures), 0.5) * self.size[exposures] / self.rows_per_task
        each = float(size.sum()) / max(math.ceil(size.sum()), 1)
        starts = [0]
        held = passed = 0.0
        for i, one in enumerate(size.tolist()):
            full = held + one > 1.0 or passed + 0.5 * one > each * len(starts) or i - starts[-1] == MOST_EXPOSURES
            if held and full:
                starts.append(i)
                held = 0.0
            held += one
            passed += one
        yield from np.split(exposures, starts[1:])

    def seeds(self, batch: Rows) -> int:
        """Seeds of the units of some exposures."""
        return int(self.unit_seeds[np.unique(self.unit[batch])].sum())

    def encode(self, members: Members, batch: Rows) -> bytes:
        """What the task of a batch is told."""
        footprints = np.unique(self.footprint[batch])
        exposures = self.exposures.take(pa.array(batch))
        straddles = pa.array(self._share(members, batch) < 1.0)
        at = exposures.schema.get_field_index("straddles")
        return encode_part(
            exposures.set_column(at, EXPOSURES.field(at), straddles), self.cover.tiles(members.group, footprints)
        )


def _units(rows: pa.Table) -> tuple[list[str], Rows]:
    """Names of the units of rows in their order, and the number of each row's."""
    columns = np.stack([rows[name].to_numpy().astype(np.int64) for name in ("field", "rcid", "fid")])
    first = np.flatnonzero(np.any(np.diff(columns, axis=1, prepend=-1), axis=0))
    names = [
        str(unit_of(dict(zip(("field", "rcid", "fid"), unit, strict=True)))) for unit in columns[:, first].T.tolist()
    ]
    return names, np.repeat(np.arange(len(first)), np.diff(np.append(first, columns.shape[1])))


def _exposures(rows: pa.Table, has_reference: npt.NDArray[np.bool_]) -> pa.Table:
    """Columns of EXPOSURES."""
    errors = np.stack([rows[name].to_numpy() for name in ("errora", "errorb", "errorc", "errord")], axis=-1)
    made: Mapping[str, Any] = {
        "has_reference": pa.array(has_reference),
        "straddles": pa.array(np.ones(len(rows), bool)),
        "bad": pc.fill_null(pc.equal(rows["quality"], BAD), False),
        "error_model": pa.FixedSizeListArray.from_arrays(
            pa.array(errors.ravel()), 4, mask=pc.is_null(rows["errora"]).combine_chunks()
        ),
    }
    columns = [made[field.name] if field.name in made else rows[field.name].cast(field.type) for field in EXPOSURES]
    return pa.Table.from_arrays(columns, schema=EXPOSURES)


def projected_bytes(task: MatchTask) -> int:
    """Peak memory of the worker that runs the task."""
    return WORKER_BASE_BYTES + BYTES_PER_ROW * task.rows + BYTES_PER_SEED * task.seeds
