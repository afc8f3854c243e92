"""A store and its catalogs in S3: what a local disk has, whatever the network does, and no secret anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from commandline import Scene, call, done, report
from commandtree import leaves
from credentialhelper import CredentialHelper
from faultproxy import Fault, FaultProxy, Plan, always, every, first
from helpers import assert_same, sky_content
from s3server import KEY, SECRET, TOKEN

import ztfmatch
from ztfmatch.core import prefork
from ztfmatch.core.errors import CommitConflictError, StorageError, StoreDamagedError, ZtfmatchError
from ztfmatch.core.io import storage
from ztfmatch.core.io.storage import Storage

NETWORK_FAULTS = (
    *(Fault.ERROR_500, Fault.SLOW_DOWN_503, Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.ERROR_AFTER, Fault.CUT_BODY),
)
SECRETS = [text.encode() for text in (SECRET, TOKEN, KEY)]


def uploaded(sky: Path, url: str) -> str:
    """Copy a simulated sky to a prefix."""
    storage = Storage.at(url)
    for path in sorted(sky.rglob("*.fits")):
        storage.put(str(path.relative_to(sky)), path.read_bytes())
    return url


def history_of(store: object, sky: object, table: Path) -> list[Any]:
    """Go through the life of a store by the command line; what it said, without what differs from run to run."""
    said = [
        report("init", store, "--references", f"{sky}/references"),
        report("append", store, *halves(sky)[0], "--exposures", table),
        report("append", store, f"{sky}/catalogs", "--exposures", table, "--note", "the rest"),
        report("append", store, f"{sky}/catalogs/**/*_psfcat.fits", "--exposures", table),
        report("statistics", store),
        report("verify", store, "--deep"),
        report("compact", store, "--full", "--min-files", 2),
        report("verify", store, "--deep"),
        report("rollback", store, 1),
        report("rollback", store, 4),
        report("vacuum", store, "--keep", 1, "--grace-hours", 0),
        report("verify", store, "--deep"),
        report("history", store),
        report("status", store),
        report("diff", store, 6, 6),
    ]
    return json.loads(json.dumps(said).replace(str(store), "STORE").replace(str(sky), "SKY"))


def halves(sky: object) -> tuple[list[str], list[str]]:
    from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find

    catalogs = find([f"{sky}/catalogs"], EPOCHAL_PATTERN).files
    return catalogs[::2], catalogs[1::2]


def comparable(value: Any) -> Any:
    """Reports without what the clock decides, and what the names of the places: sizes, and ids of content."""
    if isinstance(value, dict):
        return {k: comparable(v) for k, v in value.items() if k not in _VARYING}
    return [comparable(v) for v in value] if isinstance(value, list) else value


_VARYING = {
    "seconds",
    "time",
    "duration_s",
    "store",
    "bytes",
    "bytes_before",
    "bytes_after",
    "operation_id",
    "manifests",
    "tiling",
}


@pytest.fixture
def remote_sky(scene: Scene, s3_bucket: str) -> str:
    return uploaded(scene.sky, f"{s3_bucket}/sky")


def test_life_of_a_store_in_s3_is_that_of_a_local_one(
    scene: Scene, s3_bucket: str, remote_sky: str, tmp_path: Path, star: dict[str, Any]
) -> None:
    local, remote = str(tmp_path / "store"), f"{s3_bucket}/deep/store"
    table = Path(shutil.copy(scene.sky / "exposures.csv", tmp_path))
    said = (comparable(history_of(place, sky, table)) for place, sky in ((local, scene.sky), (remote, remote_sky)))
    for in_files, in_s3 in zip(*said, strict=True):
        assert in_s3 == in_files
    assert_same(sky_content(Storage.at(local)), sky_content(Storage.at(remote)))
    ids = ("lightcurve", "--objectid", star["objectid"], "--json")
    assert done(ids[0], remote, *ids[1:]) == done(ids[0], local, *ids[1:])
    one, other = (ztfmatch.open_store(place).snapshot() for place in (local, remote))
    assert one.lightcurves(objectid=star["objectid"]).equals(other.lightcurves(objectid=star["objectid"]))
    assert one.sources(objectid=star["objectid"]).equals(other.sources(objectid=star["objectid"]))
    for name in ztfmatch.TABLES:
        assert other.table(name).num_rows == one.table(name).num_rows
    bright = other.dataset("detections").to_table(columns=["mag"], filter=None)
    assert sorted(bright["mag"].to_pylist()) == sorted(one.table("detections")["mag"].to_pylist())
    assert all(path.startswith(f"{remote}/data/detections/") for path in other.paths("detections"))


def test_store_in_s3_with_workers_is_the_same(
    scene: Scene, s3_bucket: str, remote_sky: str, s3_environment: pytest.MonkeyPatch
) -> None:
    """Though the process that they are forks of was started before the environment named the service."""
    with s3_environment.context() as bare:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            bare.delenv(name)
        prefork.start()
    store = f"{s3_bucket}/store"
    done("init", store, "--references", f"{remote_sky}/references")
    done("append", store, remote_sky, "--exposures", scene.sky / "exposures.csv", "--workers", 2)
    assert_same(sky_content(Storage.at(scene.store)), sky_content(Storage.at(store)))


def test_store_in_s3_with_workers_and_a_profile_by_boto3_is_the_same(
    scene: Scene, s3_bucket: str, remote_sky: str, aws_helper: CredentialHelper
) -> None:
    """Each process gets its credentials by the profile, and renews them."""
    store, table = f"{s3_bucket}/store", scene.sky / "exposures.csv"
    done("init", store, "--references", f"{remote_sky}/references")
    aws_helper.answer([-1])  # what every process gets first has expired, and so has what it gets then
    refused = call("append", store, remote_sky, "--exposures", table, "--workers", 2)
    assert refused.exit_code != 0
    assert not any(secret.decode() in refused.output for secret in SECRETS)
    aws_helper.answer([9])
    said = done("append", store, remote_sky, "--exposures", table, "--workers", 2)
    assert not any(secret.decode() in str(said) for secret in SECRETS)
    assert aws_helper.runs >= 3  # of this process and two workers
    assert_same(sky_content(Storage.at(scene.store)), sky_content(Storage.at(store)))


@pytest.mark.parametrize("n", [2, 5])
def test_append_and_compact_through_a_bad_network_make_the_undisturbed_store(
    scene: Scene, s3_bucket: str, remote_sky: str, s3_faults: FaultProxy, n: int
) -> None:
    s3_faults.follow(every(n, *NETWORK_FAULTS))
    store, table = f"{s3_bucket}/store", scene.sky / "exposures.csv"
    done("init", store, "--references", f"{remote_sky}/references")
    for some in halves(remote_sky):
        done("append", store, *some, "--exposures", table)
    done("statistics", store)
    assert report("compact", store, "--full", "--min-files", 2)["committed"]
    assert report("verify", store, "--deep")["passed"]
    assert set(s3_faults.broken()) == set(NETWORK_FAULTS)
    s3_faults.follow(lambda _: Fault.NONE)
    assert [commit.operation for commit in ztfmatch.open_store(store).commits()] == [
        *("init", "append", "append", "statistics", "compact")
    ]
    assert_same(sky_content(Storage.at(scene.store)), sky_content(Storage.at(store)))


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.ERROR_AFTER])
def test_commit_whose_answer_is_lost_is_a_commit(
    scene: Scene, s3_bucket: str, s3_faults: FaultProxy, fault: Fault
) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    s3_faults.follow(first("PUT", "/commits/", fault))
    made = report("append", store, scene.sky / "catalogs")
    assert s3_faults.broken() == [fault]
    assert (made["snapshot"], made["committed"]) == (1, True)
    assert ztfmatch.open_store(store).snapshot().number == 1
    assert report("verify", store)["passed"]


def test_appends_that_race_through_s3_both_go_in_one_after_the_other(scene: Scene, s3_bucket: str) -> None:
    place = f"{s3_bucket}/store"
    done("init", place, "--references", scene.sky / "references")
    start = threading.Barrier(2)

    def append(catalogs: list[str]) -> int:
        start.wait()
        return ztfmatch.open_store(place).append(catalogs).snapshot

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(append, halves(scene.sky))) == [1, 2]
    store = ztfmatch.open_store(place)
    assert [commit.number for commit in store.commits()] == [0, 1, 2]
    assert store.verify(deep=True).passed
    assert store.snapshot().status.exposures == 4


def test_rollbacks_that_race_through_s3_just_one_wins_each_snapshot(scene: Scene, s3_bucket: str) -> None:
    place = f"{s3_bucket}/store"
    done("init", place, "--references", scene.sky / "references")
    for some in halves(scene.sky):
        done("append", place, *some)
    start = threading.Barrier(2)

    def rollback(to: int) -> int | None:
        start.wait()
        try:
            return ztfmatch.open_store(place).rollback(to, note=f"to {to}").snapshot
        except CommitConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        won = [number for number in pool.map(rollback, [0, 1]) if number is not None]
    commits = ztfmatch.open_store(place).commits()
    assert sorted(won) == [commit.number for commit in commits[3:]]
    assert len({commit.note for commit in commits[3:]}) == len(won)


def test_service_that_ignores_conditions_gets_no_store_and_no_commit(
    scene: Scene, s3_bucket: str, s3_faults: FaultProxy
) -> None:
    """Two appends at once would both end with 0, and one night would be gone."""
    store = f"{s3_bucket}/store"
    s3_faults.follow(always(Fault.NO_CONDITION))
    result = call("init", store, "--references", scene.sky / "references")
    assert result.exit_code == 1
    assert f"{store}: {s3_faults.url} cannot hold a store: it does not keep the header 'If-None-Match: *'" in (
        result.stderr
    )
    assert list(Storage.at(store).list("")) == []
    s3_faults.follow(lambda _: Fault.NONE)
    done("init", store, "--references", scene.sky / "references")
    storage._TRIED.clear()  # another process, and another version of the service
    s3_faults.follow(always(Fault.NO_CONDITION))
    result = call("append", store, scene.sky / "catalogs", "-q")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "both would commit and one would lose what it wrote; nothing is committed" in result.stderr
    s3_faults.follow(lambda _: Fault.NONE)
    assert ztfmatch.open_store(store).snapshot().number == 0


OUTAGES = {
    "errors": always(Fault.ERROR_500),
    "too busy": always(Fault.SLOW_DOWN_503),
    "no connection": always(Fault.DROP_BEFORE),
    "no answer": always(Fault.DROP_AFTER),
}


@pytest.mark.parametrize("plan", OUTAGES.values(), ids=OUTAGES)
def test_outage_is_one_line_that_names_the_place_and_exit_1(
    scene: Scene, s3_bucket: str, s3_faults: FaultProxy, plan: Plan
) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    s3_faults.follow(plan)
    for arguments in (["status", store], ["append", store, scene.sky / "catalogs"], ["vacuum", store, "--keep", 1]):
        result = call(*arguments, "-q")
        assert result.exit_code == 1
        assert result.stderr.startswith(f"ztfmatch: cannot read store.json in {store}: ")
        assert result.stderr.count("\n") == 1
    result = call("append", scene.store, f"{s3_bucket}/sky")
    assert result.exit_code == 1
    assert f"in {s3_bucket}: " in result.stderr


@pytest.mark.parametrize("part", ["/data/", "/manifests/", "/commits/"])
def test_outage_of_writes_commits_nothing_and_a_rerun_goes_on(
    scene: Scene, s3_bucket: str, s3_faults: FaultProxy, part: str
) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    s3_faults.follow(
        lambda request: Fault.ERROR_500 if request.method == "PUT" and part in request.path else Fault.NONE
    )
    result = call("append", store, scene.sky / "catalogs", "--json")
    assert result.exit_code == 1
    assert store in json.loads(result.stdout)["message"]
    s3_faults.follow(lambda _: Fault.NONE)
    assert ztfmatch.open_store(store).snapshot().number == 0
    assert report("verify", store)["passed"]
    done("append", store, scene.sky / "catalogs", "--exposures", scene.sky / "exposures.csv")
    assert_same(sky_content(Storage.at(scene.store)), sky_content(Storage.at(store)))


def test_outage_while_catalogs_are_read_quarantines_none(
    scene: Scene, s3_bucket: str, remote_sky: str, s3_faults: FaultProxy
) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    s3_faults.follow(lambda request: Fault.SLOW_DOWN_503 if request.path.endswith("_psfcat.fits") else Fault.NONE)
    result = call("append", store, f"{remote_sky}/catalogs")
    assert result.exit_code == 1
    assert "StorageError: cannot read sky/catalogs/" in result.stderr
    s3_faults.follow(lambda _: Fault.NONE)
    assert ztfmatch.open_store(store).snapshot().number == 0


def test_secrets_are_in_nothing_that_is_written(
    scene: Scene, s3_bucket: str, remote_sky: str, s3_faults: FaultProxy, tmp_path: Path
) -> None:
    """Output of commands that go well and that do not, of workers too, and every object of the store."""
    store, job = f"{s3_bucket}/store", tmp_path / "job"
    job.mkdir()
    commands: list[list[object]] = [
        ["init", store, "--references", f"{remote_sky}/references", "--json"],
        ["append", store, f"{remote_sky}/catalogs"],
        ["history", store, "--json"],
        ["append", store, f"{s3_bucket}/nothing"],
        ["status", "s3://no-such-bucket/store"],
        ["status", f"s3://{KEY}:{SECRET}@bucket/store"],
        ["append", store, f"{remote_sky}/x_psfcat.fits?X-Amz-Security-Token={TOKEN}"],
        ["append", store, f"https://{KEY}:{SECRET}@host/x?token={TOKEN}"],
    ]
    for number, arguments in enumerate(commands):
        (job / f"{number}").write_text(call(*arguments).output)
    s3_faults.follow(lambda request: Fault.QUOTES_REQUEST if "_psfcat.fits" in request.path else Fault.NONE)
    run_program(["append", store, f"{remote_sky}/catalogs", "--workers", 1], job / "worker")
    s3_faults.follow(lambda _: Fault.QUOTES_REQUEST)
    run_program(["status", store], job / "denied")
    s3_faults.follow(lambda _: Fault.NONE)
    written = {path: path.read_bytes() for path in job.iterdir()}
    written |= {Path(path): Storage.at(store).read(path) for path, _ in Storage.at(store).list("")}
    assert len(written) > 20
    assert all(b"SignatureDoesNotMatch" in written[job / name] for name in ("worker", "denied"))
    assert [path for path, text in written.items() if any(secret in text for secret in SECRETS)] == []


def run_program(arguments: list[object], log: Path) -> None:
    """Run a command as a batch job does, with all that it and its workers write in one file."""
    command = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "ignore",
        "-m",
        "ztfmatch",
        *(str(argument) for argument in arguments),
    ]
    with log.open("wb") as file:
        subprocess.run(command, stdout=file, stderr=file, check=False, timeout=120, env=os.environ)


@pytest.mark.parametrize(
    "place", [f"s3://{KEY}:{SECRET}@bucket/store", f"s3://bucket/store?X-Amz-Signature={TOKEN}", f"s3://{KEY}:{SECRET}"]
)
def test_url_with_a_secret_is_refused_and_not_repeated(scene: Scene, place: str) -> None:
    for arguments in (
        ["status", place],
        ["append", scene.store, place],
        ["init", place, "--references", scene.sky / "references"],
        ["init", scene.store, "--references", place],
    ):
        result = call(*arguments, "--json")
        assert result.exit_code == 2
        assert not any(secret.decode() in result.output for secret in SECRETS)
        assert "environment" in result.stderr
    with pytest.raises(ZtfmatchError) as caught:
        ztfmatch.open_store(place)
    assert not any(secret.decode() in repr(caught.value) for secret in SECRETS)


def test_history_in_s3_has_the_places_as_they_were_named(scene: Scene, s3_bucket: str, remote_sky: str) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", f"{remote_sky}/references")
    Storage.at(remote_sky).put("catalogs/ztf_bad_psfcat.fits", b"")
    made = report("append", store, f"{remote_sky}/catalogs/")
    assert [row["source"] for row in made["quarantined"]] == [f"{remote_sky}/catalogs/ztf_bad_psfcat.fits"]
    assert report("quarantine", store)[0]["source"] == f"{remote_sky}/catalogs/ztf_bad_psfcat.fits"
    assert report("history", store)[1]["arguments"]["catalogs"] == [f"{remote_sky}/catalogs/"]
    assert report("append", store, f"{remote_sky}/catalogs/")["committed"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "BUCKET/nothing"], 2, "BUCKET/nothing: no such store; make one with 'ztfmatch init'"),
        (["status", "s3://no-such-bucket/x"], 2, "s3://no-such-bucket/x: there is no bucket 'no-such-bucket'"),
        (["append", "STORE", "BUCKET/none.fits"], 2, "BUCKET/none.fits: no such object or prefix, and no object fits"),
        (["append", "STORE", "s3://no-such-bucket"], 2, "s3://no-such-bucket: there is no bucket 'no-such-bucket'"),
        (["init", "BUCKET/new", "--references", "s3://no-such-bucket/r/*"], 2, "there is no bucket 'no-such-bucket'"),
        (["init", "s3://no-such-bucket/s", "--references", "SKY/references"], 2, "there is no bucket 'no-such-bucket'"),
        (["status", "ftp://host/x"], 2, "ftp://...: expected a local path, or s3://, gs:// or az://"),
    ],
)
def test_what_is_not_there_is_named(
    scene: Scene, s3_bucket: str, arguments: list[str], code: int, message: str
) -> None:
    names = {"BUCKET": s3_bucket, "STORE": str(scene.store), "SKY": str(scene.sky)}

    def named(text: str) -> str:
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    result = call(*(named(argument) for argument in arguments), "-q")
    assert result.exit_code == code
    assert named(message) in result.stderr
    assert result.stderr.count("\n") == 1


def test_outage_while_a_store_is_read_is_not_taken_for_damage(
    scene: Scene, s3_bucket: str, s3_faults: FaultProxy, star: dict[str, Any]
) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    done("append", store, scene.sky / "catalogs")
    snapshot = ztfmatch.open_store(store).snapshot()
    assert snapshot.status.exposures == 4
    s3_faults.follow(lambda r: Fault.SLOW_DOWN_503 if r.method == "GET" and "/data/" in r.path else Fault.NONE)
    for arguments in (
        ["lightcurve", store, "--objectid", star["objectid"]],
        ["verify", store],
        ["verify", store, "--deep"],
    ):
        result = call(*arguments)
        assert result.exit_code == 1
        assert f" in {store}: " in result.stderr
        assert "SlowDown" in result.stderr
        assert "damaged" not in result.output
    with pytest.raises(StorageError, match=r"cannot read data/detections/.* in s3://.*SlowDown"):
        snapshot.table("detections")


def test_file_missing_from_s3_is_damage(scene: Scene, s3_bucket: str) -> None:
    store = f"{s3_bucket}/store"
    done("init", store, "--references", scene.sky / "references")
    done("append", store, scene.sky / "catalogs")
    snapshot = ztfmatch.open_store(store).snapshot()
    lost = snapshot.files.of_table("detections")[0].path
    Storage.at(store).delete([lost])
    said = rf"{lost} \(table detections, .*\) is missing from {store}; 'ztfmatch repair' tells what it held"
    with pytest.raises(StoreDamagedError, match=said):
        snapshot.table("detections")
    result = call("verify", store, "--deep")
    assert result.exit_code == 1
    assert lost in result.output


def test_profile_of_the_configuration_files_is_enough(
    scene: Scene, s3_bucket: str, s3_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        s3_environment.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[profile loopback]\nregion = us-east-1\nendpoint_url = {endpoint}\n")
    keys = f"[loopback]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / ".aws" / "credentials").write_text(keys)
    s3_environment.setenv("AWS_PROFILE", "loopback")
    refused = call("status", f"{s3_bucket}/store")
    assert refused.exit_code == 2
    assert f"{endpoint} is not encrypted: set AWS_ALLOW_HTTP=true" in refused.stderr
    s3_environment.setenv("AWS_ALLOW_HTTP", "true")
    done("init", f"{s3_bucket}/store", "--references", scene.sky / "references")
    assert report("status", f"{s3_bucket}/store")["objects"] > 0


def test_help_says_once_where_endpoint_and_credentials_come_from() -> None:
    text = " ".join(done("--help").split())
    assert not any("AWS_" in done(*name.split(), "--help") for name in leaves())
    assert "s3://BUCKET/PREFIX, gs:// or az:// instead of a path" in text
    assert all(word in text for word in ("AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ALLOW_HTTP"))
