"""Ways to damage a FITS catalog, each a function of its bytes and a random generator."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import numpy as np

BLOCK, CARD = 2880, 80
Rng = np.random.Generator
Damage = Callable[[bytes, Rng], bytes]

STRUCTURE = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "EXTEND"),
    *("TTYPE1", "TFORM1", "TTYPE4", "TFORM4", "TFORM13", "TTYPE13", "TFORM7"),
)
"""Keys that say how the bytes are laid out."""

FOREIGN = (
    *("TSCAL4", "TZERO4", "TNULL1", "TDIM4", "THEAP", "BLANK", "BSCALE", "BZERO", "GROUPS", "CONTINUE", "TBCOL1"),
    *("ZCMPTYPE", "ZIMAGE", "ZTABLE", "ZNAXIS1", "ZTILELEN", "ZFORM1", "ZCTYP1", "CHECKSUM", "DATASUM", "INHERIT"),
)
"""Keys that the survey's catalogs do not have."""

VALUES = (
    *("0", "1", "2", "8", "13", "58", "59", "-1", "-32", "999", "1000", "65535", "4294967296", "1000000000000"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "9" * 40, "9" * 68, "1e308", "1E400"),
    *("NAN", "INF", "T", "F", "''", "'", "'BINTABLE'", "'IMAGE   '", "'TABLE   '", "'1D'", "'1E'", "'D'", "'0D'"),
    *("'1K'", "'2D'", "'1PD(9)'", "'1QD(9)'", "'16A'", "'1X'", "'1L'", "'1C'", "'99999999999D'", "'RICE_1'"),
    *("'GZIP_2'", "'flux'", "'FLUX'", "'ra'", "1_000", "0x10", "٣", "1.5", "3.0", "1D3", "(1, 2)", "", " / "),
)


def cards_of(data: bytes) -> list[int]:
    """Places of the cards of both headers."""
    places, ends = [], 0
    for at in range(0, len(data) - CARD + 1, CARD):
        places.append(at)
        ends += data[at : at + 8] == b"END     "
        if ends == 2:
            break
    return places


def cut_at_a_boundary(data: bytes, rng: Rng) -> bytes:
    """End after some block or card of the headers or the data, or a byte beside it."""
    step = int(rng.choice([BLOCK, CARD]))
    return data[: max(0, int(rng.integers(0, len(data) // step + 1)) * step + int(rng.integers(-1, 2)))]


def cut_anywhere(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def flip_bits(data: bytes, rng: Rng) -> bytes:
    """Some bits, of the headers more often than of the data."""
    damaged = bytearray(data)
    end = len(data) if rng.random() < 0.3 else cards_of(data)[-1] + CARD
    for _ in range(int(rng.choice([1, 1, 2, 8, 64]))):
        damaged[int(rng.integers(0, end))] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def change_a_structure_card(data: bytes, rng: Rng) -> bytes:
    """Another value for a key of the layout, in one header or the other."""
    key = str(rng.choice(STRUCTURE))
    places = [at for at in cards_of(data) if data[at : at + 8].decode("latin-1").rstrip() == key]
    return _with_card(data, int(rng.choice(places)), key, rng) if places else add_a_card(data, rng)


def add_a_card(data: bytes, rng: Rng) -> bytes:
    """A foreign key, or one of the layout a second time, over some card."""
    return _with_card(data, int(rng.choice(cards_of(data))), str(rng.choice(FOREIGN + STRUCTURE)), rng)


def _with_card(data: bytes, at: int, key: str, rng: Rng) -> bytes:
    card = f"{key:<8}= {VALUES[rng.integers(0, len(VALUES))]:>20}".encode()[:CARD].ljust(CARD)
    return data[:at] + card + data[at + CARD :]


def change_any_card(data: bytes, rng: Rng) -> bytes:
    """Another value for whatever key stands there."""
    at = int(rng.choice(cards_of(data)))
    return _with_card(data, at, data[at : at + 8].decode("latin-1").rstrip(), rng)


def lose_a_card(data: bytes, rng: Rng) -> bytes:
    """Blank it, cut it out, or swap it with another; it may be END."""
    places = cards_of(data)
    at = places[-1] if rng.random() < 0.2 else int(rng.choice(places))
    kind = rng.integers(0, 3)
    if kind == 0:
        return data[:at] + b" " * CARD + data[at + CARD :]
    if kind == 1:
        return data[:at] + data[at + CARD :]
    first, second = sorted((at, int(rng.choice(places))))
    return b"".join([
        data[:first], data[second : second + CARD], data[first + CARD : second],
        data[first : first + CARD] if second > first else b"", data[second + CARD :],
    ])  # fmt: skip


def junk_over(data: bytes, rng: Rng) -> bytes:
    """Random bytes, text or zeros over some part."""
    at, length = int(rng.integers(0, len(data))), int(rng.choice([1, 8, 80, 2880]))
    junk = [rng.bytes(length), bytes(length), b" " * length, "é".encode() * length, b"\xff" * length]
    return data[:at] + junk[rng.integers(0, len(junk))][:length] + data[at + length :]


def repeat_or_drop_a_block(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, len(data) // BLOCK + 1)) * BLOCK
    again = data[at : at + BLOCK] * int(rng.choice([0, 2, 70]))
    return data[:at] + again + data[at + BLOCK :]


def compress(data: bytes, rng: Rng) -> bytes:
    """A gzip stream, whole, cut or corrupted."""
    stream = gzip.compress(data, 1)
    return [stream, cut_anywhere(stream, rng), flip_bits_of(stream, rng)][rng.integers(0, 3)]


def flip_bits_of(stream: bytes, rng: Rng) -> bytes:
    damaged = bytearray(stream)
    damaged[int(rng.integers(0, len(stream)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def nothing_of_it(data: bytes, rng: Rng) -> bytes:
    """Random bytes, of any length, with or without the right beginning."""
    return (b"SIMPLE  =" if rng.random() < 0.5 else b"") + rng.bytes(int(rng.integers(0, 9000)))


def as_it_is(data: bytes, rng: Rng) -> bytes:
    return data


ALL: tuple[Damage, ...] = (
    cut_at_a_boundary, cut_anywhere, flip_bits, change_a_structure_card, change_a_structure_card, add_a_card,
    change_any_card, lose_a_card, junk_over, repeat_or_drop_a_block, compress, nothing_of_it, as_it_is,
)  # fmt: skip


def damaged(data: bytes, seed: int) -> bytes:
    """One or a few damages, decided by the seed."""
    rng = np.random.default_rng(seed)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if len(data) > BLOCK:
            data = ALL[rng.integers(0, len(ALL))](data, rng)
    return data
