"""Where kernels are kept when the software may only be read; a file where a directory is expected refuses root too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ztfmatch
from ztfmatch.core import kernelcache

ROOMS = sorted(path.parent.name for path in Path(ztfmatch.__file__).parent.glob("*/kernels"))

COMPILE = """
import numba, numpy as np
from ztfmatch.core.kernels import sphere
print(sphere.unit_vectors(np.zeros(1), np.zeros(1)).tolist(), numba.config.CACHE_DIR or None)
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in vars(sphere).values() if hasattr(kernel, "stats")))
"""
"""Print what a kernel gives, numba's directory, and how many kernels were compiled."""


@pytest.fixture
def software(tmp_path: Path) -> Path:
    """A copy of the package; whatever it holds, nothing can be put beside its kernels."""
    place = tmp_path / "software"
    shutil.copytree(Path(ztfmatch.__file__).parent, place / "ztfmatch", ignore=shutil.ignore_patterns("__pycache__"))
    for room in ROOMS:
        (place / "ztfmatch" / room / "kernels" / "__pycache__").touch()
    return place


def compile_kernel(software: Path, **environment: str) -> list[str]:
    """The last two words that a new process prints."""
    return run(software, [sys.executable, "-c", COMPILE], **environment).split("]] ")[1].split()


def run(software: Path, command: list[str], **environment: str) -> str:
    """What a new process prints; its home cannot hold a cache either unless it is told so."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    env = {**clean, "HOME": "/dev/null", "PYTHONPATH": str(software), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    ended = subprocess.run(command, cwd=software, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_kernels_of_a_room_alone_are_defined_where_nothing_can_be_written(
    software: Path, tmp_path: Path, room: str
) -> None:
    (tmp_path / f"ztfmatch-{os.geteuid()}").touch()
    names = sorted(path.stem for path in (software / "ztfmatch" / room / "kernels").glob("[a-z]*.py"))
    code = "".join(f"import ztfmatch.{room}.kernels.{name}\n" for name in names)
    assert run(software, [sys.executable, "-c", code], TMPDIR=str(tmp_path)) == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_precompile_compiles_every_kernel(tmp_path: Path) -> None:
    package = Path(ztfmatch.__file__).parent
    run(package.parent, [sys.executable, "-m", "ztfmatch.precompile"], NUMBA_CACHE_DIR=str(tmp_path))
    compiled = {re.split(r"[.-]", path.name)[1] for path in tmp_path.rglob("*.nbi")}
    sources = [path.read_text() for path in package.glob("*/kernels/*.py")]
    assert compiled == {name for text in sources for name in re.findall(r"cache=True.*\)\n(?:@.*\n)*def (\w+)", text)}


def test_choose_cache_read_only_software_and_home_uses_the_temporary_directory(software: Path, tmp_path: Path) -> None:
    place = tmp_path / f"ztfmatch-{os.geteuid()}"
    first, again = (compile_kernel(software, TMPDIR=str(tmp_path)) for _ in range(2))
    assert first[0] == again[0] == str(place)
    assert int(first[1]) > 0
    assert again[1] == "0"
    assert place.stat().st_mode & 0o777 == 0o700


def test_choose_cache_nothing_can_be_written_compiles_without_one(software: Path, tmp_path: Path) -> None:
    (tmp_path / f"ztfmatch-{os.geteuid()}").touch()
    assert compile_kernel(software, TMPDIR=str(tmp_path))[0] == "None"


def test_choose_cache_prefers_the_home(software: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    place = compile_kernel(software, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))[0]
    assert place == str(tmp_path / "home" / ".cache" / "ztfmatch")


def test_choose_cache_variable_that_names_a_directory_is_left_alone(software: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    assert compile_kernel(software, NUMBA_CACHE_DIR=str(given), TMPDIR=str(tmp_path))[0] == str(given)
    assert not (tmp_path / f"ztfmatch-{os.geteuid()}").exists()


def test_choose_cache_kernels_compiled_at_installation_are_used(software: Path, tmp_path: Path) -> None:
    """As where an administrator compiled them beside the software, which users may only read."""
    for room in ROOMS:
        (software / "ztfmatch" / room / "kernels" / "__pycache__").unlink()
    beside = software / "ztfmatch" / "core" / "kernels" / "__pycache__"
    assert compile_kernel(software, TMPDIR=str(tmp_path))[0] == "None"  # numba's own place: beside the source
    assert list(beside.glob("*.nbi"))
    refuse = (
        "from ztfmatch.core import kernelcache\nwritable = kernelcache._is_writable\n"
        "kernelcache._is_writable = lambda place: place.name != '__pycache__' and writable(place)\n"
    )
    init = software / "ztfmatch" / "core" / "kernels" / "__init__.py"
    init.write_text(init.read_text().replace("from ztfmatch.core import kernelcache\n", refuse))
    assert compile_kernel(software, TMPDIR=str(tmp_path)) == [str(tmp_path / f"ztfmatch-{os.geteuid()}"), "0"]


@pytest.mark.parametrize("wrong", ["open to others", "a link", "another's", "replaceable"])
def test_choose_cache_trusts_no_directory_that_others_can_write_to(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "shared" / "cache"
    place.mkdir(parents=True, mode=0o700)
    assert kernelcache._is_private(place)
    if wrong == "open to others":
        place.chmod(0o770)
    elif wrong == "a link":
        place.rmdir()
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    elif wrong == "another's":
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    else:
        place.parent.chmod(0o777)
    assert not kernelcache._is_private(place)


def test_choose_cache_shared_temporary_directory_is_trusted_if_it_is_sticky(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    assert kernelcache._is_private(shared / "cache")
