"""Where catalogs are: directories, links and globs on local disks; objects, prefixes and globs by URL; gzipped ones."""

from __future__ import annotations

import glob
import gzip
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from faultproxy import Fault, FaultProxy, always, first, undisturbed

from ztfmatch.core.errors import BucketNotFoundError, CatalogError, ConfigError, StorageError
from ztfmatch.core.io import sources
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, REFERENCE_PATTERN, find, glob_takes, read_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.matchfile.io.reader import PATTERN as MATCHFILE_PATTERN

NAMES = [
    "night/0107/a_psfcat.fits",
    "night/0107/a_sexcat.fits",
    "night/0108/deep/er/b_psfcat.fits",
    "night/0108/c_psfcat.fits",
    "night/0109/notes.txt",
    "night-2/d_psfcat.fits",
    "top_psfcat.fits",
    "odd [1] & %20#?/e_psfcat.fits",
]
PLACES = [
    *("", "/", "night", "night/", "night/0107", "night/0107/a_sexcat.fits", "top_psfcat.fits"),
    *("night/*", "night/*/*_psfcat.fits", "night/**", "night/**/*_psfcat.fits", "night*", "nigh?/010[78]", "**/deep"),
    *("*_psfcat.fits", "*/*/*", "night/0109", "odd [1] & %20#?/e_psfcat.fits", "night/0109/*"),
]


@pytest.fixture
def both(s3_bucket: str, tmp_path: Path) -> tuple[Path, str]:
    """The same files on disk and in a bucket."""
    for place in (tmp_path / "files", s3_bucket):
        storage = Storage.at(place)
        for name in NAMES:
            storage.put(name, name.encode())
    return tmp_path / "files", s3_bucket


@pytest.mark.parametrize("place", PLACES)
def test_expand_url_takes_what_the_same_place_on_disk_has(both: tuple[Path, str], place: str) -> None:
    files, bucket = both
    local = [str(Path(path).relative_to(files)) for path in find([f"{files}/{place}"], EPOCHAL_PATTERN).files]
    assert find([f"{bucket}/{place}"], EPOCHAL_PATTERN).files == [f"{bucket}/{path}" for path in local]


def test_expand_urls_and_paths_together_each_once(both: tuple[Path, str]) -> None:
    files, bucket = both
    places = [f"{bucket}/night/0107", str(files / "top_psfcat.fits"), f"{bucket}/night/**/a_psfcat.fits"]
    assert find(places, EPOCHAL_PATTERN).files == sorted(
        [str(files / "top_psfcat.fits"), f"{bucket}/night/0107/a_psfcat.fits"]
    )


def test_expand_file_url_is_a_path(both: tuple[Path, str]) -> None:
    files, _ = both
    assert find([f"file://{files}/top_psfcat.fits"], EPOCHAL_PATTERN).files == [str(files / "top_psfcat.fits")]


@pytest.mark.parametrize("place", ["nothing", "nothing/*", "nigh", "night/0107/a_psfcat.fits/x", "nothing/"])
def test_expand_url_of_nothing_names_it(both: tuple[Path, str], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find([f"{both[1]}/{place}"], EPOCHAL_PATTERN)
    assert str(caught.value).startswith(f"{both[1]}/{place}: no such object or prefix")


def test_expand_url_of_a_bucket_that_is_not_there_names_it(s3_bucket: str) -> None:
    for place in ("s3://no-such-bucket", "s3://no-such-bucket/x", "s3://no-such-bucket/*"):
        with pytest.raises(BucketNotFoundError, match="s3://no-such-bucket: there is no bucket 'no-such-bucket'"):
            find([place], EPOCHAL_PATTERN)


@pytest.mark.parametrize(
    ("path", "wanted", "taken"),
    [
        ("a/x_psfcat.fits", "", True),
        ("a/x.txt", "", False),
        ("a/x.txt", "a", False),
        ("a/x.txt", "a/x.txt", True),
        ("a/x.txt", "a/*.txt", True),
        ("a/b/x_psfcat.fits", "*", True),
        ("a/b/x_psfcat.fits", "b", None),
        ("a/b/x.txt", "**/b/*", True),
        ("a/b/x.txt", "**", True),
        ("a", "a/b", None),
    ],
)
def test_fits_literals(path: str, wanted: str, taken: bool | None) -> None:
    assert glob_takes(path.split("/"), wanted.split("/") if wanted else [], EPOCHAL_PATTERN) is taken


def test_read_file_of_a_url_is_that_of_the_file(both: tuple[Path, str]) -> None:
    files, bucket = both
    for name in NAMES:
        assert read_file(f"{bucket}/{name}") == read_file(str(files / name))
    assert read_file(f"{bucket}/{NAMES[0]}", checksum=False).sha256 == ""


def test_read_file_of_a_url_that_is_gone_or_too_large_is_a_catalog_error(
    both: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CatalogError, match=r"there is no object s3://.*/gone_psfcat.fits, or it is gone") as caught:
        read_file(f"{both[1]}/gone_psfcat.fits")
    assert caught.value.code == "unreadable"
    monkeypatch.setattr(sources, "MAX_CATALOG_BYTES", 3)
    with pytest.raises(CatalogError, match=r"the file has 15 bytes; no catalog has more than 3") as caught:
        read_file(f"{both[1]}/top_psfcat.fits")
    assert caught.value.code == "too-large"


def test_read_file_in_an_outage_is_no_fault_of_the_catalog(both: tuple[Path, str], s3_faults: FaultProxy) -> None:
    url = f"{both[1]}/top_psfcat.fits"
    s3_faults.follow(always(Fault.SLOW_DOWN_503))
    with pytest.raises(StorageError, match=f"cannot read top_psfcat.fits in {both[1]}: .* 503 .*SlowDown"):
        read_file(url)
    s3_faults.follow(first("GET", "", Fault.CUT_BODY))
    assert read_file(url).data == b"top_psfcat.fits"
    s3_faults.follow(undisturbed)


# Local disks


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def found_in(root: Path, *places: str, pattern: str = EPOCHAL_PATTERN) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in find([f"{root}/{place}" for place in places], pattern).files]


