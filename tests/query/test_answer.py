"""Queries by place, ids and condition against astropy, healpy and DuckDB, on a store with tiles of many sizes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from helpers import append, epochal_file, make_store, reference_file, rows_at, runner

import ztfmatch
from ztfmatch import Query
from ztfmatch.api import Snapshot, Store
from ztfmatch.core.errors import ConfigError, MetadataError, OutputExistsError, StoreDamagedError
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.kernels.region import Cap
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.survey import Unit
from ztfmatch.query.area import Cone, cone_region, polygon_region
from ztfmatch.query.astropytable import astropy_table
from ztfmatch.query.io.idlist import read_objectids

PLACES = [(0.0, 0.0), (0.0, 89.5), (180.0, -30.0), (45.0, 41.8)]
"""Over RA 0, over the pole, and across borders of HEALPix tiles."""


def scattered(number: int, ra: float, dec: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions within a degree or so."""
    x, y = rng.uniform(-1.0, 1.0, (2, number))
    top = np.clip(dec + y, -89.99, 89.99)
    return (ra + x / np.cos(np.radians(top))) % 360.0, top


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """1,200 objects in four places, with up to six epochs; statistics are stale where the last night was."""
    place, rng = tmp_path_factory.mktemp("search"), np.random.default_rng(3)
    references, catalogs = [], []
    for field, (ra, dec) in enumerate(PLACES, 500):
        unit, at = Unit(field, 20, 2), scattered(300, ra, dec, rng)
        references.append(reference_file(place, rows_at(*at, mag=rng.uniform(-9, -5, 300)), unit))
        for night in range(6):
            seen = rng.random(300) < 0.7
            rows = rows_at(at[0][seen], at[1][seen])
            rows["flux"] = 1000.0 * 10 ** rng.normal(0.0, 0.1, len(rows))
            rows["flags"] = np.where(rng.random(len(rows)) < 0.2, 4, 0)
            name = f"ztf_201902{field - 499:02d}25{night:04d}_{field:06d}_zr_c06_o_q1_psfcat.fits"
            path = epochal_file(place, rows, night, unit, name, OBSMJD=58514.25 + field - 499 + night / 1e4,
                                PROGRMID=1 + night % 3)  # fmt: skip
            catalogs.append(path)
    storage = make_store(place / "store", references, seeds_per_tile=40)
    append(storage, catalogs[:-1])
    update_statistics(storage, runner())
    append(storage, catalogs[-1:])
    return ztfmatch.open_store(place / "store")


@pytest.fixture(scope="module")
def snapshot(store: Store) -> Snapshot:
    return store.snapshot()


@pytest.fixture(scope="module")
def objects(snapshot: Snapshot) -> pa.Table:
    return snapshot.table("objects").sort_by("objectid")


def ids_of(rows: pa.Table) -> list[int]:
    return sorted(rows["objectid"].to_pylist())


