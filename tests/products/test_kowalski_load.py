"""Exports loaded into a stand-in that speaks MongoDB's protocol, or into the server of ZTFMATCH_TEST_MONGO_URI."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson.int64 import Int64
from helpers import UNIT
from kowalski_exports import documents_of, export
from kowalski_oracle import Content, differences
from kowalski_survey import UNITS, Append, Correct, Rematch, Rollback, Survey, everything, make_survey
from mongoserver import Databases, Fault, mongo_server

import ztfmatch
from ztfmatch.errors import BadInputError, ConfigError, StorageError
from ztfmatch.io.mongo import Database, RetryConfig, connect, read_uri
from ztfmatch.products.kowalski.load import load_exports

REAL = os.environ.get("ZTFMATCH_TEST_MONGO_URI")
QUICK = RetryConfig(tries=4, first_wait_s=0.25, longest_wait_s=1.0, select_timeout_s=2.0)
_TAGS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Databases | None]]:
    if REAL:
        yield REAL, None
        return
    with mongo_server() as started:
        yield started


@pytest.fixture
def tag(server: tuple[str, Databases | None]) -> Iterator[str]:
    """Of collections that are empty, and are dropped afterwards."""
    name = f"test-{os.getpid()}-{next(_TAGS)}"
    yield name
    if server[1] is not None:
        server[1].faults.clear()
        return
    with closing(connect(server[0])) as opened:
        for collection in opened.handle.list_collection_names():
            if collection.endswith(f"_{name}"):
                opened.handle.drop_collection(collection)


@pytest.fixture
def database(server: tuple[str, Databases | None]) -> Iterator[Database]:
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


def test_load_makes_kowalskis_indexes(history: tuple[ztfmatch.Store, Path], database: Database, tag: str) -> None:
    load_exports(str(history[1]), database, tag)
    if REAL:
        keys = [list(one["key"]) for one in database.handle[f"ZTF_sources_{tag}"].index_information().values()]
        assert [("coordinates.radec_geojson", "2dsphere"), ("_id", 1)] in keys
        return
    with_server = _databases(database)
    assert [dict(index["key"]) for index in with_server.indexes[f"kowalski.ZTF_sources_{tag}"]] == [
        {"coordinates.radec_geojson": "2dsphere", "_id": 1},
        {"field": 1, "ccd": 1, "quad": 1},
        {"nobs": 1, "_id": 1},
    ]
    assert [dict(index["key"]) for index in with_server.indexes[f"kowalski.ZTF_exposures_{tag}"]] == [{"expid": 1}]


_SERVERS: dict[int, Databases] = {}


@pytest.fixture(autouse=True)
def _known(server: tuple[str, Databases | None], database: Database) -> None:
    if server[1] is not None:
        _SERVERS[id(database)] = server[1]


def _databases(database: Database) -> Databases:
    return _SERVERS[id(database)]


@pytest.mark.skipif(bool(REAL), reason="a real server cannot be told to fail")
@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("code", [None, 10107], ids=["hung up", "no longer primary"])
def test_load_repeats_what_the_service_failed(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path, after: bool, code: int | None
) -> None:
    """Each kind of write fails twice, at its beginning and later on."""
    store, exports = history
    _databases(database).faults += [
        Fault("update", passing, 2, after, code) for passing in (0, 7)
    ] + [Fault("delete", 0, 2, after, code), Fault("createIndexes", 1, 1, after, code)]  # fmt: skip
    load_exports(str(exports), database, tag)
    assert not any(fault.failing for fault in _databases(database).faults)
    assert_holds(database, tag, store, tmp_path / "full")


@pytest.mark.skipif(bool(REAL), reason="a real server cannot be told to fail")
@pytest.mark.parametrize("passing", [0, 2, 9])
def test_load_that_failed_too_often_raises_and_a_rerun_goes_on(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path, passing: int
) -> None:
    store, exports = history
    _databases(database).faults.append(Fault("update", passing, QUICK.tries))
    with pytest.raises(StorageError, match=r"MongoDB failed 4 times, the last: "):
        load_exports(str(exports), database, tag)
    waits: Any = database.sleep.__self__  # type: ignore[attr-defined]
    assert waits[-3:] == [0.25, 0.5, 1.0]
    _databases(database).commands.clear()
    load_exports(str(exports), database, tag)
    assert_holds(database, tag, store, tmp_path / "full")


def test_load_that_was_stopped_skips_the_files_that_are_in(
    history: tuple[ztfmatch.Store, Path], database: Database, tag: str, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if "since" in what and done == 1 and total > 2:
            raise Stop

    store, exports = history
    with pytest.raises(Stop):
        load_exports(str(exports), database, tag, stop)
    state = database.handle[f"ZTF_loads_{tag}"].find_one({"_id": "state"})
    assert state is not None
    assert "since" in state["loading"]
    assert state["done"] == 1
    seen: list[str] = []
    load_exports(str(exports), database, tag, lambda what, done, total: seen.append(what))
    assert seen[0].endswith(state["loading"])
    assert_holds(database, tag, store, tmp_path / "full")


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
    with pytest.raises(ConfigError, match=r"has documents that no export brought: .* choose another --tag"):
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

    def test_service_that_is_not_there_is_a_storage_error(self, history: tuple[ztfmatch.Store, Path], tag: str) -> None:
        nobody = connect("mongodb://me:secret@127.0.0.1:9/", RetryConfig(tries=1, select_timeout_s=0.2))
        with pytest.raises(StorageError, match="MongoDB failed 1 times") as raised:
            load_exports(str(history[1]), nobody, tag)
        assert "secret" not in str(raised.value)
        nobody.close()

    def test_database_is_kowalski_unless_the_uri_names_one(self) -> None:
        for uri, name in (("mongodb://127.0.0.1:9/", "kowalski"), ("mongodb://127.0.0.1:9/mine", "mine")):
            opened = connect(uri)
            assert opened.handle.name == name
            assert isinstance(opened.handle.client, pymongo.MongoClient)
            opened.close()


def test_everything_is_what_the_histories_begin_with(survey: Survey, tmp_path: Path) -> None:
    assert everything(survey, tmp_path / "store").snapshot().status.exposures == 12
