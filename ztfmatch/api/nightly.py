"""The nightly steps: append, statistics, transients, export, in this order.

Each step is the operation of that name and resumes as it does: an interrupted night is simply run again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.config import MIN_NEW_PERCENT, AppendConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.storage import Storage, is_url
from ztfmatch.core.runner import Runner
from ztfmatch.core.settings import checked, read_toml

_WHAT: Final = "nightly configuration"


@dataclass(frozen=True)
class ExportSettings:
    """Options of ``export kowalski``, with its output, and of ``load``."""

    output: str
    cursor: str | None = None
    """By default cursor.json in the output."""
    filter: tuple[str, ...] = ()
    whole: bool = False
    compression: str = "zstd"
    documents_per_file: int = 20_000
    load: bool = False
    tag: str = "ztfmatch"
    mongo_uri_file: str | None = None


@dataclass(frozen=True)
class NightConfig:
    """Configuration of a night."""

    append: AppendConfig = field(default_factory=AppendConfig)
    """Paths are relative to the directory of the configuration."""
    statistics: bool = True
    transients: bool = True
    """Whether these are updated."""
    min_new: float = MIN_NEW_PERCENT
    """Minimum growth of a tile's epochs for its statistics to be updated, in percent."""
    export: ExportSettings | None = None
    """None exports nothing."""
    note: str | None = None
    """Comment recorded in the history of each step."""


@dataclass(frozen=True)
class NightStep:
    """A finished step."""

    step: str
    report: Any
    """Report of the operation."""


def read_night(path: Path) -> NightConfig:
    """Read the TOML file of a night, and check it.

    Raises
    ------
    ConfigError
        If it cannot be read, a key is unknown, or a value is invalid.
    """
    config = checked(read_toml(path, _WHAT), NightConfig, place=f"{_WHAT} {path}: ")
    there = path.absolute().parent
    return NightConfig(
        _placed(config.append, there, "exposures", "error_models", "zp_thresholds", "quality_rule", "corrections"),
        config.statistics,
        config.transients,
        config.min_new,
        None if config.export is None else _placed(config.export, there, "output", "cursor", "mongo_uri_file"),
        config.note,
    )


def _placed(settings: Any, there: Path, *names: str) -> Any:
    """Settings with paths relative to a directory made absolute."""

    def placed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(placed, value))
        if isinstance(value, Path):
            return there / value
        return value if value is None or is_url(value) else str(there / value)

    return type(settings)(**(vars(settings) | {name: placed(getattr(settings, name)) for name in names}))


def run_night(
    storage: Storage, catalogs: Sequence[str], config: NightConfig, runner: Runner, tell: Callable[[str], None]
) -> Iterator[NightStep]:
    """Run the steps one by one, as an iterator over their reports.

    Parameters
    ----------
    storage : Storage
        Of an existing store.
    catalogs : sequence of str
        Files, directories or globs.
    config : NightConfig
    runner : Runner
    tell : callable
        Called with messages about the database.

    Raises
    ------
    As the operations; earlier commits stay, and a rerun continues from there.
    """
    from ztfmatch.core.operations.append import append_catalogs
    from ztfmatch.core.operations.statistics import update_statistics
    from ztfmatch.core.operations.transients import update_transients

    append = replace(config.append, note=config.note or config.append.note)
    with _database(config.export, tell) as database:
        yield NightStep("append", append_catalogs(storage, catalogs, append, runner))
        if config.statistics:
            yield NightStep("statistics", update_statistics(storage, runner, config.min_new, config.note))
        if config.transients:
            yield NightStep("transients", update_transients(storage, runner, config.note))
        if config.export is not None:
            yield NightStep("export", _export(storage, config.export, runner))
        if config.export is not None and database is not None:
            from ztfmatch.kowalski.load import load_exports

            loaded = load_exports(config.export.output, database, config.export.tag, runner.progress)
            yield NightStep("load", loaded)


def _export(storage: Storage, export: ExportSettings, runner: Runner) -> Any:
    from ztfmatch.kowalski.export import KowalskiConfig, export_kowalski
    from ztfmatch.kowalski.io.jsonlines import LinesForm
    from ztfmatch.kowalski.tasks.scope import Scope

    cursor = export.cursor
    if cursor is None:
        if is_url(export.output):
            raise ConfigError(f"[export] output {export.output} is a URL: give the cursor a local path")
        cursor = os.path.join(export.output, "cursor.json")  # noqa: PTH118  (text, as the output is)
    form = LinesForm(export.compression, export.documents_per_file)
    scope = Scope.parse(export.filter)
    return export_kowalski(
        storage, export.output, KowalskiConfig(cursor=Path(cursor), scope=scope, whole=export.whole, form=form), runner
    )


@contextlib.contextmanager
def _database(export: ExportSettings | None, tell: Callable[[str], None]) -> Iterator[Any]:
    """The database to load into, connected before any work; None without a load."""
    if export is None or not export.load:
        yield None
        return
    from ztfmatch.kowalski.io.mongo import connect, read_uri

    uri_file = None if export.mongo_uri_file is None else Path(export.mongo_uri_file)
    with contextlib.closing(connect(read_uri(uri_file))) as database:
        database.tell = tell
        database.greet()
        yield database