def within(objects: pa.Table, ra: float, dec: float, radius_deg: float) -> list[int]:
    """Objects in a circle, by astropy."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    at = SkyCoord(objects["ra"].to_numpy(), objects["dec"].to_numpy(), unit="deg")
    inside = at.separation(SkyCoord(ra, dec, unit="deg")) <= radius_deg * units.deg
    return ids_of(objects.filter(pa.array(inside)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("radius_deg", [0.02, 0.5, 40.0])
def test_query_of_a_cone_is_what_astropy_finds(
    snapshot: Snapshot, objects: pa.Table, place: tuple[float, float], radius_deg: float
) -> None:
    ra, dec = place
    got = snapshot.query(Query(cone=(ra + 0.1, dec, radius_deg * 3600.0))).to_arrow()
    assert ids_of(got) == within(objects, ra + 0.1, dec, radius_deg)


@pytest.mark.parametrize(
    "box",
    [(359.5, 0.5, -0.5, 0.5), (0.0, 360.0, 88.9, 90.0), (179.3, 180.2, -30.4, -29.9), (300.0, 60.0, -90.0, 90.0),
     (-0.5, 0.5, -1.0, 1.0), (44.0, 46.0, 41.0, 41.9)],
)  # fmt: skip
def test_query_of_a_box_is_what_comparing_finds(
    snapshot: Snapshot, objects: pa.Table, box: tuple[float, float, float, float]
) -> None:
    west, east, south, north = box
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    along = (ra - west) % 360.0 <= (east - west if east > west else east - west + 360.0)
    expected = objects.filter(pa.array(along & (dec >= south) & (dec <= north)))
    assert expected.num_rows
    assert ids_of(snapshot.query(Query(box=box)).to_arrow()) == ids_of(expected)


@pytest.mark.parametrize("place", PLACES)
def test_query_of_a_polygon_is_what_its_great_circles_enclose(
    snapshot: Snapshot, objects: pa.Table, place: tuple[float, float]
) -> None:
    """A convex one: inside is on the same side of every side."""
    corners = np.array([_unit(*_offset(place, 0.8, angle)) for angle in (10.0, 100.0, 190.0, 300.0)])
    xyz = _unit(objects["ra"].to_numpy(), objects["dec"].to_numpy())
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    sides = xyz @ normals.T
    expected = objects.filter(pa.array((sides > 0).all(axis=1) | (sides < 0).all(axis=1)))
    ra = np.degrees(np.arctan2(corners[:, 1], corners[:, 0])) % 360.0
    dec = np.degrees(np.arcsin(corners[:, 2]))
    numbers = tuple(np.stack([ra, dec], axis=-1).ravel().tolist())
    assert 50 < expected.num_rows < 290
    assert ids_of(snapshot.query(Query(polygon=numbers)).to_arrow()) == ids_of(expected)


def _unit(ra: Any, dec: Any) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _offset(place: tuple[float, float], distance: float, angle: float) -> tuple[float, float]:
    from astropy import units
    from astropy.coordinates import SkyCoord

    there = SkyCoord(*place, unit="deg").directional_offset_by(angle * units.deg, distance * units.deg)
    return there.ra.deg, there.dec.deg


def test_query_of_a_moc_is_what_healpy_says_is_in_its_pixels(
    snapshot: Snapshot, objects: pa.Table, tmp_path: Path
) -> None:
    healpy = pytest.importorskip("healpy")
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    fine, coarse = (healpy.ang2pix(1 << order, ra, dec, nest=True, lonlat=True) for order in (8, 4))
    chosen = {4: np.unique(coarse)[::3].tolist(), 8: np.unique(fine)[::5].tolist()}
    (tmp_path / "moc.json").write_text(str({str(order): pixels for order, pixels in chosen.items()}).replace("'", '"'))
    expected = objects.filter(pa.array(np.isin(coarse, chosen[4]) | np.isin(fine, chosen[8])))
    assert 100 < expected.num_rows < 1100
    assert ids_of(snapshot.query(Query(moc=tmp_path / "moc.json")).to_arrow()) == ids_of(expected)


def test_query_by_ids_gives_those_that_are_active_objects(snapshot: Snapshot, objects: pa.Table) -> None:
    wanted = objects["objectid"].to_pylist()[::7]
    got = snapshot.query(Query(objectids=[*wanted, wanted[0], wanted[0] + 9_000_000])).to_arrow()
    assert got["objectid"].to_pylist() == wanted
    assert got.drop_columns("status").equals(
        objects.filter(pa.array(np.isin(objects["objectid"].to_numpy(), wanted)))
        .drop_columns("status")
        .select(got.drop_columns("status").column_names)
    )


@pytest.fixture(scope="module")
def fresh(snapshot: Snapshot) -> pa.Table:
    """Statistics of all objects as they are now, computed by the query that always does."""
    return snapshot.sources(objectid=snapshot.table("objects")["objectid"].to_pylist())


@pytest.mark.parametrize(
    "where",
    ["magrms > 0.1 and nobs > 3", "nobs == 6", "refmag < 18 or magrms < 0.05", "not (ngoodobs >= 2)", "isnull(magrms)",
     "medianmag - refmag > 1", "nobsrel in [0, 1]", "status == 'active' and dec > 80"],
)  # fmt: skip
@pytest.mark.parametrize("select", ["objects", "statistics"])
def test_query_where_is_what_duckdb_finds_in_fresh_statistics(
    snapshot: Snapshot, fresh: pa.Table, where: str, select: Any
) -> None:
    """Stored statistics where they are up to date, computed where an append made them stale: both occur here."""
    rows = fresh
    assert "stale" in snapshot.status.statistics
    sql = where.replace("[", "(").replace("]", ")").replace("isnull(magrms)", "magrms is null")
    with duckdb.connect() as connection:
        connection.register("sources", rows)
        expected = connection.sql(f"select objectid from sources where {sql} order by objectid").fetchall()
    assert expected
    got = snapshot.query(Query(select, where)).to_arrow()
    assert got["objectid"].to_pylist() == [objectid for (objectid,) in expected]
    if select == "statistics":
        chosen = rows.filter(pa.array(np.isin(rows["objectid"].to_numpy(), got["objectid"].to_numpy())))
        for name in ("nobs", "magrms", "chisq", "percentiles_05", "stetsonj"):
            assert got[name].equals(chosen.sort_by("objectid")[name]), name


@pytest.mark.parametrize("few", [1000, 0])
def test_query_of_lightcurves_gives_every_epoch_of_its_objects(
    snapshot: Snapshot, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their ids, and by going through whole tiles."""
    monkeypatch.setattr("ztfmatch.query.answer._FEW", few)
    chosen = snapshot.query(Query(where="nobs >= 4", box=(0.0, 360.0, -40.0, 60.0))).to_arrow()["objectid"].to_pylist()
    got = snapshot.query(Query("lightcurves", "nobs >= 4", box=(0.0, 360.0, -40.0, 60.0))).to_arrow()
    expected = snapshot.lightcurves(objectid=chosen)
    assert got.num_rows == expected.num_rows > 1000
    assert got.column_names == expected.column_names
    for name in got.column_names:
        assert got[name].equals(expected[name]), name


