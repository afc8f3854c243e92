"""Regenerated references: what is matched again equals a store made of the new references, and lineage the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import ztfmatch
from ztfmatch.products.simulate import SimulationConfig, regenerate_references, simulate

CONFIG = SimulationConfig(n_exposures=5, stars_per_quadrant=600, fields=(679,))
GENERATION = 10**7


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rematch") / "sky"
    simulate(place, CONFIG)
    regenerate_references(place, CONFIG)
    regenerate_references(place, CONFIG, 2)
    return place


def make(sky: Path, place: Path, references: str = "references") -> ztfmatch.Store:
    store = ztfmatch.init_store(place, str(sky / references), ztfmatch.StoreConfig(seeds_per_tile=900))
    store.append(str(sky / "catalogs"))
    return store


def content(store: ztfmatch.Store, number: int | None = None) -> dict[str, pa.Table]:
    """Rows of detections and orphans, with objectids as if of generation 0."""
    snapshot = store.snapshot(number)
    keys = [("exposureid", "ascending"), ("sourceid", "ascending")]
    tables = {}
    for name, link in (("detections", "objectid"), ("orphans", "nearestid")):
        rows = snapshot.table(name).sort_by(keys)
        ids = rows[link].to_numpy()
        known = ~np.isnan(ids.astype(float))
        ids = np.where(known, ids, 0).astype(np.int64)
        ids -= ids // GENERATION % 10 * GENERATION
        at = rows.schema.get_field_index(link)
        tables[name] = rows.set_column(at, rows.schema.field(at), pa.array(ids, pa.int64(), mask=~known))
    return tables


def test_rematch_equals_a_store_made_of_the_new_references(sky: Path, tmp_path: Path) -> None:
    store, fresh = make(sky, tmp_path / "store"), make(sky, tmp_path / "fresh", "references_1")
    before = content(store)
    report = store.rematch(str(sky / "references_1"))
    assert report.committed
    assert content(store) == content(fresh)
    assert content(store) != before
    assert store.verify(deep=True).passed
    assert content(store, 1) == before
    print(report)
