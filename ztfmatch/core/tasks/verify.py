"""Prove the invariants on the stored rows of one tile, from the rows alone.

Nothing that append computed is trusted: matches, magnitudes, times and digests are made again from the stored
measured values, the ledger and the seeds, and compared. What each row alone tells is in ``verifyepochs``, pairs of rows
that competed in ``verifylost``, transients in ``verifytransients``. Here the rows are read, in chunks of bounded size,
and matched and counted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import decode_arrays, encode_arrays, read_arrays
from ztfmatch.core.io.merge import Arrays, Lightcurves, iterate_lightcurves, numpy_columns
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.crossmatch import nearest_seeds
from ztfmatch.core.kernels.rows import MEASURED, row_digests
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.kernels.tiling import fine_pixels, in_tile, neighbours
from ztfmatch.core.schema import DETECTIONS, OBJECTS, ORPHANS, TRANSIENTDATA, TRANSIENTS, Table, sky
from ztfmatch.core.schema.sky import NEARER_DETECTION, NO_REFERENCE, NO_SEED
from ztfmatch.core.survey import Unit, objectid_range, unit_codes, unit_of_code, unit_of_objectid
from ztfmatch.core.tasks.orphans import orphans_in_reach
from ztfmatch.core.tasks.seedgrids import Seeds, SeedSource, read_seeds
from ztfmatch.core.tasks.staging import keep
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.core.tasks.verifyepochs import Findings, Ledger, check_epochs, name_of, repeated
from ztfmatch.core.tasks.verifylost import LostPairs
from ztfmatch.core.tasks.verifystars import wrong_stars
from ztfmatch.core.tasks.verifytransients import TransientFiles, wrong_transients

_BATCH_ROWS: Final = 262_144
_ROWS_IN_FLIGHT: Final = 1_000_000
_IDS_OF_A_UNIT: Final = 10**8
"""Objectids of a unit have all digits before the last eight in common."""
_REASONS: Final = (NO_SEED, NEARER_DETECTION, NO_REFERENCE)
_NUMBER_OF: Final = {reason: number for number, reason in enumerate(_REASONS)}
_EPOCH_COLUMNS: Final = tuple(column.name for column in (*sky.EPOCH, *sky.MEASURED))


@dataclass(frozen=True)
class VerifyTask(TileTask):
    """One tile."""

    keep: str = ""
    """Operation under which to stage sums; none where the store cannot be written to."""

    def near(self, table: Table) -> list[DataFile]:
        """Files of the tile's neighbours: their orphans may have lost to detections of this tile."""
        tiles = neighbours(self.snapshot.tiling, self.tile)[1:]
        return [file for tile in tiles for file in self.snapshot.of_tile(table.name, tile)]

    @property
    def orphan_files(self) -> Sequence[DataFile]:
        """Of the tile and its neighbours."""
        return [*self.files(ORPHANS), *self.near(ORPHANS)]


@dataclass
class Tally:
    """Rows and digests found for each exposure of the ledger."""

    matched: npt.NDArray[np.int64]
    orphans: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint64]

    def add(self, counts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], columns: Arrays) -> None:
        """Add rows of some exposures to one of the counts and to the digests."""
        known = rows >= 0
        counts += np.bincount(rows[known], minlength=len(counts))
        digests = row_digests({name: np.ascontiguousarray(columns[name]) for name in MEASURED})
        np.add.at(self.digest, rows[known], digests[known])


@dataclass(frozen=True)
class VerifiedTile(Findings):
    """What was found in a tile, and where the sums are that are compared with the ledger."""

    kept: list[dict[str, str]] = field(default_factory=list)
    sums: bytes = b""
    """The sums themselves, where the store cannot be written to."""

    def read_sums(self, storage: Storage) -> Arrays:
        """Sums by name.

        ``exposureid``, ``matched``, ``orphans``, ``digest`` of every exposure with rows in the tile; ``unit``, as its
        smallest objectid, and the number of its active ``objects``.
        """
        return read_arrays(storage, self.kept[0]["path"]) if self.kept else decode_arrays(self.sums)


