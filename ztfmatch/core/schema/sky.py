"""Tables divided over the sky by tile: objects, detections, orphans."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import LABEL, Column, Table, delta, few, split

ACTIVE: Final = "active"
RETIRED: Final = "retired"

NO_SEED: Final = "no_seed"
NEARER_DETECTION: Final = "nearer_detection"
NO_REFERENCE: Final = "no_reference"
ORPHAN_REASONS: Final = (NO_SEED, NEARER_DETECTION, NO_REFERENCE)


MAGNITUDE_TERM: Final = 1
POSITION_TERM: Final = 2
FIELD_TERM: Final = 4
NO_MAGNITUDE_TERM: Final = 8
NO_POSITION_TERM: Final = 16
NO_FIELD_TERM: Final = 32
EXPOSURE_TERM: Final = 64
NO_COLOUR: Final = 128
ALL_TERMS: Final = MAGNITUDE_TERM | POSITION_TERM | FIELD_TERM
"""Bits of corrflags."""


def unit_columns(source: str, bounds: bool = False) -> tuple[Column, ...]:
    """Columns that say of which unit a row is."""
    return tuple(
        few(name, kind, "", description, source, bounds=bounds)
        for name, kind, description in (
            ("field", pa.int16(), "Field number"),
            ("rcid", pa.int8(), "Readout channel, 0..63"),
            ("fid", pa.int8(), "Filter: 1 = g, 2 = r, 3 = i"),
        )
    )


OBJECTS: Final = Table(
    "objects",
    "One row per seed and generation of its reference: an object with an objectid.",
    ("objectid",),
    (
        delta(
            "objectid",
            pa.int64(),
            "",
            "field*10^12 + fid*10^11 + ccdid*10^9 + qid*10^8 + generation*10^7 + sourceid; "
            "generation 0 is IRSA's own number",
            "computed",
            bounds=True,
        ),
        *unit_columns("refpsfcat header"),
        Column("generation", pa.int8(), "", "Number of the unit's reference, 0..9", "store"),
        Column("sourceid", pa.int32(), "", "Source number in the reference catalog", "refpsfcat sourceid"),
        split("ra", pa.float64(), "deg", "Right ascension, ICRS", "refpsfcat ra"),
        split("dec", pa.float64(), "deg", "Declination, ICRS", "refpsfcat dec"),
        few("refmag", pa.float32(), "mag", "Calibrated reference magnitude, MAGZP + mag", "refpsfcat mag, MAGZP", True),
        few("refmagerr", pa.float32(), "mag", "Its 1-sigma error", "refpsfcat sigmag", True),
        few("refsnr", pa.float32(), "", "Flux over its error", "refpsfcat snr"),
        few("refchi", pa.float32(), "", "Chi of the PSF fit", "refpsfcat chi"),
        few("refsharp", pa.float32(), "", "Sharpness of the PSF fit", "refpsfcat sharp"),
        few(
            "refflags",
            pa.int16(),
            "",
            "Mask bits, as catalogued; null where it was imported from a matchfile",
            "refpsfcat flags",
            True,
        ),
        few("status", LABEL, "", f"'{ACTIVE}', or '{RETIRED}' when a newer reference replaced its generation", "store"),
    ),
    # A quarter of others': an append reads the seeds of its units, of which a tile has some thousands each.
    row_group_rows=32_768,
)

MEASURED: Final = (
    split("ra", pa.float64(), "deg", "Right ascension, ICRS", "psfcat ra"),
    split("dec", pa.float64(), "deg", "Declination, ICRS", "psfcat dec"),
    split("xpos", pa.float32(), "pix", "Column position on the quadrant", "psfcat xpos"),
    split("ypos", pa.float32(), "pix", "Row position on the quadrant", "psfcat ypos", zstd_level=1),
    split("psfflux", pa.float32(), "DN", "PSF-fit flux", "psfcat flux"),
    split("psffluxerr", pa.float32(), "DN", "Its 1-sigma error", "psfcat sigflux"),
    few("chi", pa.float32(), "", "Chi of the PSF fit", "psfcat chi"),
    few("sharp", pa.float32(), "", "Sharpness of the PSF fit", "psfcat sharp"),
    few("flags", pa.int16(), "", "Mask bits, as catalogued; -1 at the edge", "psfcat flags"),
)
"""What the catalog measured, kept to the last bit."""

EPOCH: Final = (
    few("exposureid", pa.int64(), "", "Key of the exposure in the ledger: fracday*100 + rcid", "file name"),
    delta(
        "sourceid", pa.int32(), "", "Source number in the epochal catalog; unique in its exposure", "psfcat sourceid"
    ),
    split(
        "hmjd",
        pa.float64(),
        "day",
        "Heliocentric MJD (UTC) of mid-exposure at the detection's position, to 0.01 s (rounded to 2^-24 day, 5 ms)",
        "OBSMJD + EXPTIME/2 + light travel time to the Sun, seen from Palomar",
        bounds=True,
        zstd_level=1,
    ),
    split(
        "mag",
        pa.float32(),
        "mag",
        "Calibrated magnitude, no colour term: MAGZP - 2.5 log10(psfflux), less the corrections that corrflags tells; "
        "null where the flux is not positive",
        "psfcat flux, MAGZP; corrections",
        True,
        zstd_level=1,
    ),
    split(
        "magerr",
        pa.float32(),
        "mag",
        "Its 1-sigma error: the unit's error model at mag where its coefficients are known (those of the exposure's "
        "corrections before those given at append), else 1.0857 psffluxerr/psfflux; null where mag is",
        "psfcat flux, sigflux; error model",
        True,
    ),
    few(
        "catflags",
        pa.uint16(),
        "",
        "flags without bits 1 and 11; bit 15 (32768) on all rows of a bad exposure; 65535 at the edge; 0 is clean",
        "psfcat flags, quality rule",
    ),
    few(
        "corrflags",
        pa.uint8(),
        "",
        f"Corrections taken off mag, by bits: {MAGNITUDE_TERM} magnitude, {POSITION_TERM} position, {FIELD_TERM} field "
        f"term, {EXPOSURE_TERM} of the exposure alone. Wanted, but without a value: {NO_MAGNITUDE_TERM} magnitude out "
        f"of range (of continuous corrections that at its end is taken), {NO_POSITION_TERM} too few stars in the cell, "
        f"{NO_FIELD_TERM} in the unit; {NO_COLOUR}: colour unknown, the unit's mean taken. {ALL_TERMS}: all taken off; "
        "0: none",
        "corrections",
    ),
)

EPOCH_NAMES: Final = tuple(column.name for column in (*EPOCH, *MEASURED))
"""Columns that epochs and orphans have alike."""

DETECTIONS: Final = Table(
    "detections",
    "Matched detections, flat: the epochs of all lightcurves.",
    ("objectid", "hmjd", "exposureid"),
    (
        delta("objectid", pa.int64(), "", "The object it is an epoch of", "match", bounds=True),
        *EPOCH,
        *MEASURED,
    ),
    row_group_rows=32_768,
    cut_ids=10**11,  # of a field and filter
)
"""Row groups are small, so that one lightcurve reads little: a third of the time of 131,072 rows, for a byte a row."""

ORPHANS: Final = Table(
    "orphans",
    "Detections that have no object, with the reason.",
    ("field", "rcid", "fid", "hmjd", "exposureid", "sourceid"),
    (
        *unit_columns("psfcat header", bounds=True),
        few(
            "reason",
            LABEL,
            "",
            f"'{NO_SEED}': no seed within the radius; '{NEARER_DETECTION}': another detection of the exposure was "
            f"nearer to the same seed; '{NO_REFERENCE}': the unit had no reference yet",
            "match",
        ),
        few(
            "nearestid",
            pa.int64(),
            "",
            f"The object that another detection was nearer to; null unless '{NEARER_DETECTION}'",
            "match",
            True,
        ),
        *EPOCH,
        *MEASURED,
    ),
    row_group_rows=16_384,
)
"""Row groups are of few units: grouping reads those of the units that have new ones. It costs a byte a row."""
