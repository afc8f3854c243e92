"""Logarithm, exponential and arc tangent that every processor computes to the same bit.

NumPy and the C library choose among several versions of these by what the processor has (AVX-512, fused multiply and
add), which differ in the last bit. What is stored must not depend on the machine that a task ran on. These are of
additions, multiplications, divisions and square roots alone, which IEEE 754 defines to the bit, in an order that the
compiler keeps. The methods and constants are those of Sun's fdlibm (e_log.c, e_log10.c, e_exp.c, s_atan.c); errors are
below two units in the last place.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.kernelcache import njit

_LN2_HIGH: Final = 6.93147180369123816490e-01
_LN2_LOW: Final = 1.90821492927058770002e-10
_INVERSE_LN2: Final = 1.44269504088896338700e00
_INVERSE_LN10: Final = 4.34294481903251816668e-01
_LOG10_2_HIGH: Final = 3.01029995663611771306e-01
_LOG10_2_LOW: Final = 3.69423907715893078616e-13
_SQRT_HALF: Final = 0.7071067811865476

# (log(1+s) - log(1-s) - 2 s) / s as a polynomial in s^2, for a mantissa between sqrt(1/2) and sqrt(2).
_L1, _L2, _L3, _L4 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
)
_L5, _L6, _L7 = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01

# x - (exp(x) - 1) / (exp(x) + 1) * 2 as a polynomial in x^2, for |x| below ln(2)/2.
_P1, _P2, _P3 = 1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05
_P4, _P5 = -1.65339022054652515390e-06, 4.13813679705723846039e-08

# (x - atan(x)) / x as a polynomial in x^2, for |x| below 7/16.
_A0, _A1, _A2 = 3.33333333333329318027e-01, -1.99999999998764832476e-01, 1.42857142725034663711e-01
_A3, _A4, _A5 = -1.11111104054623557880e-01, 9.09088713343650656196e-02, -7.69187620504482999495e-02
_A6, _A7, _A8 = 6.66107313738753120669e-02, -5.83357013379057348645e-02, 4.97687799461593236017e-02
_A9, _A10 = -3.65315727442169155270e-02, 1.62858201153657823623e-02

# atan of 1/2, 1, 3/2 and infinity, and what is left of it below the last bit.
_ATAN_HALF, _ATAN_HALF_LOW = 4.63647609000806093515e-01, 2.26987774529616870924e-17
_ATAN_ONE, _ATAN_ONE_LOW = 7.85398163397448278999e-01, 3.06161699786838301793e-17
_ATAN_3_HALVES, _ATAN_3_HALVES_LOW = 9.82793723247329054082e-01, 1.39033110312309984516e-17
_HALF_PI, _HALF_PI_LOW = 1.57079632679489655800e00, 6.12323399573676603587e-17


@njit(cache=True, nogil=True)
def log10(x: float) -> float:
    """Logarithm to base 10: NaN below zero, -inf at zero."""
    if not x > 0.0 or x == np.inf:
        return -np.inf if x == 0.0 else (x if x > 0.0 else np.nan)
    mantissa, exponent = math.frexp(x)  # exact
    if mantissa < _SQRT_HALF:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
    half = 0.5 * f * f
    log = f - (half - s * (half + r))
    return (exponent * _LOG10_2_LOW + _INVERSE_LN10 * log) + exponent * _LOG10_2_HIGH


@njit(cache=True, nogil=True)
def exp(x: float) -> float:
    """Exponential function; infinite from 709 on, 0 below -745."""
    if not -745.0 < x < 709.0:
        return x + x if x != x else (np.inf if x > 0.0 else 0.0)
    k = math.floor(_INVERSE_LN2 * x + 0.5)
    high, low = x - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (_P1 + t * (_P2 + t * (_P3 + t * (_P4 + t * _P5))))
    return math.ldexp(1.0 - ((low - (r * c) / (2.0 - c)) - high), k)  # exact, but for subnormal results


@njit(cache=True, nogil=True)
def _atan(x: float) -> float:
    """Arc tangent of a number that is not negative."""
    if x < 0.4375:
        high, low = 0.0, 0.0
    elif x < 0.6875:
        high, low, x = _ATAN_HALF, _ATAN_HALF_LOW, (2.0 * x - 1.0) / (2.0 + x)
    elif x < 1.1875:
        high, low, x = _ATAN_ONE, _ATAN_ONE_LOW, (x - 1.0) / (x + 1.0)
    elif x < 2.4375:
        high, low, x = _ATAN_3_HALVES, _ATAN_3_HALVES_LOW, (x - 1.5) / (1.0 + 1.5 * x)
    else:
        high, low, x = _HALF_PI, _HALF_PI_LOW, -1.0 / x
    z = x * x
    series = _A5 + z * (_A6 + z * (_A7 + z * (_A8 + z * (_A9 + z * _A10))))
    series = z * (_A0 + z * (_A1 + z * (_A2 + z * (_A3 + z * (_A4 + z * series)))))
    return high - ((x * series - low) - x)


@njit(cache=True, nogil=True)
def atan2(y: float, x: float) -> float:
    """Angle of the point (x, y) in radians, -pi to pi; 0 at the origin."""
    if x == 0.0 and y == 0.0:
        return 0.0
    steep = math.fabs(y) > math.fabs(x)
    angle = _atan(math.fabs(x / y if steep else y / x))
    if steep:
        angle = _HALF_PI - (angle - _HALF_PI_LOW)
    if x < 0.0:
        angle = 2.0 * _HALF_PI - (angle - 2.0 * _HALF_PI_LOW)
    return math.copysign(angle, y)


@njit(cache=True, nogil=True)
def log10_of(values: Floats) -> Floats:
    """:func:`log10` of each value, shape (N,)."""
    out = np.empty(values.shape[0])
    for i in range(values.shape[0]):
        out[i] = log10(values[i])
    return out


@njit(cache=True, nogil=True)
def atan2_of(y: Floats, x: Floats) -> Floats:
    """:func:`atan2` of each pair, shape (N,)."""
    out = np.empty(y.shape[0])
    for i in range(y.shape[0]):
        out[i] = atan2(y[i], x[i])
    return out
