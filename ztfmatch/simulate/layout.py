"""File names, headers, and rows of the exposure table."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ztfmatch.core.survey import DEFAULT_EXPTIME_S, FILTER_CODES, Unit, psfcat_name, refpsfcat_name
from ztfmatch.simulate.catalogs import REFERENCE_ZERO_POINT, UnitSky, reference_colour_term
from ztfmatch.simulate.exposures import Conditions, Exposure
from ztfmatch.simulate.fitsout import Card

EXPOSURE_COLUMNS: Final = (
    *("filefracday", "field", "rcid", "fid", "expid", "obsmjd", "exptime"),
    *("airmass", "seeing", "maglimit", "infobits", "programid"),
)
"""Columns of exposures.csv, one row per catalog."""

LIMIT_TO_FIVE_SIGMA_MAG: Final = 0.6
_RUN_DATES: Final = ("2018-12-10", "2019-12-10", "2020-12-10", "2021-12-10", "2022-12-10")


def catalog_path(unit: Unit, fracday: int) -> Path:
    """Where the survey keeps an epochal catalog: year, month and day, fraction."""
    day = f"{fracday:014d}"
    return Path(day[:4], day[4:8], day[8:], psfcat_name(unit, fracday))


def reference_path(unit: Unit) -> Path:
    """Where the survey keeps a reference catalog."""
    root = "000" if unit.field < 1000 else "001"
    code = FILTER_CODES[unit.fid]
    folder = Path(root, f"field{unit.field:06d}", code, f"ccd{unit.ccdid:02d}", f"q{unit.qid}")
    return folder / refpsfcat_name(unit)


def epochal_keys(sky: UnitSky, exposure: Exposure, state: Conditions, n: int) -> dict[str, Card]:
    """Header of an epochal catalog."""
    keys: dict[str, Card] = {
        "OBSMJD": exposure.obsmjd,
        "NSOURCES": n,
        "MAGZP": state.magzp,
        "NMATCHES": state.nmatches,
        "MAGZPUNC": state.magzpunc,
        "MAGZPRMS": state.magzprms,
        "CLRCOEFF": state.clrcoeff,
        "CLRCOUNC": state.clrcounc,
        **_identity_keys(sky.unit),
        "INFOBITS": state.infobits,
    }
    if sky.config.full_headers:
        keys["EXPTIME"] = DEFAULT_EXPTIME_S
        keys["EXPID"] = exposure.expid
        keys["PROGRMID"] = exposure.programid
        keys["AIRMASS"] = exposure.airmass
        keys["SEEING"] = exposure.seeing
        keys["MAGLIM"] = _five_sigma_limit(sky, exposure)
    return keys


def reference_keys(unit: Unit, n: int, generation: int) -> dict[str, Card]:
    """Header of a simulated reference catalog."""
    name = refpsfcat_name(unit)
    return {
        "PSFRUNSW": "refimage.pl",
        "PSFRUNVN": "v2.6",
        "RUNDATE": _RUN_DATES[generation % len(_RUN_DATES)],
        "RUNTIME": "07:29:21",
        "INPUTIMG": name.replace("_refpsfcat", "_refimg"),
        "INPUTPSF": name.replace("_refpsfcat.fits", "_refdao.psf"),
        "NSOURCES": n,
        "MAGZP": REFERENCE_ZERO_POINT[unit.fid],
        "NMATCHES": 280,
        "MAGZPUNC": 0.0004818736,
        "MAGZPRMS": 0.0373030188,
        "CLRCOEFF": reference_colour_term(unit.fid),
        "CLRCOUNC": 0.0007127,
        **_identity_keys(unit),
        "RFID": unit.field * 10**6 + unit.fid * 10**5 + unit.rcid * 10**2 + 36 + generation,
        "INFOBITS": 0,
    }


def _identity_keys(unit: Unit) -> dict[str, Card]:
    return {
        "PCOLOR": "R-i" if unit.fid == 3 else "g-R",
        "FIELDID": unit.field,
        "CCDID": unit.ccdid,
        "QID": unit.qid,
        "RCID": unit.rcid,
        "FILTERID": unit.fid,
    }


def _five_sigma_limit(sky: UnitSky, exposure: Exposure) -> float:
    return round(sky.limit(exposure) - LIMIT_TO_FIVE_SIGMA_MAG, 3)


def table_row(sky: UnitSky, exposure: Exposure, state: Conditions) -> list[object]:
    """Row of exposures.csv."""
    unit = sky.unit
    times = [f"{exposure.fracday:014d}", unit.field, unit.rcid, unit.fid, exposure.expid, f"{exposure.obsmjd:.7f}"]
    limits = [DEFAULT_EXPTIME_S, exposure.airmass, exposure.seeing, _five_sigma_limit(sky, exposure)]
    return [*times, *limits, state.infobits, exposure.programid]
