"""Sums over the good epochs of one lightcurve. Compiled parts of ``statistics``.

Arguments are the first n elements of: t, days since the first good epoch; m, magnitudes; inverse, 1/magerr,
NaN where magerr is not positive; good, the rows of the good epochs in the arrays of all. Undefined is NaN.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Ints, Singles
from ztfmatch.core.kernels.elementary import log10
from ztfmatch.core.kernels.ranks import jit
from ztfmatch.core.kernels.sphere import sincos_degrees

Float3 = tuple[float, float, float]
Float4 = tuple[float, float, float, float]
Int5 = tuple[int, int, int, int, int]

_SMALL_ANGLE_RAD: Final = 0.02
_LAST_POINTS: Final = 30


@jit
def position_rms(ra: Floats, dec: Floats, good: Ints, n: int) -> float:
    """Return the RMS distance from the mean position in degrees, on the plane tangent at the first epoch."""
    ra_0, dec_0 = ra[good[0]], dec[good[0]]
    sin_0, cos_0 = sincos_degrees(dec_0)
    sum_x, sum_y, sum_xx, sum_yy = 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        i = good[j]
        x, y = _tangent_offset(ra[i] - ra_0, dec[i] - dec_0, sin_0, cos_0)
        sum_x += x
        sum_y += y
        sum_xx += x * x
        sum_yy += y * y
    variance = (sum_xx - sum_x * sum_x / n + sum_yy - sum_y * sum_y / n) / n
    return math.degrees(math.sqrt(max(variance, 0.0)))


@jit
def _tangent_offset(ra_difference: float, dec_difference: float, sin_0: float, cos_0: float) -> tuple[float, float]:
    """Return the orthographic offsets east and north in radians, at the poles too; degrees in."""
    if ra_difference > 180.0:
        ra_difference -= 360.0
    elif ra_difference < -180.0:
        ra_difference += 360.0
    a, d = math.radians(ra_difference), math.radians(dec_difference)
    if abs(a) < _SMALL_ANGLE_RAD and abs(d) < _SMALL_ANGLE_RAD:
        aa, dd = a * a, d * d
        sin_a = a * (1.0 - aa / 6.0 * (1.0 - aa / 20.0))
        versine_a = aa / 2.0 * (1.0 - aa / 12.0 * (1.0 - aa / 30.0))
        sin_d = d * (1.0 - dd / 6.0 * (1.0 - dd / 20.0))
        cos_d = 1.0 - dd / 2.0 * (1.0 - dd / 12.0 * (1.0 - dd / 30.0))
    else:
        sin_a, versine_a = sincos_degrees(ra_difference)[0], 2.0 * sincos_degrees(ra_difference / 2.0)[0] ** 2
        sin_d, cos_d = sincos_degrees(dec_difference)
    cos_dec = cos_0 * cos_d - sin_0 * sin_d
    return cos_dec * sin_a, sin_d + cos_dec * sin_0 * versine_a


@jit
def mean_uncalibrated(psfflux: Singles, good: Ints, n: int) -> float:
    """Return the mean of -2.5 log10(psfflux); one logarithm of many factors is faster and as exact."""
    total, product = 0.0, 1.0
    for j in range(n):
        flux = psfflux[good[j]]
        product *= flux if flux > 0.0 else np.nan
        if product > 1e200 or product < 1e-200:
            total += log10(product)
            product = 1.0
    return float(-2.5 * (total + log10(product)) / n)


@jit
def means(m: Floats, inverse: Floats, n: int) -> Float3:
    """Return mean, weighted mean and sum of weights; the means are exact for a constant lightcurve."""
    total, weighted, weight = 0.0, 0.0, 0.0
    for j in range(n):
        w = inverse[j] * inverse[j]
        difference = m[j] - m[0]
        total += difference
        weighted += w * difference
        weight += w
    return m[0] + total / n, m[0] + weighted / weight, weight


@jit
def moments(m: Floats, n: int, mean: float) -> Float3:
    """Return standard deviation, skewness and small-sample kurtosis."""
    sum_2, sum_3, sum_4 = 0.0, 0.0, 0.0
    for j in range(n):
        d = m[j] - mean
        dd = d * d
        sum_2 += dd
        sum_3 += d * dd
        sum_4 += dd * dd
    variance, skewness, kurtosis = np.nan, np.nan, np.nan
    if n > 1:
        variance = sum_2 / (n - 1)
    if n > 2:
        skewness = sum_3 / (sum_2 * math.sqrt(sum_2 / n))
    if n > 3:
        tail = (n - 1.0) / ((n - 2.0) * (n - 3.0))
        fourth = sum_4 / (variance * variance)
        kurtosis = tail * (n * (n + 1.0) / (n - 1.0) ** 2 * fourth - 3.0 * (n - 1.0))
    return math.sqrt(variance), skewness, kurtosis


@jit
def series(t: Floats, m: Floats, n: int, std: float) -> Float3:
    """Return linear trend, steepest slope (-inf if undefined) and von Neumann ratio."""
    mean_t = 0.0
    for j in range(n):
        mean_t += t[j]
    mean_t /= n
    steepest, sum_steps, sum_tt, sum_tm = -np.inf, 0.0, mean_t * mean_t, 0.0
    for j in range(1, n):
        step, interval, dt = m[j] - m[j - 1], t[j] - t[j - 1], t[j] - mean_t
        if interval != 0.0:
            steepest = max(steepest, step / interval)
        sum_steps += step * step
        sum_tt += dt * dt
        sum_tm += dt * (m[j] - m[0])
    return sum_tm / sum_tt, steepest, sum_steps / (n - 1) / (std * std)


@jit
def weighted(m: Floats, inverse: Floats, n: int, mean: float, weight: float) -> Float4:
    """Return chi-square, weighted RMS, Stetson J and Stetson K about the weighted mean."""
    if n < 2:
        return np.nan, np.nan, np.nan, np.nan
    chi_2, sum_absolute, sum_pairs, previous = 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        d = (m[j] - mean) * inverse[j]
        absolute = abs(d)
        root = math.copysign(math.sqrt(absolute), d)
        chi_2 += d * d
        sum_absolute += absolute
        sum_pairs += previous * root
        previous = root
    reduced = chi_2 / (n - 1)
    stetson_j = math.sqrt(n / (n - 1)) * sum_pairs / (n - 1)
    return reduced, math.sqrt(reduced * n / weight), stetson_j, sum_absolute / math.sqrt(chi_2 * n)


@jit
def beyond(m: Floats, n: int, mean: float, distance: float) -> Int5:
    """Return the numbers of points above and below, and the longest runs above, below and either."""
    n_above, n_below = 0, 0
    run_above, run_below, run_from = 0, 0, 0
    longest_above, longest_below, longest_from = 0, 0, 0
    for j in range(n):
        d = m[j] - mean
        above, below = 1 if d > distance else 0, 1 if -d > distance else 0
        n_above += above
        n_below += below
        run_above = (run_above + 1) * above
        run_below = (run_below + 1) * below
        run_from = (run_from + 1) * (above + below)
        longest_above = max(longest_above, run_above)
        longest_below = max(longest_below, run_below)
        longest_from = max(longest_from, run_from)
    return n_above, n_below, longest_above, longest_below, longest_from


@jit
def outside(m: Floats, n: int, centre: float, distance: float) -> int:
    """Return the number of points farther from the centre than the distance."""
    total = 0
    for j in range(n):
        total += abs(m[j] - centre) > distance
    return total


@jit
def con(m: Floats, n: int, median: float, distance: float) -> float:
    """Return 1 + the fraction of points in runs of three or more, all beyond the distance from the median."""
    if n < 3:
        return np.nan
    total, run = 0, 0
    for j in range(n):
        run = run + 1 if abs(m[j] - median) > distance else 0
        if run == 3:
            total += 3
        elif run > 3:
            total += 1
    return 1.0 + total / n


@jit
def brightenings(t: Floats, m: Floats, n: int) -> int:
    """Return the number of consecutive pairs that brighten among the last 30 points."""
    total = 0
    for j in range(max(n - _LAST_POINTS, 0) + 1, n):
        total += m[j] < m[j - 1] and t[j] != t[j - 1]
    return total
