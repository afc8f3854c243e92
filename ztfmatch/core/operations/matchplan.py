"""Divide the matching of new exposures into tasks: groups of tiles, and successive batches of exposures."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Rows
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.rows import codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.coverage import Coverage, Members, runs, shared_caps
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vector
from ztfmatch.core.kernels.tiling import cap_pixels
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, references_by_unit
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import DEFAULT_EXPTIME_S
from ztfmatch.core.tasks.match import BYTES_PER_ROW, BYTES_PER_SEED, BYTES_PER_WRITTEN_ROW, MatchTask
from ztfmatch.core.tasks.matchplan import EXPOSURES, StagedPart, encode_part
from ztfmatch.core.tasks.staging import keep

MOST_EXPOSURES: Final = 8192
"""Of a task: some 50 bytes each, in a file where they are many."""

_LEAST_TASKS: Final = 64
"""Of a commit, before any has several batches: for as many workers."""
_MOST_BATCHES: Final = 8
"""Of a task: their rows are kept, encoded, until its files are whole."""
LEAST_SHARE: Final = 0.25
"""Part of an exposure that is taken to lie in a group at least: rows are not spread evenly."""
_MOST_BYTES_SENT: Final = 8_000
"""With a task, of its plan; a longer one is staged."""

_COLUMNS: Final = (
    *("exposureid", "source", "digest", "nrows", "field", "rcid", "fid", "ra", "dec", "radius", "obsmjd", "exptime"),
    *("magzp", "quality", "errora", "errorb", "errorc", "errord", "corrections"),
)
"""Of the ledger, that matching needs."""


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
    common = _Common(snapshot, operation_id, corrections, data)
    return [
        plan.task(one, batches, f"{i:04d}", common) for one in plan.members for i, batches in enumerate(plan.tasks(one))
    ]


def rows_of_task(rows: float, rows_per_task: int) -> float:
    """Rows that a task writes at most: all that it keeps in memory at a time, or several times that.

    The more it writes, the fewer and larger are the files. But there are to be enough tasks for many workers.

    Parameters
    ----------
    rows : float
        Of the commit.
    rows_per_task : int
        That a task keeps in memory.
    """
    return min(max(rows / _LEAST_TASKS, rows_per_task), _MOST_BATCHES * rows_per_task)


@dataclass(frozen=True)
class _Common:
    """What all tasks have."""

    snapshot: SnapshotFiles
    operation_id: str
    corrections: tuple[DataFile, ...]
    data: tuple[DataFile, ...]

    def part(self, key: str, part: bytes) -> bytes | StagedPart:
        """What a task is told, or where it stands if it is long."""
        if len(part) <= _MOST_BYTES_SENT:
            return part
        return StagedPart(**keep(self.snapshot.storage, paths.staged_part(self.operation_id, key), part))


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
    """Columns of EXPOSURES; all are said to straddle, and to be of one batch."""
    rows: Rows
    """Of each exposure, shape (E,)."""
    size: Floats
    """The same, and the seeds of its unit with the first of each: in rows, by the memory that they take."""
    unit: Rows
    """Number of the unit of each, ascending."""
    unit_seeds: Rows
    """Seeds of each unit."""
    renewed: npt.NDArray[np.bool_]
    """Which units had another reference before: objects of theirs are retired."""
    footprint: Rows
    """Of each exposure."""
    cover: Coverage
    members: list[Members]
    rows_per_task: int

    @classmethod
    def of(cls, snapshot: SnapshotFiles, rows: pa.Table, rows_per_task: int) -> _Plan:
        """Plan of rows that :func:`_in_order` gave."""
        codes, unit = _units(rows)
        references = references_by_unit(snapshot, ["nseeds"])
        reference = find_sorted(codes_of_rows(references), codes)  # -1 finds what is appended
        xyz = unit_vector(rows["ra"].to_numpy(), rows["dec"].to_numpy())
        radius = np.radians(rows["radius"].to_numpy()) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
        footprint, centres, radii = shared_caps(unit, xyz, radius)
        pixels = [cap_pixels(centre, size) for centre, size in zip(centres, radii.tolist(), strict=True)]
        nrows = rows["nrows"].to_numpy()
        seeds = np.append(references["nseeds"].to_numpy(), 0).astype(np.int64)[reference]
        renewed = np.append(references["generation"].to_numpy() > 0, False)[reference]
        size = nrows + np.where(np.diff(unit, prepend=-1), seeds[unit], 0) * (BYTES_PER_SEED / BYTES_PER_ROW)
        cover = Coverage(
            snapshot.tiling,
            np.concatenate(pixels),
            np.array([len(found) for found in pixels], np.int64),
            np.bincount(footprint, size).astype(np.int64),
        )
        exposures = _exposures(rows, (reference >= 0)[unit])
        members = cover.members(rows_per_task)
        return cls(exposures, nrows, size, unit, seeds, renewed, footprint, cover, members, rows_per_task)

    @functools.cached_property
    def _by_footprint(self) -> tuple[Rows, Rows, Rows]:
        """Exposures, one footprint's after the other's; where those of each begin, and their number."""
        counts = np.bincount(self.footprint, minlength=len(self.cover.counts))
        return np.argsort(self.footprint, kind="stable"), np.cumsum(counts) - counts, counts

    @functools.cached_property
    def _limit(self) -> float:
        """Of a task, where 1 is what it keeps in memory."""
        return rows_of_task(float(self.size.sum()), self.rows_per_task) / self.rows_per_task

    def _share(self, members: Members, exposures: Rows) -> Floats:
        """Part of each exposure that lies in a group that it touches."""
        return np.asarray(members.share[np.searchsorted(members.footprint, self.footprint[exposures])])

    def _sizes(self, members: Members, exposures: Rows) -> Floats:
        """Of exposures in a group, where 1 is what a task keeps in memory."""
        share = np.maximum(self._share(members, exposures), LEAST_SHARE)
        return np.asarray(share * self.size[exposures] / self.rows_per_task)

    def tasks(self, members: Members) -> Iterator[list[Rows]]:
        """Split the exposures of a group into tasks of about equal size, and each into batches.

        A task has at most :func:`rows_of_task`, and a batch ``rows_per_task`` in the group, unless one catalog has
        more. Seeds count too, by the memory that they take.
        """
        order, starts_of, counts = self._by_footprint
        exposures = np.sort(order[runs(starts_of[members.footprint], counts[members.footprint])])
        size = self._sizes(members, exposures)
        for start, stop in _even_parts(size, self._limit):
            yield list(self._batches(exposures[start:stop], size[start:stop]))

    def _batches(self, exposures: Rows, size: Floats) -> Iterator[Rows]:
        """Batches of whole units, as many as fit; a larger unit in order of time."""
        first = np.flatnonzero(np.diff(self.unit[exposures], prepend=-1))
        ends = np.append(first[1:], len(exposures)).tolist()
        start = 0
        for low, high in zip(first.tolist(), ends, strict=True):
            if low > start and size[start:high].sum() > 1.0:
                yield exposures[start:low]
                start = low
            if size[start:high].sum() > 1.0:
                parts = _even_parts(size[start:high], 1.0)
                yield from (exposures[start + one : start + other] for one, other in parts[:-1])
                start += parts[-1][0]
        yield exposures[start:]

    def task(self, members: Members, batches: list[Rows], name: str, common: _Common) -> MatchTask:
        """Task of some batches."""
        group = members.group
        key = f"match-N{group.order}-{group.npix}-{name}"
        own = [float((self._share(members, batch) * self.rows[batch]).sum()) for batch in batches]
        return MatchTask(
            key,
            common.snapshot,
            group,
            common.part(key, self._encode(members, batches)),
            round(sum(own)),
            round(max(own)),
            max(int(self.unit_seeds[np.unique(self.unit[batch])].sum()) for batch in batches),
            any(bool(self.renewed[self.unit[batch]].any()) for batch in batches),
            f"{common.operation_id[:12]}-{name}",
            common.corrections,
            common.data,
        )

    def _encode(self, members: Members, batches: list[Rows]) -> bytes:
        """What the task of some batches is told."""
        rows = np.concatenate(batches)
        footprints = np.unique(self.footprint[rows])
        exposures = self.exposures.take(pa.array(rows))
        made: Arrays = {
            "straddles": self._share(members, rows) < 1.0,
            "batch": np.repeat(np.arange(len(batches)), [len(batch) for batch in batches]),
        }
        for name, values in made.items():
            at = exposures.schema.get_field_index(name)
            exposures = exposures.set_column(at, EXPOSURES.field(at), pa.array(values, EXPOSURES.field(at).type))
        return encode_part(exposures, self.cover.tiles(members.group, footprints))


def _even_parts(size: Floats, limit: float) -> list[tuple[int, int]]:
    """Split things in their order into parts of about equal size, none above a limit unless it is one: start, stop."""
    total = float(size.sum())
    each = total / max(math.ceil(total / limit), 1)
    starts = [0]
    held = passed = 0.0
    for i, one in enumerate(size.tolist()):
        full = held + one > limit or passed + 0.5 * one > each * len(starts) or i - starts[-1] == MOST_EXPOSURES
        if held and full:
            starts.append(i)
            held = 0.0
        held += one
        passed += one
    return list(itertools.pairwise([*starts, len(size)]))


def _units(rows: pa.Table) -> tuple[Rows, Rows]:
    """Codes of the units of rows in their order, and the number of each row's."""
    codes = codes_of_rows(rows)
    new = np.diff(codes, prepend=-1) != 0
    return codes[new], np.cumsum(new) - 1


