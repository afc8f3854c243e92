"""Corrections derived from simulated surveys whose systematics are known."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import runner

import ztfmatch
from ztfmatch.cli import main
from ztfmatch.core.config import AppendConfig, CalibrateConfig, Resources
from ztfmatch.core.errors import ConfigError, CorrectionsError, MetadataError
from ztfmatch.core.io.corrections import read_corrections
from ztfmatch.core.io.metadata import read_error_models
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.photometry import calibrate as operation
from ztfmatch.photometry import pooling as pooling_operation
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.kernels.residuals import RESIDUAL_BINS, RESIDUAL_STEP_MAG, histogram_quantiles
from ztfmatch.photometry.report import ReportInputs
from ztfmatch.photometry.report.measure import What, measure
from ztfmatch.photometry.tasks.report import AFTER, BEFORE
from ztfmatch.simulate import SimulationConfig, simulate
from ztfmatch.simulate.systematics import ChannelSystematics, model_error

CONFIG = SimulationConfig(
    seed=5, fields=(679, 680), rcids=(16, 29), filters=(2,), n_exposures=40, stars_per_quadrant=20_000,
    epoch_depth=0.15, dense_field=679, dense_factor=1.5,
)  # fmt: skip
"""Shallow epochs of many stars: few rows, nearly all of which tell something. One field is crowded."""

FLAT = SimulationConfig(
    seed=8, fields=(679,), rcids=(16,), filters=(2,), n_exposures=40, stars_per_quadrant=20_000, epoch_depth=0.12,
    systematics=0.0,
)  # fmt: skip
BRIGHT, FAINT = (13.5, 17.5), (18.5, 19.5)


@dataclass(frozen=True)
class Survey:
    """A simulated sky, the store made of it, and corrections derived from that."""

    sky: Path
    store: ztfmatch.Store
    corrections: Path
    seed: int

    def table(self, name: str) -> pd.DataFrame:
        return pq.read_table(self.corrections / f"{name}.parquet").to_pandas()

    def truth(self, name: str) -> pd.DataFrame:
        return pq.read_table(self.sky / "truth" / f"{name}.parquet").to_pandas()

    def copy(self, place: Path) -> ztfmatch.Store:
        return ztfmatch.Store(Storage.at(shutil.copytree(self.store.path, place)))

    def clean(self, store: ztfmatch.Store) -> pd.DataFrame:
        """Clean detections of real stars, with the truth: ``off`` is mag less the true one, colour term included."""
        names = ["objectid", "exposureid", "sourceid", "mag", "magerr", "catflags", "corrflags", "xpos", "ypos"]
        rows = store.snapshot().table("detections", names).to_pandas()
        rows = rows.merge(self.truth("detections"), on=["exposureid", "sourceid"])
        exposures = self.truth("exposures")[["exposureid", "clrcoeff", "bad", "field", "rcid"]]
        stars = self.truth("stars")[["star_id", "g", "r", "kind"]].rename(columns={"kind": "variability"})
        rows = rows.merge(exposures, on="exposureid").merge(stars, on="star_id")
        rows = rows[(rows.catflags == 0) & ~rows.bad & rows.mag.notna()]
        return rows.assign(off=rows.mag + rows.clrcoeff * (rows.g - rows.r) - rows.true_mag)


def build(place: Path, config: SimulationConfig, nights: int | None = None) -> tuple[Path, ztfmatch.Store]:
    """A simulated sky and its store; of the second field only so many exposures."""
    simulate(place / "sky", config)
    store = ztfmatch.init_store(place / "store", str(place / "sky" / "references"))
    catalogs = sorted((place / "sky" / "catalogs").rglob("*.fits"))
    kept: dict[int, set[str]] = {}
    for path in catalogs:
        kept.setdefault(int(path.name.split("_")[2]), set()).add(path.name.split("_")[1])
    few = set(sorted(kept[680])[:nights]) if nights else set()
    chosen = [str(p) for p in catalogs if nights is None or "_000679_" in p.name or p.name.split("_")[1] in few]
    store.append(chosen, AppendConfig(exposures=place / "sky" / "exposures.csv"))
    return place / "sky", store


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    place = tmp_path_factory.mktemp("calibrate")
    sky, store = build(place, CONFIG, nights=15)
    store.calibrate(CalibrateInputs(sky / "truth" / "ps1.parquet", place / "corrections"))
    return Survey(sky, store, place / "corrections", CONFIG.seed)


@pytest.fixture(scope="module")
def applied(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    store = survey.copy(tmp_path_factory.mktemp("applied") / "store")
    store.correct(survey.corrections)
    return store


def robust_width(values: np.ndarray | pd.Series) -> float:
    low, high = np.percentile(values, [15.865, 84.135])
    return 0.5 * (high - low)


def test_calibrate_field_offsets_are_the_injected_ones_within_their_errors(survey: Survey) -> None:
    got = survey.table("field").merge(survey.truth("systematics"), on=["field", "rcid", "fid"])
    assert len(got) == 4
    pull = (got.value - got.field_offset) / got.error
    assert (np.abs(pull) < 3.0).all(), pull
    assert (got.error < 0.003).all()


def test_calibrate_magnitude_term_is_the_injected_one_within_its_errors(survey: Survey) -> None:
    curves = survey.table("curve")
    for row in survey.table("magnitude").itertuples():
        truth = ChannelSystematics.draw(CONFIG.seed, row.rcid, row.fid)
        assert row.bright <= 13.5
        assert row.faint == 19.25
        curve = curves[(curves.rcid == row.rcid) & curves.mag.between(row.bright, row.faint)]
        assert (np.abs(curve.value - truth.magnitude(curve.mag.to_numpy())) < 3.0 * curve.error).all()
        at14 = curve.error[np.abs(curve.mag - 14.125) < 0.01].iloc[0]
        assert np.abs(truth.magnitude(np.array([14.125]))) > 3.0 * at14  # it is a detection, not only a bound


def true_map(seed: int, rcid: int, fid: int) -> np.ndarray:
    fine = (np.arange(300) + 0.5) / 300.0
    x, y = np.meshgrid(fine * 3072, fine * 3080)
    values = ChannelSystematics.draw(seed, rcid, fid).position(x.ravel(), y.ravel())
    return np.asarray(values.reshape(30, 10, 30, 10).mean(axis=(1, 3)))


def test_calibrate_map_is_the_injected_one_within_its_errors(survey: Survey) -> None:
    for (rcid, fid), cells in survey.table("position").groupby(["rcid", "fid"]):
        truth = true_map(CONFIG.seed, rcid, fid)[cells.row, cells.column]
        known = cells.value.notna()
        assert known.mean() > 0.9
        off = (cells.value - truth)[known] - (0.0 - truth[known].mean())
        pull = off / cells.error[known]
        assert 0.4 < pull.std() < 1.35
        assert (np.abs(pull) < 5.0).all()
        assert off.std() < 0.4 * truth.std()
        assert cells.value.mean() == pytest.approx(0.0, abs=1e-9)


def test_correct_bright_stars_agree_with_ps1_to_7_millimag_and_nearly_the_noise_floor(
    survey: Survey, applied: ztfmatch.Store
) -> None:
    """The floor is what PS1's errors and the photon noise of the epochs give, drawn from the errors that are true."""
    ps1 = survey.truth("ps1").rename(columns={"r": "r_ps1", "g": "g_ps1"})
    rows = survey.clean(applied).merge(ps1[["star_id", "r_ps1", "g_ps1", "r_err", "star"]], on="star_id")
    rows = rows[(rows.variability == "constant") & rows.star & rows.r_ps1.notna() & rows.g_ps1.notna()]
    rows = rows.assign(residual=rows.mag + rows.clrcoeff * (rows.g_ps1 - rows.r_ps1) - rows.r_ps1)
    stars = rows.groupby("objectid").agg(residual=("residual", "mean"), r=("r", "first"), n=("mag", "size"),
                                         err=("r_err", "first"))  # fmt: skip
    stars = stars[stars.r.between(*BRIGHT) & (stars.n >= 5)]
    noise = np.sqrt(stars.err**2 + model_error(stars.r.to_numpy(), 2) ** 2 / stars.n)
    draws = np.random.default_rng(1).normal(0.0, np.tile(noise, 50))
    assert len(stars) > 1000
    assert robust_width(stars.residual) < 1.10 * robust_width(draws)
    often = stars[stars.n >= 25]  # with 15 epochs photon noise alone is 6 millimag
    assert len(often) > 500
    assert robust_width(often.residual) < 0.007


