"""Matchfiles made up for the purpose: over borders of tiles, with transients, in batches, and bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import AT_A_BORDER, command
from helpers import assert_same, epochal_file, fate_in, reference_file, rows_at, runner, sky_content, table
from matchfiles import ARCSEC, UNIT, Content, make_content, read_matchfile, set_times, write_matchfile

import ztfmatch
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import BadInputError, CommitConflictError, ConfigError, OutputExistsError, StoreNotFoundError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.survey import Unit
from ztfmatch.matchfile import ingest as operation
from ztfmatch.matchfile.ingest import ImportConfig, ImportReport, import_matchfiles

pytest.importorskip("tables", reason="PyTables makes the tests' matchfiles: pip install 'ztfmatch[test]'")
pytest.importorskip("h5py", reason="matchfiles need h5py: pip install 'ztfmatch[matchfile]'")


def ingest(place: Path, *files: Path, **settings: Any) -> tuple[Storage, ImportReport]:
    storage = Storage.at(place)
    config = ImportConfig(create=StoreConfig(), **settings)
    return storage, import_matchfiles(storage, [str(file) for file in files], config, runner())


def assert_out_as_in(place: Path, content: Content, to: Path) -> None:
    """Every epoch and exposure comes out of a store as it is in a matchfile, in its order."""
    ztfmatch.open_store(place).snapshot().export_matchfiles(to)
    got = read_matchfile(to)
    for name in ("exposures", "sourcedata", "transientdata"):
        assert got[name].tobytes() == content.tables[name].tobytes(), name
    for name in ("sources", "transients"):
        assert got[name]["matchid"].tolist() == content.tables[name]["matchid"].tolist()
        counts = np.bincount(content.tables[f"{name[:-1]}data"]["matchid"], minlength=len(got[name]))
        assert got[name]["nobs"].tolist() == counts.tolist()


@pytest.mark.parametrize("rows_per_task", [10**6, 25])
def test_import_with_transients_over_a_border_comes_out_as_it_went_in(tmp_path: Path, rows_per_task: int) -> None:
    content = make_content(centre=(AT_A_BORDER[0] - 0.02, AT_A_BORDER[1]), sources=30)
    storage, report = ingest(tmp_path / "store", write_matchfile(tmp_path, content), rows_per_task=rows_per_task)
    assert report.matched == len(content.tables["sourcedata"])
    assert report.orphans == len(content.tables["transientdata"])
    assert (report.moved, report.rejected, report.exposures) == (0, 0, 12)
    assert len({file.tile for file in ztfmatch.open_store(storage.root).snapshot().files.of_table("detections")}) == 2
    assert verify_store(storage, runner(), deep=True).passed
    assert_out_as_in(tmp_path / "store", content, tmp_path / "out.pytable")


def test_import_in_batches_gives_the_same_store(tmp_path: Path) -> None:
    file = write_matchfile(tmp_path, make_content(centre=(AT_A_BORDER[0] - 0.02, AT_A_BORDER[1])))
    whole, _ = ingest(tmp_path / "whole", file)
    parts, _ = ingest(tmp_path / "parts", file, rows_per_task=20)
    assert_same(sky_content(whole), sky_content(parts))
    assert table_of(whole, "imported").equals(table_of(parts, "imported"))


def of_filter(fid: int) -> Content:
    """Of a unit, with times of its own."""
    return make_content(Unit(300, 20, fid), seed=fid, first_mjd=58300.25 + fid / 10)


def table_of(storage: Storage, name: str) -> Any:
    rows = ztfmatch.open_store(storage.root).snapshot().table(name)
    return rows.sort_by([(key, "ascending") for key in ztfmatch.TABLES[name].sorted_by])


def test_import_of_several_units_is_one_commit_with_the_seeds_of_all(tmp_path: Path) -> None:
    files = [
        write_matchfile(tmp_path, make_content(Unit(300, 20, fid), seed=fid, first_mjd=58300.25 + fid / 10))
        for fid in (1, 2, 3)
    ]
    storage, report = ingest(tmp_path / "store", *files)
    assert (report.imported, report.objects, report.snapshot) == (3, 60, 0)
    assert table(storage, "references").num_rows == 3
    assert verify_store(storage, runner()).passed


def test_import_of_two_units_with_one_exposure_refuses_the_second(tmp_path: Path) -> None:
    files = [write_matchfile(tmp_path, make_content(Unit(300, 20, fid))) for fid in (1, 2)]
    storage, report = ingest(tmp_path / "store", *files)
    assert [(row.filename, row.code) for row in report.quarantined] == [(files[1].name, "conflict")]
    assert f"is of another unit in {files[0]}" in report.quarantined[0].reason
    _, again = ingest(tmp_path / "store", *files)
    assert [row.code for row in again.quarantined] == ["conflict"]
    assert verify_store(storage, runner()).passed


def test_import_of_a_second_matchfile_of_a_unit_takes_the_first(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [write_matchfile(tmp_path, make_content()), write_matchfile(tmp_path / "other", make_content(seed=1))]
    _, report = ingest(tmp_path / "store", *files)
    assert (report.imported, [row.code for row in report.quarantined]) == (1, ["duplicate"])


def test_import_of_a_grown_matchfile_takes_what_is_new(tmp_path: Path) -> None:
    """The survey appends to its files: exposures that are known stay as they are."""
    grown = make_content(exposures=12)
    early = grown.tables["exposures"]["expid"][:7]
    young = Content(UNIT, dict(grown.tables), grown.attributes)
    for name in ("exposures", "sourcedata", "transientdata"):
        young.tables[name] = grown.tables[name][np.isin(grown.tables[name]["expid"], early)]
    (tmp_path / "young").mkdir()
    storage, first = ingest(tmp_path / "store", write_matchfile(tmp_path / "young", young))
    _, second = ingest(tmp_path / "store", write_matchfile(tmp_path, grown))
    assert (first.exposures, second.exposures, second.known_exposures, second.objects) == (7, 5, 7, 0)
    assert verify_store(storage, runner()).passed
    ztfmatch.open_store(storage.root).snapshot().export_matchfiles(tmp_path / "out.pytable")
    got = read_matchfile(tmp_path / "out.pytable")["sourcedata"]
    keys = ("matchid", "expid")
    assert np.sort(got, order=keys).tobytes() == np.sort(grown.tables["sourcedata"], order=keys).tobytes()


def test_import_matches_by_the_rules_and_says_how_many_epochs_moved(tmp_path: Path) -> None:
    content = make_content(transients=0)
    data, sources = content.tables["sourcedata"], content.tables["sources"]
    data["ra"][0], data["dec"][0] = sources["ra"][1], sources["dec"][1] + 0.2 * ARCSEC
    data["ra"][-1] += 8.0 * ARCSEC
    taken = data["expid"][data["matchid"] == 1]
    data["expid"][0] = np.setdiff1d(content.tables["exposures"]["expid"], taken)[0] if len(taken) < 12 else taken[0]
    row = content.tables["exposures"][content.tables["exposures"]["expid"] == data["expid"][0]][0]
    data["mjd"][0], data["programid"][0] = row["obsmjd"] + 15.0 / 86400.0, row["programid"]
    set_times(data)
    storage, report = ingest(tmp_path / "store", write_matchfile(tmp_path, content))
    assert report.moved == 2
    assert report.orphans == 1
    assert verify_store(storage, runner()).passed


def test_import_then_append_gives_lightcurves_of_both(tmp_path: Path) -> None:
    content = make_content(transients=0)
    storage, _ = ingest(tmp_path / "store", write_matchfile(tmp_path, content))
    sources = content.tables["sources"]
    night = epochal_file(tmp_path, rows_at(sources["ra"], sources["dec"]), unit=UNIT)
    store = ztfmatch.open_store(storage.root)
    assert store.append(str(night)).matched == 20
    assert verify_store(storage, runner()).passed
    counts = np.bincount(content.tables["sourcedata"]["matchid"], minlength=20) + 1
    base = 300_206_100_000_000
    fate = fate_in(storage)
    assert [list(fate.matched.values()).count(base + i) for i in range(20)] == counts.tolist()
    store.snapshot().export_matchfiles(tmp_path / "out.pytable")
    assert read_matchfile(tmp_path / "out.pytable")["sources"]["nobs"].tolist() == counts.tolist()


def test_import_into_store_with_other_seeds_matches_to_those(tmp_path: Path) -> None:
    content = make_content(transients=0)
    sources = content.tables["sources"]
    reference = reference_file(tmp_path, rows_at(sources["ra"][::2], sources["dec"][::2]), unit=UNIT)
    storage = ztfmatch.init_store(tmp_path / "store", str(reference)).storage
    _, report = ingest(tmp_path / "store", write_matchfile(tmp_path, content))
    even = content.tables["sourcedata"]["matchid"] % 2 == 0
    assert (report.objects, report.matched, report.orphans) == (0, even.sum(), (~even).sum())
    assert report.moved == len(even) - (content.tables["sourcedata"]["matchid"] == 0).sum()
    assert verify_store(storage, runner()).passed


def _without(name: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content.tables.pop(name)

    return change


def _without_column(content: Content) -> None:
    rows = content.tables["sourcedata"]
    content.tables["sourcedata"] = rows[[name for name in rows.dtype.names or () if name != "hjd"]].copy()


def _of_type(content: Content) -> None:
    rows = content.tables["sourcedata"]
    kinds = [(name, "<f8" if name == "matchid" else rows.dtype[name]) for name in rows.dtype.names or ()]
    content.tables["sourcedata"] = rows.astype(kinds)


def _set(table_name: str, column: str, row: int, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content.tables[table_name][column][row] = value

    return change


def _attribute(name: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content.attributes.__setitem__(name, value)


def _unlisted(**values: float) -> Callable[[Content], None]:
    """The file does not list the exposure of its first epoch, whose epochs have these values."""

    def change(content: Content) -> None:
        listed, rows = content.tables["exposures"], content.tables["sourcedata"]
        expid = rows["expid"][0]
        content.tables["exposures"] = listed[listed["expid"] != expid]
        content.tables["transientdata"] = content.tables["transientdata"][:0]
        for name, value in values.items():
            rows[name][rows["expid"] == expid] = value

    return change


BAD: dict[str, tuple[Callable[[Content], None], str, str]] = {
    "table": (_without("transients"), "layout", "no table /matches/transients"),
    "column": (_without_column, "layout", "table sourcedata has no column hjd"),
    "type": (_of_type, "layout", "column matchid of sourcedata is float64; expected uint32"),
    "filter": (_attribute("filterID", np.int64(7)), "layout", "fid 7 is not one of"),
    "attribute": (_attribute("ccdID", np.int64(7)), "contradiction", "ccdID 7, quadrantID 1; expected 6, 1"),
    "field": (_attribute("fieldID", np.int64(301)), "contradiction", "the name says unit 000300_zr_c06_q1"),
    "position": (_set("sources", "ra", 3, np.nan), "positions", "source 3 is at ra nan"),
    "matchid": (_set("sources", "matchid", 3, 2), "contradiction", "matchid 2 is in sources 2 times"),
    "number": (_set("sources", "matchid", 3, -1), "layout", "reach from -1 to 19; expected 0..9999999"),
    "hjd": (_set("sourcedata", "hjd", 5, 2458000.0), "times", "hjd 2458000.0 of row 5 is "),
    "mjd": (_set("sourcedata", "mjd", 5, 0.0), "contradiction", "; expected one time"),
    "program": (_set("sourcedata", "programid", 5, 7), "contradiction", "has programids"),
    "nan": (_set("sourcedata", "hjd", 5, np.nan), "times", "hjd nan; expected finite times"),
    "obsmjd": (_set("exposures", "obsmjd", 5, np.nan), "times", "obsmjd nan; expected 57754 (2017) or later"),
    "early": (_set("exposures", "obsmjd", 5, 0.0), "times", "obsmjd 0.0; expected 57754"),
    "never": (_set("exposures", "obsmjd", 5, 1e300), "times", "obsmjd 1e+300; expected 57754"),
    "unlisted": (_unlisted(mjd=np.nan), "times", "mjd nan, hjd 24583"),
    "unlisted later": (_unlisted(mjd=1e300), "times", "s from heliocentric mid-exposure"),
    "unlisted nowhere": (_unlisted(mjd=np.nan, ra=np.nan), "times", "is not listed, and none of its rows has a time"),
    "exposure": (_set("exposures", "fieldid", 5, 7), "contradiction", "is of field 7, rcid 20, filter 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_import_of_a_bad_matchfile_is_refused_and_the_good_one_taken(tmp_path: Path, what: str) -> None:
    change, code, reason = BAD[what]
    bad = make_content()
    change(bad)
    name = write_matchfile(tmp_path, bad, "ztf_000300_zr_c06_q1_match.pytable").name
    good = write_matchfile(tmp_path, make_content(Unit(300, 20, 1), first_mjd=58300.35))
    storage, report = ingest(tmp_path / "store", tmp_path)
    assert [(row.filename, row.code) for row in report.quarantined] == [(name, code)]
    assert reason in report.quarantined[0].reason
    assert (report.imported, report.objects) == (1, 20)
    listed = table(storage, "quarantine").to_pylist()
    assert [(row["source"], row["code"]) for row in listed] == [(str(tmp_path / name), code)]
    write_matchfile(tmp_path, make_content(), name)
    _, again = ingest(tmp_path / "store", tmp_path)
    assert (again.known, again.imported) == (1, 1)
    assert table(storage, "quarantine").num_rows == 0
    assert good.exists()


@pytest.mark.parametrize(
    ("share", "reason"),
    [(0.0, "empty: the file is empty"), *((share, "truncated: it ends after ") for share in (0.2, 0.5, 0.98))],
)
def test_import_of_a_cut_matchfile_is_refused_in_one_line(tmp_path: Path, share: float, reason: str) -> None:
    file = write_matchfile(tmp_path, make_content())
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    done = command("import", "matchfile", tmp_path / "store", file, "--create")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert f"none of 1 matchfiles can be used, nothing was ingested. {file}: {reason}" in done.stderr
    assert not (tmp_path / "store").exists()


def test_import_strict_of_a_bad_matchfile_fails_and_changes_nothing(tmp_path: Path) -> None:
    write_matchfile(tmp_path, make_content(Unit(300, 20, 1), first_mjd=58300.35))
    (tmp_path / "ztf_000300_zr_c06_q1_match.pytable").write_bytes(b"junk")
    with pytest.raises(BadInputError, match=r"--strict: 1 bad matchfiles; .*zr_c06_q1_match.pytable: no HDF5 file"):
        ingest(tmp_path / "store", tmp_path, strict=True)
    assert not (tmp_path / "store").exists()


def test_import_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    file = write_matchfile(tmp_path, make_content())
    with pytest.raises(StoreNotFoundError, match=r"no such store; make one with 'ztfmatch init', or of .* --create"):
        import_matchfiles(Storage.at(tmp_path / "store"), [str(file)], ImportConfig(), runner())
    assert not (tmp_path / "store").exists()


def test_import_of_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/x: matchfiles are read from local disks only"):
        import_matchfiles(Storage.at(tmp_path), ["s3://bucket/x"], ImportConfig(create=StoreConfig()), runner())


def _overtaken(monkeypatch: pytest.MonkeyPatch, by: Callable[[], object]) -> None:
    """Let another writer commit between the tasks of the next import and its commit."""
    real, once = operation.log.commit, [by]

    def commit(*arguments: Any) -> Any:
        if once:
            once.pop()()
        return real(*arguments)

    monkeypatch.setattr(operation.log, "commit", commit)


def test_import_commits_on_top_of_an_append_that_came_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_content(transients=0)
    sources = content.tables["sources"]
    reference = reference_file(tmp_path, rows_at(sources["ra"], sources["dec"]), unit=UNIT)
    store = ztfmatch.init_store(tmp_path / "store", str(reference))
    night = epochal_file(tmp_path, rows_at(sources["ra"], sources["dec"]), unit=UNIT)
    file = write_matchfile(tmp_path, content)
    _overtaken(monkeypatch, lambda: store.append(str(night)))
    _, report = ingest(tmp_path / "store", file)
    assert (report.snapshot, report.exposures) == (2, 12)
    assert store.snapshot().status.exposures == 13
    assert verify_store(store.storage, runner()).passed
    assert set(table(store.storage, "exposures")["commit"].to_pylist()) == {1, 2}


def test_import_that_another_of_the_same_exposures_overtook_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content()
    ingest(tmp_path / "store", write_matchfile(tmp_path, of_filter(1)))
    file = write_matchfile(tmp_path, content)
    _overtaken(monkeypatch, lambda: ingest(tmp_path / "store", file, rows_per_task=20))
    with pytest.raises(CommitConflictError, match=r"another writer changed the objects or tiles .* during this import"):
        ingest(tmp_path / "store", file)
    assert verify_store(Storage.at(tmp_path / "store"), runner()).passed


def test_import_of_a_new_unit_that_an_append_of_it_overtook_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exposures that came in wait for a reference: the import would give them one, and not match them."""
    store = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at([10.0], [10.0]))))
    content = make_content()
    sources = content.tables["sources"]
    night = epochal_file(tmp_path, rows_at(sources["ra"], sources["dec"]), unit=UNIT)
    file = write_matchfile(tmp_path, content)
    _overtaken(monkeypatch, lambda: store.append(str(night)))
    with pytest.raises(
        CommitConflictError,
        match=r"another writer ingested exposures of units that would get their first reference .* during this import",
    ):
        ingest(tmp_path / "store", file)
    with pytest.raises(BadInputError) as caught:
        ingest(tmp_path / "store", file)
    assert [row.code for row in caught.value.refused] == ["no-reference"]
    assert verify_store(store.storage, runner()).passed


