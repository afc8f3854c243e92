"""Corrections from the offsets of units alone: without PS1, fields are brought to agree with each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.corrections import provenance, write_corrections
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.schema import EXPOSURES, OFFSETS

INTERNAL = "internal"
"""What a set is made from that is not made from PS1."""


@dataclass(frozen=True, kw_only=True)
class InternalReport(Displayable):
    """What was written."""

    store: str
    snapshot: int
    output: str
    corrections: str
    """Name of the set."""
    units: int
    groups: int
    """Groups of units that overlaps connect: offsets bring units of one group to agree, not groups."""
    programs: list[int]
    """Whose epochs the offsets were measured from."""


def calibrate_internal(snapshot: SnapshotFiles, output: Path) -> InternalReport:
    """Write a set of corrections with a field term alone, which ``correct`` applies.

    The terms of magnitude and position are without a value: magnitudes get the flags that say so.

    Parameters
    ----------
    snapshot : SnapshotFiles
        With offsets, and without corrections: the offsets are of the magnitudes as they are.
    output : Path
        Must not exist, or be empty.

    Raises
    ------
    ConfigError
        If the snapshot has no offsets, or corrections.
    """
    ledger = snapshot.read(EXPOSURES.name, ["corrections", "programid"])
    if ledger["corrections"].null_count < ledger.num_rows:
        raise ConfigError(
            f"{snapshot.storage.root} has corrections, which a set of offsets would take the place of: take them off "
            "with 'ztfmatch correct --none', then measure the offsets again"
        )
    rows = snapshot.read(OFFSETS.name)
    if not rows.num_rows:
        raise ConfigError(f"{snapshot.storage.root} has no offsets of units: run 'ztfmatch offsets' first")
    programs = sorted(value or 0 for value in pc.unique(ledger["programid"]).to_pylist())
    about = provenance(snapshot, INTERNAL, (1, 1), counts={"units": rows.num_rows}, programs=programs)
    groups = len(rows.group_by(["fid", "group"]).aggregate([]))
    digest = write_corrections(output, _tables(rows), about)
    return InternalReport(
        store=snapshot.storage.root,
        snapshot=snapshot.number,
        output=str(output),
        corrections=digest,
        units=rows.num_rows,
        groups=groups,
        programs=programs,
    )


def _tables(rows: pa.Table) -> dict[str, pa.Table]:
    """Tables of a set: channels whose terms have no value, and the offsets."""
    channels = np.unique(np.stack([rows["rcid"].to_numpy(), rows["fid"].to_numpy()]), axis=1)
    n = channels.shape[1]
    channel = {"rcid": pa.array(channels[0], pa.int8()), "fid": pa.array(channels[1], pa.int8())}
    nothing, zeros = pa.nulls(n, pa.float64()), pa.array(np.zeros(n, np.int64))
    terms = ("bright", "faint", "slope", "curvature", "slope_error", "curvature_error", "covariance")
    field = rows.select(["field", "rcid", "fid"]).append_column("value", rows["offset"])
    field = field.append_column("error", rows["error"]).append_column("stars", rows["nstars"])
    cell = pa.array(np.zeros(n, np.int16))
    units = {"field": pa.array([], pa.int16()), "rcid": pa.array([], pa.int8()), "fid": pa.array([], pa.int8())}
    no_floats = pa.array([], pa.float64())
    return {
        "magnitude": pa.table({**channel, **dict.fromkeys(terms, nothing), "stars": zeros, "detections": zeros}),
        "position": pa.table({**channel, "column": cell, "row": cell, "value": nothing, "error": nothing,
                              "stars": zeros, "detections": zeros}),
        "field": field,
        "errormodel": pa.table({**units, **dict.fromkeys("abcd", no_floats)}),
        "exposures": pa.table({"exposureid": pa.array([], pa.int64()), "relzp": no_floats, "relzprms": no_floats,
                               "nrelzp": pa.array([], pa.int32())}),
        "sums": pa.table({**{name: channel[name].slice(0, 0) for name in channel}, "cell": pa.array([], pa.int32())}),
    }  # fmt: skip
