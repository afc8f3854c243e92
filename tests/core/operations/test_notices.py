"""What an operation warns of, and refuses where that was asked for: names, programs, orphans."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from helpers import append, epochal_file, make_store, reference_file, rows_at, runner, table

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.survey import parse_catalog_name

ROWS = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_store(tmp_path / "s", [reference_file(tmp_path, ROWS)])


def exposures_csv(directory: Path, programs: dict[Path, int | None]) -> Path:
    """An exposure table with the programs of some catalogs."""
    path = directory / "exposures.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filefracday", "rcid", "programid"])
        for catalog, program in programs.items():
            name = parse_catalog_name(catalog.name)
            assert name is not None
            writer.writerow([name.fracday, name.unit.rcid, "" if program is None else program])
    return path


def told(report: Any) -> list[tuple[str, list[str]]]:
    return [(notice.code, [Path(file).name for file in notice.files]) for notice in report.warnings]


# Programs


def test_append_catalogs_without_a_program_are_counted_and_listed(tmp_path: Path, storage: Storage) -> None:
    catalogs = [epochal_file(tmp_path, ROWS, night, PROGRMID=None) for night in range(4)]
    files = exposures_csv(tmp_path, {catalogs[0]: 2, catalogs[1]: None, catalogs[3]: 1})
    with pytest.raises(
        BadInputError, match=r"--strict: 1 of 4 catalogs have no row in .*exposures.csv; first .*_20190203"
    ):
        append(storage, catalogs, exposures=files, strict=True)
    with pytest.raises(BadInputError, match="--strict: 1 of 1 new catalogs are of no program, which neither"):
        append(storage, catalogs[1:2], exposures=files, strict=True)
    assert commit_numbers(storage) == [0]
    report = append(storage, catalogs, exposures=files)
    assert told(report) == [("no-row", [catalogs[2].name]), ("no-program", [catalogs[1].name, catalogs[2].name])]
    assert "2 of 4 new catalogs are of no program" in report.warnings[1].message
    assert table(storage, "exposures")["programid"].to_pylist() == [2, None, None, 1]
    assert told(append(storage, catalogs)) == []  # nothing new


def test_append_without_a_table_warns_where_headers_have_no_program(tmp_path: Path, storage: Storage) -> None:
    catalogs = [epochal_file(tmp_path, ROWS, 0), epochal_file(tmp_path, ROWS, 1, PROGRMID=None)]
    assert told(append(storage, catalogs)) == [("no-program", [catalogs[1].name])]


@pytest.mark.parametrize(
    ("program", "stored"), [(-1, -1), (0, 0), (4, 4), (127, 127), (128, None), (65535, None), ("public", None)]
)
def test_append_odd_program_is_as_the_file_has_it_or_null_with_a_count(
    tmp_path: Path, storage: Storage, program: object, stored: int | None
) -> None:
    """Beside a good one, which goes in; and the same by an exposure table."""
    catalogs = [epochal_file(tmp_path, ROWS, 0), epochal_file(tmp_path, ROWS, 1, PROGRMID=program)]
    files: dict[str, Any] = {}
    if not isinstance(program, str):
        catalogs.append(epochal_file(tmp_path, ROWS, 2, PROGRMID=None))
        files = {"exposures": exposures_csv(tmp_path, {catalogs[0]: 1, catalogs[1]: program, catalogs[2]: program})}  # type: ignore[dict-item]
    odd = [] if stored == -1 else [("odd-program", [path.name for path in catalogs[1:]])]
    if odd:
        said = rf"--strict: .* are of a program that is none of 1, 2 and 3 \({program}\), and are in no release"
        with pytest.raises(BadInputError, match=said):
            append(storage, catalogs, strict=True, **files)
    report = append(storage, catalogs, **files)
    assert (report.exposures, report.quarantined) == (len(catalogs), [])
    assert told(report) == odd
    assert table(storage, "exposures")["programid"].to_pylist() == [1, *[stored] * (len(catalogs) - 1)]


def test_append_again_with_another_program_says_that_the_store_keeps_its_own(tmp_path: Path, storage: Storage) -> None:
    """As after an append that lacked the table."""
    catalogs = [epochal_file(tmp_path, ROWS, night, PROGRMID=None) for night in range(3)]
    append(storage, catalogs, exposures=exposures_csv(tmp_path, {catalogs[2]: 3}))
    report = append(
        storage, catalogs, exposures=exposures_csv(tmp_path, {catalogs[0]: 1, catalogs[1]: None, catalogs[2]: 3})
    )
    assert (report.committed, report.known) == (False, 3)
    assert told(report) == [("other-program", [catalogs[0].name])]
    assert "1 of 3 known catalogs are of another program in the store, which stays" in report.warnings[0].message
    assert table(storage, "exposures")["programid"].to_pylist() == [None, None, 3]


# Names


def test_misnamed_catalogs_are_counted_and_refused_by_strict(tmp_path: Path, storage: Storage) -> None:
    night = tmp_path / "night"
    night.mkdir()
    epochal_file(night, ROWS)
    for name in ("a_psfcat.fit", "b_psfcat.fits.part", "c-psfcat.fits"):
        epochal_file(night, ROWS, 1, name=name)
    with pytest.raises(
        BadInputError, match=r"--strict: 3 files look like catalogs but are not named as such; first .*a_"
    ):
        append(storage, [night], strict=True)
    report = append(storage, [night])
    assert told(report) == [("misnamed", ["a_psfcat.fit", "b_psfcat.fits.part", "c-psfcat.fits"])]
    assert report.catalogs == 1
    (tmp_path / "alone").mkdir()
    epochal_file(tmp_path / "alone", ROWS, 1, name="a_psfcat.fit")
    report = append(storage, [tmp_path / "alone"])
    assert (report.committed, told(report)) == (False, [("misnamed", ["a_psfcat.fit"])])
    with pytest.raises(
        BadInputError, match=r"no \*_psfcat.fits in .*alone; 1 file looks like a catalog but is not named"
    ):
        append(storage, [tmp_path / "alone"], fail_if_empty=True)


def test_misnamed_references_are_counted_and_refused_by_strict(tmp_path: Path) -> None:
    folder = tmp_path / "references"
    folder.mkdir()
    reference_file(folder, ROWS)
    reference_file(folder, ROWS, name="x_refpsfcat.fits~")
    place, config = Storage.at(tmp_path / "s"), StoreConfig()
    with pytest.raises(BadInputError, match="--strict: 1 file looks like a catalog but is not named as such"):
        init_store(place, [str(folder)], config, runner(), strict=True)
    for _ in range(2):  # made, and found made
        assert told(init_store(place, [str(folder)], config, runner())) == [("misnamed", ["x_refpsfcat.fits~"])]
    with pytest.raises(BadInputError, match="--strict: 1 file looks like a catalog"):
        rematch(place, [str(folder)], RematchConfig(strict=True), runner())
    assert told(rematch(place, [str(folder)], RematchConfig(), runner())) == [("misnamed", ["x_refpsfcat.fits~"])]


# Orphans


@pytest.mark.parametrize(("orphans", "warned"), [(2, False), (3, False), (4, True)])
def test_append_of_which_more_than_half_are_orphans_warns(
    tmp_path: Path, storage: Storage, orphans: int, warned: bool
) -> None:
    rows = rows_at([10.0, 10.1, 10.2, *(11.0 + i for i in range(orphans))], 20.0)
    report = append(storage, [epochal_file(tmp_path, rows)], strict=True)
    assert (report.matched, report.orphans) == (3, orphans)
    assert told(report) == ([("orphans", [])] if warned else [])
    if warned:
        assert report.warnings[0].message.startswith("4 of 7 rows are orphans, more than half: ")
    assert told(append(storage, [tmp_path])) == []