def test_expand_linked_directories_are_followed_each_once(tmp_path: Path) -> None:
    disk = tree(tmp_path / "disk", "0107/a_psfcat.fits", "0107/deep/b_psfcat.fits")
    night = tree(tmp_path / "night", "real/c_psfcat.fits")
    for name in ("0107", "again"):
        (night / name).symlink_to(disk / "0107")
    (night / "000").symlink_to(night / "real")  # comes before what it leads to, which keeps its own name
    assert found_in(night, "") == ["0107/a_psfcat.fits", "0107/deep/b_psfcat.fits", "real/c_psfcat.fits"]
    assert found_in(night, "", "again") == found_in(night, "")
    assert found_in(night, "again") == ["again/a_psfcat.fits", "again/deep/b_psfcat.fits"]
    (tmp_path / "link").symlink_to(night)
    assert found_in(tmp_path, "link") == [f"link/{name}" for name in found_in(night, "")]


@pytest.mark.parametrize("place", ["", "**", "**/*_psfcat.fits", "*"])
def test_expand_links_in_a_circle_end(tmp_path: Path, place: str) -> None:
    night = tree(tmp_path / "night", "a/x_psfcat.fits", "b/y_psfcat.fits")
    for link, target in (("a/up", ".."), ("b/a", "../a"), ("a/b", "../b"), ("self", "self")):
        (night / link).symlink_to(target)
    names = {Path(name).name for name in found_in(night, place)}
    assert names == {"x_psfcat.fits", "y_psfcat.fits"} | ({"self"} if place in ("**", "*") else set())
    assert len(found_in(night, "")) == 2


@pytest.mark.parametrize("place", ["", "night", "night/*", "night/*/*_psfcat.fits", "**/*_psfcat.fits", "**"])
def test_expand_directory_that_cannot_be_listed_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    root = tree(tmp_path / "x", "night/a/x_psfcat.fits", "night/shut/y_psfcat.fits")
    listed = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        StorageError, match=f"{root}/night/shut: cannot be listed: Permission denied; what is in it would"
    ):
        found_in(root, place)
    assert found_in(root, "night/a") == ["night/a/x_psfcat.fits"]


def test_expand_link_that_leads_nowhere_fails_where_a_directory_may_be_meant(tmp_path: Path) -> None:
    night = tree(tmp_path / "night", "a_psfcat.fits")
    for name in ("b_psfcat.fits", "notes.txt", ".#lock.me"):
        (night / name).symlink_to("gone")
    assert found_in(night, "") == ["a_psfcat.fits", "b_psfcat.fits"]  # the second is to be quarantined
    (night / "0107").symlink_to("/no/such/disk/0107")
    for place in ("", "**/*_psfcat.fits"):
        with pytest.raises(StorageError, match=r"night/0107: a link to /no/such/disk/0107, which is not there"):
            found_in(night, place)


@pytest.mark.parametrize(
    "place", [*PLACES, "./night", "nigh?", "**/.hidden", ".*/*", "*/.*", "**/b_psfcat.fits", "[n]*"]
)
def test_expand_without_links_takes_what_globs_of_the_standard_library_do(tmp_path: Path, place: str) -> None:
    root = tree(tmp_path, *NAMES, ".hidden/x_psfcat.fits", "night/.y_psfcat.fits", "night/0107/z_psfcat.fits/notes.txt")
    expected: set[str] = set()
    exact = Path(f"{root}/{place}")
    for name in [str(exact)] if exact.exists() else glob.glob(str(exact), recursive=True):  # noqa: PTH207 (the oracle)
        path = Path(name)
        expected |= {str(f) for f in path.rglob(EPOCHAL_PATTERN)} if path.is_dir() else {name}
    assert [f"{root}/{name}" for name in found_in(root, place)] == sorted(expected)
    assert expected or place == "night/0109"


