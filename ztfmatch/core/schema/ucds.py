"""UCDs of columns: what each is, in the words of the Virtual Observatory (UCD1+, IVOA recommendation 1.6).

By name, since a column of that name means the same in every table. VOTable, FITS and HATS tell them to other tools.
"""

from __future__ import annotations

from typing import Final

_COUNTS: Final = (
    *("nobs", "nobsrel", "ngoodobs", "ngoodobsrel", "nepochs", "nmedianbufferrange", "npairposslope", "nshared"),
    *("nbeside", "ninobjects", "nintransients", "norphaned", "nseeds", "nsources", "nstars", "ntransients"),
    *("nrows", "nmatched", "norphans", "nrejected", "nrejectednan", "nrejectedrange", "nimported", "ntransientepochs"),
    *("nmatches", "nflat", "nrelzp", "ncalibrators", "nexposures"),
)
_MAGNITUDES: Final = {
    "mag": "",
    "refmag": "",
    "meanmag": "stat.mean",
    "medianmag": "stat.median",
    "maxmag": "stat.max",
    "minmag": "stat.min",
    "weightedmeanmag": "stat.mean",
}

UCDS: Final = {
    **dict.fromkeys(("objectid", "transientid", "newobjectid", "oid", "starid", "newstarid"), "meta.id"),
    **dict.fromkeys(("besideid", "nearestid", "legacyid", "sourceid", "exposureid", "expid"), "meta.id"),
    **dict.fromkeys(("field", "fieldid"), "meta.id;obs.field"),
    **dict.fromkeys(("fid", "filterid", "filtercode"), "meta.id;instr.filter"),
    **dict.fromkeys(("rcid", "ccdid", "qid"), "meta.id;instr.det"),
    **dict.fromkeys(("programid", "programpi"), "meta.id;obs.proposal"),
    **dict.fromkeys(("status", "quality", "kind"), "meta.code.status"),
    **dict.fromkeys(("catflags", "corrflags", "flags", "refflags", "infobits"), "meta.code.qual"),
    **dict.fromkeys(("generation", "snapshot", "commit"), "meta.version"),
    **dict.fromkeys(("filename", "source"), "meta.id;meta.file"),
    **dict.fromkeys(("ra", "objra"), "pos.eq.ra;meta.main"),
    **dict.fromkeys(("dec", "objdec"), "pos.eq.dec;meta.main"),
    **dict.fromkeys(("radius", "separation"), "pos.angDistance"),
    "_healpix_29": "pos.healpix",
    "xpos": "pos.cartesian.x;instr.det",
    "ypos": "pos.cartesian.y;instr.det",
    "x": "pos.cartesian.x",
    "y": "pos.cartesian.y",
    "z": "pos.cartesian.z",
    "astrometricrms": "stat.stdev;pos.eq",
    "poserr": "stat.error;pos.eq",
    "posscatter": "stat.stdev;pos.eq",
    **dict.fromkeys(("hmjd", "obsmjd", "obshjd", "mjd", "firsthmjd", "lasthmjd"), "time.epoch"),
    "exptime": "time.duration;obs.exposure",
    "fracday": "time.epoch",
    **dict.fromkeys(("ipac_pub_date", "datetimematched", "datetimecalibrated", "calibratedsince"), "time.processing"),
    **{name: ";".join(filter(None, ("phot.mag", what, "em.opt"))) for name, what in _MAGNITUDES.items()},
    **dict.fromkeys(("magerr", "refmagerr", "psfmagerr", "magerrmodel"), "stat.error;phot.mag;em.opt"),
    "medmagerr": "stat.error;phot.mag;stat.median",
    **dict.fromkeys(("psfmag", "uncalibmeanmag"), "phot.mag;instr.calib"),
    **dict.fromkeys(("magrms", "weightedmagrms", "medianabsdev"), "stat.stdev;phot.mag"),
    **dict.fromkeys(("dmag", "relzp", "flatdelta"), "phot.mag;arith.diff"),
    **dict.fromkeys(("g_mag", "r_mag", "i_mag"), "phot.mag;stat.median;em.opt"),
    **dict.fromkeys(("g_scatter", "r_scatter", "i_scatter"), "stat.stdev;phot.mag"),
    **dict.fromkeys(("g_first", "r_first", "i_first", "g_last", "r_last", "i_last"), "time.epoch"),
    **dict.fromkeys(("g_r", "r_i"), "phot.color"),
    "offset": "phot.mag;arith.diff",
    "error": "stat.error;phot.mag",
    **dict.fromkeys(("lineartrend", "maxslope"), "arith.rate;phot.mag"),
    **dict.fromkeys(("psfflux",), "phot.flux;em.opt"),
    **dict.fromkeys(("psffluxerr",), "stat.error;phot.flux;em.opt"),
    **dict.fromkeys(("refsnr", "snr"), "stat.snr"),
    **dict.fromkeys(("chi", "refchi", "chisq"), "stat.fit.chi2"),
    **dict.fromkeys(("sharp", "refsharp"), "src.morph.param"),
    **dict.fromkeys(("magzp", "referencezp", "zpmed"), "phot.mag;arith.zp"),
    **dict.fromkeys(("magzpunc", "referencezperr"), "stat.error;phot.mag;arith.zp"),
    **dict.fromkeys(("magzprms", "relzprms", "relscatter", "flatrms", "clrrms"), "stat.stdev;phot.mag"),
    **dict.fromkeys(("clrcoeff", "zpclrcov"), "phot.color;instr.calib"),
    "clrcounc": "stat.error;phot.color;instr.calib",
    "clrmed": "phot.color;stat.median",
    **dict.fromkeys(("maglimit", "globalmaglimit", "systematiclimit"), "phot.mag;stat.min"),
    "saturatedmag": "phot.mag;instr.saturation",
    **dict.fromkeys(("zero", "gx", "gy", "qxx", "qxy", "qyy"), "phot.mag;arith.diff"),
    "colour": "phot.color;em.opt",
    "airmass": "obs.airMass",
    "seeing": "instr.obsty.seeing",
    "gmedian": "instr.background;stat.median",
    "con": "src.var.index",
    **dict.fromkeys(("stetsonj", "stetsonk", "vonneumannratio"), "src.var.index"),
    "skewness": "stat.param",
    "smallkurtosis": "stat.param",
    **dict.fromkeys(_COUNTS, "meta.number"),
    "size": "meta.number",
    **dict.fromkeys(("errora", "errorb", "errorc", "errord"), "stat.param"),
}


def ucd_of(name: str) -> str:
    """UCD of a column; empty where none says what it is."""
    if name.startswith("percentiles_"):
        return "phot.mag;stat.value"
    if name.startswith(("nabove", "nbelow", "nconsec")):
        return "meta.number"
    return UCDS.get(name, "")