def test_correct_faint_stars_are_not_harmed(survey: Survey, applied: ztfmatch.Store) -> None:
    before, after = survey.clean(survey.store), survey.clean(applied)
    for low, high in (FAINT, (19.5, 22.0)):
        was, now = (rows[rows.true_mag.between(low, high)] for rows in (before, after))
        assert len(was) > 5_000
        assert robust_width(now.off) < robust_width(was.off) * 1.002
        assert abs(now.off.median()) < max(abs(was.off.median()), 0.002)


def test_correct_constants_stay_constant_and_variables_keep_their_amplitude(
    survey: Survey, applied: ztfmatch.Store
) -> None:
    """Lightcurves are compared with the same ones free of the injected terms."""
    before, after = survey.clean(survey.store), survey.clean(applied)
    keys = ["objectid", "exposureid"]
    both = before.merge(after[[*keys, "mag"]], on=keys, suffixes=("", "_now"))
    both = both[(both.true_mag < 19.0) & both.xpos.between(150, 2920) & both.ypos.between(150, 2930)]
    both = both.assign(free=both.mag - both.systematic)
    curves = both.groupby("objectid").agg(
        kind=("variability", "first"),
        n=("mag", "size"),
        was=("mag", "std"),
        now=("mag_now", "std"),
        free=("free", "std"),
    )
    curves = curves[curves.n >= 10]
    constant, variable = curves[curves.kind == "constant"], curves[curves.kind != "constant"]
    assert len(variable) > 50
    assert constant.now.median() <= constant.was.median() * 1.005
    assert np.abs(variable.now - variable.free).max() < 0.001
    assert np.median(np.abs(variable.now - variable.was)) < 0.0005