def test_query_of_epochs_gives_those_that_meet_the_condition(snapshot: Snapshot) -> None:
    got = snapshot.query(Query("lightcurves", epochs="catflags == 0 and programid == 1 and mag < 18.6")).to_arrow()
    rows = snapshot.lightcurves(objectid=snapshot.table("objects")["objectid"].to_pylist()).to_pylist()
    expected = [r for r in rows if r["catflags"] == 0 and r["programid"] == 1 and r["mag"] < 18.6]
    assert got.select(["objectid", "hmjd", "mag"]).to_pylist() == [
        {name: row[name] for name in ("objectid", "hmjd", "mag")} for row in expected
    ]
    assert len(expected) > 100


def test_query_is_lazy_and_comes_in_tables_of_single_tiles(snapshot: Snapshot) -> None:
    answer = snapshot.query(Query())
    first = next(iter(answer))
    assert 0 < first.num_rows < 100
    parts = list(answer)
    assert len(parts) > 8
    assert sum(part.num_rows for part in parts) == 1200
    assert all(part.schema.equals(answer.schema) for part in parts)


@pytest.mark.parametrize("select", ["objects", "statistics", "lightcurves"])
def test_query_as_other_tools_have_it_has_the_same_values(snapshot: Snapshot, select: Any) -> None:
    answer = snapshot.query(Query(select, "magrms > 0.05", cone=(0.0, 0.0, 3600.0)))
    rows = answer.to_arrow()
    assert rows.num_rows > 30
    frame, polars, astropy = answer.to_pandas(), answer.to_polars(), answer.to_astropy()
    for name in ("objectid", "ra"):
        values = rows[name].to_numpy()
        assert np.array_equal(frame[name].to_numpy(), values)
        assert np.array_equal(polars[name].to_numpy(), values)
        assert np.array_equal(np.asarray(astropy[name]), values)
    assert str(astropy["ra"].unit) == "deg"
    assert astropy["ra"].description
    assert len(polars) == len(frame) == len(astropy) == rows.num_rows
    assert [str(name) for name in astropy.colnames] == rows.column_names


def test_query_as_astropy_masks_nulls(snapshot: Snapshot) -> None:
    rows = snapshot.query(Query("statistics", "ngoodobs < 2")).to_arrow()
    table = snapshot.query(Query("statistics", "ngoodobs < 2")).to_astropy()
    assert table["magrms"].mask.tolist() == rows["magrms"].is_null().to_pylist()
    assert table["magrms"].mask.any()


def made_up(name: str) -> pa.Table:
    """Three rows of a table of the store: all values, nulls where there may be any, all values."""
    schema = ztfmatch.TABLES[name].schema
    texts = {field.name for field in schema if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type)}
    full = {field.name: "text" if field.name in texts else 100 for field in schema}
    some = {field.name: None if field.nullable else full[field.name] for field in schema}
    return pa.Table.from_pylist([full, some, full], schema=schema)


