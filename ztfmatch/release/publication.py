"""What all products have in common: where they are made, what they are of, and how they become visible.

A product is made in a directory beside its place, whose name has the digest of all that it depends on, and renamed at
the end. Finished tasks are staged in it, so the same command again goes on where it stopped, and any other begins anew.
Nothing of when or where it was made is inside: the same snapshot, scope and settings give the same bytes.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

import ztfmatch
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import (
    ConfigError,
    JobFailedError,
    OutputExistsError,
    ScopeError,
    SnapshotNotFoundError,
    StorageError,
)
from ztfmatch.core.io import localfiles, log, paths
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.corrections import CorrectionSet
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.rows import FOOTPRINT
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.kernels.sphere import unit_vector
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import OperationId, Stopwatch, tiles_of_footprints
from ztfmatch.core.plain import Json
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, EXPOSURES
from ztfmatch.core.survey import Unit, objectid_range, unit_of_code, units_of_codes
from ztfmatch.core.tasks.staging import Function, Result, Task
from ztfmatch.release.io.outputs import Output, write_bytes
from ztfmatch.release.io.scope import ReleaseScope
from ztfmatch.release.tasks.released import LEDGER_COLUMNS, Product, UnitFiles, in_scope

MANIFEST_FILE: Final = "release.json"
CHECKSUM_FILE: Final = "sha256sums.txt"
_STAGED_UNDER: Final = "publish"


def noun_of_rows(product: str) -> str:
    """What a row of a product is: ``object``, or ``star``."""
    return "star" if product == "hats stars" else "object"


@dataclass(frozen=True, kw_only=True)
class PublishReport(Displayable):
    """What was published."""

    product: str
    output: str
    snapshot: int
    release: str
    files: int
    objects: int
    """Of lightcurves by star: the stars."""
    epochs: int
    bytes: int
    seconds: float
    sha256: str = ""
    """Of the file, where the product is one."""


@dataclass(frozen=True)
class Publishing:
    """One product in the making."""

    snapshot: SnapshotFiles
    scope: ReleaseScope
    output: Path
    """Directory, or file, to be made; nothing may be there."""
    product: str
    """What is made."""
    settings: Json = field(default_factory=dict)
    """Plain values on which its bytes depend."""
    public: frozenset[int] = frozenset()
    """Programs that the whole release shows, where this is a part of one whose dates leave some of them out."""
    watch: Stopwatch = field(default_factory=Stopwatch)

    @functools.cached_property
    def operation_id(self) -> str:
        """Digest of all that the product depends on."""
        commit = self.snapshot.commit
        inputs = [commit.store, commit.operation_id, self.scope.to_json(), self.settings, ztfmatch.__version__]
        return OperationId(f"publish {self.product}", self.snapshot.number, inputs).value

    @functools.cached_property
    def partial(self) -> Path:
        """Where it is made."""
        return localfiles.partial_of(self.output, self.operation_id)

    @functools.cached_property
    def out(self) -> Storage:
        """The directory in which it is made."""
        return Storage.at(self.partial)

    @functools.cached_property
    def inputs(self) -> Product:
        """What tasks need to know of it."""
        return Product(self.snapshot, self.scope, self.out)

    def begin(self, dry_run: bool = False) -> None:
        """Check what can be checked before any work, and make the directory unless nothing is to be written.

        Raises
        ------
        OutputExistsError
            If something is at the output's place.
        ConfigError
            If that is not a local path, or its directory is not there.
        SnapshotNotFoundError
            If a vacuum took the snapshot away.
        ScopeError
            If no exposure of the snapshot is in scope, or the magnitudes of one have corrections that were derived from
            epochs of other programs, which the scope does not allow.
        """
        check_place(self.output)
        check_snapshot(self.snapshot)
        if not self._has_exposures():
            raise ScopeError(
                f"no exposure of snapshot {self.snapshot.number} is in the scope of release {self.scope.release!r} "
                f"({self.snapshot.rows(EXPOSURES.name)} exposures in {self.snapshot.storage.root}): nothing to publish"
            )
        self._check_corrections()
        if not dry_run:
            self.partial.mkdir(exist_ok=True)

    def _has_exposures(self) -> bool:
        """Whether any exposure is in scope; files are read until one is found."""
        files = (read_file_rows(self.snapshot.storage, file, LEDGER_COLUMNS) for file in self.snapshot.ledger)
        return any(in_scope(rows, self.scope).any() for rows in files)

    def _check_corrections(self) -> None:
        """Raise if corrected magnitudes would reveal private epochs."""
        for name, corrections in self.corrections.items():
            private = corrections.private_programs(self.scope.programs | self.public)
            if private and not self.scope.private_corrections:
                raise ScopeError(
                    f"magnitudes in the scope of release {self.scope.release!r} have corrections {name}, derived from "
                    f"epochs of {private}, which the release does not show: use 'ztfmatch calibrate --program' and "
                    "'correct', or allow it with --allow-private-corrections"
                )

    @functools.cached_property
    def corrections(self) -> dict[str, CorrectionSet]:
        """Sets of corrections, by name, that exposures in scope have."""
        storage, held = self.snapshot.storage, self.snapshot.of_table(CORRECTIONS.name)
        named: set[str | None] = set()
        for file in self.snapshot.ledger if held else ():
            rows = read_file_rows(storage, file, [*LEDGER_COLUMNS, "corrections"])
            named |= set(rows["corrections"].filter(pa.array(in_scope(rows, self.scope))).unique().to_pylist())
        return {name: one for name, one in sorted(read_store_sets(storage, held).items()) if name in named}

    def run(
        self, runner: Runner, title: str, function: Function[Result], tasks: Sequence[Task], preparing: bool = False
    ) -> list[Result]:
        """Results of tasks, which are kept until the product is finished.

        Raises
        ------
        JobFailedError
            If a task failed after its retries; the same command again resumes.
        SnapshotNotFoundError
            If that is because a vacuum took the snapshot away.
        """
        try:
            return runner.run(Job(title, function, tasks, _STAGED_UNDER, self.out, preparing=preparing))
        except JobFailedError:
            try:
                check_snapshot(self.snapshot)
            except SnapshotNotFoundError:
                self.abandon()
                raise
            raise

    def abandon(self) -> None:
        """Delete what was made."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def check_epochs(self, epochs: int, region: Region | None = None) -> None:
        """Raise if nothing is left to publish; what was made is deleted.

        Raises
        ------
        ScopeError
        """
        if not epochs:
            self.abandon()
            where = f" and in {region.name}" if region else ""
            raise ScopeError(
                f"no epoch of snapshot {self.snapshot.number} is in the scope of release "
                f"{self.scope.release!r}{where}: nothing to publish"
            )

    def units(self, region: Region | None = None) -> list[UnitFiles]:
        """Units that the scope allows, in order of their objectids, with the files that may have something of them.

        Parameters
        ----------
        region : Region, optional
            Only units that may reach into it.
        """
        rows = self.snapshot.footprints
        field, _, fid = units_of_codes(rows["unit"].to_numpy())
        rows = rows.filter(pa.array(self.scope.of_units(field, fid)))
        if region is not None:
            ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in FOOTPRINT)
            rows = rows.filter(pa.array(region.may_touch(unit_vector(ra, dec), np.radians(radius))))
        tiles: dict[Unit, set[Tile]] = {}
        touched = tiles_of_footprints(self.snapshot.tiling, rows)
        for code, of in zip(rows["unit"].to_pylist(), touched, strict=True):
            tiles.setdefault(unit_of_code(code), set()).update(of)
        ordered = sorted(tiles, key=objectid_range)
        return [UnitFiles(self.snapshot, unit, tuple(sorted(tiles[unit]))) for unit in ordered]

    def finish(self, outputs: Sequence[Output], counts: dict[str, int]) -> PublishReport:
        """Write manifest and checksums, and give the product its name.

        Raises
        ------
        OutputExistsError
            If something came to be at its place meanwhile.
        """
        ordered = sorted(outputs, key=lambda output: output.path)
        text = "".join(f"{output.sha256}  {output.path}\n" for output in ordered)
        sums = write_bytes(self.out, CHECKSUM_FILE, text.encode())
        manifest = write_bytes(self.out, MANIFEST_FILE, self._manifest(ordered, counts, sums))
        publish(self.out, self.output, [output.path for output in (*ordered, sums, manifest)])
        return self.report((*ordered, sums, manifest), counts)

    def _manifest(self, outputs: Sequence[Output], counts: dict[str, int], sums: Output) -> bytes:
        return manifest_text(
            {
                **self.provenance(),
                "counts": counts,
                "files": len(outputs),
                "bytes": sum(output.size for output in outputs),
                "checksums": {"file": CHECKSUM_FILE, "sha256": sums.sha256},
            }
        )

    def provenance(self) -> Json:
        """What the product is of: snapshot, scope, corrections, version, settings."""
        commit = self.snapshot.commit
        corrections = [{"name": name, "programs": one.programs} for name, one in self.corrections.items()]
        return {
            "product": self.product,
            "release": self.scope.release,
            "scope": self.scope.to_json(),
            "scope_digest": self.scope.digest,
            "settings": self.settings,
            "corrections": corrections,
            "snapshot": {
                "number": commit.number,
                "time": commit.time,
                "operation_id": commit.operation_id,
                "store": commit.store,
            },
            "ztfmatch": ztfmatch.__version__,
        }

    def report(self, outputs: Sequence[Output], counts: dict[str, int]) -> PublishReport:
        """What was published."""
        return PublishReport(
            product=self.product,
            output=str(self.output),
            snapshot=self.snapshot.number,
            release=self.scope.release,
            files=len(outputs),
            objects=counts["objects"],
            epochs=counts["epochs"],
            bytes=sum(output.size for output in outputs),
            seconds=self.watch.seconds,
        )


