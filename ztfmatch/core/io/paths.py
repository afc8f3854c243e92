"""All file names in a store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ztfmatch.core.kernels.tiling import Tile

STORE_FILE: Final = "store.json"
RETAINED_FILE: Final = "retained.json"
COMMITS: Final = "commits/"
STAGING: Final = "staging/"
DATA: Final = "data/"
MANIFESTS: Final = "manifests/"
HEARTBEATS: Final = "staging/running/"

PLAN_FILE: Final = "plan.json"
"""Of a directory of units of work, with the next two."""
COMMAND_FILE: Final = "command.json"
FINISHED_FILE: Final = "finished.json"
UNITS: Final = "units/"


def commit(number: int) -> str:
    """Commit record."""
    return f"{COMMITS}{number:010d}.json"


def number_of_commit(path: str) -> int | None:
    """Number of a commit record's path; None for anything else."""
    name = path.removeprefix(COMMITS)
    stem = name.removesuffix(".json")
    return int(stem) if name != stem and stem.isdigit() else None


def manifest(identity: str) -> str:
    """Part of the list of live files."""
    return f"{MANIFESTS}{identity}.parquet"


def tiling(identity: str) -> str:
    """The tiles of a snapshot."""
    return f"{MANIFESTS}{identity}-tiling.json"


def data_file(table: str, tile: Tile | None, commit_number: int, part: str) -> str:
    """Parquet file of a table; a tile of None is for the tables that are not divided over the sky."""
    name = f"{commit_number:010d}-{part}.parquet"
    if tile is None:
        return f"{DATA}{table}/{name}"
    directory = tile.npix // 10_000 * 10_000
    return f"{DATA}{table}/Norder={tile.order}/Dir={directory}/Npix={tile.npix}/{name}"


def place_of(path: str) -> tuple[str, int, int]:
    """Table, order and pixel of a data file's path; order and pixel are -1 in a table that is not divided over the sky.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = re.fullmatch(rf"{DATA}([^/]+)/(?:Norder=(\d+)/Dir=\d+/Npix=(\d+)/)?[^/]+", path)
    if match is None:
        raise ValueError(f"{path!r} is no data file's path; expected one below {DATA} and the name of its table")
    return match[1], int(match[2] or -1), int(match[3] or -1)


def made_for(path: str) -> tuple[int, str] | None:
    """Number of the snapshot that a manifest or data file was written for, and how its operation's id begins."""
    match = re.match(r"(\d{10})-([0-9a-f]{12})", path.rsplit("/", 1)[-1])
    return None if match is None else (int(match[1]), match[2])


def staged_result(operation_id: str, key: str) -> str:
    """What a finished task returned, kept until the commit so that a rerun need not repeat it."""
    return f"{STAGING}{operation_id}/{key}.json"


def staged_flows(operation_id: str, key: str) -> str:
    """What a task counted for the lineage, kept as long."""
    return f"{STAGING}{operation_id}/{key}.flows.npz"


def staged_array(operation_id: str, name: str) -> str:
    """Arrays that a task left for another of the same operation, kept as long."""
    return f"{STAGING}{operation_id}/{name}.npz"


def staged_part(operation_id: str, key: str) -> str:
    """What a task is told that is too long to be sent, kept as long."""
    return f"{STAGING}{operation_id}/{key}.part"


def staged_files(operation_id: str, digest: str) -> str:
    """A list of files that an operation has written, kept as long."""
    return f"{STAGING}{operation_id}/files-{digest}"


def held_snapshot(operation_id: str, number: int) -> str:
    """Says that an operation is about to name the files of an older snapshot again."""
    return f"{STAGING}{operation_id}/snapshot-{number:010d}"


def number_held(path: str) -> int | None:
    """Snapshot that a path made by :func:`held_snapshot` names; None for anything else."""
    number = path.rsplit("/", 1)[-1].removeprefix("snapshot-")
    return int(number) if path.endswith(f"/snapshot-{number}") and number.isdigit() else None


def heartbeat(operation_id: str) -> str:
    """How far an operation is, while it runs; apart from what it stages, so that all of them are soon listed."""
    return f"{HEARTBEATS}{operation_id}"


def staging_of(operation_id: str) -> str:
    """All that is staged for one operation."""
    return f"{STAGING}{operation_id}/"


def units_file(name: str) -> str:
    """Part of a plan that is divided into units of work."""
    return f"{UNITS}{name}.msgpack"
