"""Catalogs that other software wrote again: read as the survey's, or refused with the value that does not fit.

Written by astropy and pandas' types; what is expected are the values that went in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from helpers import UNIT, append, brute_force, epochal_file, fate_in, make_store, reference_file, rows_at, runner, table
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.catalogs import read_epochal, read_reference
from ztfmatch.core.io.fitscolumns import wrap
from ztfmatch.core.io.fitssums import word_sum
from ztfmatch.core.kernels.rows import MEASURED
from ztfmatch.core.operations.verify import verify_store

COLUMNS = [source for source, _ in MEASURED.values()]
N = 5


def catalog(place: Path) -> Path:
    rows = rows_at(10.0 + np.arange(N) / 50.0, np.full(N, 20.0), flags=[0, 1, -1, 0, 4])
    return epochal_file(place, rows)


def saved_again(path: Path, change: Callable[[Table], None] | None = None, checksum: bool = False) -> Path:
    """Read a catalog into an astropy table, change it, and write it in its place under the same primary header."""
    with fits.open(path) as hdus:
        primary, content = hdus[0].header, Table(hdus[1].data)
    if change is not None:
        change(content)
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary), fits.table_to_hdu(content)])
    hdus.writeto(path, overwrite=True, checksum=checksum)
    return path


def cast(**kinds: str) -> Callable[[Table], None]:
    def change(content: Table) -> None:
        for name, kind in kinds.items():
            content[name] = content[name].astype(kind)

    return change


def extra(content: Table) -> None:
    content["band"] = ["zr"] * N
    content["vector"] = np.zeros((N, 3))
    content["good"] = [True] * N


ODD = {
    "as it is": None,
    "int64": cast(sourceid="i8", flags="i8"),
    "unsigned": cast(sourceid="u4"),
    "unsigned 64": cast(sourceid="u8"),
    "flags unsigned": lambda content: content.replace_column("flags", np.asarray(content["flags"]).astype("u2")),
    "doubles": cast(flux="f8", sigflux="f8", chi="f8", sharp="f8", xpos="f8", ypos="f8"),
    "columns beside": extra,
    "other order": lambda content: content.add_column(content["ra"].copy(), 0, "again"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_read_epochal_saved_again_is_the_same_catalog(tmp_path: Path, change: Callable[[Table], None] | None) -> None:
    path = catalog(tmp_path)
    before = read_epochal(str(path)).records
    after = read_epochal(str(saved_again(path, change, checksum=True))).records
    for name in COLUMNS:
        assert after[name].dtype == before[name].dtype
        assert after[name].tobytes() == before[name].tobytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (cast(ra="f4"), "column 'ra' is >f4; expected >f8"),
        (cast(flags="f8"), "column 'flags' is >f8; expected >i2"),
        (lambda t: t.replace_column("flux", np.full(N, 0.1)), "'flux' is >f8, expected >f4, which does not hold 0.1"),
        (lambda t: t.replace_column("sourceid", 2**40 + np.arange(N)), "'sourceid' is >i8, .* 1099511627776 of row 1"),
        (lambda t: t.replace_column("flags", np.array(["a"] * N)), "column 'flags' is no plain number; expected >i2"),
        (lambda t: t.remove_column("chi"), "no column 'chi'"),
    ],
)
def test_read_epochal_values_that_do_not_fit_raise(tmp_path: Path, change: Callable[[Table], None], why: str) -> None:
    with pytest.raises(CatalogError, match=why) as caught:
        read_epochal(str(saved_again(catalog(tmp_path), change)))
    assert caught.value.code == "layout"


@pytest.mark.parametrize(
    ("card", "fits_in"), [("TSCAL4  = 1.0", True), ("TZERO4  = 0", True), ("TSCAL4  = 2.0", False)]
)
def test_read_epochal_scaling_is_taken_if_it_changes_nothing(tmp_path: Path, card: str, fits_in: bool) -> None:
    path = catalog(tmp_path)
    data = path.read_bytes()
    at = data.index(b"EXTNAME ") if b"EXTNAME " in data else data.index(b"TUNIT2  ")
    path.write_bytes(data[:at] + card.ljust(80).encode() + data[at + 80 :])
    if fits_in:
        assert len(read_epochal(str(path)).records) == N
    else:
        with pytest.raises(CatalogError, match="column 'ra' is scaled"):
            read_epochal(str(path))


@pytest.mark.parametrize("column", ["sourceid", "flags"])
def test_append_masked_rows_are_rejected_and_counted(tmp_path: Path, column: str) -> None:
    """FITS tables say by TNULL which value of an integer column stands for none."""

    def mask(content: Table) -> None:
        content[column] = MaskedColumn(content[column], mask=[False, True, False, True, False], fill_value=-999)

    path = saved_again(catalog(tmp_path), mask)
    assert "TNULL" in path.read_bytes()[:20000].decode("latin-1")
    assert read_epochal(str(path)).undefined == 2
    seeds = rows_at(10.0 + np.arange(N) / 50.0, np.full(N, 20.0))
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, seeds)])
    report = append(storage, [path])
    assert (report.rows, report.matched, report.orphans, report.rejected) == (N, 3, 0, 2)
    assert table(storage, "detections")["sourceid"].to_pylist() == [0, 2, 4]
    ledger = table(storage, "exposures").select(["nrejected", "nrejectednan", "nrejectedrange"]).to_pylist()
    assert ledger == [{"nrejected": 2, "nrejectednan": 0, "nrejectedrange": 0}]


def test_read_reference_masked_seed_raises(tmp_path: Path) -> None:
    path = reference_file(tmp_path, rows_at([1, 2], [3, 4]))

    def mask(content: Table) -> None:
        content["sourceid"] = MaskedColumn(content["sourceid"], mask=[False, True], fill_value=-999)

    with pytest.raises(CatalogError, match="sourceid or flags of row 2 are undefined"):
        read_reference(str(saved_again(path, mask)))


@pytest.mark.parametrize(("byte", "where"), [(b"\xe9", "Latin-1"), ("\u00e9".encode(), "UTF-8")])
def test_read_epochal_comments_of_any_bytes_are_fine(tmp_path: Path, byte: bytes, where: str) -> None:
    path = catalog(tmp_path)
    plain = read_epochal(str(path))
    data = path.read_bytes()
    at = data.index(b"MAGZP   =")
    card = data[at : at + 80].split(b" /")[0] + b" / r" + byte + b"f\xe9rence, " + where.encode()
    path.write_bytes(data[:at] + card.ljust(80) + data[at + 80 :])
    assert read_epochal(str(path)).magzp == plain.magzp


def test_append_right_ascensions_beyond_a_turn_are_wrapped_with_a_count(tmp_path: Path) -> None:
    ra, dec = np.array([-0.2, -1e-17, 0.1, 359.9, 360.1, 360.0]), np.arange(6.0)
    inside = np.array([359.8, 0.0, 0.1, 359.9, 0.1, 360.0])
    reference = reference_file(tmp_path, rows_at(ra, dec))
    (tmp_path / "odd").mkdir()
    path = epochal_file(tmp_path / "odd", rows_at(ra, dec))
    storage = make_store(tmp_path / "store", [reference], seeds_per_tile=2)
    report = append(storage, [path])
    assert (report.matched, report.rejected) == (6, 0)
    notice = next(notice for notice in report.warnings if notice.code == "wrapped")
    assert notice.message.startswith("3 rows of 1 catalogs have right ascensions below 0 or above 360")
    assert notice.files == [str(path)]
    stored = table(storage, "detections").sort_by("dec")["ra"].to_numpy()
    np.testing.assert_allclose(stored, inside, rtol=0, atol=1e-13)
    plain = brute_force(
        [reference_file(tmp_path, rows_at(inside, dec))], [epochal_file(tmp_path, rows_at(inside, dec))]
    )
    assert fate_in(storage).matched == plain.matched


@given(st.floats(-360.0, 720.0, exclude_max=True))
def test_wrap_is_within_a_turn_and_a_turn_away(ra: float) -> None:
    wrapped = float(wrap(np.array([ra]))[0])
    assert 0.0 <= wrapped < 360.0
    assert min(abs(wrapped - ra - turn) for turn in (-360.0, 0.0, 360.0)) < 1e-12 * 720.0


@given(st.binary(max_size=64))
def test_word_sum_is_astropys(data: bytes) -> None:
    padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
    hdu = fits.PrimaryHDU()
    assert word_sum(data) == hdu._compute_checksum(np.frombuffer(padded, "u1"))


@pytest.mark.parametrize("where", ["cards", "rows", "sum"])
def test_read_epochal_checksum_of_other_bytes_raises(tmp_path: Path, where: str) -> None:
    path = saved_again(catalog(tmp_path), checksum=True)
    assert len(read_epochal(str(path)).records) == N
    data = bytearray(path.read_bytes())
    at = {
        "cards": data.index(b"MAGZP   =") + 40,
        "rows": len(data) - 2880 + 9,
        "sum": data.index(b"DATASUM = '", 3000) + 12,
    }
    data[at[where]] ^= 1
    path.write_bytes(data)
    with pytest.raises(CatalogError, match=r"CHECKSUM of the primary|DATASUM of the table") as caught:
        read_epochal(str(path))
    assert caught.value.code == "damaged"


def test_read_epochal_of_another_unit_is_still_refused(tmp_path: Path) -> None:
    path = saved_again(catalog(tmp_path), cast(sourceid="i8"))
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["FIELDID"] = UNIT.field + 1
    with pytest.raises(CatalogError, match="FIELDID"):
        read_epochal(str(path))


def test_verify_deep_compares_catalogs_with_their_checksums(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    paths = [saved_again(catalog(tmp_path), checksum=True), epochal_file(tmp_path, rows_at([10.0], [20.0]), 1)]
    assert append(storage, paths).exposures == 2

    def outcome() -> tuple[int, int, str | None]:
        report = verify_store(storage, runner(), deep=True)
        check = next(check for check in report.checks if check.check == "catalogs")
        assert report.passed == (check.violations == 0)
        return check.checked, check.violations, check.example

    assert outcome() == (1, 0, None)
    data = bytearray(paths[0].read_bytes())
    data[-2880 + 30] ^= 1
    paths[0].write_bytes(data)
    checked, violations, example = outcome()
    assert (checked, violations) == (1, 1)
    assert str(example).startswith(f"{paths[0]}: DATASUM of the table HDU is ")
    paths[0].unlink()
    assert outcome() == (0, 0, None)