NAMED = ["A_PSFCAT.FITS", "b_psfcat.fits.gz", "c_psfcat.FITS.GZ", "d_psfcat.fits.fz", "e_psfcat.fits"]
MISNAMED = ["f_psfcat.fit", "g_psfcat.fits.bz2", "h_psfcat.fits.part", "psfcat.fits", "i-psfcat.fits"]
OTHERS = ["e_psfcat.fits.md5", "j_refpsfcat.fits", "k_sexcat.fits", "l_psfcat.png", "m_refpsfcat.fit", "psfcat.csv"]


@pytest.mark.parametrize("kind", ["disk", "bucket"])
def test_find_takes_any_case_and_gzipped_ones_and_tells_what_is_misnamed(
    s3_bucket: str, tmp_path: Path, kind: str
) -> None:
    root = str(tmp_path / "files") if kind == "disk" else s3_bucket
    storage = Storage.at(root)
    for name in (*NAMED, *MISNAMED, *OTHERS):
        storage.put(f"night/{name}", b"x")
    found = find([f"{root}/night"], EPOCHAL_PATTERN)
    assert found.files == [f"{root}/night/{name}" for name in sorted(NAMED)]
    assert found.misnamed == [f"{root}/night/{name}" for name in sorted(MISNAMED)]
    assert found.misnamed_text == "5 files look like catalogs but are not named as such"
    named = find([f"{root}/night", f"{root}/night/*.part"], EPOCHAL_PATTERN)
    assert (len(named.files), len(named.misnamed)) == (6, 4)
    references = find([f"{root}/night"], REFERENCE_PATTERN)
    assert [Path(path).name for path in (*references.files, *references.misnamed)] == [OTHERS[1], OTHERS[4]]


def test_find_matchfiles_in_any_case_but_not_gzipped(tmp_path: Path) -> None:
    root = tree(tmp_path, "A_MATCH.PYTABLE", "b_match.pytable", "c_match.pytable.gz", "match.txt", "d_psfcat.fits")
    found = find([str(root)], MATCHFILE_PATTERN)
    assert [Path(path).name for path in found.files] == ["A_MATCH.PYTABLE", "b_match.pytable"]
    assert [Path(path).name for path in found.misnamed] == ["c_match.pytable.gz"]
    assert found.misnamed_text == "1 file looks like a matchfile but is not named as such"


# Gzipped catalogs


def test_read_file_gzipped_is_that_of_its_content_on_disk_and_by_url(s3_bucket: str, tmp_path: Path) -> None:
    data = b"SIMPLE  =" + os.urandom(100_000) + bytes(3_000_000)
    (tmp_path / "plain").write_bytes(data)
    plain = read_file(str(tmp_path / "plain"))
    halves = gzip.compress(data[:70_000]) + gzip.compress(b"") + gzip.compress(data[70_000:]) + bytes(512)
    for root in (str(tmp_path), s3_bucket):
        for name, content in {
            "one.gz": gzip.compress(data),
            "halves.gz": halves,
            "unnamed": gzip.compress(data),
        }.items():
            Storage.at(root).put(name, content)
            assert read_file(f"{root}/{name}") == plain


@pytest.mark.parametrize(
    ("spoil", "code", "why"),
    [
        (lambda _: gzip.compress(gzip.compress(b"SIMPLE  =")), "not-fits", r"unpacked, it starts with b.\\x1f\\x8b"),
        (lambda data: data[:-9], "truncated", "the gzip stream breaks off after"),
        (lambda data: data[:5], "truncated", "breaks off after 5 bytes"),
        (lambda data: data[:-8] + bytes(8), "damaged", "not a whole gzip stream: CRC check failed"),
        (lambda data: data + b"junk", "damaged", "not a whole gzip stream: Not a gzipped file"),
        (lambda data: data[:40] + b"\xff" * 40 + data[80:], "damaged", "not a whole gzip stream: "),
    ],
)
def test_read_file_broken_gzip_is_a_catalog_error(tmp_path: Path, spoil: Any, code: str, why: str) -> None:
    (tmp_path / "x.gz").write_bytes(spoil(gzip.compress(b"SIMPLE  =" + os.urandom(1000))))
    with pytest.raises(CatalogError, match=why) as caught:
        read_file(str(tmp_path / "x.gz"))
    assert caught.value.code == code


def test_read_file_decompression_bomb_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four gibibytes of zeros, of which no more is unpacked than a catalog may have."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"SIMPLE  =" + bytes(1 << 20)) * 4096)
    monkeypatch.setattr(sources, "MAX_CATALOG_BYTES", 8 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(CatalogError, match=r"unpacked, it has more than 8388608 bytes") as caught:
            read_file(str(tmp_path / "x.gz"))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "too-large"
