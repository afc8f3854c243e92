"""Lightcurve statistics, one row per object: the statistics of the matchfile's ``sources`` table.

Conventions, which every description relies on:

- The *good* epochs are those with catflags = 0, mag finite and magerr finite; n is their number (ngoodobs).
  All statistics but nobs and nobsrel are made of the good epochs alone, in order of time: m_i = mag,
  e_i = magerr, t_i = hmjd.
- What too few epochs leave undefined is null, never NaN, 0 or garbage; the counts are then 0.
- "Above" means a larger magnitude, that is fainter.
- Magnitudes are float32; sums are made in float64 and rounded once, to float32.
- Pairs of epochs with the same hmjd have no slope and are skipped where a slope is asked for.
- A row is of one snapshot, whole. From new epochs and the row alone only nobs, nobsrel, ngoodobs, ngoodobsrel, minmag
  and maxmag could be carried forward to the last bit. Medians, percentiles and what is counted from them need all
  magnitudes in order; means and trends need float64 sums in order of time, which a row lacks, and nights may come
  late; moments and runs are about a mean that moves with each epoch. So an object with new epochs is computed from all
  of its epochs, and the row of another stays as it is.

The definitions are those of the ZSDS document 3.2 (2018) and of the PTF Objects table, mostly after Richards
et al. 2011 (ApJ 733, 10). Where the document leaves a choice, or the survey's files (2020) depart from it,
the description says what is done here.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import Column, Table, delta, few, split

PERCENTILES: Final = (
    *(("05", 5.0), ("10", 10.0), ("175", 17.5), ("25", 25.0), ("325", 32.5), ("40", 40.0)),
    *(("60", 60.0), ("675", 67.5), ("75", 75.0), ("825", 82.5), ("90", 90.0), ("95", 95.0)),
)
"""Suffix of the column and percentage."""

STANDARD_DEVIATIONS: Final = (1, 3, 5)
"""Thresholds of the columns that count points away from the mean."""

_FROM_0: Final = "Defined for every n"
_FROM_1: Final = "n = 0: null; n = 1, 2, 3: as defined"
_ZERO_AT_1: Final = "n = 0: null; n = 1: 0; n = 2, 3: as defined"
_FROM_2: Final = "n = 0, 1: null; n = 2, 3: as defined"
_FROM_3: Final = "n = 0, 1, 2: null; n = 3: as defined"
_FROM_4: Final = "n = 0, 1, 2, 3: null"
_COUNT_FROM_2: Final = "n = 0, 1: 0; n = 2, 3: as defined"
_ERRORS: Final = "null also where an e_i is not positive"


def _count(name: str, definition: str, undefined: str) -> Column:
    description = f"{definition}. {undefined}"
    return few(name, pa.int32(), "", description, "lightcurve")


def _value(name: str, unit: str, definition: str, undefined: str) -> Column:
    description = f"{definition}. {undefined}"
    return split(name, pa.float32(), unit, description, "lightcurve", True)


def _points_by_std(side: str, condition: str) -> tuple[Column, ...]:
    """Count the points beyond 1, 3 and 5 standard deviations on one side."""
    return tuple(
        _count(
            f"n{side}meanbystd_{k}",
            f"Number of points with {condition.format(k=k)}",
            f"{_COUNT_FROM_2}; always 0 where magrms = 0",
        )
        for k in STANDARD_DEVIATIONS
    )


def _runs_by_std(side: str, condition: str) -> tuple[Column, ...]:
    """Measure the runs of points beyond 1, 3 and 5 standard deviations on one side."""
    return tuple(
        _count(
            f"nconsec{side}meanbystd_{k}",
            f"Length of the longest run of consecutive points, all with {condition.format(k=k)}",
            f"{_COUNT_FROM_2}; always 0 where magrms = 0",
        )
        for k in STANDARD_DEVIATIONS
    )


_ABOVE: Final = "m_i - meanmag > {k} magrms (fainter)"
_BELOW: Final = "meanmag - m_i > {k} magrms (brighter)"
_FROM: Final = "|m_i - meanmag| > {k} magrms (either side)"

_KEYS: Final = (
    delta("objectid", pa.int64(), "", "The object", "objects", bounds=True),
    few(
        "snapshot",
        pa.int64(),
        "",
        "The snapshot it was computed from; of a tile that is up to date no epoch has come since",
        "store",
    ),
)

_OBSERVATIONS: Final = (
    _count("ngoodobs", "Number n of good epochs: catflags = 0, mag finite, magerr finite", _FROM_0),
    _count("ngoodobsrel", "Number of good epochs that are released", _FROM_0),
    _count("nobs", "Number of epochs, good or not, of all programs", _FROM_0),
    _count("nobsrel", "Number of epochs, good or not, that are released", _FROM_0),
)

_SCALARS: Final = (
    _value(
        "astrometricrms",
        "deg",
        "RMS distance of the positions from their mean: sqrt(sum((x_i - mean x)^2 + (y_i - mean y)^2) / n), "
        "x = ra cos(dec) and y = dec as offsets in the plane tangent at the first epoch (the survey's files "
        "seem to be in radians)",
        _ZERO_AT_1,
    ),
    _value(
        "chisq",
        "",
        "Reduced chi-square about the weighted mean: sum(((m_i - weightedmeanmag) / e_i)^2) / (n - 1)",
        f"{_FROM_2}; {_ERRORS}. The survey's files hold another quantity, 1.4826 medianabsdev / medmagerr",
    ),
    _value(
        "con",
        "",
        "1 + (number of points that belong to runs of at least three consecutive points, all with "
        "|m_i - medianmag| > 2 magrms) / n",
        "n = 0, 1, 2: null; n = 3: 1 (0 in the survey's files for n <= 3)",
    ),
    _value(
        "lineartrend",
        "mag/day",
        "Slope of the unweighted least-squares line: sum((t_i - mean t)(m_i - meanmag)) / sum((t_i - mean t)^2)",
        f"{_FROM_2} (0 in the survey's files for n <= 3); null also where all t_i are equal",
    ),
    _value("magrms", "mag", "Sample standard deviation: sqrt(sum((m_i - meanmag)^2) / (n - 1))", _FROM_2),
    _value("maxmag", "mag", "Largest, that is faintest, m_i", _FROM_1),
    _value(
        "maxslope",
        "mag/day",
        "Largest (m_[i+1] - m_i) / (t_[i+1] - t_i), with its sign (positive is fading), over consecutive "
        "points with different times",
        f"{_FROM_2} (0 in the survey's files for n <= 3); null also where all t_i are equal",
    ),
    _value("meanmag", "mag", "Unweighted mean: sum(m_i) / n", _FROM_1),
    _value(
        "medianabsdev",
        "mag",
        "Median of |m_i - medianmag|, not scaled by 1.4826",
        f"{_ZERO_AT_1} (0 in the survey's files for n <= 3)",
    ),
    _value("medianmag", "mag", "Median; mean of the middle two for even n", _FROM_1),
    _value("medmagerr", "mag", "Median of e_i; the lower of the middle two for even n", _FROM_1),
    _value("minmag", "mag", "Smallest, that is brightest, m_i", _FROM_1),
)

_COUNTS: Final = (
    *_points_by_std("above", _ABOVE),
    *_points_by_std("below", _BELOW),
    *_runs_by_std("above", _ABOVE),
    *_runs_by_std("below", _BELOW),
    *_runs_by_std("from", _FROM),
    _count(
        "nmedianbufferrange",
        "Number of points more than 20 % of the amplitude from the median: "
        "|m_i - medianmag| > 0.2 (maxmag - minmag)/2 (median and half the range as in Richards et al. and in "
        "the column's name; the ZSDS document has the weighted mean)",
        "n = 0, 1: 0; n = 2: 2 if the magnitudes differ; n = 3: as defined",
    ),
    _count(
        "npairposslope",
        "Number of brightenings, m_[i+1] < m_i, among the consecutive pairs with different times of the last "
        "30 points (pair_slope_trend of Richards et al.; at most 29)",
        _COUNT_FROM_2,
    ),
)

_PERCENTILES: Final = tuple(
    _value(
        f"percentiles_{suffix}",
        "mag",
        f"Percentile {percentage:g}: linear interpolation at rank (n - 1) {percentage:g}/100, from 0, of the "
        f"sorted m_i (the survey's files have the rank (n - 1)/{percentage:g})",
        _FROM_1,
    )
    for suffix, percentage in PERCENTILES
)

_SHAPES: Final = (
    _value(
        "skewness",
        "",
        "sum(d_i^3)/n / (sum(d_i^2)/n)^1.5 with d_i = m_i - meanmag",
        f"{_FROM_3} (0 in the survey's files for n <= 3); null also where magrms = 0",
    ),
    _value(
        "smallkurtosis",
        "",
        "Excess kurtosis for small samples: n(n+1)/((n-1)(n-2)(n-3)) sum(((m_i - meanmag)/magrms)^4) - "
        "3(n-1)^2/((n-2)(n-3))",
        f"{_FROM_4}; null also where magrms = 0",
    ),
    _value(
        "stetsonj",
        "",
        "Stetson J of one filter: sum(sign(P_i) sqrt|P_i|) / (n - 1) over the n - 1 consecutive pairs, "
        "P_i = d_i d_[i+1], d_i = sqrt(n/(n-1)) (m_i - weightedmeanmag) / e_i "
        "(Stetson 1996, PASP 108, 851; pairs as in Richards et al.)",
        f"{_FROM_2}; {_ERRORS}",
    ),
    _value(
        "stetsonk",
        "",
        "Stetson K: (sum|d_i| / n) / sqrt(sum(d_i^2) / n), d_i as in stetsonj (Stetson 1996); 0.798 for Gaussian noise",
        f"{_FROM_2}; {_ERRORS}, or all d_i are 0",
    ),
    _value(
        "vonneumannratio",
        "",
        "sum((m_[i+1] - m_i)^2) / (n - 1) / magrms^2; 2 for noise",
        f"{_FROM_2}; null also where magrms = 0",
    ),
    _value(
        "weightedmagrms",
        "mag",
        "sqrt(sum(w_i (m_i - weightedmeanmag)^2) / (sum(w_i) (n - 1)/n)), w_i = 1/e_i^2; magrms for equal errors",
        f"{_FROM_2}; {_ERRORS}",
    ),
    _value("weightedmeanmag", "mag", "sum(w_i m_i) / sum(w_i), w_i = 1/e_i^2", f"{_FROM_1}; {_ERRORS}"),
    _value(
        "uncalibmeanmag",
        "mag",
        "Mean of the uncalibrated magnitudes -2.5 log10(psfflux), without zero point (0 in the survey's files)",
        f"{_FROM_1}; null also where a psfflux is not positive",
    ),
)

STATISTICS: Final = Table(
    "statistics",
    "One row per object: statistics of its lightcurve in the named snapshot, made of its n good epochs "
    "(catflags = 0, mag and magerr finite) with magnitudes m_i, errors e_i and times t_i in days; null where "
    "n is too small or a denominator is 0, with counts then 0.",
    ("objectid",),
    (*_KEYS, *_OBSERVATIONS, *_SCALARS, *_COUNTS, *_PERCENTILES, *_SHAPES),
)
