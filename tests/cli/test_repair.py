"""Files that are lost: found, told with the exposures that they held, and made again to the last bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import call, done, report
from helpers import append, assert_same, epochal_file, make_store, reference_file, rows_at, runner, sky_content, table

import ztfmatch
from ztfmatch.cli.common import counted
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import BadInputError, StoreDamagedError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.operations.verify import verify_store

NIGHTS = 4
AT = (90.0, 66.4)
"""Where tiles meet."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    place = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(2)
    ra, dec = AT[0] + rng.uniform(-0.4, 0.4, 90), AT[1] + rng.uniform(-0.2, 0.2, 90)
    storage = make_store(place / "store", [reference_file(place, rows_at(ra[:70], dec[:70]))], seeds_per_tile=100)
    (place / "catalogs").mkdir()
    catalogs = [
        epochal_file(place / "catalogs", rows_at(ra[i:], dec[i:], flux=rng.uniform(500, 9e3, 90 - i)), i)
        for i in range(NIGHTS)
    ]
    for catalog in catalogs[:2]:
        append(storage, [catalog])
    compact(storage, CompactConfig(2, full=True), runner())
    for catalog in catalogs[2:]:
        append(storage, [catalog])
    update_statistics(storage, runner(), 0.0)
    update_transients(storage, runner())
    return place / "store", catalogs


@pytest.fixture
def store(whole: tuple[Path, list[Path]], tmp_path: Path) -> Storage:
    shutil.copytree(whole[0], tmp_path / "store")
    return Storage.at(tmp_path / "store")


def lose(storage: Storage, name: str, which: int = 0) -> str:
    files = sorted(open_snapshot(storage).of_table(name), key=lambda file: -file.rows)
    assert storage.local_root is not None
    (storage.local_root / files[which].path).unlink()
    return files[which].path


@pytest.mark.parametrize("lost", [["detections"], ["orphans"], ["detections", "orphans", "statistics", "transients"]])
def test_repair_brings_back_the_same_rows(
    whole: tuple[Path, list[Path]], store: Storage, tmp_path: Path, lost: list[str]
) -> None:
    before = sky_content(store)
    rows = {name: open_snapshot(store).read(name).num_rows for name in lost}
    paths = [lose(store, name) for name in lost]
    held = {file.path: file.rows for name in lost[:2] for file in open_snapshot(whole_of(whole)).of_table(name)}
    told = call("repair", store.root, "--json")
    assert told.exit_code == 1
    found = ztfmatch.open_store(store.root).repair()
    assert not found.whole
    assert sorted(text.split(" ")[0] for text in found.lost) == sorted(paths)
    expected = sum(held[path] for path in paths if path in held)
    assert found.rows == sum(one.rows for one in found.exposures) == expected
    assert {one.source for one in found.exposures} <= {str(path) for path in whole[1]}
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(whole[1][0].parent, elsewhere)
    mended = ztfmatch.open_store(store.root).repair(str(elsewhere))
    assert (mended.committed, mended.whole, mended.restored) == (True, True, found.rows)
    assert_same(sky_content(store), before)
    assert verify_store(store, runner(), deep=True).passed
    update_statistics(store, runner(), 0.0)
    update_transients(store, runner())
    for name in lost:
        assert open_snapshot(store).read(name).num_rows == rows[name]
    assert "Nothing is lost" in done("repair", store.root, "--deep")


def test_repair_brings_back_what_is_given_and_the_rest_later(
    whole: tuple[Path, list[Path]], store: Storage, tmp_path: Path
) -> None:
    before, rows = sky_content(store), verify_store(store, runner(), deep=True)
    assert rows.passed
    path = lose(store, "detections")
    told = ztfmatch.open_store(store.root).repair()
    assert len(told.exposures) >= 2
    first, *rest = (one.source for one in told.exposures)
    result = call("repair", store.root, "--from", first)
    assert result.exit_code == 1
    assert f"{told.rows - told.exposures[0].rows:,} rows of {counted(len(rest), 'exposure')} stay lost" in result.stdout
    assert all(f"  {source}\n" in result.stdout for source in rest)
    again = ztfmatch.open_store(store.root).repair()
    assert [text.split(" ")[0] for text in again.lost] == [path]
    assert [(one.source, one.rows) for one in again.exposures] == [(e.source, e.rows) for e in told.exposures[1:]]
    assert call("repair", store.root, "--from", first).exit_code == 1  # nothing new is given
    last = report("repair", store.root, *(word for source in rest for word in ("--from", source)))
    assert (last["whole"], last["left"]) == (True, [])
    assert last["restored"] == told.rows - told.exposures[0].rows
    assert_same(sky_content(store), before)
    assert verify_store(store, runner(), deep=True).passed