def manifest_text(record: Json) -> bytes:
    """Bytes of a manifest."""
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def check_place(output: Path) -> None:
    """Raise unless a product can be made at a place; where there is one, nothing is left of runs that were to make it.

    Raises
    ------
    OutputExistsError, ConfigError
    """
    if output.exists() or output.is_symlink():
        localfiles.remove_leftovers([output])
        raise OutputExistsError(f"{output} exists already: give a place where nothing is")
    if not output.parent.is_dir():
        raise ConfigError(f"the directory {output.parent} does not exist: make it first")


def publish(made: Storage, output: Path, files: Iterable[str]) -> None:
    """Give a product, whose files were all written, its name, when they are on disk; what was staged in it goes.

    Raises
    ------
    OutputExistsError
        If something is there.
    """
    made.delete([entry.path for entry in made.unfinished()])
    root = Path(made.root)
    shutil.rmtree(root / paths.STAGING, ignore_errors=True)
    made.sync(list(files))
    give_name(root, output)


def give_name(made: Path, output: Path) -> None:
    """Give a finished file or directory, which is on disk, its name.

    Raises
    ------
    OutputExistsError
        If something is there.
    """
    check_place(output)
    try:
        localfiles.give_name(made, output)
    except OSError as error:
        if isinstance(error, OutputExistsError):
            raise
        raise StorageError(f"cannot rename {made} to {output}: {error.strerror}") from error


def check_snapshot(snapshot: SnapshotFiles) -> None:
    """Raise if a vacuum took the snapshot while it was published.

    Raises
    ------
    SnapshotNotFoundError
    """
    oldest = log.oldest_retained(snapshot.storage)
    if snapshot.number < oldest:
        raise SnapshotNotFoundError(
            f"{snapshot.storage.root}: snapshot {snapshot.number} was removed by a vacuum; the oldest is {oldest}"
        )
