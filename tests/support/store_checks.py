"""What must hold of a store after every step, whatever led there."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import assert_same, runner, table
from small_survey import CONTENT, FILED, statistics_from_scratch, tolerance
from store_lineage import Link, links, side
from store_model import Model, public
from transient_groups import expected_groups, groups_of

from ztfmatch.core.errors import SnapshotNotFoundError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.correctionrows import read_store_set
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.statistics import stale_tiles
from ztfmatch.core.operations.transients import ungrouped_tiles
from ztfmatch.core.operations.vacuum import vacuum
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import STATISTICS, TABLES
from ztfmatch.core.survey import Unit


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
    assert_same({"objects": table(storage, "objects", number)}, {"objects": model.objects(number)})
    check_matchfiles(storage, model, number)
    check_references(storage, model, number)
    check_corrections(storage, model, number)
    check_lineage(storage, model, number)
    entries = {source: (e.code, e.commit) for source, e in model.snapshots[number].quarantine.items()}
    rows = table(storage, "quarantine", number).to_pylist()
    assert {row["source"]: (row["code"], row["commit"]) for row in rows} == entries
    assert len(rows) == len(entries)


def check_matchfiles(storage: Storage, model: Model, number: int) -> None:
    """Every imported file once, and what it says beside of every epoch."""
    rows = open_snapshot(storage, number).read("matchfiles").to_pylist()
    found = {row["source"]: (row["nimported"], row["commit"]) for row in rows}
    of_names = model.snapshots[number].matchfiles.items()
    assert found == {str(model.survey.reference(FILED, name)): entry for name, entry in of_names}
    assert len(rows) == len(found)
    assert_same({"imported": table(storage, "imported", number)}, {"imported": model.imported(number)})


def check_references(storage: Storage, model: Model, number: int) -> None:
    """Every generation of every unit, where it is from and when it came in."""
    rows = open_snapshot(storage, number).read("references").to_pylist()
    found = {(Unit(row["field"], row["rcid"], row["fid"]), row["generation"]): row for row in rows}
    of_units = model.snapshots[number].references.items()
    expected = {(unit, i): reference for unit, generations in of_units for i, reference in enumerate(generations)}
    assert found.keys() == expected.keys()
    assert len(rows) == len(found)
    for key, reference in expected.items():
        assert (found[key]["source"], found[key]["commit"]) == (reference.source, reference.commit)


def check_corrections(storage: Storage, model: Model, number: int) -> None:
    """The sets that the snapshot holds, in the order in which they came in, each whole and once."""
    snapshot = open_snapshot(storage, number)
    files = sorted(snapshot.of_table("corrections"), key=lambda file: file.commit)
    names = [set(read_file_rows(storage, file, ["corrections"])["corrections"].to_pylist()) for file in files]
    assert names == [{model.survey.digests[name]} for name in model.snapshots[number].sets]
    for file, name in zip(files, model.snapshots[number].sets, strict=True):
        assert read_store_set(storage, file).digest == model.survey.digests[name]


def check_lineage(storage: Storage, model: Model, number: int) -> None:
    """What every rematch said, when it was committed, became of each object, and no more."""
    rows = open_snapshot(storage, number).read("lineage").to_pylist()
    told: dict[int, dict[tuple[int, int], dict[str, Any]]] = {}
    for row in rows:
        told.setdefault(row["snapshot"], {})[row["objectid"] or 0, row["newobjectid"] or 0] = row
    assert sum(len(of_rematch) for of_rematch in told.values()) == len(rows)
    rematches = model.snapshots[number].rematches
    assert len(told) == len(rematches)
    for matched, commit in zip(sorted(told), rematches, strict=True):
        if commit not in model.lineage:
            assert commit == number
            model.lineage[commit] = expected_lineage(storage, model, matched, commit)
        assert_links(told[matched], model.lineage[commit])


def expected_lineage(storage: Storage, model: Model, matched: int, commit: int) -> dict[tuple[int, int], Link]:
    """Links of a rematch of one snapshot that became another."""
    before, after = model.snapshots[commit - 1].references, model.snapshots[commit].references
    found: dict[tuple[int, int], Link] = {}
    for unit in (unit for unit, generations in after.items() if generations != before.get(unit, ())):
        sides = [
            side(model.objects(i), model.content(i), groups_of(storage, i), (unit.field, unit.rcid, unit.fid))
            for i in (matched, commit)
        ]
        found |= links(*sides)
    return found


def assert_links(rows: dict[tuple[int, int], dict[str, Any]], expected: dict[tuple[int, int], Link]) -> None:
    told, kinds = ({(*key, row["kind"]) for key, row in rows.items()}, {(*k, link[0]) for k, link in expected.items()})
    assert told == kinds, (told - kinds, kinds - told)
    for key, (_, *numbers, where, away) in expected.items():
        row = rows[key]
        places = tuple(row[name] for name in ("ninobjects", "nintransients", "norphaned"))
        assert places == (where or (None,) * 3), (key, row)
        got = [row["nshared"], row["fractionold"], row["fractionnew"]]
        assert [value or 0 for value in got] == pytest.approx([value or 0 for value in numbers], rel=1e-6), (key, row)
        if away is not None:
            assert row["separation"] == pytest.approx(away, abs=1e-4)


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
                assert row["objectid"] in now
                _assert_row(row, now[row["objectid"]])
    assert seen >= _objects_outside(storage, snapshot, stale)


def _objects_outside(storage: Storage, snapshot: SnapshotFiles, stale: set[object]) -> set[int]:
    files = [file for file in snapshot.of_table("objects") if file.tile not in stale]
    rows = [row for file in files for row in read_file_rows(storage, file, ["objectid", "status"]).to_pylist()]
    return {row["objectid"] for row in rows if row["status"] == "active"}


def _assert_row(row: dict[str, object], expected: dict[str, float | None]) -> None:
    for name, value in expected.items():
        if value is None:
            assert row[name] is None, (name, row)
        else:
            got = row[name]
            assert isinstance(got, int | float), (name, row)
            np.testing.assert_allclose(got, value, rtol=tolerance(name), atol=1e-5, err_msg=name)


def check_transients(storage: Storage, model: Model, number: int) -> None:
    """No detection is of two; and where all is grouped that came in, they are what brute force gives."""
    groups = groups_of(storage, number)
    members = [key for of_group in groups.values() for key in of_group]
    assert len(members) == len(set(members))
    ids = open_snapshot(storage, number).read("transients", ["transientid"])["transientid"].to_pylist()
    assert sorted(ids) == sorted(groups)
    if not ungrouped_tiles(open_snapshot(storage, number)):
        assert groups == expected_groups(storage, number)
        _check_transient_statistics(storage, model, number, groups)
        _check_besides(storage, model, number, groups)


def _check_transient_statistics(
    storage: Storage, model: Model, number: int, groups: Mapping[int, Iterable[tuple[int, int]]]
) -> None:
    """They are those of the orphans as they are now."""
    content = model.content(number)
    transient = {key: of for of, members in groups.items() for key in members}
    keys = zip(content["orphans"]["exposureid"].to_pylist(), content["orphans"]["sourceid"].to_pylist(), strict=True)
    epochs = content["orphans"].append_column("objectid", pa.array([transient.get(key, 0) for key in keys], pa.int64()))
    expected = statistics_from_scratch(epochs, sorted(groups), public(content["exposures"]))
    for row in open_snapshot(storage, number).read("transients").to_pylist():
        _assert_row(row, expected[row["transientid"]])


def _check_besides(
    storage: Storage, model: Model, number: int, groups: Mapping[int, Iterable[tuple[int, int]]]
) -> None:
    """Each is beside the object that most of its detections lost to."""
    rows = model.content(number)["orphans"].to_pylist()
    nearest = {(row["exposureid"], row["sourceid"]): row["nearestid"] for row in rows}
    for row in open_snapshot(storage, number).read("transients").to_pylist():
        lost = Counter(nearest[key] for key in groups[row["transientid"]] if nearest[key] is not None)
        most = max(lost, key=lambda objectid: (lost[objectid], -objectid), default=None)
        assert (row["besideid"], row["nbeside"]) == (most, sum(lost.values()))


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


def check_equals_full(storage: Storage, update: Callable[[Storage, Runner], Any], tables: Sequence[str]) -> None:
    """What a pass left, of which some was carried over, is to the bit what it gives where nothing was there before."""
    with tempfile.TemporaryDirectory(dir=Path(storage.root).parent) as place:
        shutil.copytree(storage.root, Path(place) / "s")
        anew = Storage.at(Path(place) / "s")
        head = open_snapshot(anew)
        paths_there = frozenset(path for name in tables for path in head.files.paths(name))
        log.commit(anew, head.commit, log.Change("forget", "0" * 32, {}, {}, [], paths_there))
        update(anew, runner())
        for name in tables:
            keys = [(key, "ascending") for key in TABLES[name].sorted_by]
            both = [open_snapshot(of).read(name).sort_by(keys).combine_chunks() for of in (storage, anew)]
            without = [rows.drop_columns([n for n in ("snapshot",) if n in rows.column_names]) for rows in both]
            assert_same({name: without[0]}, {name: without[1]})
