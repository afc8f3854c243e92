"""Exports loaded into a MongoDB engine on the loopback, or into the server of ZTFMATCH_TEST_MONGO_URI."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymongo
import pytest
from bson.int64 import Int64
from helpers import UNIT
from kowalski_exports import documents_of, export
from kowalski_oracle import Content, differences
from kowalski_survey import UNITS, Append, Correct, Rematch, Rollback, Survey, everything, make_survey
from mongoserver import Fault, Faults, mongo_engine, mongo_server

import ztfmatch
from ztfmatch.core.errors import BadInputError, ConfigError, StorageError
from ztfmatch.core.io.records import decode, encode
from ztfmatch.kowalski.io.jsonlines import LinesForm
from ztfmatch.kowalski.io.mongo import Database, RetryConfig, connect, read_uri
from ztfmatch.kowalski.load import load_exports
from ztfmatch.kowalski.tasks.scope import Scope

REAL = os.environ.get("ZTFMATCH_TEST_MONGO_URI")
QUICK = RetryConfig(tries=4, first_wait_s=0.25, longest_wait_s=1.0, select_timeout_s=2.0)
_TAGS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Faults | None]]:
    if REAL:
        yield REAL, None
        return
    with mongo_server() as started:
        yield started


@pytest.fixture
def tag(server: tuple[str, Faults | None]) -> Iterator[str]:
    """Of collections that are empty, and are dropped afterwards."""
    name = f"test-{os.getpid()}-{next(_TAGS)}"
    yield name
    if server[1] is not None:
        server[1].faults.clear()
    with closing(connect(server[0])) as opened:
        for collection in opened.handle.list_collection_names():
            if collection.endswith(f"_{name}"):
                opened.handle.drop_collection(collection)


@pytest.fixture
def database(server: tuple[str, Faults | None]) -> Iterator[Database]:
    opened = connect(server[0], QUICK)
    waits: list[float] = []
    yield Database(opened.handle, QUICK, waits.append)
    opened.close()


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def history(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> tuple[ztfmatch.Store, Path]:
    """A store, and its exports: a full one, new epochs, another reference, a correction, and all of it undone."""
    place = tmp_path_factory.mktemp("history")
    store = ztfmatch.Store(survey.store(place / "store"))
    steps = (
        Append(tuple((unit, night) for unit in UNITS for night in (0, 2)), 0),
        Append(tuple((unit, night) for unit in UNITS for night in range(4)), 0),
        Rematch(UNIT, 1),
        Correct(UNITS[1]),
        Rollback(2),
    )
    for step in steps:
        step.do(survey, store.storage)
        export(store, place / "exports", cursor=place / "cursor.json")
    return store, place / "exports"


def plain(value: Any) -> Any:
    """The driver's integers of 64 bits as Python's."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return int(value) if isinstance(value, Int64) else value


def held(database: Database, tag: str) -> Content:
    """All documents of a tag's collections."""
    names = ("sources", "exposures", "lineage")
    found = {name: {d["_id"]: plain(d) for d in database.handle[f"ZTF_{name}_{tag}"].find()} for name in names}
    return {name: documents for name, documents in found.items() if documents}


def assert_holds(database: Database, tag: str, store: ztfmatch.Store, place: Path) -> None:
    expected = {name: of for name, of in documents_of(export(store, place)).items() if of}
    assert differences(held(database, tag), expected) == []


