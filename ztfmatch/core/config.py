"""Settings; constructing one touches no disk, ``validate`` checks it before any work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.settings import AtLeastOne, Positive, Validated, within
from ztfmatch.core.survey import MATCH_RADIUS_ARCSEC, PROGRAM_NAMES

MARGIN_ARCSEC: Final = 9.0
"""Width of the margin read around a tile; tests check that its ring of fine pixels is at least that wide."""

MAX_TILE_ORDER: Final = 11
"""HEALPix order of the smallest tile: 1.7 arcmin."""

MAX_RADIUS_ARCSEC: Final = MARGIN_ARCSEC / 3.0
"""A tile needs seeds up to three radii beyond its border to match its own detections independently."""

MIN_RADIUS_ARCSEC: Final = 0.1
"""A smaller radius was probably given in another unit: 1.5 arcsec are 0.025 arcmin and 0.0004 degrees."""

GIBIBYTE: Final = 1 << 30

ROWS_PER_TASK: Final = 2_000_000
"""Default number of rows that one matching task holds in memory."""

CATALOGS_PER_COMMIT: Final = 100_000
"""Default number of catalogs per commit of an append; the main process holds some kB of each."""

ROWS_PER_FILE: Final = 1_000_000
"""Approximate maximum number of rows of a file of detections or orphans."""

SAME_ARCSEC: Final = 0.1
"""Maximum separation of objects of two generations, linked one to one, that count as the same and not as moved."""

MIN_NEW_PERCENT: Final = 10.0
"""Default growth of a tile's epochs at which its statistics are updated: each epoch is then read about ten times over
the years, however many nights there are."""

VACUUM_GRACE_HOURS: Final = 24.0
"""Default age up to which a vacuum keeps files that no snapshot references."""

STARTING: Final = "starting workers"
"""Progress title while waiting for a worker."""

RETRIES: Final = 2
"""Default number of retries of a failed task."""

WORKER_WAIT_S: Final = 600.0
"""Default time without any worker after which a command gives up."""

_Cells = Annotated[int, within(2, 64)]


@dataclass(frozen=True)
class StoreConfig(Validated):
    """Settings of a store, which cannot be changed later, except that the tiling may be refined.

    Parameters
    ----------
    radius_arcsec : float
        Match radius, inclusive.
    seeds_per_tile : int
        Maximum number of seeds of a tile.
    max_order : int
        Maximum HEALPix order of a tile.
    """

    radius_arcsec: float = MATCH_RADIUS_ARCSEC
    seeds_per_tile: AtLeastOne = 500_000
    max_order: Annotated[int, within(0, MAX_TILE_ORDER)] = MAX_TILE_ORDER

    def _validate(self) -> None:
        if not MIN_RADIUS_ARCSEC <= self.radius_arcsec <= MAX_RADIUS_ARCSEC:
            raise ConfigError(
                f"match radius {self.radius_arcsec} arcsec is outside {MIN_RADIUS_ARCSEC}..{MAX_RADIUS_ARCSEC}"
                f"{_in_arcsec(self.radius_arcsec)}"
            )


def _in_arcsec(radius: float) -> str:
    """Hint that a small radius may be meant in degrees; empty where it cannot."""
    meant = 3600.0 * radius
    if not (radius < MIN_RADIUS_ARCSEC and MIN_RADIUS_ARCSEC <= meant <= MAX_RADIUS_ARCSEC):
        return ""
    return f"; give it in arcseconds: {radius} degrees are {meant:g}"


@dataclass(frozen=True)
class Resources(Validated):
    """Resources of a job.

    Parameters
    ----------
    workers : int
        Processes of a local cluster; 0 runs a plain loop in this process.
    scheduler : str or None
        Address of a running Dask scheduler, or of a Dask gateway (``gateway://``), used instead of a local cluster.
    cluster : str or None
        Name of a cluster profile (``local``, ``slurm``, ``allocation``) or path of a TOML file, to start for the job.
    memory_bytes : int
        Memory budget of one worker.
    retries : int or None
        Number of retries of a failed task; by default RETRIES, or that of the profile.
    units : str or None
        Directory in which the work is divided into units instead of being run; when they are done, the same call
        completes it (:mod:`ztfmatch.core.runner.units`).
    wait_s : float or None
        Time without any worker after which to give up; by default WORKER_WAIT_S, or that of the profile.
    performance_report : str or None
        HTML file for Dask's performance report.
    client : distributed.Client, optional
        Client of a cluster whose workers are used; it is not closed.
    """

    workers: Annotated[int, Meta(ge=0, description="0 (plain loop) or more")] = 0
    scheduler: str | None = None
    cluster: str | None = None
    _: KW_ONLY
    memory_bytes: Annotated[int, Meta(ge=GIBIBYTE // 2, description="at least 512 MiB")] = 2 * GIBIBYTE
    retries: Annotated[int, Meta(ge=0, description="0 or more")] | None = None
    wait_s: Positive | None = None
    performance_report: str | None = None
    units: str | None = None
    client: Any = None

    def _validate(self) -> None:
        if self.scheduler and self.cluster:
            raise ConfigError("--scheduler uses a running cluster and --cluster starts one: give one of them")
        if self.client is not None and (self.workers or self.scheduler or self.cluster):
            raise ConfigError("client has workers of its own: give it without workers, scheduler and cluster")
        if self.scheduler and self.workers and not self.scheduler.startswith("gateway"):
            raise ConfigError("--scheduler has workers of its own: give it without --workers")
        if self.performance_report and not (self.workers or self.scheduler or self.cluster or self.client):
            raise ConfigError("--performance-report is of Dask's workers: give --workers, --cluster or --scheduler")


@dataclass(frozen=True)
class RequestConfig(Validated):
    """Retries of failed requests to an object store: lost connections, 5xx responses, timeouts."""

    retries: int = 10
    """Number of retries of a request; overridden by ZTFMATCH_REQUEST_RETRIES."""
    timeout_s: float = 120.0
    """Timeout of one request, including its body; overridden by ZTFMATCH_REQUEST_TIMEOUT."""
    connect_timeout_s: float = 10.0
    """Timeout for connecting."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 15.0
    """Waits before a retry: random between the first and three times the previous one, up to the longest; ten of them
    take about half a minute."""
    give_up_after_s: float = 180.0
    """Time after which no request is retried."""

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> RequestConfig:
        """Defaults, overridden by the environment.

        Raises
        ------
        ConfigError
        """
        made = cls(
            int(_number(environ, "ZTFMATCH_REQUEST_RETRIES", cls.retries)),
            _number(environ, "ZTFMATCH_REQUEST_TIMEOUT", cls.timeout_s),
        )
        made.validate()
        return made

    def _validate(self) -> None:
        if not 0 <= self.retries <= 100:
            raise ConfigError(f"ZTFMATCH_REQUEST_RETRIES {self.retries} is outside 0..100")
        if not 0.0 < self.timeout_s <= 86_400.0:
            raise ConfigError(f"ZTFMATCH_REQUEST_TIMEOUT {self.timeout_s} is outside 0..86400 seconds")


def _number(environ: Mapping[str, str], name: str, otherwise: float) -> float:
    text = environ.get(name) or str(otherwise)
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; expected a number") from None


@dataclass(frozen=True)
class AppendConfig(Validated):
    """Settings of an append.

    Parameters
    ----------
    exposures : Path, optional
        Table of exposure metadata missing from headers.
    error_models : tuple of Path
        Files of error-model coefficients, one per filter.
    zp_thresholds, quality_rule : Path, optional
        Files that change the criteria for bad exposures.
    corrections : Path, optional
        Directory of photometric corrections; by default the last set added to the store, so that a store stays uniform
        over nights.
    strict : bool
        Fail if a catalog is unusable, instead of quarantining it, and where there would be a warning: for a catalog
        without a program or a row of metadata, an unused table, a misnamed file.
    fail_if_empty : bool
        Fail if there are no catalogs.
    rows_per_task : int
        Maximum number of rows that one task holds in memory.
    note : str, optional
        Comment recorded in the history.
    catalogs_per_commit : int
        Larger appends are committed in groups of fields.
    replace : bool
        Replace exposures that the store has with other content: their old detections are removed in the same commit.
        Without it such a catalog is quarantined.
    """

    exposures: Path | None = None
    error_models: tuple[Path, ...] = ()
    zp_thresholds: Path | None = None
    _: KW_ONLY
    quality_rule: Path | None = None
    corrections: Path | None = None
    strict: bool = False
    rows_per_task: AtLeastOne = ROWS_PER_TASK
    note: str | None = None
    fail_if_empty: bool = False
    catalogs_per_commit: AtLeastOne = CATALOGS_PER_COMMIT
    replace: bool = False


@dataclass(frozen=True)
class CompactConfig(Validated):
    """Settings of a compaction.

    Parameters
    ----------
    min_files : int
        Number of sorted runs of similar size, of a table in a tile, that are merged into one, and of small files of the
        ledger. With ``full``: tiles are rewritten that have at least so many more files of detections or orphans than
        their rows fill, or so many with the same objects (for orphans: exposures).
    max_rows_per_tile : int
        Tiles with more detections and orphans are split, as are tiles with too many objects.
    full : bool
        Whether to sort tiles completely, and recompute their statistics, rather than merge in levels.
    """

    min_files: Annotated[int, Meta(ge=2, description="at least 2: one file is compact")] = 8
    max_rows_per_tile: AtLeastOne = 100_000_000
    full: bool = False


OPTIONAL_TERMS: Final = ("time", "colour", "exposure")
"""Terms of corrections besides magnitude, position and unit."""
BEYOND: Final = ("constant", "fade")


@dataclass(frozen=True)
class CalibrateConfig(Validated):
    """Settings of a calibration: which detections it uses, and which terms it fits.

    A detection counts if its catflags are 0, its exposure is not bad and has a colour coefficient, and its flux is at
    least ``min_snr`` times its error. Its object must have a PS1 star within ``match_arcsec`` and no other PS1 source
    within ``isolation_arcsec``, at least ``min_epochs`` such detections, and a lightcurve that scatters no more than
    others of its brightness.

    Parameters
    ----------
    bright, faint : float
        Range of magnitudes expected from PS1. Beyond 19.25 fluxes are biased by their own noise (Eddington).
    magnitude_step : float
        Width of a magnitude bin.
    cells_x, cells_y : int
        Number of cells of the map along x and y.
    min_epochs : int
        Minimum number of detections of a lightcurve.
    min_stars : int
        Minimum number of stars of a unit, and of a magnitude bin with its two neighbours on either side.
    min_cell_stars : int
        Minimum number of stars of a cell of the map with the 24 around it.
    max_error : float
        Maximum error of a cell and of an offset, mag; beyond it they have no value.
    min_snr : float
    match_arcsec, isolation_arcsec : float
    max_ps1_error : float
        Maximum error of PS1 magnitudes in the bands used, mag.
    programs : tuple of int, optional
        Use only detections of these programs; all by default. Results do not depend on any other.
    eras : tuple of float
        MJD of changes of the camera, ascending.
    find_eras : bool
        Whether to search for more of them.
    terms : tuple of str, optional
        Terms of OPTIONAL_TERMS that may be used besides magnitude, position and unit; by default all that improve
        held-out data. Magnitude and position are used, too, unless held-out data are significantly worse with them.
    beyond : str
        How the magnitude term continues beyond its bright end: ``constant``, or it will ``fade`` within a magnitude.
    """

    bright: float = 12.5
    faint: float = 19.25
    magnitude_step: Annotated[float, Meta(gt=0.0, le=1.0, description="above 0, at most 1")] = 0.25
    _: KW_ONLY
    cells_x: _Cells = 30
    cells_y: _Cells = 30
    min_epochs: Annotated[int, Meta(ge=3, description="at least 3")] = 5
    min_stars: AtLeastOne = 20
    min_cell_stars: AtLeastOne = 5
    max_error: Positive = 0.01
    min_snr: Positive = 5.0
    match_arcsec: float = 1.0
    isolation_arcsec: float = 3.0
    max_ps1_error: Positive = 0.05
    programs: tuple[int, ...] | None = None
    eras: tuple[float, ...] = ()
    find_eras: bool = True
    terms: tuple[str, ...] | None = None
    beyond: str = "constant"

    def may_have(self, term: str) -> bool:
        """Whether one of OPTIONAL_TERMS may be used."""
        return self.terms is None or term in self.terms

    def _validate_terms(self) -> None:
        if not set(self.terms or ()) <= set(OPTIONAL_TERMS):
            raise ConfigError(f"terms {', '.join(self.terms or ())}: expected some of {', '.join(OPTIONAL_TERMS)}")
        if self.beyond not in BEYOND:
            raise ConfigError(f"beyond is {self.beyond!r}; expected {' or '.join(BEYOND)}")
        if not all(earlier < later for earlier, later in itertools.pairwise((-math.inf, *self.eras, math.inf))):
            raise ConfigError(f"eras {self.eras}: expected dates in order of time, each once")

    @property
    def magnitude_bins(self) -> int:
        """Number of bins of magnitude."""
        return round((self.faint - self.bright) / self.magnitude_step)

    def _validate(self) -> None:
        self._validate_terms()
        if not 5.0 <= self.bright < self.faint <= 25.0:
            raise ConfigError(f"magnitudes {self.bright} to {self.faint} are not a range within 5..25")
        if abs(self.magnitude_bins * self.magnitude_step - (self.faint - self.bright)) > 1e-6:
            raise ConfigError(
                f"magnitude_step {self.magnitude_step} does not divide the range {self.bright} to {self.faint}"
            )
        if not MIN_RADIUS_ARCSEC <= self.match_arcsec <= self.isolation_arcsec <= 60.0:
            raise ConfigError(
                f"match_arcsec {self.match_arcsec} and isolation_arcsec {self.isolation_arcsec}: "
                f"expected {MIN_RADIUS_ARCSEC} <= match <= isolation <= 60{_in_arcsec(self.match_arcsec)}"
            )
        if self.programs is not None and not (self.programs and set(self.programs) <= PROGRAM_NAMES.keys()):
            known = ", ".join(f"{number} ({name})" for number, name in PROGRAM_NAMES.items())
            raise ConfigError(f"programs {self.programs}: expected some of {known}, or none for all")
