"""Which detections of a tile are compared, with PS1 or with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import encode_arrays
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import read_table
from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import unrounded_magnitudes
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.core.schema.ledger import BAD, MATCHFILE
from ztfmatch.core.survey import fid_column
from ztfmatch.core.tasks.ledger import exposures_of_tile, mid_exposures
from ztfmatch.core.tasks.staging import keep
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.photometry.io.ps1 import NO_STARS, Ps1Catalog
from ztfmatch.photometry.kernels.residuals import SIGMA_OF_MAD, Bins, Summary, group_medians

EPOCH_COLUMNS: Final = ("exposureid", "psfflux", "psffluxerr", "xpos", "ypos", "catflags", "mag")
"""Of detections that are compared."""

_LEDGER_COLUMNS: Final = (
    *("exposureid", "field", "rcid", "fid", "programid"),
    *("magzp", "clrcoeff", "quality", "origin", "commit", "obsmjd", "exptime"),
)
NO_PROGRAM: Final = 0
"""In place of the program of an exposure of which none is known."""

_GROUP_MAG: Final = 0.5
_OUTLIER_SIGMAS: Final = 5.0
_OUTLIER_FLOOR_MAG: Final = 0.05
"""Real systematics reach 0.04: stars that are off by less than this are kept."""
_WRONG_STAR_MAG: Final = 0.5
"""Stars that are off by more are other ones, however many there are."""
_COMPLETE: Final = 0.8
"""Epochs of usual objects of a bin over the most of any."""
_NOISY_MAG: Final = 0.05
_COMPLETE_OF_NOISY: Final = 0.97
"""The same where epochs scatter by more: their mean is off by a fifth of that when a tenth is missed."""


@dataclass(frozen=True)
class TileInputs(TileTask):
    """What a tile is compared from."""

    ps1: Ps1Catalog | None
    config: CalibrateConfig
    operation_id: str


@dataclass(frozen=True)
class Compared:
    """What of a tile was compared."""

    detections: int
    """Detections read."""
    used: int
    """Detections that count."""
    stars: int
    """Objects with a PS1 star."""
    ps1: int
    """PS1 sources in the tile."""


@dataclass(frozen=True)
class KeptFile:
    """Arrays that a task left for others of its operation."""

    path: str
    sha256: str

    @classmethod
    def of(cls, storage: Storage, operation_id: str, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> KeptFile:
        """Write arrays."""
        return cls(**keep(storage, paths.staged_array(operation_id, name), encode_arrays(arrays)))


class TileLedger:
    """What the ledger says of the tile's exposures; shape (E,) each."""

    def __init__(self, task: TileInputs, after_commit: int = -1) -> None:
        rows = exposures_of_tile(task.snapshot, task.tile, _LEDGER_COLUMNS)
        self.exposureid = rows["exposureid"].to_numpy()
        self.map = build_map(self.exposureid)
        self.programid = pc.fill_null(rows["programid"], NO_PROGRAM).to_numpy()
        self.field, self.rcid, self.fid = (rows[name].to_numpy().astype(np.int64) for name in ("field", "rcid", "fid"))
        self.mid_mjd = mid_exposures(rows["obsmjd"].to_pylist(), rows["exptime"].to_pylist())
        self.magzp = np.array(rows["magzp"].to_numpy(), np.float64)
        self.clrcoeff = np.array(rows["clrcoeff"].to_numpy(), np.float64)
        good = np.array([quality != BAD for quality in rows["quality"].to_pylist()], bool)
        good &= np.array([origin != MATCHFILE for origin in rows["origin"].to_pylist()], bool)  # corrected elsewhere
        self.counts = good & (rows["commit"].to_numpy() > after_commit)
        self.wanted = np.isin(self.programid, task.config.programs or self.programid)
        """Whether they are of the selected programs."""

    @property
    def programs(self) -> tuple[int, ...]:
        """Programs of exposures that count, ascending; NO_PROGRAM of those of no known one."""
        return tuple(np.unique(self.programid[self.counts & self.wanted]).tolist())


def compared_lightcurves(
    task: TileInputs, ledger: TileLedger, columns: Sequence[str], rows_in_flight: int
) -> Iterator[Lightcurves]:
    """Lightcurves of a tile, some at a time; if programs are selected, only their epochs."""
    chunks = iterate_lightcurves(task.storage, task.files(DETECTIONS), columns, rows_in_flight)
    return chunks if task.config.programs is None else _of_programs(chunks, ledger, rows_in_flight)


def _of_programs(chunks: Iterator[Lightcurves], ledger: TileLedger, rows: int) -> Iterator[Lightcurves]:
    """The epochs of the selected programs, in portions that do not depend on other epochs.

    Which lightcurves count is decided by the medians of a portion. Those that are read follow the number of all epochs,
    so they are joined, and cut again behind each lightcurve with which so many rows are reached.
    """
    held: list[Lightcurves] = []
    for chunk in chunks:
        exposure = find_rows(ledger.map, chunk.columns["exposureid"])
        held.append(chunk.of_epochs((exposure >= 0) & ledger.wanted[exposure])[0])
        *full, rest = _portions(_joined(held), rows)
        yield from full
        held = [rest]
    yield from (part for part in held if len(part.objectid))


