"""Cluster profiles, and the clusters that they start; SLURM is played by two small scripts."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PROJECT, Scene, call, report
from distributed import Client

from ztfmatch.core import clusters
from ztfmatch.core.clusters import LocalProfile, SlurmProfile, duration_seconds, read_profile, walltime_seconds
from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.runner import start
from ztfmatch.core.runner.slurm import slurm_cluster_class
from ztfmatch.core.runner.slurmjobs import Elastic, JobKeeper

GIB = 1 << 30
EXAMPLES = sorted((PROJECT / "cluster").glob("*.toml"))

needs_jobqueue = pytest.mark.skipif(
    importlib.util.find_spec("dask_jobqueue") is None, reason="dask-jobqueue is an extra: pip install 'ztfmatch[slurm]'"
)
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def written(place: Path, text: str) -> str:
    path = place / "site.toml"
    path.write_text(text)
    return str(path)


class TestProfiles:
    def test_kinds_are_those_that_are_packaged(self) -> None:
        packaged = {path.stem for path in Path(clusters.__file__).parents[1].glob("data/clusters/*.toml")}
        assert set(clusters.PROFILES) == set(clusters._KINDS) == packaged

    @pytest.mark.parametrize("kind", clusters.PROFILES)
    def test_start_cluster_starts_the_kind_that_is_named(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in clusters.PROFILES:
            monkeypatch.setattr(start, f"{name}_cluster", lambda profile, _, name=name: (name, type(profile)))
        assert start.start_cluster(Resources(cluster=kind)) == (kind, clusters._KINDS[kind])

    def test_local_is_one_process_a_core(self) -> None:
        arguments = read_profile("local").arguments(0, 2 * GIB)
        assert arguments["n_workers"] == clusters.usable_cores() >= 1
        assert arguments["threads_per_worker"] == 1

    def test_local_refuses_more_processes_than_start(self) -> None:
        most = 16 * clusters.usable_cores()
        assert read_profile("local").arguments(most, 1 << 30)["n_workers"] == most
        with pytest.raises(ConfigError, match=rf"{most + 1} workers on the .* expected at most {most}"):
            read_profile("local").arguments(most + 1, 1 << 30)

    def test_local_pauses_a_worker_at_its_budget(self) -> None:
        """Dask pauses at 80 % of the limit."""
        assert 0.8 * read_profile("local").arguments(3, 2 * GIB)["memory_limit"] == pytest.approx(2 * GIB, rel=1e-6)

    def test_workers_asked_for_go_before_the_profile_s(self) -> None:
        assert read_profile("local").arguments(3, GIB)["n_workers"] == 3

    def test_slurm_has_the_budget_and_a_headroom_for_each_worker_of_a_job(self) -> None:
        profile = read_profile("slurm")
        assert isinstance(profile, SlurmProfile)
        arguments = profile.arguments(64, 2 * GIB)
        assert arguments["cores"] == arguments["processes"] == profile.workers_per_job == 4
        assert arguments["memory"] == f"{10 * GIB}B"
        assert profile.jobs(64) == 16

    @pytest.mark.parametrize(("workers", "jobs", "per_job"), [(0, 2, 4), (1, 1, 1), (4, 1, 4), (5, 2, 4), (9, 3, 4)])
    def test_jobs_hold_at_least_the_workers_asked_for(self, workers: int, jobs: int, per_job: int) -> None:
        profile = read_profile("slurm")
        assert isinstance(profile, SlurmProfile)
        assert profile.jobs(workers) == jobs
        assert profile.arguments(workers, GIB)["processes"] == per_job

    def test_file_gives_what_differs_and_the_package_the_rest(self, tmp_path: Path) -> None:
        profile = read_profile(written(tmp_path, 'kind = "slurm"\npartition = "cpu"\nmemory_headroom = 2\n'))
        assert isinstance(profile, SlurmProfile)
        assert (profile.partition, profile.memory_headroom, profile.walltime) == ("cpu", 2.0, "01:00:00")

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_example_is_valid(self, path: Path) -> None:
        assert isinstance(read_profile(str(path)), LocalProfile | SlurmProfile)
        assert path.name in (PROJECT / "cluster" / "README.md").read_text()

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "kind is None; expected one of local, slurm, allocation"),
            ('kind = "pbs"', "kind is 'pbs'; expected one of"),
            ("kind = [1]", "kind is"),
            ('kind = "slurm', "not TOML"),
            ('kind = "slurm"\nqueue = "cpu"', "unknown key 'queue'; there are: memory_limit, memory_headroom"),
            ('kind = "slurm"\nworkers = "8"', "workers is '8'; expected a whole number, at least 1"),
            ('kind = "slurm"\nworkers = true', "workers is True; expected a whole number"),
            ('kind = "slurm"\njob_extra_directives = [1]', "job_extra_directives[0] is 1; expected text"),
            ('kind = "slurm"\nworkers = 0', "workers is 0; expected at least 1"),
            ('kind = "slurm"\nworkers_per_job = 0', "workers_per_job is 0; expected at least 1"),
            ('kind = "slurm"\nmemory_headroom = 0.5', "memory_headroom is 0.5; expected at least 1"),
            ('kind = "slurm"\nwait = "0m"', "wait is '0m'; expected at least 1s"),
            ('kind = "slurm"\nminimum = 2', "minimum is 2; expected 0 without elastic"),
            ('kind = "slurm"\nelastic = true\nminimum = 9', "minimum is 9; expected at most workers, 8"),
            ('kind = "slurm"\nlifetime = "0m"', "lifetime is '0m'; expected at least 1s"),
            ('kind = "slurm"\nworker_silence = "5s"', "worker_silence is '5s'; expected at least 10s"),
            ('kind = "slurm"\ncertificate_lifetime = "1h"', "certificate_lifetime 1h is shorter than wait 12h"),
            ('kind = "slurm"\nsecurity = "ssl"', "security is 'ssl'; expected one of tls, none"),
            ('kind = "slurm"\nscheduler_port = 65536', "scheduler_port is 65536; expected 0 (a free port) to 65535"),
            ('kind = "slurm"\nworker_ports = "40000"', "worker_ports is '40000'; expected first:last"),
            (
                'kind = "slurm"\nworker_ports = "40000:40003"',
                "'40000:40003'; expected at least 8 ports from 1 to 65535",
            ),
            ('kind = "slurm"\ninterface = "ib0"\nhost = "n1"', "interface 'ib0' and host 'n1': expected one of them"),
            ('kind = "slurm"\nretries = -1', "retries is -1; expected 0 or more"),
            ('kind = "local"\ndashboard = ":8787"', "dashboard is ':8787'; expected host:port, such as 127.0.0.1:8787"),
            ('kind = "slurm"\nwait = "forever"', "wait is 'forever'; expected a whole number"),
            ('kind = "slurm"\nwalltime = "1h"', "walltime is '1h'; expected hours:minutes:seconds"),
            ('kind = "slurm"\nlifetime = "soon"', "lifetime is 'soon'; expected a whole number with"),
            ('kind = "slurm"\nwalltime = "00:59:00"', "not shorter than walltime 00:59:00"),
            ('kind = "local"\nworkers = -1', "workers is -1; expected 0"),
            ('kind = "local"\nmemory_headroom = 0', "memory_headroom is 0; expected at least 1"),
        ],
    )
    def test_wrong_profile_is_refused_with_its_name(self, tmp_path: Path, text: str, complaint: str) -> None:
        path = written(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            read_profile(path)
        assert complaint in str(caught.value)
        assert str(caught.value).startswith(f"cluster profile {path}: ")

    def test_unknown_profile_says_what_there_is(self) -> None:
        with pytest.raises(
            ConfigError, match="no cluster profile 'pbs': expected local, slurm, allocation, or the path of a TOML"
        ):
            read_profile("pbs")

    @pytest.mark.parametrize(("text", "seconds"), [("55m", 3300), ("4s", 4), ("2h", 7200), ("1d", 86400)])
    def test_duration_in_seconds(self, text: str, seconds: int) -> None:
        assert duration_seconds(text) == seconds

    @pytest.mark.parametrize(("text", "seconds"), [("01:00:00", 3600), ("1-12:00:30", 129_630), ("100:00:00", 360_000)])
    def test_walltime_in_seconds(self, text: str, seconds: int) -> None:
        assert walltime_seconds(text) == seconds


@needs_jobqueue
@quiet
class TestSlurm:
    def script(self, profile: str, workers: int = 0) -> str:
        """Job script of a profile, with the network interface that every machine has."""
        from dask_jobqueue import SLURMCluster

        arguments = read_profile(profile).arguments(workers, 2 * GIB)
        arguments["interface"] = arguments["interface"] and "lo"
        arguments["log_directory"] = None
        with SLURMCluster(**arguments) as cluster:
            text: str = cluster.job_script()
        return text

    def test_job_script_of_the_package_s_profile(self) -> None:
        script = self.script("slurm")
        for line in ("#SBATCH -J ztfmatch", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=10G", "#SBATCH -t 01:00:00"):
            assert f"\n{line}\n" in script
        assert "#SBATCH -p" not in script
        assert "#SBATCH -A" not in script
        command = script.strip().splitlines()[-1]
        assert "--nthreads 1 " in command
        assert "--nworkers 4 " in command
        assert "--lifetime 55m --lifetime-stagger 4m" in command
        assert command.endswith("--memory-limit 0")

    def test_job_script_of_a_site(self) -> None:
        script = self.script(str(PROJECT / "cluster" / "slurm-site.toml"))
        for line in ("#SBATCH -p cpu", "#SBATCH -A ztf", "#SBATCH -t 02:00:00", "#SBATCH --constraint=avx2",
                     "module load python", "#SBATCH --cpus-per-task=16", "#SBATCH --mem=40G"):  # fmt: skip
            assert f"\n{line}\n" in script
        command = script.strip().splitlines()[-1]
        assert "--local-directory /scratch" in command
        assert "--interface lo" in command
        assert "--lifetime 110m --lifetime-stagger 8m" in command

    def test_memory_limit_is_dask_s_own_where_wanted(self, tmp_path: Path) -> None:
        command = self.script(written(tmp_path, 'kind = "slurm"\nmemory_limit = true\n'), workers=1)
        assert "--memory-limit 2.50GiB" in command
        assert "--memory-limit 0" not in command

    def test_slurm_s_library_leaves_sigint_as_it_was(self) -> None:
        """Its import makes SIGINT an exit with success."""
        code = (
            "import signal; kept = signal.getsignal(signal.SIGINT); from ztfmatch.core.runner import slurm;"
            "slurm.slurm_cluster_class(); assert signal.getsignal(signal.SIGINT) is kept"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

    def test_without_sbatch_the_command_is_refused(
        self, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        result = call(*scene.append, "--cluster", "slurm")
        assert result.exit_code == 2
        assert "sbatch, which is not on this machine's PATH" in result.stderr

    def test_append_in_slurm_jobs_does_the_same(self, scene: Scene, slurm: Path, tmp_path: Path) -> None:
        where = tmp_path / "store"
        assert call("init", where, "--references", scene.sky / "references").exit_code == 0
        append = ("append", where, *scene.append[2:], "--cluster", site(tmp_path), "--workers", 2)
        taken = report(*append)
        expected = report("status", scene.store)
        assert (taken["matched"], taken["orphans"]) == (expected["detections"], expected["orphans"])
        assert len(jobs(slurm)) == 1

    def test_job_whose_workers_left_is_replaced(self, slurm: Path, tmp_path: Path) -> None:
        cluster_class = slurm_cluster_class()
        with cluster_class(**read_profile(site(tmp_path)).arguments(2, GIB)) as cluster, Client(cluster) as client:
            keeper = JobKeeper(cluster, 1)
            keeper.check()
            client.wait_for_workers(2, timeout=60)
            assert client.submit(os.getpgrp, pure=False).result(60) == jobs(slurm)[0]
            keeper.check()
            os.killpg(jobs(slurm)[0], signal.SIGTERM)
            while cluster.scheduler_info["workers"]:
                keeper.check()
            for _ in range(10):
                keeper.check()
            assert client.submit(os.getpgrp, pure=False).result(60) == jobs(slurm)[1]
            keeper.check()
            assert len(jobs(slurm)) == 2

    def test_elastic_jobs_come_with_tasks_and_go_with_them(self, slurm: Path, tmp_path: Path) -> None:
        """No more than the tasks need, and none that is at work goes."""
        cluster_class = slurm_cluster_class()
        with cluster_class(**read_profile(site(tmp_path)).arguments(8, GIB)) as cluster, Client(cluster) as client:
            keeper = JobKeeper(cluster, 4, elastic=Elastic(per_job=2, minimum=0, idle_s=0.0))
            keeper.check()
            assert not (slurm / "submitted").exists()
            keeper.want(3)
            assert keeper.wake.is_set()
            keeper.check()
            assert len(jobs(slurm)) == 2
            client.wait_for_workers(4, timeout=60)
            until = f"until [ -e {tmp_path}/end ]; do :; done"
            hold = client.submit(subprocess.call, ["sh", "-c", until], pure=False)
            while not any(client.processing().values()):
                pass
            keeper.want(0)
            keeper.check()
            assert len(cluster.worker_spec) == 1
            assert hold.status == "pending"
            (tmp_path / "end").touch()
            assert hold.result(60) == 0
            del hold
            keeper.check()
            assert len(cluster.worker_spec) == 0
            assert len(jobs(slurm)) == 2

    def test_elastic_jobs_stay_while_the_lull_is_short(self, slurm: Path, tmp_path: Path) -> None:
        cluster_class = slurm_cluster_class()
        with cluster_class(**read_profile(site(tmp_path)).arguments(2, GIB)) as cluster:
            keeper = JobKeeper(cluster, 1, elastic=Elastic(per_job=2, minimum=0, idle_s=3600.0))
            for tasks, expected in ((5, 1), (0, 1), (5, 1)):
                keeper.want(tasks)
                keeper.check()
                assert len(cluster.worker_spec) == expected
            assert len(jobs(slurm)) == 1

    def test_append_with_elastic_workers_does_the_same(self, scene: Scene, slurm: Path, tmp_path: Path) -> None:
        where = tmp_path / "store"
        assert call("init", where, "--references", scene.sky / "references").exit_code == 0
        profile = Path(site(tmp_path))
        profile.write_text(profile.read_text() + f'elastic = true\ncertificates = "{tmp_path}"\n')
        taken = report("append", where, *scene.append[2:], "--cluster", profile, "--workers", 2)
        expected = report("status", scene.store)
        assert (taken["matched"], taken["orphans"]) == (expected["detections"], expected["orphans"])

    def test_cluster_that_does_not_start_is_one_line(self, scene: Scene, slurm: Path, tmp_path: Path) -> None:
        profile = written(tmp_path, 'kind = "slurm"\ninterface = "no0"\n')
        result = call(*scene.append, "--cluster", profile)
        assert result.exit_code == 2
        assert "ztfmatch: interface: 'no0' is not a valid network interface" in result.stderr


def site(place: Path) -> str:
    return written(place, f'kind = "slurm"\nworkers_per_job = 2\nlocal_directory = "{place}"\n')


def jobs(place: Path) -> list[int]:
    """Process groups of the jobs submitted so far."""
    return [int(line) for line in (place / "submitted").read_text().split()]


SBATCH = """#!/bin/sh
cp "$1" "{place}/job-$$.sh"
setsid sh "{place}/job-$$.sh" >"{place}/job-$$.log" 2>&1 &
echo $! >>"{place}/submitted"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -- "-$1" 2>/dev/null || true
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of SLURM's part, with sbatch and scancel that run and end jobs here."""
    place = tmp_path / "slurm"
    place.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (place / name).write_text(text.format(place=place))
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    yield place
    for job in jobs(place) if (place / "submitted").exists() else []:
        try:
            os.killpg(job, signal.SIGKILL)
        except ProcessLookupError:
            continue


@quiet
def test_local_profile_file_starts_its_workers(tmp_path: Path) -> None:
    profile = written(tmp_path, 'kind = "local"\nworkers = 1\n')
    with start.start_cluster(Resources(cluster=profile)) as workers:
        started: dict[str, Any] = workers.client.scheduler_info()["workers"]
        assert [worker["nthreads"] for worker in started.values()] == [1]
