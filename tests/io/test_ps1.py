"""PS1 catalogs of either kind: the rows of a box, at RA 0 and the poles too, against all rows and plain arithmetic."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ztfmatch.io.ps1 import Box, open_ps1


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