def _joined(parts: Sequence[Lightcurves]) -> Lightcurves:
    """One after the other."""
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    objectid = np.concatenate([part.objectid for part in parts])
    return Lightcurves(objectid, np.concatenate([[0], np.cumsum(counts)]), columns)


def _portions(curves: Lightcurves, rows: int) -> Iterator[Lightcurves]:
    """Lightcurves in portions of at least so many rows, and last those, perhaps none, that make no whole one."""
    first, n = 0, len(curves.objectid)
    while (last := int(np.searchsorted(curves.offsets, curves.offsets[first] + rows))) <= n:
        yield curves.part(first, last)
        first = last
    yield curves.part(first, n)


class TileObjects:
    """Active objects of the tile, ascending by objectid, and the PS1 star of each."""

    def __init__(self, task: TileInputs) -> None:
        table = read_table(task.storage, task.files(OBJECTS), OBJECTS, ["objectid", "ra", "dec", "status"])
        table = active_rows(table).sort_by("objectid")
        self.objectid, ra, dec = (table[name].to_numpy() for name in ("objectid", "ra", "dec"))
        self.ps1 = NO_STARS if task.ps1 is None else task.ps1.around(ra, dec)
        self.source = self.ps1.nearest(unit_vectors(ra, dec), task.config.match_arcsec, task.config.isolation_arcsec)
        """Row in ``ps1``; -1 for none that can be used."""

    @property
    def counts(self) -> tuple[int, int]:
        """How many objects have a PS1 star, and how many PS1 sources there are."""
        return int((self.source >= 0).sum()), len(self.ps1.ra)

    def references(self, objectid: Ids, max_error: float) -> tuple[Floats, Floats]:
        """PS1 magnitude in the object's filter and colour of its colour term; NaN where they cannot be used."""
        source = np.append(self.source, -1)[find_sorted(self.objectid, objectid)]  # -1 finds the last
        return self.ps1.references(source, fid_column(objectid).astype(np.int64), max_error)


def usable_magnitudes(chunk: Lightcurves, ledger: TileLedger, config: CalibrateConfig) -> tuple[Ids, Floats]:
    """Exposure of each epoch, and its magnitude without corrections; NaN where it does not count."""
    columns = chunk.columns
    exposure = find_rows(ledger.map, columns["exposureid"]).astype(np.int64)
    flux, error = columns["psfflux"], columns["psffluxerr"]
    good = (columns["catflags"] == 0) & (exposure >= 0) & (flux >= config.min_snr * error) & (error > 0)
    good &= ledger.counts[exposure]
    return exposure, np.where(good, unrounded_magnitudes(flux, ledger.magzp[exposure]), np.nan)


def bins_of(config: CalibrateConfig) -> Bins:
    """Bins of magnitude and cells that a configuration asks for."""
    return Bins(config.bright, config.magnitude_step, config.magnitude_bins, config.cells_x, config.cells_y)


def bins_of_stars(unit: Ids, summary: Summary, relative: Summary, config: CalibrateConfig) -> Ids:
    """Magnitude bin of each object that is to be compared with PS1; -1 for the others.

    The magnitude is the one that PS1 predicts, colour term included: what is measured has noise, and bins of it
    would have a bias (Eddington's). Bins in which objects are often missed are left out for that reason too: of a star
    that is only seen when it seems bright the mean is too bright, the more so the more noise it has.
    """
    expected = summary.median - relative.median
    group = brightness_groups(unit, expected)
    apart = np.abs(relative.median - group_medians(relative.median, group))
    usual = np.maximum(_OUTLIER_SIGMAS * SIGMA_OF_MAD * group_medians(apart, group), _OUTLIER_FLOOR_MAG)
    often = group_medians(summary.n.astype(np.float64), group)
    most = _group_maxima(often, unit)
    complete = np.where(group_medians(relative.scatter, group) > _NOISY_MAG, _COMPLETE_OF_NOISY, _COMPLETE)
    chosen = (relative.n >= config.min_epochs) & (apart <= usual) & (often >= np.minimum(complete * most, most - 1.0))
    chosen &= np.abs(relative.median) < _WRONG_STAR_MAG
    chosen &= (expected >= config.bright) & (expected < config.faint)
    place = np.floor((np.where(chosen, expected, config.bright) - config.bright) / config.magnitude_step)
    return np.where(chosen, np.minimum(place.astype(np.int64), config.magnitude_bins - 1), -1)


def brightness_groups(unit: Ids, mag: Floats) -> Ids:
    """Number of the unit and the half magnitude of each object; -1 without a magnitude."""
    known = np.isfinite(mag)
    half = np.floor(np.where(known, mag, 0.0) / _GROUP_MAG).astype(np.int64)
    return np.where(known, unit * 1000 + np.clip(half, 0, 999), -1)


def part_of(summary: Summary, rows: slice | Ids) -> Summary:
    """Some of the lightcurves."""
    return Summary(summary.n[rows], summary.median[rows], summary.scatter[rows])


def _group_maxima(values: Floats, group: Ids) -> Floats:
    """Largest value of each row's group, NaN values left out."""
    names, place = np.unique(group, return_inverse=True)
    most = np.full(len(names), -np.inf)
    np.maximum.at(most, place, np.where(np.isnan(values), -np.inf, values))
    return np.asarray(most[place])
