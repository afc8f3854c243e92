"""What must hold of a store after every step, whatever led there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same, table
from small_survey import CONTENT, tolerance
from store_model import Model
from transient_groups import expected_groups, groups_of

from ztfmatch.errors import SnapshotNotFoundError
from ztfmatch.io import log, paths
from ztfmatch.io.parquet import read_file_rows
from ztfmatch.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.io.storage import Storage
from ztfmatch.operations.statistics import stale_tiles
from ztfmatch.operations.transients import ungrouped_tiles
from ztfmatch.operations.vacuum import vacuum
from ztfmatch.schema import STATISTICS


def check_history(storage: Storage, model: Model) -> None:
    """The log is the model's, and what a vacuum took cannot be opened."""
    assert log.commit_numbers(storage) == list(range(model.newest + 1))
    commits = [log.read_commit(storage, number) for number in range(model.newest + 1)]
    assert [commit.operation for commit in commits] == model.operations
    assert [commit.parent for commit in commits] == [None, *range(model.newest)]
    assert log.oldest_retained(storage) == model.oldest
    if model.oldest:
        with pytest.raises(SnapshotNotFoundError):
            open_snapshot(storage, model.oldest - 1)


def check_content(storage: Storage, model: Model, number: int) -> None:
    """A snapshot holds exactly the model's rows: none lost, none twice, every value."""
    assert_same({name: table(storage, name, number) for name in CONTENT}, model.content(number))
    assert_same({"objects": table(storage, "objects", number)}, {"objects": model.survey.objects})
    entries = {source: (e.code, e.commit) for source, e in model.snapshots[number].quarantine.items()}
    rows = table(storage, "quarantine", number).to_pylist()
    assert {row["source"]: (row["code"], row["commit"]) for row in rows} == entries
    assert len(rows) == len(entries)


def check_statistics(storage: Storage, model: Model, number: int) -> None:
    """Every row is right for the snapshot that it names; those of tiles that are not stale, for this one."""
    snapshot = open_snapshot(storage, number)
    stale = set(stale_tiles(snapshot))
    now, seen = model.statistics(number), set()
    for file in snapshot.of_table("statistics"):
        for row in read_file_rows(storage, file, STATISTICS.names).to_pylist():
            assert row["objectid"] not in seen
            seen.add(row["objectid"])
            _assert_row(row, model.statistics(row["snapshot"])[row["objectid"]])
            if file.tile not in stale:
                _assert_row(row, now[row["objectid"]])
    assert seen >= _objects_outside(storage, snapshot, stale)


def _objects_outside(storage: Storage, snapshot: SnapshotFiles, stale: set[object]) -> set[int]:
    files = [file for file in snapshot.of_table("objects") if file.tile not in stale]
    return {i for file in files for i in read_file_rows(storage, file, ["objectid"])["objectid"].to_pylist()}


def _assert_row(row: dict[str, object], expected: dict[str, float | None]) -> None:
    for name, value in expected.items():
        if value is None:
            assert row[name] is None, (name, row)
        else:
            got = row[name]
            assert isinstance(got, int | float), (name, row)
            np.testing.assert_allclose(got, value, rtol=tolerance(name), atol=1e-5, err_msg=name)


def check_transients(storage: Storage, number: int) -> None:
    """No detection is of two; and where all is grouped that came in, they are what brute force gives."""
    groups = groups_of(storage, number)
    members = [key for of_group in groups.values() for key in of_group]
    assert len(members) == len(set(members))
    ids = open_snapshot(storage, number).read("transients", ["transientid"])["transientid"].to_pylist()
    assert sorted(ids) == sorted(groups)
    if not ungrouped_tiles(open_snapshot(storage, number)):
        assert groups == expected_groups(storage, number)


def named_files(store: Path, oldest: int, newest: int) -> set[str]:
    """Objects that the retained snapshots name."""
    storage, named = Storage.at(store), set()
    for number in range(oldest, newest + 1):
        snapshot = open_snapshot(storage, number)
        named |= {paths.manifest(part.id) for part in snapshot.commit.manifests}
        named |= {paths.tiling(snapshot.commit.tiling), *snapshot.files.paths()}
    return named


def check_files(storage: Storage, model: Model) -> None:
    """Every named file is there, and all that is not named is what a vacuum would delete."""
    root = Path(storage.root)
    there = {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    named = named_files(root, model.oldest, model.newest)
    assert named <= there.keys()
    log_itself = {paths.STORE_FILE, *(paths.commit(number) for number in range(model.newest + 1))}
    unnamed = there.keys() - named - log_itself - {paths.RETAINED_FILE}
    keep = model.newest - model.oldest + 1
    rehearsed = vacuum(storage, keep, 0.0, dry_run=True)
    assert (rehearsed.files, rehearsed.bytes) == (len(unnamed), sum(there[path] for path in unnamed))
