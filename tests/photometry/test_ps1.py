"""PS1 catalogs of either kind: the rows of a box, at RA 0 and the poles too, against all rows and plain arithmetic."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import angular_separation

from ztfmatch.core.errors import MetadataError
from ztfmatch.photometry.io import ps1
from ztfmatch.photometry.io.ps1 import Ps1Stars, open_ps1
from ztfmatch.photometry.io.skybox import Box


def write(path: Path, ra: np.ndarray, dec: np.ndarray) -> Path:
    columns = {
        "ra": ra,
        "dec": dec,
        "g": np.full(len(ra), 15.5),
        "r": np.full(len(ra), 15.0),
        "i": np.full(len(ra), 14.9),
    }
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE ps1 (ra REAL, dec REAL, g REAL, r REAL, i REAL)")
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        connection.executemany("INSERT INTO ps1 VALUES (?, ?, ?, ?, ?)", rows)
    return path


@pytest.mark.parametrize("name", ["ps1.parquet", "ps1.sqlite"])
@pytest.mark.parametrize(("ra", "dec"), [(0.0, 20.0), (359.9, -60.0), (180.0, 0.0), (77.0, 89.5), (200.0, -89.9)])
def test_read_box_holds_all_that_is_near_the_positions(tmp_path: Path, name: str, ra: float, dec: float) -> None:
    rng = np.random.default_rng(4)
    all_ra = (ra + rng.uniform(-4.0, 4.0, 4000) / max(np.cos(np.radians(dec)), 0.02)) % 360.0
    all_dec = np.clip(dec + rng.uniform(-4.0, 4.0, 4000), -90.0, 90.0)
    positions = (ra + np.array([-0.5, 0.0, 0.5])) % 360.0, np.clip(dec + np.array([-0.2, 0.0, 0.1]), -90.0, 90.0)
    got = open_ps1(write(tmp_path / name, all_ra, all_dec)).read(Box.around(*positions, 0.1))
    held = set(zip(got.ra.tolist(), got.dec.tolist(), strict=True))
    offset = (all_ra[:, None] - positions[0] + 180.0) % 360.0 - 180.0
    near_ra = np.abs(offset) * np.cos(np.radians(all_dec))[:, None] <= 0.1
    near = (near_ra & (np.abs(all_dec[:, None] - positions[1]) <= 0.1)).any(axis=1)
    assert near.sum() > 0
    assert held >= set(zip(all_ra[near].tolist(), all_dec[near].tolist(), strict=True))
    assert len(held) < 4000 or abs(dec) > 85.0


def test_open_ps1_of_a_replaced_file_is_another_catalog(tmp_path: Path) -> None:
    """Results that an interrupted run left of the old one are not those of the new one."""
    path = write(tmp_path / "ps1.parquet", np.array([1.0]), np.array([2.0]))
    first = open_ps1(path)
    assert open_ps1(path) == first
    write(path, np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert open_ps1(path) != first


@pytest.mark.parametrize("form", ["directory", "hats"])
def test_open_ps1_of_linked_directories_reads_them_and_sees_them_replaced(tmp_path: Path, form: str) -> None:
    real = tmp_path / "real"
    real.mkdir()
    write(real / "part.parquet", np.array([150.2]), np.array([20.1]))
    catalog, pixel = tmp_path / "catalog", hpgeom.angle_to_pixel(1, 150.2, 20.1)
    place = catalog / "dataset" / "Norder=0" / "Dir=0" / f"Npix={pixel}" if form == "hats" else catalog
    place.mkdir(parents=True)
    (place / "linked").symlink_to(real)
    (real / "back").symlink_to(catalog)
    first = open_ps1(catalog)
    assert first.read(BOX).ra.tolist() == [150.2]
    write(real / "part.parquet", np.array([150.2, 150.3]), np.array([20.1, 20.2]))
    assert open_ps1(catalog) != first
    assert open_ps1(catalog).read(BOX).ra.tolist() == [150.2, 150.3]


BOX = Box.around(np.array([150.0, 150.8]), np.array([20.0, 20.6]), 1.0 / 60.0)


def scattered(n: int = 3000) -> dict[str, np.ndarray]:
    """Stars in a few square degrees around the box, and a few over all the sky; some lack what PS1 may lack."""
    rng = np.random.default_rng(9)
    ra = np.concatenate([rng.uniform(148.0, 153.0, n), rng.uniform(0.0, 360.0, 60)])
    dec = np.concatenate([rng.uniform(18.0, 23.0, n), rng.uniform(-89.0, 89.0, 60)])
    columns = {"raMean": ra, "decMean": dec}
    for band in "gri":
        columns[f"{band}MeanPSFMag"] = rng.uniform(14.0, 20.0, len(ra))
        columns[f"{band}MeanPSFMagErr"] = rng.uniform(0.01, 0.1, len(ra))
    for i, name in enumerate(sorted(columns)[2:]):
        columns[name][i::11] = -999.0
    return columns


def in_box(columns: dict[str, np.ndarray]) -> Ps1Stars:
    """By plain comparison."""
    ra, dec = columns["raMean"], columns["decMean"]
    inside = (ra >= BOX.ra[0][0]) & (ra <= BOX.ra[0][1]) & (dec >= BOX.dec[0]) & (dec <= BOX.dec[1])
    mag, error = (np.stack([columns[f"{band}MeanPSFMag{end}"][inside] for band in "gri"]) for end in ("", "Err"))
    mag, error = (np.where(values == -999.0, np.nan, values) for values in (mag, error))
    return Ps1Stars(ra[inside], dec[inside], mag, error, np.ones(inside.sum(), bool))


def assert_same_stars(got: Ps1Stars, want: Ps1Stars) -> None:
    assert len(want.ra) > 20
    orders = [np.lexsort((one.dec, one.ra)) for one in (got, want)]
    for name in ("ra", "dec", "mag", "error", "star"):
        first, second = (getattr(one, name)[..., order] for one, order in zip((got, want), orders, strict=True))
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize("declared", ["TEXT", "REAL", "VARCHAR(20)", ""])
def test_read_sqlite_numbers_as_text_are_numbers_and_empty_ones_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: str
) -> None:
    """As sqlite3's own import of CSV leaves them, whatever the type of a column is declared to be; by relative path."""
    columns = scattered()
    with closing(sqlite3.connect(tmp_path / "ps1.sqlite")) as connection, connection:
        names = ", ".join(f"{name} {declared}" for name in columns)
        connection.execute(f"CREATE TABLE means ({names})")
        rows = zip(*([f"{v:.17g}" if v != -999.0 else "" for v in values] for values in columns.values()), strict=True)
        connection.executemany(f"INSERT INTO means VALUES ({', '.join('?' * len(columns))})", rows)
        connection.execute("CREATE INDEX by_dec ON means (decMean)")
    monkeypatch.chdir(tmp_path)
    catalog = open_ps1(Path("ps1.sqlite"))
    monkeypatch.chdir("/")
    assert_same_stars(catalog.read(BOX), in_box(columns))