def test_import_that_an_exposure_of_the_same_key_of_another_unit_overtook_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(first_mjd=58515.25)
    content.tables["exposures"]["fracday"][0] = 20190201250000  # that of the night
    places = rows_at(content.tables["sources"]["ra"], content.tables["sources"]["dec"])
    other = Unit(UNIT.field, UNIT.rcid, 1)
    references = [str(reference_file(tmp_path, places, unit=unit)) for unit in (UNIT, other)]
    store = ztfmatch.init_store(tmp_path / "store", references)
    night, file = epochal_file(tmp_path, places, unit=other), write_matchfile(tmp_path, content)
    _overtaken(monkeypatch, lambda: store.append(str(night)))
    with pytest.raises(
        CommitConflictError, match=r"another writer ingested some of the same exposures .* during this import"
    ):
        ingest(tmp_path / "store", file)
    with pytest.raises(BadInputError) as caught:
        ingest(tmp_path / "store", file)
    assert [row.code for row in caught.value.refused] == ["conflict"]


def test_import_of_a_file_without_new_exposures_that_another_import_of_it_overtook_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(tmp_path / "store", write_matchfile(tmp_path, make_content()))
    other = make_content()
    other.attributes["datetimeMatched"] = "2021-01-01"
    file = write_matchfile(tmp_path, other)
    _overtaken(monkeypatch, lambda: ingest(tmp_path / "store", file, rows_per_task=20))
    with pytest.raises(
        CommitConflictError, match=r"another writer ingested some of the same matchfiles .* during this import"
    ):
        ingest(tmp_path / "store", file)
    storage, again = ingest(tmp_path / "store", file)
    assert (again.known, again.committed) == (1, False)
    assert table_of(storage, "matchfiles").num_rows == 2


