"""Files that cannot be used: each quarantined with its code, and the good ones beside it go in."""

from __future__ import annotations

import io
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at, runner, table

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.survey import Unit, psfcat_name, refpsfcat_name

ROWS = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])
NAME = psfcat_name(UNIT, 20190205250000)
Spoil = Callable[[Path], None]


def whole(path: Path) -> bytes:
    return epochal_file(path.parent, ROWS, 4, name=path.name).read_bytes()


def contents(data: bytes) -> Spoil:
    return lambda path: (path.write_bytes(data), None)[1]


def cut(length: int) -> Spoil:
    return lambda path: (path.write_bytes(whole(path)[:length]), None)[1]


def replaced(old: bytes, new: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        data = whole(path)
        assert data.count(old) >= 1
        assert len(old) == len(new)
        path.write_bytes(data.replace(old, new, 1))

    return spoil


def directory(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "gone.fits")


def loop(path: Path) -> None:
    path.symlink_to(path)


def fifo(path: Path) -> None:
    import os

    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 40)


def keys(**changed: Any) -> Spoil:
    return lambda path: (epochal_file(path.parent, ROWS, 4, name=path.name, **changed), None)[1]


def rows(**changed: Any) -> Spoil:
    return lambda path: (
        epochal_file(path.parent, rows_at(ROWS["ra"], ROWS["dec"], **changed), 4, name=path.name),
        None,
    )[1]


def a_reference(path: Path) -> None:
    reference_file(path.parent, ROWS, name=path.name)


def altered(path: Path) -> None:
    """One byte of one row is another than when its checksum was made."""
    with fits.open(io.BytesIO(whole(path))) as hdus:
        hdus.writeto(path, checksum=True, overwrite=True)
    data = bytearray(path.read_bytes())
    data[-2880 + 30] ^= 1
    path.write_bytes(data)


NAXIS2 = b"NAXIS2  =                    3"
BAD: dict[str, tuple[Spoil, str, str]] = {
    "empty": (contents(b""), "empty", "0 bytes"),
    "text": (contents(b"<html>404 not found</html>"), "not-fits", "starts with b'<html>404'"),
    "zeros": (contents(bytes(28800)), "not-fits", "expected b'SIMPLE  ='"),
    "gzip of nothing": (contents(b"\x1f\x8b\x08" + bytes(5757)), "damaged", "not a whole gzip stream: "),
    "cut in the first header": (cut(1000), "truncated", "within its primary header"),
    "cut after the first header": (cut(2880), "truncated", "within its table header"),
    "cut in the second header": (cut(5000), "truncated", "within its table header"),
    "cut before the rows": (cut(2880 + 5760), "truncated", "the file holds"),
    "cut in the rows": (cut(2880 + 5760 + 100), "truncated", "need 174 bytes; the file holds 100"),
    "more rows than bytes": (replaced(NAXIS2, b"NAXIS2  =                   99"), "truncated", "NAXIS2 = 99 rows"),
    "absurdly many rows": (replaced(NAXIS2, b"NAXIS2  =    99999999999999999"), "truncated", "NAXIS2 = 9999999999"),
    "negative rows": (replaced(NAXIS2, b"NAXIS2  =                   -1"), "layout", "NAXIS2 is -1"),
    "absurd width": (replaced(b"                  58", b"          5800000000"), "layout", "NAXIS1 is 5800000000"),
    "absurd fields": (replaced(b"                  13", b"           999999999"), "layout", "TFORM 'None'"),
    "other column": (replaced(b"'flux    '", b"'fluxx   '"), "layout", "no column 'flux'"),
    "other type": (replaced(b"TFORM4  = '1D", b"TFORM4  = '1K"), "layout", "column 'ra' is >i8; expected >f8"),
    "image": (replaced(b"'BINTABLE'", b"'IMAGE   '"), "layout", "'IMAGE'; expected 'BINTABLE'"),
    "sourceid twice": (rows(sourceid=[1, 2, 1]), "layout", "sourceid 1 occurs more than once"),
    "altered": (altered, "damaged", "DATASUM of the table HDU is "),
    "not ASCII": (replaced(b"MAGZP ", b"MAG\xffP "), "not-fits", "not ASCII"),
    "no MAGZP": (keys(MAGZP=None), "layout", "no MAGZP"),
    "MAGZP is NaN": (replaced(b"              26.0625", b"                  NAN"), "layout", "no MAGZP"),
    "no OBSMJD": (keys(OBSMJD=None), "layout", "no OBSMJD"),
    "OBSMJD is a JD": (keys(OBSMJD=2458519.75), "layout", "expected a modified Julian date"),
    "EXPTIME absurd": (keys(EXPTIME=1e300), "layout", "EXPTIME is 1e"),
    "field inf": (replaced(b"                  500 / Field", b"                1E400 / Field"), "layout", "is inf"),
    "field of another": (keys(FIELDID=501), "contradiction", "FIELDID is 501 in the header, 500 by the file name"),
    "filter of another": (keys(FILTERID=3), "contradiction", "FILTERID is 3 in the header, 2 by the file name"),
    "channel of another": (keys(RCID=3, CCDID=1, QID=4), "contradiction", "RCID is 3 in the header, 20 by the file"),
    "channel against itself": (keys(CCDID=7), "contradiction", "RCID is 20, but CCDID 7 and QID 1 make 24"),
    "a reference": (a_reference, "layout", "it is a reference catalog"),
    "directory": (directory, "unreadable", "not a regular file"),
    "dangling link": (dangling, "unreadable", "not a regular file, or is gone"),
    "link to itself": (loop, "unreadable", "not a regular file"),
    "pipe": (fifo, "unreadable", "not a regular file"),
    "ten terabytes of nothing": (huge, "too-large", f"has {10 << 40} bytes"),
}  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_store(tmp_path / "s", [reference_file(tmp_path, ROWS)])


