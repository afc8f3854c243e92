"""The survey's own tables of corrections: evaluated as by FITPACK, added to magnitudes, refused if bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import bisplev, bisplrep

from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io.correctionrows import set_of_store_rows, store_rows
from ztfmatch.core.io.corrections import read_corrections
from ztfmatch.core.io.surveytables import (
    KNOTS,
    Spline,
    SurveyTables,
    read_survey_tables,
    spline_name,
    write_survey_tables,
)
from ztfmatch.core.kernels.smoothcorrections import smoothly_corrected
from ztfmatch.core.survey import Unit

CHANNELS = ((36, 2), (7, 1))


def spline(seed: int) -> Spline:
    """As SciPy fits one to noisy cells of a map: 24 knots along each axis, unevenly placed."""
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(1.0, n, 4000) for n in (3072, 3080))
    inner = [np.sort(rng.uniform(60.0, 3000.0, KNOTS - 6)) for _ in range(2)]
    knots = [np.concatenate([[0.5] * 3, some, [n + 0.5] * 3]) for some, n in zip(inner, (3072, 3080), strict=True)]
    z = 0.02 * np.sin(x / 700.0) * np.cos(y / 500.0) + rng.normal(0.0, 0.002, len(x))
    tx, ty, c, *_ = bisplrep(x, y, z, kx=2, ky=2, task=-1, tx=knots[0], ty=knots[1], s=0, xb=0.5, xe=3072.5, yb=0.5,
                             ye=3080.5)  # fmt: skip
    return Spline(tx, ty, c)


@pytest.fixture(scope="module")
def tables() -> SurveyTables:
    bias = {(36, 2): (0.612, -0.0731, 0.00213), (7, 1): (-0.3, 0.041, -0.0014)}
    fields = {Unit(245, 36, 2): 0.0061, Unit(679, 7, 1): -0.0042}
    return SurveyTables(bias, {channel: spline(channel[0]) for channel in CHANNELS}, fields)


@pytest.fixture
def place(tables: SurveyTables, tmp_path: Path) -> Path:
    write_survey_tables(tmp_path / "survey", tables)
    return tmp_path / "survey"


def added(tables: SurveyTables, unit: Unit, mag: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the survey adds, written as its instructions have it, with SciPy's FITPACK."""
    a, b, c = tables.bias[unit.rcid, unit.fid]
    m = np.minimum(mag, 19.25)
    tx, ty, coefficients = tables.splines[unit.rcid, unit.fid]
    at = np.array([bisplev(u, v, (tx, ty, coefficients, 2, 2)) for u, v in zip(x, y, strict=True)])
    return a + b * m + c * m * m + at + tables.fields.get(unit, 0.0)


@pytest.mark.parametrize("unit", [Unit(245, 36, 2), Unit(679, 7, 1), Unit(300, 7, 1)])
def test_survey_tables_are_added_to_magnitudes_as_its_pipeline_does(
    place: Path, tables: SurveyTables, unit: Unit
) -> None:
    rng = np.random.default_rng(1)
    mag = rng.uniform(10.0, 21.0, 3000)
    x, y = (rng.uniform(-20.0, n + 20.0, 3000).astype(np.float32) for n in (3072, 3080))
    x[0], y[0], x[1] = 0.5, 3080.5, tables.splines[36, 2].knots_x[5]
    held = set_of_store_rows(store_rows(read_corrections(place).set))  # as a store has it
    assert held.smooth is not None
    assert held.smooth_tables is not None
    offset = np.array([held.offsets.get(unit, np.nan)])
    terms = held.smooth.exposures([unit], np.array([58500.0]), offset, np.zeros((1, 6)))
    none, exposure = np.full(3000, np.nan, np.float32), np.zeros(3000, np.int64)
    made, flags, _ = smoothly_corrected(mag, (x, y), none, exposure, terms, held.smooth_tables)
    want = mag + added(tables, unit, mag, x, y)
    np.testing.assert_allclose(made, want, rtol=0, atol=2e-6)  # half of what float32 resolves
    field = 4 if unit in tables.fields else 32
    np.testing.assert_array_equal(flags, np.where(mag <= 19.25, 1, 8) | 2 | field)


