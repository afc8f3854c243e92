"""Prove the invariants on the stored rows of one tile, from the rows alone.

Nothing that append computed is trusted: matches, magnitudes, times and digests are made again from the stored
measured values, the ledger and the seeds, and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.errors import StorageError
from ztfmatch.core.io.corrections import read_store_sets
from ztfmatch.core.io.merge import Arrays, Lightcurves, iterate_lightcurves, numpy_columns
from ztfmatch.core.io.parquet import DataFile, iterate_batches
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.crossmatch import nearest_seeds
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.kernels.rows import MEASURED, row_digests
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile
from ztfmatch.core.schema import DETECTIONS, ORPHANS
from ztfmatch.core.schema.ledger import BAD, MATCHFILE
from ztfmatch.core.schema.sky import NEARER_DETECTION, NO_REFERENCE, NO_SEED
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, MATCHFILE_LATE_DAY, Unit, unit_of_objectid
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.core.tasks.seedgrids import Seeds, SeedSource, read_seeds
from ztfmatch.core.tasks.verifytransients import TransientFiles, wrong_transients

_BATCH_ROWS: Final = 262_144
_ROWS_IN_FLIGHT: Final = 1_000_000
_LEDGER_COLUMNS: Final = (
    "exposureid", "field", "rcid", "fid", "obsmjd", "exptime", "magzp", "origin", "quality",
    "errora", "errorb", "errorc", "errord", "corrections",
)  # fmt: skip
_EPOCH_COLUMNS: Final = ("exposureid", "hmjd", "mag", "magerr", "catflags", "corrflags", *MEASURED)


@dataclass(frozen=True)
class VerifyTask:
    """One tile."""

    key: str
    storage: Storage
    tile: Tile
    objects: tuple[DataFile, ...]
    """Object files of the tile and its neighbours."""
    detections: tuple[DataFile, ...]
    orphans: tuple[DataFile, ...]
    """Orphan files of the tile."""
    orphans_near: tuple[DataFile, ...]
    """Orphan files of its neighbours, which may have lost to detections of this tile."""
    transients: TransientFiles
    exposures: tuple[DataFile, ...]
    """The ledger."""
    corrections: tuple[DataFile, ...]
    units_with_reference: tuple[Unit, ...]
    radius_arcsec: float


@dataclass
class Findings:
    """Counts by check: how many rows were looked at, how many were wrong, and the first wrong one."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, wrong: npt.NDArray[np.bool_], describe: Any) -> None:
        """Note the outcome of a check on some rows; ``describe(row)`` names the first wrong one."""
        self.checked[check] = self.checked.get(check, 0) + len(wrong)
        count = int(np.count_nonzero(wrong))
        self.violations[check] = self.violations.get(check, 0) + count
        if count and check not in self.examples:
            self.examples[check] = describe(int(np.flatnonzero(wrong)[0]))


