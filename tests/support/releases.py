"""What tests of releases share: a survey of three programs, its store, and what a release must show, by pandas."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import ztfmatch
from ztfmatch.core.config import AppendConfig
from ztfmatch.release import HatsConfig
from ztfmatch.release.io.scope import Quality, ReleaseScope, Window
from ztfmatch.simulate import SimulationConfig, simulate

CONFIG = SimulationConfig(n_exposures=6, stars_per_quadrant=500)
MIDDLE = 58340.0
SCOPE = ReleaseScope(
    "dr2", (Window(1), Window(2, None, MIDDLE)), description="Programs 1 and 2: a = b, ünïcode, C:\\x #1 !"
)
SMALL = HatsConfig(partition_rows=500, magerr_bits=24)
"""Many partitions, and every bit."""


def make_survey(place: Path, seeds_per_tile: int = 700) -> ztfmatch.Store:
    """Eight units of two fields, appended in three portions, so that tiles have several files."""
    sky = place / "sky"
    simulate(sky, CONFIG)
    store = ztfmatch.init_store(
        place / "store", str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=seeds_per_tile)
    )
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    for i in range(3):
        store.append(catalogs[i::3], AppendConfig(exposures=sky / "exposures.csv"))
    return store


@dataclass(frozen=True)
class Expected:
    """What a release has to show."""

    epochs: pd.DataFrame
    """Its epochs with those of their exposure's columns that matter, by objectid and time."""
    every: pd.DataFrame
    """The same of all epochs of active objects."""
    objects: pd.DataFrame
    """Active objects of its units, by objectid."""


def expected(snapshot: ztfmatch.Snapshot, scope: ReleaseScope) -> Expected:
    """Join and filter whole tables; none of the package's ways to do it is used."""
    detections = snapshot.table("detections").to_pandas()
    ledger = snapshot.table("exposures").to_pandas()
    objects = snapshot.table("objects").to_pandas()
    objects = objects[objects.status == "active"].sort_values("objectid")
    wanted = ["exposureid", "programid", "obsmjd", "clrcoeff", "quality", "airmass", "seeing", "maglimit"]
    every = detections.merge(ledger[wanted], on="exposureid")
    every = every.merge(objects[["objectid", "field", "fid"]], on="objectid")
    every = every.sort_values(["objectid", "hmjd", "exposureid"], ignore_index=True)
    inside = np.zeros(len(every), bool)
    for window in scope.windows:
        low, high = window.since or 0.0, window.until or 1e9
        inside |= (every.programid == window.programid) & (every.obsmjd >= low) & (every.obsmjd < high)
    epochs = every[inside & every.mag.notna()]
    if scope.fids:
        epochs, objects = epochs[epochs.fid.isin(scope.fids)], objects[objects.fid.isin(scope.fids)]
    if scope.fields:
        for low, high in scope.fields:
            epochs = epochs[(epochs.field >= low) & (epochs.field <= high)]
            objects = objects[(objects.field >= low) & (objects.field <= high)]
    return Expected(_cut(epochs, scope.quality), every, objects)


def _cut(epochs: pd.DataFrame, quality: Quality) -> pd.DataFrame:
    if quality.only_good_exposures:
        epochs = epochs[epochs.quality == "good"]
    if quality.reject_catflags:
        epochs = epochs[(epochs.catflags & quality.reject_catflags) == 0]
    for column, most in (("magerr", "max_magerr"), ("airmass", "max_airmass"), ("seeing", "max_seeing")):
        if getattr(quality, most) is not None:
            epochs = epochs[epochs[column] <= getattr(quality, most)]
    if quality.min_maglimit is not None:
        epochs = epochs[epochs.maglimit >= quality.min_maglimit]
    return epochs


def flat(rows: pa.Table, lists: str | None = None) -> pa.Table:
    """Epochs of rows of lists (or of a struct of them), one a row, by objectid and time."""
    rows = rows.sort_by("objectid")
    names = ["hmjd", "mag", "magerr", "clrcoeff", "catflags"]
    source = rows[lists].combine_chunks() if lists else rows
    columns = {name: source.field(name) if lists else rows[name].combine_chunks() for name in names}
    counts = rows["nepochs"].to_numpy()
    made = {"objectid": np.repeat(rows["objectid"].to_numpy(), counts)}
    return pa.table(made | {name: column.flatten() for name, column in columns.items()})


def assert_epochs(got: pa.Table, epochs: pd.DataFrame) -> None:
    """To the bit."""
    assert got.num_rows == len(epochs)
    for name in ("objectid", "hmjd", "mag", "magerr", "catflags"):
        np.testing.assert_array_equal(got[name].to_numpy(), epochs[name].to_numpy(), err_msg=name)
    np.testing.assert_array_equal(got["clrcoeff"].to_numpy(), epochs.clrcoeff.to_numpy(np.float32))


def digests(place: Path) -> dict[str, str]:
    """Digest of every file below a directory."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def hidden(place: Path) -> list[str]:
    """Unfinished products beside a place."""
    return sorted(path.name for path in place.iterdir() if path.name.startswith("."))
