"""Two writers on one store: one commits first, the other on top of it or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Interrupted

import ztfmatch
from ztfmatch.core.config import AppendConfig
from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.appendreport import AppendReport
from ztfmatch.core.runner import Runner
from ztfmatch.simulate import SimulationConfig, simulate


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("concurrency") / "sky"
    simulate(place, SimulationConfig(n_exposures=4, stars_per_quadrant=400, rcids=(16,)))
    return place


@pytest.fixture
def store(sky: Path, tmp_path: Path) -> ztfmatch.Store:
    return ztfmatch.init_store(tmp_path / "store", str(sky / "references"))


@pytest.fixture(scope="module")
def halves(sky: Path) -> tuple[list[str], list[str]]:
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    return catalogs[::2], catalogs[1::2]


def append(store: ztfmatch.Store, catalogs: list[str], meanwhile: Callable[[], Any]) -> AppendReport:
    return append_catalogs(store.storage, catalogs, AppendConfig(), Runner(Interrupted(meanwhile, "matching"), 2 << 30))


def content(store: ztfmatch.Store) -> list[dict[str, Any]]:
    rows = store.snapshot().table("detections").sort_by([("exposureid", "ascending"), ("sourceid", "ascending")])
    return rows.to_pylist()


def test_append_other_exposures_meanwhile_commits_on_top(
    store: ztfmatch.Store, halves: tuple[list[str], list[str]], sky: Path, tmp_path: Path
) -> None:
    report = append(store, halves[0], lambda: store.append(halves[1]))
    assert report.snapshot == 2
    assert [commit.operation for commit in store.commits()] == ["init", "append", "append"]
    assert store.verify(deep=True).passed
    whole = ztfmatch.init_store(tmp_path / "whole", str(sky / "references"))
    whole.append(halves[0] + halves[1])
    assert content(store) == content(whole)
    commits = set(store.snapshot().table("exposures")["commit"].to_pylist())
    assert commits == {1, 2}


def test_append_same_exposures_meanwhile_stops_and_a_rerun_finds_nothing_new(
    store: ztfmatch.Store, halves: tuple[list[str], list[str]]
) -> None:
    with pytest.raises(CommitConflictError, match="ingested some of the same exposures"):
        append(store, halves[0], lambda: store.append(halves[0][:1]))
    assert store.snapshot().number == 1
    assert store.snapshot().status.exposures == 1
    assert store.append(halves[0]).exposures == len(halves[0]) - 1
    assert store.verify(deep=True).passed


def test_append_statistics_meanwhile_commits_on_top_and_leaves_them_stale(
    store: ztfmatch.Store, halves: tuple[list[str], list[str]]
) -> None:
    store.append(halves[1])
    append(store, halves[0], store.update_statistics)
    assert "stale" in store.snapshot().status.statistics
    assert store.update_statistics().committed
    assert store.snapshot().status.statistics == "up to date"


def test_append_bad_file_in_both_writers_is_quarantined_once(
    store: ztfmatch.Store, halves: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    bad = tmp_path / "bad_psfcat.fits"
    bad.write_bytes(b"")
    append(store, [*halves[0], str(bad)], lambda: store.append([*halves[1], str(bad)]))
    assert store.snapshot().table("quarantine")["source"].to_pylist() == [str(bad)]
    good = tmp_path / "mended" / Path(halves[0][0]).name
    good.parent.mkdir()
    shutil.copy(halves[0][0], good)
    assert store.append([str(good)]).known == 1


def test_append_that_another_left_nothing_to_commit_commits_nothing(
    store: ztfmatch.Store, halves: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    """All exposures are known, and the other writer has noted the bad file first, and one more."""
    store.append(halves[0])
    bad = [str(tmp_path / f"bad{i}_psfcat.fits") for i in range(2)]
    for path in bad:
        Path(path).write_bytes(b"")
    report = append(store, [*halves[0], bad[0]], lambda: store.append([*halves[0], *bad]))
    assert (report.committed, report.snapshot, report.exposures) == (False, 2, 0)
    assert len(store.commits()) == 3
    assert sorted(store.snapshot().table("quarantine")["source"].to_pylist()) == bad
