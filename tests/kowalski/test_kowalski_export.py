"""Exports as files: names, bytes, limits, interruptions, cursors that do not fit."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at
from kowalski_exports import documents_of, export, lines_of, tables_of, text_of
from kowalski_oracle import differences, store_documents
from kowalski_survey import OTHER, UNITS, Append, Rematch, Rollback, Survey, everything, make_survey

import ztfmatch
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import BadInputError, ConfigError, JobFailedError, SnapshotNotFoundError
from ztfmatch.core.io.parquet import Destination, OpenFile, write_file
from ztfmatch.core.io.storage import Storage, StorageError
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.kowalski.export import KowalskiConfig
from ztfmatch.kowalski.io.jsonlines import LinesForm
from ztfmatch.kowalski.tasks.exposures import ExposuresTask, export_exposures
from ztfmatch.kowalski.tasks.scope import Scope

HALF = tuple((unit, night) for unit in UNITS for night in (0, 2))
ALL = tuple((unit, night) for unit in UNITS for night in range(4))


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def store(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    """Not to be changed: three snapshots, the last two of appends."""
    made = ztfmatch.Store(survey.store(tmp_path_factory.mktemp("store") / "store"))
    for catalogs in (HALF, ALL):
        Append(catalogs, 0).do(survey, made.storage)
    return made


@pytest.fixture
def changing(store: ztfmatch.Store, tmp_path: Path) -> ztfmatch.Store:
    return ztfmatch.Store(Storage.at(shutil.copytree(store.path, tmp_path / "changing")))


def files_of(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [0, 2])
def test_export_has_the_same_bytes_however_it_is_made(store: ztfmatch.Store, tmp_path: Path, workers: int) -> None:
    expected = files_of(export(store, tmp_path / "one"))
    report = store.export_kowalski(tmp_path / "two", resources=ztfmatch.Resources(workers))
    assert files_of(Path(report.export)) == expected
    assert (report.files, report.epochs) == (len(expected) - 1, sum(len(d["data"]) for d in _sources(report.export)))


def _sources(place: str | Path) -> list[dict[str, Any]]:
    return list(documents_of(Path(place))["sources"].values())


def test_export_to_an_object_store_has_the_same_bytes(store: ztfmatch.Store, tmp_path: Path, s3_bucket: str) -> None:
    report = store.export_kowalski(f"{s3_bucket}/exports")
    place = Storage.at(report.export)
    assert {path: place.read(path) for path, _ in place.list("")} == files_of(export(store, tmp_path / "out"))
    assert not store.export_kowalski(f"{s3_bucket}/exports").written


def test_manifest_names_every_file_with_its_checksum_and_the_snapshots(store: ztfmatch.Store, tmp_path: Path) -> None:
    place = export(store, tmp_path / "out", since=1)
    manifest = json.loads((place / "manifest.json").read_text())
    assert place.name == "0000000002-since-0000000001"
    assert (manifest["since"], manifest["snapshot"], manifest["scope"]) == (1, 2, {})
    assert manifest["store"] == store.commits()[0].store
    assert {file["path"] for file in manifest["files"]} | {"manifest.json"} == files_of(place).keys()
    for file in manifest["files"]:
        content = (place / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    counts = Counter(f"{of} {action}" for of, action, _ in lines_of(place))
    assert manifest["counts"] == counts
    assert counts.keys() >= {"sources update", "sources upsert", "exposures upsert"}


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_export_in_any_compression_has_the_same_lines(store: ztfmatch.Store, tmp_path: Path, compression: str) -> None:
    place = export(store, tmp_path / "out", form=LinesForm(compression))
    expected = export(store, tmp_path / "zstd")
    suffix = {"gzip": ".gz", "none": ""}[compression]
    for path in sorted(expected.glob("*.zst")):
        other = place / f"{path.stem}{suffix}"
        assert text_of(other) == text_of(path)
        if compression == "gzip":
            assert other.read_bytes()[4:8] == bytes(4)  # no time in its header
            assert gzip.decompress(other.read_bytes()).decode() == text_of(path)


@pytest.fixture
def libbson() -> ctypes.CDLL:
    """MongoDB's C library, which reads Extended JSON as mongoimport does."""
    try:
        library = ctypes.CDLL("libbson-1.0.so.0")
    except OSError:
        pytest.skip("libbson is not installed: apt-get install libbson-1.0-0")
    library.bson_new_from_json.restype = library.bson_get_data.restype = ctypes.c_void_p
    library.bson_new_from_json.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t, ctypes.c_void_p]
    library.bson_get_data.argtypes = library.bson_destroy.argtypes = [ctypes.c_void_p]
    return library


