"""What the tests on SLURM work on: a store, the catalogs for it, and a program that is this ztfmatch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from faults import Judge, Sky, append_rest, copy, init, make_sky

PROJECT = Path(__file__).parents[2]
JOBS = PROJECT / "jobs"
SMALL = ("--cpus-per-task=1", "--mem-per-cpu=1000")


@dataclass(frozen=True)
class Scene:
    """A store with objects alone, the catalogs for it, and what it is to become."""

    sky: Sky
    before: Path
    content: dict[str, str]
    program: Path


def make_scene(place: Path) -> Scene:
    sky = make_sky(place)
    init(place / "before", sky)
    append_rest(copy(place / "before", place / "undisturbed"), sky)
    return Scene(sky, place / "before", Judge().content(place / "undisturbed"), program_at(place / "ztfmatch"))


def program_at(path: Path, first: str = ":") -> Path:
    """A program that does something in the shell first."""
    path.write_text(f'#!/bin/sh\n{first}\nexec "{sys.executable}" -m ztfmatch "$@"\n')
    path.chmod(0o755)
    return path
