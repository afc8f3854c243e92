"""The survey's form of corrections on its real photometry: it brings magnitudes nearer to the calibrated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ztfmatch
from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io.surveytables import KNOTS, Spline, SurveyTables, write_survey_tables
from ztfmatch.core.survey import Unit

CHANNEL, FIELD = (36, 2), 245


def documented_tables(edge: float = -0.022, bright: float = 0.015, channel: tuple[int, int] = CHANNEL) -> SurveyTables:
    """Size and sign of what the survey adds: the brightest are made fainter, stars at the edge brighter."""
    inner = np.concatenate([[60.0, 120.0], np.linspace(250.0, 2900.0, KNOTS - 8)])
    knots = [np.concatenate([[0.5] * 3, inner, [n + 0.5] * 3]) for n in (3072, 3080)]
    coefficients = np.zeros((KNOTS - 3, KNOTS - 3))
    coefficients[:3] = edge  # x runs slowest: to 250 pixels from the edge
    c = bright / (12.5 - 19.25) ** 2
    bias = (0.004 + c * 19.25**2, -2.0 * c * 19.25, c)
    return SurveyTables({channel: bias}, {channel: Spline(*knots, coefficients.ravel())},
                        {Unit(FIELD, *channel): 0.001})  # fmt: skip


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ztfmatch.Store, pd.DataFrame]:
    """Replay of the matchfile, and what it has of exposures whose zero point is known."""
    tables = pytest.importorskip("tables")
    with tables.open_file(str(data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable")) as file:
        exposures = file.root.matches.exposures.col("expid")
        epochs = pd.DataFrame({n: file.root.matches.sourcedata.col(n) for n in ("matchid", "expid", "mag")})
    replay = str(data_dir / "replay" / "matchfile_245")
    store = ztfmatch.init_store(tmp_path_factory.mktemp("real") / "store", replay)
    store.append(replay)
    return store, epochs[epochs.expid.isin(exposures)]


def off(real: tuple[ztfmatch.Store, pd.DataFrame]) -> float:
    """Root mean square of magnitudes less the survey's own, mag."""
    store, survey = real
    snapshot = store.snapshot()
    rows = snapshot.lightcurves(objectid=snapshot.table("objects")["objectid"].to_pylist()).to_pandas()
    both = rows.assign(matchid=rows.objectid % 10**7).merge(survey, on=["matchid", "expid"], suffixes=("", "_survey"))
    assert len(both) == len(survey)
    return float(np.sqrt(np.mean((both.mag - both.mag_survey) ** 2)))


def test_correct_with_survey_tables_approaches_the_real_calibrated_magnitudes(
    real: tuple[ztfmatch.Store, pd.DataFrame], tmp_path: Path
) -> None:
    store, _ = real
    before = off(real)
    write_survey_tables(tmp_path / "right", documented_tables())
    write_survey_tables(tmp_path / "reversed", documented_tables(edge=0.022, bright=-0.015))
    assert store.correct(tmp_path / "right").committed
    assert off(real) < 0.6 * before
    assert store.verify(deep=True).passed
    store.correct(tmp_path / "reversed")
    assert off(real) > 1.3 * before
    store.correct(None)
    assert off(real) == before


def test_append_with_survey_tables_gives_what_correct_gives(
    data_dir: Path, real: tuple[ztfmatch.Store, pd.DataFrame], tmp_path: Path
) -> None:
    store, _ = real
    write_survey_tables(tmp_path / "tables", documented_tables())
    replay = str(data_dir / "replay" / "matchfile_245")
    other = ztfmatch.init_store(tmp_path / "store", replay)
    other.append(replay, ztfmatch.AppendConfig(corrections=tmp_path / "tables"))
    store.correct(tmp_path / "tables")
    rows = [
        one.snapshot().table("detections", ["objectid", "exposureid", "mag", "corrflags"]).to_pandas()
        for one in (store, other)
    ]
    first, second = (frame.sort_values(["objectid", "exposureid"], ignore_index=True) for frame in rows)
    pd.testing.assert_frame_equal(first, second)
    store.correct(None)


def test_correct_with_survey_tables_of_another_channel_is_refused(
    real: tuple[ztfmatch.Store, pd.DataFrame], tmp_path: Path
) -> None:
    store, _ = real
    write_survey_tables(tmp_path / "other", documented_tables(channel=(37, 2)))
    expected = (
        "other has corrections of CCD 10, quadrant 2, filter r; expected channels of .*: CCD 10, quadrant 1, filter r"
    )
    with pytest.raises(CorrectionsError, match=expected):
        store.correct(tmp_path / "other")


def test_status_of_the_real_release_raises_no_alarm(data_dir: Path, tmp_path: Path) -> None:
    """Nothing was reported to have changed in the season of these exposures."""
    replay = data_dir / "replay" / "dr5_250"
    catalogs = sorted(map(str, replay.rglob("*_psfcat.fits")))
    tables = documented_tables(channel=(0, 1))
    write_survey_tables(tmp_path / "tables", replace(tables, fields={Unit(250, 0, 1): 0.0}))
    store = ztfmatch.init_store(tmp_path / "store", str(replay))
    store.append(catalogs[:70])
    store.correct(tmp_path / "tables")
    store.append(catalogs[70:])
    (drift,) = store.snapshot().status.drift
    assert (drift.exposures, drift.drifted) == (32, False)
    assert drift.stars > 300