@pytest.mark.parametrize("form", ["votable", "fits", "ascii.ecsv"])
@pytest.mark.parametrize(
    "what", ["objects", "statistics", "lightcurves", "sources", "transients", "lineage", "orphans"]
)
def test_answer_as_astropy_table_is_written_and_read_again(
    snapshot: Snapshot, tmp_path: Path, what: Any, form: str
) -> None:
    """With no warning: those are errors here."""
    cone = (0.0, 0.0, 3600.0)
    if what in ("objects", "statistics", "lightcurves"):
        answer = snapshot.query(Query(what, cone=cone))
        rows, table = answer.to_arrow(), answer.to_astropy(times=False)
    else:
        rows = snapshot.sources(cone=cone) if what == "sources" else made_up(what)
        table = astropy_table(rows)
    assert rows.num_rows > 2
    table.write(tmp_path / "table", format=form)
    back = Table.read(tmp_path / "table", format=form)
    assert back.colnames == rows.column_names
    for name in rows.column_names:
        there = ~rows[name].is_null().to_numpy()
        assert not np.ma.getmaskarray(np.ma.asarray(back[name]))[there].any()
        got, want = (np.asarray(each)[there].tolist() for each in (back[name], rows[name].to_pylist()))
        assert [v.decode() if isinstance(v, bytes) else v for v in got] == want, name
        assert (back[name].unit or "") == (table[name].unit or ""), name


def test_query_written_as_parquet_is_the_answer(snapshot: Snapshot, tmp_path: Path) -> None:
    answer = snapshot.query(Query("lightcurves", "nobs > 2", columns=["objectid", "hmjd", "mag"]))
    assert answer.write_parquet(tmp_path / "x.parquet") == answer.to_arrow().num_rows
    keys = [("objectid", "ascending"), ("hmjd", "ascending")]
    assert pq.read_table(tmp_path / "x.parquet").sort_by(keys).equals(answer.to_arrow())
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_query_that_fails_leaves_no_file(snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no more")

    answer = snapshot.query(Query("lightcurves"))
    monkeypatch.setattr("ztfmatch.query.answer.with_exposures", fail)
    with pytest.raises(OSError, match="no more"):
        answer.write_parquet(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


BAD: dict[str, tuple[Callable[[], Query], str]] = {
    "two places": (lambda: Query(cone=(0, 0, 1), box=(0, 1, 0, 1)), "cone and box contradict each other"),
    "select": (lambda: Query("galaxies"), "select 'galaxies'; expected one of objects"),  # type: ignore[arg-type]
    "epochs": (lambda: Query(epochs="mag < 3"), "a condition on epochs needs select 'lightcurves'"),
    "column": (lambda: Query(columns=["nobs"]), "objects have no column 'nobs'"),
    "where": (lambda: Query(where="mag < 3"), "where 'mag < 3': no column 'mag'; did you mean refmag or"),
    "ra": (lambda: Query(cone=(400, 0, 1)), "right ascension 400.0 is outside -360..360"),
    "dec": (lambda: Query(box=(0, 1, -91, 0)), "declination -91 is outside"),
    "radius": (lambda: Query(cone=(0, 0, 0)), r"radius 0.0 arcsec is outside \(0, 648000\]"),
    "box": (lambda: Query(box=(0, 1, 5, -5)), "from declination 5 to -5; expected the southern one first"),
    "polygon": (lambda: Query(polygon=(0, 0, 1, 1)), "a polygon of 4 numbers; expected pairs of RA and Dec"),
    "wide": (lambda: Query(polygon=(0, 0, 120, 0, 240, 0)), "reaches more than 80 degrees"),
    "moc": (lambda: Query(moc="nowhere.fits"), "nowhere.fits: cannot be read"),
    "same vertex": (lambda: Query(polygon=(9, 90, 0, 0, 99, 90)), "fewer than three different vertices"),
    "id": (lambda: Query(objectids=[5]), "5 is not an objectid"),
    "huge id": (lambda: Query(objectids=[10**20]), "expected integers of 64 bits"),
    "unsigned id": (
        lambda: Query(objectids=[2**63]),
        "objectids 9223372036854775808 ...: expected integers of 64 bits",
    ),
    "box of three": (lambda: Query(box=(1, 2, 3)), "a box of 3 numbers; expected west, east"),  # type: ignore[arg-type]
    "broken id": (lambda: Query(objectids=[1.5]), "objectids 1.5 ...: expected integers"),  # type: ignore[list-item]
    "status": (lambda: Query(status="lost"), "status 'lost'; expected one of active, retired, any"),  # type: ignore[arg-type]
    "twice": (lambda: Query(columns=["ra", "dec", "ra"]), "column 'ra' is asked for more than once"),
}


@pytest.mark.parametrize("what", BAD)
def test_query_of_what_cannot_be_is_refused(snapshot: Snapshot, what: str) -> None:
    make, said = BAD[what]
    with pytest.raises(ConfigError, match=said):
        snapshot.query(make()).to_arrow()


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "5\n3\n# more\n\n5\n"), ("a.csv", "objectid\n3\n5\n"), ("a.csv", "x,objectid\na,5\nb,3\n")],
)
def test_read_objectids_reads_lists_and_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_objectids(tmp_path / name).tolist() == [3, 5]


