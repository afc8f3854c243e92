"""The public interface: complete, keyword-only where it is long, and readable."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import append, epochal_file, make_store, reference_file, rows_at

import ztfmatch
from ztfmatch import api
from ztfmatch.api import running, snapshot, store
from ztfmatch.core import errors
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.runner import no_progress
from ztfmatch.core.settings import WithPaths

ALIASES = {"Circle", "Filters", "Ids", "Place", "Places", "Progress", "Running"}
"""Names of plain values: numbers, texts, paths and functions."""
OTHERS = {"Any", "Axes", "Callable", "Expression", "Dataset", "Iterable", "None", "Sequence", "Table", "Unpack"} | {
    "bool", "dict", "ds", "float", "int", "list", "pa", "str", "tuple"
}  # fmt: skip
"""Names in annotations that are not ours."""

FUNCTIONS = [getattr(ztfmatch, name) for name in ("open_store", "init_store", "import_matchfiles", "check_catalogs")]
"""Public functions beside the methods."""


def members(cls: type) -> Iterator[Callable[..., Any]]:
    """Public methods and properties of a class, as functions."""
    for name, member in vars(cls).items():
        if not name.startswith("_"):
            function = getattr(member, "fget", None) or getattr(member, "func", None) or member
            if inspect.isfunction(function):
                yield function


def names_in(function: Callable[..., Any]) -> set[str]:
    """Names in the annotations of a function, as they are written."""
    return set(re.findall(r"\w+", " ".join(map(str, function.__annotations__.values()))))


@pytest.mark.parametrize(
    "function", [*members(api.Store), *members(api.Snapshot), *FUNCTIONS], ids=lambda f: f.__name__
)
def test_all_has_every_class_that_a_method_takes_or_gives(function: Callable[..., Any]) -> None:
    assert names_in(function) - ALIASES - OTHERS - {"log"} <= set(ztfmatch.__all__)


def test_names_in_of_a_method_that_gives_an_unlisted_class_has_it() -> None:
    """Else the test above could not fail."""
    assert {"Store", "ImportReport", "Running"} <= names_in(api.import_matchfiles)
    assert "InitReport" in names_in(api.create)
    assert {"Status", "Answer", "Query"} <= {name for one in members(api.Snapshot) for name in names_in(one)}


def test_all_has_every_error() -> None:
    ours = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert ours <= set(ztfmatch.__all__)


def test_all_names_what_there_is() -> None:
    assert {name for name in ztfmatch.__all__ if getattr(ztfmatch, name, None) is None} == set()
    assert set(ztfmatch.__all__) <= set(dir(ztfmatch))
    assert "os" not in dir(ztfmatch)


def public_dataclasses() -> list[type]:
    return [value for name in ztfmatch.__all__ if dataclasses.is_dataclass(value := getattr(ztfmatch, name))]


@pytest.mark.parametrize("cls", public_dataclasses())
def test_public_dataclass_takes_at_most_three_values_by_place(cls: type) -> None:
    assert len([field for field in dataclasses.fields(cls) if field.init and not field.kw_only]) <= 3


@pytest.mark.parametrize("module", [store, snapshot])
def test_methods_that_run_tasks_show_their_keywords(module: ModuleType) -> None:
    functions = [f for cls in (api.Store, api.Snapshot) for f in members(cls) if f.__module__ == module.__name__]
    runs = [one for one in functions if "running" in one.__annotations__]
    assert len(runs) > 5
    for one in runs:
        parameters = inspect.signature(one).parameters
        assert list(parameters)[-2:] == list(running.Running.__annotations__)
        assert parameters["progress"].default is no_progress
        assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def test_store_and_snapshot_of_a_path_say_how_they_are_opened(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"open a store by its path with ztfmatch.open_store\('survey.store'\)"):
        ztfmatch.Store("survey.store")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"open a snapshot with ztfmatch.open_store\(...\).snapshot\(\), not from"):
        ztfmatch.Snapshot(tmp_path)  # type: ignore[arg-type]


def test_keyword_that_no_method_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"init_store\(\) got an unexpected keyword argument 'worker'$"):
        ztfmatch.init_store(tmp_path / "store", "nowhere", worker=2)
    with pytest.raises(TypeError, match=r"did you mean resources=Resources\(workers=\.\.\.\)\?"):
        ztfmatch.init_store(tmp_path / "store", "nowhere", workers=2)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    place = tmp_path_factory.mktemp("<survey>")
    rows = rows_at([10.0, 10.1], [5.0, 5.1])
    storage = make_store(place / "store", [reference_file(place, rows)])
    append(storage, [epochal_file(place, rows)])
    return ztfmatch.open_store(place / "store")


def test_store_repr_reads_nothing_and_notebook_has_the_newest_commits(opened: ztfmatch.Store, tmp_path: Path) -> None:
    assert repr(opened) == f"Store\n  path  {opened.path}"
    page = opened._repr_html_()
    assert page.index(">append<") < page.index(">init<")
    assert "&lt;survey&gt;" in page
    assert "<survey>" not in page
    gone = api.Store(Storage.at(tmp_path / "gone"))
    assert "gone" in repr(gone)
    assert "gone" in gone._repr_html_()


def test_snapshot_and_status_repr_have_the_figures(opened: ztfmatch.Store) -> None:
    at = opened.snapshot()
    text, page = repr(at), at._repr_html_()
    for word in ("Snapshot", "append", "detections", opened.path):
        assert word in text
    assert re.search(r"^    detections +2 +1 ", text, re.MULTILINE)
    assert ">detections</td>" in page
    assert re.search(r"^  detections +2$", repr(at.status), re.MULTILINE)


def test_one_place_id_or_name_stands_for_a_list_of_it(opened: ztfmatch.Store) -> None:
    at, catalogs = opened.snapshot(), next(Path(opened.path).parent.glob("*_psfcat.fits"))
    (first, second) = at.table("objects", "objectid")["objectid"].to_pylist()
    assert opened.append(catalogs).known == opened.append([catalogs]).known == 1
    for one in (first, str(first), np.int64(first), [str(first)], {first}):
        assert at.objects(one)["objectid"].to_pylist() == [first]
    asked = ztfmatch.Query(objectids=second, columns="objectid", filters=2)
    assert at.query(asked).to_arrow().to_pydict() == {"objectid": [second]}
    assert len(at.query(ztfmatch.Query(objectids=np.array([first, second]), columns=("ra",)))) == 2


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda at: at.objects("x"), "id 'x': expected an integer"),
        (lambda at: at.objects(679205100005000.5), "id 679205100005000.5: expected an integer"),
        (lambda at: at.objects(np.inf), "id inf: expected an integer"),
        (lambda at: at.lineage(2**63), "id 9223372036854775808: expected an integer of 64 bits"),
        (lambda at: at.stars(679205100005000), "679205100005000 is not a starid"),
        (lambda at: at.members(-1), "-1 is not a starid"),
        (lambda at: at.objects(cone="111"), "a circle '111'; expected"),
        (lambda at: at.near("10"), "a position '10'; expected"),
        (lambda at: at.near((10.0,)), "expected .ra, dec. or a SkyCoord"),
    ],
)
def test_what_is_no_id_or_place_is_not_taken_apart(
    opened: ztfmatch.Store, ask: Callable[[ztfmatch.Snapshot], object], complaint: str
) -> None:
    with pytest.raises(errors.ConfigError, match=complaint):
        ask(opened.snapshot())


def test_snapshot_below_0_is_none(opened: ztfmatch.Store) -> None:
    with pytest.raises(errors.SnapshotNotFoundError, match="no snapshot -1; the newest is"):
        opened.snapshot(-1)


def test_store_counts_its_snapshots_and_a_snapshot_its_objects(opened: ztfmatch.Store, tmp_path: Path) -> None:
    assert (len(opened), len(opened.commits())) == (2, 2)
    assert len(opened.snapshot()) == opened.snapshot().table("objects").num_rows == 2
    empty = make_store(tmp_path / "store", [reference_file(tmp_path, rows_at([], []))])
    store = ztfmatch.open_store(empty.root)
    assert (len(store), len(store.snapshot())) == (1, 0)
    assert store
    assert store.snapshot()


def test_answer_and_report_repr_are_read_without_their_rows(opened: ztfmatch.Store) -> None:
    answer = opened.snapshot().query(ztfmatch.Query("objects", "fid == 1", columns=["objectid", "ra"]))
    assert repr(answer).splitlines()[0] == "Answer"
    assert re.search(r"^  columns +objectid, ra$", repr(answer), re.MULTILINE)
    report = opened.update_statistics()
    assert re.search(r"^  committed +yes$", repr(report), re.MULTILINE)
    assert "<td" in report._repr_html_()


def test_answer_has_a_length_and_shows_its_first_rows(opened: ztfmatch.Store) -> None:
    answer = opened.snapshot().query(ztfmatch.Query("objects"))
    assert (len(answer), bool(answer), answer.head(1).num_rows) == (2, True, 1)
    assert sum(table.num_rows for table in answer) == 2
    lines = str(answer).splitlines()
    assert lines[0].split()[:4] == ["objectid", "filter", "ra", "dec"]
    assert (len(lines), lines[-1]) == (2 + 2 + 1, "2 rows; 15 columns")
    page = answer._repr_html_()
    for row in answer.to_arrow().to_pylist():
        assert f">{row['objectid']}</td>" in page
    assert ">2 rows</td>" in page
    none = opened.snapshot().query(ztfmatch.Query(where="refmag < 0"))
    assert (len(none), bool(none)) == (0, False)
    assert "0 rows" in str(none)
    assert "0 rows" in none._repr_html_()


def test_settings_take_texts_for_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    given = ztfmatch.AppendConfig(exposures="a.csv", error_models=["b_zg.dat", Path("c_zr.dat")], corrections="~/set")
    assert given == ztfmatch.AppendConfig(
        exposures=Path("a.csv"),
        error_models=(Path("b_zg.dat"), Path("c_zr.dat")),
        corrections=Path("/home/someone/set"),
    )
    assert ztfmatch.AppendConfig(error_models="b_zg.dat").error_models == (Path("b_zg.dat"),)
    assert ztfmatch.AuditInputs("ps1.parquet").ps1 == Path("ps1.parquet")


def test_every_public_dataclass_with_paths_takes_texts() -> None:
    public = [getattr(ztfmatch, name) for name in ztfmatch.__all__]
    with_paths = [
        kind
        for kind in public
        if dataclasses.is_dataclass(kind)
        and any(re.search(r"\bPath\b(?! \| str)", str(field.type)) for field in dataclasses.fields(kind))
    ]
    assert len(with_paths) >= 9
    assert [kind for kind in with_paths if not issubclass(kind, WithPaths)] == []


def test_functions_take_texts_for_paths(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(ztfmatch.ConfigError):
        ztfmatch.check_product(nowhere)
    with pytest.raises(ztfmatch.CorrectionsError):
        ztfmatch.export_survey_tables(nowhere, nowhere)
    with pytest.raises(ztfmatch.CatalogError):
        ztfmatch.correct_catalog(nowhere, ztfmatch.CatalogInputs(nowhere))
    with pytest.raises(ztfmatch.ConfigError):
        ztfmatch.moc_region(nowhere)


def test_note_that_is_no_text_leaves_a_store_that_can_be_read(tmp_path: Path) -> None:
    reference = reference_file(tmp_path, rows_at([10.0], [10.0]))
    made = ztfmatch.init_store(tmp_path / "store", str(reference))
    made.append(epochal_file(tmp_path, rows_at([10.0], [10.0])), ztfmatch.AppendConfig(note=20190107))
    made.update_statistics(note=Path("night"))
    made.rollback(1, note=np.int64(7))
    assert [commit.note for commit in made.commits()] == [None, "20190107", "night", "7"]
    assert made.verify(deep=True).passed


def test_numbers_of_numpy_are_taken_for_settings(tmp_path: Path) -> None:
    reference = reference_file(tmp_path, rows_at([10.0], [10.0]))
    config = ztfmatch.StoreConfig(radius_arcsec=np.float32(1.5), seeds_per_tile=np.int64(9), max_order=np.int8(5))
    made = ztfmatch.init_store(tmp_path / "store", str(reference), config)
    settings = ztfmatch.AppendConfig(rows_per_task=np.int64(100), replace=np.bool_(True))
    made.append(epochal_file(tmp_path, rows_at([10.0], [10.0])), settings)
    made.update_statistics(np.int64(10))
    made.rollback(np.int64(1))
    assert made.vacuum(np.int64(1), grace_hours=0.0).deleted
    assert ztfmatch.open_store(tmp_path / "store").snapshot().status.detections == 1


@pytest.mark.parametrize("number", [1.0, "1", True])
def test_snapshot_that_is_no_whole_number_is_refused(tmp_path: Path, number: Any) -> None:
    made = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at([10.0], [10.0]))))
    told = rf"snapshot is {number!r}; expected a whole number"
    for do in (made.snapshot, made.rollback, lambda one: made.verify(snapshot=one), lambda one: made.compare(0, one)):
        with pytest.raises(ztfmatch.ConfigError, match=told):
            do(number)
    with pytest.raises(ztfmatch.ConfigError, match="snapshot is None"):
        made.rollback(None)  # type: ignore[arg-type]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("keep", "grace_hours", "told"),
    [
        ("3", 24.0, "keep is '3'; expected a whole number, at least 1"),
        (1.5, 24.0, "keep is 1.5; expected a whole number, at least 1"),
        (None, 24.0, "keep is None; expected a whole number, at least 1"),
        (0, 24.0, "keep is 0; expected at least 1"),
        (1, "24", "grace_hours is '24'; expected a number, at least 0"),
        (1, -1.0, "grace_hours is -1.0; expected at least 0"),
        (1, float("nan"), "grace_hours is nan; expected at least 0"),
    ],
)
def test_vacuum_of_what_is_no_number_is_refused_and_deletes_nothing(
    tmp_path: Path, keep: Any, grace_hours: Any, told: str
) -> None:
    made = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at([10.0], [10.0]))))
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(ztfmatch.ConfigError, match=re.escape(told)):
        made.vacuum(keep, grace_hours=grace_hours)
    assert sorted((tmp_path / "store").rglob("*")) == before
