"""Many circles at once, angles as people write them, names, and what is near an empty place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from helpers import append, epochal_file, make_store, reference_file, rows_at
from hypothesis import given
from hypothesis import strategies as st

import ztfmatch
from ztfmatch import Query
from ztfmatch.api import Snapshot
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.survey import Unit
from ztfmatch.query.io.names import resolve_name
from ztfmatch.query.io.positionlist import position_list
from ztfmatch.query.kernels.angles import circle_of, dec_degrees, ra_degrees, radius_of

PLACES = {500: (0.0, 0.0), 501: (0.0, 89.5), 502: (45.0, 41.8)}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Objects over RA 0, over the pole and across borders of tiles, with three epochs."""
    place, rng = tmp_path_factory.mktemp("positions"), np.random.default_rng(3)
    references, catalogs = [], []
    for field, (ra, dec) in PLACES.items():
        x, y = rng.uniform(-0.5, 0.5, (2, 400))
        top = np.clip(dec + y, -89.99, 89.99)
        at = ((ra + x / np.cos(np.radians(top))) % 360.0, top)
        unit = Unit(field, 20, 2)
        references.append(reference_file(place, rows_at(*at, mag=rng.uniform(-9, -5, 400)), unit))
        for night in range(3):
            name = f"ztf_2019020{field - 499}25{night:04d}_{field:06d}_zr_c06_o_q1_psfcat.fits"
            seen = rng.random(400) < 0.8
            rows = rows_at(at[0][seen], at[1][seen])
            catalogs.append(epochal_file(place, rows, night, unit, name, OBSMJD=58514.25 + field - 499 + night / 1e4))
    append(make_store(place / "store", references, seeds_per_tile=40), catalogs)
    return ztfmatch.open_store(place / "store").snapshot()


@pytest.fixture(scope="module")
def stars(snapshot: Snapshot) -> pd.DataFrame:
    """Places near some objects, and some near none."""
    rng = np.random.default_rng(8)
    objects = snapshot.table("objects", columns=["ra", "dec"])
    rows = rng.integers(0, objects.num_rows, 300)
    place = SkyCoord(objects["ra"].to_numpy()[rows], objects["dec"].to_numpy()[rows], unit="deg")
    place = place.directional_offset_by(rng.uniform(0, 360, 300) * u.deg, rng.uniform(0, 90, 300) * u.arcsec)
    return pd.DataFrame({"name": [f"star {i}" for i in range(300)], "ra": place.ra.deg, "dec": place.dec.deg})


def pairs_of(rows: pa.Table) -> dict[tuple[str, int], float]:
    keys = zip(rows["id"].to_pylist(), rows["objectid"].to_pylist(), strict=True)
    return dict(zip(keys, rows["separation"].to_pylist(), strict=True))


@pytest.mark.parametrize("radius", ["1arcmin", 2.0])
def test_positions_give_what_a_cone_about_each_gives(snapshot: Snapshot, stars: pd.DataFrame, radius: Any) -> None:
    answer = snapshot.query(Query(positions=stars, radius=radius, columns=["objectid"]))
    found = pairs_of(answer.to_arrow())
    expected = {}
    for star in stars.itertuples():
        near = snapshot.objects(cone=(star.ra, star.dec, radius))
        expected |= {(star.name, row["objectid"]): row["separation"] for row in near.to_pylist()}
    assert found.keys() == expected.keys()
    assert len(found) > 5
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), atol=1e-6)
    assert set(answer.without_match()) == set(stars.name) - {name for name, _ in expected}