def test_survey_tables_written_and_read_are_the_same(place: Path, tables: SurveyTables, tmp_path: Path) -> None:
    again, files = read_survey_tables(place)
    assert again.bias == tables.bias
    assert again.fields == tables.fields
    assert len(files) == 4
    for channel in CHANNELS:
        for got, want in zip(again.splines[channel], tables.splines[channel], strict=True):
            np.testing.assert_array_equal(got, want)
    write_survey_tables(tmp_path / "again", again)
    assert read_corrections(tmp_path / "again").set.digest == read_corrections(place).set.digest


def test_survey_tables_in_other_spellings_are_read(place: Path, tables: SurveyTables) -> None:
    """Filters as numbers, a first line of names, tabs, CRLF."""
    bias = place / "Mag_Bias.txt"
    lines = [line.replace(" g ", " 1\t").replace(" r ", " 2 ") for line in bias.read_text().splitlines()[1:]]
    bias.write_text("\r\n".join(["CCD Quad Filter a b c", *lines, ""]), newline="")
    assert read_survey_tables(place)[0].bias == tables.bias


SPLINE = spline_name((36, 2))


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        path = place / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: (p / SPLINE).rename(p / "ztf_zr_c10_q2.out.txt.spline"),
         r"ztf_zr_c10_q2\S+ is of CCD 10, quadrant 2, filter r, of which Mag_Bias.txt has no line; expected the same"),
        (lambda p: (p / SPLINE).unlink(),
         r"Mag_Bias.txt has CCD 10, quadrant 1, filter r, of which there is no ztf_zr_c10_q1"),
        (lambda p: (p / SPLINE).rename(p / "ztf_zr_c17_q1.out.txt.spline"), r"c17_q1\S+: the name tells no channel"),
        (lambda p: (p / SPLINE).rename(p / "ztf_zy_c10_q1.out.txt.spline"), r"zy_c10_q1\S+: the name tells no channel"),
        (lambda p: (p / "Field_Corrections.txt").unlink(), r"Field_Corrections.txt is missing"),
        (lambda p: (p / "Mag_Bias.txt").unlink(), r"Mag_Bias.txt is missing"),
        (lambda p: (p / "Mag_Bias.txt").write_text("# nothing\n"), r"Mag_Bias.txt has no line of numbers"),
        (lambda p: (p / "Mag_Bias.txt").write_bytes(b"10 1 r \xff 1 2\n"), r"Mag_Bias.txt cannot be read"),
        (replaced("Mag_Bias.txt", "10 1 r", "10 5 r"), r"Mag_Bias.txt: line 3: quadrant is '5'; expected 1 to 4"),
        (replaced("Mag_Bias.txt", "10 1 r", "10 1 y"), r"line 3: filter is 'y'; expected g, r or i"),
        (replaced("Mag_Bias.txt", "10 1 r", "02 4 g"), r"line 3: CCD 2, quadrant 4, filter g is there twice"),
        (replaced("Mag_Bias.txt", "0.612", "nan"), r"line 3: 'nan' is no finite number"),
        (replaced("Mag_Bias.txt", " 0.612", ""), r"line 3 has 5 columns: '10 1 r \S+ \S+'; expected 'ccd quadrant"),
        (replaced("Field_Corrections.txt", "000245 36 r", "000245 35 r"),
         r"field 245 of CCD 9, quadrant 4, filter r, of which Mag_Bias.txt has no line"),
        (replaced("Field_Corrections.txt", "000245 36 r", "000245 64 r"), r"readout channel is '64'; expected 0 to 63"),
        (replaced("Field_Corrections.txt", "000679", "00x679"), r"field is '00x679'; expected 1 to 9999"),
        (replaced(SPLINE, "coeff 7 =", "# coeff 7 ="), r"has 440 lines of coeff; expected 441"),
        (replaced(SPLINE, "X knot number 3 =", "X knot"), r"line 445: 'X knot \S+' has no word 6"),
        (replaced(SPLINE, "Y knot number 0 = 0.5", "Y knot number 0 = 0.25"), r"Y knots run from 0.25, 0.5 to"),
    ],
)  # fmt: skip
def test_read_of_bad_survey_tables_names_file_value_and_what_was_expected(
    place: Path, change: Callable[[Path], object], complaint: str
) -> None:
    change(place)
    with pytest.raises(CorrectionsError, match=complaint) as caught:
        read_corrections(place)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