def _exposures(rows: pa.Table, has_reference: npt.NDArray[np.bool_]) -> pa.Table:
    """Columns of EXPOSURES."""
    errors = np.stack([rows[name].to_numpy() for name in ("errora", "errorb", "errorc", "errord")], axis=-1)
    made: Mapping[str, Any] = {
        "has_reference": pa.array(has_reference),
        "straddles": pa.array(np.ones(len(rows), bool)),
        "batch": pa.array(np.zeros(len(rows), np.int32)),
        "bad": pc.fill_null(pc.equal(rows["quality"], BAD), False),
        "error_model": pa.FixedSizeListArray.from_arrays(
            pa.array(errors.ravel()), 4, mask=pc.is_null(rows["errora"]).combine_chunks()
        ),
    }
    columns = [made[field.name] if field.name in made else rows[field.name].cast(field.type) for field in EXPOSURES]
    return pa.Table.from_arrays(columns, schema=EXPOSURES)


def projected_bytes(task: MatchTask) -> int:
    """Peak memory of the worker that runs the task."""
    kept = BYTES_PER_WRITTEN_ROW * task.rows if task.rows > task.rows_of_batch else 0
    return WORKER_BASE_BYTES + BYTES_PER_ROW * task.rows_of_batch + BYTES_PER_SEED * task.seeds + kept
