"""Kernels are compiled anew when any source of theirs changed, and kept where they can be.

Where the software may only be read, a file where a directory is expected refuses root too.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import ztfmatch
from ztfmatch.core import kernelfiles, kernelsources

PACKAGE = Path(ztfmatch.__file__).parent
SPHERE = "from ztfmatch.core.kernels import sphere as kernels\nresult = kernels.unit_vectors(np.zeros(1), np.zeros(1))"
CELLS = (
    "from ztfmatch.photometry.kernels import sums as kernels\n"
    "from ztfmatch.photometry.kernels.grid import fine_grid\n"
    "none, no, offsets = np.zeros(1, np.int64), np.zeros(1, bool), np.array([0, 1])\n"
    "place = np.full(1, 3072, np.float32)\n"
    "layout = kernels.Layout(1, fine_grid(2, 2), 1)\n"
    "result, histogram = np.zeros((layout.size, 9), np.float32), np.zeros((1, kernels.RESIDUAL_BINS), np.int64)\n"
    "epochs = kernels.Epochs(np.zeros(1), place, place, none, none, no)\n"
    "curves = kernels.Curves(offsets, none, np.zeros(1), no)\n"
    "summary = kernels.Summary(none + 1, np.zeros(1), np.ones(1))\n"
    "kernels.add_residuals(epochs, curves, summary, layout, result, histogram)"
)
TERMS = (
    "from ztfmatch.core.kernels import corrections as kernels\n"
    "tables = kernels.CorrectionTables(np.zeros((1, 4)), np.zeros((1, 1)), (1, 1))\n"
    "terms, one = kernels.ExposureTerms(np.zeros(1, np.int32), np.zeros(1)), np.ones(1, np.float32)\n"
    "_, result = kernels.corrected_magnitudes(np.ones(1), one, one, np.zeros(1, np.int64), terms, tables)"
)
PRINT = """
import numba
print(result.ravel().nonzero()[0].tolist(), result.ravel().tolist(), sep="|", end="|")
print(numba.config.CACHE_DIR or None, end="|")
named = [kernel for kernel in vars(kernels).values() if hasattr(kernel, "stats")]
print(named[-1].stats.cache_path, sum(sum(kernel.stats.cache_misses.values()) for kernel in named), sep="|")
"""


@pytest.fixture
def software(tmp_path: Path) -> Path:
    """A copy of the package that holds no kernels."""
    place = tmp_path / "software"
    shutil.copytree(PACKAGE, place / "ztfmatch", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def read_only(software: Path) -> Path:
    """Whatever it holds, nothing can be put beside its kernels."""
    for directory in software.glob("ztfmatch/*/kernels"):
        (directory / "__pycache__").touch()
    return software


def call_kernel(software: Path, code: str = SPHERE, **environment: str) -> tuple[str, str, str, int]:
    """What a kernel gives in a new process, numba's own directory, ours, and how many kernels it compiled.

    The process's home cannot hold a cache unless it is told so.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    env = {**clean, "HOME": "/dev/null", "PYTHONPATH": str(software), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-c", f"import numpy as np\n{code}\n{PRINT}"]
    ended = subprocess.run(command, cwd=software, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    where, values, numbas, ours, compiled = ended.stdout.strip().split("|")
    return f"{where} {values}", numbas, ours, int(compiled)


# What is compiled anew


@pytest.mark.parametrize(
    ("code", "source", "old", "new", "results"),
    [
        (
            CELLS,
            "photometry/kernels/grid.py",
            "return int(grid.row[j] * grid.columns + grid.column[i])",
            "return 0",
            ("[567", "[0"),
        ),
        (TERMS, "core/schema/sky.py", "FIELD_TERM: Final = 4", "FIELD_TERM: Final = 64", ("[0] [14]", "[0] [74]")),
    ],
)
def test_njit_callee_or_constant_of_another_module_changed_changes_the_result(
    code: str, source: str, old: str, new: str, results: tuple[str, str], software: Path
) -> None:
    path = software / "ztfmatch" / source
    first, again = (call_kernel(software, code) for _ in range(2))
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    changed = call_kernel(software, code)
    assert (first[3] > 0, again[3], changed[3] > 0) == (True, 0, True)
    assert first[0] == again[0]
    assert first[0].startswith(results[0])
    assert changed[0].startswith(results[1])


@pytest.mark.parametrize(
    "source",
    ["core/survey.py", "matchfile/schema.py", "core/schema/sky.py", "core/kernels/rows.py", "new/kernels/x.py"],
)
def test_source_digest_any_source_of_kernels_changed_is_another(
    source: str, software: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernelsources, "PACKAGE", software / "ztfmatch")
    digest = kernelsources.source_digest.__wrapped__
    before, path = digest(), software / "ztfmatch" / source
    assert before == kernelsources.source_digest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.read_text(encoding="utf-8") + "\n" if path.exists() else "", encoding="utf-8")
    assert digest() != before


