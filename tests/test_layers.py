"""The house, read from the source of every module: imports go down only, and rooms stay apart.

Core makes and keeps a store; a capability is a room beside it. Both have the same layers. A capability may import the
core, and the front of those siblings that it names here; the core imports no capability.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ztfmatch

PACKAGE = Path(ztfmatch.__file__).parent

TOP = ("cli", "__main__"), ("precompile",), ("api", "documentation")
"""What may import every room, from the top down."""

LAYERS = (("operations",), ("runner", "clusters", "prefork"), ("tasks",), ("io",), ("kernels",), ("schema",))
"""Of a room, from the top down. Other modules of a capability are its front, as high as the core's operations; those
of the core are facts and settings, as low as its schema."""

SIBLINGS = {
    "demo": {"plot", "query", "simulate"},
    "kowalski": set(),
    "matchfile": set(),
    "photometry": {"plot"},
    "plot": {"query"},
    "references": {"photometry", "plot"},
    "query": set(),
    "release": set(),
    "simulate": set(),
    "stars": set(),
    "views": {"release"},
}
"""Rooms, and the siblings whose front they may import."""

SHARED_INSIDES = {
    "references": {"photometry.io.ps1"},
    "views": {"release.io.hats", "release.io.outputs", "release.schema"},
}
"""Modules behind a sibling's front that a room may import: a view of HATS is written as a release of HATS is,
and references are compared with PS1 as lightcurves are."""

MOST_LINES = 400
"""Of a module, without exceptions."""

DASK = {"dask", "distributed", "dask_jobqueue", "dask_gateway"}
SCIENCE = {"numpy", "pyarrow", "numba", "healpy", "astropy", "erfa", "scipy", "pandas", "obstore"}
FILES = {"io", "os", "pathlib", "shutil", "tempfile", "glob", "fileinput", "pyarrow", "obstore", "importlib"}
FILE_CALLS = {"open", "fromfile", "tofile", "loadtxt", "savetxt", "genfromtxt", "memmap", "load", "save", "savez"}
OF_THE_PACKAGE = {"__version__"}
"""What a module may take from the top of the package, which itself imports nothing of ours until asked to."""


def room(module: str) -> str:
    """Core, a capability, or a name in TOP; nothing for the package itself."""
    return [*module.split("."), ""][1]


def layer(module: str) -> int:
    """How deep below the roof a module is: 0 is the package itself, then TOP, then LAYERS."""
    parts = module.split(".")
    if len(parts) == 1:
        return 0
    for depth, names in enumerate(TOP, 1):
        if parts[1] in names:
            return depth
    inside = parts[2] if len(parts) > 2 else ""
    front = len(LAYERS) - 1 if parts[1] == "core" else 0
    return 1 + len(TOP) + next((i for i, names in enumerate(LAYERS) if inside in names), front)


def is_front(module: str) -> bool:
    """Whether a module of a capability is none of its layers."""
    return layer(module) == 1 + len(TOP)


def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        parts = ["ztfmatch", *path.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(name: str, tree: ast.Module, is_package: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, at its top or within a function; ``from a import b`` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + is_package]
                origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif _is_dynamic_import(node):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))  # type: ignore[attr-defined]


def _is_dynamic_import(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return called in ("import_module", "__import__")


def violations(name: str, tree: ast.Module, is_package: bool = False) -> list[str]:
    """What a module imports or calls that its layer may not."""
    found = []
    is_kernel = layer(name) == layer("ztfmatch.core.kernels")
    for imported in imports(name, tree, is_package):
        root, *rest = imported.split(".")
        if root == "ztfmatch":
            if name == "ztfmatch" or (rest and rest[0] in OF_THE_PACKAGE):
                continue
            if rest and layer(imported) < layer(name):
                found.append(f"{name} imports {imported}, which is above it")
            elif rest and not _may_enter(name, imported):
                found.append(f"{name} imports {imported}, of a room that it may not enter")
        elif root in DASK and not name.startswith("ztfmatch.core.runner"):
            found.append(f"{name} imports {imported}; only the runner may")
        elif room(name) == "cli" and root in SCIENCE:
            found.append(f"{name} imports {imported}; the command line knows no science")
        elif is_kernel and root in FILES:
            found.append(f"{name} imports {imported}; kernels know no files")
    found += _uses_of_the_package(name, tree)
    if is_kernel:
        found += [f"{name} calls {call}; kernels know no files" for call in _file_calls(tree)]
    return found


def _may_enter(name: str, imported: str) -> bool:
    """Whether the rooms let a module import another, as deep as it may be."""
    mine, other = room(name), room(imported)
    if mine not in (*SIBLINGS, "core") or other in (mine, "core"):
        return True
    shared = any(f"{imported}.".startswith(f"ztfmatch.{inside}.") for inside in SHARED_INSIDES.get(mine, ()))
    return shared or (other in SIBLINGS.get(mine, ()) and is_front(imported))


def _uses_of_the_package(name: str, tree: ast.Module) -> list[str]:
    """``import ztfmatch`` reaches everything: below the top only OF_THE_PACKAGE may be taken from it."""
    whole = any(
        isinstance(node, ast.Import) and any(alias.name == "ztfmatch" for alias in node.names)
        for node in ast.walk(tree)
    )
    if not whole or name == "ztfmatch":
        return []
    return [
        f"{name} uses ztfmatch.{node.attr} by way of the whole package"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ztfmatch"
        and node.attr not in OF_THE_PACKAGE
    ]


def _file_calls(tree: ast.Module) -> list[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls]
    return [name for name in names if name in FILE_CALLS]


SOURCES = dict(modules(PACKAGE))
PACKAGES = {".".join(["ztfmatch", *p.parent.relative_to(PACKAGE).parts]) for p in PACKAGE.rglob("__init__.py")}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_imports_of_module_go_down_only(name: str) -> None:
    assert violations(name, SOURCES[name], name in PACKAGES) == []


def test_no_modules_import_each_other() -> None:
    """In a circle of any length, within functions too; the package hands names on and may be asked for its version."""

    def module(imported: str) -> str:
        return imported if imported in SOURCES else imported.rpartition(".")[0]

    graph = {
        name: {module(one) for one in imports(name, tree, name in PACKAGES)} & SOURCES.keys() - {"ztfmatch", name}
        for name, tree in SOURCES.items()
    }
    assert sum(map(len, graph.values())) > 1000
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # CycleError names a circle


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_module_is_short(name: str) -> None:
    path = PACKAGE.parent / name.replace(".", "/")
    file = path / "__init__.py" if name in PACKAGES else path.with_suffix(".py")
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_module_has_a_room() -> None:
    named = {"core", *SIBLINGS, *(name for names in TOP for name in names)}
    assert {room(name) for name in SOURCES if "." in name} == named


def test_dask_is_imported_by_the_runner() -> None:
    """Else the rule above would forbid what no one does."""
    names = [name for name in SOURCES if name.startswith("ztfmatch.core.runner.")]
    roots = {imported.split(".")[0] for name in names for imported in imports(name, SOURCES[name])}
    assert "distributed" in roots


def test_import_of_the_package_loads_nothing_heavy() -> None:
    """The program starts quickly: a fresh interpreter that imports ztfmatch loads none of our layers."""
    import subprocess

    code = "import sys, ztfmatch; print(*(m for m in sys.modules if m.startswith(('ztfmatch.', 'numpy', 'pyarrow'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []
    heavy = "astropy", "distributed", "matplotlib", "numba", "numpy", "obstore", "pyarrow"
    code = f"import sys, ztfmatch.cli; print(*sys.modules.keys() & {set(heavy)})"  # what --help takes
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        (
            "ztfmatch.core.kernels.x",
            "from ztfmatch.core.io import fits",
            "imports ztfmatch.core.io.fits, which is above it",
        ),
        (
            "ztfmatch.core.kernels.x",
            "import ztfmatch.core.io.fits as f",
            "imports ztfmatch.core.io.fits, which is above it",
        ),
        ("ztfmatch.core.kernels.x", "from ..io import fits", "core.io.fits, which is above it"),
        ("ztfmatch.core.kernels.x", "from ztfmatch.core import io", "core.io, which is above it"),
        (
            "ztfmatch.core.survey",
            "from .kernels import sphere",
            "imports ztfmatch.core.kernels.sphere, which is above it",
        ),
        ("ztfmatch.core.config", "from ztfmatch.core.kernels.tiling import Tile", "which is above it"),
        ("ztfmatch.core.io.x", "def f():\n    from ztfmatch.core.tasks.match import match_group", "which is above it"),
        ("ztfmatch.core.tasks.x", "from ztfmatch.core.runner import Job", "which is above it"),
        ("ztfmatch.core.runner", "from ztfmatch.core.operations import append", "which is above it"),
        ("ztfmatch.core.operations.x", "import importlib\nimportlib.import_module('ztfmatch.plot')", "may not enter"),
        ("ztfmatch.api", "from ztfmatch.cli import main", "which is above it"),
        ("ztfmatch.core.tasks.x", "from ztfmatch.matchfile.kernels import rows", "may not enter"),
        ("ztfmatch.release.x", "from ztfmatch.kowalski import export", "may not enter"),
        ("ztfmatch.demo.x", "from ztfmatch.query.io.idlist import read_ids", "may not enter"),
        ("ztfmatch.views.tasks.x", "from ztfmatch.release.publication import Publication", "which is above it"),
        ("ztfmatch.release.kernels.x", "from ztfmatch.core.io import paths", "which is above it"),
        ("ztfmatch.core.io.x", "import ztfmatch\nztfmatch.open_store('x')", "uses ztfmatch.open_store"),
        ("ztfmatch.core.tasks.x", "import dask.array as da", "only the runner may"),
        ("ztfmatch.core.operations.x", "def f():\n    from distributed import Client", "only the runner may"),
        ("ztfmatch.cli.x", "import dask_jobqueue", "only the runner may"),
        ("ztfmatch.cli.x", "import numpy as np", "the command line knows no science"),
        ("ztfmatch.cli.x", "from pyarrow import parquet", "the command line knows no science"),
        ("ztfmatch.core.kernels.x", "from pathlib import Path", "kernels know no files"),
        ("ztfmatch.core.kernels.x", "import os.path", "kernels know no files"),
        ("ztfmatch.core.kernels.x", "open('x')", "calls open"),
        ("ztfmatch.core.kernels.x", "import numpy as np\nnp.fromfile('x')", "calls fromfile"),
    ],
)
def test_violations_planted_is_caught(name: str, source: str, complaint: str) -> None:
    found = violations(name, ast.parse(source))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ztfmatch.cli.x", "from ztfmatch.api import Store\nfrom ztfmatch.core.kernels.sphere import lonlat_of"),
        ("ztfmatch.core.io.log", "import ztfmatch\nprint(ztfmatch.__version__)"),
        ("ztfmatch.demo.x", "from ztfmatch import plot\nfrom ztfmatch.query.lineage import lineage_table"),
        ("ztfmatch.views.tasks.x", "from ztfmatch.release.io.hats import properties"),
        ("ztfmatch.release.x", "from ztfmatch.core.operations.common import Row\nfrom .tasks import bulk"),
        ("ztfmatch.core.runner", "from distributed import Client\nfrom ztfmatch.core.tasks.staging import run_staged"),
        ("ztfmatch.core.kernels.x", "import numpy\nfrom ztfmatch.core.survey import Unit\nfrom .sphere import Floats"),
        ("ztfmatch.core.tasks.x", "import pathlib\nfrom ztfmatch.core.tasks.inspect import Row"),
    ],
)
def test_violations_of_what_is_allowed_are_none(name: str, source: str) -> None:
    assert violations(name, ast.parse(source)) == []
