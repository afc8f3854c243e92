"""The recipes of containers and of a conda package, as far as they can be judged without building them."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
DOCKERFILE = (PROJECT / "cluster" / "Dockerfile").read_text()
DEFINITION = (PROJECT / "cluster" / "ztfmatch.def").read_text()


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with what follows, lines that go on joined."""
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    words = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in words]


def sections() -> dict[str, str]:
    """Sections of Apptainer's definition, its header under the empty name."""
    parts = re.split(r"^%(\w+)$", DEFINITION, flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def check_shell(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=20)


def test_dockerfile_has_known_instructions_and_runs_as_nobody_special() -> None:
    given = instructions()
    assert [name for name, _ in given] == ["FROM", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    found = dict(given)
    assert found["USER"] not in ("root", "0")
    assert f" {found['USER']}" in found["RUN"]
    assert json.loads(found["ENTRYPOINT"]) == ["ztfmatch"]
    assert json.loads(found["CMD"]) == ["--help"]
    check_shell(found["RUN"])


def test_definition_has_known_sections_and_scripts() -> None:
    found = sections()
    assert set(found) == {"", "files", "post", "runscript", "help"}
    assert re.findall(r"^(\w+): ", found[""], flags=re.MULTILINE) == ["Bootstrap", "From"]
    for name in ("post", "runscript"):
        check_shell(found[name])


@pytest.mark.parametrize("recipe", [DOCKERFILE, DEFINITION], ids=["Dockerfile", "ztfmatch.def"])
def test_recipe_names_a_version_of_python_and_extras_that_there_are(recipe: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"(?:FROM|From:) python:(\d\.\d+)-slim$", recipe, flags=re.MULTILINE)
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    (extras,) = re.findall(r"/src\[([\w,]+)\]", recipe)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert (PROJECT / "ztfmatch" / "precompile.py").exists()


def test_both_recipes_install_the_same() -> None:
    assert re.findall(r"'/src\[.*\]'", DOCKERFILE) == re.findall(r"'/src\[.*\]'", DEFINITION)


CONDA_NAMES = {"astropy": "astropy-base", "matplotlib": "matplotlib-base", "xxhash": "python-xxhash"}
"""Of packages that conda-forge has under another name."""


def test_conda_recipe_says_what_the_project_says() -> None:
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((PROJECT / "cluster" / "meta.yaml").read_text())
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert recipe["package"] == {"name": project["name"], "version": project["version"]}
    assert recipe["about"]["license"] == project["license"]
    assert (recipe["about"]["summary"]) == project["description"]
    assert recipe["build"]["entry_points"] == [f"{name} = {place}" for name, place in project["scripts"].items()]
    expected = {"python " + project["requires-python"]}
    for needed in project["dependencies"]:
        name, _, version = needed.partition(">=")
        names = ("dask-core", "distributed") if name == "dask[distributed]" else (CONDA_NAMES.get(name, name),)
        expected |= {f"{one} >={version}" for one in names}
    assert set(recipe["requirements"]["run"]) == expected
