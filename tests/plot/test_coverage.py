"""Maps of the exposed sky: where the quadrants are, how often a place was exposed, and where it is drawn."""

from __future__ import annotations

from pathlib import Path

import hpgeom
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.projections.geo import HammerAxes

from ztfmatch.core.camera import Plane, Pointing, QuadrantMap, field_grid, quadrant_corners, unit_vectors
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.survey import N_RCID, QUADRANT_SHAPE_PIX
from ztfmatch.plot import CoverageOptions, coverage_of, plot_coverage
from ztfmatch.plot.coverage import _POLE_DEG, coverage_figure, from_galactic, to_galactic
from ztfmatch.plot.footprint import channels_at
from ztfmatch.plot.projection import HAMMER_HALF_AXES, from_hammer, hammer


def ledger(field: list[int], rcid: list[int]) -> pa.Table:
    return pa.table({"field": pa.array(field, pa.int16()), "rcid": pa.array(rcid, pa.int8())})


def whole(fields: list[int]) -> pa.Table:
    """One exposure of each field, all channels."""
    return ledger(np.repeat(fields, N_RCID).tolist(), list(range(N_RCID)) * len(fields))


def on_quadrant(plane: Plane, rcid: int, margin_pix: float = 0.0) -> np.ndarray:
    """Whether points lie on a quadrant that is larger by a margin on each side, by the mapping of its pixels."""
    x, y = QuadrantMap.of_rcid(rcid).to_pixels(plane)
    columns, rows = QUADRANT_SHAPE_PIX
    low, high = 0.5 - margin_pix, 0.5 + margin_pix
    return (x >= low) & (x < columns + high) & (y >= low) & (y < rows + high)


# Projections


@given(st.floats(-179.9, 179.9), st.floats(-89.9, 89.9))
def test_hammer_is_that_of_matplotlib(lon: float, lat: float) -> None:
    expected = HammerAxes.HammerTransform(10).transform_non_affine(np.radians([[lon, lat]]))
    assert hammer(np.array([lon]), np.array([lat])) == pytest.approx(expected, abs=1e-9)


@given(st.floats(-179.0, 179.0), st.floats(-89.0, 89.0))
def test_from_hammer_is_the_inverse(lon: float, lat: float) -> None:
    (found_lon,), (found_lat,), (inside,) = from_hammer(*hammer(np.array([lon]), np.array([lat])).T)
    assert inside
    assert (found_lon, found_lat) == (pytest.approx(lon, abs=1e-7), pytest.approx(lat, abs=1e-7))


def test_from_hammer_outside_the_ellipse_is_told() -> None:
    x, y = 1.001 * HAMMER_HALF_AXES[0], 1.001 * HAMMER_HALF_AXES[1]
    _, _, inside = from_hammer(np.array([x, 0.0, -x, 0.0, 0.9 * x]), np.array([0.0, y, 0.0, -y, 0.9 * y]))
    assert not inside.any()


def test_galactic_coordinates_are_those_of_astropy() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0.0, 360.0, 1000), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 1000)))
    there = SkyCoord(ra, dec, unit="deg")
    lon, lat = to_galactic(ra, dec)
    assert SkyCoord(lon, lat, unit="deg", frame="galactic").separation(there.galactic).max() < 0.1 * u.arcsec
    assert SkyCoord(*from_galactic(lon, lat), unit="deg").separation(there).max() < 0.1 * u.arcsec
    assert to_galactic(np.zeros(1), np.array([90.0])) == pytest.approx(np.array(_POLE_DEG)[:, None], abs=0.01)


# Counts


def test_channels_at_is_where_the_pixels_of_the_channel_are() -> None:
    rng = np.random.default_rng(2)
    plane = Plane(*rng.uniform(-4.0, 4.0, (2, 100_000)))
    got = channels_at(plane)
    assert set(got.tolist()) == {-1, *range(N_RCID)}
    for rcid in range(N_RCID):
        assert (got[on_quadrant(plane, rcid, margin_pix=-10.0)] == rcid).all()
        assert on_quadrant(plane, rcid, margin_pix=10.0)[got == rcid].all()


def test_coverage_of_overlapping_fields_is_brute_force() -> None:
    rng = np.random.default_rng(3)
    fields, rcids = rng.choice([679, 680, 1679, 1], 400), rng.integers(0, N_RCID, 400)
    coverage = coverage_of(ledger(fields.tolist(), rcids.tolist()), order=6)
    assert (coverage.exposures, coverage.unplaced) == (400, 0)
    ra, dec = hpgeom.pixel_to_angle(2**6, np.arange(12 * 4**6))
    xyz = unit_vectors(ra, dec)
    least, most = (np.zeros(len(ra), np.int64) for _ in range(2))
    for field in np.unique(fields):
        centre = field_grid()[int(field)]
        near = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*centre, unit="deg")).deg < 30.0
        plane = Pointing(*centre).project(xyz)
        for rcid in rcids[fields == field].tolist():
            least += near & on_quadrant(plane, rcid, margin_pix=-10.0)
            most += near & on_quadrant(plane, rcid, margin_pix=10.0)
    assert most.max() > 5
    assert (least <= coverage.counts).all()
    assert (coverage.counts <= most).all()
    assert (least == most).sum() > 0.999 * len(least)


def test_coverage_of_one_field_has_the_area_of_its_quadrants() -> None:
    coverage = coverage_of(whole([679]))
    corners = np.stack([quadrant_corners(rcid) for rcid in range(N_RCID)])
    middle = np.hypot(*corners.mean(axis=1).T)
    east, north = (np.ptp(corners[:, :, axis], axis=1) for axis in (0, 1))
    on_the_sphere = east * north * np.cos(np.radians(middle)) ** 3  # of an area on the tangent plane
    assert coverage.area_deg2 == pytest.approx(on_the_sphere.sum(), rel=0.005)
    assert coverage.counts.max() == 1