class Ledger:
    """Ledger columns of the tile's exposures as arrays, with the row of each."""

    def __init__(self, task: VerifyTask) -> None:
        table = exposures_of_tile(task.storage, task.exposures, task.tile, _LEDGER_COLUMNS)
        columns = table.to_pydict()
        self.exposureid = np.array(columns["exposureid"], np.int64)
        self._map = build_map(self.exposureid)
        numbers = {
            name: np.array([np.nan if v is None else v for v in columns[name]], np.float64)
            for name in ("obsmjd", "exptime", "magzp", "errora", "errorb", "errorc", "errord")
        }
        exptime = np.where(np.isnan(numbers["exptime"]), DEFAULT_EXPTIME_S, numbers["exptime"])
        self.mid_mjd = numbers["obsmjd"] + 0.5 * exptime / 86400.0
        self.observer = calibration.observer_vectors(self.mid_mjd) if len(exptime) else np.zeros((0, 3))
        self.imported = np.array([origin == MATCHFILE for origin in columns["origin"]], bool)
        self.late_day = np.where(self.imported, MATCHFILE_LATE_DAY, calibration.HMJD_QUANTUM_DAY)
        self.bad = np.array([quality == BAD for quality in columns["quality"]], bool)
        keys = ("field", "rcid", "fid")
        self.unit = np.array([columns[key] for key in keys], np.int64).T.reshape(-1, 3)
        sets = read_store_sets(task.storage, task.corrections)
        self.photometer = Photometer(
            Calibration(
                [Unit(*values) for values in self.unit.tolist()],
                numbers["magzp"],
                np.stack([numbers[f"error{letter}"] for letter in "abcd"], axis=-1),
                [name if name in sets else None for name in columns["corrections"]],
            ),
            sets,
        )

    def rows_of(self, exposureid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Ledger row of each exposure, -1 where it has none."""
        return np.asarray(find_rows(self._map, exposureid).astype(np.int64))


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


def verify_tile(task: VerifyTask) -> dict[str, Any]:
    """Check every row of a tile.

    Returns
    -------
    dict
        ``checked``, ``violations``, ``examples`` by check; ``exposureid``, ``matched``, ``orphans``, ``digest`` of
        every exposure with rows here; ``objects``: number of active objects by unit.
    """
    findings, ledger = Findings(), Ledger(task)
    n = len(ledger.exposureid)
    tally = Tally(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint64))
    seeds = read_seeds(SeedSource(task.storage, task.tile, task.objects, task.radius_arcsec), task.units_with_reference)
    lost = [_check_orphans(task, ledger, seeds, tally, findings)]
    lost += [_lost_rows(columns) for file in task.orphans_near for columns in _batches(task, file)]
    pairs = _LostPairs(lost, seeds)
    for file in task.detections:
        _check_order(task, file, findings)
    for chunk in iterate_lightcurves(task.storage, task.detections, _EPOCH_COLUMNS, _ROWS_IN_FLIGHT):
        _check_lightcurves(chunk, ledger, seeds, findings)
        rows = ledger.rows_of(chunk.columns["exposureid"])
        tally.add(tally.matched, rows, chunk.columns)
        pairs.mark_won(chunk)
    pairs.check_all_won(findings)
    findings.add("transients", *wrong_transients(task.transients))
    seen = np.flatnonzero(tally.matched + tally.orphans)
    return {
        **findings.__dict__,
        "exposureid": ledger.exposureid[seen].tolist(),
        "matched": tally.matched[seen].tolist(),
        "orphans": tally.orphans[seen].tolist(),
        "digest": [int(value) for value in tally.digest[seen]],
        "objects": {str(unit): int(s.owned.sum()) for unit, s in seeds.items()},
    }


def _batches(task: VerifyTask, file: DataFile) -> Iterator[Arrays]:
    names = [*ORPHANS.names] if file.table == ORPHANS.name else [*DETECTIONS.names]
    for batch in iterate_batches(task.storage, file, names, _BATCH_ROWS):
        columns = {name: batch[name] for name in batch.schema.names}
        plain: Arrays = {}
        if "reason" in columns:
            plain["reason"] = np.array(columns.pop("reason").to_pylist(), object)
            plain["nearestid"] = columns.pop("nearestid").fill_null(0).to_numpy(zero_copy_only=False)
        yield plain | {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}


def _check_order(task: VerifyTask, file: DataFile, findings: Findings) -> None:
    """Rows of a detection file are sorted by objectid, hmjd, exposureid, each combination once."""
    last: tuple[Any, ...] | None = None
    for batch in iterate_batches(task.storage, file, list(DETECTIONS.sorted_by), _BATCH_ROWS):
        columns = numpy_columns(batch)
        keys = [columns[name] for name in DETECTIONS.sorted_by]
        if last is not None:
            keys = [np.concatenate([[value], key]) for value, key in zip(last, keys, strict=True)]
        after = np.zeros(max(len(keys[0]) - 1, 0), bool)
        for key in reversed(keys):
            after = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & after)
        findings.add(
            "order",
            ~after,
            lambda row, k=keys: f"{file.path}: objectid {k[0][row + 1]} at hmjd {k[1][row + 1]}",
        )
        last = tuple(key[-1] for key in keys)


def _check_orphans(
    task: VerifyTask, ledger: Ledger, seeds: dict[Unit, Seeds], tally: Tally, findings: Findings
) -> Arrays:
    """Check the tile's orphans; return those that lost to another detection."""
    lost = [_lost_rows(_no_orphans())]
    for file in task.orphans:
        for columns in _batches(task, file):
            rows = ledger.rows_of(columns["exposureid"])
            units = np.stack([columns[key].astype(np.int64) for key in ("field", "rcid", "fid")], axis=-1)
            xyz = _check_epochs(columns, rows, ledger, units, findings)
            fine = fine_pixels(columns["ra"], columns["dec"])
            findings.add("tile", ~in_tile(fine, task.tile), lambda i, c=columns: _name(c, i))
            _check_reasons(task, columns, units, xyz, seeds, findings)
            tally.add(tally.orphans, rows, columns)
            lost.append(_lost_rows(columns))
    return {name: np.concatenate([part[name] for part in lost]) for name in lost[0]}


def _no_orphans() -> Arrays:
    empty = ORPHANS.schema.empty_table()
    columns: Arrays = {name: empty[name].to_numpy() for name in ("ra", "dec", "exposureid", "sourceid")}
    return {**columns, "nearestid": np.zeros(0, np.int64)}


def _lost_rows(columns: Arrays) -> Arrays:
    lost = columns["nearestid"] != 0
    return {name: columns[name][lost] for name in ("ra", "dec", "exposureid", "sourceid", "nearestid")}


def _check_reasons(
    task: VerifyTask,
    columns: Arrays,
    units: npt.NDArray[np.int64],
    xyz: Floats,
    seeds: dict[Unit, Seeds],
    findings: Findings,
) -> None:
    """The reason of each orphan is what its unit's seeds say."""
    known = set(task.units_with_reference)
    expected = np.full(len(units), NO_SEED, object)
    nearest = np.zeros(len(units), np.int64)
    for values in np.unique(units, axis=0):
        unit = Unit(*values.tolist())
        rows = np.flatnonzero((units == values).all(axis=1))
        if unit not in known:
            expected[rows] = NO_REFERENCE
        elif unit in seeds:
            seed, _ = nearest_seeds(seeds[unit].grid, xyz[rows])
            hit = rows[seed >= 0]
            expected[hit] = NEARER_DETECTION
            nearest[hit] = seeds[unit].objectid[seed[seed >= 0]]
    wrong = (columns["reason"] != expected) | (columns["nearestid"] != nearest)
    findings.add("reason", wrong, lambda i: f"{_name(columns, i)}: {columns['reason'][i]}, expected {expected[i]}")


def _check_lightcurves(chunk: Lightcurves, ledger: Ledger, seeds: dict[Unit, Seeds], findings: Findings) -> None:
    """Every epoch's nearest seed is its object, and an object has one epoch an exposure."""
    columns = {**chunk.columns, "objectid": np.repeat(chunk.objectid, np.diff(chunk.offsets))}
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
    _check_epochs(columns, rows, ledger, units, findings)

    def name(i: int) -> str:
        return f"{_name(columns, i)} is an epoch of {columns['objectid'][i]}"

    findings.add("match", nearest != columns["objectid"], lambda i: f"{name(i)}; its nearest seed is {nearest[i]}")
    findings.add("tile", ~owned, name)
    group = np.repeat(np.arange(len(chunk.objectid)), np.diff(chunk.offsets))
    order = np.lexsort((rows, group))
    again = np.zeros(len(rows), bool)
    again[order[1:]] = (group[order[1:]] == group[order[:-1]]) & (rows[order[1:]] == rows[order[:-1]])
    findings.add("one-epoch-an-exposure", again, name)


def _unit_slices(chunk: Lightcurves) -> Iterator[tuple[Unit, slice]]:
    """Units of a chunk, with their epochs."""
    heads = chunk.objectid // 10**8
    starts = np.flatnonzero(np.concatenate([[True], heads[1:] != heads[:-1]]))
    for first, stop in zip(starts, [*starts[1:], len(heads)], strict=True):
        yield (
            unit_of_objectid(int(chunk.objectid[first])),
            slice(int(chunk.offsets[first]), int(chunk.offsets[stop])),
        )


def _check_epochs(
    columns: Arrays,
    rows: npt.NDArray[np.int64],
    ledger: Ledger,
    units: npt.NDArray[np.int64],
    findings: Findings,
) -> Floats:
    """Ledger row, magnitude, error, flags and time of epochs or orphans; return their unit vectors."""
    xyz = unit_vectors(columns["ra"], columns["dec"])
    findings.add("ledger", rows < 0, lambda i: f"{_name(columns, i)}: no such exposure")
    if not len(ledger.exposureid):
        return np.asarray(xyz)
    findings.add("unit", (ledger.unit[rows] != units).any(axis=1), lambda i: _name(columns, i))
    light = calibration.light_days(xyz, ledger.observer[rows])
    late = np.abs(ledger.mid_mjd[rows] + light - columns["hmjd"]) > ledger.late_day[rows]
    findings.add("hmjd", late, lambda i: _name(columns, i))
    _check_computed(columns, rows, ledger, findings)
    return np.asarray(xyz)


def _check_computed(columns: Arrays, rows: npt.NDArray[np.int64], ledger: Ledger, findings: Findings) -> None:
    """Magnitude, error and flags, of those that were computed here: imported ones are as their file has them."""
    if ledger.imported.any():
        here = np.flatnonzero(~ledger.imported[rows])
        rows, columns = rows[here], {name: values[here] for name, values in columns.items()}
    made = ledger.photometer.measure(columns, rows)
    for name, values in made.items():
        findings.add(
            name,
            _differ(values, columns[name]),
            lambda i, n=name, v=values: f"{_name(columns, i)}: {columns[n][i]}, expected {v[i]}",
        )
    flags = calibration.catalog_flags(columns["flags"], ledger.bad[rows])
    findings.add("catflags", flags != columns["catflags"], lambda i: _name(columns, i))


def _differ(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray((a != b) & ~(np.isnan(a) & np.isnan(b)))


def _name(columns: Arrays, row: int) -> str:
    return f"source {columns['sourceid'][row]} of exposure {columns['exposureid'][row]}"


class _LostPairs:
    """Detections that lost to another of their exposure: the winner must be there, and nearer."""

    def __init__(self, lost: list[Arrays], seeds: dict[Unit, Seeds]) -> None:
        rows = {name: np.concatenate([part[name] for part in lost]) for name in lost[0]}
        own, self._xyz = self._seed_of(rows["nearestid"], seeds)
        rows = {name: values[own] for name, values in rows.items()}
        order = np.lexsort((rows["exposureid"], rows["nearestid"]))
        self.rows = {name: values[order] for name, values in rows.items()}
        self._xyz = self._xyz[order]
        self._distance2 = _chord2(self._xyz, self.rows)
        self._won = np.zeros(len(order), bool)

    @staticmethod
    def _seed_of(nearestid: npt.NDArray[np.int64], seeds: dict[Unit, Seeds]) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which pairs are about seeds of this tile, and where those seeds are."""
        own = np.zeros(len(nearestid), bool)
        xyz = np.zeros((len(nearestid), 3))
        for part in seeds.values():
            place = np.minimum(np.searchsorted(part.objectid, nearestid), len(part.objectid) - 1)
            mine = (part.objectid[place] == nearestid) & part.owned[place]
            own |= mine
            xyz[mine] = part.xyz[place[mine]]
        return own, xyz[own]

    def mark_won(self, chunk: Lightcurves) -> None:
        """Find the winners in some lightcurves and compare distances; ties go to the lower sourceid."""
        part = slice(*np.searchsorted(self.rows["nearestid"], [chunk.objectid[0], chunk.objectid[-1] + 1]))
        pairs = {name: values[part] for name, values in self.rows.items()}
        if not len(pairs["nearestid"]):
            return
        exposures = np.unique(pairs["exposureid"])
        exposure_of = build_map(exposures)
        group = np.repeat(np.arange(len(chunk.objectid)), np.diff(chunk.offsets))
        exposure = find_rows(exposure_of, chunk.columns["exposureid"])
        candidates = np.flatnonzero(exposure >= 0)
        if not candidates.size:
            return
        held = build_map(group[candidates] * len(exposures) + exposure[candidates])
        place = np.minimum(np.searchsorted(chunk.objectid, pairs["nearestid"]), len(chunk.objectid) - 1)
        wanted = place * len(exposures) + find_rows(exposure_of, pairs["exposureid"])
        found = find_rows(held, wanted)
        winner = candidates[found]
        ours = (found >= 0) & (chunk.objectid[place] == pairs["nearestid"])
        distance2 = _chord2(self._xyz[part], {name: chunk.columns[name][winner] for name in ("ra", "dec")})
        lower = chunk.columns["sourceid"][winner] < pairs["sourceid"]
        nearer = (distance2 < self._distance2[part]) | ((distance2 == self._distance2[part]) & lower)
        self._won[part] |= ours & nearer

    def check_all_won(self, findings: Findings) -> None:
        """Note the pairs whose winner was not found or was not nearer."""
        findings.add(
            "nearer-detection",
            ~self._won,
            lambda i: f"{_name(self.rows, i)} lost {self.rows['nearestid'][i]}",
        )


def _chord2(xyz: Floats, columns: Arrays) -> Floats:
    delta = unit_vectors(columns["ra"], columns["dec"]) - xyz
    return np.asarray((delta * delta).sum(axis=1))


@dataclass(frozen=True)
class ChecksumTask:
    """Files whose bytes are to be compared with their checksums."""

    key: str
    storage: Storage
    files: tuple[DataFile, ...]


def verify_checksums(task: ChecksumTask) -> dict[str, Any]:
    """Compare each file's SHA-256 with the manifest's.

    Returns
    -------
    dict
        ``checked``, ``violations``, ``examples`` by check; ``damaged``: what is wrong with each file that is.
    """
    findings, damaged = Findings(), []
    for file in task.files:
        said = _damage(task.storage, file)
        findings.add("checksum", np.array([said is not None]), lambda _, text=said: text)
        damaged += [said] if said is not None else []
    return {**findings.__dict__, "damaged": damaged}


def _damage(storage: Storage, file: DataFile) -> str | None:
    """What is wrong with the bytes of a file."""
    try:
        actual = hashlib.sha256(storage.read(file.path), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return f"{file.described}: it is missing"
    except StorageError:
        raise  # the service failed; that says nothing of the file
    except OSError as error:
        return f"{file.described}: {error.strerror or error}"
    return None if actual == file.sha256 else f"{file.described}: SHA-256 is {actual}, expected {file.sha256}"
