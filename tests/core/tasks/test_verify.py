"""Whatever is altered of a stored epoch, verify finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import ztfmatch
from ztfmatch.core.errors import JobFailedError, StorageError
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import neighbours
from ztfmatch.core.operations import verify as operation
from ztfmatch.core.schema import OBJECTS
from ztfmatch.core.schema.sky import EPOCH, MEASURED
from ztfmatch.core.survey import unit_of_code
from ztfmatch.core.tasks import verify
from ztfmatch.core.tasks.linked import in_order
from ztfmatch.core.tasks.seedgrids import SeedSource, read_seeds, seeds_of_objects
from ztfmatch.core.tasks.starobjects import objects_in_reach
from ztfmatch.core.tasks.verify import VerifiedTile, VerifyTask
from ztfmatch.simulate import SimulationConfig, simulate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    place = tmp_path_factory.mktemp("verify")
    simulate(place / "sky", SimulationConfig(n_exposures=2, stars_per_quadrant=50, fields=(679,), rcids=(16,)))
    settings = ztfmatch.StoreConfig(seeds_per_tile=20)
    store = ztfmatch.init_store(place / "store", str(place / "sky" / "references"), settings)
    store.append(str(place / "sky" / "catalogs"))
    return store


def test_seeds_of_objects_in_reach_are_those_of_all_objects_near(store: ztfmatch.Store) -> None:
    snapshot = open_snapshot(store.storage)
    tiles = snapshot.tiles_with(OBJECTS.name)
    assert len(tiles) > 2
    for tile in tiles:
        near = neighbours(snapshot.tiling, tile)
        files = [file for one in near for file in snapshot.of_tile(OBJECTS.name, one)]
        objects = in_order(objects_in_reach(snapshot.storage, file, tile) for file in files)
        units = [unit_of_code(code) for code in snapshot.referenced.tolist()]
        got = seeds_of_objects(objects, snapshot.has_reference, tile, snapshot.config.radius_arcsec)
        expected = read_seeds(SeedSource(snapshot.storage, tile, files, snapshot.config.radius_arcsec), units)
        assert got.keys() == expected.keys()
        for unit, seeds in expected.items():
            np.testing.assert_array_equal(got[unit].objectid, seeds.objectid)
            np.testing.assert_array_equal(got[unit].tile, seeds.tile)
            np.testing.assert_array_equal(got[unit].xyz, seeds.xyz)


def violations(store: ztfmatch.Store) -> int:
    return sum(check.violations for check in store.verify().checks)


def test_verify_counts_the_rows_that_it_checked(store: ztfmatch.Store) -> None:
    report = store.verify()
    checked = {check.check: check.checked for check in report.checks}
    assert checked["order"] == checked["match"] == report.detections


def test_verify_of_what_append_wrote_finds_nothing(store: ztfmatch.Store) -> None:
    assert violations(store) == 0


@dataclass
class Counted:
    """A task function that notes which tasks it does, and fails at some."""

    function: Callable[[Any], VerifiedTile]
    fails: Callable[[VerifyTask], bool] = lambda task: False
    done: list[str] = field(default_factory=list)

    def __call__(self, task: VerifyTask) -> VerifiedTile:
        if self.fails(task):
            raise RuntimeError("a script says so")
        self.done.append(task.key)
        return self.function(task)


def test_verify_interrupted_goes_on_and_finished_begins_anew(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Counted(verify.verify_tile)
    monkeypatch.setattr(operation, "verify_tile", whole)
    before = store.verify()
    assert len(whole.done) > 2
    last = whole.done[-1]
    broken = Counted(verify.verify_tile, lambda task: task.key == last)
    monkeypatch.setattr(operation, "verify_tile", broken)
    with pytest.raises(JobFailedError, match="a rerun resumes"):
        store.verify()
    resumed = Counted(verify.verify_tile)
    monkeypatch.setattr(operation, "verify_tile", resumed)
    after = store.verify()
    assert (broken.done, resumed.done) == (whole.done[:-1], [last])
    assert after.checks == before.checks
    store.verify()
    assert resumed.done == [last, *whole.done]
    assert not list(store.storage.list("staging/"))


def test_verify_of_a_store_that_cannot_be_written_to_finds_the_same(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.verify(deep=True)

    def refused(*arguments: Any) -> None:
        raise StorageError("read-only file system")

    monkeypatch.setattr(Storage, "put", refused)
    assert store.verify(deep=True).checks == before.checks


@pytest.mark.parametrize("name", [column.name for column in (*EPOCH, *MEASURED)])
def test_verify_one_bit_of_any_column_of_one_epoch_altered_is_found(
    name: str, store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that nobody computes again would be believed."""
    read = verify.iterate_lightcurves

    def altered(*arguments: Any) -> Iterator[Lightcurves]:
        for chunk in read(*arguments):
            values = np.array(chunk.columns[name])
            values.view(f"u{values.itemsize}")[0] ^= 1 << (8 * values.itemsize - 8)
            yield Lightcurves(chunk.objectid, chunk.offsets, {**chunk.columns, name: values})

    monkeypatch.setattr(verify, "iterate_lightcurves", altered)
    assert violations(store) > 0
