"""Pictures of lightcurves: what is in them, and that they are the same each time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.survey import Unit, objectid_base
from ztfmatch.plot import BAND_COLOURS, MAX_LEGEND_CURVES, PHASE_ZERO_HMJD, PlotOptions, plot_lightcurves
from ztfmatch.plot.axes import _calendar
from ztfmatch.plot.legend import _sexagesimal
from ztfmatch.plot.lightcurves import _figure

PERIOD = 0.5678684
RA, DEC = 210.80227, 54.34895


def curve(unit: Unit, sourceid: int = 123, mean: float = 16.4, amplitude: float = 0.9, n: int = 240) -> pa.Table:
    """A sawtooth of a star that sets for months, with some flagged epochs and some without magnitude."""
    rng = np.random.default_rng(unit.field * 1000 + unit.rcid * 10 + unit.fid + sourceid)
    night = np.sort(rng.choice(np.flatnonzero(np.arange(1200) % 365 < 230), n, replace=False))
    hmjd = 58210.0 + night + rng.uniform(0.15, 0.45, n)
    phase = (hmjd - PHASE_ZERO_HMJD) / PERIOD % 1.0
    mag = mean + amplitude * np.where(phase < 0.85, phase / 0.85, (1.0 - phase) / 0.15) ** 0.7
    magerr = 0.012 + 0.02 * 10 ** (0.4 * (mag - 17.5))
    flags = rng.choice([0, 32768, 16, 65535], n, p=[0.9, 0.075, 0.02, 0.005]).astype(np.uint16)
    mag = rng.normal(mag, magerr * np.where(flags == 0, 1.0, 4.0))
    return pa.table(
        {
            "objectid": np.full(n, objectid_base(unit) + sourceid),
            "fid": np.full(n, unit.fid, np.int8),
            "field": np.full(n, unit.field, np.int16),
            "rcid": np.full(n, unit.rcid, np.int8),
            "hmjd": hmjd,
            "mag": pa.array(mag.astype(np.float32), mask=np.arange(n) % 80 == 70),
            "magerr": pa.array(magerr.astype(np.float32), mask=np.arange(n) % 80 == 70),
            "catflags": flags,
            "programid": pa.nulls(n, pa.int8()),
            "ra": RA + rng.normal(0.0, 2e-5, n),
            "dec": DEC + rng.normal(0.0, 2e-5, n),
        }
    )


def rr_lyrae(bands: tuple[int, ...] = (1, 2), field: int = 679) -> pa.Table:
    """One star in several bands."""
    settings = {1: (16.4, 0.9), 2: (16.3, 0.62), 3: (16.25, 0.45)}
    return pa.concat_tables(
        [curve(Unit(field, 16, fid), 123, *settings[fid], n=240 - 60 * (fid == 3)) for fid in bands]
    )


def cone() -> pa.Table:
    """The star in g and r, and in r once more, from an overlapping field."""
    return pa.concat_tables([rr_lyrae(), curve(Unit(1679, 43, 2), 77, 16.3, 0.62, n=90)])


def crowd() -> pa.Table:
    """Three dozen stars of different brightness."""
    return pa.concat_tables([curve(Unit(679, 16, 1 + k % 3), k, 15.0 + 0.15 * k, 0.1, n=80 + k) for k in range(36)])


def with_column(epochs: pa.Table, name: str, values: object) -> pa.Table:
    field = epochs.schema.field(name)
    return epochs.set_column(epochs.column_names.index(name), field, pa.array(values, field.type))


def with_flags(epochs: pa.Table, flags: int) -> pa.Table:
    return with_column(epochs, "catflags", np.full(epochs.num_rows, flags))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(figure: Figure) -> list[Line2D]:
    """What is drawn with markers in the axes, error bars left out."""
    return [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("", "None", "_", "|", None)]


def drawn(figure: Figure, marker: str) -> int:
    return sum(len(line.get_xdata()) for line in points(figure) if line.get_marker() == marker)


def headline(figure: Figure) -> str:
    return figure.get_suptitle() + "\n" + figure.axes[0].get_title(loc="left")


def test_plot_lightcurves_png_has_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "star.png"
    plot_lightcurves(rr_lyrae(), path, PlotOptions(dpi=50, size=(8.0, 5.0)))
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(content[at : at + 4], "big") for at in (16, 20)] == [400, 250]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("SVG", b"<?xml")])
def test_plot_lightcurves_same_epochs_in_another_order_give_the_same_bytes(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    epochs = cone()
    order = np.random.default_rng(1).permutation(epochs.num_rows)
    settings_before = dict(mpl.rcParams)
    plot_lightcurves(epochs, tmp_path / f"one.{suffix}")
    plot_lightcurves(epochs.take(pa.array(order)), tmp_path / f"two.{suffix}")
    content = (tmp_path / f"one.{suffix}").read_bytes()
    assert content == (tmp_path / f"two.{suffix}").read_bytes()
    assert content.startswith(magic)
    assert dict(mpl.rcParams) == settings_before


def test_plot_lightcurves_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"star\.txt: expected a name that ends in \.png"):
        plot_lightcurves(rr_lyrae(), tmp_path / "star.txt")
    assert not list(tmp_path.iterdir())


def test_plot_lightcurves_no_epochs_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no epochs to plot; widen"):
        plot_lightcurves(rr_lyrae().slice(0, 0), tmp_path / "none.png")
    faint = with_column(rr_lyrae(), "mag", [None] * 480)
    with pytest.raises(ConfigError, match="no epochs to plot: none of 480 has a magnitude"):
        plot_lightcurves(faint, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"period": 0.0}, "period 0.0 day"),
        ({"period": float("nan")}, "period nan day"),
        ({"dpi": 5}, "dpi 5"),
        ({"size": (1.0, 5.0)}, "size"),
    ],
)
def test_plot_options_out_of_range_is_refused(bad: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlotOptions(**bad)


def test_figure_magnitudes_increase_downward_and_all_clean_epochs_are_inside() -> None:
    epochs = rr_lyrae()
    faint, bright = _figure(epochs, PlotOptions()).axes[0].get_ylim()
    clean = epochs["mag"].to_numpy()[epochs["catflags"].to_numpy() == 0]
    assert bright < np.nanmin(clean) < np.nanmax(clean) < faint < bright + 2.0


def test_figure_single_star_counts_epochs_per_band_and_names_flags() -> None:
    epochs = rr_lyrae()
    shown = ~np.isnan(epochs["mag"].to_numpy())
    flags = epochs["catflags"].to_numpy()[shown]
    n_bad, n_pixels = int((flags == 32768).sum()), int(((flags != 0) & (flags != 32768)).sum())
    figure = _figure(epochs, PlotOptions())
    assert legend(figure) == [
        "g (237 epochs)",
        "r (237 epochs)",
        f"flagged: bad exposure ({n_bad})",
        f"flagged: pixels or edge ({n_pixels})",
    ]
    hollow = [line for line in points(figure) if line.get_markerfacecolor() == "none" and line.get_marker() in "os"]
    assert sum(len(line.get_xdata()) for line in hollow) == n_bad
    assert drawn(figure, "x") == n_pixels
    assert {line.get_color() for line in points(figure)} == {BAND_COLOURS[1], BAND_COLOURS[2]}
    assert "6 epochs without magnitude not shown" in headline(figure)


def test_figure_one_epoch_without_magerr_is_drawn() -> None:
    one = with_column(rr_lyrae().slice(5, 1), "magerr", [None])
    figure = _figure(one, PlotOptions())
    figure.canvas.draw()
    assert drawn(figure, "o") == 1
    assert np.ptp(figure.axes[0].get_ylim()) == pytest.approx(0.2)


@pytest.mark.parametrize("error", [np.inf, 1e30])
def test_figure_error_without_end_does_not_squash_the_curve(error: float) -> None:
    epochs = rr_lyrae()
    errors = epochs["magerr"].to_numpy().copy()
    errors[5] = error
    limits = [_figure(one, PlotOptions()).axes[0].get_ylim() for one in (epochs, with_column(epochs, "magerr", errors))]
    assert np.ptp(limits[1]) <= np.ptp(limits[0]) + 4.5


@pytest.mark.parametrize(("flags", "text"), [(32768, "bad exposure"), (65535, "pixels or edge"), (4, "pixels or edge")])
def test_figure_all_flagged_still_fills_the_axes(flags: int, text: str) -> None:
    epochs = with_flags(rr_lyrae(), flags)
    figure = _figure(epochs, PlotOptions())
    assert legend(figure)[2:] == [f"flagged: {text} (474)"]
    assert np.ptp(figure.axes[0].get_ylim()) < 1.5


def test_figure_wild_flagged_epochs_become_arrows_and_do_not_squash_the_curve() -> None:
    epochs = rr_lyrae()
    mag, flags = epochs["mag"].to_numpy().copy(), epochs["catflags"].to_numpy().copy()
    mag[[3, 4, 300]], flags[[3, 4, 300]] = [8.0, 25.0, 24.0], [256, 1, 32768]
    figure = _figure(with_column(with_column(epochs, "mag", mag), "catflags", flags), PlotOptions())
    assert np.ptp(figure.axes[0].get_ylim()) < 1.5
    assert (drawn(figure, "^"), drawn(figure, "v")) == (1, 2)
    assert legend(figure)[-1] == "beyond the axis (3)"


def test_figure_clean_outburst_of_few_epochs_stays_on_the_axis() -> None:
    epochs = curve(Unit(679, 16, 2), n=700, amplitude=0.05)
    mag, flags = epochs["mag"].to_numpy().copy(), epochs["catflags"].to_numpy().copy()
    mag[[100, 101]], flags[[100, 101]] = 16.1, 0
    figure = _figure(with_column(with_column(epochs, "mag", mag), "catflags", flags), PlotOptions())
    assert figure.axes[0].get_ylim()[1] < 16.1


def test_figure_several_curves_of_a_band_share_its_colour_and_differ_in_shape() -> None:
    figure = _figure(cone(), PlotOptions())
    assert legend(figure)[:3] == ["g 679 c05 q1 (237)", "r 679 c05 q1 (237)", "r 1679 c11 q4 (89)"]
    handles = figure.legends[0].legend_handles[:3]
    assert [(handle.get_marker(), handle.get_color()) for handle in handles] == [
        ("o", BAND_COLOURS[1]),
        ("o", BAND_COLOURS[2]),
        ("s", BAND_COLOURS[2]),
    ]


def test_figure_two_stars_of_one_unit_are_named_apart() -> None:
    epochs = pa.concat_tables([curve(Unit(679, 16, 2), sourceid, n=50) for sourceid in (7, 8)])
    figure = _figure(epochs, PlotOptions())
    assert [text.split(" (")[0] for text in legend(figure)[:2]] == ["r 679 c05 q1 #7", "r 679 c05 q1 #8"]
    first, second = figure.legends[0].legend_handles[:2]
    assert first.get_marker() != second.get_marker()


def test_figure_many_curves_have_one_legend_entry_per_band() -> None:
    epochs = crowd()
    figure = _figure(epochs, PlotOptions())
    assert len(set(epochs["objectid"].to_pylist())) > MAX_LEGEND_CURVES
    assert [text.split(",")[0] for text in legend(figure)[:3]] == ["g (12 objects", "r (12 objects", "i (12 objects"]
    assert "36 objects" in headline(figure)


def test_figure_most_entries_at_the_smallest_size_still_fit() -> None:
    curves = [curve(Unit(679 + k % 2, 16, 1 + k % 3), k, n=60) for k in range(MAX_LEGEND_CURVES)]
    figure = _figure(pa.concat_tables(curves), PlotOptions(size=(5.0, 4.0), title="eight"))
    figure.canvas.draw()
    assert figure.axes[0].get_position().height > 0.2


def test_figure_period_folds_over_two_cycles() -> None:
    epochs = rr_lyrae(bands=(1,))
    figure = _figure(epochs, PlotOptions(period=PERIOD))
    axes = figure.axes[0]
    assert axes.get_xlim() == (0.0, 2.0)
    assert f"period {PERIOD} day" in axes.get_xlabel()
    (clean,) = [line for line in points(figure) if line.get_alpha() == 0.9]
    half = len(clean.get_xdata()) // 2
    np.testing.assert_allclose(clean.get_xdata()[half:], clean.get_xdata()[:half] + 1.0)
    np.testing.assert_array_equal(clean.get_ydata()[half:], clean.get_ydata()[:half])
    rising = clean.get_ydata()[:half][np.argsort(clean.get_xdata()[:half])]
    assert np.abs(np.diff(rising)).mean() < 0.05
    assert legend(figure)[0] == "g (237 epochs)"


def test_figure_time_axis_has_calendar_dates_at_their_mjd() -> None:
    figure = _figure(rr_lyrae(), PlotOptions())
    (calendar,) = figure.axes[0].child_axes
    labels = [tick.get_text() for tick in calendar.get_xticklabels()]
    assert labels[:3] == ["2018-07", "2019-01", "2019-07"]
    assert Time([f"{label}-01" for label in labels]).mjd.tolist() == calendar.get_xticks().tolist()
    assert calendar.get_xlabel() == "Date (UTC)"
    assert figure.axes[0].get_xlabel() == "HMJD (day)"


@given(st.floats(50000, 70000), st.floats(0.02, 30000), st.integers(3, 20))
def test_calendar_any_span_gives_round_dates_inside(first: float, span: float, most: int) -> None:
    ticks, labels = _calendar(first, first + span, most)
    assert len(ticks) == len(labels) == len(set(labels)) <= most
    assert all(first - 1e-5 <= tick <= first + span + 1e-5 for tick in ticks)


def test_figure_title_is_what_was_asked_for_and_not_mathematics() -> None:
    title = "100 $ a star, 90 $ two_{"
    figure = _figure(rr_lyrae(), PlotOptions(title=title))
    figure.canvas.draw()
    named, place = "objectid 679105100000123, 679205100000123", "mean position of the epochs: RA 210.80"
    assert headline(figure).startswith(f"{title}\n{named}\n{place}")
    assert "14:03:12.5" in headline(figure)
    assert headline(_figure(rr_lyrae(), PlotOptions())).startswith(f"{named}\n{place}")


def test_figure_of_transients_calls_them_so() -> None:
    epochs = rr_lyrae()
    ids = epochs["objectid"].to_numpy() + 10**16
    figure = _figure(with_column(epochs, "objectid", ids), PlotOptions())
    assert figure.get_suptitle() == "transientid 10679105100000123, 10679205100000123"
    ids = np.where(epochs["fid"].to_numpy() == 1, epochs["objectid"].to_numpy(), ids)
    figure = _figure(with_column(epochs, "objectid", ids), PlotOptions())
    assert figure.get_suptitle() == "objectid 679105100000123  transientid 10679205100000123"
    ids = 10**16 + np.arange(epochs.num_rows) % 5 + 10 * epochs["fid"].to_numpy()
    figure = _figure(with_column(epochs, "objectid", ids), PlotOptions())
    assert figure.get_suptitle() == "10 transients"
    assert figure.legends[0].get_texts()[0].get_text().startswith("g (5 transients, ")


def test_figure_position_across_zero_right_ascension_is_between() -> None:
    epochs = rr_lyrae()
    ra = np.where(np.arange(epochs.num_rows) % 2, 359.9999, 0.0001)
    assert "mean position of the epochs: RA 0.00000  Dec +54.3" in headline(
        _figure(with_column(epochs, "ra", ra), PlotOptions())
    )


@given(st.floats(0, 359.9999), st.floats(-90, 90))
def test_sexagesimal_any_position_reads_as_astropy_writes_it(ra: float, dec: float) -> None:
    got = SkyCoord(_sexagesimal(ra, dec), unit=(u.hourangle, u.deg))
    assert abs((got.ra.deg - ra + 180.0) % 360.0 - 180.0) <= 0.0751 / 3600.0
    assert abs(got.dec.deg - dec) <= 0.0501 / 3600.0


def test_sexagesimal_rounds_up_without_sixty() -> None:
    assert _sexagesimal(359.99999, -0.999999) == "00:00:00.00 -01:00:00.0"
