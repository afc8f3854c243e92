"""Tables about files: the ledger of exposures, the references, the quarantine."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import LABEL, Column, Table, delta, few

GOOD: Final = "good"
BAD: Final = "bad"
UNKNOWN: Final = "unknown"

CATALOG: Final = "catalog"
MATCHFILE: Final = "matchfile"


def unit_columns(source: str) -> tuple[Column, ...]:
    """Columns that say which unit a file is of."""
    return (
        Column("field", pa.int16(), "", "Field number", source, bounds=True),
        Column("rcid", pa.int8(), "", "Readout channel, 0..63: 4*(ccdid-1) + qid-1", source),
        Column("fid", pa.int8(), "", "Filter: 1 = g, 2 = r, 3 = i", source),
        Column("ccdid", pa.int8(), "", "CCD, 1..16", source),
        Column("qid", pa.int8(), "", "Quadrant of the CCD, 1..4", source),
    )


_FOOTPRINT: Final = (
    Column(
        "ra",
        pa.float64(),
        "deg",
        "Centre of the footprint, ICRS; null without usable rows",
        "computed",
        True,
        bounds=True,
    ),
    Column("dec", pa.float64(), "deg", "Centre of the footprint, ICRS", "computed", True, bounds=True),
    Column(
        "radius", pa.float64(), "deg", "Radius of the cap that holds every usable row", "computed", True, bounds=True
    ),
)

FILE: Final = (
    Column("filename", pa.string(), "", "Name of the file", "file system"),
    Column("source", pa.string(), "", "Where it was read from", "file system"),
    Column("size", pa.int64(), "byte", "Size of its content, unpacked if the file is gzipped", "file system"),
    Column("sha256", pa.string(), "", "Checksum of its content, hexadecimal", "computed"),
)

COMMIT: Final = Column("commit", pa.int64(), "", "The commit that ingested it", "store")


def _of_matchfiles(name: str, kind: pa.DataType, unit: str, description: str) -> Column:
    return Column(name, kind, unit, description, "exposures of a matchfile; else null", True)


_OF_MATCHFILES: Final = (
    _of_matchfiles("clrmed", pa.float32(), "mag", "Median colour of the calibrators"),
    _of_matchfiles("clrrms", pa.float32(), "mag", "RMS of their colours"),
    _of_matchfiles("zpmed", pa.float32(), "mag", "Median zero point"),
    _of_matchfiles("zpclrcov", pa.float32(), "mag", "Covariance of zero point and colour coefficient"),
    _of_matchfiles("gmedian", pa.float32(), "DN", "Median of the image, the sky"),
    _of_matchfiles("obshjd", pa.float64(), "day", "Heliocentric JD of its start"),
    _of_matchfiles("ipac_pub_date", pa.float32(), "day", "MJD of its publication"),
    _of_matchfiles("programpi", pa.string(), "", "Principal investigator"),
    _of_matchfiles("nsources", pa.int32(), "", "Rows of its catalog that are epochs of sources"),
    _of_matchfiles("nstars", pa.int32(), "", "Stars"),
    _of_matchfiles("ntransients", pa.int32(), "", "Rows of its catalog that are epochs of transients"),
)

EXPOSURES: Final = Table(
    "exposures",
    "The ledger: one row per epochal catalog ingested.",
    ("field", "exposureid"),
    (
        delta("exposureid", pa.int64(), "", "Key: fracday*100 + rcid", "file name", bounds=True),
        Column(
            "fracday",
            pa.int64(),
            "",
            "YYYYMMDDffffff of the file name; made from OBSMJD where there is none. Where a matchfile does not tell "
            "it, a time of day at which no exposure can be: the date, and ffffff = 650000 + 3.5*(expid modulo 10^5)",
            "file name",
        ),
        Column("expid", pa.int64(), "", "The survey's exposure number", "EXPID", True),
        *unit_columns("header, else file name"),
        Column("obsmjd", pa.float64(), "day", "Start of the exposure, MJD (UTC)", "OBSMJD", bounds=True),
        Column("exptime", pa.float64(), "s", "Exposure time; null means that 30 s were assumed", "EXPTIME", True),
        Column(
            "programid",
            pa.int8(),
            "",
            "1 public, 2 partnership, 3 Caltech; -1 and others as the file has them; null where it has none or one "
            "beyond -128..127: in no release",
            "PROGRMID",
            True,
        ),
        Column("magzp", pa.float64(), "mag", "Zero point; only matchfiles may lack it", "MAGZP", True),
        Column("magzpunc", pa.float64(), "mag", "Its uncertainty", "MAGZPUNC", True),
        Column("magzprms", pa.float64(), "mag", "RMS of its residuals", "MAGZPRMS", True),
        Column("clrcoeff", pa.float64(), "", "Colour coefficient", "CLRCOEFF", True),
        Column("clrcounc", pa.float64(), "", "Its uncertainty", "CLRCOUNC", True),
        Column("pcolor", pa.string(), "", "The colour that it multiplies", "PCOLOR", True),
        Column("nmatches", pa.int32(), "", "Calibrators used", "NMATCHES", True),
        Column("airmass", pa.float64(), "", "Airmass", "AIRMASS", True),
        Column("seeing", pa.float64(), "arcsec", "Image FWHM", "SEEING", True),
        Column("maglimit", pa.float64(), "mag", "Limiting magnitude", "MAGLIM", True),
        Column("infobits", pa.int64(), "", "Processing bits of the image", "INFOBITS", True),
        *_OF_MATCHFILES,
        Column(
            "origin",
            LABEL,
            "",
            f"'{CATALOG}': measured values are its own, the rest was computed from them; '{MATCHFILE}': mag, magerr, "
            "catflags and hmjd are as its matchfile has them, flags is what catflags says, sourceid its place there",
            "store",
        ),
        Column(
            "quality",
            LABEL,
            "",
            f"'{GOOD}', '{BAD}' (bit 15 is set on its catflags) or '{UNKNOWN}' (inputs of the rule are missing); of an "
            "imported exposure as its catflags say",
            "quality rule",
        ),
        Column(
            "errora",
            pa.float64(),
            "mag",
            "Error model given at append, A; null where none was. Corrections may have another, which goes before it",
            "error model",
            True,
        ),
        Column("errorb", pa.float64(), "", "Error model, B", "error model", True),
        Column("errorc", pa.float64(), "mag", "Error model, C", "error model", True),
        Column("errord", pa.float64(), "mag", "Error model, D", "error model", True),
        few(
            "corrections",
            pa.string(),
            "",
            "The set of corrections that its magnitudes have (table corrections); null for none",
            "correct, append",
            True,
        ),
        Column(
            "relzp",
            pa.float64(),
            "mag",
            "Residual zero point: mean of mag, uncorrected but for the colour term, less the median of its lightcurve, "
            "over bright constant stars of PS1; positive is too faint; null until calibrated",
            "calibrate",
            True,
        ),
        Column("relzprms", pa.float64(), "mag", "Standard deviation about relzp", "calibrate", True),
        Column("nrelzp", pa.int32(), "", "Number of detections in relzp", "calibrate", True),
        Column(
            "relscatter",
            pa.float64(),
            "mag",
            "What corrections leave: root mean square over the quadrant of bright constant stars less their "
            "lightcurves, beyond noise; null with too few stars, and until calibrated",
            "calibrate",
            True,
            later=True,
        ),
        Column(
            "photometric",
            pa.bool_(),
            "",
            "Whether that is at most 0.006, or not certain to be more; null where it is not known",
            "calibrate",
            True,
            later=True,
        ),
        Column(
            "flatdelta",
            pa.float32(),
            "mag",
            "Span of the medians of PS1 less mag, uncorrected but for the colour term, in 3 x 3 bins of the quadrant; "
            "null where PS1 has too few stars in one of them, and until measured",
            "references flatness",
            True,
            later=True,
        ),
        Column(
            "flatrms",
            pa.float32(),
            "mag",
            "Robust scatter of these differences",
            "references flatness",
            True,
            later=True,
        ),
        Column("nflat", pa.int32(), "", "Their number; null until measured", "references flatness", True, later=True),
        *_FOOTPRINT,
        Column("nrows", pa.int64(), "", "Rows of the catalog: nmatched + norphans + nrejected", "NAXIS2"),
        Column("nmatched", pa.int64(), "", "Rows that became epochs", "match"),
        Column("norphans", pa.int64(), "", "Rows that became orphans", "match"),
        Column(
            "nrejected",
            pa.int64(),
            "",
            "Rows that could not be used: those below, and of masked number or flags",
            "validation",
        ),
        Column("nrejectednan", pa.int64(), "", "of which: position not finite", "validation"),
        Column("nrejectedrange", pa.int64(), "", "of which: position outside 0..360, -90..90", "validation"),
        Column(
            "digest",
            pa.uint64(),
            "",
            "Order-free digest of the measured values of all usable rows, made from the catalog's bytes",
            "computed",
        ),
        *FILE,
        COMMIT,
    ),
    by_tile=False,
    row_group_rows=8192,  # a task reads the exposures about its tile: a footer of smaller ones takes longer than they
)

REFERENCES: Final = Table(
    "references",
    "One row per reference catalog: the generation of a unit's seeds.",
    ("field", "rcid", "fid", "generation"),
    (
        *unit_columns("header, else file name"),
        Column("generation", pa.int8(), "", "Number of the unit's reference, 0..9", "store"),
        Column("rfid", pa.int64(), "", "The survey's reference image number", "RFID", True),
        Column("magzp", pa.float64(), "mag", "Zero point of the reference image", "MAGZP"),
        Column("clrcoeff", pa.float64(), "", "Its colour coefficient", "CLRCOEFF", True, later=True),
        Column("infobits", pa.int64(), "", "Processing bits of the image", "INFOBITS", True),
        *_FOOTPRINT,
        Column("nseeds", pa.int64(), "", "Seeds", "NAXIS2"),
        Column("digest", pa.uint64(), "", "Order-free digest of the seeds, made from the catalog's bytes", "computed"),
        *FILE,
        COMMIT,
    ),
    by_tile=False,
)

QUARANTINE: Final = Table(
    "quarantine",
    "One row per file that could not be used, with the reason.",
    ("source",),
    (
        Column(
            "code",
            pa.string(),
            "",
            "Short reason: truncated, not-fits, layout, contradiction, duplicate ...",
            "validation",
        ),
        Column("reason", pa.string(), "", "What was found and what was expected", "validation"),
        Column("filename", pa.string(), "", "Name of the file", "file system"),
        Column("source", pa.string(), "", "Where it was read from", "file system"),
        Column("size", pa.int64(), "byte", "Size of the file; null where it could not be read", "file system", True),
        Column("sha256", pa.string(), "", "Checksum; null where it could not be read", "computed", True),
        COMMIT,
    ),
    by_tile=False,
)