def test_import_that_another_left_nothing_to_commit_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = write_matchfile(tmp_path, make_content())
    ingest(tmp_path / "store", known)
    bad = tmp_path / "bad" / "ztf_000301_zr_c06_q1_match.pytable"
    bad.parent.mkdir()
    bad.write_bytes(b"")
    _overtaken(monkeypatch, lambda: ingest(tmp_path / "store", known, bad, rows_per_task=20))
    storage, report = ingest(tmp_path / "store", known, bad)
    assert (report.committed, report.snapshot, len(report.quarantined)) == (False, 1, 1)
    assert table_of(storage, "quarantine").num_rows == 1
    assert len(ztfmatch.Store(storage).commits()) == 2


def test_import_of_exposures_that_wait_for_a_reference_is_refused(tmp_path: Path) -> None:
    reference = reference_file(tmp_path, rows_at([10.0], [10.0]))
    store = ztfmatch.init_store(tmp_path / "store", str(reference))
    sources = make_content().tables["sources"]
    store.append(str(epochal_file(tmp_path, rows_at(sources["ra"], sources["dec"]), unit=UNIT)))
    with pytest.raises(BadInputError, match="1 exposures of unit 000300_zr_c06_q1 wait for a reference") as caught:
        ingest(tmp_path / "store", write_matchfile(tmp_path, make_content()))
    assert [row.code for row in caught.value.refused] == ["no-reference"]


