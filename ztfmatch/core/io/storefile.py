"""store.json: format version, survey and settings of a store, written once."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Final, Literal

import msgspec

import ztfmatch
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import (
    BucketNotFoundError,
    StorageError,
    StoreDamagedError,
    StoreExistsError,
    StoreFormatError,
    StoreNotFoundError,
)
from ztfmatch.core.io import paths
from ztfmatch.core.io.records import plain_value, short_digest
from ztfmatch.core.io.storage import Storage

FORMAT: Final = "ztfmatch-store"
FORMAT_VERSION: Final = 5


@dataclass(frozen=True)
class _Head:
    """What every version of the file begins with."""

    format: Literal["ztfmatch-store"]
    version: int


@dataclass(frozen=True)
class _StoreFile(_Head):
    """The whole file, as stored."""

    survey: str
    id: str
    radius_arcsec: float
    seeds_per_tile: int | float
    """A real number where a store was made with one."""
    max_order: int


def create_store(storage: Storage, config: StoreConfig) -> None:
    """Write what a store is, once.

    Raises
    ------
    StoreFormatError
        If a store of other settings is there.
    StoreExistsError
        If something is there that is not a store.
    """
    check_free(storage)
    content = _StoreFile(FORMAT, FORMAT_VERSION, "ZTF", uuid.uuid4().hex, **asdict(config))
    if not storage.put_if_absent(paths.STORE_FILE, json.dumps(asdict(content), indent=1, default=plain_value).encode()):
        there = read_config(storage)
        if there != config:
            raise StoreFormatError(
                f"{storage.root} is a store with other settings ({_settings(there)}); asked for {_settings(config)}"
            )


def check_free(storage: Storage) -> None:
    """Check that a place holds nothing but a store, if anything.

    Raises
    ------
    StoreExistsError
    """
    if not storage.is_empty() and not storage.has(paths.STORE_FILE):
        raise StoreExistsError(f"{storage.root} is not empty, and no store: choose a new or an empty place for one")


def _settings(config: StoreConfig) -> str:
    return (
        f"radius {config.radius_arcsec} arcsec, {config.seeds_per_tile} seeds per tile, "
        f"maximum order {config.max_order}"
    )


def read_config(storage: Storage) -> StoreConfig:
    """Settings of the store.

    Raises
    ------
    StoreNotFoundError
        If there is nothing.
    StoreFormatError
        If what is there is not a store, or of a newer format version.
    """
    text = _read(storage)
    try:
        _check_version(storage, msgspec.json.decode(text, type=_Head).version)
        said = msgspec.json.decode(text, type=_StoreFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _no_store(storage, f"{paths.STORE_FILE} is not one's") from None
    return StoreConfig(said.radius_arcsec, int(said.seeds_per_tile), said.max_order)


def _read(storage: Storage) -> bytes:
    try:
        return storage.read(paths.STORE_FILE)
    except FileNotFoundError:
        if not storage.exists():
            raise StoreNotFoundError(f"{storage.root}: no such store; make one with 'ztfmatch init'") from None
        raise _no_store(storage, f"it has no {paths.STORE_FILE}") from None
    except BucketNotFoundError as error:
        raise StoreNotFoundError(str(error)) from None
    except StorageError:
        raise
    except OSError as error:
        raise StoreFormatError(f"{storage.root} is not a ztfmatch store: {error.strerror or error}") from None


def _check_version(storage: Storage, version: int) -> None:
    if version > FORMAT_VERSION:
        raise StoreFormatError(
            f"{storage.root} has store format {version}; this ztfmatch {ztfmatch.__version__} reads up to "
            f"{FORMAT_VERSION}: upgrade ztfmatch"
        )
    if version < FORMAT_VERSION:
        raise StoreFormatError(
            f"{storage.root} has store format {version}, of before the first release; this ztfmatch "
            f"{ztfmatch.__version__} reads format {FORMAT_VERSION}: recreate it with 'ztfmatch init' and "
            "'ztfmatch append'"
        )


def _no_store(storage: Storage, reason: str) -> StoreFormatError | StoreDamagedError:
    """Where there are snapshots, the store's own file was lost or altered."""
    if any(paths.number_of_commit(path) is not None for path, _ in storage.list(paths.COMMITS)):
        return StoreDamagedError(f"{paths.STORE_FILE} in {storage.root} is missing or damaged, though it has snapshots")
    return StoreFormatError(
        f"{storage.root} is not a ztfmatch store: {reason}; give the directory that 'ztfmatch init' made"
    )


def identity(storage: Storage) -> str:
    """Digest of the file, which no other store has.

    Raises
    ------
    StoreDamagedError
        If it is missing.
    """
    try:
        return short_digest(storage.read(paths.STORE_FILE))
    except FileNotFoundError:
        raise StoreDamagedError(f"{paths.STORE_FILE} is missing from {storage.root}") from None
