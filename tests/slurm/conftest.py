"""A SLURM for all tests of a module, and a store for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rig as slurm_rig
from faults import copy
from rig import Rig
from slurmscene import Scene, make_scene


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with slurm_rig.running() as started:
        yield started


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def store(scene: Scene, tmp_path: Path) -> Path:
    return copy(scene.before, tmp_path / "store")
