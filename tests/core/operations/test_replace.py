"""Reprocessed exposures in place of those that were ingested before: as if only they had ever been there.

What is expected is a store of the reprocessed catalogs alone, and of what was not reprocessed the rows that were there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import (
    append,
    assert_same,
    brute_force,
    epochal_file,
    fate_in,
    make_store,
    reference_file,
    rows_at,
    runner,
    sky_content,
    table,
)

from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations import append as appending
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.statistics import stale_tiles, update_statistics
from ztfmatch.core.operations.transients import ungrouped_tiles, update_transients
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.survey import Unit

RED, INFRARED = Unit(500, 20, 2), Unit(500, 20, 3)
NIGHTS = 4
N = 120


@dataclass(frozen=True)
class Scene:
    references: list[Path]
    red: list[Path]
    infrared: list[Path]
    again: list[Path]
    """The infrared ones reprocessed: other fluxes, some detections fewer, others more."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("scene")
    (place / "again").mkdir()
    rng = np.random.default_rng(5)
    ra, dec = 90.0 + rng.uniform(-0.4, 0.4, N), 66.4 + rng.uniform(-0.2, 0.2, N)
    scene = Scene([reference_file(place, rows_at(ra[:100], dec[:100]), unit) for unit in (RED, INFRARED)], [], [], [])
    for night in range(NIGHTS):
        scene.red.append(epochal_file(place, seen(rng, ra, dec), night, RED))
        scene.infrared.append(epochal_file(place, seen(rng, ra, dec), 10 + night, INFRARED))
        scene.again.append(epochal_file(place / "again", seen(rng, ra, dec), 10 + night, INFRARED, MAGZP=25.5))
    return scene


