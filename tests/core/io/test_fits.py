"""The FITS reader against astropy, and against files that astropy would not write."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.fits import BLOCK, read_table
from ztfmatch.simulate.fitsout import ROW, catalog_bytes

TYPES = {"B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


def block(*cards: str) -> bytes:
    """A header of cards as they are given, padded."""
    text = "".join(f"{card:<80}" for card in (*cards, "END"))
    assert all(len(card) <= 80 for card in cards)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


def primary(*cards: str) -> bytes:
    return block(
        "SIMPLE  =                    T",
        "BITPIX  =                   16",
        "NAXIS   =                    0",
        "EXTEND  =                    T",
        *cards,
    )


def extension(width: int | str, rows: int | str, forms: list[str], *more: str, names: list[str] | None = None) -> bytes:
    names = names or [f"C{i}" for i in range(1, len(forms) + 1)]
    fields = [f"{f'TTYPE{i}':<8}= '{name}'" for i, name in enumerate(names, 1)]
    fields += [f"{f'TFORM{i}':<8}= '{form:<8}'" for i, form in enumerate(forms, 1)]
    return block(
        "XTENSION= 'BINTABLE'",
        "BITPIX  =                    8",
        "NAXIS   =                    2",
        f"NAXIS1  = {width:>20}",
        f"NAXIS2  = {rows:>20}",
        "PCOUNT  =                    0",
        "GCOUNT  =                    1",
        f"TFIELDS = {len(forms):>20}",
        *fields,
        *more,
    )


def small(*cards: str) -> bytes:
    return primary(*cards) + extension(4, 1, ["1J"]) + b"\0\0\0\x05".ljust(BLOCK, b"\0")


def astropys(data: bytes) -> tuple[fits.Header, fits.Header, np.ndarray]:
    with fits.open(io.BytesIO(data), memmap=False, character_as_bytes=False) as hdus:
        hdus.verify("exception")
        return hdus[0].header.copy(), hdus[1].header.copy(), np.array(hdus[1].data)


def assert_same_as_astropy(data: bytes) -> None:
    got = read_table(data)
    head, ext, rows = astropys(data)
    for ours, theirs in ((got.primary, head), (got.extension, ext)):
        expected = {c.keyword: c.value for c in theirs.cards if c.keyword not in ("COMMENT", "HISTORY", "")}
        expected = {k: None if isinstance(v, fits.card.Undefined) else v for k, v in expected.items()}
        assert ours == expected
    assert list(got.records.dtype.names or ()) == [name.lower() for name in rows.dtype.names or ()]
    assert len(got.records) == len(rows)
    for ours, theirs in zip(got.records.dtype.names or (), rows.dtype.names or (), strict=True):
        assert np.ascontiguousarray(got.records[ours]).tobytes() == rows[theirs].tobytes()


def test_read_table_real_reference_equals_astropy(data_dir: Path) -> None:
    data = (data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits").read_bytes()
    assert_same_as_astropy(data)
    assert len(read_table(data).records) == 18_833


@pytest.mark.parametrize("replay", ["dr5_250", "matchfile_245"])
def test_read_table_replayed_catalogs_equal_astropy(data_dir: Path, replay: str) -> None:
    files = sorted((data_dir / "replay" / replay).glob("*.fits"))
    for file in files[:: max(1, len(files) // 6)]:
        assert_same_as_astropy(file.read_bytes())


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    forms = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=8))
    dtype = np.dtype([(f"Col_{i}", TYPES[form]) for i, form in enumerate(forms)])
    n = draw(st.integers(0, 40))
    bits = draw(hnp.arrays(np.uint8, n * dtype.itemsize))
    return bits.view(dtype) if n else np.zeros(0, dtype)


# Printable ASCII without trailing blanks, which FITS does not keep. And no quote before a slash: there astropy ends a
# text that it has itself written by the standard, with the quote doubled.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.rstrip)
texts = texts.filter(lambda text: not re.search("' */", text))
values = st.one_of(
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(-1e30, 1e30, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-30),
    texts,
)


def test_read_table_text_with_a_quote_before_a_slash() -> None:
    assert read_table(small("XNOTE   = 'a''/b'")).primary["XNOTE"] == "a'/b"


@settings(max_examples=60)
@given(
    tables(), st.dictionaries(st.from_regex(r"X[A-Z0-9]{1,6}", fullmatch=True), st.tuples(values, texts), max_size=50)
)
def test_read_table_generated_files_equal_astropy(rows: np.ndarray, cards: dict) -> None:  # type: ignore[type-arg]
    table = fits.BinTableHDU(rows)
    head = fits.PrimaryHDU()
    for key, (value, comment) in cards.items():
        head.header[key] = (value, comment[:20])
    sink = io.BytesIO()
    fits.HDUList([head, table]).writeto(sink)
    assert_same_as_astropy(sink.getvalue())


@settings(max_examples=30)
@given(st.integers(0, 80), st.integers(0, 2**32))
def test_read_table_simulated_catalogs_equal_astropy(n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, n * ROW.itemsize, np.uint8).view(ROW)
    assert_same_as_astropy(catalog_bytes({"MAGZP": 26.3, "PCOLOR": "g-R", "BADEXP": True, "FIELDID": 5}, rows))


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("XKEY    = 'O''Brien''s / shelf'  / he said 'hi' / twice", "O'Brien's / shelf"),
        ("XKEY    = ''''", "'"),
        ("XKEY    = ''", ""),
        ("XKEY    = '   lead'", "   lead"),
        ("XKEY    = 'trail   '", "trail"),
        ("XKEY    = 'a/b'/tight", "a/b"),
        ("XKEY    =                   12 / plain / slashes", 12),
        ("XKEY    =12/x", None),
        ("XKEY    = -0042", -42),
        ("XKEY    =             1.5D+03", 1500.0),
        ("XKEY    =             -2.5D-3 / old Fortran", -2.5e-3),
        ("XKEY    =              1.E5", 1e5),
        ("XKEY    =               .25", 0.25),
        ("XKEY    =                   T / yes", True),
        ("XKEY    = F", False),
        ("XKEY    =                      / undefined", None),
        ("XKEY    = 9223372036854775808", 2**63),
    ],
)
def test_read_table_header_quirks_equal_the_standard(card: str, value: object) -> None:
    if card.startswith("XKEY    =1"):
        assert "XKEY" not in read_table(small(card)).primary
        return
    data = small(card)
    got = read_table(data).primary["XKEY"]
    assert got == value
    assert type(got) is type(value)
    theirs = astropys(data)[0]["XKEY"]
    assert (None if isinstance(theirs, fits.card.Undefined) else theirs) == value


def test_read_table_comments_history_and_blank_cards_are_no_keys() -> None:
    data = small("COMMENT = 'not a value'", "HISTORY = 5", "", "XKEY    = 1", "HIERARCH LONG KEY = 3", "CONTINUE  'x'")
    assert read_table(data).primary["XKEY"] == 1
    assert set(read_table(data).primary) >= {"SIMPLE", "BITPIX", "NAXIS", "XKEY"}
    assert len(read_table(data).records) == 1


def test_read_table_key_given_twice_must_have_one_value() -> None:
    same = read_table(small("XKEY    = 1", "XKEY    =                    1 / again")).primary
    assert same["XKEY"] == 1
    other = read_table(small("XKEY    = 1", "YKEY    = 5", "XKEY    = 2")).primary
    assert other["YKEY"] == 5
    for ask in (lambda: other["XKEY"], lambda: other.get("XKEY")):
        with pytest.raises(CatalogError, match="XKEY is both 1 and 2 in one header") as caught:
            ask()
        assert caught.value.code == "contradiction"


@pytest.mark.parametrize("cards", [31, 32, 33, 67, 68, 500])
def test_read_table_long_header_over_several_blocks_equals_astropy(cards: int) -> None:
    """After 32 cards beside the four others, END is alone in a block of its own."""
    assert_same_as_astropy(small(*(f"K{i:<7}= {i}" for i in range(cards))))


def test_read_table_end_within_a_string_ends_nothing() -> None:
    data = small("XKEY    = 'END     '", "X       =                    1 / END     ", "LAST    =  7")
    assert read_table(data).primary["LAST"] == 7
    assert_same_as_astropy(data)


def test_read_table_rows_are_views_of_the_bytes() -> None:
    data = small()
    records = read_table(data).records
    assert records["c1"].tolist() == [5]
    assert not records.flags.writeable
    assert np.shares_memory(records, np.frombuffer(data, np.uint8))


def test_read_table_no_rows_file_may_end_after_the_header() -> None:
    assert len(read_table(primary() + extension(4, 0, ["1J"])).records) == 0


def test_read_table_missing_padding_is_no_fault() -> None:
    assert read_table(primary() + extension(4, 2, ["J"]) + bytes(8)).records["c1"].tolist() == [0, 0]


BAD = {
    "empty": [(b"", "0 bytes")],
    "not-fits": [
        (b"hello, world", "starts with b'hello, wo'"),
        (b"\0" * 5760, "expected b'SIMPLE  ='"),
        (b"\x1f\x8b" + b"x" * 9000, "expected b'SIMPLE  ='"),
        (b"SIMPLE  =" + b" " * (BLOCK * 70), "no END card in 64 blocks"),
        (primary().replace(b"NAXIS ", b"NAX\xe9S ") + extension(4, 0, ["1J"]), "not ASCII: byte 0xe9"),
    ],
    "truncated": [
        (b"SIMPLE  =", "within its primary header, at byte 9"),
        (primary()[:-1], "within its primary header"),
        (primary(), "within its table header, at byte 2880"),
        (primary() + extension(4, 1, ["1J"])[:-80], "within its table header"),
        (primary() + extension(4, 3, ["1J"]) + bytes(11), "need 12 bytes; the file holds 11"),
        (primary() + extension(4, 10**18, ["1J"]) + bytes(BLOCK), f"NAXIS2 = {10**18} rows of 4 bytes"),
    ],
    "layout": [
        (primary().replace(b"NAXIS   =                    0", b"NAXIS   =                    2"), "NAXIS = 2"),
        (primary() + block("XTENSION= 'IMAGE   '"), "'IMAGE'; expected 'BINTABLE'"),
        (primary() + block("NOTHING = 1"), "None; expected 'BINTABLE'"),
        (primary() + extension(4, -1, ["1J"]), "NAXIS2 is -1"),
        (primary() + extension(4, "X", ["1J"]), "NAXIS2 is 'X'"),
        (primary() + extension("", 1, ["1J"]), "NAXIS1 is None"),
        (primary() + extension(5, 1, ["1J"]), "NAXIS1 is 5 bytes; the columns make 4"),
        (primary() + extension(8, 1, ["8Z"]), "TFORM '8Z'"),
        (primary() + extension(8, 1, ["3J"]), "NAXIS1 is 8 bytes; the columns make 12"),
        (primary() + extension(7999999992, 0, ["999999999D"]), "no catalog has rows of more than"),
        (primary() + extension(4, 1, ["1J"]).replace(b"TFORM1", b"TFARM1"), "TFORM 'None'"),
        (primary() + extension(8, 1, ["1J", "1E"], names=["a", "A"]), "column names repeat: 'a', 'a'"),
    ],
}


@pytest.mark.parametrize(("code", "data", "why"), [(code, *case) for code, cases in BAD.items() for case in cases])
def test_read_table_bad_file_raises_with_its_code(code: str, data: bytes, why: str) -> None:
    with pytest.raises(CatalogError, match=why) as caught:
        read_table(data)
    assert caught.value.code == code


@pytest.mark.parametrize("rows", [0, 3, 10**12])
def test_read_table_no_columns_is_a_table_without_columns(rows: int) -> None:
    """Whoever wants a column of it will find none."""
    table = read_table(primary() + extension(0, rows, []) + bytes(BLOCK))
    assert table.records.dtype.names == ()
    assert table.records.nbytes == 0


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 8000), st.booleans())
def test_read_table_damaged_anywhere_gives_rows_or_a_catalog_error(junk: bytes, at: int, cut: bool) -> None:
    data = catalog_bytes({"MAGZP": 26.3}, np.zeros(3, ROW))
    damaged = data[:at] + junk + (b"" if cut else data[at + len(junk) :])
    code = None
    try:
        read_table(damaged)
    except CatalogError as error:
        code = error.code
    assert code in (None, "empty", "not-fits", "truncated", "layout", "contradiction")


def test_read_table_layouts_alike_but_for_a_column_are_told_apart() -> None:
    """What is kept of a layout is not taken for another's, nor a number of rows for that of the file before."""
    for forms, width in ((["J", "E"], 8), (["E", "J"], 8), (["J", "E"], 8)):
        for rows in (3, 1, 2):
            data = primary() + extension(width, rows, forms) + bytes(BLOCK)
            assert read_table(data).records.shape == (rows,)
            assert_same_as_astropy(data)


def test_read_table_number_of_rows_given_twice_must_be_one() -> None:
    assert len(read_table(primary() + extension(8, 2, ["J", "E"], "NAXIS2  = 2") + bytes(BLOCK)).records) == 2
    with pytest.raises(CatalogError, match="NAXIS2 is both 2 and 3"):
        read_table(primary() + extension(8, 2, ["J", "E"], "NAXIS2  = 3") + bytes(BLOCK))