@pytest.mark.parametrize("case", BAD)
def test_append_bad_file_is_quarantined_and_the_good_one_goes_in(tmp_path: Path, storage: Storage, case: str) -> None:
    spoil, code, why = BAD[case]
    night = tmp_path / "night"
    night.mkdir()
    spoil(night / NAME)
    good = epochal_file(night, ROWS)
    report = append(storage, [night])
    assert (report.committed, report.catalogs, report.exposures, report.matched) == (True, 2, 1, 3)
    assert [(row.code, row.source) for row in report.quarantined] == [(code, str(night / NAME))]
    stored = table(storage, "quarantine").to_pylist()
    assert len(stored) == 1
    assert (stored[0]["code"], stored[0]["filename"], stored[0]["source"]) == (code, NAME, str(night / NAME))
    assert why in stored[0]["reason"]
    assert (stored[0]["sha256"] is None) == (code in ("unreadable", "too-large"))
    again = append(storage, [night])
    assert (again.committed, again.known, len(again.quarantined)) == (False, 1, 1)
    assert commit_numbers(storage) == [0, 1]
    assert table(storage, "exposures")["source"].to_pylist() == [str(good)]


@pytest.mark.parametrize("case", ["empty", "cut in the rows", "field of another", "MAGZP is NaN", "directory"])
def test_append_strict_fails_and_commits_nothing(tmp_path: Path, storage: Storage, case: str) -> None:
    spoil, _, why = BAD[case]
    spoil(tmp_path / NAME)
    epochal_file(tmp_path, ROWS)
    with pytest.raises(BadInputError, match="--strict: 1 bad catalogs; ") as caught:
        append(storage, [tmp_path], strict=True)
    assert why in str(caught.value)
    assert commit_numbers(storage) == [0]


def test_append_strict_with_good_catalogs_takes_them(tmp_path: Path, storage: Storage) -> None:
    assert append(storage, [epochal_file(tmp_path, ROWS)], strict=True).matched == 3


def test_append_only_bad_files_fails_and_commits_nothing(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / NAME).write_bytes(b"junk")
    for _ in range(2):
        with pytest.raises(BadInputError, match=rf"none of 1 catalogs can be used.*{NAME}: not-fits: ") as caught:
            append(storage, [tmp_path / NAME])
        assert [row.source for row in caught.value.refused] == [str(tmp_path / NAME)]
    assert commit_numbers(storage) == [0]
    assert table(storage, "quarantine").num_rows == 0


