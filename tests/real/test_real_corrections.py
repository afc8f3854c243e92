"""Corrections and error models on real photometry: sign and size are those that the survey has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ztfmatch
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
def dr5_set(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ztfmatch.Store, Path]:
    """The release's lightcurves, calibrated to a catalog made of their own medians: only error models are new."""
    place = tmp_path_factory.mktemp("dr5")
    replay = str(data_dir / "replay" / "dr5_250")
    store = ztfmatch.init_store(place / "store", replay)
    store.append(replay)
    snapshot = store.snapshot()
    rows = snapshot.table("detections", ["objectid", "mag", "catflags"]).to_pandas()
    medians = rows[rows.catflags == 0].groupby("objectid").mag.median().rename("median")
    objects = snapshot.table("objects", ["objectid", "ra", "dec"]).to_pandas().merge(medians, on="objectid")
    columns = {"ra": objects.ra, "dec": objects.dec, **dict.fromkeys("gri", objects["median"])}
    pq.write_table(pa.table(columns), place / "ps1.parquet")
    store.calibrate(CalibrateInputs(place / "ps1.parquet", place / "set"))
    return store, place / "set"


SECOND_GENERATION = pytest.mark.xfail(
    strict=True,
    reason="one unit of the real release is corrected worse than by the first model of corrections: see limits.md",
)


@SECOND_GENERATION
def test_calibrate_release_error_model_is_the_surveys_own(dr5_set: tuple[ztfmatch.Store, Path]) -> None:
    """magerr of the release is the survey's model of that unit; ours is from the scatter of the same lightcurves."""
    store, place = dr5_set
    (model,) = pq.read_table(place / "errormodel.parquet").to_pylist()
    rows = store.snapshot().table("detections", ["mag", "magerr", "catflags"]).to_pandas()
    rows = rows[(rows.catflags == 0) & rows.mag.between(14.75, 20.0)]
    ours = model_errors(rows.mag.to_numpy(), np.array([model[n] for n in "abcd"]))
    ratio = pd.Series(ours / rows.magerr.to_numpy()).groupby((rows.mag.to_numpy() / 0.5).astype(int)).median()
    assert ratio.between(0.85, 1.25).all(), ratio


@SECOND_GENERATION
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


@SECOND_GENERATION
def test_correct_release_by_its_own_medians_changes_next_to_nothing(dr5_set: tuple[ztfmatch.Store, Path]) -> None:
    store, place = dr5_set
    before = store.snapshot().table("detections", ["objectid", "exposureid", "mag"]).to_pandas()
    store.correct(place)
    after = store.snapshot().table("detections", ["objectid", "exposureid", "mag"]).to_pandas()
    both = before.merge(after, on=["objectid", "exposureid"], suffixes=("", "_now"))
    assert np.abs(both.mag_now - both.mag).max() < 0.005
    assert store.verify().passed
