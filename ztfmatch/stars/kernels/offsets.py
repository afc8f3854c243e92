"""Zero-point offsets between units from shared stars: an ubercalibration from overlaps.

An object of star s in unit u has the median magnitude m = M_s + z_u + noise. The magnitudes M_s are eliminated star by
star, exactly: what remains of a star with weights w_u, W their sum, and the mean m' = sum(w_u m_u) / W, are the normal
equations

    N_uu += w_u - w_u^2 / W        N_uv -= w_u w_v / W        b_u += w_u (m_u - m')

which add up over stars and tiles. N is the Laplacian of the graph whose nodes are units and whose edges are shared
stars: singular by a constant for each group that edges connect, which is why the mean of a group is set to 0
(Padmanabhan et al. 2008, ApJ 674, 1217, solve the same with more terms). Outliers are left out by their residuals in
the solution before, star by star.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Array, Floats, Ids
from ztfmatch.core.kernelcache import njit

DENSE_UNITS: Final = 1500
"""Of a group of so many units errors are those of the whole covariance; of a larger one each unit's own, which leaves
out what chains of overlaps add."""
_TOLERANCE: Final = 1e-12
_MOST_STEPS: Final = 20_000


@njit(cache=True, nogil=True)
def star_equations(star: Ids, unit: Ids, mag: Floats, weight: Floats, offset: Floats, clip: Any) -> tuple[Any, ...]:
    """Normal equations of stars, one row a pair of units of a star.

    Parameters
    ----------
    star, unit : int64 ndarray, shape (N,)
        Number of the star, ascending, and row of the unit in ``offset``.
    mag, weight : float64 ndarray, shape (N,)
    offset : float64 ndarray, shape (U,)
        The solution before.
    clip : (float, float)
        Objects are left out that are farther from the mean of their star than the first, mag, and than the second times
        their error.

    Returns
    -------
    first, second : int64 ndarray, shape (K,)
        Units; of an entry on the diagonal both are the same.
    entry, right : float64 ndarray, shape (K,)
        Entry of the matrix, and of the right side (on the diagonal; else 0).
    squares, used : float
        Sum of squares of the residuals over their errors, and the number of objects less that of stars.
    """
    n = star.shape[0]
    rows = 0
    begin = 0
    while begin < n:
        end = _end(star, begin)
        rows += (end - begin) * (end - begin)
        begin = end
    first, second = np.empty(rows, np.int64), np.empty(rows, np.int64)
    entry, right = np.empty(rows), np.zeros(rows)
    kept = np.empty(n, np.bool_)
    at, squares, used = 0, 0.0, 0
    begin = 0
    while begin < n:
        end = _end(star, begin)
        # Which objects count: those near the median of the star, with the offsets of the round before.
        middle = _median_of(mag[begin:end] - offset[unit[begin:end]])
        total = sum_m = 0.0
        number = 0
        for i in range(begin, end):
            away = abs(mag[i] - offset[unit[i]] - middle)
            kept[i] = away <= max(clip[0], clip[1] / np.sqrt(weight[i]))
            if kept[i]:
                total += weight[i]
                sum_m += weight[i] * mag[i]
                number += 1
        # The star's part in the normal equations; one object alone says nothing of offsets.
        if number > 1:
            used += number - 1
            reduced = 0.0
            for i in range(begin, end):
                if kept[i]:
                    reduced += weight[i] * (mag[i] - offset[unit[i]])
            for i in range(begin, end):
                if not kept[i]:
                    continue
                squares += weight[i] * (mag[i] - offset[unit[i]] - reduced / total) ** 2
                for k in range(begin, end):
                    if kept[k]:
                        first[at], second[at] = unit[i], unit[k]
                        entry[at] = -weight[i] * weight[k] / total
                        if i == k:
                            entry[at] += weight[i]
                            right[at] = weight[i] * (mag[i] - sum_m / total)
                        at += 1
        begin = end
    return first[:at], second[:at], entry[:at], right[:at], squares, float(used)


@njit(cache=True, nogil=True)
def _end(star: Any, begin: int) -> int:
    end = begin
    while end < star.shape[0] and star[end] == star[begin]:
        end += 1
    return end


@njit(cache=True, nogil=True)
def _median_of(values: Any) -> float:
    """Of an even number the mean of the middle two: of two objects neither is the outlier."""
    part = np.sort(values)
    return 0.5 * float(part[(part.shape[0] - 1) // 2] + part[part.shape[0] // 2])


def summed(first: Ids, second: Ids, *values: Floats) -> tuple[Ids, ...]:
    """Entries of the same pair of units added up; returns both and the sums, then how many there were."""
    many = int(second.max(initial=0)) + 1
    pairs, inverse, counts = np.unique(first.astype(np.int64) * many + second, return_inverse=True, return_counts=True)
    sums = (np.bincount(inverse, value, len(counts)) for value in values)
    return (*np.divmod(pairs, many), *sums, counts)


def groups_of(first: Ids, second: Ids, units: int) -> Ids:
    """Number of the group of each unit that pairs connect, from 0 in order of the lowest unit, shape (units,)."""
    # Every unit takes the lowest label beside it, then the label of that label, so that chains shorten by half.
    label = np.arange(units)
    while True:
        low = label.copy()
        np.minimum.at(low, first, label[second])
        np.minimum.at(low, second, label[first])
        low = low[low]
        if (low == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = low


def solve(first: Ids, second: Ids, entry: Floats, right: Floats, group: Ids) -> Floats:
    """Offsets of units by conjugate gradients, the mean of each group 0.

    Parameters
    ----------
    first, second : int64 ndarray, shape (K,)
    entry, right : float64 ndarray, shape (K,)
    group : int64 ndarray, shape (U,)
        Of each unit.
    """
    units = len(group)
    size = np.bincount(group)

    def centred(values: Array) -> Floats:
        return np.asarray(values - (np.bincount(group, values) / size)[group])

    # The matrix is singular by a constant a group. With all vectors kept at mean 0 in each, it is definite there.
    b = centred(np.bincount(first, right, units))
    diagonal = np.bincount(first[first == second], entry[first == second], units)
    scale = 1.0 / np.where(diagonal > 0.0, diagonal, 1.0)
    x, r = np.zeros(units), b.copy()
    p = d = centred(scale * r)
    rho = float(r @ d)
    for _ in range(_MOST_STEPS):
        if float(np.abs(r).max(initial=0.0)) <= _TOLERANCE * max(float(np.abs(b).max(initial=0.0)), 1.0):
            break
        q = np.bincount(first, entry * p[second], units)
        step = rho / float(p @ q)
        x, r = x + step * p, r - step * q
        d = centred(scale * r)
        rho, before = float(r @ d), rho
        p = d + (rho / before) * p
    return centred(x)


def offset_errors(first: Ids, second: Ids, entry: Floats, group: Ids) -> Floats:
    """Errors of offsets for residuals as large as their errors say, shape (U,); infinite where nothing is shared."""
    units = len(group)
    diagonal = np.bincount(first[first == second], entry[first == second], units)
    error = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)), np.inf)
    place = np.zeros(units, np.int64)
    for number in np.flatnonzero((np.bincount(group) <= DENSE_UNITS) & (np.bincount(group) > 1)).tolist():
        members = np.flatnonzero(group == number)
        place[members] = np.arange(len(members))
        mine = group[first] == number
        matrix = np.zeros((len(members), len(members)))
        np.add.at(matrix, (place[first[mine]], place[second[mine]]), entry[mine])
        error[members] = np.sqrt(np.maximum(np.diagonal(np.linalg.pinv(matrix, hermitian=True)), 0.0))
    return error