def test_append_many_bad_files_alone_names_some(tmp_path: Path, storage: Storage) -> None:
    for i in range(7):
        (tmp_path / psfcat_name(UNIT, 20190301000000 + i)).write_bytes(b"x")
    with pytest.raises(BadInputError, match=r"none of 7 catalogs .*ztf_20190301000004_\S+: not-fits: .*; and 2 more$"):
        append(storage, [tmp_path])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A catalog that goes in beside bad ones, and is known after that."""
    return epochal_file(tmp_path, ROWS, 7)


def test_append_bad_in_another_way_replaces_its_entry(tmp_path: Path, storage: Storage, good: Path) -> None:
    for content, code in ((b"junk", "not-fits"), (b"", "empty"), (b"trash", "not-fits")):
        (tmp_path / NAME).write_bytes(content)
        assert append(storage, [tmp_path / NAME, good]).committed
        assert table(storage, "quarantine")["code"].to_pylist() == [code]
    assert commit_numbers(storage) == [0, 1, 2, 3]
    assert table(storage, "quarantine", 2)["code"].to_pylist() == ["empty"]


def test_append_mended_file_goes_in_and_clears_its_entry_and_no_other(
    tmp_path: Path, storage: Storage, good: Path
) -> None:
    other = tmp_path / psfcat_name(UNIT, 20190206250000)
    other.write_bytes(b"")
    (tmp_path / NAME).write_bytes(b"junk")
    append(storage, [tmp_path / NAME, other, good])
    assert table(storage, "quarantine").num_rows == 2
    epochal_file(tmp_path, ROWS, 4, name=NAME)
    report = append(storage, [tmp_path / NAME, other])
    assert (report.exposures, report.matched, len(report.quarantined)) == (1, 3, 1)
    assert table(storage, "quarantine")["source"].to_pylist() == [str(other)]
    assert table(storage, "quarantine", 1).num_rows == 2
    assert table(storage, "quarantine")["commit"].to_pylist() == [1]


def test_append_replaced_by_a_good_file_elsewhere_clears_its_entry(
    tmp_path: Path, storage: Storage, good: Path
) -> None:
    bad, again = tmp_path / "night" / NAME, tmp_path / "again"
    for place in (bad.parent, again):
        place.mkdir()
    bad.write_bytes(b"junk")
    append(storage, [bad, good])
    replacement = epochal_file(again, ROWS, 4, name=NAME)
    assert [row.source for row in append(storage, [bad, replacement]).quarantined] == [str(bad)]
    assert table(storage, "quarantine")["source"].to_pylist() == [str(bad)]
    assert append(storage, [replacement]).known == 1
    assert table(storage, "quarantine").num_rows == 0


def test_append_good_file_leaves_the_entry_of_its_namesake_of_other_content(
    tmp_path: Path, storage: Storage, good: Path
) -> None:
    first = epochal_file(tmp_path, ROWS)
    other = tmp_path / "again"
    other.mkdir()
    append(storage, [first])
    append(storage, [epochal_file(other, ROWS[:2], name=first.name), good])
    assert append(storage, [first]).known == 1
    assert table(storage, "quarantine")["code"].to_pylist() == ["conflict"]


def test_append_spoilt_after_it_was_taken_in_is_quarantined_and_its_rows_stay(
    tmp_path: Path, storage: Storage, good: Path
) -> None:
    path = epochal_file(tmp_path, ROWS)
    append(storage, [path, good])
    path.write_bytes(b"junk")
    assert append(storage, [path, good]).quarantined[0].code == "not-fits"
    assert table(storage, "detections").num_rows == 6


def test_append_many_bad_files_one_entry_each(tmp_path: Path, storage: Storage) -> None:
    for i in range(70):
        (tmp_path / psfcat_name(UNIT, 20190301000000 + i)).write_bytes(b"x" * i)
    report = append(storage, [*tmp_path.glob("ztf_20190301*"), epochal_file(tmp_path, ROWS)])
    assert (len(report.quarantined), report.exposures) == (70, 1)
    assert table(storage, "quarantine").num_rows == 70


# Duplicates and conflicts


def test_append_known_content_under_another_name_is_a_duplicate(tmp_path: Path, storage: Storage) -> None:
    first = epochal_file(tmp_path, ROWS, name=psfcat_name(UNIT, 20190201249500))
    copy = shutil.copy(first, tmp_path / "copy_of_psfcat.fits")
    for names in ([first, copy], [copy, first]):
        report = append(storage, names)
        assert [row.code for row in report.quarantined] == ["duplicate"]
        assert f"it is the exposure of {first.name}, under another name" in report.quarantined[0].reason
    assert table(storage, "detections").num_rows == 3
    assert table(storage, "quarantine")["filename"].to_pylist() == ["copy_of_psfcat.fits"]


def test_append_copy_whose_time_gives_the_same_number_is_known(tmp_path: Path, storage: Storage) -> None:
    first = epochal_file(tmp_path, ROWS)
    copy = shutil.copy(first, tmp_path / "copy_of_psfcat.fits")
    report = append(storage, [first, copy])
    assert (report.exposures, report.known, report.quarantined) == (1, 1, [])


def test_append_duplicate_within_one_run_takes_the_surveys_own_name(tmp_path: Path, storage: Storage) -> None:
    """Whatever order they come in: the survey's number is never later than OBSMJD."""
    named = epochal_file(tmp_path, ROWS, name=psfcat_name(UNIT, 20190201249500))
    copy = shutil.copy(named, tmp_path / "aaa_psfcat.fits")
    report = append(storage, [copy, named])
    assert (report.exposures, [row.source for row in report.quarantined]) == (1, [str(copy)])


