"""Tables beside the catalogs: exposure metadata, error models, quality rules."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.metadata import quality_rules, read_error_models, read_exposure_table
from ztfmatch.core.survey import Unit

FRACDAY = 20180327208819
ROWS = {
    "filefracday": [FRACDAY, FRACDAY, FRACDAY + 1],
    "rcid": [20, 21, 20],
    "obsmjd": [58204.2088, 58204.2088, 58205.5],
    "airmass": [1.1, None, 1.3],
    "programid": [1, 2, None],
    "pcolor": ["g-R", "", "R-i"],
}
EXPECTED = {
    (FRACDAY, 20): {"obsmjd": 58204.2088, "airmass": 1.1, "programid": 1, "pcolor": "g-R"},
    (FRACDAY, 21): {"obsmjd": 58204.2088, "programid": 2},
    (FRACDAY + 1, 20): {"obsmjd": 58205.5, "airmass": 1.3, "pcolor": "R-i"},
}


def csv_file(directory: Path, columns: dict[str, list[object]]) -> Path:
    path = directory / "exposures.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(["" if v is None else v for v in row] for row in zip(*columns.values(), strict=True))
    return path


def ipac_file(directory: Path, columns: dict[str, list[object]]) -> Path:
    path = directory / "exposures.tbl"
    masked = {}
    for name, values in columns.items():
        mask = [v is None or v == "" for v in values]
        fill = next(v for v in values if v is not None)
        masked[name] = MaskedColumn([fill if gap else v for v, gap in zip(values, mask, strict=True)], mask=mask)
    Table(masked).write(path, format="ascii.ipac")
    return path


def parquet_file(directory: Path, columns: dict[str, list[object]]) -> Path:
    path = directory / "exposures.parquet"
    pq.write_table(pa.table(columns), path)
    return path


WRITERS = {"csv": csv_file, "ipac": ipac_file, "parquet": parquet_file}


@pytest.mark.parametrize("kind", WRITERS)
def test_read_exposure_table_every_format_gives_the_same(tmp_path: Path, kind: str) -> None:
    table = read_exposure_table(WRITERS[kind](tmp_path, ROWS))
    assert table.rows == EXPECTED
    assert table.find(FRACDAY, 20)["airmass"] == 1.1
    assert table.find(FRACDAY, 63) is None
    assert table.find(1, 20) is None


@pytest.mark.parametrize("kind", WRITERS)
def test_read_exposure_table_names_of_ibe_and_matchfiles(tmp_path: Path, kind: str) -> None:
    columns = {
        "FILEFRACDAY": [FRACDAY],
        "ccdid": [6],
        "qid": [1],
        "obsjd": [2458204.7088],
        "ipac_gid": [2],
        "diq": [2.25],
        "limitmag": [20.5],
        "unheard_of": [7],
    }
    got = read_exposure_table(WRITERS[kind](tmp_path, columns)).find(FRACDAY, 20)
    assert got.pop("obsmjd") == pytest.approx(58204.2088, abs=1e-8)
    assert got == {"programid": 2, "seeing": 2.25, "maglimit": 20.5}


def test_read_exposure_table_obsmjd_is_preferred_to_obsjd(tmp_path: Path) -> None:
    path = csv_file(tmp_path, {"fracday": [FRACDAY], "rcid": [1], "obsjd": [1.0], "obsmjd": [58204.5]})
    assert read_exposure_table(path).find(FRACDAY, 1) == {"obsmjd": 58204.5}


def test_read_exposure_table_without_channel_holds_for_all_channels(tmp_path: Path) -> None:
    table = read_exposure_table(csv_file(tmp_path, {"filefracday": [FRACDAY], "airmass": [1.5]}))
    assert table.find(FRACDAY, 0) == table.find(FRACDAY, 63) == {"airmass": 1.5}


def test_read_exposure_table_missing_numbers_are_absent_in_every_spelling(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"filefracday,rcid,airmass,seeing\n{FRACDAY},3,nan,\n{FRACDAY},4,,2\n")
    table = read_exposure_table(path)
    assert table.find(FRACDAY, 3) == {}
    assert table.find(FRACDAY, 4) == {"seeing": 2}


@pytest.mark.parametrize("kind", WRITERS)
def test_read_exposure_table_rows_that_contradict_each_other_raise_and_both_are_named(
    tmp_path: Path, kind: str
) -> None:
    """Which of them is right decides whether an exposure is public."""
    columns = {"filefracday": [FRACDAY, FRACDAY + 1, FRACDAY], "rcid": [20, 20, 20], "programid": [2, 1, 1]}
    path = WRITERS[kind](tmp_path, columns)
    with pytest.raises(MetadataError) as caught:
        read_exposure_table(path)
    assert str(caught.value) == (
        f"{path}: data rows 1 and 3 contradict each other: both are of fracday {FRACDAY}, rcid 20, but one has "
        f"programid 2, the other 1; remove the wrong one"
    )


def test_read_exposure_table_rows_of_a_catalog_complete_each_other(tmp_path: Path) -> None:
    columns = {"fracday": [FRACDAY] * 3, "rcid": [20, 20, 20], "programid": [None, 2, 2], "airmass": [1.5, None, 1.5]}
    table = read_exposure_table(csv_file(tmp_path, columns))
    assert table.rows == {(FRACDAY, 20): {"programid": 2, "airmass": 1.5}}


def test_read_exposure_table_names_the_row_that_says_otherwise_not_the_first_of_the_catalog(tmp_path: Path) -> None:
    columns = {"fracday": [FRACDAY] * 3, "rcid": [20, 20, 20], "programid": [None, 2, 1]}
    with pytest.raises(MetadataError, match="rows 2 and 3 contradict each other"):
        read_exposure_table(csv_file(tmp_path, columns))


def test_read_exposure_table_row_of_all_channels_completes_or_contradicts_that_of_one(tmp_path: Path) -> None:
    columns = {"fracday": [FRACDAY, FRACDAY], "rcid": [20, None], "programid": [None, 2], "airmass": [1.5, None]}
    table = read_exposure_table(csv_file(tmp_path, columns))
    assert table.find(FRACDAY, 20) == {"programid": 2, "airmass": 1.5}
    assert table.find(FRACDAY, 21) == {"programid": 2}
    columns["programid"] = [1, 2]
    with pytest.raises(
        MetadataError, match=f"rows 2 and 1 contradict each other: .*{FRACDAY}, rcid 20, .*programid 2, .* 1"
    ):
        read_exposure_table(csv_file(tmp_path, columns))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"rcid": [20], "programid": [1], "ipac_gid": [2]}, "row 1 has programid 1, but ipac_gid 2; expected the same"),
        ({"rcid": [20], "filefracday": [FRACDAY + 1]}, f"row 1 has fracday {FRACDAY}, but filefracday {FRACDAY + 1}"),
        ({"rcid": [20], "ccdid": [6], "qid": [2]}, "ccdid and qid make rcid 21"),
        ({"rcid": [64]}, "rcid 64 is outside 0..63"),
        ({"rcid": [20.5]}, "20.5 is not a whole number"),
        ({"rcid": [20], "programid": [1.5]}, "no usable obsjd, programid: 1.5 is not a whole number"),
        ({"rcid": [20], "programid": ["public"]}, "no usable obsjd, programid: invalid literal"),
        ({"rcid": [20], "PROGRAMID": [2], "programid": [1]}, "there are 2 columns programid; expected one"),
    ],
)
def test_read_exposure_table_columns_that_contradict_or_are_no_numbers_raise(
    tmp_path: Path, columns: dict[str, list[object]], why: str
) -> None:
    path = csv_file(tmp_path, {"fracday": [FRACDAY], **columns})
    with pytest.raises(MetadataError, match=why) as caught:
        read_exposure_table(path)
    assert str(path) in str(caught.value)


def test_read_exposure_table_columns_of_two_names_may_agree_or_fill_each_other(tmp_path: Path) -> None:
    columns = {"fracday": [FRACDAY, FRACDAY + 1], "rcid": [20, 20], "programid": [1, None], "ipac_gid": [1, None]}
    table = read_exposure_table(csv_file(tmp_path, columns))
    assert table.rows == {(FRACDAY, 20): {"programid": 1}, (FRACDAY + 1, 20): {}}


@pytest.mark.parametrize("kind", WRITERS)
def test_read_exposure_table_masked_integers_and_odd_programs(tmp_path: Path, kind: str) -> None:
    """Integers with gaps come as floats from some writers."""
    columns = {"fracday": [FRACDAY, FRACDAY + 1, FRACDAY + 2], "rcid": [20, 20, 20], "programid": [-1, None, 200]}
    got = read_exposure_table(WRITERS[kind](tmp_path, {**columns, "nmatches": [None, 7, None]}))
    assert got.find(FRACDAY, 20) == {"programid": -1}
    assert got.find(FRACDAY + 1, 20) == {"nmatches": 7}
    assert got.find(FRACDAY + 2, 20) == {"programid": 200}
    assert isinstance(got.find(FRACDAY, 20)["programid"], int)


def test_read_exposure_table_of_the_simulator(tmp_path: Path) -> None:
    from ztfmatch.simulate import SimulationConfig, simulate

    config = SimulationConfig(fields=(679,), rcids=(16,), filters=(1,), n_exposures=2, stars_per_quadrant=30)
    simulate(tmp_path / "d", config)
    table = read_exposure_table(tmp_path / "d" / "exposures.csv")
    assert len(table.rows) == 2
    assert all(
        set(row) >= {"obsmjd", "exptime", "airmass", "seeing", "maglimit", "expid"} for row in table.rows.values()
    )


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("none.csv", None, "no such file"),
        ("x.csv", "", "not a readable table"),
        ("x.csv", "a,b\n1,2\n", r"no column filefracday or fracday; it has a, b"),
        ("x.csv", "filefracday,rcid\n,5\n", "has no usable filefracday, rcid"),
        ("x.csv", "filefracday,rcid\nyesterday,5\n", "has no usable filefracday, rcid"),
        ("x.csv", f"filefracday,ccdid,qid\n{FRACDAY},17,1\n", "ccdid 17, qid 1"),
        ("x.csv", "filefracday,rcid\n1,2,3\n", "not a readable table"),
        ("x.parquet", "not parquet", "not a readable table"),
        ("x.tbl", "not ipac", "not a readable table"),
    ],
)
def test_read_exposure_table_unusable_raises(tmp_path: Path, name: str, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MetadataError, match=why) as caught:
        read_exposure_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_read_exposure_table_directory_raises(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="not a readable table"):
        read_exposure_table(tmp_path)


# Error models


def test_read_error_models_real_file_equals_numpy(data_dir: Path) -> None:
    path = data_dir / "survey" / "ZTF_errorbar_correction_zr.dat"
    models = read_error_models(path).coefficients
    lines = [line.split() for line in path.read_text().splitlines() if line[:1] != "#" and line.strip()]
    assert len(lines) == len(models) == 64_679
    assert {unit.fid for unit in models} == {2}
    for line in lines[::997]:
        field, ccd, quadrant = map(int, line[:3])
        assert models[Unit(field, 4 * (ccd - 1) + quadrant - 1, 2)] == tuple(map(float, line[3:]))


def test_read_error_models_field_245_is_close_to_its_matchfile(data_dir: Path) -> None:
    models = read_error_models(data_dir / "survey" / "ZTF_errorbar_correction_zr.dat").coefficients
    a, b, c, d = models[Unit(245, 36, 2)]
    at = {m: a + b * m + c * 10 ** (0.4 * m) + d * 10 ** (0.8 * m) for m in (16.0, 19.0)}
    theirs = (0.0211092, -5.80838e-4, 1.69511e-9, -4.41441e-18)
    for mag, error in at.items():
        expected = sum(x * y for x, y in zip(theirs, (1, mag, 10 ** (0.4 * mag), 10 ** (0.8 * mag)), strict=True))
        assert error == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("name", "fid", "expected"), [("x_zg.dat", None, 1), ("x_zi.txt", None, 3), ("x.dat", 2, 2)])
def test_read_error_models_filter_by_name_or_argument(
    tmp_path: Path, name: str, fid: int | None, expected: int
) -> None:
    (tmp_path / name).write_text("# comment\n245 10 1 0.02 -5e-4 1e-9 -4e-18\n")
    assert read_error_models(tmp_path / name, fid).coefficients == {
        Unit(245, 36, expected): (0.02, -5e-4, 1e-9, -4e-18)
    }


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("model.dat", "245 10 1 1 2 3 4\n", "does not end in zg, zr or zi"),
        ("zr.dat", None, "not a table of fieldid ccdid qid A B C D"),
        ("zr.dat", "245 10 1 1 2 3\n", "6 columns; expected"),
        ("zr.dat", "245 10 1 1 2 3 4\n245 10\n", "not a table of"),
        ("zr.dat", "245 10 1 a b c d\n", "not a table of"),
        ("zr.dat", "245 17 1 1 2 3 4\n", "ccdid 17"),
        ("zr.dat", "0 10 1 1 2 3 4\n", "field 0"),
        ("zr.dat", "nan 10 1 1 2 3 4\n", "not a table of"),
        ("zr.dat", "245.5 10 1 1 2 3 4\n", "245.5 is not a whole number"),
        ("zr.dat", "245 10 1 nan 2 3 4\n", "'245 10 1 nan 2 3 4' has a number that is not finite"),
        ("zr.dat", "245 10 1 1 2 3 4\n245 10 1 1 2 3 5\n", "unit 000245_zr_c10_q1 is there twice"),
        ("zr.dat", "", "zr.dat: "),
        ("zr.dat", "# nothing but comments\n", "zr.dat: "),
    ],
)
def test_read_error_models_unusable_raises(tmp_path: Path, name: str, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MetadataError, match=why):
        read_error_models(tmp_path / name)


# Quality rules


def test_quality_rules_are_those_of_the_supplement() -> None:
    got = {fid: (r.upper, r.slope, r.max_magzprms, r.min_nmatches) for fid, r in quality_rules().items()}
    assert got == {1: (26.7, 0.20, 0.06, 80), 2: (26.65, 0.15, 0.05, 120), 3: (26.0, 0.07, 0.06, 100)}


def test_quality_rules_shipped_thresholds_are_the_real_file(data_dir: Path) -> None:
    path = data_dir / "survey" / "zp_thresholds_quadID.txt"
    shipped, read = quality_rules(), quality_rules(path)
    lines = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    table = np.array([[float(x) for x in line] for line in lines if line and line[0].isdigit()])
    assert table.shape == (64, 4)
    for fid in (1, 2, 3):
        assert shipped[fid].thresholds == read[fid].thresholds == tuple(table[np.argsort(table[:, 0]), fid].tolist())


def test_quality_rules_thresholds_in_any_order_and_either_separator(tmp_path: Path) -> None:
    lines = [f"{i},{20 + i},{21 + i},{22 + i}" if i % 2 else f"{i} {20 + i} {21 + i} {22 + i}" for i in range(64)]
    (tmp_path / "t").write_text("# head\nrcid g r i\n" + "\n".join(reversed(lines)) + "\n")
    rules = quality_rules(tmp_path / "t")
    assert [rules[fid].thresholds[5] for fid in (1, 2, 3)] == [25.0, 26.0, 27.0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "not lines of rcid g r i"),
        ("", "expected one line of rcid g r i for each rcid"),
        ("\n".join(f"{i} 1 2 3" for i in range(63)), "for each rcid"),
        ("\n".join(f"{i % 63} 1 2 3" for i in range(64)), "for each rcid"),
        ("\n".join(f"{i} 1 2" for i in range(64)), "for each rcid"),
        ("\n".join(f"{i} 1 2 x" for i in range(64)), "not lines of rcid g r i"),
        ("0 1 2 3\n1 2 3\n", "not lines of rcid g r i"),
        ("\n".join(f"{i} 1 2 nan" for i in range(64)), "a number is not finite"),
    ],
)
def test_quality_rules_bad_thresholds_raise(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "t").write_text(text)
    with pytest.raises(MetadataError, match=why):
        quality_rules(tmp_path / "t")


def test_quality_rules_changed_numbers_only_where_named(tmp_path: Path) -> None:
    (tmp_path / "rule.toml").write_text("[zr]\nupper = 26.75\nmin_nmatches = 10\n")
    rules, plain = quality_rules(rule=tmp_path / "rule.toml"), quality_rules()
    assert (rules[2].upper, rules[2].min_nmatches, rules[2].slope) == (26.75, 10, 0.15)
    assert (rules[1], rules[3]) == (plain[1], plain[3])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "rule.toml cannot be read: No such file"),
        ("[zr", "not TOML"),
        ("[zu]\nupper = 1\n", "unknown key 'zu'; there are: zg, zr, zi"),
        ("[zr]\nuper = 1\n", r"unknown key 'uper' in \[zr\]; there are: upper, slope"),
        ("zr = 3\n", "zr is 3; expected a table"),
        ('[zr]\nupper = "high"\n', r"upper in \[zr\] is 'high'; expected a number"),
        ("[zr]\nupper = true\n", r"upper in \[zr\] is True; expected a number"),
        ("[zr]\nthresholds = [1]\n", "thresholds"),
        ("[zr]\nupper = nan\n", r"upper in \[zr\] is nan; expected a number"),
        ("", "changes nothing"),
        ("[zr]\n", "changes nothing"),
    ],
)
def test_quality_rules_bad_rule_raises(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "rule.toml").write_text(text)
    with pytest.raises(MetadataError, match=why):
        quality_rules(rule=tmp_path / "rule.toml")


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.tuples(st.integers(20170101000000, 20300101000000), st.integers(0, 63)), st.floats(1, 3), max_size=20
    )
)
def test_read_exposure_table_any_keys_come_back(tmp_path_factory, rows) -> None:  # type: ignore[no-untyped-def]
    columns = {"fracday": [k[0] for k in rows], "rcid": [k[1] for k in rows], "airmass": list(rows.values())}
    table = read_exposure_table(parquet_file(tmp_path_factory.getbasetemp(), columns))
    assert table.rows == {key: {"airmass": value} for key, value in rows.items()}
