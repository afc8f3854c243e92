"""A snapshot as Delta tables, one for each of its tables, over its own files.

A directory beside the store has a link to each file and a Delta log that lists exactly those of the snapshot. Viewing a
later snapshot adds a version to each table's log, which a reader sees whole or not at all; an older version stays
readable.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

import ztfmatch
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import CommitConflictError, ConfigError, OutputExistsError
from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.localfiles import beside
from ztfmatch.core.io.parquet import DataFile, IdRange, read_file_rows
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.operations.statistics import stale_tiles
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import OBJECTS, REFERENCES, STATISTICS, TABLES, Table
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import objectid_range
from ztfmatch.release.publication import check_place, give_name
from ztfmatch.views.io import deltalog
from ztfmatch.views.io.deltalog import DeltaFile
from ztfmatch.views.io.links import link

VIEW_FILE: Final = "view.json"


@dataclass(frozen=True, kw_only=True)
class DeltaReport(Displayable):
    """What a view has."""

    output: str
    snapshot: int
    tables: dict[str, int]
    """Files by table."""
    changed: list[str]
    """Tables that got a new version."""
    copied: int
    """Files that were written, without the rows of retired objects; the others are links."""
    stale_statistics: int
    """Tiles whose statistics are left out, since they are not of this snapshot."""
    seconds: float


def view_delta(snapshot: SnapshotFiles, output: Path) -> DeltaReport:
    """Show a snapshot as Delta tables in a directory, or bring one made before up to it.

    Rows of retired objects are left out: files of ``objects`` that have some are written anew without them.

    Raises
    ------
    ConfigError
        If the store is not a local directory.
    OutputExistsError
        If something else is there than a view of this store.
    CommitConflictError
        If another process changes the view.
    """
    watch = Stopwatch()
    root = local_root(snapshot)
    if output.exists():
        _check_view(snapshot, output)
        return _update(snapshot, root, output, output, watch)
    check_place(output)
    with beside(output) as part:
        report = _update(snapshot, root, part, output, watch)
        give_name(part, output)
    return report


def local_root(snapshot: SnapshotFiles) -> Path:
    """Directory of the store.

    Raises
    ------
    ConfigError
        If it is in an object store, where files have no second names.
    """
    root = snapshot.storage.local_root
    if root is None:
        raise ConfigError(
            f"{snapshot.storage.root}: a view links the files of a store in a local directory; publish one"
        )
    return root


def _check_view(snapshot: SnapshotFiles, output: Path) -> None:
    try:
        store = json.loads((output / VIEW_FILE).read_bytes())["store"]
    except (OSError, ValueError, TypeError, KeyError):
        raise OutputExistsError(f"{output} exists already and is no Delta view: give another place") from None
    if store != snapshot.commit.store:
        raise OutputExistsError(f"{output} is a view of another store: give another place")


def _update(snapshot: SnapshotFiles, root: Path, place: Path, output: Path, watch: Stopwatch) -> DeltaReport:
    view = Storage.at(place)
    stale = set(stale_tiles(snapshot)) if snapshot.files.has(STATISTICS.name) else set()
    retired = _retired_units(snapshot)
    counts: dict[str, int] = {}
    changed: list[str] = []
    copied = 0
    for table in TABLES.values():
        files = [f for f in snapshot.of_table(table.name) if table is not STATISTICS or f.tile not in stale]
        shown = tracked(files, f"files of {table.name}")
        entries = [_entry(snapshot, root, place, table, file, retired) for file in shown]
        present = [entry for entry in entries if entry.rows]
        copied += sum(entry.path != _name(file) for entry, file in zip(entries, files, strict=True))
        counts[table.name] = len(present)
        if _commit(snapshot, view, table, present):
            changed.append(table.name)
    record = {"store": snapshot.commit.store, "snapshot": snapshot.number}
    view.put(VIEW_FILE, json.dumps(record).encode())
    return DeltaReport(
        output=str(output),
        snapshot=snapshot.number,
        tables=counts,
        changed=changed,
        copied=copied,
        stale_statistics=len(stale),
        seconds=watch.seconds,
    )


def _retired_units(snapshot: SnapshotFiles) -> list[IdRange]:
    """Objectids of the units whose reference was regenerated: only these have retired objects."""
    rows = snapshot.read(REFERENCES.name, ["field", "rcid", "fid", "generation"]).to_pylist()
    return sorted({objectid_range(unit_of(row)) for row in rows if row["generation"] > 0})


def _name(file: DataFile) -> str:
    """Name of a file in its Delta table; Delta's readers take directories of a=b for columns."""
    tile = f"{file.order}-{file.npix}-" if file.tile else ""
    return f"{tile}{file.path.rsplit('/', 1)[-1]}"


def _entry(
    snapshot: SnapshotFiles, root: Path, place: Path, table: Table, file: DataFile, retired: list[IdRange]
) -> DeltaFile:
    """Make a file appear in the view: linked, or written without retired objects where it has some."""
    if table is OBJECTS and retired and file.holds_id(retired):
        rows = read_file_rows(snapshot.storage, file, table.names).cast(table.schema)
        active = rows.filter(pc.equal(rows["status"].cast(pa.string()), ACTIVE))
        if active.num_rows < rows.num_rows:
            return _written(place, table, file, active)
    link(root / file.path, place / table.name / _name(file))
    return DeltaFile(_name(file), file, file.size, file.rows)


def _written(place: Path, table: Table, file: DataFile, rows: pa.Table) -> DeltaFile:
    content = encode(table, rows)
    name = f"active-{short_digest(content)}-{_name(file)}"
    if rows.num_rows:
        view = Storage.at(place)
        view.put(f"{table.name}/{name}", content)
        view.sync([f"{table.name}/{name}"])
    return DeltaFile(name, file, content.size, rows.num_rows)


def _commit(snapshot: SnapshotFiles, view: Storage, table: Table, entries: list[DeltaFile]) -> bool:
    """Write a version that lists these files; False if the last one does."""
    moment = datetime.datetime.fromisoformat(snapshot.commit.time)
    moment_ms = int(moment.timestamp() * 1000)
    log = deltalog.read_log(view, table.name)
    wanted, known = {entry.path: entry for entry in entries}, set(log.live)
    actions: list[deltalog.Action] = [] if log.versions else [deltalog.protocol_action()]
    metadata = deltalog.table_metadata(table, snapshot.commit.store, moment_ms)
    redefined = log.metadata != metadata | {"createdTime": log.metadata.get("createdTime")}
    if redefined:  # as in a view that another version of ztfmatch made: its files are listed anew, too
        actions.append({"metaData": metadata})
    actions += [deltalog.remove_action(path, moment_ms) for path in log.live if path not in wanted]
    actions += [
        deltalog.add_action(table, entry, moment_ms, new=path not in known)
        for path, entry in wanted.items()
        if redefined or path not in known
    ]
    if not actions:
        return False
    info = {
        "timestamp": moment_ms,
        "operation": "VIEW",
        "engineInfo": f"ztfmatch/{ztfmatch.__version__}",
        "snapshot": snapshot.number,
    }
    if not deltalog.write_version(view, table.name, log.versions, actions, info):
        raise CommitConflictError(
            f"{view.root}/{table.name}: another process wrote version {log.versions}; run it again"
        )
    return True