@pytest.mark.filterwarnings("ignore")
def test_positions_give_what_lsdb_crossmatch_gives(snapshot: Snapshot, stars: pd.DataFrame) -> None:
    import lsdb

    objects = snapshot.table("objects", columns=["objectid", "ra", "dec"]).to_pandas()
    left = lsdb.from_dataframe(stars, ra_column="ra", dec_column="dec")
    right = lsdb.from_dataframe(objects, ra_column="ra", dec_column="dec", margin_threshold=70)
    matched = left.crossmatch(right, n_neighbors=100, radius_arcsec=60, suffixes=("", "_o")).compute()
    name = "objectid" if "objectid" in matched else "objectid_o"
    theirs = {(row["name"], row[name]): row["_dist_arcsec"] for _, row in matched.iterrows()}
    ours = pairs_of(snapshot.query(Query(positions=stars, radius="60arcsec")).to_arrow())
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose([ours[key] for key in theirs], list(theirs.values()), atol=1e-5)


@pytest.mark.parametrize("select", ["statistics", "lightcurves"])
def test_rows_of_positions_are_those_of_their_objects(snapshot: Snapshot, stars: pd.DataFrame, select: Any) -> None:
    """Each as often as positions are near its object."""
    columns = ["objectid", "dec"]
    rows = snapshot.query(Query(select, positions=stars, radius=60, columns=columns)).to_arrow()
    links = snapshot.query(Query(positions=stars, radius=60, columns=["objectid"])).to_arrow().to_pandas()
    plain = snapshot.query(Query(select, objectids=links.objectid.unique(), columns=columns)).to_arrow().to_pandas()
    expected = links.merge(plain, on="objectid")[rows.column_names]
    order = list(rows.column_names)
    found = rows.to_pandas().sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected.sort_values(order, ignore_index=True))
    assert rows.num_rows == len(snapshot.query(Query(select, positions=stars, radius=60)))


