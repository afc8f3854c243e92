"""The store's own file: made once, in an empty place, and recognized, or one clear line of what it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import StoreDamagedError, StoreExistsError, StoreFormatError, StoreNotFoundError
from ztfmatch.core.io import paths, storefile
from ztfmatch.core.io.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage.at(tmp_path / "s")
    storefile.create_store(made, StoreConfig())
    return made


@pytest.mark.parametrize("name", ["thesis.tex", ".git", "commits", "notes#1a"])
def test_create_store_beside_something_else_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "home" / name).mkdir(parents=True)
    with pytest.raises(StoreExistsError, match=r"home is not empty, and no store: choose a new or an empty place"):
        storefile.create_store(Storage.at(tmp_path / "home"), StoreConfig())
    assert [path.name for path in (tmp_path / "home").iterdir()] == [name]


def test_create_store_in_a_prefix_that_has_objects_is_refused(s3_bucket: str) -> None:
    Storage.at(s3_bucket).put("mine/data.csv", b"x")
    with pytest.raises(StoreExistsError, match=r"/mine is not empty, and no store"):
        storefile.create_store(Storage.at(f"{s3_bucket}/mine"), StoreConfig())
    storefile.create_store(Storage.at(f"{s3_bucket}/store"), StoreConfig())


@pytest.mark.parametrize("left", [(), ("store.json#12", "store.json#000000000012")])
def test_create_store_in_an_empty_directory_or_after_a_killed_one(tmp_path: Path, left: tuple[str, ...]) -> None:
    (tmp_path / "s").mkdir()
    for name in left:
        (tmp_path / "s" / name).write_bytes(b"half")
    for _ in range(2):
        storefile.create_store(Storage.at(tmp_path / "s"), StoreConfig())


def test_create_store_where_its_own_file_was_lost_is_refused(storage: Storage) -> None:
    storage.put(paths.commit(0), b"{}")
    storage.delete([paths.STORE_FILE])
    with pytest.raises(StoreExistsError):
        storefile.create_store(storage, StoreConfig())
    with pytest.raises(StoreDamagedError, match=r"store\.json in .* is missing or damaged, though it has snapshots"):
        storefile.read_config(storage)


def test_create_store_twice_is_fine_with_the_same_settings_only(storage: Storage) -> None:
    storefile.create_store(storage, StoreConfig())
    assert storefile.read_config(storage) == StoreConfig()
    with pytest.raises(StoreFormatError, match=r"is a store with other settings.*1\.5.*asked for .*2\.0"):
        storefile.create_store(storage, StoreConfig(radius_arcsec=2.0))
    assert storefile.read_config(storage) == StoreConfig()


def test_create_store_writes_the_bytes_that_it_always_wrote(storage: Storage) -> None:
    content = storage.read(paths.STORE_FILE)
    identity = json.loads(content)["id"]
    assert len(identity) == 32
    assert content.decode() == (
        f'{{\n "format": "ztfmatch-store",\n "version": 5,\n "survey": "ZTF",\n "id": "{identity}",\n'
        ' "radius_arcsec": 1.5,\n "seeds_per_tile": 500000,\n "max_order": 11\n}'
    )


def test_read_config_gives_back_every_setting(tmp_path: Path) -> None:
    config = StoreConfig(radius_arcsec=0.1 + 0.2, seeds_per_tile=7, max_order=3)
    storefile.create_store(Storage.at(tmp_path), config)
    assert storefile.read_config(Storage.at(tmp_path)) == config


def test_read_config_of_whole_numbers_that_were_given_as_real_ones(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({**WHOLE, "radius_arcsec": 2, "seeds_per_tile": 5e5}))
    assert storefile.read_config(Storage.at(tmp_path)) == StoreConfig(2.0, 500_000, 11)


def test_read_config_nothing_there_raises_not_found(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="nowhere: no such store; make one with 'ztfmatch init'") as caught:
        storefile.read_config(Storage.at(tmp_path / "nowhere"))
    assert isinstance(caught.value, FileNotFoundError)
    assert not (tmp_path / "nowhere").exists()


def test_read_config_directory_of_other_things_raises_format(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(StoreFormatError, match=r"is not a ztfmatch store: it has no store.json"):
        storefile.read_config(Storage.at(tmp_path))


def test_read_config_place_is_a_file_raises_format(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hello")
    with pytest.raises(StoreFormatError, match="is not a ztfmatch store"):
        storefile.read_config(Storage.at(tmp_path / "s"))


SETTINGS = {"radius_arcsec": 1.5, "seeds_per_tile": 10, "max_order": 11}
WHOLE = {"format": "ztfmatch-store", "version": storefile.FORMAT_VERSION, "survey": "ZTF", "id": "x", **SETTINGS}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"ztfmatch-store"',
        "\xff\xfe",
        "{}",
        json.dumps({"format": "other", "version": 1, **SETTINGS}),
        json.dumps({"format": "zarr", "version": 3}),
        json.dumps({"version": "2"}),
        json.dumps({"format": "ztfmatch-store", **SETTINGS}),
        json.dumps({"format": "ztfmatch-store", "version": None, **SETTINGS}),
        json.dumps({"format": "ztfmatch-store", "version": "one", **SETTINGS}),
        json.dumps({"format": "ztfmatch-store", "version": storefile.FORMAT_VERSION, "radius_arcsec": 1.5}),
        json.dumps({**WHOLE, "radius_arcsec": "1.5"}),
        json.dumps({**WHOLE, "max_order": None}),
        "[" * 10**6,
        '{"a":' * 10**6,
        '{"format": "\xff"}',
    ],
)
def test_read_config_of_other_content_raises_format(tmp_path: Path, text: str) -> None:
    (tmp_path / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreFormatError, match=r"is not a ztfmatch store: store\.json is not one's"):
        storefile.read_config(Storage.at(tmp_path))


@pytest.mark.parametrize("settings", [SETTINGS, {}, {"radius": "all new"}])
def test_read_config_newer_version_says_upgrade(tmp_path: Path, settings: dict[str, Any]) -> None:
    newer = storefile.FORMAT_VERSION + 1
    content = {"format": "ztfmatch-store", "version": newer, **settings}
    (tmp_path / "store.json").write_text(json.dumps(content))
    with pytest.raises(
        StoreFormatError, match=rf"has store format {newer}; this ztfmatch .* reads up to {newer - 1}: upgrade"
    ):
        storefile.read_config(Storage.at(tmp_path))


def test_read_config_older_version_says_to_make_it_again(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"format": "ztfmatch-store", "version": 1, **SETTINGS}))
    with pytest.raises(
        StoreFormatError, match=r"has store format 1, of before the first release; .*: recreate it with 'ztfmatch init'"
    ):
        storefile.read_config(Storage.at(tmp_path))