def test_line_is_the_same_bson_to_both_of_mongodbs_libraries(
    changing: ztfmatch.Store, survey: Survey, tmp_path: Path, libbson: ctypes.CDLL
) -> None:
    """Types too: integers of 32 and 64 bits, floats, bytes, NaN, null."""
    Rematch(UNIT, 1).do(survey, changing.storage)
    lines = [line for path in export(changing, tmp_path).glob("*.zst") for line in text_of(path).splitlines()]
    assert len(lines) > 50
    for line in lines:
        document = libbson.bson_new_from_json(line.encode(), len(line.encode()), None)
        assert document, line
        data = libbson.bson_get_data(document)
        size = int.from_bytes(ctypes.string_at(data, 4), "little")
        assert ctypes.string_at(data, size) == bson.encode(json_util.loads(line))
        libbson.bson_destroy(document)


def test_export_divides_documents_into_files_of_so_many(store: ztfmatch.Store, tmp_path: Path) -> None:
    whole = documents_of(export(store, tmp_path / "whole"))
    place = export(store, tmp_path / "parts", form=LinesForm(documents=1))
    manifest = json.loads((place / "manifest.json").read_text())
    tiles = Counter(file["path"].rsplit("-", 1)[0] for file in manifest["files"])
    assert len(tiles) > 2
    assert differences(documents_of(place), whole) == []


def test_export_again_writes_nothing(store: ztfmatch.Store, tmp_path: Path) -> None:
    first = store.export_kowalski(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = store.export_kowalski(tmp_path / "out")
    assert (first.written, again.written) == (True, False)
    assert again.counts == first.counts
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_export_beside_one_of_other_settings_is_refused(store: ztfmatch.Store, tmp_path: Path) -> None:
    export(store, tmp_path / "out")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match=r"is an export of everything, .*, not of programs 1, .* another dir"):
        export(store, tmp_path / "out", scope=Scope(programs=(1,)))
    with pytest.raises(ConfigError, match=r"zstd, not of everything, .*gzip"):
        export(store, tmp_path / "out", form=LinesForm("gzip"))
    assert files_of(tmp_path) == before