def test_export_of_a_unit_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    ingest(tmp_path / "store", write_matchfile(tmp_path, make_content()))
    done = command("export", "matchfile", tmp_path / "store", "--field", 301, "-o", tmp_path / "x")
    assert done.exit_code == 2
    assert "has no unit of field 301; it has 000300_zr_c06_q1" in done.stderr
    assert not (tmp_path / "x").exists()


def test_export_of_several_units_needs_a_directory_and_names_their_files(tmp_path: Path) -> None:
    files = [
        write_matchfile(tmp_path, make_content(Unit(300, 20, fid), first_mjd=58300.25 + fid / 10)) for fid in (1, 2)
    ]
    ingest(tmp_path / "store", *files)
    done = command("export", "matchfile", tmp_path / "store", "-o", tmp_path / "x")
    assert (done.exit_code, "2 units are of all units" in done.stderr) == (2, True)
    (tmp_path / "out").mkdir()
    assert command("export", "matchfile", tmp_path / "store", "-o", tmp_path / "out").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)


def test_export_replaces_existing_files_only_with_overwrite(tmp_path: Path) -> None:
    ingest(tmp_path / "store", write_matchfile(tmp_path, make_content()))
    made = tmp_path / "mine.pytable"
    made.write_text("mine")
    words = ("export", "matchfile", tmp_path / "store", "-o", made)
    done = command(*words)
    assert (done.exit_code, made.read_text()) == (2, "mine")
    assert f"{made} exists already: give --overwrite" in done.stderr
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        ztfmatch.open_store(tmp_path / "store").snapshot().export_matchfiles(made)
    assert command(*words, "--overwrite").exit_code == 0
    assert len(read_matchfile(made)["sources"])