def test_source_digest_covers_whatever_a_kernel_imports() -> None:
    covered = {path for pattern in kernelsources._SOURCES for path in PACKAGE.glob(pattern)}
    imported = {
        Path(sys.modules[name].__file__ or "")
        for kernels in PACKAGE.glob("*/kernels/*.py")
        for name in modules_imported_by(kernels)
    }
    assert len(imported) > 10
    assert imported <= covered | {PACKAGE / "__init__.py"}


def modules_imported_by(source: Path) -> set[str]:
    """Modules of the package that a module has something of."""
    module = importlib.import_module(".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts))
    origins = {getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(module).values()}
    return {name for name in origins if isinstance(name, str) and name.startswith("ztfmatch.")}


@pytest.mark.parametrize("source", sorted(PACKAGE.glob("*/kernels/*.py")), ids=lambda path: "-".join(path.parts[-3:]))
def test_njit_is_what_declares_every_kernel(source: Path) -> None:
    """A kernel that numba's own decorator keeps would not be compiled anew when what it calls changed."""
    module = importlib.import_module(".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts))
    assert not [name for name, value in vars(module).items() if isinstance(value, Dispatcher)]


# Where kernels are kept


def test_njit_leaves_numbas_settings_alone_and_keeps_kernels_beside_their_source(software: Path) -> None:
    _, numbas, ours, _ = call_kernel(software, CELLS)
    assert (numbas, ours) == ("None", str(software / "ztfmatch" / "photometry" / "kernels" / "__pycache__"))


def test_njit_read_only_software_and_home_uses_the_temporary_directory(read_only: Path, tmp_path: Path) -> None:
    place = tmp_path / f"ztfmatch-{os.geteuid()}"
    first, again = (call_kernel(read_only, CELLS, TMPDIR=str(tmp_path)) for _ in range(2))
    assert Path(first[2]).parent == place
    assert first[:3] == again[:3]
    assert first[1] == "None"
    assert (first[3] > 0, again[3]) == (True, 0)
    assert place.stat().st_mode & 0o777 == 0o700


def test_njit_nothing_can_be_written_compiles_without_keeping(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / f"ztfmatch-{os.geteuid()}").touch()
    assert all(call_kernel(read_only, TMPDIR=str(tmp_path))[3] > 0 for _ in range(2))


def test_njit_place_that_is_lost_later_compiles_without_keeping(software: Path) -> None:
    lose = (
        "found = [kernel.stats for kernel in vars(kernels).values() if hasattr(kernel, 'stats')]\n"
        "import pathlib, shutil\nplace = pathlib.Path(kernels.__file__).parent / '__pycache__'\n"
        "shutil.rmtree(place)\nplace.touch()\n"
    )
    assert call_kernel(software, SPHERE.replace("result =", f"{lose}result ="))[3] > 0


def test_njit_prefers_the_home(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    place = call_kernel(read_only, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))[2]
    assert Path(place).parent == tmp_path / "home" / ".cache" / "ztfmatch"


def test_njit_variable_that_names_a_directory_is_obeyed(read_only: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    place = call_kernel(read_only, NUMBA_CACHE_DIR=str(given), TMPDIR=str(tmp_path))[2]
    assert Path(place).parent == given
    assert list(given.glob("kernels_*/*.nbi"))
    assert not (tmp_path / f"ztfmatch-{os.geteuid()}").exists()


@pytest.mark.parametrize("code", [SPHERE, CELLS])
def test_njit_kernels_compiled_at_installation_are_used(code: str, software: Path, tmp_path: Path) -> None:
    """As where an administrator compiled them beside the software, which users may only read."""
    assert call_kernel(software, code)[3] > 0
    source = software / "ztfmatch" / "core" / "kernelfiles.py"
    can_write = "def _is_writable(place: Path) -> bool:\n"
    refuse = f"{can_write}    if place.name == '__pycache__':\n        return False\n"
    digest = kernelsources.source_digest().hex()
    source.write_text(source.read_text(encoding="utf-8").replace(can_write, refuse), encoding="utf-8")
    with (source.parent / "kernelsources.py").open("a", encoding="utf-8") as sources:
        sources.write(f"\n\nsource_digest.__wrapped__.__code__ = (lambda: bytes.fromhex('{digest}')).__code__\n")
    _, _, place, compiled = call_kernel(software, code, TMPDIR=str(tmp_path))
    assert (Path(place).parent, compiled) == (tmp_path / f"ztfmatch-{os.geteuid()}", 0)


@pytest.mark.parametrize("wrong", ["open to others", "a link", "another's", "replaceable"])
def test_njit_trusts_no_directory_that_others_can_write_to(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "shared" / "cache"
    place.mkdir(parents=True, mode=0o700)
    assert kernelfiles._is_private(place)
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
    assert not kernelfiles._is_private(place)


def test_njit_shared_temporary_directory_is_trusted_if_it_is_sticky(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    assert kernelfiles._is_private(shared / "cache")


PRECOMPILED = """
import importlib, pathlib, pkgutil, sys
import ztfmatch
from ztfmatch.core.kernelcache import Kernel
from ztfmatch.precompile import compile_kernels

compile_kernels(pathlib.Path(sys.argv[1]))
modules = [m.name for m in pkgutil.walk_packages(ztfmatch.__path__, "ztfmatch.") if ".kernels." in m.name]
found = {k for name in modules for k in vars(importlib.import_module(name)).values() if isinstance(k, Kernel)}
inner = {k.__wrapped__.__globals__.get(name) for k in found for name in k.__wrapped__.__code__.co_names}
kept = {k for k in found - inner if k._options.get("cache")}
called = {k for k in kept if "made" in vars(k) and k.signatures}
print(len(kept), *(f"{k.__module__}.{k.__name__}" for k in kept - called))
"""


@pytest.mark.timeout(900)
def test_precompile_calls_every_kernel_that_is_kept(tmp_path: Path) -> None:
    """But for those that are compiled into others."""
    command = [sys.executable, "-c", PRECOMPILED, str(tmp_path)]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}, check=True, capture_output=True
    )
    number, *missing = ended.stdout.decode().split()
    assert int(number) > 30
    assert missing == []


def test_njit_what_is_kept_runs_without_what_compiles(software: Path) -> None:
    """Most of a second: numba's implementations of everything, and SciPy where that is installed."""
    code = f"import sys\nimport numpy as np\n{SPHERE}\nprint(result.tolist(), 'numba.np.arraymath' in sys.modules)"
    command = [sys.executable, "-B", "-c", code]
    ended = [subprocess.run(command, cwd=software, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout.split("]] ")[1].strip() for one in ended] == ["True", "False"]
    assert ended[0].stdout.split("]]")[0] == ended[1].stdout.split("]]")[0]


MATCHING = """
import sys
import numpy as np
from ztfmatch.core.kernels import crossmatch, order, rows, sphere
xyz, one = sphere.unit_vectors(np.zeros(1), np.zeros(1)), np.zeros(1, np.int64)
grid = crossmatch.build_grid(xyz, 1.5)
crossmatch.match_exposure(grid, xyz, np.zeros(1, np.int32))
records = np.zeros(1, [(name, np.dtype(kind).newbyteorder(">")) for name, kind in rows.MEASURED.values()])
rows.take_near(records, np.empty((0, 4)), np.empty(1, rows.ROW))
order.order_by_group(one, np.zeros(1), one, 1, np.zeros(1, np.int32), 1)
print("numba.np.arraymath" in sys.modules)
"""


def test_kernels_of_matching_run_without_what_compiles() -> None:
    """A call of NumPy's in one of them, such as cumsum, would bring it all back."""
    command = [sys.executable, "-c", MATCHING]
    ended = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert ended[1].strip() == "False"
