"""No task is large, however many files and exposures a store has: what it needs is looked up where it runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corrected import write_set
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at

from ztfmatch.core.config import AppendConfig, CompactConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.repair import repair
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.runner import LoopExecutor, Runner
from ztfmatch.core.runner.jobs import Job, Outcome
from ztfmatch.kowalski.export import KowalskiConfig, export_kowalski
from ztfmatch.matchfile.export import UnitFilter, export_matchfiles
from ztfmatch.references.audit import AuditInputs, audit_store
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.release.bulk import publish_bulk
from ztfmatch.release.hats import publish_hats
from ztfmatch.release.io.scope import ReleaseScope, Window

MOST_BYTES = 16_384
NIGHTS = 27
SCOPE = ReleaseScope("all", (Window(1), Window(2), Window(3)))


@dataclass
class Measuring:
    """Runs tasks in a loop, and notes how large the largest of each function is."""

    sizes: dict[str, int] = field(default_factory=dict)

    def outcomes(self, job: Job[Any]) -> Iterator[Outcome[Any]]:
        name = job.function.__name__
        for task in job.tasks:
            self.sizes[name] = max(self.sizes.get(name, 0), len(pickle.dumps(task)))
        return LoopExecutor().outcomes(job)


@dataclass
class Scene:
    """A store of one unit in which every night is an append: each tile has some hundred files."""

    sky: Path
    storage: Storage
    measuring: Measuring = field(default_factory=Measuring)

    @property
    def runner(self) -> Runner:
        return Runner(self.measuring, 2 << 30)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("sizes")
    rng = np.random.default_rng(5)
    ra, dec = 180.0 + rng.uniform(0, 0.8, 60), 30.0 + rng.uniform(0, 0.8, 60)
    storage = make_store(place / "store", [reference_file(place, rows_at(ra, dec))], seeds_per_tile=40)
    orphans = 180.0 + rng.uniform(0, 0.8, 20), 30.0 + rng.uniform(0, 0.8, 20)
    for night in range(NIGHTS):
        rows = rows_at(np.append(ra, orphans[0]), np.append(dec, orphans[1]))
        append(storage, [epochal_file(place, rows, night)])
    files = open_snapshot(storage).files
    assert all(held.files >= NIGHTS for held in files.by_tile("detections").values())
    return Scene(place, storage)


def test_tasks_of_every_operation_are_small(scene: Scene, tmp_path: Path) -> None:
    storage, runner = scene.storage, scene.runner
    rng = np.random.default_rng(6)
    last = epochal_file(scene.sky, rows_at(180.0 + rng.uniform(0, 0.8, 50), 30.0 + rng.uniform(0, 0.8, 50)), NIGHTS)
    append_catalogs(storage, [str(last)], AppendConfig(), runner)
    (tmp_path / "again").mkdir()
    again = epochal_file(tmp_path / "again", rows_at(180.0 + rng.uniform(0, 0.8, 50), np.full(50, 30.4)), NIGHTS)
    append_catalogs(storage, [str(again)], AppendConfig(replace=True), runner)
    Path(storage.root, open_snapshot(storage).of_table("detections")[0].path).unlink()
    catalogs = [str(path) for path in (*scene.sky.glob("*_psfcat.fits"), again)]
    assert repair(storage, catalogs, runner).whole
    update_transients(storage, runner)
    update_statistics(storage, runner)
    write_set(tmp_path / "set", [UNIT])
    correct(storage, tmp_path / "set", runner)
    verify_store(storage, runner, deep=True)
    snapshot = open_snapshot(storage)
    export_kowalski(storage, str(tmp_path / "kowalski"), KowalskiConfig(cursor=tmp_path / "cursor.json"), runner)
    correct(storage, None, runner)
    export_kowalski(storage, str(tmp_path / "kowalski"), KowalskiConfig(cursor=tmp_path / "cursor.json"), runner)
    (tmp_path / "matchfiles").mkdir()
    export_matchfiles(snapshot, tmp_path / "matchfiles", UnitFilter(), runner)
    publish_hats(open_snapshot(storage), SCOPE, tmp_path / "hats", runner)
    publish_bulk(open_snapshot(storage), SCOPE, tmp_path / "bulk", runner)
    moved = rows_at(180.0 + rng.uniform(0, 0.8, 60), 30.0 + rng.uniform(0, 0.8, 60))
    (tmp_path / "new").mkdir()
    rematch(storage, [str(reference_file(tmp_path / "new", moved))], RematchConfig(), runner)
    compact(storage, CompactConfig(min_files=2), runner)
    sizes = scene.measuring.sizes
    audit_store(open_snapshot(storage), AuditInputs(), ReferenceSettings(), runner)
    assert len(sizes) >= 22, sorted(sizes)
    assert {"remove_from_tile", "count_left", "restore_tile"} <= sizes.keys()
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