def test_export_of_an_orphan_whose_flux_has_no_error_warns_of_nothing(tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at([10.0], [10.0]))))
    store.append(str(epochal_file(tmp_path, rows_at([10.0, 10.1], [10.0, 10.1], flux=100.0, sigflux=[10.0, 0.0]))))
    store.snapshot().export_matchfiles(tmp_path / "out.pytable")
    assert read_matchfile(tmp_path / "out.pytable")["transientdata"]["snr"].tolist() == [np.inf]


@pytest.mark.parametrize(("expid", "written"), [(7, 7), (None, 76425000), (-3, 76425000), (2**40, 76425000)])
def test_export_of_an_expid_that_has_no_room_writes_what_the_survey_s_would_be(
    tmp_path: Path, expid: int | None, written: int
) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(reference_file(tmp_path, rows_at([10.0], [10.0]))))
    store.append(str(epochal_file(tmp_path, rows_at([10.0], [10.0]), 3, EXPID=expid)))
    store.snapshot().export_matchfiles(tmp_path / "out.pytable")
    made = read_matchfile(tmp_path / "out.pytable")
    assert [made[name]["expid"].tolist() for name in ("exposures", "sourcedata")] == [[written], [written]]


# Values that a column of the store cannot hold


def with_programs(content: Content, programs: dict[int, int]) -> Content:
    """Give exposures, by their place in the list, and their epochs other programs."""
    for place, program in programs.items():
        expid = content.tables["exposures"]["expid"][place]
        for name in ("exposures", "sourcedata", "transientdata"):
            rows = content.tables[name]
            rows["programid"][rows["expid"] == expid] = program
    return content


