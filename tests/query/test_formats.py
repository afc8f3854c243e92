"""Formats of answers: each is read by software that is not ours, and has the same values, units and UCDs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table
from astropy.time import Time

from ztfmatch.core.schema import DETECTIONS, TABLES
from ztfmatch.core.schema.ucds import UCDS, ucd_of
from ztfmatch.core.schema.voparquet import CONTENT_KEY, with_votable
from ztfmatch.query import formats
from ztfmatch.query.astropytable import astropy_table, file_bytes
from ztfmatch.release.schema import RELEASE_TABLES

READERS: dict[str, Callable[[Path], Any]] = {
    "csv": lambda path: pyarrow.csv.read_csv(path).to_pydict(),
    "json": lambda path: pa.Table.from_pylist(json.loads(path.read_text())).to_pydict(),
    "parquet": lambda path: pq.read_table(path).to_pydict(),
    "arrow": lambda path: pyarrow.feather.read_table(path).to_pydict(),
    "ecsv": Table.read,
    "fits": Table.read,
    "xml": lambda path: Table.read(path, format="votable"),
}


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """Epochs with what is hard to write: nulls, non-finite numbers, 64 bits, dictionaries."""
    rng = np.random.default_rng(1)
    n = 50
    columns = {
        "objectid": np.arange(n) + 679105100000000,
        "hmjd": 58300 + rng.random(n) * 100,
        "mag": [None, float("nan"), *rng.normal(18, 1, n - 2).tolist()],
        "flags": rng.integers(-(2**15), 2**15, n),
        "ra": rng.random(n) * 360,
    }
    schema = pa.schema([DETECTIONS.schema.field(name).with_nullable(True) for name in columns])
    table = pa.table(columns, schema=schema)
    names = pa.array(["zg", "zr", None, *["zi"] * (n - 3)]).dictionary_encode()
    return table.append_column(pa.field("filter", names.type, metadata={"description": "Filter"}), names)


def same(found: Any, expected: pa.ChunkedArray) -> bool:
    """Whether values are the same to the last bit; NaN, null and masked are alike where a format has but one."""
    values = [None if np.ma.is_masked(value) or value in ("", None) or value != value else value for value in found]
    wanted = [None if value is None or value != value else value for value in expected.to_pylist()]
    if expected.type == pa.float32():  # texts have the fewest digits that tell it
        values = [None if value is None else np.float32(value) for value in values]
    return values == wanted


@pytest.mark.parametrize("suffix", READERS)
def test_format_holds_the_same_values(rows: pa.Table, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    pieces = [rows.slice(0, 20), rows.slice(20)]
    if suffix not in ("parquet", "arrow"):
        plain = [field.with_type(getattr(field.type, "value_type", field.type)) for field in rows.schema]
        pieces = [piece.cast(pa.schema(plain)) for piece in pieces]
    assert formats.write_rows(pieces, pieces[0].schema, formats.format_of(path), path) == len(rows)
    found = READERS[suffix](path)
    for name in rows.column_names:
        assert same(found[name], rows[name]), name


def written_by_astropy(rows: pa.Table, form: str) -> io.BytesIO:
    text, stream = io.StringIO(), io.BytesIO()
    if form == "votable":
        astropy_table(rows).write(stream, format=form, tabledata_format="binary2")
    else:
        astropy_table(rows).write(text, format=form)
        stream.write(text.getvalue().encode())
    stream.seek(0)
    return stream


@pytest.mark.parametrize("form", ["ascii.ecsv", "votable"])
@pytest.mark.parametrize("number", [0, 1, 50])
def test_files_of_astropys_formats_are_what_astropy_writes(rows: pa.Table, form: str, number: int) -> None:
    """Rows are encoded here, a column at a time; texts with what separates them, and bits."""
    some = rows.slice(0, number).drop_columns("filter")
    texts = [None, 'a, "b" \u00e9', *["c\u2033"] * 48][:number]
    some = some.append_column("text", pa.array(texts, pa.string()))
    some = some.append_column("bit", pa.array([None, *[True, False] * 25][:number], pa.bool_()))
    expected = Table.read(written_by_astropy(some, form), format=form)
    found = Table.read(io.BytesIO(file_bytes(some, form)), format=form)
    assert found.colnames == expected.colnames
    for name in expected.colnames:
        assert (found[name].dtype, found[name].unit) == (expected[name].dtype, expected[name].unit), name
        assert (found[name].description, found[name].meta) == (expected[name].description, expected[name].meta)
        assert found[name].tolist() == expected[name].tolist() or name == "mag"
        np.testing.assert_array_equal(np.ma.getmaskarray(found[name]), np.ma.getmaskarray(expected[name]))


@pytest.mark.parametrize("suffix", ["ecsv", "xml"])
def test_astropy_reads_units_descriptions_and_ucds(rows: pa.Table, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    formats.write_rows([rows], rows.schema, formats.format_of(path), path)
    table = READERS[suffix](path)
    assert (str(table["ra"].unit), table["ra"].meta["ucd"]) == ("deg", "pos.eq.ra;meta.main")
    assert table["ra"].description == DETECTIONS["ra"].description


def test_fits_header_says_what_columns_are(rows: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    formats.write_rows([rows], rows.schema, "fits", path)
    with fits.open(path) as opened:
        opened.verify("exception")
        header = opened[1].header
    at = next(n for n in range(1, header["TFIELDS"] + 1) if header[f"TTYPE{n}"] == "ra")
    said = [header[f"{key}{at}"] for key in ("TUNIT", "TUCD", "TCOMM")]
    assert said == ["deg", "pos.eq.ra;meta.main", DETECTIONS["ra"].description]


def test_parquet_says_in_votable_what_columns_are(rows: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = rows.drop_columns(["filter"])  # astropy reads no dictionaries
    formats.write_rows([rows], rows.schema, "parquet", path)
    table = Table.read(path, format="parquet.votable")
    assert (str(table["hmjd"].unit), table["hmjd"].meta["ucd"]) == ("d", "time.epoch")
    assert np.array_equal(np.asarray(table["hmjd"]), rows["hmjd"].to_numpy())


@pytest.mark.parametrize("name", RELEASE_TABLES)
def test_votable_of_releases_names_every_column(name: str) -> None:
    """Of nested ones too; astropy parses it without a warning."""
    content = with_votable(RELEASE_TABLES[name].schema).metadata[CONTENT_KEY]
    fields = votable.parse(io.BytesIO(content), verify="exception").get_first_table().fields
    assert all(field.name for field in fields)
    assert len(fields) >= len(RELEASE_TABLES[name].columns)
    if name == "lightcurves":
        (mag,) = (field for field in fields if field.name == "lightcurve.mag")
        assert (mag.arraysize, mag.datatype, str(mag.unit), mag.ucd) == ("*", "float", "mag", "phot.mag;em.opt")


def test_ucds_are_of_the_controlled_vocabulary() -> None:
    for ucd in {*UCDS.values(), ucd_of("percentiles_05")}:
        parse_ucd(ucd, check_controlled_vocabulary=True)


def test_columns_with_units_have_a_ucd() -> None:
    tables = {**TABLES, **RELEASE_TABLES}
    lacking = {c.name for table in tables.values() for c in table.columns if c.unit and not c.ucd}
    assert lacking <= {"value"}  # of corrections: its unit is that of its term


def test_names_of_columns_are_those_of_ucds() -> None:
    known = {c.name for table in {**TABLES, **RELEASE_TABLES}.values() for c in table.columns}
    assert set(UCDS) <= known


def test_times_are_times_only_where_asked(rows: pa.Table) -> None:
    times = astropy_table(rows, times=True)["hmjd"]
    assert isinstance(times, Time)
    assert (times.format, times.scale) == ("mjd", "utc")
    assert np.array_equal(times.mjd, rows["hmjd"].to_numpy())
    assert np.array_equal(np.asarray(astropy_table(rows)["hmjd"]), rows["hmjd"].to_numpy())