def test_append_other_content_of_a_known_exposure_is_a_conflict(tmp_path: Path, storage: Storage) -> None:
    first = epochal_file(tmp_path, ROWS)
    append(storage, [first])
    other = tmp_path / "again" / first.name
    other.parent.mkdir()
    epochal_file(other.parent, ROWS[:2], name=first.name)
    report = append(storage, [first, other])
    assert [row.code for row in report.quarantined] == ["conflict"]
    assert f"known from {first.name}, other content ('append --replace' takes it)" in report.quarantined[0].reason
    assert table(storage, "detections").num_rows == 3
    assert append(storage, [first, other]).committed is False


def test_append_next_exposure_of_the_night_is_no_duplicate(tmp_path: Path, storage: Storage) -> None:
    """Forty seconds later; and another channel at the same instant."""
    first = epochal_file(tmp_path, ROWS)
    later = epochal_file(tmp_path, ROWS, name=psfcat_name(UNIT, 20190201250463), OBSMJD=58515.25 + 40.0 / 86400.0)
    beside = epochal_file(tmp_path, ROWS, unit=Unit(500, 21, 2))
    report = append(storage, [first, later, beside])
    assert (report.exposures, report.quarantined) == (3, [])


# Reference catalogs


def init(place: Path, references: list[Path], strict: bool = False) -> Any:
    return init_store(Storage.at(place), [str(p) for p in references], StoreConfig(), runner(), strict)


OTHER = Unit(501, 20, 2)
REFERENCE_NAME = refpsfcat_name(OTHER)
BAD_REFERENCES: dict[str, tuple[Spoil, str]] = {
    "empty": (contents(b""), "empty"),
    "junk": (contents(b"junk"), "not-fits"),
    "directory": (directory, "unreadable"),
    "dangling": (dangling, "unreadable"),
    "epochal": (lambda path: (epochal_file(path.parent, ROWS, name=path.name, unit=OTHER), None)[1], "layout"),
    "other field": (lambda p: (reference_file(p.parent, ROWS, Unit(502, 20, 2), p.name), None)[1], "contradiction"),
    "no position": (
        lambda path: (reference_file(path.parent, rows_at([10.0, np.nan], [20.0, 20.0]), OTHER), None)[1], "positions",
    ),
    "position off the sky": (
        lambda path: (reference_file(path.parent, rows_at([10.0, 10.0], [20.0, 90.5]), OTHER), None)[1], "positions",
    ),
    "sourceid twice": (
        lambda path: (
            reference_file(path.parent, rows_at([1, 2, 3], [4, 5, 6], sourceid=[1, 3, 3]), OTHER), None
        )[1],
        "layout",
    ),
    "sourceid too large": (
        lambda path: (
            reference_file(path.parent, rows_at([1, 2, 3], [4, 5, 6], sourceid=[1, 10**7, 3]), OTHER), None
        )[1],
        "layout",
    ),
    "sourceid negative": (
        lambda path: (reference_file(path.parent, rows_at(1.0, 2.0, sourceid=-1), OTHER), None)[1], "layout",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REFERENCES)
def test_init_bad_reference_is_quarantined_and_the_good_one_makes_the_store(tmp_path: Path, case: str) -> None:
    spoil, code = BAD_REFERENCES[case]
    folder = tmp_path / "references"
    folder.mkdir()
    spoil(folder / REFERENCE_NAME)
    reference_file(folder, ROWS)
    with pytest.raises(BadInputError, match="--strict: "):
        init(tmp_path / "strict", [folder], strict=True)
    assert not (tmp_path / "strict").exists()
    report = init(tmp_path / "s", [folder])
    assert (report.references, report.objects, [row.code for row in report.quarantined]) == (1, 3, [code])
    stored = table(Storage.at(tmp_path / "s"), "quarantine").to_pylist()
    assert [(row["code"], row["filename"]) for row in stored] == [(code, REFERENCE_NAME)]


def test_init_without_a_usable_reference_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / REFERENCE_NAME).write_bytes(b"junk")
    with pytest.raises(BadInputError, match=r"none of 1 reference catalogs can be used, .*starts with b'junk'"):
        init(tmp_path / "s", [tmp_path / REFERENCE_NAME])
    assert not (tmp_path / "s").exists()