def test_repair_mends_the_tiles_whose_exposures_are_given(whole: tuple[Path, list[Path]], store: Storage) -> None:
    before, snapshot = sky_content(store), open_snapshot(store)
    files = snapshot.of_table("detections")
    first = max(files, key=lambda file: file.commit)  # of the last catalog alone
    other = next(file for file in files if file.tile != first.tile and file.commit < first.commit)
    for file in (first, other):
        (store.local_root / file.path).unlink()  # type: ignore[operator]
    made = ztfmatch.open_store(store.root).repair(str(whole[1][-1]))
    assert (made.committed, made.whole, made.restored) == (True, False, first.rows)
    assert first.path not in open_snapshot(store).files.paths()
    assert other.path in open_snapshot(store).files.paths()
    assert ztfmatch.open_store(store.root).repair(str(whole[1][0].parent)).whole
    assert_same(sky_content(store), before)


def whole_of(whole: tuple[Path, list[Path]]) -> Storage:
    return Storage.at(whole[0])


def test_rest_of_a_store_is_readable_after_a_loss(store: Storage) -> None:
    snapshot = open_snapshot(store)
    path = lose(store, "detections")
    gone = next(file for file in snapshot.of_table("detections") if file.path == path)
    opened = ztfmatch.open_store(store.root).snapshot()
    objects = table(store, "objects")["objectid"].to_pylist()
    read, failed = 0, 0  # a query that fails names the file
    for objectid in objects:
        try:
            read += opened.lightcurves(objectid=objectid).num_rows
        except StoreDamagedError as error:
            failed += path in str(error)
    assert read > 0
    assert 0 < failed < len(objects)
    assert gone.rows > 0


def test_repair_says_what_it_cannot(whole: tuple[Path, list[Path]], store: Storage, tmp_path: Path) -> None:
    lose(store, "detections")
    with pytest.raises(BadInputError, match="none of the 2 exposures that lost rows has a catalog of the content"):
        ztfmatch.open_store(store.root).repair(str(whole[1][-1]))
    other = epochal_file(tmp_path, rows_at([AT[0]], [AT[1]]), 0)
    result = call("repair", store.root, "--from", other)
    assert result.exit_code == 1
    lose(store, "objects")
    report = ztfmatch.open_store(store.root).repair(str(whole[1][0].parent))
    assert (report.committed, report.whole) == (False, False)
    assert len(report.beyond) == 1
    assert "can't be made again" in call("repair", store.root).stdout


def test_repair_deep_finds_altered_bytes(whole: tuple[Path, list[Path]], store: Storage) -> None:
    before = sky_content(store)
    file = store.local_root / open_snapshot(store).of_table("detections")[0].path  # type: ignore[operator]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    assert ztfmatch.open_store(store.root).repair().whole
    assert ztfmatch.open_store(store.root).repair(str(whole[1][0].parent), deep=True).whole
    assert_same(sky_content(store), before)


def test_doctor_tells_versions_and_what_a_store_needs(store: Storage, tmp_path: Path) -> None:
    before = {path for path, _ in store.list("")}
    found = {one["what"]: one for one in report("doctor", store.root)}
    assert {"ztfmatch", "Python", "packages", "compiled kernels", "store", "commits", "time", "staged"} <= set(found)
    assert found["ztfmatch"]["found"] == ztfmatch.__version__
    assert all(one["verdict"] != "BAD" for one in found.values())
    assert {path for path, _ in store.list("")} == before
    result = call("doctor", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "BAD" in result.stdout