def test_import_programs_that_are_none_are_told_and_null_where_the_ledger_does_not_hold_them(tmp_path: Path) -> None:
    """65535 is -1 in 16 bits, as the catflags of the edge are; the good file beside it goes in too."""
    odd = with_programs(of_filter(1), {0: 65535, 1: 200, 2: 127, 3: 40_000})
    files = [write_matchfile(tmp_path, odd), write_matchfile(tmp_path, of_filter(2))]
    with pytest.raises(
        BadInputError,
        match=r"--strict: 3 of 24 new exposures are of a program that is none of 1, 2 and 3 \(127, 200, 40000\)",
    ):
        ingest(tmp_path / "strict", *files, strict=True)
    storage, report = ingest(tmp_path / "store", *files)
    assert (report.imported, report.exposures, report.quarantined) == (2, 24, [])
    assert [(notice.code, notice.files) for notice in report.warnings] == [("odd-program", [str(files[0])])]
    ledger = table(storage, "exposures").to_pylist()
    stored = {row["expid"]: row["programid"] for row in ledger if row["fid"] == 1}
    expids = odd.tables["exposures"]["expid"].tolist()
    assert [stored[expid] for expid in expids[:5]] == [-1, None, 127, None, 2]
    assert verify_store(storage, runner()).passed


