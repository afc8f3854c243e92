"""Settings; constructing one touches no disk, ``validate`` checks it before any work."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.settings import AtLeastOne, Positive, Validated, within
from ztfmatch.core.survey import MATCH_RADIUS_ARCSEC, PROGRAM_NAMES

MARGIN_ARCSEC: Final = 9.0
"""How far beyond its border a tile sees; tests hold the ring of fine pixels around a tile to it."""

MAX_TILE_ORDER: Final = 11
"""HEALPix order of the smallest tile: 1.7 arcmin."""

MAX_RADIUS_ARCSEC: Final = MARGIN_ARCSEC / 3.0
"""A tile must see seeds up to three radii beyond its border to decide its own detections alone."""

MIN_RADIUS_ARCSEC: Final = 0.1
"""Below it, a radius was given in another unit: 1.5 arcsec are 0.025 arcmin and 0.0004 degrees."""

GIBIBYTE: Final = 1 << 30

ROWS_PER_TASK: Final = 2_000_000
"""Rows in its area that one matching task keeps in memory by default."""

CATALOGS_PER_COMMIT: Final = 100_000
"""Catalogs that an append commits together by default; the main process holds some kB of each meanwhile."""

ROWS_PER_FILE: Final = 1_000_000
"""Rows, about, of a file of detections or orphans that is not bounded by what a task takes."""

SAME_ARCSEC: Final = 0.1
"""Objects of two generations that are linked one to one are the same if they are no farther apart, else they moved."""

MIN_NEW_PERCENT: Final = 10.0
"""By default statistics are computed where the epochs of a tile have grown by so much: each epoch is then read some ten
times over the years, however many nights there are."""

VACUUM_GRACE_HOURS: Final = 24.0
"""Files that no snapshot names are spared by a vacuum for so long, by default."""


STARTING: Final = "starting workers"
"""What progress calls the time until there is a worker."""

RETRIES: Final = 2
"""How often a failed task is tried again, by default."""

WORKER_WAIT_S: Final = 600.0
"""Longest time without any worker before a command gives up, by default."""


_Cells = Annotated[int, within(2, 64)]


@dataclass(frozen=True)
class StoreConfig(Validated):
    """How a store is made; fixed for its life but for the tiling, which may be refined.

    Parameters
    ----------
    radius_arcsec : float
        Match radius, inclusive.
    seeds_per_tile : int
        A tile with more seeds is split.
    max_order : int
        HEALPix order beyond which no tile is split.
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
    """What a job may use.

    Parameters
    ----------
    workers : int
        Processes of a local cluster; 0 runs a plain loop in this process.
    scheduler : str or None
        Address of a running Dask scheduler, or of a Dask gateway (``gateway://``), used instead of a local cluster.
    cluster : str or None
        Name of a cluster profile (``local``, ``slurm``, ``allocation``) or path of a TOML file, started for the job.
    memory_bytes : int
        Budget of one worker.
    retries : int or None
        How often a failed task is tried again; by default RETRIES, or the profile's.
    units : str or None
        Directory in which the work is divided into units, instead of being done; the same again finishes it when they
        are done (:mod:`ztfmatch.core.runner.units`).
    wait_s : float or None
        Longest time without any worker, at the start or later; by default WORKER_WAIT_S, or the profile's.
    performance_report : str or None
        File of HTML with what Dask's workers did, to write at the end.
    client : distributed.Client, optional
        Of any cluster, whose workers are used; it stays open.
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
    """How requests to an object store are repeated where they fail: lost connections, 5xx answers, timeouts."""

    retries: int = 10
    """How often a request is repeated. The environment's ZTFMATCH_REQUEST_RETRIES goes before it."""
    timeout_s: float = 120.0
    """Longest time of one request, its body included. The environment's ZTFMATCH_REQUEST_TIMEOUT goes before it."""
    connect_timeout_s: float = 10.0
    """Longest time until a connection stands."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 15.0
    """Waits before a repetition: random between the first and three times the one before, up to the longest; ten of
    them take about half a minute."""
    give_up_after_s: float = 180.0
    """No request is repeated after so long."""

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> RequestConfig:
        """Defaults, but for what the environment sets.

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
    """How catalogs are ingested.

    Parameters
    ----------
    exposures : Path, optional
        Table of exposure metadata that headers lack.
    error_models : tuple of Path
        Files of error-model coefficients, one a filter.
    zp_thresholds, quality_rule : Path, optional
        Files that change the quality rule.
    corrections : Path, optional
        Directory of photometric corrections; by default the set that came into the store last, so that a store stays
        uniform night after night.
    strict : bool
        Fail if a catalog cannot be used, instead of quarantining it; and where else there would be a warning of what
        was given: a catalog without a program or a row of metadata, a table of no use, a file that is misnamed.
    fail_if_empty : bool
        Fail if the places hold no catalogs, as a night without any does.
    rows_per_task : int
        Largest number of rows in its area of the sky that one task keeps in memory at a time.
    note : str, optional
        Kept in the history.
    catalogs_per_commit : int
        Where there are more, fields are ingested group by group, each group with a commit of its own.
    replace : bool
        Catalogs of exposures that the store has with another content replace these: their old detections leave in the
        same commit. Without it such a catalog is quarantined.
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
    """Which tiles to compact.

    Parameters
    ----------
    min_files : int
        So many sorted runs of like size, of a table in a tile, are merged into one; so are small files of the ledger.
        In full: tiles with at least so many files of detections, or of orphans, more than their rows fill, or with the
        same objects (of orphans: exposures) are written anew, and so many small files of the ledger.
    max_rows_per_tile : int
        Tiles with more detections and orphans are split, as are those with more objects than the store's budget.
    full : bool
        Whether to bring all files of a tile into one order, and make its statistics anew, rather than merge in levels.
    """

    min_files: Annotated[int, Meta(ge=2, description="at least 2: one file is compact")] = 8
    max_rows_per_tile: AtLeastOne = 100_000_000
    full: bool = False


OPTIONAL_TERMS: Final = ("time", "colour", "exposure")
"""Terms of corrections beside magnitude, position and unit."""
BEYOND: Final = ("constant", "fade")


@dataclass(frozen=True)
class CalibrateConfig(Validated):
    """Which detections photometric corrections are made of, and how.

    A detection counts if its catflags are 0, its exposure is not bad and has a colour coefficient, and its flux is at
    least ``min_snr`` times its error. Its object must have a PS1 star within ``match_arcsec`` and no other PS1 source
    within ``isolation_arcsec``, at least ``min_epochs`` such detections, and a lightcurve that scatters no more than
    others of its brightness.

    Parameters
    ----------
    bright, faint : float
        Range of magnitudes, of what the survey should measure by PS1. Fainter than 19.25 the fluxes are biased by
        their own noise (Eddington).
    magnitude_step : float
        Width of a bin of magnitude.
    cells_x, cells_y : int
        Cells of the map along x and y.
    min_epochs : int
        Fewest detections of a lightcurve.
    min_stars : int
        Fewest stars of a unit, and of a bin of magnitude with the two before and after it.
    min_cell_stars : int
        Fewest stars of a cell of the map with the 24 around it.
    max_error : float
        Largest error of a cell and of an offset, mag; beyond it they have no value.
    min_snr : float
    match_arcsec, isolation_arcsec : float
    max_ps1_error : float
        Largest error of a PS1 magnitude, of the bands that are used, mag.
    programs : tuple of int, optional
        Only detections of these programs; of all by default. What is made of them does not depend on any other.
    eras : tuple of float
        MJD at which the camera changed, ascending.
    find_eras : bool
        Whether to look for more of them.
    terms : tuple of str, optional
        Of OPTIONAL_TERMS, those that may be used beside magnitude, position and unit; by default all that pay, and
        magnitude and position too unless held-out data are surely worse with them.
    beyond : str
        What the magnitude term is beyond its bright end: ``constant``, or it will ``fade`` within a magnitude.
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
        if any(later <= earlier for earlier, later in itertools.pairwise(self.eras)):
            raise ConfigError(f"eras {self.eras}: expected dates in order of time, each once")

    @property
    def magnitude_bins(self) -> int:
        """Number of bins of magnitude."""
        return round((self.faint - self.bright) / self.magnitude_step)

    def _validate(self) -> None:
        self._validate_terms()
        if not 5.0 <= self.bright < self.faint <= 25.0:
            raise ConfigError(f"magnitudes {self.bright} to {self.faint} are no range within 5..25")
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