def seen(rng: np.random.Generator, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    some = rng.random(N) < 0.7
    shift = rng.normal(0.0, 0.3 / 3600.0, (2, int(some.sum())))
    rows = rows_at(ra[some] + shift[0] / np.cos(np.radians(66.4)), dec[some] + shift[1])
    rows["flux"] = rng.uniform(500.0, 5000.0, len(rows))
    return rows


def filled(place: Path, scene: Scene, catalogs: Sequence[Path]) -> Storage:
    return make_store_of(place, scene, [[path] for path in catalogs])


def make_store_of(place: Path, scene: Scene, nights: Sequence[Sequence[Path]]) -> Storage:
    storage = make_store(place, scene.references, seeds_per_tile=150)
    for night in nights:
        append(storage, night)
    return storage


def of_filter(storage: Storage, fid: int, number: int | None = None) -> dict[str, pa.Table]:
    """Rows of a filter in all tables of the sky."""
    detections = table(storage, "detections", number)
    of_object = pc.equal(pc.divide(pc.subtract(detections["objectid"], 500 * 10**12), 10**11), fid)
    rows = {"detections": detections.filter(of_object)}
    for name in ("orphans", "exposures"):
        whole = table(storage, name, number)
        rows[name] = whole.filter(pc.equal(whole["fid"], fid))
    return rows


STATES: dict[str, list[Any]] = {
    "derived": [lambda s: update_statistics(s, runner(), 0.0), lambda s: update_transients(s, runner())],
    "compacted and derived": [
        lambda s: update_transients(s, runner()),
        lambda s: compact(s, CompactConfig(2, full=True), runner()),
    ],
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("some", [slice(1, 2), slice(None)], ids=["one", "all"])
def test_replaced_exposures_are_as_if_the_others_had_never_been_there(
    tmp_path: Path, scene: Scene, state: str, some: slice
) -> None:
    nights = [list(pair) for pair in zip(scene.red, scene.infrared, strict=True)]
    storage = make_store_of(tmp_path / "store", scene, nights)
    for step in STATES[state]:
        step(storage)
    before = open_snapshot(storage).number
    report = append(storage, scene.again[some], replace=True)
    assert report.committed
    assert report.snapshot == before + 1
    assert report.replaced == report.exposures == len(scene.again[some])
    gone = scene.infrared[some]
    final = [*(path for path in scene.infrared if path not in gone), *scene.again[some]]  # in the order of commits
    assert_same(sky_content(storage), sky_content(filled(tmp_path / "expected", scene, [*scene.red, *final])))
    fate = brute_force(scene.references, [*scene.red, *final])
    assert (fate_in(storage).matched, fate_in(storage).orphans) == (fate.matched, fate.orphans)
    assert_same(of_filter(storage, 2), of_filter(storage, 2, before))
    assert verify_store(storage, runner()).passed
    assert not of_filter(storage, 3)["detections"].equals(of_filter(storage, 3, before)["detections"])
    update_statistics(storage, runner(), 0.0)
    update_transients(storage, runner())
    assert not stale_tiles(open_snapshot(storage))
    assert not ungrouped_tiles(open_snapshot(storage))
    expected = Storage.at(tmp_path / "expected")
    update_statistics(expected, runner(), 0.0)
    update_transients(expected, runner())
    for name in ("statistics", "transients", "transientdata"):
        ours, theirs = (derived(of, name) for of in (storage, expected))
        assert ours.num_rows > 0
        assert_same({name: ours}, {name: theirs})
    assert verify_store(storage, runner()).passed


KEYS = {"statistics": ["objectid"], "transients": ["transientid"], "transientdata": ["transientid", "exposureid"]}
DROPPED = {"statistics": ["snapshot"], "transients": ["snapshot"], "transientdata": []}


def derived(storage: Storage, name: str) -> pa.Table:
    rows = open_snapshot(storage).read(name)
    return rows.sort_by([(key, "ascending") for key in KEYS[name]]).drop_columns(DROPPED[name])


def test_replace_again_is_known_and_without_it_a_conflict(tmp_path: Path, scene: Scene) -> None:
    storage = filled(tmp_path / "store", scene, scene.infrared[:2])
    refused = append(storage, [scene.red[0], *scene.again[:2]])
    assert [row.code for row in refused.quarantined] == ["conflict", "conflict"]
    assert all("'append --replace' takes it" in row.reason for row in refused.quarantined)
    assert table(storage, "quarantine").num_rows == 2
    assert append(storage, scene.again[:2], replace=True).replaced == 2
    assert table(storage, "quarantine").num_rows == 0
    again = append(storage, scene.again[:2], replace=True)
    assert (again.committed, again.known, again.replaced) == (False, 2, 0)
    back = append(storage, [*scene.infrared[:2], *scene.again[2:]], replace=True)
    assert (back.replaced, back.exposures) == (2, 4)
    expected = filled(tmp_path / "expected", scene, [scene.red[0], *scene.infrared[:2], *scene.again[2:]])
    assert_same(sky_content(storage), sky_content(expected))


def test_replace_by_portions_takes_a_commit_each(tmp_path: Path, scene: Scene) -> None:
    storage = filled(tmp_path / "store", scene, [*scene.red, *scene.infrared])
    before = open_snapshot(storage).number
    report = append(storage, scene.again, replace=True, catalogs_per_commit=2)
    assert (report.replaced, report.snapshot) == (NIGHTS, before + 2)
    assert_same(sky_content(storage), sky_content(filled(tmp_path / "expected", scene, [*scene.red, *scene.again])))


def test_replace_of_two_contents_of_one_exposure_takes_the_first(tmp_path: Path, scene: Scene) -> None:
    storage = filled(tmp_path / "store", scene, scene.infrared[:1])
    other = epochal_file(tmp_path, rows_at([90.0], [66.4]), 10, INFRARED)
    report = append(storage, [scene.again[0], other], replace=True)
    assert report.replaced == 1
    assert [row.code for row in report.quarantined] == ["conflict"]
    assert "--replace" not in report.quarantined[0].reason


def test_replace_beside_an_append_commits_on_top_and_beside_a_compaction_refuses(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(tmp_path / "store", scene, [scene.red[0], *scene.infrared[:2]])
    whole = appending.take_out

    def beside(work: Any) -> Any:
        def run(*arguments: Any) -> Any:
            monkeypatch.setattr(appending, "take_out", whole)
            made = whole(*arguments)
            work()
            return made

        return run

    monkeypatch.setattr(appending, "take_out", beside(lambda: append(storage, scene.red[1:])))
    assert append(storage, scene.again[:1], replace=True).replaced == 1
    monkeypatch.setattr(appending, "take_out", beside(lambda: compact(storage, CompactConfig(2), runner())))
    with pytest.raises(CommitConflictError, match="changed files that would be replaced"):
        append(storage, scene.again[1:2], replace=True)
    assert append(storage, scene.again[1:2], replace=True).replaced == 1
    expected = filled(tmp_path / "expected", scene, [*scene.red, *scene.again[:2]])
    assert_same(sky_content(storage), sky_content(expected))


def test_new_exposures_beside_replaced_ones_are_in_the_order_of_commits_in_transients(
    tmp_path: Path, scene: Scene
) -> None:
    storage = filled(tmp_path / "store", scene, [*scene.red[:2], *scene.infrared[:2]])
    update_transients(storage, runner())
    report = append(storage, [scene.again[0], *scene.infrared[2:], *scene.red[2:]], replace=True)
    assert (report.replaced, report.exposures) == (1, 5)
    assert not ungrouped_tiles(open_snapshot(storage))
    expected = filled(tmp_path / "expected", scene, [*scene.red[:2], scene.infrared[1]])
    append(expected, [scene.again[0], *scene.infrared[2:], *scene.red[2:]])
    update_transients(expected, runner())
    for name in ("transients", "transientdata"):
        ours, theirs = (derived(of, name) for of in (storage, expected))
        assert ours.num_rows > 0
        assert_same({name: ours}, {name: theirs})
