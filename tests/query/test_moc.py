"""Coverage maps as mocpy writes them, and what is none."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ztfmatch.core.errors import ConfigError
from ztfmatch.query.io import moc
from ztfmatch.query.io.moc import ORDER, read_moc

SUFFIXES = {"fits": ".fits", "json": ".json", "ascii": ".txt"}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", SUFFIXES)
def test_read_moc_is_what_mocpy_wrote(tmp_path: Path, form: str, zipped: bool) -> None:
    mocpy = pytest.importorskip("mocpy", reason="mocpy is not installed")
    units = pytest.importorskip("astropy.units")
    angles = {"lon": 359.5 * units.deg, "lat": 12.0 * units.deg, "radius": 3.0 * units.deg}
    drawn = mocpy.MOC.from_cone(**angles, max_depth=9)
    drawn = drawn | mocpy.MOC.from_string("3/5 7-9 12/4000000")
    path = tmp_path / f"moc{SUFFIXES[form]}"
    drawn.save(str(path), format=form)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_moc(path), drawn.to_depth29_ranges.astype(np.int64))


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
        (b"hello", "is not a MOC: 'hello'; expected order/pixel"),
        (b"5", "is not a MOC: order -1"),
        (b"0/12", "is not a MOC: pixels 12 to 12 of order 0; expected 0..11"),
        (b"30/1", "is not a MOC: order 30; expected 0..29"),
        (b'{"a": [1]}', "is not a MOC"),
        (b'{"1": 5}', "is not a MOC: order 1 has 5; expected a list of pixels"),
        (b'{"1": "55"}', "is not a MOC: order 1 has '55'"),
        (b'{"1": [0.5]}', r"is not a MOC: order 1 has \[0.5\]"),
        (b"3/7-5", "is not a MOC: pixels 7 to 5 of order 3"),
        (gzip.compress(b"3/5", mtime=0)[:-9], "is not a MOC"),
        (gzip.compress(b"3/5 and more", mtime=0), "is not a MOC: 'and'"),
        (b"{", "is not a MOC"),
        (b'{"1": ' + b"[" * 100_000, "is not a MOC"),
        (b"\xff\xfe", "is not a MOC"),
        (b"SIMPLE  =", "is not a MOC"),
    ],
)
def test_read_moc_of_what_is_none_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "moc.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_moc(path)


def test_read_moc_that_unpacks_to_more_than_a_map_has_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moc, "_MAX_BYTES", 1000)
    (tmp_path / "moc.txt.gz").write_bytes(gzip.compress(b"3/5" + b" " * 998))
    with pytest.raises(ConfigError, match="is not a MOC: unpacked, it has more than 1000 bytes"):
        read_moc(tmp_path / "moc.txt.gz")
    (tmp_path / "moc.txt.gz").write_bytes(gzip.compress(b"3/5" + b" " * 997))
    assert len(read_moc(tmp_path / "moc.txt.gz")) == 1


def test_read_moc_of_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"moc.fits: cannot be read: No such file"):
        read_moc(tmp_path / "moc.fits")


def test_read_moc_of_json_with_an_order_twice_has_the_pixels_of_both(tmp_path: Path) -> None:
    (tmp_path / "moc.json").write_text('{"0": [3], "0": [5]}')
    whole = 1 << 2 * ORDER
    assert read_moc(tmp_path / "moc.json").tolist() == [[3 * whole, 4 * whole], [5 * whole, 6 * whole]]


UNIQUE = 4 * 4**1 + np.arange(48)
"""Every pixel of order 1."""
HEALPIX = {"PIXTYPE": "HEALPIX", "COORDSYS": "C"}


def write_table(path: Path, columns: dict[str, tuple[str, Any]], **header: Any) -> Path:
    fits = pytest.importorskip("astropy.io.fits")
    made = [fits.Column(name, form, array=np.asarray(values)) for name, (form, values) in columns.items()]
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(header)
    table.writeto(path)
    return path


@pytest.mark.parametrize(
    ("columns", "header", "said"),
    [
        (
            {"UNIQ": ("K", UNIQUE), "PROBDENSITY": ("D", UNIQUE / 48), "DISTMU": ("D", UNIQUE)},
            HEALPIX | {"ORDERING": "NUNIQ", "MOCORDER": 1, "INDXSCHM": "EXPLICIT"},
            r"is not a MOC: it is a multi-order sky map \(columns UNIQ, PROBDENSITY, DISTMU\), which covers the sky",
        ),
        (
            {"PIXEL": ("K", np.arange(10)), "SIGNAL": ("D", np.ones(10))},
            HEALPIX | {"ORDERING": "NESTED", "NSIDE": 64, "INDXSCHM": "EXPLICIT", "OBJECT": "PARTIAL"},
            r"is not a MOC: it is a HEALPix map in NESTED order \(columns PIXEL, SIGNAL\)",
        ),
        (
            {"HITS": ("J", UNIQUE)},
            HEALPIX | {"ORDERING": "RING", "NSIDE": 2, "INDXSCHM": "IMPLICIT"},
            r"is not a MOC: it is a HEALPix map in RING order \(columns HITS\)",
        ),
        ({"OBJID": ("K", UNIQUE)}, {}, r"is not a MOC: it is a table \(columns OBJID\); expected one column"),
        (
            {"PROB": ("D", UNIQUE)},
            HEALPIX | {"ORDERING": "NUNIQ"},
            r"is not a MOC: it is a table \(columns PROB\); expected one column of integers, and ORDERING",
        ),
        (
            {"UNIQ": ("K", UNIQUE)},
            HEALPIX | {"ORDERING": "NUNIQ", "COORDSYS": "G"},
            "is not a MOC: it is a coverage map with MOCDIM SPACE, COORDSYS G; expected SPACE and C",
        ),
        (
            {"RANGE": ("K", UNIQUE)},
            {"ORDERING": "RANGE", "MOCDIM": "TIME"},
            "is not a MOC: it is a coverage map with MOCDIM TIME, COORDSYS C; expected SPACE and C",
        ),
        ({"RANGE": ("K", [10, 5])}, {"ORDERING": "RANGE"}, "is not a MOC: a range that ends before it begins"),
        ({"RANGE": ("K", [5, 10, 20])}, {"ORDERING": "RANGE"}, "is not a MOC: 3 bounds of format K; expected pairs"),
        (
            {"RANGE": ("J", [5, 10])},
            {"ORDERING": "RANGE"},
            "is not a MOC: 2 bounds of format J; expected pairs of 64 bits",
        ),
    ],
)
def test_read_moc_of_fits_that_is_no_coverage_map_says_what_it_is(
    tmp_path: Path, columns: dict[str, tuple[str, Any]], header: dict[str, Any], said: str
) -> None:
    path = write_table(tmp_path / "map.fits", columns, **header)
    with pytest.raises(ConfigError, match=said):
        read_moc(path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ConfigError, match=said):
        read_moc(path)


def test_read_moc_of_fits_without_a_table_is_refused(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 3)))]).writeto(tmp_path / "image.fits")
    with pytest.raises(ConfigError, match=r"image.fits is not a MOC: it is a FITS file without a table"):
        read_moc(tmp_path / "image.fits")


@pytest.mark.parametrize("blocks", [1, 2])
def test_read_moc_of_fits_that_was_cut_is_refused(tmp_path: Path, blocks: int) -> None:
    """What is left of it is a smaller part of the sky, which mocpy would take it for."""
    path = write_table(tmp_path / "moc.fits", {"RANGE": ("K", np.arange(800))}, ORDERING="RANGE", COORDSYS="C")
    assert len(read_moc(path)) == 400
    path.write_bytes(path.read_bytes()[: -blocks * 2880])
    with pytest.raises(ConfigError, match=r"moc.fits is not a MOC: buffer is too small"):
        read_moc(path)