def test_init_second_reference_of_a_unit_is_a_duplicate(tmp_path: Path) -> None:
    first = reference_file(tmp_path, ROWS, name="a_refpsfcat.fits")
    reference_file(tmp_path, ROWS[:1], name="b_refpsfcat.fits")
    shutil.copy(first, tmp_path / "c_refpsfcat.fits")
    report = init(tmp_path / "s", [tmp_path])
    assert [(row.code, row.filename) for row in report.quarantined] == [("duplicate", "b_refpsfcat.fits")]
    assert report.objects == 3


# Places


@pytest.mark.parametrize("place", ["nowhere", "nowhere/*.fits"])
def test_append_of_nothing_raises(tmp_path: Path, storage: Storage, place: str) -> None:
    with pytest.raises(ConfigError, match="no such file or directory"):
        append(storage, [tmp_path / place])
    assert commit_numbers(storage) == [0]


def test_append_of_an_empty_directory_is_nothing_to_do_unless_asked(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "empty").mkdir()
    report = append(storage, [tmp_path / "empty"])
    assert (report.committed, report.catalogs, report.exposures) == (False, 0, 0)
    with pytest.raises(BadInputError, match=r"no \*_psfcat.fits in"):
        append(storage, [tmp_path / "empty"], fail_if_empty=True)
    assert commit_numbers(storage) == [0]


def test_append_directory_takes_only_epochal_names(tmp_path: Path, storage: Storage) -> None:
    """The reference beside it and notes are not read; a file that is named outright is."""
    (tmp_path / "notes.txt").write_text("hello")
    odd = epochal_file(tmp_path, ROWS, 1, name="odd.fits")
    epochal_file(tmp_path, ROWS)
    assert append(storage, [tmp_path]).catalogs == 1
    assert append(storage, [odd]).exposures == 1


# Memory


def test_append_absurd_row_count_takes_no_memory(tmp_path: Path, storage: Storage) -> None:
    """Neither a header's promise nor a sparse file of ten terabytes is believed."""
    good = epochal_file(tmp_path, ROWS)
    append(storage, [good])
    BAD["absurdly many rows"][0](tmp_path / NAME)
    huge(tmp_path / psfcat_name(UNIT, 20190207250000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = append(storage, [good, tmp_path / NAME, *tmp_path.glob("ztf_20190207*")])
    assert sorted(row.code for row in report.quarantined) == ["too-large", "truncated"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_append_damaged_bytes_anywhere_never_break_the_run(tmp_path: Path, storage: Storage) -> None:
    """A block of junk laid over any part of a catalog: it is ingested or quarantined; its neighbour goes in."""
    rng = np.random.default_rng(4)
    data = whole(tmp_path / NAME)
    catalogs = []
    for i, at in enumerate(rng.integers(0, len(data), 60).tolist()):
        junk = rng.integers(32, 127, rng.integers(1, 90), np.uint8).tobytes()
        path = tmp_path / f"{i:03d}" / NAME
        path.parent.mkdir()
        path.write_bytes((data[:at] + junk + data[at + len(junk) :])[: len(data)])
        catalogs.append(path)
    report = append(storage, [*catalogs, epochal_file(tmp_path, ROWS)])
    assert report.exposures + report.known + len(report.quarantined) == 61
    assert report.exposures >= 1
    assert report.rows == report.matched + report.orphans + report.rejected