def test_read_sqlite_text_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "ps1.sqlite", np.array([150.1, 150.2]), np.array([20.1, 20.2]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE ps1 SET r = 'saturated' WHERE ra > 150.15")
    with pytest.raises(
        MetadataError, match=r"ps1.sqlite: column r of table ps1 has the text 'saturated'; expected a n"
    ):
        open_ps1(path).read(BOX)


def with_view(path: Path, select: str) -> Path:
    """A database whose only table is a view."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE VIEW ps1 AS {select}")
    return path


def test_read_sqlite_view_that_never_ends_is_refused(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    columns = "CAST(i AS REAL) AS ra, 89.0 + i AS dec, 15.0 AS g, 15.0 AS r, 15.0 AS i"
    path = with_view(tmp_path / "ps1.sqlite", f"{endless} SELECT {columns} FROM n")
    with pytest.raises(MetadataError, match=r"ps1.sqlite: reading it takes far more steps than a table of its size"):
        open_ps1(path).read(BOX)


def test_read_sqlite_large_table_behind_a_view_without_an_index_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ps1, "_LOOKS", 0)  # what its size alone allows
    monkeypatch.setattr(ps1, "_STEPS_PER_LOOK", 1000)
    monkeypatch.setattr(ps1, "_BYTES_PER_LOOK", 10)
    n = 20_000
    path = write(tmp_path / "ps1.sqlite", np.full(n, 150.2), np.full(n, 20.1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE VIEW stars AS SELECT * FROM ps1 WHERE g > r ORDER BY i + dec")
    assert len(open_ps1(path, {"table": "stars"}).read(BOX).ra) == n


def test_read_sqlite_view_that_calls_what_may_harm_is_refused(tmp_path: Path) -> None:
    columns = "seq AS ra, 20.1 AS dec, 15.0 AS g, 15.0 AS r, 15.0 AS i"
    path = with_view(tmp_path / "ps1.sqlite", f"SELECT {columns} FROM pragma_database_list")
    with pytest.raises(MetadataError, match="unsafe use of virtual table"):
        open_ps1(path).read(BOX)


@pytest.mark.parametrize("name", ["ra", "dec", "i"])
def test_open_ps1_parquet_with_a_column_of_text_is_named_with_its_type(tmp_path: Path, name: str) -> None:
    columns = {name: pa.array([15.0, 16.0]) for name in ("ra", "dec", "g", "r", "i")}
    pq.write_table(pa.table(columns | {name: pa.array(["15.0", "16.0"])}), tmp_path / "ps1.parquet")
    with pytest.raises(MetadataError, match=rf"ps1.parquet: column {name} is of type string; expected numbers"):
        open_ps1(tmp_path / "ps1.parquet")


@pytest.mark.parametrize("suffix", ["parquet", "sqlite"])
def test_read_sentinels_of_ps1_are_missing_values(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ps1.{suffix}"
    values = [15.0, -999.0, 0.0, np.nan, None, np.inf]
    columns = dict.fromkeys(("g", "r", "i"), values) | {"g_err": [0.01, *values[1:]], "star": [1, -999, 0, None, 1, 1]}
    ra = [150.1, 150.11, 150.12, 150.13, 150.14, 150.15]
    columns |= {"ra": [*ra, np.nan, -999.0], "dec": [*[20.1] * 6, 20.1, -999.0]}
    rows = pa.table({name: pa.array([*held, None, None][:8], pa.float64()) for name, held in columns.items()})
    if suffix == "parquet":
        pq.write_table(rows, path)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE ps1 ({', '.join(rows.column_names)})")
            marks = ", ".join("?" * rows.num_columns)
            connection.executemany(f"INSERT INTO ps1 VALUES ({marks})", zip(*rows.to_pydict().values(), strict=True))
    got = open_ps1(path).read(BOX)
    assert got.ra.tolist() == ra
    for band in range(3):
        np.testing.assert_array_equal(got.mag[band], [15.0, *[np.nan] * 5])
    assert got.error[0, 0] == 0.01
    assert np.isnan(got.error[0, 1:5]).all()
    assert np.isnan(got.error[1:]).all()
    assert got.star.tolist() == [True, False, False, False, True, True]


def write_hats(place: Path, columns: dict[str, np.ndarray], order: int, as_directories: bool = False) -> Path:
    """Partitions as the standard has them, with its metadata beside them, which has the rows of one a second time."""
    table = pa.table(columns)
    pixel = hpgeom.angle_to_pixel(2**order, columns["raMean"], columns["decMean"])
    for npix in np.unique(pixel).tolist():
        path = place / "dataset" / f"Norder={order}" / f"Dir={npix // 10_000 * 10_000}" / f"Npix={npix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = table.filter(pa.array(pixel == npix))
        if as_directories:
            path.mkdir()
            pq.write_table(rows.slice(0, 5), path / "part0.parquet")
            pq.write_table(rows.slice(5), path / "part1.parquet")
        else:
            pq.write_table(rows, path.with_name(f"{path.name}.parquet"))
    pq.write_table(table, place / "dataset" / "_metadata")
    pq.write_table(table, place / "dataset" / "_common_metadata")
    (place / "partition_info.csv").write_text("Norder,Npix\n")
    (place / "hats.properties").write_text("#HATS\nobs_collection=ps1\ndataproduct_type = object\n")
    return place


@pytest.mark.parametrize("as_directories", [False, True])
@pytest.mark.parametrize("order", [0, 3, 6])
def test_read_hats_root_or_collection_has_the_rows_of_the_box(tmp_path: Path, order: int, as_directories: bool) -> None:
    columns = scattered()
    write_hats(tmp_path / "ps1" / "otmo", columns, order, as_directories)
    write_hats(tmp_path / "ps1" / "otmo_10arcs", columns, order)
    (tmp_path / "ps1" / "otmo_10arcs" / "hats.properties").write_text("dataproduct_type=margin\n")
    (tmp_path / "ps1" / "collection.properties").write_text(
        "#HATS\nobs_collection=ps1\nhats_primary_table_url = otmo\nall_margins=otmo_10arcs\n"
    )
    for root in ("ps1", "ps1/otmo", "ps1/otmo/dataset"):
        assert_same_stars(open_ps1(tmp_path / root).read(BOX), in_box(columns))
    with pytest.raises(MetadataError, match="a HATS catalog of type 'margin'; give the catalog of objects"):
        open_ps1(tmp_path / "ps1" / "otmo_10arcs")


def test_read_hats_opens_only_partitions_near_the_box(tmp_path: Path) -> None:
    columns = scattered()
    root = write_hats(tmp_path / "otmo", columns, 5)
    catalog = open_ps1(root)
    spoilt = 0
    for path in root.rglob("Npix=*.parquet"):
        ra, dec = hpgeom.pixel_to_angle(32, int(path.stem.partition("=")[2]))
        if hpgeom.angle_to_vector(ra, dec) @ hpgeom.angle_to_vector(150.4, 20.3) < np.cos(np.radians(4.0)):
            path.write_bytes(b"no Parquet")
            spoilt += 1
    assert spoilt > 40
    assert_same_stars(catalog.read(BOX), in_box(columns))
    away = Box.around(np.array([30.0]), np.array([-80.0]), 0.01)
    assert len(catalog.read(away).ra) == 0


@pytest.mark.filterwarnings("ignore:The inplace keyword", "ignore::pandas.errors.PerformanceWarning")
def test_read_hats_as_lsdb_writes_it_is_read(tmp_path: Path) -> None:
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed: pip install 'ztfmatch[test]'")
    columns = scattered()
    frame = pa.table(columns).to_pandas()
    catalog = lsdb.from_dataframe(frame, ra_column="raMean", dec_column="decMean", margin_threshold=300.0)
    catalog.write_catalog(tmp_path / "ps1", as_collection=True)
    assert (tmp_path / "ps1" / "collection.properties").is_file()
    assert_same_stars(open_ps1(tmp_path / "ps1").read(BOX), in_box(columns))


def test_open_ps1_collection_without_its_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=otmo\n")
    with pytest.raises(MetadataError, match=r"collection.properties: its primary catalog 'otmo' is not there"):
        open_ps1(tmp_path)
    (tmp_path / "otmo").mkdir()
    with pytest.raises(MetadataError, match=r"otmo: the primary catalog of the collection has no partitions"):
        open_ps1(tmp_path)


def test_box_may_touch_every_circle_that_has_a_point_of_it() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        ra, dec, radius = rng.uniform(0.0, 360.0), rng.choice([-89.0, -60.0, 0.0, 45.0, 88.0]), rng.uniform(0.1, 8.0)
        box = Box.around(rng.uniform(0, 4, 3) + ra + 358.0, np.clip(dec + rng.uniform(-2, 2, 3), -90.0, 90.0), 0.02)
        centres = (ra + rng.uniform(-12.0, 12.0, 40)) % 360.0, np.clip(dec + rng.uniform(-12, 12, 40), -90.0, 90.0)
        inside_ra = np.concatenate([rng.uniform(low, high, 300) for low, high in box.ra])
        inside_dec = rng.uniform(*box.dec, len(inside_ra))
        corners = (centres[0][:, None], centres[1][:, None], inside_ra, inside_dec)
        distance = angular_separation(*(np.radians(values) for values in corners))
        touched = (np.degrees(distance) <= radius).any(axis=1)
        assert (box.may_touch(*centres, np.full(40, radius)) | ~touched).all()
