"""Coverage maps as mocpy writes them, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ztfmatch.errors import ConfigError
from ztfmatch.io.moc import ORDER, read_moc

SUFFIXES = {"fits": ".fits", "json": ".json", "ascii": ".txt"}


@pytest.mark.parametrize("form", SUFFIXES)
def test_read_moc_is_what_mocpy_wrote(tmp_path: Path, form: str) -> None:
    mocpy = pytest.importorskip("mocpy", reason="mocpy is not installed")
    units = pytest.importorskip("astropy.units")
    angles = {"lon": 359.5 * units.deg, "lat": 12.0 * units.deg, "radius": 3.0 * units.deg}
    moc = mocpy.MOC.from_cone(**angles, max_depth=9)
    moc = moc | mocpy.MOC.from_string("3/5 7-9 12/4000000")
    path = tmp_path / f"moc{SUFFIXES[form]}"
    moc.save(str(path), format=form)
    assert np.array_equal(read_moc(path), moc.to_depth29_ranges.astype(np.int64))


def test_read_moc_of_fits_with_unique_numbers_is_those_pixels(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    cells = [(0, 3), (5, 70), (29, 12345)]
    values = np.array([4 * 4**order + pixel for order, pixel in cells], np.int64)
    table = fits.BinTableHDU.from_columns([fits.Column("UNIQ", "K", array=values)])
    table.header["ORDERING"] = "NUNIQ"
    table.writeto(tmp_path / "moc.fits")
    expected = sorted((pixel << 2 * (ORDER - order), (pixel + 1) << 2 * (ORDER - order)) for order, pixel in cells)
    assert [tuple(pair) for pair in read_moc(tmp_path / "moc.fits").tolist()] == expected


def test_read_moc_joins_pixels_that_touch_or_overlap(tmp_path: Path) -> None:
    (tmp_path / "moc.json").write_text('{"1": [0, 1, 2, 3, 8], "2": [1, 17]}')
    whole = 1 << 2 * ORDER
    assert read_moc(tmp_path / "moc.json").tolist() == [
        [0, whole],
        [17 << 2 * (ORDER - 2), 18 << 2 * (ORDER - 2)],
        [2 * whole, 2 * whole + (whole >> 2)],
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty MOC"),
        (b"{}", "is an empty MOC"),
        (b"29/", "is an empty MOC"),
        (b"hello", "is no MOC: 'hello'; expected order/pixel"),
        (b"5", "is no MOC: order -1"),
        (b"0/12", "is no MOC: pixels 12 to 12 of order 0; expected 0..11"),
        (b"30/1", "is no MOC: order 30; expected 0..29"),
        (b'{"a": [1]}', "is no MOC"),
        (b'{"1": 5}', "is no MOC"),
        (b"{", "is no MOC"),
        (b"\xff\xfe", "is no MOC"),
        (b"SIMPLE  =", "is no MOC"),
    ],
)
def test_read_moc_of_what_is_none_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "moc.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_moc(path)


def test_read_moc_of_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"moc.fits: cannot be read: No such file"):
        read_moc(tmp_path / "moc.fits")