def verify_tile(task: VerifyTask) -> VerifiedTile:
    """Check every row of a tile."""
    findings, ledger = Findings(), Ledger(task.snapshot, task.tile)
    n = len(ledger.exposureid)
    tally = Tally(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint64))
    units = task.snapshot.units_with_reference
    objects = (*task.files(OBJECTS), *task.near(OBJECTS))
    seeds = read_seeds(SeedSource(task.storage, task.tile, objects, task.snapshot.config.radius_arcsec), units)
    _check_orphans(task, ledger, _Referenced(units, seeds), tally, findings)
    # Orphans first: they say who lost to whom, and the winners are then looked for as the lightcurves pass.
    in_reach = [columns for file in task.orphan_files for columns in orphans_in_reach(task, file)]
    pairs = LostPairs(in_reach, seeds)
    for file in task.files(DETECTIONS):
        _check_order(task, file, findings)
    for chunk in iterate_lightcurves(task.storage, task.files(DETECTIONS), _EPOCH_COLUMNS, _ROWS_IN_FLIGHT):
        _check_lightcurves(chunk, ledger, seeds, findings)
        rows = ledger.rows_of(chunk.columns["exposureid"])
        tally.add(tally.matched, rows, chunk.columns)
        pairs.mark_won(chunk)
    pairs.check_all_won(findings)
    findings.add("transients", *wrong_transients(_transient_files(task, in_reach)))
    if (stars := wrong_stars(task)) is not None:
        findings.add("stars", *stars)
    sums = encode_arrays(_sums(ledger, tally, seeds))
    if not task.keep:
        return VerifiedTile(**vars(findings), sums=sums)
    path = paths.staged_array(task.keep, task.key)
    return VerifiedTile(**vars(findings), kept=[keep(task.storage, path, sums)])


def _sums(ledger: Ledger, tally: Tally, seeds: dict[Unit, Seeds]) -> Arrays:
    """What is compared with the ledger: an exposure covers several tiles, so that only sums over all tell anything."""
    seen = np.flatnonzero(tally.matched + tally.orphans)
    return {
        "exposureid": ledger.exposureid[seen],
        "matched": tally.matched[seen],
        "orphans": tally.orphans[seen],
        "digest": tally.digest[seen],
        "unit": np.array([objectid_range(unit)[0] for unit in seeds], np.int64),
        "objects": np.array([part.owned.sum() for part in seeds.values()], np.int64),
    }


def _transient_files(task: VerifyTask, orphans: Sequence[Arrays]) -> TransientFiles:
    return TransientFiles(
        task.storage,
        task.tile,
        task.files(TRANSIENTS),
        task.files(TRANSIENTDATA),
        task.near(TRANSIENTDATA),
        orphans,
        task.snapshot.config.radius_arcsec,
    )


@dataclass(frozen=True)
class _Referenced:
    """Units with a reference, and the seeds that some of them have in a tile."""

    units: frozenset[Unit]
    seeds: dict[Unit, Seeds]


def _batches(task: VerifyTask, file: DataFile) -> Iterator[Arrays]:
    """Orphans of a file, some at a time; ``reason`` as its number in _REASONS, -1 for any other."""
    for batch in OpenFile(task.storage, file).batches(ORPHANS.names, _BATCH_ROWS):
        columns = {name: batch[name] for name in batch.schema.names}
        columns["reason"] = pc.index_in(batch["reason"].cast(pa.string()), pa.array(_REASONS)).fill_null(-1)
        columns["nearestid"] = batch["nearestid"].fill_null(0)
        yield {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}


def _check_order(task: VerifyTask, file: DataFile, findings: Findings) -> None:
    """Rows of a detection file are sorted by objectid, hmjd, exposureid, each combination once."""
    last: tuple[Any, ...] | None = None
    for batch in OpenFile(task.storage, file).batches(list(DETECTIONS.sorted_by), _BATCH_ROWS):
        columns = numpy_columns(batch)
        keys = [columns[name] for name in DETECTIONS.sorted_by]
        # The last row of the batch before goes before the first of this one.
        if last is not None:
            keys = [np.concatenate([[value], key]) for value, key in zip(last, keys, strict=True)]
        # Lexicographic order from the least key to the first; it is strict, so that no row is there twice.
        after = np.zeros(max(len(keys[0]) - 1, 0), bool)
        for key in reversed(keys):
            after = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & after)
        findings.add(
            "order", ~after, lambda row, k=keys: f"{file.path}: objectid {k[0][row + 1]} at hmjd {k[1][row + 1]}"
        )
        last = tuple(key[-1] for key in keys)


