"""Derive photometric corrections relative to PS1 from a snapshot; the store is not changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.corrections import CorrectionFiles, provenance, read_corrections, write_corrections
from ztfmatch.core.io.localfiles import check_vacant
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, REFERENCES
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import Channel
from ztfmatch.core.tasks.staging import clear
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.kernels.splines import change_basis, map_basis
from ztfmatch.photometry.kernels.timeline import MOST_NODES, slice_dates
from ztfmatch.photometry.pooling import fit_channels
from ztfmatch.photometry.residuals import Measurement, Residuals, measure_residuals
from ztfmatch.photometry.tables import ChannelReport, correction_tables, error_model_files
from ztfmatch.photometry.tasks.calibrate import BYTES_PER_PARAMETER_SQUARED, FitTask

_SAME_GRID: Final = ("bright", "faint", "magnitude_step", "cells_x", "cells_y", "programs")
"""Settings that an update must share with what it updates."""


@dataclass(frozen=True)
class HeldOut:
    """What a term takes away of the systematics of bright stars on data that were not fitted, over all channels."""

    held: str
    """What was held out: ``exposures`` or ``stars``, a fifth of them."""
    term: str
    taken_mmag: float | None
    """Root mean square; below zero if it makes them worse by so much; None where there are too few data."""


def _held_out(table: pa.Table) -> list[HeldOut]:
    """Over all channels, alike."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in table.to_pylist():
        found.setdefault((row["held"], row["term"]), []).extend([] if row["square"] is None else [row["square"]])
    means = {key: sum(squares) / len(squares) if squares else None for key, squares in found.items()}
    return [
        HeldOut(*key, None if mean is None else math.copysign(1e3 * math.sqrt(abs(mean)), mean))
        for key, mean in means.items()
    ]


@dataclass(frozen=True, kw_only=True)
class CalibrateReport(Displayable):
    """What was derived."""

    store: str
    snapshot: int
    written: bool
    """False if no star has ``min_epochs`` usable epochs newer than the corrections to be updated."""
    output: str
    """Directory of the corrections; if nothing was written, of those to be updated."""
    corrections: str
    """Name of the set."""
    channels: list[ChannelReport]
    programs: list[int]
    """Whose epochs they are derived from; 0 for exposures of no known program."""
    error_models: int
    exposures: int
    """With a residual zero point."""
    held_out: list[HeldOut]
    """What terms take away on data that were held out."""
    detections: int
    used: int
    stars: int
    tiles: int
    seconds: float


