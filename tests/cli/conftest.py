"""A small simulated sky, and a store made of it by the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import SMALL, Scene, done


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Not to be changed."""
    place = tmp_path_factory.mktemp("scene")
    made = Scene(place / "sky", place / "store")
    done("simulate", made.sky, *SMALL)
    done("init", made.store, "--references", made.sky / "references")
    done(*made.append)
    done("statistics", made.store)
    return made


@pytest.fixture
def copied(scene: Scene, tmp_path: Path) -> Scene:
    """A copy of the store, to be changed."""
    return Scene(scene.sky, Path(shutil.copytree(scene.store, tmp_path / "store")))


@pytest.fixture(scope="session")
def star(scene: Scene) -> dict[str, Any]:
    """An object with epochs."""
    import ztfmatch

    row: dict[str, Any] = ztfmatch.open_store(scene.store).snapshot().table("detections").slice(0, 1).to_pylist()[0]
    return row