class _Power:
    """Fails every write after so many."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __enter__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        put = Storage.put

        def cut(storage: Storage, path: str, *parts: Any) -> None:
            if self.left == 0:
                raise StorageError("no power")
            self.left -= 1
            put(storage, path, *parts)

        self._patch.setattr(Storage, "put", cut)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


@pytest.mark.parametrize("since", [None, 1])
def test_interrupted_export_is_finished_by_a_rerun(store: ztfmatch.Store, tmp_path: Path, since: int | None) -> None:
    """At every write: no manifest, no cursor; then the same files as if nothing had been, each line once."""
    cursor = tmp_path / "cursor.json"
    settings: dict[str, Any] = {"since": since} if since else {"cursor": cursor}
    expected = files_of(export(store, tmp_path / "whole", since=since))
    for writes in range(1_000):
        place = tmp_path / f"out-{writes}"
        cursor.unlink(missing_ok=True)
        power = _Power(writes)
        try:
            with power:
                export(store, place, **settings)
        except (JobFailedError, StorageError):
            assert not list(place.rglob("manifest.json"))
            assert not cursor.exists()
            export(store, place, **settings)
        assert files_of(next(place.iterdir())) == expected
        assert [path.name for path in place.rglob("*") if path.is_dir() and path.name == "staging"] == []
        if power.left:
            break
    assert writes > len(expected)


def test_export_tells_of_one_that_was_interrupted_before_other_snapshots_came(
    changing: ztfmatch.Store, survey: Survey, tmp_path: Path
) -> None:
    with pytest.raises(JobFailedError), _Power(4):
        export(changing, tmp_path / "out")
    Rematch(UNIT, 1).do(survey, changing.storage)
    report = changing.export_kowalski(tmp_path / "out")
    assert (Path(report.export).name, report.unfinished) == ("0000000003-full", ["0000000002-full"])


def test_rerun_takes_what_finished_tasks_wrote(store: ztfmatch.Store, tmp_path: Path) -> None:
    with pytest.raises(JobFailedError), _Power(6):
        export(store, tmp_path)
    place = next(tmp_path.iterdir())
    before = {path: path.stat().st_mtime_ns for path in place.glob("*.zst")}
    staged = len(list((place / "staging").rglob("*.json")))
    assert staged == 3
    victim = max(before)
    victim.write_bytes(b"cut")  # a power cut took it: its task is done again
    left = place / f"{victim.name}#123"  # and a writer was killed
    left.touch()
    export(store, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path for path in before if after[path] != before[path]} == {victim}
    assert victim.read_bytes() != b"cut"
    assert not left.exists()


class TestCursor:
    def test_is_made_by_the_first_export_and_moved_by_each(self, survey: Survey, tmp_path: Path) -> None:
        store = ztfmatch.Store(survey.store(tmp_path / "store"))
        cursor = tmp_path / "cursor.json"
        names = []
        for catalogs in (HALF, ALL, ALL):
            Append(catalogs, 0).do(survey, store.storage)
            report = store.export_kowalski(tmp_path / "out", KowalskiConfig(cursor=cursor))
            names.append((report.written, report.since, report.snapshot, json.loads(cursor.read_text())["snapshot"]))
        assert names == [(True, None, 1, 1), (True, 1, 2, 2), (False, 2, 2, 2)]

    def test_may_be_the_first_thing_beside_the_exports(self, store: ztfmatch.Store, tmp_path: Path) -> None:
        export(store, tmp_path / "out", cursor=tmp_path / "out" / "cursor.json")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0000000002-full", "cursor.json"]

    def test_full_begins_it_anew(self, changing: ztfmatch.Store, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor.json"
        export(changing, tmp_path / "out", cursor=cursor)
        report = changing.export_kowalski(tmp_path / "again", KowalskiConfig(cursor=cursor, full=True))
        assert (report.written, report.since) == (True, None)

    def test_of_another_store_is_refused(self, store: ztfmatch.Store, survey: Survey, tmp_path: Path) -> None:
        other = ztfmatch.Store(make_store(tmp_path / "other", [survey.references[UNIT, 0]]))
        export(other, tmp_path / "others", cursor=tmp_path / "cursor.json")
        before = files_of(tmp_path)
        with pytest.raises(ConfigError, match=r"cursor.json is the cursor of another store \(\w+\), not of .* --full"):
            export(store, tmp_path / "out", cursor=tmp_path / "cursor.json")
        assert files_of(tmp_path) == before

    def test_of_another_filter_is_refused(self, store: ztfmatch.Store, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor.json"
        export(store, tmp_path / "out", cursor=cursor, scope=Scope.parse(["program=1,2", "filter=r"]))
        with pytest.raises(ConfigError, match="exports of filters 2, programs 1 2, not of everything: give"):
            export(store, tmp_path / "more", cursor=cursor)

    @pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "x", "version": 1, "digest": "y"}', "\0"])
    def test_that_is_none_is_refused(self, store: ztfmatch.Store, tmp_path: Path, content: str) -> None:
        (tmp_path / "cursor.json").write_text(content)
        with pytest.raises(ConfigError, match=r"cursor.json is not a cursor of 'ztfmatch export kowalski'"):
            export(store, tmp_path / "out", cursor=tmp_path / "cursor.json")
        assert (tmp_path / "cursor.json").read_text() == content

    def test_whose_snapshot_was_vacuumed_is_refused_with_an_offer(
        self, changing: ztfmatch.Store, survey: Survey, tmp_path: Path
    ) -> None:
        cursor = tmp_path / "cursor.json"
        export(changing, tmp_path / "out", cursor=cursor)
        Rematch(UNIT, 1).do(survey, changing.storage)
        changing.vacuum(keep=1, grace_hours=0.0)
        before = cursor.read_text()
        with pytest.raises(SnapshotNotFoundError, match=r"snapshot 2 was removed by a vacuum.*Make a full export"):
            export(changing, tmp_path / "out", cursor=cursor)
        assert cursor.read_text() == before
        made = export(changing, tmp_path / "out", cursor=cursor, full=True)
        assert made.name == "0000000003-full"
        assert json.loads(cursor.read_text())["snapshot"] == 3

    def test_of_a_snapshot_that_a_copy_does_not_have_is_refused(
        self, store: ztfmatch.Store, survey: Survey, tmp_path: Path
    ) -> None:
        """The store was brought back from a copy that was made before, and went on in another way."""
        copy = ztfmatch.Store(Storage.at(shutil.copytree(store.path, tmp_path / "copy")))
        went_on = ztfmatch.Store(Storage.at(shutil.copytree(store.path, tmp_path / "went on")))
        Rematch(UNIT, 1).do(survey, went_on.storage)
        export(went_on, tmp_path / "out", cursor=tmp_path / "cursor.json")
        with pytest.raises(SnapshotNotFoundError, match=r"has no snapshot 3; the newest is 2.*Make a full export"):
            export(copy, tmp_path / "out", cursor=tmp_path / "cursor.json")
        Rematch(OTHER, 1).do(survey, copy.storage)
        with pytest.raises(ConfigError, match=r"snapshot 3 of .* is not the one that was exported"):
            export(copy, tmp_path / "out", cursor=tmp_path / "cursor.json")

    def test_in_no_directory_is_refused_before_the_work(self, store: ztfmatch.Store, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"the directory of the cursor .* does not exist"):
            export(store, tmp_path / "out", cursor=tmp_path / "none" / "cursor.json")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"since": 1, "cursor": Path("c")}, "give one of them"), ({"since": 1, "full": True}, "give one of them"),
     ({"form": LinesForm("lzma")}, "compression 'lzma' is none of zstd, gzip, none"),
     ({"form": LinesForm(documents=0)}, "documents per file 0 must be at least 1")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(
    store: ztfmatch.Store, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export(store, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_since_a_snapshot_that_never_was_is_refused(store: ztfmatch.Store, tmp_path: Path) -> None:
    with pytest.raises(SnapshotNotFoundError, match=r"has no snapshot 9; the newest is 2.*Make a full export"):
        export(store, tmp_path / "out", since=9)
    assert not (tmp_path / "out").exists()


def test_compaction_alone_changes_no_document(changing: ztfmatch.Store, tmp_path: Path) -> None:
    assert changing.compact(CompactConfig(2, full=True)).committed
    manifest = json.loads((export(changing, tmp_path / "out", since=2) / "manifest.json").read_text())
    assert (manifest["files"], manifest["snapshot"]) == ([], 3)


class TestScope:
    @pytest.mark.parametrize(
        ("terms", "message"),
        [(["program"], "expected NAME=VALUE"), (["programs=1"], "a name of field, filter, program, quality"),
         (["program=4"], "'4' is not a number from 1 to 3"), (["field=x"], "'x' is not a number from 1 to 9999"),
         (["filter=u"], "'u' is none of zg, zr, zi, g, r, i, 1, 2, 3"),
         (["quality="], "'' is none of good, bad, unknown"),
         (["program=1", "program=2"], "program is given twice; put its values into one")],
    )  # fmt: skip
    def test_parse_of_wrong_term_is_refused(self, terms: list[str], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Scope.parse(terms)

    def test_parse_sorts_and_names(self) -> None:
        scope = Scope.parse(["filter=i,zg", "field=700,245,245", "quality=good"])
        assert scope == Scope((245, 700), (1, 3), None, ("good",))
        assert scope.to_json() == {"fields": [245, 700], "filters": [1, 3], "qualities": ["good"]}

    @pytest.mark.parametrize("term", ["program=1", "filter=g", "field=500", "quality=good"])
    def test_what_is_outside_is_not_exported(self, store: ztfmatch.Store, tmp_path: Path, term: str) -> None:
        name, value = term.split("=")
        column = {"program": "programid", "filter": "fid", "field": "field", "quality": "quality"}[name]
        wanted = {"g": 1, "good": "good"}.get(value) or int(value)
        got = documents_of(export(store, tmp_path / "out", scope=Scope.parse([term])))
        expected = store_documents(tables_of(store), lambda exposure: exposure[column] == wanted)
        assert 0 < len(got["exposures"]) < 12
        assert differences(got, expected) == []

    def test_only_row_groups_of_the_ledger_with_its_fields_are_read(
        self, store: ztfmatch.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them were read."""
        storage, layout = Storage.at(tmp_path), replace(EXPOSURES, row_group_rows=2)
        rows = store.snapshot().files.read("exposures").sort_by(EXPOSURES.order)
        file = write_file(Destination(storage, layout, None, 0, "x"), rows)
        field = rows["field"][-1].as_py()
        snapshot = replace(store.snapshot().files, storage=storage)
        task = ExposuresTask("x", snapshot, storage, Scope((field,)), LinesForm(), (file,))
        groups: list[int] = []
        original = OpenFile._ahead

        def noted(self: OpenFile, some: Sequence[int], columns: Sequence[str]) -> Any:
            groups.extend(some)
            return original(self, some, columns)

        monkeypatch.setattr(OpenFile, "_ahead", noted)
        written = export_exposures(task)
        fields = rows["field"].to_pylist()
        assert sum(part.documents for part in written.files) == fields.count(field)
        assert groups == [g for g in range(len(fields) // 2) if field in fields[2 * g : 2 * g + 2]]
        assert 0 < len(groups) < len(fields) // 2

    def test_private_epochs_leave_no_trace(self, survey: Survey, tmp_path: Path) -> None:
        """Stores with other private epochs, or none of them, export the same bytes, also after a rematch."""
        seen: list[list[str]] = []
        transients = set()
        for number, content in enumerate((0, 1, None)):
            store = ztfmatch.Store(survey.store(tmp_path / f"store-{number}"))
            public = [(u, n) for i, u in enumerate(UNITS) for n in range(3) if 1 + (n + i) % 3 == 1]
            others = [(unit, night) for unit, night in ALL if (unit, night) not in public]
            Append(tuple(public), 0).do(survey, store.storage)
            if content is not None:
                Append(tuple(others), content).do(survey, store.storage)
            Rematch(OTHER, 1).do(survey, store.storage)
            transients |= set(store.snapshot().table("transients")["transientid"].to_pylist())
            lines = list(lines_of(export(store, tmp_path / f"out-{number}", scope=Scope(programs=(1,)))))
            for _, _, line in lines:
                line.pop("kind", None)  # of a link: which there is depends on all epochs
            seen.append(sorted(json.dumps([of, line], sort_keys=True, default=repr) for of, _, line in lines))
        assert seen[0] == seen[1] == seen[2]
        assert {json.loads(line)[0] for line in seen[0]} == {"sources", "exposures", "lineage"}
        assert transients
        assert not any(str(transient) in line for transient in transients for line in seen[0])
        assert not any("nshared" in line or "fraction" in line for line in seen[0])


def test_exposures_that_kowalski_would_take_for_one_are_refused(tmp_path: Path) -> None:
    rows = rows_at([10.0], [20.0])
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows)])
    append(storage, [epochal_file(tmp_path, rows, night, EXPID=7) for night in (0, 1)])
    with pytest.raises(JobFailedError, match=r"have the same expid, field, rcid and filter") as raised:
        export(ztfmatch.Store(storage), tmp_path / "out")
    assert isinstance(raised.value.__cause__, BadInputError)


