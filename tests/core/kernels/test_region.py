"""Regions: caps, polygons and pixels, each against another package."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from ztfmatch.core.kernels.region import Cap, PixelSet, Polygon, Region


def sky(n: int, seed: int, around: tuple[float, float] | None = None, spread: float = 20.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    if around is None:
        return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec = np.clip(around[1] + rng.uniform(-spread, spread, n), -90, 90)
    return (around[0] + rng.uniform(-1, 1, n) * spread / np.cos(np.radians(dec)).clip(0.05)) % 360.0, dec


@pytest.mark.parametrize("centre", [(10.0, 20.0), (0.0, -89.5), (359.9, 0.0)])
def test_cap_equals_astropys_separations(centre: tuple[float, float]) -> None:
    ra, dec = sky(5000, 1)
    apart = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*centre, unit="deg")).deg
    np.testing.assert_array_equal(Region((Cap(*centre, 37.0),)).contains(ra, dec), apart <= 37.0)


@pytest.mark.parametrize(
    ("vertices", "around"),
    [
        (((350.0, -5.0), (12.0, -4.0), (8.0, 9.0), (355.0, 7.0)), (1.0, 2.0)),
        (((0.0, 80.0), (90.0, 78.0), (200.0, 82.0), (290.0, 79.0)), (0.0, 85.0)),
        (((100.0, 30.0), (130.0, 31.0), (120.0, 60.0)), (115.0, 40.0)),
    ],
)
def test_polygon_convex_equals_sphgeom(vertices: tuple[tuple[float, float], ...], around: tuple[float, float]) -> None:
    sphgeom = pytest.importorskip("lsst.sphgeom")
    ra, dec = sky(4000, 2, around)
    corners = [sphgeom.UnitVector3d(sphgeom.LonLat.fromDegrees(*vertex)) for vertex in vertices]
    expected = sphgeom.ConvexPolygon(corners).contains(np.radians(ra), np.radians(dec))
    for turn in (vertices, vertices[::-1], vertices[2:] + vertices[:2]):
        np.testing.assert_array_equal(Region((Polygon(turn),)).contains(ra, dec), expected)
    assert 0 < expected.sum() < len(ra)


def test_polygon_concave_leaves_out_its_notch() -> None:
    notched = Polygon(((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (5.0, 3.0), (0.0, 10.0)))
    inside = Region((notched,)).contains(np.array([5.0, 5.0, 1.0, 9.0, 185.0]), np.array([2.0, 6.0, 6.0, 6.0, -2.0]))
    assert inside.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize(
    ("vertices", "message"),
    [
        (((0.0, 0.0), (1.0, 1.0)), "a polygon of 2 vertices; expected at least 3"),
        (((0.0, 0.0), (120.0, 0.0), (240.0, 0.0)), "more than 80 degrees from its middle"),
        (((0.0, 0.0), (170.0, 0.0), (85.0, 10.0)), "more than 80 degrees"),
    ],
)
def test_polygon_that_is_none_is_refused(vertices: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Polygon(vertices)


def test_pixel_set_equals_mocpy() -> None:
    mocpy = pytest.importorskip("mocpy")
    from astropy import units as u

    moc = mocpy.MOC.from_cone(20 * u.deg, -40 * u.deg, radius=11 * u.deg, max_depth=9)
    ra, dec = sky(20_000, 3, (20.0, -40.0))
    ranges = tuple((int(low), int(high)) for low, high in moc.to_depth29_ranges)
    got = Region((PixelSet(ranges),)).contains(ra, dec)
    np.testing.assert_array_equal(got, moc.contains_lonlat(ra * u.deg, dec * u.deg))
    assert 0 < got.sum() < len(ra)


@pytest.mark.parametrize("shape", ["cap", "polygon", "pixels"])
def test_may_touch_is_true_of_every_cap_that_has_a_point_inside(shape: str) -> None:
    """And false of all that are far away."""
    pixels = healpy.ang2pix(64, [20.0, 25.0, 15.0, 20.0], [-40.0, -38.0, -45.0, -47.0], nest=True, lonlat=True)
    made = {
        "cap": Cap(20.0, -40.0, 11.0),
        "polygon": Polygon(((10.0, -50.0), (30.0, -50.0), (31.0, -30.0), (9.0, -31.0))),
        "pixels": PixelSet(tuple((n << 46, (n + 1) << 46) for n in sorted(pixels.tolist()))),
    }[shape]
    rng = np.random.default_rng(7)
    touched = 0
    centres = healpy.ang2vec(*np.hstack([sky(200, 8, (20.0, -40.0), 30.0), sky(200, 9)]), lonlat=True)
    radii = np.radians(rng.uniform(0.3, 6.0, len(centres)))
    may_touch = Region((made,)).may_touch(centres, radii)
    for centre, radius, told in zip(centres, radii.tolist(), may_touch.tolist(), strict=True):
        points = rng.normal(size=(400, 3)) * radius * 0.6 + centre
        points /= np.linalg.norm(points, axis=1)[:, None]
        inside = made.contains(points[points @ centre >= np.cos(radius)]).any()
        assert told or not inside
        assert not told or centre @ healpy.ang2vec(20.0, -40.0, lonlat=True) > np.cos(np.radians(25.0))
        touched += bool(inside)
    assert touched > 5


def test_region_is_the_union_of_its_shapes() -> None:
    ra, dec = sky(3000, 4)
    caps = (Cap(10.0, 10.0, 30.0), Cap(200.0, -20.0, 40.0))
    parts = [Region((cap,)).contains(ra, dec) for cap in caps]
    np.testing.assert_array_equal(Region(caps).contains(ra, dec), parts[0] | parts[1])
    assert Region(caps).contains(ra[:0], dec[:0]).shape == (0,)
