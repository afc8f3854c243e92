"""Plots as axes: what a snapshot draws in Python, periods, and densities of many objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.timeseries import LombScargle
from helpers import append, epochal_file, make_store, reference_file, rows_at
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer

import ztfmatch
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.survey import Unit
from ztfmatch.plot import PlotOptions, draw_lightcurves, periodogram_of

PERIOD = 0.5678684


@pytest.fixture(autouse=True)
def closed() -> Any:
    """Figures of pyplot do not outlive a test."""
    yield
    plt.close("all")


def star(bands: int = 2, n: int = 80, mag: float = 17.0) -> pa.Table:
    """A sine of another mean and amplitude in each band."""
    rng = np.random.default_rng(bands * 1000 + n)
    parts = []
    for fid in range(1, bands + 1):
        hmjd = np.sort(58200 + rng.integers(0, 300, n) + rng.uniform(0.1, 0.5, n))
        parts.append(
            {
                "objectid": np.full(n, 679100000000000 + fid * 10**11 + 5),
                "fid": np.full(n, fid, np.int8),
                "field": np.full(n, 679, np.int16),
                "rcid": np.full(n, 16, np.int8),
                "hmjd": hmjd,
                "mag": mag + fid + 0.3 / fid * np.sin(2 * np.pi * hmjd / PERIOD) + rng.normal(0, 0.02, n),
                "magerr": np.full(n, 0.02),
                "catflags": np.zeros(n, np.uint16),
                "ra": np.full(n, 10.0),
                "dec": np.full(n, 5.0),
            }
        )
    return pa.table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def test_periodogram_finds_the_period_of_all_bands() -> None:
    epochs = star()
    found = periodogram_of(epochs)
    assert found.period == pytest.approx(PERIOD, rel=1e-4)  # a tenth of a cycle over all nights
    one = periodogram_of(epochs.slice(0, 80), 0.2, 10.0)
    hmjd, mag = (epochs[name].to_numpy()[:80] for name in ("hmjd", "mag"))
    power = LombScargle(hmjd, mag, np.full(80, 0.02)).power(one.frequency, assume_regular_frequency=True)
    np.testing.assert_allclose(one.power, power, rtol=1e-6)
    axes = one.plot()
    assert f"highest peak at {one.period:.7g} day" in axes.get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"longest_day": float("inf")}, "periods from 0.1 to inf day: expected"),
        ({"shortest_day": 5.0, "longest_day": 1.0}, "expected the shortest one first"),
        ({"shortest_day": 1e-5}, "frequencies: raise shortest_day"),
    ],
)
def test_periodogram_of_periods_that_make_no_sense_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        periodogram_of(star(), **options)


def test_periodogram_of_too_few_epochs_is_refused() -> None:
    for epochs in (star(1, 3), star().slice(0, 0)):
        with pytest.raises(ConfigError, match="a periodogram needs 10"):
            periodogram_of(epochs)


def with_mag(epochs: pa.Table, mag: np.ndarray) -> pa.Table:
    at = epochs.schema.get_field_index("mag")
    return epochs.set_column(at, epochs.schema.field(at), pa.array(mag, epochs.schema.field(at).type))


def test_periodogram_of_a_constant_star_is_refused() -> None:
    epochs = star()
    with pytest.raises(ConfigError, match="all good epochs have the same magnitude"):
        periodogram_of(with_mag(epochs, np.full(epochs.num_rows, 17.1)))


@pytest.mark.parametrize("longest_day", [1e3, 1e5])
def test_periodogram_of_a_trend_has_its_peak_at_a_long_period(longest_day: float) -> None:
    """The finer grid about the peak goes no lower than the lowest frequency, below which there are negative ones."""
    epochs = star(1)
    hmjd = epochs["hmjd"].to_numpy()
    found = periodogram_of(with_mag(epochs, 17.0 + 0.01 * (hmjd - hmjd[0])), 0.5, longest_day)
    assert np.ptp(hmjd) < found.period <= longest_day * (1 + 1e-9)


def test_periodogram_of_several_stars_is_refused() -> None:
    epochs = star()
    apart = epochs.set_column(epochs.schema.get_field_index("ra"), "ra", pa.array(np.repeat([10.0, 10.01], 80)))
    with pytest.raises(ConfigError, match=r"2 objects within 17\.9 arcsec: a periodogram is of one star"):
        periodogram_of(apart)


def test_error_bars_are_inside_the_axes() -> None:
    epochs = star(1, 40)
    errors = np.full(40, 0.02)
    errors[int(epochs["mag"].to_numpy().argmax())] = 0.8
    axes = draw_lightcurves(epochs.set_column(6, "magerr", pa.array(errors)))
    faint, bright = axes.get_ylim()
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        for segment in container[2][0].get_segments():
            assert bright <= segment[:, 1].min()
            assert segment[:, 1].max() <= faint


def test_axes_that_are_given_are_drawn_to_and_returned() -> None:
    _, (left, right) = plt.subplots(1, 2)
    assert draw_lightcurves(star(), axes=left) is left
    assert draw_lightcurves(star(), PlotOptions(period=PERIOD), right) is right
    assert right.get_xlim() == (0.0, 2.0)
    assert len(plt.get_fignums()) == 1


def test_title_says_how_far_the_objects_are() -> None:
    place = SkyCoord(10.0, 5.0, unit="deg").directional_offset_by(0 * u.deg, 3 * u.arcsec)
    axes = draw_lightcurves(star(), PlotOptions("Near $it", place=(place.ra.deg, place.dec.deg)))
    assert axes.figure.get_suptitle() == "Near $it"
    assert "3.00, 3.00 arcsec from there" in axes.get_title(loc="left")


def test_many_objects_are_a_density_of_all_clean_epochs() -> None:
    many = pa.concat_tables(
        [star(1, 20, 15 + k / 50).set_column(0, "objectid", pa.array(np.full(20, k + 1))) for k in range(150)]
    )
    axes = draw_lightcurves(many)
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    faint, bright = axes.get_ylim()
    shown = ((many["mag"].to_numpy() >= bright) & (many["mag"].to_numpy() <= faint)).sum()
    assert np.nansum(mesh.get_array().filled(0.0)) == shown
    assert axes.figure.axes[-1].get_ylabel() == "clean epochs in a cell, of 150 objects"
    assert not axes.figure.legends


def test_snapshot_draws_lightcurves_folds_and_periodograms(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    unit, at = Unit(600, 20, 2), (np.array([10.0]), np.array([5.0]))
    catalogs = []
    for night in range(14):
        rows = rows_at(*at, xpos=1500.0, ypos=1500.0)
        rows["flux"] = 1000.0 * (1.0 + 0.3 * np.sin(night)) + rng.normal()
        catalogs.append(epochal_file(tmp_path, rows, night, unit))
    append(make_store(tmp_path / "store", [reference_file(tmp_path, rows_at(*at), unit)]), catalogs)
    snapshot = ztfmatch.open_store(tmp_path / "store").snapshot()
    cone = (SkyCoord(10.0, 5.0, unit="deg"), "2arcsec")
    axes = snapshot.plot(cone=cone)
    assert axes.figure.get_suptitle() == "Objects within 2 arcsec of RA 10.00000  Dec +5.00000"
    assert axes.get_xlabel() == "HMJD (day)"
    assert snapshot.plot(cone=cone, filters=["r"], axes=axes) is axes
    assert "period 0.1 day" in snapshot.fold(0.1, cone=cone).get_xlabel()
    periods = {"shortest_day": 2.0, "longest_day": 10.0}
    (line, *_) = snapshot.periodogram(cone=cone, **periods).get_lines()
    assert line.get_xdata()[-1] == pytest.approx(0.5)
    assert "Phase" in snapshot.fold(cone=cone).get_xlabel()
    with pytest.raises(ConfigError, match="no epochs to plot"):
        snapshot.plot(cone=cone, filters=["g"])