@dataclass(frozen=True)
class CalibrateInputs(WithPaths):
    """What a calibration is made from, and where it goes."""

    ps1: Path
    output: Path
    """Directory to be made."""
    update: Path | None = None
    """Corrections from older data of the same store, to which those ingested since are added."""
    _: KW_ONLY
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names that the PS1 catalog gives to columns, see :func:`ztfmatch.photometry.io.ps1.open_ps1`."""


def calibrate(storage: Storage, inputs: CalibrateInputs, config: CalibrateConfig, runner: Runner) -> CalibrateReport:
    """Derive corrections and error models, and write them as a directory.

    Parameters
    ----------
    storage : Storage
        Of an existing store; only its staging area is written to.
    inputs : CalibrateInputs
    config : CalibrateConfig
    runner : Runner

    Raises
    ------
    ConfigError
        If a setting is out of range, the output is there, or the update is of another store or grid.
    MetadataError
        If PS1 cannot be read, covers none of the sky, or nothing in it can be compared.
    CorrectionsError
        If what is to be updated is not a set of corrections, or damaged.
    JobFailedError
        If a task failed after its retries; nothing is written, a rerun resumes.
    """
    watch = Stopwatch()
    config.validate()
    check_vacant(inputs.output, "corrections")
    catalog = open_ps1(inputs.ps1, inputs.columns)
    snapshot = open_snapshot(storage)
    old = None if inputs.update is None else older_set(snapshot, inputs.update, config)
    since = -1 if old is None else int(old.about["snapshot"])
    dates = _slice_dates(snapshot, config)
    residuals = measure_residuals(snapshot, Measurement(catalog, config, since, dates), runner)
    if old is not None and not residuals.used:
        clear(storage, residuals.operation_id)
        return _nothing_new(residuals, old, watch)
    operation_id = OperationId("calibrate", snapshot.number, [residuals.operation_id, str(inputs.update)]).value
    tasks = _fit_tasks(residuals, config, operation_id, old, dates)
    runner.check_memory(dict.fromkeys((task.key for task in tasks), _projected_bytes(snapshot, config)))
    fits = fit_channels(runner, tasks)
    tables, channels = correction_tables(residuals, fits, config, old)
    counts = {"detections": residuals.detections, "used": residuals.used, "stars": residuals.stars}
    programs = sorted({*residuals.programs, *(() if old is None else old.about.get("programs") or ())})
    about = provenance(
        snapshot,
        catalog.path,
        (config.cells_x, config.cells_y),
        ps1_columns=dict(catalog.columns),
        cuts=asdict(config),
        updated=None if old is None else old.about["corrections"],
        counts=counts,
        programs=None if old is not None and old.set.programs is None else programs,
    )
    digest = write_corrections(inputs.output, tables, about, error_model_files(tables["errormodel"]))
    for staged in (operation_id, residuals.operation_id):
        clear(storage, staged)
    return CalibrateReport(
        store=storage.root,
        snapshot=snapshot.number,
        written=True,
        output=str(inputs.output),
        corrections=digest,
        channels=channels,
        programs=programs,
        error_models=tables["errormodel"].num_rows,
        exposures=tables["exposures"].num_rows,
        held_out=_held_out(tables["heldout"]),
        detections=residuals.detections,
        used=residuals.used,
        stars=residuals.stars,
        tiles=residuals.tiles,
        seconds=watch.seconds,
    )


def _nothing_new(residuals: Residuals, old: CorrectionFiles, watch: Stopwatch) -> CalibrateReport:
    return CalibrateReport(
        store=residuals.snapshot.storage.root,
        snapshot=residuals.snapshot.number,
        written=False,
        output=str(old.place),
        corrections=old.set.digest,
        channels=[],
        programs=list(old.about.get("programs") or ()),
        error_models=old.tables["errormodel"].num_rows,
        exposures=old.tables["exposures"].num_rows,
        held_out=[],
        detections=residuals.detections,
        used=0,
        stars=residuals.stars,
        tiles=residuals.tiles,
        seconds=watch.seconds,
    )


def older_set(snapshot: SnapshotFiles, place: Path, config: CalibrateConfig) -> CorrectionFiles:
    """Corrections to be updated, or extended."""
    old = read_corrections(place)
    if old.about["store"] != snapshot.commit.store:
        raise ConfigError(
            f"{place}: made from another store ({old.about['root']}), so its newer data in "
            f"{snapshot.storage.root} are unknown; calibrate anew"
        )
    if old.set.smooth is None:
        raise ConfigError(f"{place}: made by an older ztfmatch, of values by cell; calibrate anew")
    for name in _SAME_GRID:
        was, is_now = (_plain(value) for value in (old.about["cuts"].get(name), getattr(config, name)))
        if was != is_now:
            raise ConfigError(f"{place}: made with {name} {was}, not {is_now}; an update needs the same")
    return old


def _plain(setting: Any) -> Any:
    """A setting as the record of a set has it; ``all`` programs where none are named."""
    return "all" if setting is None else list(setting) if isinstance(setting, tuple) else setting


def _slice_dates(snapshot: SnapshotFiles, config: CalibrateConfig) -> tuple[float, ...]:
    """MJD at which sums are divided, over the time of all detections: evenly, and where the camera changed."""
    if not config.may_have("time"):
        return ()
    files = snapshot.of_table(DETECTIONS.name)
    times = [time for file in files for time in (file.min_hmjd, file.max_hmjd) if time is not None]
    if not times:
        return ()
    first, last = min(times), max(times)
    return tuple(sorted({*slice_dates(first, last), *(era for era in config.eras if first < era < last)}))


def _fit_tasks(
    residuals: Residuals,
    config: CalibrateConfig,
    operation_id: str,
    old: CorrectionFiles | None,
    dates: tuple[float, ...],
) -> list[FitTask]:
    channels: set[Channel] = set(residuals.files)
    if old is not None:
        channels |= set(old.set.channels)
    return [
        FitTask(
            key=f"fit-{rcid:02d}-{fid}",
            storage=residuals.snapshot.storage,
            rcid=rcid,
            fid=fid,
            files=residuals.files.get((rcid, fid), ()),
            config=config,
            operation_id=operation_id,
            dates=dates,
            update=None if old is None else old.place,
            others=len(channels) > 1,
        )
        for rcid, fid in sorted(channels)
    ]


def _projected_bytes(snapshot: SnapshotFiles, config: CalibrateConfig) -> int:
    """Peak memory of a fit of a channel that all fields of the store have, with as many nodes as there may be."""
    cells = (config.cells_x, config.cells_y)
    fields = len(snapshot.read(REFERENCES.name, ["field"])["field"].unique())
    parameters = max(map_basis(*cells).size + fields, MOST_NODES * change_basis(*cells).size)
    return WORKER_BASE_BYTES + BYTES_PER_PARAMETER_SQUARED * parameters**2


def summary_of(channels: Sequence[ChannelReport]) -> dict[str, int]:
    """Sums over the channels of a report, for people."""
    names = ("cells", "cells_valid", "units", "units_valid")
    return {name: sum(getattr(channel, name) for channel in channels) for name in names}
