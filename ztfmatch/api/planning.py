"""Cost estimates of operations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from ztfmatch.api.running import Place, places_of
from ztfmatch.core.config import MIN_NEW_PERCENT, CompactConfig, StoreConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.forecast import WORKERS, Draft, Forecast

OPERATIONS: Final = ("init", "append", "statistics", "transients", "link", "compact", "rematch", "verify", "publish")
OF_CATALOGS: Final = ("init", "append", "rematch")


def forecast(
    operation: str, path: Place, places: Place | Iterable[Place] = (), *, workers: Sequence[int] = WORKERS
) -> Forecast:
    """Estimate the cost of an operation with default settings: tasks, bytes, files, memory and time; nothing is run.

    Parameters
    ----------
    operation : str
        ``init``, ``append``, ``statistics``, ``transients``, ``link``, ``compact``, ``rematch``, ``verify`` or
        ``publish`` (as HATS, of all that there is).
    path : path
        Of the store, which need not exist for an init.
    places : path or iterable of paths
        Catalogs to append, or references for an init or a rematch: files, directories or globs. Files with names of
        catalogs are not checked for existence. A generator is consumed once.
    workers : sequence of int
        Numbers of workers for which to estimate the wall time.

    Raises
    ------
    ConfigError
        If there is no such operation, or it takes catalogs and there are none, or takes none and there are.
    StoreNotFoundError, StoreFormatError
        If there is no store that this version reads.
    """
    if operation not in OPERATIONS:
        raise ConfigError(f"nothing is known of {operation!r}; expected one of {', '.join(OPERATIONS)}")
    given = (
        places_of(places) if isinstance(places, str | os.PathLike | Sequence) else (os.fspath(one) for one in places)
    )
    if operation not in OF_CATALOGS and (not isinstance(given, Sequence) or given):
        raise ConfigError(f"{operation} takes no catalogs: give the store alone")
    storage = Storage.at(path)
    return _draft(operation, storage, given).finished(storage, workers)


def _draft(operation: str, storage: Storage, places: Iterable[str]) -> Draft:
    if operation == "init":
        from ztfmatch.core.operations.forecastappend import forecast_init

        return forecast_init(places, StoreConfig())
    snapshot = open_snapshot(storage)
    return _of_store(operation, snapshot) if operation not in OF_CATALOGS else _of_catalogs(operation, snapshot, places)


def _of_catalogs(operation: str, snapshot: SnapshotFiles, places: Iterable[str]) -> Draft:
    from ztfmatch.core.config import AppendConfig
    from ztfmatch.core.operations.forecastappend import forecast_append
    from ztfmatch.core.operations.forecasttiles import forecast_rematch
    from ztfmatch.core.operations.rematch import RematchConfig

    if operation == "append":
        return forecast_append(snapshot, places, AppendConfig())
    return forecast_rematch(snapshot, places, RematchConfig().rows_per_task)


def _of_store(operation: str, snapshot: SnapshotFiles) -> Draft:
    from ztfmatch.core.operations import forecasttiles as of

    match operation:
        case "statistics":
            return of.forecast_statistics(snapshot, MIN_NEW_PERCENT)
        case "transients":
            return of.forecast_transients(snapshot)
        case "link":
            return of.forecast_link(snapshot)
        case "compact":
            return of.forecast_compact(snapshot, CompactConfig())
        case "verify":
            return of.forecast_verify(snapshot)
    from ztfmatch.release.forecast import forecast_hats
    from ztfmatch.release.hats import HatsConfig

    return forecast_hats(snapshot, HatsConfig())