def test_rollback_behind_the_cursor_takes_back(changing: ztfmatch.Store, survey: Survey, tmp_path: Path) -> None:
    export(changing, tmp_path / "out", cursor=tmp_path / "cursor.json")
    Rollback(1).do(survey, changing.storage)
    made = export(changing, tmp_path / "out", cursor=tmp_path / "cursor.json")
    actions = Counter((of, action) for of, action, _ in lines_of(made))
    assert actions["exposures", "remove"] == 6
    assert actions["sources", "remove"] > 0
    assert actions["sources", "upsert"] > 0
    assert ("sources", "update") not in actions


def test_store_without_epochs_exports_nothing(survey: Survey, tmp_path: Path) -> None:
    store = ztfmatch.Store(survey.store(tmp_path / "store"))
    assert documents_of(export(store, tmp_path / "out")) == {}


@pytest.fixture(autouse=True, scope="module")
def _unchanged(store: ztfmatch.Store) -> Iterator[None]:
    """An export leaves its store alone."""
    before = files_of(Path(store.path))
    yield
    assert files_of(Path(store.path)) == before


def test_everything_makes_the_store_of_all_catalogs(survey: Survey, tmp_path: Path) -> None:
    assert len(documents_of(export(everything(survey, tmp_path / "store"), tmp_path / "out"))["exposures"]) == 12