def test_measure_of_corrected_store_shows_what_correct_did(survey: Survey, applied: ztfmatch.Store) -> None:
    ps1 = open_ps1(survey.sky / "truth" / "ps1.parquet")
    sums = measure(open_snapshot(applied.storage), What(ps1, CalibrateConfig()), runner())
    assert {unit.field for unit in sums.units} == {679, 680}
    centres = (np.arange(RESIDUAL_BINS) - RESIDUAL_BINS // 2) * RESIDUAL_STEP_MAG
    width, offset = {}, {}
    for phase, stars in enumerate(sums.stars[16, 2]):
        counts = stars[4:20].sum(axis=0)[None]
        low, high = (float(histogram_quantiles(counts, centres, RESIDUAL_STEP_MAG, q)[0]) for q in (0.16, 0.84))
        n, total, _ = sums.maps[16, 2][phase].sum(axis=0)
        width[phase], offset[phase] = 0.5 * (high - low), abs(total / n)
    assert width[AFTER] < 0.007 < width[BEFORE]
    assert offset[AFTER] < 0.001 < offset[BEFORE]


def test_calibrate_residual_zero_points_are_those_of_a_plain_median(survey: Survey, applied: ztfmatch.Store) -> None:
    """The simulator's headers are exact, so that what is left is within what the number of stars allows."""
    rows = survey.table("exposures")
    ledger = applied.snapshot().table("exposures").to_pandas().merge(rows, on="exposureid", suffixes=("", "_set"))
    good = ledger[ledger.quality == "good"]
    assert len(good) == len(rows)
    np.testing.assert_array_equal(good.relzp, good.relzp_set)
    assert (np.abs(good.relzp) < 5.0 * good.relzprms / np.sqrt(good.nrelzp) + 0.001).all()
    assert good.relzprms.between(0.005, 0.06).all()


def test_calibrate_exposure_with_an_offset_shows_it_in_its_zero_point(survey: Survey, tmp_path: Path) -> None:
    """One header's zero point is 0.03 too large: only that exposure's residual zero point says so."""
    from astropy.io import fits

    place = tmp_path / "sky"
    shutil.copytree(survey.sky / "references", place / "references")
    catalogs = sorted((survey.sky / "catalogs").rglob("*_000679_zr_c05_o_q1_*.fits"))
    for path in catalogs:
        shutil.copy(path, place / path.name)
    good = set(survey.table("exposures").exposureid)
    wrong = next(path for path in catalogs if int(path.name.split("_")[1]) * 100 + 16 in good)
    with fits.open(place / wrong.name, mode="update") as hdus:
        hdus[0].header["MAGZP"] += 0.03
    store = ztfmatch.init_store(tmp_path / "store", str(place / "references"))
    store.append(str(place), AppendConfig(exposures=survey.sky / "exposures.csv"))
    store.calibrate(CalibrateInputs(survey.sky / "truth" / "ps1.parquet", tmp_path / "set"))
    got = pq.read_table(tmp_path / "set" / "exposures.parquet").to_pandas().set_index("exposureid").relzp
    exposureid = int(wrong.name.split("_")[1]) * 100 + 16
    assert got[exposureid] == pytest.approx(0.03, abs=0.004)
    assert (np.abs(got.drop(exposureid)) < 0.006).all()


def test_calibrate_error_models_follow_the_injected_scatter(survey: Survey) -> None:
    models = survey.table("errormodel")
    assert len(models) == 4
    mag = np.arange(15.5, 19.0, 0.25)
    for row in models.itertuples():
        bright = 10.0 ** (0.4 * mag)
        model = row.a + row.b * mag + row.c * bright + row.d * bright**2
        np.testing.assert_allclose(model, model_error(mag, 2), rtol=0.15)
    text = read_error_models(survey.corrections / "errormodel_zr.dat").coefficients
    first = models.iloc[0]
    (unit,) = [u for u in text if (u.field, u.rcid) == (first.field, first.rcid)]
    assert text[unit] == (first.a, first.b, first.c, first.d)


def test_correct_errors_match_the_scatter(survey: Survey, applied: ztfmatch.Store) -> None:
    rows = survey.clean(applied)
    rows = rows[(rows.variability == "constant") & rows.true_mag.between(15.0, 19.0)]
    assert robust_width(rows.off / rows.magerr) == pytest.approx(1.0, abs=0.12)
    assert applied.verify(deep=True).passed


def test_calibrate_channel_with_few_stars_gets_no_invented_terms(tmp_path: Path) -> None:
    few = SimulationConfig(seed=4, fields=(679,), rcids=(29,), filters=(2,), n_exposures=12, stars_per_quadrant=1500)
    sky, store = build(tmp_path, few)
    (channel,) = store.calibrate(CalibrateInputs(sky / "truth" / "ps1.parquet", tmp_path / "set")).channels
    assert 0 < channel.stars < 150
    assert channel.cells_valid < 0.2 * channel.cells
    store.correct(tmp_path / "set")
    rows = store.snapshot().table("detections", ["mag", "corrflags"]).to_pandas()
    flags = rows.corrflags[rows.mag.notna()].to_numpy()
    assert (flags & 16 > 0).mean() > 0.8  # no value in the cell, and none taken off
    assert ((flags & 2 > 0) ^ (flags & 16 > 0)).all()
    assert ((flags & 1 > 0) ^ (flags & 8 > 0)).all()
    assert ((flags & 4 > 0) ^ (flags & 32 > 0)).all()
    assert store.verify().passed


def test_calibrate_update_with_newer_data_is_as_good_as_all_at_once(survey: Survey, tmp_path: Path) -> None:
    catalogs = sorted((survey.sky / "catalogs").rglob("*_000679_zr_*.fits"))
    exposures = AppendConfig(exposures=survey.sky / "exposures.csv")
    ps1 = survey.sky / "truth" / "ps1.parquet"
    store = ztfmatch.init_store(tmp_path / "store", str(survey.sky / "references"))
    half = len(catalogs) // 2
    store.append([str(path) for path in catalogs[:half]], exposures)
    store.calibrate(CalibrateInputs(ps1, tmp_path / "old"))
    none = store.calibrate(CalibrateInputs(ps1, tmp_path / "none", tmp_path / "old"))
    assert (none.written, none.output, (tmp_path / "none").exists()) == (False, str(tmp_path / "old"), False)
    store.append([str(path) for path in catalogs[half:]], exposures)
    store.calibrate(CalibrateInputs(ps1, tmp_path / "updated", tmp_path / "old"))
    store.calibrate(CalibrateInputs(ps1, tmp_path / "whole"))
    old, updated, whole = (read_corrections(tmp_path / name) for name in ("old", "updated", "whole"))
    assert updated.about["updated"] == old.about["corrections"]
    fields = [s.tables["field"].to_pandas().set_index(["field", "rcid"]) for s in (updated, whole)]
    assert (np.abs(fields[0].value - fields[1].value) < fields[1].error).all()
    maps = [s.tables["position"].to_pandas() for s in (updated, whole)]
    off = (maps[0].value - maps[1].value) / maps[1].error
    assert np.abs(off).quantile(0.95) < 1.5
    total = [s.tables["position"].to_pandas().detections.sum() for s in (old, updated, whole)]
    assert total[0] < total[1]
    assert total[1] == pytest.approx(total[2], rel=0.03)
    assert set(updated.tables["exposures"]["exposureid"].to_pylist()) >= set(
        old.tables["exposures"]["exposureid"].to_pylist()
    )


CLOUDY = SimulationConfig(
    seed=9, fields=(679,), rcids=(16,), filters=(2,), n_exposures=40, stars_per_quadrant=20_000, epoch_depth=0.12,
    bad_fraction=0.0, cloudy_fraction=0.3,
)  # fmt: skip


def test_extend_corrections_gives_exposures_that_came_since_what_a_calibration_of_all_gives(tmp_path: Path) -> None:
    """And changes no number of those that were known; an update keeps these, too."""
    simulate(tmp_path / "sky", CLOUDY)
    catalogs = [str(path) for path in sorted((tmp_path / "sky" / "catalogs").rglob("*.fits"))]
    exposures, ps1 = AppendConfig(exposures=tmp_path / "sky" / "exposures.csv"), tmp_path / "sky/truth/ps1.parquet"
    store = ztfmatch.init_store(tmp_path / "store", str(tmp_path / "sky" / "references"))
    store.append([path for i, path in enumerate(catalogs) if i % 4], exposures)
    store.calibrate(CalibrateInputs(ps1, tmp_path / "old"))
    inputs = CalibrateInputs(ps1, tmp_path / "new", tmp_path / "old")
    words = [
        "calibrate",
        store.storage.root,
        "--ps1",
        str(ps1),
        "--extend",
        str(tmp_path / "old"),
        "-o",
        str(tmp_path / "new"),
    ]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, (tmp_path / "new").exists()) == (0, False), done.output
    assert f"in {tmp_path / 'old'} have every usable exposure" in done.stdout
    store.append(catalogs[::4], exposures)
    report = store.extend_corrections(inputs)
    store.calibrate(CalibrateInputs(ps1, tmp_path / "whole"))
    old, new, whole = (read_corrections(tmp_path / name) for name in ("old", "new", "whole"))
    assert (report.extended, report.corrections) == (old.set.digest, new.set.digest)
    assert report.exposures == 10
    terms = [of.tables["exposureterms"].to_pandas().set_index("exposureid") for of in (old, new, whole)]
    later = terms[1].drop(terms[0].index)
    assert len(later) == report.gradients > 1
    pd.testing.assert_frame_equal(terms[1].loc[terms[0].index], terms[0])
    both = later.index.intersection(terms[2].index)
    assert len(both) >= len(later) - 1
    assert (
        np.abs(later.loc[both, ["zero", "gx", "gy"]] - terms[2].loc[both, ["zero", "gx", "gy"]]).max(axis=None) < 0.002
    )
    for name in ("magnitude", "position", "field", "errormodel", "model", "colours", "sums"):
        assert new.tables[name].equals(old.tables[name])
    assert set(new.tables["exposures"]["exposureid"].to_pylist()) > set(
        old.tables["exposures"]["exposureid"].to_pylist()
    )
    store.correct(tmp_path / "new")
    assert store.verify(deep=True).passed
    store.calibrate(CalibrateInputs(ps1, tmp_path / "updated", tmp_path / "old"))
    updated = pq.read_table(tmp_path / "updated" / "exposureterms.parquet").to_pandas().set_index("exposureid")
    assert set(terms[0].index) <= set(updated.index)


