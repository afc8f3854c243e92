"""Sets of ours as the survey's tables: the same where its form has it, else as near as is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from corrected import write_set

from ztfmatch.cli import main
from ztfmatch.core.errors import ConfigError, CorrectionsError
from ztfmatch.core.io.corrections import read_corrections, write_corrections
from ztfmatch.core.io.smoothsets import SmoothSet
from ztfmatch.core.io.surveytables import Spline, SurveyTables, read_survey_tables
from ztfmatch.core.kernels.smoothcorrections import curve_value, spline_values
from ztfmatch.core.survey import Unit
from ztfmatch.photometry.kernels.splines import map_basis
from ztfmatch.photometry.surveyform import export_survey_tables

UNIT = Unit(245, 36, 2)


def smooth(drift: float = 0.0) -> SmoothSet:
    """Of one channel with a steep rim and a curve that is a quadratic, at two times between which it drifts."""
    basis = map_basis(30, 30)
    x, y = basis.places
    steep = 0.03 * np.exp(-x / 60.0) + 0.01 * np.sin(y / 800.0)
    curve = np.array([12.0, 19.25, 0.0005, -0.0002])
    numbers = {
        "knots_x": np.tile(basis.knots_x, (2, 1)), "knots_y": np.tile(basis.knots_y, (2, 1)),
        "maps": np.stack([steep, steep + drift]), "curve": np.tile(curve, (2, 1)), "colour": np.zeros((2, 3)),
    }  # fmt: skip
    return SmoothSet(((36, 2), (36, 2)), np.array([58400.0, 58500.0]), numbers, 0.0, {})


def written(place: Path, model: SmoothSet) -> Path:
    """A set as a directory; what the survey's tables lack is empty."""
    channel = (36, 2)
    tables = SurveyTables({channel: (0.0, 0.0, 0.0)}, {channel: _flat()}, {UNIT: 0.006}).correction_tables()
    write_corrections(place, tables | {"model": model.rows()}, {"cells_x": 30, "cells_y": 30, "snapshot": 0})
    return place


def _flat() -> Spline:
    knots = np.concatenate([[0.5] * 3, np.linspace(100.0, 2900.0, 18), [3080.5] * 3])
    return Spline(knots, knots, np.zeros(441))


def added(tables: SurveyTables, mag: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, c = tables.bias[36, 2]
    knots_x, knots_y, values = tables.splines[36, 2]
    return a + b * mag + c * mag * mag + spline_values(knots_x, knots_y, values.reshape(21, 21).T.ravel(), x, y)


@pytest.mark.parametrize(("mjd", "offset"), [(58450.0, 0.002), (None, 0.004), (58000.0, 0.0)])
def test_export_survey_tables_adds_what_the_set_takes_off_at_a_time(
    tmp_path: Path, mjd: float | None, offset: float
) -> None:
    model = smooth(drift=0.004)
    report = export_survey_tables(written(tmp_path / "set", model), tmp_path / "survey", mjd)
    (form,) = report.channels
    assert report.left_out == ["time"]
    assert form.magnitude_most_mmag < 1e-6
    assert 0.0 < form.map_rms_mmag < 0.1
    assert form.map_most_mmag < 2.0
    tables = read_survey_tables(tmp_path / "survey")[0]
    assert tables.fields == {UNIT: 0.006}
    rng = np.random.default_rng(3)
    x, y = rng.uniform(1.0, 3072.0, 2000), rng.uniform(1.0, 3080.0, 2000)
    maps = {name: model.numbers[name][0] for name in ("knots_x", "knots_y", "maps")}
    for mag in (12.5, 16.0, 19.25):
        taken = curve_value(model.numbers["curve"][0], mag, 0.0) + spline_values(*maps.values(), x, y) + offset
        off = 1000.0 * (added(tables, mag, x, y) + taken)
        assert np.sqrt(np.mean(off**2)) < 2.0 * form.map_rms_mmag
        assert np.abs(off).max() < 1.1 * form.map_most_mmag


@pytest.mark.parametrize("bright", [19.2, 20.5])
def test_export_survey_tables_of_a_set_of_faint_stars_is_what_the_set_is_at_its_bright_end(
    tmp_path: Path, bright: float
) -> None:
    model = smooth()
    model.numbers["curve"][:] = [bright, 22.0, 0.0005, -0.0002]
    export_survey_tables(written(tmp_path / "set", model), tmp_path / "survey")
    a, b, c = read_survey_tables(tmp_path / "survey")[0].bias[36, 2]
    for mag in (17.5, 19.0):
        taken = curve_value(model.numbers["curve"][0], mag, 0.0)
        assert a + b * mag + c * mag * mag == pytest.approx(-taken, abs=1e-4)


def test_export_survey_tables_of_survey_tables_gives_their_numbers(tmp_path: Path) -> None:
    export_survey_tables(written(tmp_path / "set", smooth()), tmp_path / "survey")
    report = export_survey_tables(tmp_path / "survey", tmp_path / "again")
    assert report.left_out == []
    assert max(report.channels[0].map_most_mmag, report.channels[0].magnitude_most_mmag) < 1e-6
    first, again = (read_survey_tables(tmp_path / name)[0] for name in ("survey", "again"))
    x, y = np.array([1.0, 20.0, 1500.0]), np.array([3080.0, 7.0, 800.0])
    for mag in (11.0, 19.25):
        np.testing.assert_allclose(added(again, mag, x, y), added(first, mag, x, y), rtol=0, atol=1e-9)
    assert read_corrections(tmp_path / "again").set.offsets == read_corrections(tmp_path / "survey").set.offsets


def test_export_corrections_command_says_how_near_the_form_is(tmp_path: Path) -> None:
    written(tmp_path / "set", smooth())
    arguments = ["export", "corrections", str(tmp_path / "set"), "-o", str(tmp_path / "survey")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "1 channel, 1 unit" in done.output
    assert CliRunner().invoke(main, arguments).exit_code != 0  # it is there already
    write_set(tmp_path / "old", [UNIT])
    done = CliRunner().invoke(main, ["export", "corrections", str(tmp_path / "old"), "-o", str(tmp_path / "x")])
    assert "one value a cell" in done.output


def test_export_survey_tables_at_what_is_no_mjd_is_refused(tmp_path: Path) -> None:
    """A Julian date, say."""
    written(tmp_path / "set", smooth())
    with pytest.raises(ConfigError, match=r"mjd is 2458450\.5; expected an MJD of 50000 to 100000"):
        export_survey_tables(tmp_path / "set", tmp_path / "survey", 2458450.5)
    assert not (tmp_path / "survey").exists()


@pytest.mark.parametrize(("name", "said"), [("nothing", "does not exist"), ("file", "is a file")])
def test_corrections_that_are_no_directory_are_told(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorrectionsError, match=f"{name} {said}; expected a directory of corrections"):
        export_survey_tables(tmp_path / name, tmp_path / "survey")
