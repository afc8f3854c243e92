"""Apply corrections to a catalog file, without a store, and plot its residuals from PS1."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import CatalogError, CorrectionsError
from ztfmatch.core.io.catalogs import EpochalCatalog, read_epochal
from ztfmatch.core.io.corrections import CorrectionFiles, read_corrections
from ztfmatch.core.io.localfiles import replace
from ztfmatch.core.io.metadata import read_exposure_table
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, read_file
from ztfmatch.core.io.surveytables import channels_said
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema.sky import (
    EXPOSURE_TERM,
    FIELD_TERM,
    MAGNITUDE_TERM,
    NO_COLOUR,
    NO_FIELD_TERM,
    NO_MAGNITUDE_TERM,
    NO_POSITION_TERM,
    POSITION_TERM,
)
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import parse_catalog_name
from ztfmatch.core.tasks.ledger import mid_exposures
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.photometry.catalogresiduals import residuals_of
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.report.numbers import MMAG, robust_rms
from ztfmatch.photometry.tasks.othercorrections import gradients_of

_SUFFIX, _NEW_SUFFIX = EPOCHAL_PATTERN.removeprefix("*"), "_psfcatscorr.fits"
_TERMS: Final = {
    "magnitude": MAGNITUDE_TERM,
    "position": POSITION_TERM,
    "field": FIELD_TERM,
    "exposure": EXPOSURE_TERM,
    "no magnitude": NO_MAGNITUDE_TERM,
    "no position": NO_POSITION_TERM,
    "no field": NO_FIELD_TERM,
    "no colour": NO_COLOUR,
}
"""Bits of the flags, in words."""


@dataclass(frozen=True)
class CatalogInputs(WithPaths):
    """What a catalog is corrected with."""

    corrections: Path
    """Directory of a set, or of the survey's tables."""
    output: Path | None = None
    """Directory of what is written; None for that of the catalog."""
    ps1: Path | None = None
    """Without it there is no picture."""
    _: KW_ONLY
    columns: Mapping[str, str] = field(default_factory=dict)
    exposures: Path | None = None
    """Metadata that headers lack, as an append takes them."""


@dataclass(frozen=True, kw_only=True)
class CatalogReport(Displayable):
    """What was written."""

    catalog: str
    output: str
    corrections: str
    rows: int
    terms: dict[str, int]
    """Rows from which each term was taken off, or which lack it."""
    picture: str | None
    stars: int
    """With a PS1 star."""
    before_mmag: float | None
    """Robust RMS of their residuals."""
    after_mmag: float | None
    seconds: float


def correct_catalog(catalog: str | os.PathLike[str], inputs: CatalogInputs) -> CatalogReport:
    """Write ``X_psfcat.fits`` as ``X_psfcatscorr.fits``: the same, with corrected instrumental magnitudes.

    ``mag`` is such that with MAGZP it is the corrected magnitude, as a store has it; all other columns and cards stay.
    The card CORRSET names the set. With PS1 a picture, ``X_psfcatscorr.png``, shows the residuals before and after.

    Raises
    ------
    CatalogError
        If the catalog cannot be used.
    CorrectionsError
        If it is not a set of corrections, damaged, or has nothing for the catalog's channel.
    MetadataError
        If PS1 cannot be read, or has too few stars of the catalog.
    """
    from ztfmatch.core.operations.common import Stopwatch

    watch, catalog = Stopwatch(), Path(catalog)
    if not catalog.name.endswith(_SUFFIX):
        raise CatalogError("layout", f"{catalog}: expected the name of an epochal catalog, {EPOCHAL_PATTERN}")
    read = _read(catalog, inputs.exposures)
    held = read_corrections(inputs.corrections)
    if not held.set.has(read.unit):
        of = channels_said([(read.unit.rcid, read.unit.fid)])
        raise CorrectionsError(
            f"{held.place} has corrections of {channels_said(held.set.channels)}; expected {of}, of which {catalog} is"
        )
    ps1 = None if inputs.ps1 is None else open_ps1(inputs.ps1, inputs.columns)
    made = _corrected(read, held)
    stars = None if ps1 is None else residuals_of(read, made["mag"], ps1)
    place = (inputs.output or catalog.parent) / (catalog.name.removesuffix(_SUFFIX) + _NEW_SUFFIX)
    place.parent.mkdir(parents=True, exist_ok=True)
    replace(place, memoryview(_rewritten(catalog, made["mag"].astype(np.float64) - read.magzp, held.set.digest)))
    picture = None
    if stars is not None:
        from ztfmatch.photometry.report.pictures.catalog import draw_catalog
        from ztfmatch.photometry.report.pictures.style import png

        picture = place.with_suffix(".png")
        replace(picture, memoryview(png(draw_catalog(stars, catalog.name))))
    return CatalogReport(
        catalog=str(catalog),
        output=str(place),
        corrections=held.set.digest,
        rows=len(read.records),
        terms={name: n for name, bit in _TERMS.items() if (n := int(np.count_nonzero(made["corrflags"] & bit)))},
        picture=None if picture is None else str(picture),
        stars=0 if stars is None else len(stars.x),
        before_mmag=None if stars is None else MMAG * robust_rms(stars.before),
        after_mmag=None if stars is None else MMAG * robust_rms(stars.after),
        seconds=watch.seconds,
    )


def _read(catalog: Path, exposures: Path | None) -> EpochalCatalog:
    name, known = parse_catalog_name(catalog.name), None
    if exposures is not None and name is not None and name.fracday is not None:
        known = read_exposure_table(exposures).find(name.fracday, name.unit.rcid)
    try:
        return read_epochal(str(catalog), known)
    except CatalogError as error:
        raise CatalogError(error.code, f"{catalog}: {error}") from None


def _corrected(read: EpochalCatalog, held: CorrectionFiles) -> dict[str, npt.NDArray[Any]]:
    """What a store would have of the rows: ``mag`` and ``corrflags``."""
    name, rows = held.set.digest, read.records
    exposure = Calibration(
        units=[read.unit],
        magzp=np.array([read.magzp]),
        error_model=np.full((1, 4), np.nan),
        corrections=[name],
        mid_mjd=mid_exposures([read.obsmjd], [read.metadata["exptime"]]),
        gradient=gradients_of(held, np.array([read.exposureid])),
        colours={},
    )
    pairs = {"psfflux": "flux", "psffluxerr": "sigflux", "xpos": "xpos", "ypos": "ypos"}
    columns = {ours: rows[theirs].astype(np.float32) for ours, theirs in pairs.items()}
    return Photometer(exposure, {name: held.set}).measure(columns, np.zeros(len(rows), np.int64))


def _rewritten(catalog: Path, mag: Floats, corrections: str) -> bytes:
    """The file with other magnitudes, where they are known, and the name of the set."""
    from astropy.io import fits

    with fits.open(io.BytesIO(bytes(read_file(str(catalog)).data)), memmap=False) as hdus:
        table = hdus[1]
        column = next((name for name in table.columns.names if name.lower() == "mag"), None)
        if column is None:
            raise CatalogError("layout", f"{catalog}: has no column mag, which corrections would change")
        table.data[column] = np.where(np.isnan(mag), table.data[column], mag)
        hdus[0].header["CORRSET"] = (corrections, "corrections that mag has")
        summed = any("CHECKSUM" in hdu.header for hdu in hdus)
        out = io.BytesIO()
        hdus.writeto(out, checksum=summed, output_verify="silentfix+ignore")
    return out.getvalue()