def test_lists_of_every_kind_are_the_same(tmp_path: Path, stars: pd.DataFrame) -> None:
    table, arrow = Table.from_pandas(stars), pa.Table.from_pandas(stars, preserve_index=False)
    stars.to_csv(tmp_path / "x.csv", index=False)
    pq.write_table(arrow, tmp_path / "x.parquet")
    for form in ("ecsv", "fits"):
        table.write(tmp_path / f"x.{form}")
    table.write(tmp_path / "x.xml", format="votable")
    stars.rename(columns={"ra": "RAJ2000", "dec": "DEJ2000", "name": "ID"}).to_csv(tmp_path / "y.csv", index=False)
    files = [tmp_path / name for name in ("x.csv", "x.parquet", "x.ecsv", "x.fits", "x.xml", "y.csv")]
    for given_list in (*files, stars, table, arrow, pl.from_pandas(stars), str(files[0])):
        listed = position_list(given_list)
        assert listed.ids.to_pylist() == list(stars.name)
        np.testing.assert_allclose(listed.ra, stars.ra, rtol=1e-14)
        np.testing.assert_allclose(listed.dec, stars.dec, rtol=1e-14)
    place = SkyCoord(stars.ra, stars.dec, unit="deg").galactic
    listed = position_list(place)
    assert listed.ids.to_pylist() == list(range(len(stars)))
    np.testing.assert_allclose(listed.dec, stars.dec, atol=1e-9)
    (tmp_path / "blanks.csv").write_text("name, ra, dec\nmine, 1.5, 2.5\n")
    blanks = position_list(tmp_path / "blanks.csv")
    assert (blanks.ids.to_pylist(), *blanks.ra, *blanks.dec) == (["mine"], 1.5, 2.5)
    sexagesimal = position_list({"ra": ["16:28:19.9", "0:0:1"], "dec": ["+32:57:17", "-0:0:1"]})
    np.testing.assert_allclose(sexagesimal.dec, [32 + 57 / 60 + 17 / 3600, -1 / 3600])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": [1.0], "dec": [1.0]}, "no column 'ra', nor raj2000"),
        ({"ra": [1.0, None], "dec": [1.0, 2.0]}, r"row 1 \(from 0\) has no position"),
        ({"ra": [1.0, 2.0], "dec": [1.0, 91.0]}, r"row 1 \(from 0\): declination 91.0 is outside -90..90"),
        ({"ra": [400.0], "dec": [1.0]}, "right ascension 400.0 is outside"),
        ({"ra": [1.0], "dec": [1.0, 2.0]}, "columns of 1, 2 and 1 values; expected one length"),
        ({"ra": ["1", "x"], "dec": ["1", "1"]}, r"row 1 \(from 0\): right ascension 'x' cannot be read"),
    ],
)
def test_list_that_is_none_is_refused(snapshot: Snapshot, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        snapshot.query(Query(positions=columns))


@pytest.mark.parametrize("ext", ["ecsv", "fits", "xml", None])
def test_masked_position_is_refused_and_a_masked_id_is_null(tmp_path: Path, ext: str | None) -> None:
    table = Table({"id": np.ma.array([7, 8], mask=[True, False]), "ra": [1.0, 2.0], "dec": [3.0, 4.0]}, masked=True)
    if ext is None:
        assert position_list(table).ids.to_pylist() == [None, 8]
    table["ra"].mask = [False, True]
    given_list: Any = table if ext is None else tmp_path / f"x.{ext}"
    if ext is not None:
        table.write(given_list, format={"xml": "votable"}.get(ext, ext if ext == "fits" else "ascii.ecsv"))
    with pytest.raises(ConfigError, match=r"row 1 \(from 0\) has no position"):
        position_list(given_list)


def test_positions_are_read_in_the_unit_of_their_column(tmp_path: Path) -> None:
    table = Table({"ra": [10.0, 11.5], "dec": [0.5, -0.5]}, units={"ra": "hourangle", "dec": "rad"})
    table.write(tmp_path / "x.ecsv")
    place = SkyCoord(table["ra"], table["dec"])
    for given_list in (table, tmp_path / "x.ecsv", {"ra": place.ra.to("rad"), "dec": place.dec}):
        listed = position_list(given_list)
        np.testing.assert_allclose(listed.ra, [150.0, 172.5], rtol=1e-14)
        np.testing.assert_allclose(listed.dec, np.degrees([0.5, -0.5]), rtol=1e-14)
    table["dec"].unit = "s"
    with pytest.raises(ConfigError, match=r"'s' .* not convertible; expected positions in degrees"):
        position_list(table)
    table["ra"], table["dec"].unit = [10.0, 11.5], u.Unit("degrees of arc", parse_strict="silent")
    assert position_list(table).dec.tolist() == [0.5, -0.5]


def test_questions_about_lists_that_cannot_be_are_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MetadataError, match=r"x\.csv"):
        snapshot.query(Query(positions=tmp_path / "x.csv"))
    with pytest.raises(MetadataError, match="no such file"):
        snapshot.query(Query(positions=tmp_path / "y.csv"))
    with pytest.raises(ConfigError, match="positions 5; expected a file, a table or a SkyCoord"):
        snapshot.query(Query(positions=5))
    with pytest.raises(ConfigError, match="cone and positions contradict"):
        snapshot.query(Query(cone=(1, 2, 3), positions={"ra": [1.0], "dec": [1.0]}))
    with pytest.raises(ConfigError, match=r"radius 7200.0 arcsec is outside \(0, 3600\]"):
        snapshot.query(Query(positions={"ra": [1.0], "dec": [1.0]}, radius="2deg"))
    assert snapshot.query(Query(positions={"ra": [], "dec": []})).to_arrow().num_rows == 0


@given(st.floats(0, 359.999), st.floats(-90, 90))
def test_sexagesimal_angles_are_those_of_astropy(ra: float, dec: float) -> None:
    for sep in (":", " ", "hms"):
        text = Angle(ra, "deg").to_string("hourangle", sep=sep, precision=9)
        assert abs(ra_degrees(text) - Angle(text, "hourangle").deg) < 1e-9
    for sep in (":", " ", "dms"):
        text = Angle(dec, "deg").to_string("deg", sep=sep, precision=9, alwayssign=True)
        assert abs(dec_degrees(text) - Angle(text, "deg").deg) < 1e-9


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("16h28m", 247.0), ("16:28.5", 247.125), ("247.5d", 247.5), ("247.5 deg", 247.5), ("\u22121:00", -15.0)],
)
def test_angles_without_seconds_or_with_their_unit_are_read(text: str, degrees: float) -> None:
    assert ra_degrees(text) == pytest.approx(degrees, abs=1e-12)
    assert dec_degrees("+32\u00b057'36''") == dec_degrees("32.96\u00b0") == dec_degrees("32:57.6") == 32.96