def test_coverage_of_unknown_fields_counts_them_apart() -> None:
    coverage = coverage_of(ledger([679, 679, 900, 9999], [0, 0, 1, 2]))
    assert (coverage.exposures, coverage.unplaced, coverage.counts.max()) == (2, 2, 2)


@pytest.mark.parametrize("order", [-1, 13])
def test_coverage_of_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(ConfigError, match=rf"order {order} is outside 0\.\.12"):
        coverage_of(whole([679]), order)


# Pictures


def values_at(figure: Figure, ra: float, dec: float) -> float:
    """What is drawn at a position, by astropy's and matplotlib's own transformations; NaN for nothing."""
    galactic = SkyCoord(ra, dec, unit="deg").galactic
    place = np.array([[galactic.l.wrap_at(180 * u.deg).radian, galactic.b.radian]])
    ((x, y),) = HammerAxes.HammerTransform(10).transform_non_affine(place)
    (image,) = figure.axes[0].images
    values = np.ma.filled(image.get_array().astype(float), np.nan)
    west, east, south, north = image.get_extent()
    row = int((y - south) / (north - south) * values.shape[0])
    return float(values[row, int((-x - west) / (east - west) * values.shape[1])])


def test_coverage_figure_has_each_field_at_its_place() -> None:
    fields = [679, 250, 800, 1]
    exposures = pa.concat_tables([whole(fields[: k + 1]) for k in range(4)])
    figure = coverage_figure(coverage_of(exposures))
    for times, field in enumerate(reversed(fields), 1):
        ra, dec = field_grid()[field]
        for north in (-0.6, 0.6):  # the centre itself is between CCDs
            at = Pointing(ra, dec).deproject(Plane(np.array([0.5]), np.array([north])))
            here = np.degrees(np.arctan2(at[1], at[0]))[0], np.degrees(np.arcsin(at[2]))[0]
            assert values_at(figure, *here) == times
        assert np.isnan(values_at(figure, ra, dec + 6.0 if dec < 0 else dec - 6.0))


def test_coverage_figure_title_counts() -> None:
    exposures = pa.concat_tables([whole([679, 679]), ledger([900], [0])])
    figure = coverage_figure(coverage_of(exposures), CoverageOptions("One field, $twice"))
    text = figure.axes[0].get_title()
    assert text.startswith("128 quadrant images, 1 of unknown fields; 47 square degrees exposed, 2 times (median)")
    assert figure.get_suptitle() == "One field, $twice"


@pytest.mark.parametrize(("times", "logarithmic"), [(5, False), (100, True)])
def test_coverage_figure_wide_range_is_logarithmic(times: int, logarithmic: bool) -> None:
    figure = coverage_figure(coverage_of(pa.concat_tables([whole([679]), whole([800] * times)])))
    assert isinstance(figure.axes[0].images[0].norm, LogNorm) == logarithmic
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[1].get_xticklabels() if text.get_text()]
    assert len(labels) >= 3
    assert all(label.replace(",", "").replace(".", "").isdigit() for label in labels)


def test_plot_coverage_writes_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        coverage = plot_coverage(whole([679, 680]), tmp_path / name, CoverageOptions("Twice", dpi=50))
    assert coverage.exposures == 2 * N_RCID
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_plot_coverage_of_nothing_or_to_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to draw: none of 1 exposures"):
        plot_coverage(ledger([900], [0]), tmp_path / "map.png")
    with pytest.raises(ConfigError, match="expected a name that ends in"):
        plot_coverage(whole([679]), tmp_path / "map.gif")
    with pytest.raises(ConfigError, match="dpi 5 is outside"):
        CoverageOptions(dpi=5)
    assert list(tmp_path.iterdir()) == []


def test_coverage_figure_zooms_to_what_there_is() -> None:
    """One field, and two across longitude 0 of the galaxy; longitude to the left."""
    near_zero = sorted(
        field_grid(),
        key=lambda f: SkyCoord(*field_grid()[f], unit="deg").galactic.separation(
            SkyCoord(0, 5, unit="deg", frame="galactic")
        ),
    )[:2]
    for fields in ([679], near_zero):
        exposures = whole([fields[0], *fields])
        figure = coverage_figure(coverage_of(exposures), CoverageOptions(zoom=True), exposures)
        axes = figure.axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Galactic longitude l", "Galactic latitude b")
        west, east, south, north = axes.images[0].get_extent()
        assert axes.get_xlim() == (east, west)
        assert max(east - west, north - south) < 60.0
        values = axes.images[0].get_array().filled(0.0)
        for field in fields:
            at = Pointing(*field_grid()[field]).deproject(Plane(np.array([0.5]), np.array([0.6])))
            place = SkyCoord(*at[:, 0], representation_type="cartesian").galactic
            lon = west + (place.spherical.lon.deg - west) % 360.0
            row = int((place.spherical.lat.deg - south) / (north - south) * values.shape[0])
            assert values[row, int((lon - west) / (east - west) * values.shape[1])] == 1 + (field == fields[0])


def test_coverage_figure_of_much_of_the_sky_does_not_zoom() -> None:
    exposures = whole([250, 800])
    figure = coverage_figure(coverage_of(exposures), CoverageOptions(zoom=True), exposures)
    assert figure.axes[0].get_xlabel() == ""