def test_calibrate_update_of_another_store_or_grid_is_refused(survey: Survey, tmp_path: Path) -> None:
    ps1 = survey.sky / "truth" / "ps1.parquet"
    other = ztfmatch.init_store(tmp_path / "other", str(survey.sky / "references"))
    with pytest.raises(ConfigError, match="made from another store"):
        other.calibrate(CalibrateInputs(ps1, tmp_path / "set", survey.corrections))
    with pytest.raises(ConfigError, match="made with cells_x 30, not 20"):
        survey.store.calibrate(CalibrateInputs(ps1, tmp_path / "set", survey.corrections), CalibrateConfig(cells_x=20))
    with pytest.raises(CorrectionsError, match=r"it has no about\.json"):
        survey.store.calibrate(CalibrateInputs(ps1, tmp_path / "set", tmp_path))


def test_calibrate_from_sqlite_equals_parquet(survey: Survey, tmp_path: Path) -> None:
    rows = survey.truth("ps1").rename(columns={"ra": "raMean", "g": "gMeanPSFMag"})
    with closing(sqlite3.connect(tmp_path / "ps1.sqlite")) as connection, connection:
        rows.to_sql("means", connection, index=False)
        connection.execute("CREATE INDEX by_dec ON means (dec)")
    inputs = CalibrateInputs(tmp_path / "ps1.sqlite", tmp_path / "set", columns={"r": "r"})
    assert survey.store.calibrate(inputs).corrections == read_corrections(survey.corrections).set.digest


