"""No task takes more memory than was projected for it, whatever the input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ztfmatch
from ztfmatch.io.snapshot import open_snapshot
from ztfmatch.operations import append as operation
from ztfmatch.products.simulate import benchmark_unit

_CHILD = """
import json, resource, sys
from pathlib import Path
import ztfmatch
from ztfmatch.operations.append import AppendConfig
store = ztfmatch.open_store(sys.argv[1])
if sys.argv[3] == "append":
    store.append(sys.argv[2], AppendConfig(rows_per_task=int(sys.argv[4])))
else:
    getattr(store, sys.argv[3])()
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""

_BUDGET = 2 << 30


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("memory") / "unit"
    benchmark_unit(place, 120, rows_per_catalog=17_000)
    return place


def peak_bytes(store: Path, catalogs: Path, action: str, rows_per_task: int = 1_000_000) -> int:
    arguments = [sys.executable, "-c", _CHILD, str(store), str(catalogs), action, str(rows_per_task)]
    return int(json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout))


def test_memory_of_the_largest_task_is_below_its_projection(unit: Path, tmp_path: Path) -> None:
    """All 2 million rows in one task: what is measured stays below what was projected, and that is not wild."""
    store = ztfmatch.init_store(tmp_path / "store", str(unit / "references"))
    projected = _projected(store, unit, 10**7)
    measured = peak_bytes(tmp_path / "store", unit / "catalogs", "append", 10**7)
    assert measured <= projected
    assert projected <= 2.5 * measured


def _projected(store: ztfmatch.Store, unit: Path, rows_per_task: int) -> int:
    from ztfmatch.runner import LoopExecutor, Runner

    seen: dict[str, int] = {}

    class Recording(Runner):
        def check_memory(self, projected: dict[str, int]) -> None:
            seen.update(projected)
            raise KeyboardInterrupt

    config = operation.AppendConfig(rows_per_task=rows_per_task)
    with pytest.raises(KeyboardInterrupt):
        operation.append_catalogs(store.storage, [str(unit / "catalogs")], config, Recording(LoopExecutor(), _BUDGET))
    return max(seen.values())


def test_memory_of_every_operation_is_below_two_gigabytes(unit: Path, tmp_path: Path) -> None:
    ztfmatch.init_store(tmp_path / "store", str(unit / "references"))
    peaks = {
        action: peak_bytes(tmp_path / "store", unit / "catalogs", action)
        for action in ("append", "update_statistics", "verify")
    }
    assert max(peaks.values()) < _BUDGET, peaks
    assert open_snapshot(ztfmatch.open_store(tmp_path / "store").storage).rows("detections") > 1_900_000