def test_read_objectids_reads_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"objectid": [5, 3, 3]}), tmp_path / "a.parquet")
    assert read_objectids(tmp_path / "a.parquet").tolist() == [3, 5]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "5\nx\n"), ("a.csv", "id\n5\n"), ("a.parquet", "x"), ("a.csv", "objectid,x\n5,1\n,2\n")],
)
def test_read_objectids_of_something_else_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MetadataError, match=rf"{name}: expected objectids, one a line or a column 'objectid'"):
        read_objectids(tmp_path / name)


class TestStatus:
    """Objects of a reference that was regenerated once, beside those of one that was not."""

    @pytest.fixture(scope="class")
    @staticmethod
    def mixed(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
        place, rng = tmp_path_factory.mktemp("status"), np.random.default_rng(4)
        (place / "new").mkdir()
        references = []
        for fid in (1, 2):
            at, unit = scattered(60, 0.0, 0.0, rng), Unit(500, 20, fid)
            references.append(reference_file(place, rows_at(*at), unit))
            if fid == 1:
                reference_file(place / "new", rows_at(at[0], at[1] + 0.3 / 3600.0), unit, RFID=2)
            epochal_file(place, rows_at(*at), 5 * fid, unit)
        storage = make_store(place / "store", references, seeds_per_tile=20)
        append(storage, sorted(place.glob("*psfcat.fits")))
        store = ztfmatch.open_store(place / "store")
        store.rematch(str(place / "new"))
        update_statistics(storage, runner())
        return store.snapshot()

    @staticmethod
    def by_duckdb(snapshot: Snapshot, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            for name in ("objects", "detections"):
                files = f"read_parquet({snapshot.paths(name)}, hive_partitioning = false)"
                connection.sql(f"create view {name} as from {files}")
            return connection.sql(sql).fetchall()

    AREAS: tuple[dict[str, Any], ...] = (
        {"cone": (0.0, 0.0, 3 * 3600.0)},
        {"box": (350.0, 10.0, -5.0, 5.0)},
        {"polygon": (355.0, -5.0, 5.0, -5.0, 5.0, 5.0, 355.0, 5.0)},
        {},
    )

    @pytest.mark.parametrize("area", AREAS, ids=lambda area: next(iter(area), "all"))
    @pytest.mark.parametrize("status", [None, "active", "retired", "any"])
    def test_query_by_status_gives_what_duckdb_finds(self, mixed: Snapshot, area: Any, status: Any) -> None:
        meant = "true" if status == "any" else f"status = '{status or 'active'}'"
        sql = f"select objectid, status from objects where {meant} order by objectid"
        got = mixed.query(Query(status=status, **area)).to_arrow()
        found = list(zip(got["objectid"].to_pylist(), got["status"].to_pylist(), strict=True))
        assert found == self.by_duckdb(mixed, sql)
        assert len(found) in (60, 120, 180)

    def test_query_of_objectids_tells_the_status_of_each(self, mixed: Snapshot) -> None:
        some = self.by_duckdb(mixed, "select objectid, status from objects order by objectid % 17, objectid limit 40")
        assert {status for _, status in some} == {"active", "retired"}
        unknown = some[0][0] + 9_000_000
        answer = mixed.query(Query(objectids=[objectid for objectid, _ in some] + [unknown]))
        rows = answer.to_arrow()
        assert dict(zip(rows["objectid"].to_pylist(), rows["status"].to_pylist(), strict=True)) == dict(some)
        assert answer.states() == {**dict(some), unknown: None}
        active = mixed.query(Query(objectids=[objectid for objectid, _ in some], status="active")).to_arrow()
        assert ids_of(active) == sorted(objectid for objectid, status in some if status == "active")

    @pytest.mark.parametrize("where", [None, "nobs == 0", "nobs > 0", "isnull(magrms) and refmag + nobs >= 20"])
    def test_statistics_of_retired_objects_are_those_of_no_epochs(self, mixed: Snapshot, where: str | None) -> None:
        rows = mixed.query(Query("statistics", where, status="any")).to_arrow().to_pylist()
        meant = {None: "true", "nobs == 0": "n = 0", "nobs > 0": "n > 0"}.get(where, "refmag + n >= 20")
        counted = "select objectid, refmag, count(exposureid) n from objects left join detections using (objectid) "
        sql = f"select objectid, n from ({counted} group by all) where {meant} order by objectid"
        assert [(row["objectid"], row["nobs"]) for row in rows] == self.by_duckdb(mixed, sql)
        assert all(row["nobs"] == 0 and row["medianmag"] is None for row in rows if row["status"] == "retired")

    def test_lightcurves_of_retired_objects_are_empty(self, mixed: Snapshot) -> None:
        assert mixed.query(Query("lightcurves", status="retired")).to_arrow().num_rows == 0
        every = self.by_duckdb(mixed, "select count(*) from detections")
        assert [(mixed.query(Query("lightcurves", status="any")).to_arrow().num_rows,)] == every


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Collections of cycles do not look at what is there already."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collections")
def test_query_holds_no_more_than_a_tile(snapshot: Snapshot) -> None:
    """Of Arrow's memory, beside what a snapshot keeps of its files; the answer is many times a tile."""
    whole = snapshot.query(Query("statistics")).to_arrow().nbytes
    pool, before, largest, most = pa.default_memory_pool(), pa.total_allocated_bytes(), 0, 0
    for part in snapshot.query(Query("statistics")):
        largest = max(largest, part.nbytes)
        gc.collect()  # when cycles are collected depends on what other tests left
        most = max(most, pool.bytes_allocated() - before)
        del part
    assert whole > 15 * largest
    assert most < 8 * largest


@pytest.mark.parametrize("select", ["objects", "statistics", "lightcurves"])
def test_query_of_some_columns_is_that_part_of_all(snapshot: Snapshot, select: Any) -> None:
    asked = {"where": "magrms > 0.05 and nobs >= 3 and refmag < 19", "box": (0.0, 360.0, -60.0, 60.0)}
    whole = snapshot.query(Query(select, **asked)).to_arrow()
    keys = ["objectid", "hmjd"] if select == "lightcurves" else ["objectid"]
    for name in whole.column_names[:: 1 if select == "objects" else 5]:
        rows = snapshot.query(Query(select, columns=list(dict.fromkeys([*keys, name])), **asked)).to_arrow()
        assert rows[name].equals(whole[name]), name
    assert whole.num_rows > 30


@pytest.mark.parametrize("few", [1000, 0])
@pytest.mark.parametrize(
    "epochs", ["hmjd > 58517", "mag < 18.5 and hmjd < 58517", "programid == 1 or mag < 18", "fid == 2 and maglimit > 0"]
)
def test_query_of_epochs_is_what_duckdb_finds(
    snapshot: Snapshot, epochs: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ztfmatch.query.answer._FEW", few)
    every = snapshot.lightcurves(objectid=snapshot.table("objects")["objectid"].to_pylist())
    sql = epochs.replace("==", "=").replace("mag <", "mag::DOUBLE <")
    with duckdb.connect() as connection:
        connection.register("every", every)
        expected = connection.sql(f"select objectid, exposureid from every where {sql} order by all").fetchall()
    got = snapshot.query(Query("lightcurves", epochs=epochs, columns=["objectid", "exposureid"])).to_arrow()
    keys = [("objectid", "ascending"), ("exposureid", "ascending")]
    rows = got.sort_by(keys)
    assert list(zip(rows["objectid"].to_pylist(), rows["exposureid"].to_pylist(), strict=True)) == expected
    assert "maglimit" in epochs or expected


def test_box_of_no_width_holds_what_lies_on_it(snapshot: Snapshot, objects: pa.Table) -> None:
    ra, dec = objects["ra"][7].as_py(), objects["dec"][7].as_py()
    got = snapshot.query(Query(box=(ra, ra, dec, dec))).to_arrow()
    assert objects["objectid"][7].as_py() in ids_of(got)
    assert got.num_rows < 3
    assert snapshot.query(Query(box=(0.0, 0.0, -90.0, 90.0))).to_arrow().num_rows == 0
    assert snapshot.query(Query(box=(359.0, 360.0, -1.0, 1.0))).to_arrow().num_rows > 0


WAYS: dict[str, Callable[[float, float], Any]] = {
    "a query's cone": lambda ra, dec: Query(cone=(ra, dec, 1.0)).area,
    "a query's box": lambda ra, dec: Query(box=(ra, ra, dec, dec)).area,
    "a query's polygon": lambda ra, dec: Query(polygon=(0.0, 0.0, 1.0, 0.0, ra, dec)).area,
    "a lightcurve's cone": lambda ra, dec: Cone(ra, dec, 1.0),
    "a release's cone": lambda ra, dec: cone_region(ra, dec, "1deg"),
    "a release's polygon": lambda ra, dec: polygon_region((0.0, 0.0, 1.0, 0.0, ra, dec)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("ra", "dec", "said"),
    [(361.0, 0.0, "right ascension 361.0 is outside -360..360"), (np.nan, 0.0, "right ascension nan is outside"),
     (0.0, -90.1, "declination -90.1 is outside -90..90 degrees"), (0.0, np.inf, "declination inf is outside")],
)  # fmt: skip
def test_position_that_is_none_is_refused_in_the_same_words_everywhere(
    way: str, ra: float, dec: float, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        WAYS[way](ra, dec)


@pytest.mark.parametrize("radius", [600.0, "600", "600arcsec", "10arcmin", "10 arcmin", f"{1 / 6!r}deg"])
def test_radius_of_a_cone_with_its_unit_is_understood_by_every_question(
    snapshot: Snapshot, radius: float | str
) -> None:
    ra, dec = (snapshot.table("objects")[axis][7].as_py() for axis in ("ra", "dec"))
    expected = ids_of(snapshot.query(Query(cone=(ra, dec, 600.0))).to_arrow())
    assert ids_of(snapshot.query(Query(cone=(ra, dec, radius))).to_arrow()) == expected
    assert snapshot.objects(cone=(ra, dec, radius))["objectid"].to_pylist() == sorted(expected)
    assert set(snapshot.lightcurves(cone=(ra, dec, radius))["objectid"].to_pylist()) <= set(expected)
    assert snapshot.transients(cone=(ra, dec, radius)).num_rows == snapshot.transients(cone=(ra, dec, 600.0)).num_rows
    assert len(expected) > 5


@pytest.mark.parametrize(
    ("radius", "said"),
    [
        ("2parsec", "radius '2parsec' is not an angle; expected something like 2deg, 3arcmin or 120arcsec"),
        ("2'3", 'radius "2\'3" is not an angle'),
        ("deg", "radius 'deg' is not an angle"),
        ("1-2deg", "radius '1-2deg' is not an angle"),
        ("", "radius '' is not an angle"),
        ("-1deg", "radius -3600.0 arcsec is outside"),
        ("181deg", "radius 651600.0 arcsec is outside"),
        ("nandeg", "radius nan arcsec is outside"),
    ],
)
def test_radius_that_is_none_is_refused(radius: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        _ = Query(cone=(1.0, 2.0, radius)).area


@pytest.mark.parametrize("radius", [8, "8", 8.0])
def test_radius_of_a_release_without_its_unit_is_refused(radius: Any) -> None:
    with pytest.raises(ConfigError, match=f"^radius {radius} has no unit; expected something like 2deg, 3arcmin or"):
        cone_region(1.0, 2.0, radius)


def test_radius_of_a_release_is_in_degrees_to_the_last_bit() -> None:
    for number in (0.1, 0.15, 0.7, 8.0, 107.3):
        (cap,) = cone_region(1.0, 2.0, f"{number}deg").shapes
        assert isinstance(cap, Cap)
        assert cap.radius_deg == number
    (cap,) = cone_region(1.0, 2.0, "90arcmin").shapes
    assert isinstance(cap, Cap)
    assert cap.radius_deg == 1.5


def test_cone_of_a_query_finds_what_objects_finds_and_keeps_the_positions(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = snapshot.table("objects", ["objectid", "ra", "dec", "status"]).filter(pc.field("status") == "active")
    cone = (some["ra"][0].as_py(), some["dec"][0].as_py(), "2arcmin")
    expected = snapshot.objects(cone=cone)
    ids, limit = expected["objectid"].to_pylist(), float(pc.mean(expected["refmag"]).as_py())
    assert ids
    with monkeypatch.context() as patched:
        patched.setattr("ztfmatch.core.io.snapshot.read_table", pytest.fail)
        assert snapshot.query(Query(cone=cone)).to_arrow()["objectid"].to_pylist() == ids
    bright = expected.filter(pc.field("refmag") < limit)["objectid"].to_pylist()
    assert snapshot.query(Query(where=f"refmag < {limit!r}", cone=cone)).to_arrow()["objectid"].to_pylist() == bright
    named = Query(cone=cone, objectids=[ids[-1], ids[-1] + 5_000_000])
    assert snapshot.query(named).to_arrow()["objectid"].to_pylist() == ids[-1:]


def test_lightcurves_asked_for_again_read_no_ids_nor_the_ledger(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = snapshot.table("detections", "objectid")["objectid"][0].as_py()
    snapshot = Snapshot(open_snapshot(snapshot.files.storage))  # that has read nothing
    reads: list[tuple[str, list[str]]] = []
    original = OpenFile.read

    def noted(self: OpenFile, groups: Sequence[int], columns: Sequence[str], threads: bool = False) -> pa.Table:
        if groups and isinstance(self.file, DataFile):
            reads.append((self.file.table, list(columns)))
        return original(self, groups, columns, threads)

    monkeypatch.setattr(OpenFile, "read", noted)
    first = snapshot.lightcurves(one)
    assert {table for table, _ in reads} >= {"objects", "detections", "exposures"}
    reads.clear()
    assert snapshot.lightcurves(one).equals(first)
    assert reads
    assert all(table == "detections" and "objectid" not in columns for table, columns in reads)


def test_ledger_of_a_snapshot_keeps_no_more_than_so_many_bytes(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept 4,096 tables, however many exposures the field of each had."""
    files = open_snapshot(snapshot.files.storage)
    fields = files.read("exposures", ["field"])["field"].to_pylist()[:1]
    kept = files.ledger_of_fields(files.ledger[0], ("programid",), fields)
    assert files.ledger_of_fields(files.ledger[0], ("programid",), fields) is kept
    assert kept.column_names == ["exposureid", "programid"]
    assert kept["exposureid"].to_pylist() == sorted(kept["exposureid"].to_pylist())
    monkeypatch.setattr("ztfmatch.core.io.snapshot._LEDGER_BYTES_KEPT", kept.nbytes - 1)
    files = open_snapshot(snapshot.files.storage)
    again = files.ledger_of_fields(files.ledger[0], ("programid",), fields)
    assert files.ledger_of_fields(files.ledger[0], ("programid",), fields) is not again


@pytest.mark.parametrize("left", [1, 0])
def test_epochs_of_an_exposure_that_the_ledger_lacks_are_a_damaged_store(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """They got the columns of another exposure."""
    one = snapshot.table("detections", "objectid")["objectid"][0].as_py()
    original = SnapshotFiles.ledger_of_fields
    monkeypatch.setattr(SnapshotFiles, "ledger_of_fields", lambda *given: original(*given).slice(0, left))
    with pytest.raises(StoreDamagedError, match=r"the ledger has no exposure \d+, of which there are epochs"):
        snapshot.lightcurves(one)


@pytest.mark.parametrize("number", [10**20, 2**63, 5])
def test_objects_by_what_is_no_objectid_are_refused(snapshot: Snapshot, number: int) -> None:
    with pytest.raises(ConfigError, match=r"5 is not an objectid|expected an integer of 64 bits"):
        snapshot.objects(objectid=number)


def test_answer_is_written_as_its_name_says_and_never_over_another(snapshot: Snapshot, tmp_path: Path) -> None:
    answer = snapshot.query(Query(where="refmag < 19"))
    assert answer.write(tmp_path / "x.csv") == len(answer) == answer.to_arrow().num_rows
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        answer.write(tmp_path / "x.csv")
    assert answer.write(tmp_path / "x.csv", overwrite=True) == len(answer)
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.csv"):
        answer.write(tmp_path / "x.doc")


@pytest.mark.parametrize("select", ["objects", "statistics", "lightcurves"])
def test_count_is_that_of_the_rows(snapshot: Snapshot, select: Any) -> None:
    answer = snapshot.query(Query(select, columns=["dec"], where="refmag < 19 and nobs > 2"))
    assert answer.count() == (answer.to_arrow().num_rows, True)
    few, all_of_them = answer.count(most_s=-1.0)
    assert 0 < few < len(answer)
    assert not all_of_them


def test_filters_are_known_by_all_their_names(snapshot: Snapshot) -> None:
    every = snapshot.query(Query(columns=["objectid"])).to_arrow()
    for name in ("r", "zr", 2, "2"):
        assert snapshot.query(Query(columns=["objectid"], filters=[name])).to_arrow() == every
    assert len(snapshot.query(Query(filters=["g", "i"], where="refmag < 19"))) == 0
    bright = Query(where="refmag < 19")
    assert len(snapshot.query(replace(bright, filters="r"))) == len(snapshot.query(bright)) > 0
    for wrong in (["R"], [4], []):
        with pytest.raises(ConfigError, match="filter"):
            snapshot.query(Query(filters=wrong))