@pytest.mark.parametrize("given", [2 * u.m, [1.0, 2.0] * u.deg])
def test_quantity_that_is_no_angle_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="right ascension"):
        ra_degrees(given)


@pytest.mark.parametrize("text", ["16:60:00", "16:28:61", "abc", "", "16", "16:28:19:3", "+-1:00:00", "16:28.5:1"])
def test_text_that_is_no_angle_is_refused(text: str) -> None:
    if text == "16":
        assert ra_degrees(text) == 16.0  # a number is degrees
        return
    with pytest.raises(ConfigError, match=r"cannot be read; expected something like 247.0829 or 16:28:19.9"):
        ra_degrees(text)
    with pytest.raises(ConfigError, match="declination"):
        dec_degrees("12h00m00s")


def test_circles_and_radii_of_astropy_are_understood(snapshot: Snapshot) -> None:
    assert [radius_of(r, "arcsec") for r in (2, "2", "2arcsec", '2"', "1'", "1°", 2 * u.arcmin)] == [
        2,
        2,
        2,
        2,
        60,
        3600,
        120,
    ]
    with pytest.raises(ConfigError, match=r"radius 2\.0 mag"):
        radius_of(2 * u.mag, "arcsec")
    row = snapshot.table("objects").slice(0, 1).to_pylist()[0]
    place = SkyCoord(row["ra"], row["dec"], unit="deg")
    expected = snapshot.objects(cone=(row["ra"], row["dec"], 30.0))
    text = place.to_string("hmsdms", precision=6).split()
    for cone in ((place.galactic, 30 * u.arcsec), (place.ra, place.dec, "0.5arcmin"), (*text, 30)):
        found = snapshot.objects(cone=cone)
        assert found["objectid"] == expected["objectid"]
        assert len(snapshot.query(Query(cone=cone))) == expected.num_rows
    with pytest.raises(ConfigError, match="a circle about 2 positions"):
        circle_of((SkyCoord([1, 2], [1, 2], unit="deg"), 2))


def test_names_are_resolved_by_a_table_or_by_themselves(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("name,ra,dec\nRR Lyr,291.36630,42.78436\nAlgol,3:08:10.1,40:57:20\n")
    assert resolve_name("rr lyr", table) == (291.36630, 42.78436)
    ra, dec = resolve_name("ZTF J162819.90+325717.3", None)
    assert SkyCoord(ra, dec, unit="deg").separation(SkyCoord("16h28m19.90s +32d57m17.3s")).arcsec < 1e-6
    with pytest.raises(ConfigError, match="no name 'RRLry'; did you mean rrlyr"):
        resolve_name("RRLry", table)
    with pytest.raises(ConfigError, match="--names FILE"):
        resolve_name("Algol", None)


def test_near_tells_the_nearest_object_and_the_exposures(snapshot: Snapshot) -> None:
    objects = snapshot.table("objects")
    every = SkyCoord(objects["ra"].to_numpy(), objects["dec"].to_numpy(), unit="deg")
    for ra, dec in ((45.1, 41.9), (0.0, 89.7), (359.9, 0.1), (46.2, 41.8)):
        there = snapshot.near((ra, dec))
        separation = every.separation(SkyCoord(ra, dec, unit="deg")).arcsec
        if separation.min() <= 1800.0:
            assert there.objectid == objects["objectid"][int(separation.argmin())].as_py()
            assert there.separation_arcsec == pytest.approx(separation.min(), abs=1e-5)
    far = snapshot.near(SkyCoord(200.0, -20.0, unit="deg"))
    assert (far.objectid, far.exposures) == (None, {})
    assert str(far) == "there is no object within half a degree, and no exposure covers the place"
