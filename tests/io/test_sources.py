"""Catalogs by URL: objects, prefixes and globs, as on a local disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from faultproxy import Fault, FaultProxy, always, first, undisturbed

from ztfmatch.errors import BucketNotFoundError, CatalogError, ConfigError, StorageError
from ztfmatch.io import sources
from ztfmatch.io.sources import EPOCHAL_PATTERN, expand, glob_takes, read_file
from ztfmatch.io.storage import Storage

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
    local = [str(Path(path).relative_to(files)) for path in expand([f"{files}/{place}"], EPOCHAL_PATTERN)]
    assert expand([f"{bucket}/{place}"], EPOCHAL_PATTERN) == [f"{bucket}/{path}" for path in local]


def test_expand_urls_and_paths_together_each_once(both: tuple[Path, str]) -> None:
    files, bucket = both
    places = [f"{bucket}/night/0107", str(files / "top_psfcat.fits"), f"{bucket}/night/**/a_psfcat.fits"]
    assert expand(places, EPOCHAL_PATTERN) == sorted(
        [str(files / "top_psfcat.fits"), f"{bucket}/night/0107/a_psfcat.fits"]
    )


def test_expand_file_url_is_a_path(both: tuple[Path, str]) -> None:
    files, _ = both
    assert expand([f"file://{files}/top_psfcat.fits"], EPOCHAL_PATTERN) == [str(files / "top_psfcat.fits")]


@pytest.mark.parametrize("place", ["nothing", "nothing/*", "nigh", "night/0107/a_psfcat.fits/x", "nothing/"])
def test_expand_url_of_nothing_names_it(both: tuple[Path, str], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand([f"{both[1]}/{place}"], EPOCHAL_PATTERN)
    assert str(caught.value).startswith(f"{both[1]}/{place}: no such object or prefix")


def test_expand_url_of_a_bucket_that_is_not_there_names_it(s3_bucket: str) -> None:
    for place in ("s3://no-such-bucket", "s3://no-such-bucket/x", "s3://no-such-bucket/*"):
        with pytest.raises(BucketNotFoundError, match="s3://no-such-bucket: there is no bucket 'no-such-bucket'"):
            expand([place], EPOCHAL_PATTERN)


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
