"""Add zero points and gradients of newer exposures to corrections; all other numbers are kept."""

from __future__ import annotations

from dataclasses import dataclass

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.corrections import ABOUT_WRITTEN, CorrectionFiles, made_now, write_corrections
from ztfmatch.core.io.localfiles import check_vacant
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, EXPOSURETERMS
from ztfmatch.core.tasks.staging import clear
from ztfmatch.photometry.calibrate import CalibrateInputs, older_set
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.residuals import Measurement, Residuals, measure_residuals
from ztfmatch.photometry.tables import error_model_files, extended_tables
from ztfmatch.photometry.tasks.extend import BYTES_PER_EXPOSURE, ExtendTask, extend_task, read_exposures


@dataclass(frozen=True, kw_only=True)
class ExtendReport(Displayable):
    """What was added."""

    store: str
    snapshot: int
    written: bool
    """False if the older set has every usable exposure of the store."""
    output: str
    """Directory of the corrections; if nothing was written, of the older ones."""
    corrections: str
    """Name of the set."""
    extended: str
    """Name of the set that it is made from."""
    exposures: int
    """That the older set did not know, with a residual zero point."""
    gradients: int
    """Of these, with a term of their own."""
    seconds: float


def extend_corrections(
    storage: Storage, inputs: CalibrateInputs, config: CalibrateConfig, runner: Runner
) -> ExtendReport:
    """Fit what exposures are off by that came since corrections were made, and write both as a directory.

    Of each such exposure the stars are held to their lightcurves over all exposures, with the kernel and the tests of
    :func:`ztfmatch.photometry.calibrate.calibrate`.

    Parameters
    ----------
    storage : Storage
        Of an existing store; only its staging area is written to.
    inputs : CalibrateInputs
        With ``update``, the corrections to be extended.
    config : CalibrateConfig
    runner : Runner

    Raises
    ------
    ConfigError
        If a setting is out of range, the output is there, or the corrections are of another store or grid.
    CorrectionsError
        If it is not a set of corrections, or damaged.
    MetadataError, JobFailedError
        As of ``calibrate``.
    """
    watch = Stopwatch()
    config.validate()
    check_vacant(inputs.output, "corrections")
    if inputs.update is None:
        raise ConfigError("nothing to extend: give corrections of older data")
    catalog, snapshot = open_ps1(inputs.ps1, inputs.columns), open_snapshot(storage)
    old = older_set(snapshot, inputs.update, config)
    residuals = measure_residuals(snapshot, Measurement(catalog, config), runner)
    tasks = _tasks(residuals, old, config)
    runner.check_memory({task.key: _projected_bytes(task, snapshot) for task in tasks})
    results = runner.run(Job("fitting exposures", extend_task, tasks, residuals.operation_id, storage))
    tables = extended_tables(residuals, [read_exposures(storage, result.kept[0].path) for result in results], old)
    clear(storage, residuals.operation_id)
    new = {name: tables[name].num_rows - old.tables[name].num_rows for name in ("exposures", EXPOSURETERMS.name)}
    written = new["exposures"] > 0
    digest = old.set.digest
    if written:
        about = _about(residuals, old, catalog.path)
        digest = write_corrections(inputs.output, tables, about, error_model_files(tables["errormodel"]))
    return ExtendReport(
        store=storage.root,
        snapshot=snapshot.number,
        written=written,
        output=str(inputs.output if written else old.place),
        corrections=digest,
        extended=old.set.digest,
        exposures=new["exposures"],
        gradients=new[EXPOSURETERMS.name],
        seconds=watch.seconds,
    )


def _tasks(residuals: Residuals, old: CorrectionFiles, config: CalibrateConfig) -> list[ExtendTask]:
    storage = residuals.snapshot.storage
    operation_id = OperationId("extend", residuals.snapshot.number, [residuals.operation_id, old.set.digest]).value
    return [
        ExtendTask(
            key=f"{operation_id[:12]}-{rcid:02d}-{fid}",
            storage=storage,
            rcid=rcid,
            fid=fid,
            files=files,
            config=config,
            operation_id=residuals.operation_id,
            place=old.place,
        )
        for (rcid, fid), files in residuals.files.items()
        if (rcid, fid) in old.set.channels
    ]


def _projected_bytes(task: ExtendTask, snapshot: SnapshotFiles) -> int:
    rows = snapshot.read(EXPOSURES.name, ["rcid", "fid"])
    mine = (rows["rcid"].to_numpy() == task.rcid) & (rows["fid"].to_numpy() == task.fid)
    return WORKER_BASE_BYTES + BYTES_PER_EXPOSURE * int(mine.sum())


def _about(residuals: Residuals, old: CorrectionFiles, ps1: str) -> dict[str, object]:
    """Provenance: that of the older set, and what it was extended from."""
    of = old.set.programs
    programs = None if of is None else sorted({*of, *residuals.programs})
    kept = {name: value for name, value in old.about.items() if name not in ABOUT_WRITTEN}
    extended = {"corrections": old.set.digest, "snapshot": residuals.snapshot.number, "ps1": ps1, **made_now()}
    return {**kept, "programs": programs, "extended": extended}
