"""The part of the ledger that a tile needs: what a full read finds, of a few row groups."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import ledger_rows, store_of_ledgers, survey_rows

from ztfmatch.core.io.parquet import OpenFile
from ztfmatch.core.io.rows import rows_of_unit, units_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import MAX_TILE_ORDER, Tile, caps_touch_any, fine_pixels
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.ledger import exposures_of_fields, exposures_of_tile, exposures_of_tiles, exposures_of_unit

COLUMNS = ("exposureid", "field", "obsmjd", "quality")


def full_read(snapshot: SnapshotFiles, tiles: list[Tile]) -> list[int]:
    rows = snapshot.read("exposures", ["exposureid", "ra", "dec", "radius"])
    ra, dec, radius = (rows[name].to_numpy() for name in ("ra", "dec", "radius"))
    touching = caps_touch_any(tiles, ra, dec, radius)
    return sorted(rows["exposureid"].to_numpy()[touching].tolist())


def tile_at(ra: float, dec: float, order: int) -> Tile:
    fine = int(fine_pixels(np.array([ra]), np.array([dec]))[0])
    return Tile(order, fine >> 2 * (13 - order))


@st.composite
def patches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Footprints scattered about a place, at a pole and RA = 0 as often as not; some without a row."""
    dec = draw(st.sampled_from([-90.0, -30.0, 0.0, 60.0, 89.9, 90.0]))
    ra = draw(st.sampled_from([0.0, 0.1, 180.0, 359.9]))
    spread = draw(st.sampled_from([0.01, 1.0, 20.0, 90.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 60))
    places = (ra + rng.normal(0, spread, n)) % 360.0, np.clip(dec + rng.normal(0, spread, n), -90.0, 90.0)
    radius = rng.choice([0.0, 0.6, 20.0], n)
    empty = rng.random(n) < 0.1
    return tuple(np.where(empty, np.nan, values) for values in (*places, radius))  # type: ignore[return-value]


@settings(max_examples=60)
@given(patches(), patches(), st.integers(0, MAX_TILE_ORDER), st.integers(0, 2**32))
def test_exposures_of_tile_is_what_a_full_read_finds(
    one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...], order: int, seed: int
) -> None:
    """For tiles where there are exposures, beside them and anywhere."""
    ledgers = []
    for number, (ra, dec, radius) in enumerate((one, other)):
        ids = 1000 * number + np.arange(len(ra))
        ledgers.append(ledger_rows(exposureid=ids, field=np.arange(len(ra)) // 7, ra=ra, dec=dec, radius=radius))
    rng = np.random.default_rng(seed)
    chosen = [tile_at(rng.uniform(0, 360), rng.uniform(-90, 90), order)]
    for ra, dec, _ in (one, other):
        row = int(rng.integers(len(ra)))
        if np.isfinite(ra[row]):
            chosen.append(tile_at(ra[row], dec[row], order))
            chosen.append(tile_at((ra[row] + 1.0) % 360.0, max(dec[row] - 1.0, -90.0), order))
    with tempfile.TemporaryDirectory() as place:
        snapshot = store_of_ledgers(Path(place) / "s", ledgers, replace(EXPOSURES, row_group_rows=3))
        for tiles in ([tile] for tile in chosen):
            found = exposures_of_tile(snapshot, tiles[0], COLUMNS)
            assert found.column_names == list(COLUMNS)
            assert sorted(found["exposureid"].to_pylist()) == full_read(snapshot, tiles)
        found = exposures_of_tiles(snapshot, chosen, COLUMNS)
        assert sorted(found["exposureid"].to_pylist()) == full_read(snapshot, chosen)


def test_exposures_of_tile_with_null_footprints_only_is_empty(tmp_path: Path) -> None:
    snapshot = store_of_ledgers(tmp_path / "s", [ledger_rows(exposureid=[1, 2])])
    assert exposures_of_tile(snapshot, Tile(5, 7), COLUMNS).num_rows == 0


def test_exposures_of_tile_reads_few_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = store_of_ledgers(tmp_path / "s", [survey_rows(100_000, 58300.0, seed=3)])
    read: set[int] = set()
    whole = OpenFile.read

    def counted(self: OpenFile, groups: list[int], *more: object, **named: object) -> object:
        read.update(groups)
        return whole(self, groups, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenFile, "read", counted)
    row = snapshot.read("exposures", ["ra", "dec"]).slice(50_000, 1).to_pylist()[0]
    read.clear()
    tile = tile_at(row["ra"], row["dec"], 5)
    found = exposures_of_tile(snapshot, tile, COLUMNS)["exposureid"].to_pylist()
    assert 0 < len(read) <= 100_000 // EXPOSURES.row_group_rows // 2
    assert sorted(found) == full_read(snapshot, [tile])
    beside = Tile(5, tile.npix ^ 1)
    read.clear()
    found = exposures_of_tile(snapshot, beside, COLUMNS)["exposureid"].to_pylist()
    assert not read, "the area of both was read before"
    assert sorted(found) == full_read(snapshot, [beside])


def test_exposures_of_fields_are_those_of_the_fields(tmp_path: Path) -> None:
    snapshot = store_of_ledgers(tmp_path / "s", [survey_rows(3_000, 58300.0, 1), survey_rows(3_000, 58301.0, 2)])
    rows = snapshot.read("exposures", ["field", "exposureid"])
    wanted = rows["field"].to_pylist()[::1500]
    expected = [i for f, i in zip(*rows.to_pydict().values(), strict=True) if f in wanted]
    assert sorted(exposures_of_fields(snapshot, wanted, COLUMNS)["exposureid"].to_pylist()) == sorted(expected)


def test_exposures_of_a_field_are_read_once_for_its_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = store_of_ledgers(tmp_path / "s", [survey_rows(3_000, 58300.0, 1)])
    rows = snapshot.read("exposures")
    units = [unit for unit in set(units_of_rows(rows)) if unit.field == rows["field"][0].as_py()]
    exposures_of_unit(snapshot, units[0], COLUMNS)
    monkeypatch.setattr(OpenFile, "read", lambda *_: pytest.fail("read again"))
    for unit in units:
        expected = rows_of_unit(rows, unit).select(COLUMNS).sort_by("exposureid")
        assert exposures_of_unit(snapshot, unit, COLUMNS).to_pylist() == expected.to_pylist()
    assert len(units) > 1


def test_exposures_of_no_fields_are_none(tmp_path: Path) -> None:
    snapshot = store_of_ledgers(tmp_path / "s", [survey_rows(100, 58300.0, 1)])
    assert exposures_of_fields(snapshot, [], COLUMNS).num_rows == 0