def _check_orphans(task: VerifyTask, ledger: Ledger, referenced: _Referenced, tally: Tally, findings: Findings) -> None:
    """Check the tile's orphans."""
    for file in task.files(ORPHANS):
        for columns in _batches(task, file):
            rows = ledger.rows_of(columns["exposureid"])
            units = np.stack([columns[key].astype(np.int64) for key in ("field", "rcid", "fid")], axis=-1)
            xyz = check_epochs(columns, rows, ledger, units, findings)
            fine = fine_pixels(columns["ra"], columns["dec"])
            findings.add("tile", ~in_tile(fine, task.tile), lambda i, c=columns: name_of(c, i))
            _check_reasons(columns, units, xyz, referenced, findings)
            tally.add(tally.orphans, rows, columns)


def _check_reasons(
    columns: Arrays, units: npt.NDArray[np.int64], xyz: Floats, referenced: _Referenced, findings: Findings
) -> None:
    """The reason of each orphan is what its unit's seeds say."""
    # A seed in reach must have been won by another detection, or the row were matched; LostPairs looks for that one.
    expected = np.full(len(units), _NUMBER_OF[NO_SEED])
    nearest = np.zeros(len(units), np.int64)
    codes = unit_codes(*units.T)
    for code in np.unique(codes).tolist():
        unit, rows = unit_of_code(code), np.flatnonzero(codes == code)
        if unit not in referenced.units:
            expected[rows] = _NUMBER_OF[NO_REFERENCE]
        elif (seeds := referenced.seeds.get(unit)) is not None:
            seed, _ = nearest_seeds(seeds.grid, xyz[rows])
            hit = rows[seed >= 0]
            expected[hit] = _NUMBER_OF[NEARER_DETECTION]
            nearest[hit] = seeds.objectid[seed[seed >= 0]]
    wrong = (columns["reason"] != expected) | (columns["nearestid"] != nearest)

    def describe(i: int) -> str:
        told = _REASONS[columns["reason"][i]] if columns["reason"][i] >= 0 else "an unknown reason"
        return f"{name_of(columns, i)}: {told}, expected {_REASONS[expected[i]]}"

    findings.add("reason", wrong, describe)


def _check_lightcurves(chunk: Lightcurves, ledger: Ledger, seeds: dict[Unit, Seeds], findings: Findings) -> None:
    """Every epoch's nearest seed is its object, and an object has one epoch an exposure."""
    # Files are sorted by objectid, and so by unit: its seeds are asked once for a slice of epochs.
    columns = {**chunk.columns, "objectid": chunk.spread(chunk.objectid)}
    rows = ledger.rows_of(columns["exposureid"])
    units = np.empty((len(rows), 3), np.int64)
    nearest = np.zeros(len(rows), np.int64)
    owned = np.zeros(len(rows), bool)
    xyz = unit_vectors(columns["ra"], columns["dec"])
    for unit, part in _unit_slices(chunk):
        units[part] = (unit.field, unit.rcid, unit.fid)
        if unit in seeds:
            seed, _ = nearest_seeds(seeds[unit].grid, xyz[part])
            nearest[part] = np.where(seed >= 0, seeds[unit].objectid[seed], 0)
            owned[part] = np.where(seed >= 0, seeds[unit].owned[seed], False)
    check_epochs(columns, rows, ledger, units, findings)

    def name(i: int) -> str:
        return f"{name_of(columns, i)} is an epoch of {columns['objectid'][i]}"

    findings.add("match", nearest != columns["objectid"], lambda i: f"{name(i)}; its nearest seed is {nearest[i]}")
    findings.add("tile", ~owned, name)
    group = chunk.spread(np.arange(len(chunk.objectid)))
    findings.add("one-epoch-an-exposure", repeated(group, rows), name)


def _unit_slices(chunk: Lightcurves) -> Iterator[tuple[Unit, slice]]:
    """Units of a chunk, with their epochs."""
    heads = chunk.objectid // _IDS_OF_A_UNIT
    starts = np.flatnonzero(np.concatenate([[True], heads[1:] != heads[:-1]]))
    for first, stop in zip(starts, [*starts[1:], len(heads)], strict=True):
        yield (unit_of_objectid(int(chunk.objectid[first])), slice(int(chunk.offsets[first]), int(chunk.offsets[stop])))