def test_import_program_minus_one_comes_out_as_it_went_in(tmp_path: Path) -> None:
    content = with_programs(make_content(), {0: 65535})
    ingest(tmp_path / "store", write_matchfile(tmp_path, content))
    assert_out_as_in(tmp_path / "store", content, tmp_path / "out.pytable")


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("referenceImageID", "unknown", "rfid: "),
        ("referenceImageID", np.float64("nan"), "rfid: "),
        ("nCalibrationSources", np.uint64(2**63), "ncalibrators: "),
        ("referenceZeroPoint", "26.5", "referencezp: "),
        ("datetimeMatched", np.int64(2020), "datetimematched: "),
        ("A", "none", "errora: "),
    ],
)
def test_import_attribute_that_no_column_holds_is_quarantined_and_the_good_one_goes_in(
    tmp_path: Path, attribute: str, value: Any, why: str
) -> None:
    bad = of_filter(1)
    bad.attributes[attribute] = value
    files = [write_matchfile(tmp_path, bad), write_matchfile(tmp_path, of_filter(2))]
    _, report = ingest(tmp_path / "store", *files)
    assert report.imported == 1
    assert [(row.code, row.source) for row in report.quarantined] == [("layout", str(files[0]))]
    assert report.quarantined[0].reason.startswith(why)


# Places


def test_import_through_links_in_upper_case_and_with_misnamed_ones(tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "place"
    disk.mkdir()
    place.mkdir()
    (place / "link").symlink_to(disk)
    (place / "circle").symlink_to(place)
    file = write_matchfile(disk, make_content())
    file.rename(disk / file.name.upper())
    (disk / f"{file.name}.gz").write_bytes(b"x")
    with pytest.raises(BadInputError, match="--strict: 1 file looks like a matchfile but is not named as such"):
        ingest(tmp_path / "strict", place, strict=True)
    _, report = ingest(tmp_path / "store", place)
    assert (report.imported, report.files, report.quarantined) == (1, 1, [])
    assert [(notice.code, notice.files) for notice in report.warnings] == [
        ("misnamed", [str(place / "link" / f"{file.name}.gz")])
    ]
