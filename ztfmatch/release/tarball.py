"""Lightcurves of a region of the sky and a time range as one tar file: bulk files, a README, checksums."""

from __future__ import annotations

import datetime
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Final

from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.plain import Json
from ztfmatch.core.runner import Runner
from ztfmatch.release.about import readme
from ztfmatch.release.bulk import bulk_directory, files_text, rows_text, write_beside, write_lightcurves
from ztfmatch.release.io.outputs import HashedFile, Output, write_bytes
from ztfmatch.release.io.scope import MJD_EPOCH, ReleaseScope, check_label
from ztfmatch.release.publication import MANIFEST_FILE, Publishing, PublishReport, give_name, manifest_text
from ztfmatch.release.sectors import sector_dates, sector_region

_BUILT_AS: Final = "product.tar"
_COPIED_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Part:
    """A part of the sky and of time.

    Parameters
    ----------
    label : str
        Added to the label of the release in file names.
    region : Region
    since, until : float or None
        MJD of the start of exposures, ``since <= t < until``.
    """

    label: str
    region: Region
    _: KW_ONLY
    since: float | None = None
    until: float | None = None


def sector_part(number: int, region: Region | None, since: float | None, until: float | None) -> Part:
    """Footprint and dates of a TESS sector: those given, else the scheduled ones.

    Raises
    ------
    ConfigError
        If tess-point is needed, and is not installed or does not know the sector, or its dates are not known.
    """
    if since is None or until is None:
        first, last = sector_dates(number)
        since, until = first if since is None else since, last if until is None else until
    return Part(f"s{number:04d}", region or sector_region(number), since=since, until=until)


def publish_tar(
    snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, part: Part
) -> PublishReport:
    """Write the lightcurves of a part of the sky as a tar file.

    Raises
    ------
    OutputExistsError, ScopeError, ConfigError
        Before anything is written; if the label is none that names of files can have, too.
    JobFailedError
        If a task failed after its retries; the same call again resumes.
    """
    public = scope.programs
    check_label(part.label)
    scope = replace(scope.within(part.since, part.until), release=f"{scope.release}_{part.label}")
    digest = short_digest(json.dumps(part.region.to_json(), sort_keys=True).encode())
    settings: Json = {"region": part.region.name, "region_digest": digest}
    settings |= {"since": part.since, "until": part.until}
    publishing = Publishing(snapshot, scope, output, "tar", settings, public)
    publishing.begin()
    written, counts = write_lightcurves(publishing, runner, part.region)
    return _finish(publishing, part, written, counts)


def _finish(publishing: Publishing, part: Part, written: Sequence[Output], counts: dict[str, int]) -> PublishReport:
    directory = bulk_directory(publishing.scope.release)
    record = {**publishing.provenance(), "counts": counts, "files": len(written)}
    text, sums = write_beside(publishing, written, _readme(publishing, part, counts, len(written)))
    about = write_bytes(publishing.out, f"{directory}/{MANIFEST_FILE}", manifest_text(record))
    ordered = [text, about, sums, *sorted(written, key=lambda output: output.path)]
    made = _write_tar(publishing, [output.path for output in ordered])
    give_name(publishing.partial / _BUILT_AS, publishing.output)  # the directory goes with what else is left
    report = publishing.report(ordered, counts)
    return replace(report, bytes=made.size, sha256=made.sha256)


def _write_tar(publishing: Publishing, paths: Iterable[str]) -> Output:
    """Pack files in the order given; nothing in it depends on who does it or when."""
    moment = datetime.datetime.fromisoformat(publishing.snapshot.commit.time)
    place = publishing.partial / _BUILT_AS
    with place.open("wb") as raw:
        file = HashedFile(raw)
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPIED_BYTES) as tar:
            for path in paths:
                source = publishing.partial / path
                info = tarfile.TarInfo(path)
                info.size, info.mtime, info.mode = source.stat().st_size, int(moment.timestamp()), 0o644
                with source.open("rb") as stream:
                    tar.addfile(info, stream)
        raw.flush()
        os.fsync(raw.fileno())
    return file.output(_BUILT_AS, 0)


def _dates(part: Part) -> str:
    since, until = (_date(mjd) for mjd in (part.since, part.until))
    return f"{f'from {since} ' if since else ''}{f'until {until}' if until else ''}".strip() or "any"


def _date(mjd: float | None) -> str:
    if mjd is None:
        return ""
    moment = MJD_EPOCH + datetime.timedelta(days=mjd)
    return f"{moment:%Y-%m-%d %H:%M} UTC (MJD {mjd:.4f})"


def _readme(publishing: Publishing, part: Part, counts: dict[str, int], files: int) -> str:
    scope = publishing.scope
    what = f"""Region: {part.region.name}
Dates of exposures: {_dates(part)}

{files} Parquet files, one for each field, filter, CCD and quadrant that has something there:
  {files_text(scope.release)}
{counts["objects"]} objects with at least one epoch there and then, {counts["epochs"]} epochs.
{rows_text()}{MANIFEST_FILE} says of what snapshot, scope and dates this was made."""
    return readme(scope, publishing.snapshot.commit, what)
