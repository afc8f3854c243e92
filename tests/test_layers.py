"""Imports go down only: the layers of the design, read from the source of every module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ztfmatch

PACKAGE = Path(ztfmatch.__file__).parent

LAYERS = (
    ("cli", "__main__"),
    ("api",),
    ("products",),
    ("operations",),
    ("runner", "clusters", "prefork"),
    ("tasks",),
    ("io",),
    ("kernels",),
    ("schema", "survey", "config", "errors", "kernelcache"),
)
"""From the top down; a name is a module or a package directly below ztfmatch."""

DASK = {"dask", "distributed", "dask_jobqueue"}
SCIENCE = {"numpy", "pyarrow", "numba", "healpy", "astropy", "erfa", "scipy", "pandas", "obstore"}
FILES = {"io", "os", "pathlib", "shutil", "tempfile", "glob", "fileinput", "pyarrow", "obstore", "importlib"}
FILE_CALLS = {"open", "fromfile", "tofile", "loadtxt", "savetxt", "genfromtxt", "memmap", "load", "save", "savez"}
OF_THE_PACKAGE = {"__version__"}
"""What a module may take from the top of the package, which itself imports nothing of ours until asked to."""


def level(module: str) -> int:
    """Layer of a module of ours, 0 at the top; that of ztfmatch itself is the top."""
    parts = module.split(".")
    if len(parts) == 1:
        return -1
    return next(i for i, names in enumerate(LAYERS) if parts[1] in names)


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
    area = name.split(".")[1] if "." in name else ""
    for imported in imports(name, tree, is_package):
        root, *rest = imported.split(".")
        if root == "ztfmatch":
            if name == "ztfmatch" or (rest and rest[0] in OF_THE_PACKAGE):
                continue
            if rest and level(imported) < level(name):
                found.append(f"{name} imports {imported}, which is above it")
        elif root in DASK and area != "runner":
            found.append(f"{name} imports {imported}; only the runner may")
        elif area == "cli" and root in SCIENCE:
            found.append(f"{name} imports {imported}; the command line knows no science")
        elif area == "kernels" and root in FILES:
            found.append(f"{name} imports {imported}; kernels know no files")
    found += _uses_of_the_package(name, tree)
    if area == "kernels":
        found += [f"{name} calls {call}; kernels know no files" for call in _file_calls(tree)]
    return found


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


def test_every_module_has_a_layer() -> None:
    named = {name for names in LAYERS for name in names}
    there = {name.split(".")[1] for name in SOURCES if "." in name}
    assert there <= named
    assert {"runner", "tasks", "io", "kernels", "operations", "schema", "survey", "config", "errors"} <= there


def test_dask_is_imported_by_the_runner() -> None:
    """Else the rule above would forbid what no one does."""
    names = [name for name in SOURCES if name.startswith("ztfmatch.runner.")]
    roots = {imported.split(".")[0] for name in names for imported in imports(name, SOURCES[name])}
    assert "distributed" in roots


def test_import_of_the_package_loads_nothing_heavy() -> None:
    """The program starts quickly: a fresh interpreter that imports ztfmatch loads none of our layers."""
    import subprocess

    code = "import sys, ztfmatch; print(*(m for m in sys.modules if m.startswith(('ztfmatch.', 'numpy', 'pyarrow'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("ztfmatch.kernels.x", "from ztfmatch.io import fits", "imports ztfmatch.io.fits, which is above it"),
        ("ztfmatch.kernels.x", "import ztfmatch.io.fits as f", "imports ztfmatch.io.fits, which is above it"),
        ("ztfmatch.kernels.x", "from ..io import fits", "imports ztfmatch.io.fits, which is above it"),
        ("ztfmatch.kernels.x", "from ztfmatch import io", "imports ztfmatch.io, which is above it"),
        ("ztfmatch.survey", "from .kernels import sphere", "imports ztfmatch.kernels.sphere, which is above it"),
        ("ztfmatch.config", "from ztfmatch.kernels.tiling import Tile", "which is above it"),
        ("ztfmatch.io.x", "def f():\n    from ztfmatch.tasks.match import match_tile", "which is above it"),
        ("ztfmatch.tasks.x", "from ztfmatch.runner import Job", "which is above it"),
        ("ztfmatch.runner", "from ztfmatch.operations import append", "which is above it"),
        ("ztfmatch.operations.x", "import importlib\nimportlib.import_module('ztfmatch.products.plot')", "above it"),
        ("ztfmatch.api", "from ztfmatch.cli import main", "which is above it"),
        ("ztfmatch.io.x", "import ztfmatch\nztfmatch.open_store('x')", "uses ztfmatch.open_store"),
        ("ztfmatch.tasks.x", "import dask.array as da", "only the runner may"),
        ("ztfmatch.operations.x", "def f():\n    from distributed import Client", "only the runner may"),
        ("ztfmatch.cli.x", "import dask_jobqueue", "only the runner may"),
        ("ztfmatch.cli.x", "import numpy as np", "the command line knows no science"),
        ("ztfmatch.cli.x", "from pyarrow import parquet", "the command line knows no science"),
        ("ztfmatch.kernels.x", "from pathlib import Path", "kernels know no files"),
        ("ztfmatch.kernels.x", "import os.path", "kernels know no files"),
        ("ztfmatch.kernels.x", "open('x')", "calls open"),
        ("ztfmatch.kernels.x", "import numpy as np\nnp.fromfile('x')", "calls fromfile"),
    ],
)
def test_violations_planted_is_caught(name: str, source: str, complaint: str) -> None:
    found = violations(name, ast.parse(source))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ztfmatch.cli.x", "from ztfmatch.api import Store\nfrom ztfmatch.kernels.sphere import lonlat_of"),
        ("ztfmatch.io.log", "import ztfmatch\nprint(ztfmatch.__version__)"),
        ("ztfmatch.runner", "from distributed import Client\nfrom ztfmatch.tasks.staging import run_staged"),
        ("ztfmatch.kernels.x", "import numpy as np\nfrom ztfmatch.survey import Unit\nfrom .sphere import Floats"),
        ("ztfmatch.tasks.x", "import pathlib\nfrom ztfmatch.tasks.inspect import Row"),
    ],
)
def test_violations_of_what_is_allowed_are_none(name: str, source: str) -> None:
    assert violations(name, ast.parse(source)) == []
