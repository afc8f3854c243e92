"""Order statistics of one lightcurve: sort, select, percentiles. Compiled parts of ``statistics``.

Numbers are ordered as integers: the bits of a float32, rearranged into a key that grows with the number. Less
the smallest, the keys of a lightcurve span about 20 bits, which a radix sort does in two or three passes.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats, Ints
from ztfmatch.core.kernelcache import njit

UInt32s = npt.NDArray[np.uint32]

MAX_BUCKETS: Final = 2048

_SIGN_BIT: Final = 0x80000000
_ALL_BITS: Final = 0xFFFFFFFF
_INSERTION_LIMIT: Final = 24

jit: Final[Any] = functools.partial(njit, nogil=True, error_model="numpy")


@jit
def load_keys(bits: UInt32s, rows: Ints, n: int, keys: UInt32s) -> None:
    """Write the keys of the float32 bits at the first n rows."""
    for j in range(n):
        # Of negative numbers all bits are turned, since they grow downwards; of others the sign's, to come after them.
        b = np.int64(bits[rows[j]])
        keys[j] = b ^ _ALL_BITS if b >= _SIGN_BIT else b | _SIGN_BIT


@jit
def keys_to_floats(keys: UInt32s, n: int, out: Floats) -> None:
    """Write the numbers of the first n keys."""
    for j in range(n):
        out[j] = key_to_float(keys[j])


@jit
def key_to_float(key: np.uint32) -> float:
    """Return the number of one key."""
    b = np.int64(key)
    bits = np.uint32(b ^ _SIGN_BIT if b >= _SIGN_BIT else b ^ _ALL_BITS)
    return np.float64(bits.view(np.float32))


@jit
def sort(keys: UInt32s, spare: UInt32s, n: int, histogram: Ints) -> UInt32s:
    """Sort the first n keys; the result is in one of the two arrays, which is returned."""
    if n <= _INSERTION_LIMIT:
        _insertion_sort(keys, n)
        return keys
    # As many digits of like width as the span of the keys needs, from the lowest up: each pass keeps the order before.
    lowest, highest = _key_range(keys, n)
    bits = _bit_length(highest - lowest)
    passes = -(-bits // _digit_bits(n))
    width = -(-bits // passes) if passes else 0
    for p in range(passes):
        _radix_pass(keys, spare, n, lowest, p * width, width, histogram)
        keys, spare = spare, keys
    return keys


@jit
def select(keys: UInt32s, n: int, rank: int, histogram: Ints) -> np.uint32:
    """Return the key of a rank, from 0, among the first n, which are overwritten."""
    while n > _INSERTION_LIMIT:
        lowest, highest = _key_range(keys, n)
        if lowest == highest:
            return np.uint32(lowest)
        # Count by the highest digit, find the bucket that the rank falls into, go on with its keys alone.
        width = _digit_bits(n)
        shift = max(_bit_length(highest - lowest) - width, 0)
        _clear(histogram, 1 << width)
        for j in range(n):
            histogram[(np.int64(keys[j]) - lowest) >> shift] += 1
        wanted = 0
        while rank >= histogram[wanted]:
            rank -= histogram[wanted]
            wanted += 1
        n = _keep_bucket(keys, n, lowest, shift, wanted)
    _insertion_sort(keys, n)
    return np.uint32(keys[rank])


@jit
def _keep_bucket(keys: UInt32s, n: int, lowest: np.int64, shift: int, wanted: int) -> int:
    """Move the keys of one bucket to the front; return their number."""
    kept = 0
    for j in range(n):
        key = keys[j]
        keys[kept] = key  # whether or not it stays: without a branch that is guessed wrong half the time
        if (np.int64(key) - lowest) >> shift == wanted:
            kept += 1
    return kept


@jit
def _key_range(keys: UInt32s, n: int) -> tuple[np.int64, np.int64]:
    lowest, highest = np.int64(keys[0]), np.int64(keys[0])
    for j in range(1, n):
        key = np.int64(keys[j])
        lowest = min(lowest, key)
        highest = max(highest, key)
    return lowest, highest


@jit
def _bit_length(number: np.int64) -> int:
    length = 0
    while number >> length:
        length += 1
    return length


@jit
def _digit_bits(n: int) -> int:
    """Return the digit for which clearing the histogram costs little beside the n keys."""
    return 6 if n < 256 else (8 if n < 2048 else 11)


@jit
def _clear(histogram: Ints, n: int) -> None:
    for digit in range(n):
        histogram[digit] = 0


@jit
def _insertion_sort(keys: UInt32s, n: int) -> None:
    for j in range(1, n):
        key = keys[j]
        i = j - 1
        while i >= 0 and keys[i] > key:
            keys[i + 1] = keys[i]
            i -= 1
        keys[i + 1] = key


@jit
def _radix_pass(keys: UInt32s, out: UInt32s, n: int, lowest: np.int64, shift: int, width: int, histogram: Ints) -> None:
    """Copy the keys in order of one digit, and of equal digits in the order they have."""
    mask = (1 << width) - 1
    _clear(histogram, mask + 1)
    for j in range(n):
        histogram[((np.int64(keys[j]) - lowest) >> shift) & mask] += 1
    total = 0
    for digit in range(mask + 1):
        here = histogram[digit]
        histogram[digit] = total
        total += here
    for j in range(n):
        bucket = ((np.int64(keys[j]) - lowest) >> shift) & mask
        out[histogram[bucket]] = keys[j]
        histogram[bucket] += 1


@jit
def percentile(ordered: Floats, n: int, percentage: float) -> float:
    """Interpolate linearly in the first n sorted numbers, as ``numpy.percentile`` does."""
    rank = (n - 1) * percentage / 100.0
    low = int(rank)
    high = min(low + 1, n - 1)
    return np.float64(ordered[low] + (rank - low) * (ordered[high] - ordered[low]))


@jit
def median_deviation(ordered: Floats, n: int, median: float) -> float:
    """Return the median of |x - median|, walking outwards from the middle of the n sorted numbers."""
    # Deviations grow on both sides of the middle: the smaller of the two next ones is the next in order of size.
    left = (n - 1) // 2
    right = left + 1
    deviation, previous = 0.0, 0.0
    for _ in range(n // 2 + 1):
        previous = deviation
        below = median - ordered[left] if left >= 0 else np.inf
        above = ordered[right] - median if right < n else np.inf
        if below <= above:
            deviation = below
            left -= 1
        else:
            deviation = above
            right += 1
    return deviation if n % 2 else (previous + deviation) / 2.0
