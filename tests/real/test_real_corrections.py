"""Corrections and error models on real photometry: sign and size are those that the survey has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ztfmatch
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.corrections import write_corrections
from ztfmatch.core.io.metadata import read_error_models
from ztfmatch.core.kernels.calibration import model_errors
from ztfmatch.photometry.calibrate import CalibrateInputs

RCID, FID, FIELD = 36, 2, 245


@pytest.fixture(scope="module")
def matchfile(data_dir: Path) -> pd.DataFrame:
    """Epochs of the real matchfile whose exposures have their header's zero point; ``taken`` is what its mag lacks."""
    tables = pytest.importorskip("tables")
    with tables.open_file(str(data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable")) as file:
        exposures = pd.DataFrame({n: file.root.matches.exposures.col(n) for n in ("expid", "magzp")})
        names = ("matchid", "expid", "mag", "psfflux", "xpos", "ypos")
        epochs = pd.DataFrame({n: file.root.matches.sourcedata.col(n) for n in names})
    epochs = epochs.merge(exposures, on="expid")
    measured = epochs.magzp - 2.5 * np.log10(epochs.psfflux.astype(float))
    return epochs.assign(measured=measured, taken=measured - epochs.mag)


def documented_set(place: Path) -> None:
    """What the documentation says of size and sign, as a set of ours: bright stars too bright, the edge too faint."""
    cells = [(column, row) for row in range(30) for column in range(30)]
    n = len(cells)
    edge = pa.array([0.022 if column == 0 else 0.0 for column, _ in cells])
    channel = {"rcid": pa.array([RCID], pa.int8()), "fid": pa.array([FID], pa.int8())}
    numbers = {"bright": 12.0, "faint": 19.25, "slope": 0.0005, "curvature": -0.0002}
    tables = {
        "magnitude": pa.table({**channel, **{name: pa.array([value]) for name, value in numbers.items()}}),
        "position": pa.table({
            "rcid": pa.array([RCID] * n, pa.int8()), "fid": pa.array([FID] * n, pa.int8()),
            "column": pa.array([c for c, _ in cells], pa.int16()), "row": pa.array([r for _, r in cells], pa.int16()),
            "value": edge,
        }),
        "field": pa.table({"field": pa.array([FIELD], pa.int16()), **channel, "value": pa.array([-0.006])}),
        "errormodel": pa.table({"field": pa.array([], pa.int16()), "rcid": pa.array([], pa.int8()),
                                "fid": pa.array([], pa.int8()), **{n: pa.array([], pa.float64()) for n in "abcd"}}),
        "exposures": pa.table({"exposureid": pa.array([], pa.int64()), "relzp": pa.array([], pa.float64()),
                               "relzprms": pa.array([], pa.float64()), "nrelzp": pa.array([], pa.int32())}),
        "sums": pa.table({"rcid": pa.array([], pa.int8())}),
    }  # fmt: skip
    write_corrections(place, tables, {"cells_x": 30, "cells_y": 30, "snapshot": 0, "store": "none"})


def test_corrections_of_the_real_matchfile_have_our_sign_and_the_documented_size(matchfile: pd.DataFrame) -> None:
    """``taken`` is in our sense: observed less PS1, taken off by the survey."""
    middle = matchfile[matchfile.xpos.between(500, 2600)]
    edge = matchfile[matchfile.xpos < 110]
    assert len(middle) >= 15
    assert len(edge) >= 8
    assert middle.taken.between(-0.010, -0.003).all()  # magnitude term and offset: taken off, stars become fainter
    assert edge.taken.between(0.005, 0.040).all()  # position term: at the edge they become brighter
    nearest, farther = edge[edge.xpos < 40], edge[edge.xpos > 70]
    assert nearest.taken.mean() > farther.taken.mean() + 0.01


def test_correct_with_the_documented_terms_approaches_the_real_calibrated_magnitudes(
    data_dir: Path, matchfile: pd.DataFrame, tmp_path: Path
) -> None:
    replay = str(data_dir / "replay" / "matchfile_245")
    store = ztfmatch.init_store(tmp_path / "store", replay)
    store.append(replay)
    documented_set(tmp_path / "set")

    def off() -> float:
        snapshot = store.snapshot()
        ids = snapshot.table("objects")["objectid"].to_pylist()
        rows = snapshot.lightcurves(objectid=ids).to_pandas()
        rows = rows.assign(matchid=rows.objectid % 10**7)
        both = rows.merge(matchfile, on=["matchid", "expid"], suffixes=("", "_survey"))
        assert len(both) == len(matchfile)
        return float(np.sqrt(np.mean((both.mag - both.mag_survey) ** 2)))

    before = off()
    assert before > 0.010
    assert store.correct(tmp_path / "set").committed
    assert off() < 0.6 * before
    assert store.verify(deep=True).passed
    store.correct(None)
    assert off() == before


@pytest.fixture(scope="module")
def dr5(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ztfmatch.Store, pd.DataFrame]:
    """The release's lightcurves, and for each the median of its magnitudes as PS1."""
    place = tmp_path_factory.mktemp("dr5")
    replay = str(data_dir / "replay" / "dr5_250")
    store = ztfmatch.init_store(place / "store", replay)
    store.append(replay)
    snapshot = store.snapshot()
    rows = snapshot.table("detections", ["objectid", "mag", "catflags"]).to_pandas()
    medians = rows[rows.catflags == 0].groupby("objectid").mag.median().rename("median")
    objects = snapshot.table("objects", ["objectid", "ra", "dec"]).to_pandas().merge(medians, on="objectid")
    return store, objects.assign(**dict.fromkeys("gri", objects["median"])).drop(columns="median")


def calibrated(store: ztfmatch.Store, ps1: pd.DataFrame, place: Path, terms: tuple[str, ...] | None) -> Path:
    """Corrections relative to a catalog made of the lightcurves' own medians."""
    pq.write_table(pa.Table.from_pandas(ps1.drop(columns="objectid"), preserve_index=False), place / "ps1.parquet")
    store.calibrate(CalibrateInputs(place / "ps1.parquet", place / "set"), CalibrateConfig(terms=terms))
    return place / "set"


@pytest.fixture(scope="module")
def dr5_set(
    dr5: tuple[ztfmatch.Store, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ztfmatch.Store, Path]:
    """Corrections without any of single exposures: only error models are new."""
    store, ps1 = dr5
    return store, calibrated(store, ps1, tmp_path_factory.mktemp("steady"), ())


def test_calibrate_release_error_model_is_the_surveys_own(dr5_set: tuple[ztfmatch.Store, Path]) -> None:
    """magerr of the release is the survey's model of that unit; ours is from the scatter of the same lightcurves."""
    store, place = dr5_set
    (model,) = pq.read_table(place / "errormodel.parquet").to_pylist()
    rows = store.snapshot().table("detections", ["mag", "magerr", "catflags"]).to_pandas()
    rows = rows[(rows.catflags == 0) & rows.mag.between(14.75, 20.0)]
    ours = model_errors(rows.mag.to_numpy(), np.array([model[n] for n in "abcd"]))
    ratio = pd.Series(ours / rows.magerr.to_numpy()).groupby((rows.mag.to_numpy() / 0.5).astype(int)).median()
    assert ratio.between(0.85, 1.25).all(), ratio


def test_calibrate_release_error_model_is_of_the_size_of_64679_real_ones(
    data_dir: Path, dr5_set: tuple[ztfmatch.Store, Path]
) -> None:
    real = np.array(
        list(read_error_models(data_dir / "survey" / "ZTF_errorbar_correction_zr.dat").coefficients.values())
    )
    assert len(real) > 60_000
    (model,) = pq.read_table(dr5_set[1] / "errormodel.parquet").to_pylist()
    for mag, low, high in ((15.0, 1, 99.9), (17.0, 1, 99.9), (19.0, 1, 99.9)):
        at = model_errors(np.full(len(real), mag, np.float32), real)
        ours = model_errors(np.array([mag], np.float32), np.array([model[n] for n in "abcd"]))[0]
        assert np.percentile(at, low) < ours < np.percentile(at, high), mag


def magnitudes(store: ztfmatch.Store) -> pd.DataFrame:
    names = ["objectid", "exposureid", "mag", "magerr", "catflags"]
    return store.snapshot().table("detections", names).to_pandas()


def test_correct_release_by_its_own_medians_changes_next_to_nothing(dr5_set: tuple[ztfmatch.Store, Path]) -> None:
    """What is the same in all exposures is in the medians already."""
    store, place = dr5_set
    before = magnitudes(store)
    store.correct(place)
    both = before.merge(magnitudes(store), on=["objectid", "exposureid"], suffixes=("", "_now"))
    store.correct(None)
    assert np.abs(both.mag_now - both.mag).max() < 0.003
    assert store.verify().passed


def robust(values: pd.Series) -> float:
    return float(1.4826 * (values - values.median()).abs().median())


def test_correct_release_by_its_exposures_straightens_the_lightcurves_of_other_stars(
    dr5: tuple[ztfmatch.Store, pd.DataFrame], tmp_path: Path
) -> None:
    """Zero points of this unit's exposures scatter by 10 millimag: half of the stars tell them, the others show it."""
    store, ps1 = dr5
    place = calibrated(store, ps1[ps1.objectid % 4 < 2], tmp_path, None)
    terms = pq.read_table(place / "exposureterms.parquet").to_pandas()
    assert 0.005 < robust(terms.zero) < 0.03
    before = magnitudes(store)
    store.correct(place)
    after = magnitudes(store)
    store.correct(None)
    both = before.merge(after, on=["objectid", "exposureid"], suffixes=("", "_now"))
    both = both[(both.catflags == 0) & (both.objectid % 4 >= 2)]
    both["level"] = both.groupby("objectid").mag.transform("median")
    both = both[both.groupby("objectid").mag.transform("size") >= 60]
    bright = both[both.level < 16.0].groupby("objectid")
    assert bright.mag_now.agg(robust).median() < 0.88 * bright.mag.agg(robust).median()
    both["pull"] = (both.mag_now - both.groupby("objectid").mag_now.transform("median")) / both.magerr_now
    widths = both[both.level.between(13.0, 20.0)].groupby(np.floor(both.level)).pull.agg(robust)
    assert widths.between(0.85, 1.2).all(), widths