def test_calibrate_and_report_of_a_store_that_may_only_be_read_stage_beside_the_output(
    survey: Survey, tmp_path: Path
) -> None:
    """A file in the place of the staging area refuses even root."""
    store = survey.copy(tmp_path / "store")
    shutil.rmtree(Path(store.path, "staging"), ignore_errors=True)
    Path(store.path, "staging").touch()
    ps1, before = survey.sky / "truth" / "ps1.parquet", sorted(Path(store.path).rglob("*"))
    done = store.calibrate(CalibrateInputs(ps1, tmp_path / "set"), resources=Resources(workers=1))
    assert done.corrections == read_corrections(survey.corrections).set.digest
    store.report(ReportInputs(tmp_path / "report"))
    assert sorted(Path(store.path).rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "set", "store"]


FEW = SimulationConfig(
    seed=14, fields=(679,), rcids=(5, 16, 29, 45), filters=(2,), n_exposures=10, stars_per_quadrant=14_000,
    epoch_depth=0.15, n_nights=365, bad_fraction=0.0,
)  # fmt: skip


def test_calibrate_maps_of_few_stars_lean_on_the_rims_that_all_channels_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rims of simulated channels are 24 millimag with a scatter of 3; what is smooth has nothing in common.

    The four edges of a channel tell each other's rims already; the other channels add to that.
    """
    sky, store = build(tmp_path, FEW)
    ps1 = sky / "truth" / "ps1.parquet"
    leaning = store.calibrate(CalibrateInputs(ps1, tmp_path / "leaning"))
    assert sum(channel.pooled_with == ("plane",) for channel in leaning.channels) >= 3
    with monkeypatch.context() as patch:
        patch.setattr(pooling_operation, "_CERTAIN_MAG", np.inf)
        alone = store.calibrate(CalibrateInputs(ps1, tmp_path / "alone"))
    assert not any(channel.pooled_with for channel in alone.channels)
    squares, stated = {}, {}
    for name in ("leaning", "alone"):
        table = pq.read_table(tmp_path / name / "position.parquet").to_pandas()
        off = []
        for (rcid, fid), cells in table.groupby(["rcid", "fid"]):
            truth = true_map(FEW.seed, rcid, fid)[cells.row, cells.column]
            off.append(cells.value - truth - np.nanmean(cells.value - truth))
        squares[name] = float(np.nanmean(np.concatenate(off) ** 2))
        stated[name] = float(np.nanmean(table.error**2))
    assert squares["leaning"] < 0.88 * squares["alone"]
    assert squares["leaning"] < 0.00175**2  # 0.0019, and 0.0021 alone, where edges have no rim in common
    assert 0.5 < squares["leaning"] / stated["leaning"] < 2.0


def test_calibrate_twice_gives_the_same_set(survey: Survey, tmp_path: Path) -> None:
    again = survey.store.calibrate(CalibrateInputs(survey.sky / "truth" / "ps1.parquet", tmp_path / "set"))
    assert again.corrections == read_corrections(survey.corrections).set.digest
    assert not list(Path(survey.store.path, "staging").rglob("*.npz"))


def test_calibrate_resumed_after_a_power_cut_gives_the_same_set(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task left for another may be cut, though the task was done."""

    def cut_off(*arguments: object) -> str:
        raise OSError(5, "no power")

    inputs = CalibrateInputs(survey.sky / "truth" / "ps1.parquet", tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(operation, "write_corrections", cut_off)
        with pytest.raises(OSError, match="no power"):
            survey.store.calibrate(inputs)
    staged = list(Path(survey.store.path, "staging").rglob("*.npz"))
    for path in staged:
        path.write_bytes(path.read_bytes()[:-1])
    assert staged
    assert survey.store.calibrate(inputs).corrections == read_corrections(survey.corrections).set.digest
    assert {path.name for path in (tmp_path / "set").iterdir()} == {path.name for path in survey.corrections.iterdir()}


UNSTEADY = SimulationConfig(
    seed=6, fields=(679,), rcids=(16,), filters=(2,), n_exposures=60, stars_per_quadrant=25_000, epoch_depth=0.12,
    n_nights=300, bad_fraction=0.0, flat_step=1.0, colour_bias=0.06, cloudy_fraction=0.2,
)  # fmt: skip


def test_calibrate_of_an_unsteady_sky_follows_steps_colours_and_clouds(tmp_path: Path) -> None:
    """What is left of systematics that are 10 mmag; the same store is proven, and restored to the bit."""
    sky, store = build(tmp_path, UNSTEADY)
    store.calibrate(CalibrateInputs(sky / "truth" / "ps1.parquet", tmp_path / "set"))
    before = store.snapshot().table("detections").sort_by([("objectid", "ascending"), ("exposureid", "ascending")])
    survey = Survey(sky, store, tmp_path / "set", UNSTEADY.seed)
    was = survey.clean(store)
    store.correct(tmp_path / "set")
    now = survey.clean(store)
    keys, left = ["objectid", "exposureid"], []
    for rows in (was, now):
        bright = rows[rows.true_mag.between(13.5, 17.5) & (rows.variability == "constant")]
        both = bright.merge(was[[*keys, "mag"]], on=keys, suffixes=("", "_was"))
        left.append(np.percentile(np.abs(both.systematic - (both.mag_was - both.mag)), 68.3))
    assert left[0] > 0.007
    assert left[1] < 0.0022
    flags = now.corrflags.to_numpy()
    cloudy = now.groupby("exposureid").corrflags.agg(lambda f: (f & 64 > 0).mean())
    assert 0.05 < (cloudy > 0.9).mean() < 0.3  # weak ones are below the noise of few stars
    assert ((cloudy > 0.9) | (cloudy == 0)).all()
    assert 0.0 < (flags & 128 > 0).mean() < 0.1  # few have no colour
    assert store.verify(deep=True).passed
    store.correct(None)
    again = store.snapshot().table("detections").sort_by([("objectid", "ascending"), ("exposureid", "ascending")])
    assert again.equals(before)
    assert not store.snapshot().table("exposureterms").num_rows + store.snapshot().table("colours").num_rows


def test_calibrate_without_systematics_corrects_by_nothing_on_held_out_exposures(tmp_path: Path) -> None:
    simulate(tmp_path / "sky", FLAT)
    catalogs = sorted((tmp_path / "sky" / "catalogs").rglob("*.fits"))
    store = ztfmatch.init_store(tmp_path / "store", str(tmp_path / "sky" / "references"))
    exposures = AppendConfig(exposures=tmp_path / "sky" / "exposures.csv")
    store.append([str(path) for path in catalogs[::2]], exposures)
    store.calibrate(CalibrateInputs(tmp_path / "sky" / "truth" / "ps1.parquet", tmp_path / "set"))
    held = {int(path.name.split("_")[1]) * 100 + 16 for path in catalogs[1::2]}
    store.append([str(path) for path in catalogs[1::2]], exposures)
    survey = Survey(tmp_path / "sky", store, tmp_path / "set", FLAT.seed)
    cells = survey.table("position")
    assert (np.abs(cells.value / cells.error) < 4.5).all() or cells.value.isna().any()
    assert np.nanstd(cells.value / cells.error) < 1.0
    assert cells.value.std() < 0.0015
    field = survey.table("field").iloc[0]
    assert abs(field.value) < 3.0 * field.error
    term = survey.table("magnitude").iloc[0]
    assert np.isnan(term.slope) or abs(term.slope) < 3.0 * term.slope_error  # left out where it harms
    before = survey.clean(store)
    store.correct(tmp_path / "set")
    after = survey.clean(store)
    for rows, other in ((before, after),):
        chosen = rows.exposureid.isin(held) & rows.true_mag.between(*BRIGHT) & (rows.variability == "constant")
        assert chosen.sum() > 5_000
        assert robust_width(other.off[chosen.to_numpy()]) < 1.01 * robust_width(rows.off[chosen])
        assert abs(other.off[chosen.to_numpy()].median()) < 0.0015


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.drop_columns("r"), "needs a column r .*it has star_id, ra, dec, g"),
        (lambda t: t.set_column(2, "dec", pc.negate(t["dec"])), "covers none of the sky"),
        (lambda t: t.set_column(5, "r", pa.nulls(len(t), pa.float32())), "none of its sources .* magnitude in r"),
        (lambda t: t.set_column(9, "star", pa.array([False] * len(t))), "none of its .* is an isolated star"),
    ],
)  # fmt: skip
def test_calibrate_useless_ps1_is_refused_and_nothing_is_written(
    survey: Survey, tmp_path: Path, change: object, complaint: str
) -> None:
    ps1 = pq.read_table(survey.sky / "truth" / "ps1.parquet")
    pq.write_table(change(ps1), tmp_path / "ps1.parquet")  # type: ignore[operator]
    with pytest.raises(MetadataError, match=complaint):
        survey.store.calibrate(CalibrateInputs(tmp_path / "ps1.parquet", tmp_path / "set"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ps1.parquet"]


def test_calibrate_output_that_exists_is_refused(survey: Survey) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        survey.store.calibrate(CalibrateInputs(survey.sky / "truth" / "ps1.parquet", survey.corrections))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bright": 20.0}, "magnitudes 20.0 to 19.25"), ({"magnitude_step": 0.4}, "does not divide the range"),
        ({"cells_y": 1}, "cells_y is 1; expected 2 to 64"), ({"min_epochs": 2}, "min_epochs is 2; expected at least 3"),
        ({"max_error": 0.0}, "max_error is 0.0; expected above 0"),
        ({"match_arcsec": 9.0}, "expected 0.1 <= match <= isol"),
        ({"magnitude_step": 0.0}, "magnitude_step is 0.0; expected above 0"),
        ({"programs": (1, 7)}, r"programs \(1, 7\): expected some of 1 \(public\), 2"),
        ({"programs": ()}, "or none for all"),
    ],
)  # fmt: skip
def test_calibrate_config_out_of_range_is_refused(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        CalibrateConfig(**settings).validate()  # type: ignore[arg-type]
