"""Who a catalog is, and what it must not be."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import MJD, UNIT, epochal_file, identity_keys, reference_file, rows_at
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.catalogs import read_epochal, read_reference, reread_records
from ztfmatch.core.survey import Unit, psfcat_name, refpsfcat_name
from ztfmatch.simulate.fitsout import ROW, card, catalog_bytes, write_catalog

NAME = psfcat_name(UNIT, 20180701250000)
REFERENCE_NAME = refpsfcat_name(UNIT)
TWO = rows_at([10.0, 10.1], [20.0, 20.1])


def written(directory: Path, name: str, keys: dict[str, Any], rows: np.ndarray = TWO) -> str:
    path = directory / name
    write_catalog(path, {key: value for key, value in keys.items() if value is not None}, rows)
    return str(path)


def header(**changed: Any) -> dict[str, Any]:
    return {"OBSMJD": MJD, "MAGZP": 26.0, **identity_keys(UNIT), **changed}


def with_card(path: str, key: str, text: str) -> str:
    """Put raw text where a card of the primary has its value."""
    data = bytearray(Path(path).read_bytes())
    at = data.index(f"{key:<8}= ".encode())
    data[at : at + 80] = f"{key:<8}= {text:>20}".ljust(80).encode()
    Path(path).write_bytes(bytes(data))
    return path


def refusal(read: Any, *arguments: Any) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        read(*arguments)
    return caught.value


# Identity


def test_read_epochal_header_and_name_agree(tmp_path: Path) -> None:
    source = written(tmp_path, NAME, header())
    got = read_epochal(source)
    assert (got.unit, got.fracday, got.obsmjd, got.magzp) == (UNIT, 20180701250000, MJD, 26.0)
    assert got.exposureid == 2018070125000020
    assert got.file.filename == NAME
    assert got.file.size == Path(source).stat().st_size
    assert got.file.sha256 == hashlib.sha256(Path(source).read_bytes()).hexdigest()
    assert got.records.tobytes() == TWO.tobytes()


def test_read_epochal_identity_by_the_name_alone(tmp_path: Path) -> None:
    assert read_epochal(written(tmp_path, NAME, {"OBSMJD": MJD, "MAGZP": 26.0})).unit == UNIT


def test_read_epochal_identity_by_the_header_alone(tmp_path: Path) -> None:
    got = read_epochal(written(tmp_path, "any.fits", header()))
    assert got.unit == UNIT
    assert got.fracday == 20180701250000


def test_read_epochal_channel_by_ccd_and_quadrant(tmp_path: Path) -> None:
    got = read_epochal(written(tmp_path, "any.fits", header(RCID=None)))
    assert got.unit == UNIT


@pytest.mark.parametrize("key", ["FIELDID", "FILTERID", "RCID"])
def test_read_epochal_header_with_gaps_is_filled_by_the_name(tmp_path: Path, key: str) -> None:
    gaps = {key: None} if key != "RCID" else {"RCID": None, "QID": None}
    assert read_epochal(written(tmp_path, NAME, header(**gaps))).unit == UNIT


@pytest.mark.parametrize(
    ("name", "changed", "code", "why"),
    [
        (NAME, {"FIELDID": 501}, "contradiction", "FIELDID is 501 in the header, 500 by the file name"),
        (NAME, {"FILTERID": 1}, "contradiction", "FILTERID is 1 in the header, 2 by the file name"),
        (NAME, {"RCID": 21, "CCDID": None}, "contradiction", "RCID is 21 in the header, 20 by the file name"),
        (NAME, {"RCID": 21}, "contradiction", "RCID is 21, but CCDID 6 and QID 1 make 20"),
        (NAME, {"RCID": None, "QID": 2}, "contradiction", "RCID is 21 in the header, 20 by the file name"),
        ("any.fits", {"FIELDID": None}, "layout", "no FIELDID: neither the header nor the file name gives it"),
        ("any.fits", {"RCID": None, "QID": None}, "layout", "no RCID"),
        ("any.fits", {"FILTERID": 4}, "layout", "fid 4 is not one of"),
        ("any.fits", {"FIELDID": 0}, "layout", "field 0 is outside"),
        ("any.fits", {"CCDID": 17}, "layout", "ccdid 17, qid 1: expected"),
        ("any.fits", {"RCID": 64, "CCDID": None}, "layout", "rcid 64 is outside"),
        ("any.fits", {"FIELDID": "M31"}, "layout", "FIELDID is 'M31'; expected a whole number"),
        ("any.fits", {"FIELDID": 500.5}, "layout", "FIELDID is 500.5; expected a whole number"),
        ("any.fits", {"RCID": True}, "layout", "RCID is True; expected a whole number"),
        (NAME.replace("2018", "2017"), {}, "contradiction", "OBSMJD is .* the file name's time is MJD 57935"),
        (NAME.replace("20180701", "20181301"), {}, "contradiction", "the file name is impossible: month"),
        (NAME.replace("c06", "c17"), {}, "contradiction", "the file name is impossible: ccdid 17"),
        ("any.fits", {"OBSMJD": None}, "layout", "no OBSMJD, neither in the header nor in an exposure table"),
        ("any.fits", {"MAGZP": None}, "layout", "no MAGZP"),
        ("any.fits", {"OBSMJD": 2458300.5}, "layout", "OBSMJD is 2458300.5; expected a modified Julian date"),
        ("any.fits", {"OBSMJD": 0.0}, "layout", "OBSMJD is 0.0"),
        ("any.fits", {"OBSMJD": "today"}, "layout", "OBSMJD is 'today'; expected float"),
        ("any.fits", {"MAGZP": 1e300}, "layout", "MAGZP is 1e\\+300; expected 0.0 to 50.0"),
        ("any.fits", {"EXPTIME": -30.0}, "layout", "EXPTIME is -30.0; expected 0.0 to 3600.0"),
        ("any.fits", {"EXPTIME": "long"}, "layout", "EXPTIME is 'long'; expected float"),
        ("any.fits", {"NMATCHES": 2**31}, "layout", "NMATCHES is 2147483648; expected 0 to 2147483647"),
    ],
)
def test_read_epochal_impossible_header_raises(
    tmp_path: Path, name: str, changed: dict[str, Any], code: str, why: str
) -> None:
    source = written(tmp_path, name, header(**changed))
    with pytest.raises(CatalogError, match=why) as caught:
        read_epochal(source)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("FIELDID", "NAN", "FIELDID is nan"),
        ("RCID", "1E999", "RCID is inf"),
        ("MAGZP", "NAN", "no MAGZP"),
        ("MAGZP", "-INF", "no MAGZP"),
        ("OBSMJD", "NAN", "no OBSMJD"),
        ("EXPID", "99999999999999999999", "EXPID is 99999999999999999999"),
        ("INFOBITS", "-9223372036854775809", "INFOBITS is -9223372036854775809"),
        ("EXPID", "12.5", None),
    ],
)
def test_read_epochal_numbers_that_no_column_holds_raise_or_are_whole(
    tmp_path: Path, key: str, text: str, why: str | None
) -> None:
    source = with_card(written(tmp_path, "any.fits", header(EXPID=1, INFOBITS=0)), key, text)
    if why is None:
        assert read_epochal(source).metadata["expid"] == 12
        return
    error = refusal(read_epochal, source)
    assert error.code == "layout"
    assert why in str(error)


@given(
    st.sampled_from(
        ["OBSMJD", "MAGZP", "FIELDID", "RCID", "CCDID", "FILTERID", "EXPTIME", "AIRMASS", "PCOLOR", "NMATCHES"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
def test_read_epochal_any_text_in_a_card_gives_a_catalog_or_a_catalog_error(
    tmp_path_factory, key: str, text: str
) -> None:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.getbasetemp()
    source = with_card(
        written(directory, "any.fits", header(EXPTIME=30.0, AIRMASS=1.0, PCOLOR="g-R", NMATCHES=5)), key, text
    )
    try:
        got = read_epochal(source)
    except CatalogError as error:
        codes = {error.code}
    else:
        codes = {"layout"}
        assert 40_000 < got.obsmjd < 100_000
        assert np.isfinite(got.magzp)
    assert codes <= {"layout", "contradiction"}


# Both HDUs


def in_table_header(path: str, keys: dict[str, Any]) -> str:
    """Add cards to the table's header."""
    data = Path(path).read_bytes()
    at = data.index(b"EXTNAME =")
    cards = "".join(card(key, value) for key, value in keys.items()).encode()
    end = data.index(b"END     ", at)
    block = (data[2880:end] + cards + b"END".ljust(80)).ljust(-(-(end - 2880 + len(cards) + 80) // 2880) * 2880)
    start_of_rows = -(-(end + 80) // 2880) * 2880
    Path(path).write_bytes(data[:2880] + block + data[start_of_rows:])
    return path


def test_read_epochal_keys_in_the_table_header_count(tmp_path: Path) -> None:
    got = read_epochal(in_table_header(written(tmp_path, "any.fits", {}), {**header(), "AIRMASS": 1.5}))
    assert (got.unit, got.obsmjd, got.magzp, got.metadata["airmass"]) == (UNIT, MJD, 26.0, 1.5)


def test_read_epochal_same_key_in_both_headers_agreeing_is_fine(tmp_path: Path) -> None:
    assert read_epochal(in_table_header(written(tmp_path, NAME, header()), {"MAGZP": 26.0, "RCID": 20})).magzp == 26.0


@pytest.mark.parametrize(("key", "other"), [("MAGZP", 26.5), ("OBSMJD", MJD + 1), ("FIELDID", 501), ("AIRMASS", 2.0)])
def test_read_epochal_headers_that_disagree_raise(tmp_path: Path, key: str, other: float) -> None:
    source = in_table_header(written(tmp_path, NAME, header(AIRMASS=1.0)), {key: other})
    error = refusal(read_epochal, source)
    assert error.code == "contradiction"
    assert str(error).startswith(f"{key} is ")
    assert f"{other!r} in the table's" in str(error)


def test_read_epochal_undefined_in_one_header_is_filled_by_the_other(tmp_path: Path) -> None:
    source = in_table_header(with_card(written(tmp_path, NAME, header()), "MAGZP", "/ undefined"), {"MAGZP": 26.25})
    assert read_epochal(source).magzp == 26.25


# Other spellings of a file


@pytest.mark.parametrize("name", [f"{NAME}.gz", NAME.upper(), f"{NAME.upper()}.GZ", f"{NAME}.fz"])
def test_read_epochal_gzipped_or_in_upper_case_is_the_same_catalog(tmp_path: Path, name: str) -> None:
    """What fpack leaves as it is, as it does with tables unless told otherwise, is read too."""
    plain = read_epochal(written(tmp_path, NAME, header()))
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.lower().endswith("gz") else data)
    got = read_epochal(str(tmp_path / name))
    assert (got.exposureid, got.unit) == (plain.exposureid, UNIT)
    assert (got.file.sha256, got.file.size) == (plain.file.sha256, plain.file.size)
    assert got.file.filename == name
    assert got.records.tobytes() == plain.records.tobytes()
    assert reread_records(str(tmp_path / name), 2).tobytes() == TWO.tobytes()


def test_read_epochal_gzipped_with_an_impossible_name_raises(tmp_path: Path) -> None:
    source = written(tmp_path, NAME.replace("c06", "c07"), header())
    other = Path(source).rename(tmp_path / NAME.replace("c06", "c07").replace(".fits", ".fits.gz"))
    assert "RCID is 20 in the header, 24 by the file name" in str(refusal(read_epochal, str(other)))


def test_read_epochal_tile_compressed_table_raises(tmp_path: Path) -> None:
    source = in_table_header(written(tmp_path, NAME, header()), {"ZTABLE": True})
    error = refusal(read_epochal, source)
    assert error.code == "compressed"
    assert "unpack it with funpack" in str(error)


# Programs


@pytest.mark.parametrize(
    ("said", "programid", "odd"),
    [
        (1, 1, None), (-1, -1, None), (0, 0, "0"), (127, 127, "127"), (-128, -128, "-128"), (2.0, 2, None),
        ("3", 3, None), (128, None, "128"), (200, None, "200"), (-129, None, "-129"), (65535, None, "65535"),
        (10**12, None, str(10**12)),
        (1.5, None, "1.5"), (True, None, "True"), ("public", None, "public"), ("inf", None, "inf"),
        (None, None, None), ("", None, None), ("  ", None, None), ("nan", None, "nan"),
    ],
)  # fmt: skip
def test_read_epochal_program_is_as_the_file_has_it_or_null(
    tmp_path: Path, said: Any, programid: int | None, odd: str | None
) -> None:
    got = read_epochal(written(tmp_path, NAME, header(PROGRMID=said)))
    assert (got.metadata["programid"], got.odd_program) == (programid, odd)


@pytest.mark.parametrize("key", ["PROGRMID", "EXPID", "NMATCHES", "INFOBITS", "EXPTIME"])
@pytest.mark.parametrize("text", ["NAN", "", "' '", "'      '", "/ undefined"])
def test_read_epochal_blank_or_nan_is_unknown_and_filled_by_the_table(tmp_path: Path, key: str, text: str) -> None:
    source = with_card(written(tmp_path, NAME, header(**{key: 1})), key, text)
    column = {"PROGRMID": "programid", "EXPID": "expid", "NMATCHES": "nmatches", "INFOBITS": "infobits"}
    name = column.get(key, "exptime")
    assert read_epochal(source).metadata[name] is None
    assert read_epochal(source, {name: 2}).metadata[name] == 2


def test_read_epochal_program_of_the_table_that_contradicts_the_header_raises(tmp_path: Path) -> None:
    source = written(tmp_path, NAME, header(PROGRMID=1))
    assert read_epochal(source, {"programid": 1}).metadata["programid"] == 1
    error = refusal(read_epochal, source, {"programid": 2})
    assert error.code == "contradiction"
    assert str(error) == "PROGRMID is 1 in the header, 2 in the exposure table"


@pytest.mark.parametrize(("extra", "expected"), [(-1, (-1, None)), (200, (None, "200"))])
def test_read_epochal_program_of_the_table_is_as_it_has_it_or_null(
    tmp_path: Path, extra: int, expected: tuple[int | None, str | None]
) -> None:
    got = read_epochal(written(tmp_path, NAME, header()), {"programid": extra})
    assert (got.metadata["programid"], got.odd_program) == expected


# The exposure table


def test_read_epochal_table_fills_what_the_header_lacks_and_no_more(tmp_path: Path) -> None:
    source = written(tmp_path, NAME, header(AIRMASS=1.1, OBSMJD=None))
    extra = {"obsmjd": MJD + 0.001, "airmass": 9.9, "exptime": 90.0, "programid": 2, "seeing": 2.5, "pcolor": "g-R"}
    got = read_epochal(source, extra)
    assert got.obsmjd == MJD + 0.001
    assert got.metadata["airmass"] == 1.1
    assert (got.metadata["exptime"], got.metadata["programid"], got.metadata["seeing"]) == (90.0, 2, 2.5)
    assert got.metadata["pcolor"] == "g-R"
    assert got.metadata["expid"] is None


@pytest.mark.parametrize("extra", [{"nmatches": -1}, {"exptime": "x"}, {"exptime": -5.0}])
def test_read_epochal_impossible_table_values_raise(tmp_path: Path, extra: dict[str, Any]) -> None:
    assert refusal(read_epochal, written(tmp_path, NAME, header()), extra).code == "layout"


# The other kind of catalog


def test_read_reference_real_file(data_dir: Path) -> None:
    got = read_reference(str(data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits"))
    assert (got.unit, got.rfid, got.infobits) == (Unit(202, 36, 1), 202120136, 16)
    assert got.magzp == pytest.approx(26.325)
    assert len(got.records) == 18_833


def test_read_epochal_replayed_file(data_dir: Path) -> None:
    file = sorted((data_dir / "replay" / "dr5_250").glob("*_psfcat.fits"))[1]
    got = read_epochal(str(file))
    assert got.unit == Unit(250, 0, 1)
    assert got.magzp == 26.3


def test_read_reference_written_file(tmp_path: Path) -> None:
    got = read_reference(str(reference_file(tmp_path, TWO, RFID=77, INFOBITS=4)))
    assert (got.unit, got.magzp, got.rfid, got.infobits) == (UNIT, 26.325, 77, 4)
    assert got.records.tobytes() == TWO.tobytes()


@pytest.mark.parametrize(
    ("name", "keys"), [("any.fits", {"OBSMJD": MJD}), (REFERENCE_NAME, {"OBSMJD": MJD}), (NAME, {})]
)
def test_read_reference_of_an_epochal_catalog_raises(tmp_path: Path, name: str, keys: dict[str, Any]) -> None:
    """By its header or, where an exposure table is to give the time, by its name."""
    error = refusal(read_reference, written(tmp_path, name, {"MAGZP": 26.0, **identity_keys(UNIT), **keys}))
    assert error.code == "layout"
    assert "it is an epochal catalog" in str(error)


@pytest.mark.parametrize(
    ("name", "keys"),
    [("any.fits", {"RFID": 1}), (NAME, {"RFID": 1}), (REFERENCE_NAME, {}), (REFERENCE_NAME, {"OBSMJD": MJD})],
)
def test_read_epochal_of_a_reference_catalog_raises(tmp_path: Path, name: str, keys: dict[str, Any]) -> None:
    source = written(tmp_path, name, {"MAGZP": 26.0, **identity_keys(UNIT), **keys})
    error = refusal(read_epochal, source, {"obsmjd": MJD})
    assert error.code == "layout"
    assert "it is a reference catalog" in str(error)


# Rows


def test_read_epochal_sourceid_twice_raises(tmp_path: Path) -> None:
    error = refusal(read_epochal, written(tmp_path, NAME, header(), rows_at([1, 2, 3], [0, 0, 0], sourceid=[4, 7, 4])))
    assert (error.code, str(error)) == ("layout", "sourceid 4 occurs more than once; expected each once")


def without(path: str, column: bytes) -> str:
    data = Path(path).read_bytes()
    at = data.index(b"'" + column.ljust(8) + b"'")
    Path(path).write_bytes(data[: at + 1] + b"x" * len(column) + data[at + 1 + len(column) :])
    return path


@pytest.mark.parametrize("column", ["sourceid", "ra", "dec", "flux", "sigflux", "flags", "xpos", "chi"])
def test_read_epochal_missing_column_raises(tmp_path: Path, column: str) -> None:
    error = refusal(read_epochal, without(written(tmp_path, NAME, header()), column.encode()))
    assert error.code == "layout"
    assert f"no column {column!r}; it has " in str(error)


@pytest.mark.parametrize("column", ["mag", "sigmag", "snr"])
def test_read_reference_needs_magnitudes_that_epochal_catalogs_need_not(tmp_path: Path, column: str) -> None:
    reference = without(str(reference_file(tmp_path, TWO)), column.encode())
    assert f"no column {column!r}" in str(refusal(read_reference, reference))
    assert len(read_epochal(without(written(tmp_path, NAME, header()), column.encode())).records) == 2


def test_read_epochal_other_type_of_column_raises(tmp_path: Path) -> None:
    source = written(tmp_path, NAME, header())
    data = Path(source).read_bytes()
    at = data.index(b"TFORM2")
    Path(source).write_bytes(data[:at] + data[at : at + 80].replace(b"1E", b"1J") + data[at + 80 :])
    error = refusal(read_epochal, source)
    assert (error.code, str(error)) == ("layout", "column 'xpos' is >i4; expected >f4")


def test_read_epochal_empty_catalog_is_a_catalog(tmp_path: Path) -> None:
    assert len(read_epochal(written(tmp_path, NAME, header(), np.zeros(0, ROW))).records) == 0


# Reading again


def test_reread_records_same_file_gives_the_same_rows(tmp_path: Path) -> None:
    source = str(epochal_file(tmp_path, TWO))
    assert reread_records(source, 2).tobytes() == TWO.tobytes()


@pytest.mark.parametrize("content", [None, b"", catalog_bytes({}, TWO[:1])])
def test_reread_records_file_gone_or_other_raises_changed(tmp_path: Path, content: bytes | None) -> None:
    path = epochal_file(tmp_path, TWO)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    error = refusal(reread_records, str(path), 2)
    assert error.code == "changed"
    assert "its content changed while it was ingested" in str(error)