def test_load_of_all_exports_gives_the_documents_of_a_full_export(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    store, exports = history
    report = load_exports(str(exports), database, tag)
    assert len(report.exports) == 5
    assert report.exports == sorted(report.exports)
    assert report.snapshot == store.snapshot().number
    assert_holds(database, tag, store, tmp_path / "full")
    database.handle[f"ZTF_loads_{tag}"].update_one({}, {"$set": {"of_a_later_version": 1}})
    again = load_exports(str(exports), database, tag)
    assert (again.exports, again.documents) == ([], 0)


def test_load_as_exports_come_goes_on_from_the_last(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    store, exports = history
    for number, one in enumerate(sorted(exports.iterdir())):
        shutil.copytree(one, tmp_path / "exports" / one.name)
        report = load_exports(str(tmp_path / "exports"), database, tag)
        assert report.exports == [one.name], number
    assert_holds(database, tag, store, tmp_path / "full")


def index_keys(database: Database, collection: str) -> list[list[tuple[str, Any]]]:
    """Keys of a collection's indexes beside that of _id."""
    there = database.handle[collection].index_information()
    return [[(name, int(of) if of in (1, -1) else of) for name, of in one["key"]]
            for name, one in there.items() if name != "_id_"]  # fmt: skip


KOWALSKIS = {
    "radec__id": [("coordinates.radec_geojson", "2dsphere"), ("_id", 1)],
    "field__ccd__quad": [("field", 1), ("ccd", 1), ("quad", 1)],
    "nobs__id": [("nobs", 1), ("_id", 1)],
}
"""As its configuration names them."""


@pytest.mark.parametrize("named", [False, True], ids=["new", "of other names"])
def test_load_makes_kowalskis_indexes_unless_they_are_there(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, named: bool
) -> None:
    sources = database.handle[f"ZTF_sources_{tag}"]
    for name, keys in KOWALSKIS.items() if named else ():
        sources.create_index(keys, name=name)
    load_exports(str(history[1]), database, tag)
    assert sorted(index_keys(database, sources.name)) == sorted(KOWALSKIS.values())
    assert (set(KOWALSKIS) <= set(sources.index_information())) == named
    assert index_keys(database, f"ZTF_exposures_{tag}") == [[("expid", 1)]]


def test_loaded_sources_are_found_by_kowalskis_cone_search(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str
) -> None:
    load_exports(str(history[1]), database, tag)
    sources = database.handle[f"ZTF_sources_{tag}"]
    one = sources.find_one({}, {"coordinates": 1})
    assert one is not None
    cone = [one["coordinates"]["radec_geojson"]["coordinates"], 2.0 / 3600.0 * 3.141592653589793 / 180.0]
    found = sources.find({"coordinates.radec_geojson": {"$geoWithin": {"$centerSphere": cone}}}, {"_id": 1})
    assert one["_id"] in [each["_id"] for each in found]


def faults(server: tuple[str, Faults | None]) -> Faults:
    """Those of the proxy."""
    assert server[1] is not None
    return server[1]


@pytest.mark.skipif(bool(REAL), reason="a real server cannot be told to fail")
@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("code", [None, 10107, 6], ids=["hung up", "no longer primary", "host unreachable"])
def test_load_repeats_what_the_service_failed(
    history: tuple[ztfmatch.Store, Path], server: tuple[str, Faults], database: Database, tag: str, tmp_path: Path,
    after: bool, code: int | None,
) -> None:  # fmt: skip
    """Each kind of write fails twice, at its beginning and later on; every retry is told and counted."""
    store, exports = history
    told: list[str] = []
    database.tell = told.append
    faults(server).faults += [
        Fault("update", passing, 2, after, code) for passing in (0, 7)
    ] + [Fault("delete", 0, 2, after, code), Fault("createIndexes", 1, 1, after, code)]  # fmt: skip
    report = load_exports(str(exports), database, tag)
    assert not any(fault.failing for fault in faults(server).faults)
    assert report.retries == len(told) == 7
    assert all(re.search(r"^\S.*: MongoDB failed: [^{<]+; try [23] of 4 in 0\.(25|5) s$", line) for line in told), told
    assert_holds(database, tag, store, tmp_path / "full")


@pytest.mark.skipif(bool(REAL), reason="a real server cannot be told to fail")
@pytest.mark.parametrize("passing", [0, 2, 9])
def test_load_that_failed_too_often_raises_and_a_rerun_goes_on(
    history: tuple[ztfmatch.Store, Path], server: tuple[str, Faults], database: Database, tag: str, tmp_path: Path,
    passing: int,
) -> None:  # fmt: skip
    store, exports = history
    faults(server).faults.append(Fault("update", passing, QUICK.tries))
    with pytest.raises(StorageError, match=r"MongoDB failed 4 times, the last: "):
        load_exports(str(exports), database, tag)
    waits: Any = database.sleep.__self__  # type: ignore[attr-defined]
    assert waits[-3:] == [0.25, 0.5, 1.0]
    load_exports(str(exports), database, tag)
    assert_holds(database, tag, store, tmp_path / "full")


class Stop(Exception):
    """The load ends, as by a signal."""


def stopped_load(exports: Path, database: Database, tag: str, kind: str) -> dict[str, Any]:
    """What is noted of a load that ended when one file of an export of a kind was in."""
    states = database.handle[f"ZTF_loads_{tag}"]

    def stop(what: str, done: int, total: int) -> None:
        if kind in what and (states.find_one({"_id": "state"}) or {}).get("done") == 1:
            raise Stop

    with pytest.raises(Stop):
        load_exports(str(exports), database, tag, stop)
    state = states.find_one({"_id": "state"})
    assert state is not None
    assert kind in state["loading"]
    return dict(state)


def test_load_that_was_stopped_skips_the_files_that_are_in(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    store, exports = history
    state = stopped_load(exports, database, tag, "since")
    files = json.loads((exports / state["loading"] / "manifest.json").read_text())["files"]
    seen: list[tuple[str, int, int]] = []
    load_exports(str(exports), database, tag, lambda *progress: seen.append(progress))
    what, total = f"loading {state['loading']}", sum(file["documents"] for file in files)
    assert seen[:2] == [(what, 0, total), (what, files[0]["documents"], total)]
    assert [one for one in seen if one[0] == what][-1] == (what, total, total)
    assert_holds(database, tag, store, tmp_path / "full")


def test_load_of_an_export_made_again_with_other_files_begins_with_the_first(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    """What is noted counts files, which hold other documents then."""
    store, out = history[0], tmp_path / "exports"
    many = export(store, out, form=LinesForm(documents=10))
    stopped_load(out, database, tag, "full")
    shutil.rmtree(many)
    assert export(store, out) == many
    load_exports(str(out), database, tag)
    assert_holds(database, tag, store, tmp_path / "full")


def test_load_of_another_filters_export_is_refused_and_named(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    """Also of the very snapshot that is loaded, or of one before it."""
    store, exports = history
    load_exports(str(exports), database, tag)
    export(store, tmp_path / "public", scope=Scope.parse(["program=1"]))
    with pytest.raises(
        ConfigError, match=r"holds snapshot 5 of everything; .*/public/0+5-full is of programs 1: load it under another"
    ):
        load_exports(str(tmp_path / "public"), database, tag)
    shutil.copytree(tmp_path / "public", tmp_path / "both", dirs_exist_ok=True)
    shutil.copytree(exports, tmp_path / "both" / "all")
    with pytest.raises(ConfigError, match=r"/both/0+5-full is of programs 1: load it under another --tag"):
        load_exports(str(tmp_path / "both"), database, tag)
    load_exports(str(tmp_path / "public"), database, f"x-{tag}")


def test_load_of_an_older_export_of_another_filter_is_refused(
    history: tuple[ztfmatch.Store, Path], survey: Survey, database: Database, tag: str, tmp_path: Path
) -> None:
    store = ztfmatch.Store(survey.store(tmp_path / "store"))
    Append(tuple((unit, 0) for unit in UNITS), 0).do(survey, store.storage)
    export(store, tmp_path / "public", scope=Scope.parse(["program=1"]))
    Append(tuple((unit, 1) for unit in UNITS), 0).do(survey, store.storage)
    export(store, tmp_path / "all")
    load_exports(str(tmp_path / "all"), database, tag)
    with pytest.raises(ConfigError, match=r"holds snapshot 2 of everything; .*/0+1-full is of programs 1"):
        load_exports(str(tmp_path / "public"), database, tag)


def test_load_of_two_full_exports_of_a_snapshot_asks_for_one(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    for name, terms in (("all", []), ("public", ["program=1"])):
        export(history[0], tmp_path / "exports" / name, scope=Scope.parse(terms))
    with pytest.raises(ConfigError, match=r"which full export is to be loaded, .*/all/.*, .*/public/.*\? Name one"):
        load_exports(str(tmp_path / "exports"), database, tag)


def test_load_of_an_increment_into_empty_collections_is_refused(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    increment = sorted(history[1].iterdir())[1]
    with pytest.raises(ConfigError, match=r"is empty and .* goes on from snapshot 1: load a full export first"):
        load_exports(str(increment), database, tag)


def test_load_over_a_gap_is_refused(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    first, _, third = sorted(history[1].iterdir())[:3]
    load_exports(str(first), database, tag)
    with pytest.raises(
        ConfigError, match=r"holds snapshot 1 of everything; .*none goes on from there: export --since 1"
    ):
        load_exports(str(third), database, tag)


def test_load_of_another_store_is_refused(
    history: tuple[ztfmatch.Store, Path], survey: Survey, database: Database, tag: str, tmp_path: Path
) -> None:
    load_exports(str(history[1]), database, tag)
    other = ztfmatch.init_store(tmp_path / "other", [str(survey.references[UNIT, 0])])
    export(other, tmp_path / "exports")
    with pytest.raises(ConfigError, match="holds documents of another store"):
        load_exports(str(tmp_path / "exports"), database, tag)


def test_load_of_a_full_export_into_foreign_documents_is_refused(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str
) -> None:
    database.handle[f"ZTF_sources_{tag}"].insert_one({"_id": 1})
    with pytest.raises(ConfigError, match=r"has documents that no export wrote: .* choose another --tag"):
        load_exports(str(history[1]), database, tag)


def test_load_of_a_damaged_file_is_refused_and_nothing_of_it_is_in(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    full = min(history[1].iterdir())
    shutil.copytree(full, tmp_path / full.name)
    victim = max((tmp_path / full.name).glob("sources-*"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(BadInputError, match=rf"{victim.name} in the export .* is damaged"):
        load_exports(str(tmp_path), database, tag)
    victim.unlink()
    with pytest.raises(BadInputError, match=rf"{victim.name} is missing from the export"):
        load_exports(str(tmp_path), database, tag)
    shutil.copy(full / victim.name, victim)
    assert load_exports(str(tmp_path), database, tag).exports == [full.name]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("path", "../other/sources.jsonl.zst", "not a file of an export"),
     ("path", "/etc/passwd", "not a file of an export"), ("path", "sources.parquet", "not a file of an export"),
     ("collection", "alerts", "is to upsert alerts"),
     ("documents", "many", "Expected `int`, got `str` - at .*documents."), ("action", "drop", "is to drop sources")],
)  # fmt: skip
def test_load_of_a_manifest_that_leaves_its_export_is_refused(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path,
    name: str, value: str, message: str,
) -> None:  # fmt: skip
    """An export may come from elsewhere: its digest is of what it says, whatever that is."""
    full = min(history[1].iterdir())
    shutil.copytree(full, tmp_path / full.name)
    manifest = tmp_path / full.name / "manifest.json"
    record = decode(manifest.read_bytes(), dict)
    record["files"][-1][name] = value
    manifest.write_bytes(encode(record))
    with pytest.raises(BadInputError, match=rf"manifest.json is damaged: .*{message}; export it again"):
        load_exports(str(tmp_path), database, tag)


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"no JSON", "no upsert of exposures .JSONDecodeError"), (b"[" * 10**6, "no upsert of exposures .RecursionError"),
     (b"3", "no upsert of exposures .TypeError"), (b'{"expid": 1}', "no upsert of exposures .KeyError"),
     (b'{"_id": 1, "x": 1e', "no upsert of exposures .JSONDecodeError"),
     (b'{"_id": 1, "x": 99999999999999999999}', "MongoDB cannot hold it"),
     (b'{"_id": 1, "x": "' + b"x" * (17 << 20) + b'"}', "MongoDB refuses it: .*larger than")],
    ids=["text", "nested", "number", "no _id", "cut", "large number", "large document"],
)  # fmt: skip
def test_load_of_a_line_that_is_no_document_is_refused_in_one_line(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path, line: bytes, message: str
) -> None:
    full = min(history[1].iterdir())
    shutil.copytree(full, tmp_path / full.name)
    manifest = tmp_path / full.name / "manifest.json"
    record = decode(manifest.read_bytes(), dict)
    content = pa.Codec("zstd").compress(line + b"\n", asbytes=True)
    (tmp_path / full.name / record["files"][0]["path"]).write_bytes(content)
    record["files"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    manifest.write_bytes(encode(record))
    with pytest.raises(BadInputError, match=rf"^{record['files'][0]['path']}.*{message}") as refused:
        load_exports(str(tmp_path), database, tag)
    assert len(str(refused.value)) < 500


def test_load_of_a_line_without_end_is_refused_before_it_is_whole(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    """Ten kilobytes that say they are 256 MiB."""
    full = min(history[1].iterdir())
    shutil.copytree(full, tmp_path / full.name)
    manifest = tmp_path / full.name / "manifest.json"
    record = decode(manifest.read_bytes(), dict)
    bomb = pa.Codec("zstd").compress(bytes(1 << 28), asbytes=True)
    (tmp_path / full.name / record["files"][0]["path"]).write_bytes(bomb)
    record["files"][0]["sha256"] = hashlib.sha256(bomb).hexdigest()
    manifest.write_bytes(encode(record))
    before = pa.total_allocated_bytes()
    with pytest.raises(BadInputError, match="has a line of more than 64 MiB"):
        load_exports(str(tmp_path), database, tag)
    assert pa.total_allocated_bytes() - before < 1 << 27


def test_load_where_a_document_was_removed_by_someone_is_refused(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str
) -> None:
    exports = sorted(history[1].iterdir())
    load_exports(str(exports[0]), database, tag)
    sources = database.handle[f"ZTF_sources_{tag}"]
    for document in sources.find({}, {"_id": 1}):
        sources.delete_one({"_id": document["_id"]})
    with pytest.raises(BadInputError, match=r"lacks \d+ of the documents that it updates, for instance \d+"):
        load_exports(str(exports[1].parent), database, tag)


def test_load_of_nothing_is_refused(database: Database, tag: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no finished export"):
        load_exports(str(tmp_path), database, tag)
    with pytest.raises(ConfigError, match="expected letters, digits"):
        load_exports(str(tmp_path), database, "a.b")


class TestUri:
    def test_of_environment_and_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZTFMATCH_MONGO_URI", "mongodb://one/")
        (tmp_path / "uri").write_text("mongodb://two/\n")
        assert read_uri(None) == "mongodb://one/"
        assert read_uri(tmp_path / "uri") == "mongodb://two/"

    def test_missing_or_wrong_is_told_without_the_secret(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ZTFMATCH_MONGO_URI", raising=False)
        with pytest.raises(ConfigError, match="set ZTFMATCH_MONGO_URI, or give --mongo-uri-file"):
            read_uri(None)
        monkeypatch.setenv("ZTFMATCH_MONGO_URI", "postgres://me:secret@host/")
        with pytest.raises(ConfigError, match="begins with mongodb://") as raised:
            read_uri(None)
        with pytest.raises(ConfigError, match="the MongoDB URI cannot be used") as invalid:
            connect("mongodb://me:sec/ret@host/")
        assert "sec" not in f"{raised.value} {invalid.value}"

    def test_without_pymongo_is_told_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pymongo", None)
        with pytest.raises(ConfigError, match=r"MongoDB needs pymongo: pip install 'ztfmatch\[kowalski\]'"):
            connect("mongodb://127.0.0.1:9/")

    def test_service_that_is_not_there_is_told_at_once_without_the_secret(
        self, history: tuple[ztfmatch.Store, Path], tag: str
    ) -> None:
        nobody = connect("mongodb://me:secret@127.0.0.1:9/?serverSelectionTimeoutMS=200")
        with pytest.raises(StorageError, match=r"no MongoDB answers within 0.2 s \(127.0.0.1:9: .*refused\)") as raised:
            load_exports(str(history[1]), nobody, tag)
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)
        nobody.close()

    def test_service_that_says_nothing_is_told_within_the_limit(
        self, history: tuple[ztfmatch.Store, Path], tag: str
    ) -> None:
        """Something listens there that is no MongoDB."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            nobody = connect(f"mongodb://127.0.0.1:{mute.getsockname()[1]}/?serverSelectionTimeoutMS=200")
            with pytest.raises(StorageError, match=r"no MongoDB answers within 0.2 s"):
                load_exports(str(history[1]), nobody, tag)
            nobody.close()

    def test_database_is_kowalski_unless_the_uri_names_one(self) -> None:
        for uri, name in (("mongodb://127.0.0.1:9/", "kowalski"), ("mongodb://127.0.0.1:9/mine", "mine")):
            opened = connect(uri)
            assert opened.handle.name == name
            assert isinstance(opened.handle.client, pymongo.MongoClient)
            opened.close()


def test_everything_is_what_the_histories_begin_with(survey: Survey, tmp_path: Path) -> None:
    assert everything(survey, tmp_path / "store").snapshot().status.exposures == 12


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate of the loopback, signed by itself, and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(*pem, plain))
    return files


def test_load_with_a_password_over_tls(
    history: tuple[ztfmatch.Store, Path], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """SCRAM lets in who knows it; a wrong password, or no TLS, is one line without the secret."""
    ingester = {"pwd": "s3cret", "roles": [{"role": "readWrite", "db": "kowalski"}]}
    with mongo_engine(tmp_path / "data") as port, closing(connect(f"mongodb://127.0.0.1:{port}/")) as opened:
        opened.handle.command("createUser", "ingester", **ingester)
    tls = "--tls-cert-file", certificate[0], "--tls-key-file", certificate[1]
    with mongo_engine(tmp_path / "data", "--auth", *tls) as port:
        end = f"127.0.0.1:{port}/kowalski?serverSelectionTimeoutMS=5000"
        safe = f"{end}&tls=true&tlsCAFile={certificate[0]}"
        with closing(connect(f"mongodb://ingester:s3cret@{safe}")) as opened:
            assert load_exports(str(history[1]), opened, "tag").snapshot == 5
        with closing(connect(f"mongodb://ingester:wr0ng@{safe}")) as opened, pytest.raises(
            BadInputError, match=r"MongoDB refuses the connection: .*[Aa]uthentication failed"
        ) as refused:  # fmt: skip
            load_exports(str(history[1]), opened, "tag")
        with closing(connect(f"mongodb://ingester:s3cret@{end}".replace("5000", "500"))) as opened, pytest.raises(
            StorageError, match=r"no MongoDB answers within 0.5 s .*tls=true"
        ) as plain:  # fmt: skip
            load_exports(str(history[1]), opened, "tag")
    assert not re.search("s3cret|wr0ng", f"{refused.value} {plain.value}")
