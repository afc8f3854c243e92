"""The batch scripts, run by sh with the program of this environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import PROJECT, Scene, report

SCRIPTS = sorted((PROJECT / "jobs").glob("*.sh"))


OF_UNITS = ("plan", "array", "finish")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that is this ztfmatch, whatever is installed."""
    path = tmp_path_factory.mktemp("bin") / "ztfmatch"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ztfmatch "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def spy(tmp_path: Path) -> Path:
    """A program that prints its arguments, one a line."""
    path = tmp_path / "spy"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


def submit(name: str, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run a script with these variables and no other ztfmatch or SLURM ones."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ZTFMATCH", "SLURM"))}
    given = {key: str(value) for key, value in environment.items()}
    words = ["sh", str(PROJECT / "jobs" / f"{name}.sh"), *map(str, arguments)]
    return subprocess.run(words, env=kept | given, capture_output=True, text=True, timeout=120, check=False)


def directives(script: Path) -> Iterator[str]:
    for line in script.read_text().splitlines():
        if line.startswith("#SBATCH "):
            yield line.split(maxsplit=1)[1]


def test_there_is_one_script_an_operation() -> None:
    of_stores = ["append", "compact", "export", "init", "nightly", "statistics", "transients", "vacuum", "verify"]
    assert [script.stem for script in SCRIPTS] == sorted([*of_stores, *OF_UNITS])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_is_valid_sh_and_a_valid_batch_job(script: Path) -> None:
    checked = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert os.access(script, os.X_OK)
    found = {directive.split("=")[0] for directive in directives(script)}
    assert found >= {"--job-name", "--ntasks", "--cpus-per-task", "--mem-per-cpu", "--time"}
    assert "--kill-on-invalid-dep=yes" in directives(script)
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(i < first_command for i, line in enumerate(lines) if line.startswith("#SBATCH"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_without_its_place_exits_2_and_names_the_variable(script: Path, spy: Path) -> None:
    run = submit(script.stem, "x", ZTFMATCH=spy)
    assert run.returncode == 2
    variable = "UNITS to the directory" if script.stem in OF_UNITS else "STORE to the store"
    assert run.stderr.startswith(f"{script.name}: set ZTFMATCH_{variable}")
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_without_program_exits_2(script: Path) -> None:
    run = submit(script.stem, "x", ZTFMATCH="/nowhere/ztfmatch", ZTFMATCH_STORE="s", ZTFMATCH_REFERENCES="r")
    assert run.returncode == 2
    assert "there is no program /nowhere/ztfmatch" in run.stderr


def test_init_without_references_exits_2(spy: Path) -> None:
    run = submit("init", ZTFMATCH=spy, ZTFMATCH_STORE="s")
    assert (run.returncode, run.stdout) == (2, "")
    assert "set ZTFMATCH_REFERENCES" in run.stderr


def test_append_without_catalogs_exits_2(spy: Path) -> None:
    run = submit("append", ZTFMATCH=spy, ZTFMATCH_STORE="s")
    assert (run.returncode, run.stdout) == (2, "")
    assert "name the catalogs" in run.stderr


def test_nightly_passes_its_configuration_on(spy: Path) -> None:
    run = submit("nightly", "a b", ZTFMATCH=spy, ZTFMATCH_STORE="s", ZTFMATCH_NIGHTLY="n.toml", ZTFMATCH_WORKERS=2)
    expected = ["nightly", "s", "--workers", "2", "--memory", "2GiB", "--config", "n.toml", "a b"]
    assert run.stdout.splitlines() == expected
    assert submit("nightly", ZTFMATCH=spy, ZTFMATCH_STORE="s").returncode == 2


def test_export_without_its_directory_exits_2(spy: Path) -> None:
    run = submit("export", ZTFMATCH=spy, ZTFMATCH_STORE="s")
    assert (run.returncode, run.stdout) == (2, "")
    assert "set ZTFMATCH_EXPORTS" in run.stderr


def test_export_makes_its_directory_and_keeps_the_cursor_in_it(spy: Path, tmp_path: Path) -> None:
    where = {"ZTFMATCH": spy, "ZTFMATCH_STORE": "s", "ZTFMATCH_EXPORTS": tmp_path / "my exports", "ZTFMATCH_WORKERS": 3}
    run = submit("export", "--load", "--tag", "x", **where)
    assert run.stdout.splitlines() == [
        "export", "kowalski", "s", f"{tmp_path}/my exports", "--cursor", f"{tmp_path}/my exports/cursor.json",
        "--workers", "3", "--memory", "2GiB", "--load", "--tag", "x",
    ]  # fmt: skip
    assert (tmp_path / "my exports").is_dir()
    assert submit("export", **where, ZTFMATCH_CURSOR="c").stdout.splitlines()[5] == "c"


def test_append_passes_arguments_and_environment_on(spy: Path) -> None:
    run = submit("append", "a b", "*.fits", "--note", "first year", ZTFMATCH=spy, ZTFMATCH_STORE="my store",
                 ZTFMATCH_EXPOSURES="e.csv", ZTFMATCH_MEMORY="3GiB", SLURM_CPUS_PER_TASK=7)  # fmt: skip
    assert run.stdout.splitlines() == [
        "append", "my store", "--workers", "7", "--memory", "3GiB", "--exposures", "e.csv",
        "a b", "*.fits", "--note", "first year",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "workers"),
    [({"ZTFMATCH_WORKERS": "5"}, "5"), ({"ZTFMATCH_WORKERS": "5", "SLURM_CPUS_PER_TASK": "7"}, "5"),
     ({"SLURM_CPUS_PER_TASK": "7"}, "7")],
)  # fmt: skip
def test_workers_are_those_asked_for_or_the_job_s_cores(spy: Path, environment: dict[str, str], workers: str) -> None:
    run = submit("verify", "--deep", ZTFMATCH=spy, ZTFMATCH_STORE="s", **environment)
    assert run.stdout.splitlines() == ["verify", "s", "--workers", workers, "--memory", "2GiB", "--deep"]


def test_workers_are_the_machine_s_cores_by_default(spy: Path) -> None:
    run = submit("statistics", ZTFMATCH=spy, ZTFMATCH_STORE="s")
    assert int(run.stdout.splitlines()[3]) >= 1


def test_scripts_make_fill_and_check_a_store(scene: Scene, program: Path, tmp_path: Path) -> None:
    where = {"ZTFMATCH": program, "ZTFMATCH_STORE": tmp_path / "store", "ZTFMATCH_WORKERS": 0}
    made = submit("init", **where, ZTFMATCH_REFERENCES=scene.sky / "references")
    assert made.returncode == 0, made.stderr
    for _ in range(2):
        taken = submit("append", scene.sky / "catalogs", **where, ZTFMATCH_EXPOSURES=scene.sky / "exposures.csv")
        assert taken.returncode == 0, taken.stderr
    assert taken.stdout.startswith("Nothing new in 4 catalogs")
    assert submit("statistics", **where).returncode == 0
    assert submit("transients", **where).returncode == 0
    assert submit("compact", "--min-files", "2", **where).stdout.startswith("Nothing to compact")
    cleared = submit("vacuum", "--grace-hours", "0", **where, ZTFMATCH_KEEP=1)
    assert cleared.stdout.endswith("Snapshots 3 to 3 are kept.\n")
    assert submit("export", **where, ZTFMATCH_EXPORTS=tmp_path / "exports").stdout.startswith("Exported snapshot 3: ")
    assert submit("verify", "--deep", **where).returncode == 0
    assert report("status", tmp_path / "store")["statistics"] == "up to date"


def test_append_with_workers_does_the_same_as_without(scene: Scene, program: Path, tmp_path: Path) -> None:
    where = {"ZTFMATCH": program, "ZTFMATCH_STORE": tmp_path / "store", "ZTFMATCH_WORKERS": 1}
    assert submit("init", "--workers", 0, **where, ZTFMATCH_REFERENCES=scene.sky / "references").returncode == 0
    taken = submit("append", scene.sky / "catalogs", **where)
    assert (taken.returncode, taken.stderr) == (0, "")
    expected, got = report("status", scene.store), report("status", tmp_path / "store")
    assert [got[name] for name in ("detections", "orphans")] == [expected[name] for name in ("detections", "orphans")]


def test_plan_passes_the_command_on(spy: Path) -> None:
    run = submit("plan", "append", "my store", "a b", "--note", "x", ZTFMATCH=spy, ZTFMATCH_UNITS="my units",
                 ZTFMATCH_WORKERS=3)  # fmt: skip
    expected = ["append", "my store", "a b", "--note", "x", "--units", "my units", "--workers", "3", "--memory", "2GiB"]
    assert run.stdout.splitlines() == expected


def test_plan_without_a_command_exits_2(spy: Path) -> None:
    run = submit("plan", ZTFMATCH=spy, ZTFMATCH_UNITS="u")
    assert (run.returncode, "give the command and its arguments" in run.stderr) == (2, True)


def test_array_does_its_part(spy: Path) -> None:
    array = {"SLURM_ARRAY_TASK_MIN": 0, "SLURM_ARRAY_TASK_MAX": 7, "SLURM_ARRAY_TASK_COUNT": 8}
    run = submit("array", ZTFMATCH=spy, ZTFMATCH_UNITS="u", SLURM_ARRAY_TASK_ID=5, **array)
    assert run.stdout.splitlines() == ["work", "u", "--share", "5/8", "--workers", "0", "--memory", "2GiB"]
    assert submit("array", ZTFMATCH=spy, ZTFMATCH_UNITS="u").stdout.splitlines()[3] == "0/1"


def test_array_of_some_numbers_alone_exits_2(spy: Path) -> None:
    """Their parts would be those of another array."""
    array = {"SLURM_ARRAY_TASK_MIN": 3, "SLURM_ARRAY_TASK_MAX": 3, "SLURM_ARRAY_TASK_COUNT": 1}
    run = submit("array", ZTFMATCH=spy, ZTFMATCH_UNITS="u", SLURM_ARRAY_TASK_ID=3, **array)
    assert (run.returncode, "give all jobs of the array" in run.stderr) == (2, True)


def test_failure_of_the_program_is_the_script_s(program: Path, tmp_path: Path) -> None:
    run = submit("verify", ZTFMATCH=program, ZTFMATCH_STORE=tmp_path / "none", ZTFMATCH_WORKERS=0)
    assert run.returncode == 2
    assert "no such store" in run.stderr
