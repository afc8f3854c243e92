"""What of a release is new, gone or changed in the next: two products of a kind, object by object.

Of each object the number of epochs and a digest of its values are held, of some tens of millions of objects at a time;
products of more are read several times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ids
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import STATISTICS
from ztfmatch.release.check import files_of_rows, read_manifest
from ztfmatch.release.schema import LIGHTCURVE, LIGHTCURVE_COLUMN, RELEASED_OBJECTS
from ztfmatch.release.successors import Successors

Digests = npt.NDArray[np.uint64]

OBJECTS_AT_ONCE: Final = 50_000_000
"""Twenty bytes each, of either product."""
NEW, GONE, CHANGED = "new", "gone", "changed"
_BATCH_ROWS: Final = 1 << 16
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(29)


def schema_of(*counts: str) -> pa.Schema:
    """Rows of objects that differ, with some counts; the last two say of what is gone what the lineage has of it."""
    ids = {"objectid": pa.int64(), "change": pa.string()}
    return pa.schema(ids | dict.fromkeys(counts, pa.int64()) | {"kind": pa.string(), "newobjectid": pa.int64()})


SCHEMA: Final = schema_of("epochs_before", "epochs_after")

_OF_EPOCHS: Final = tuple(column.name for column in LIGHTCURVE)
_OF_OBJECTS: Final = tuple(
    column.name for column in RELEASED_OBJECTS.columns if column.name in STATISTICS.names and column.name != "nobsrel"
)


@dataclass(frozen=True)
class _Layout:
    """Where a product has what is compared."""

    key: str
    epochs: str
    values: tuple[str, ...]
    listed: bool
    """Whether the values are lists, of the epochs."""


_LAYOUTS: Final = {
    "hats lightcurves": _Layout("objectid", "nepochs", tuple(f"{LIGHTCURVE_COLUMN}.{n}" for n in _OF_EPOCHS), True),
    "hats objects": _Layout("oid", "nobsrel", _OF_OBJECTS, False),
    "bulk": _Layout("objectid", "nepochs", _OF_EPOCHS, True),
}


@dataclass(frozen=True, kw_only=True)
class ReleaseDifference(Displayable):
    """How a product differs from an older one."""

    before: str
    after: str
    product: str
    releases: tuple[str, str]
    objects: tuple[int, int]
    epochs: tuple[int, int]
    new: int
    gone: int
    changed: int
    """With other epochs, or other values of them."""
    same: int
    lineage: dict[str, int]
    """Of those that are gone, by kind of lineage; 'none' have none. Empty without a store."""
    succeeded: int
    """Of those that are gone, how many have a successor in the newest generation."""
    seconds: float


@dataclass(frozen=True)
class _Objects:
    """Objects of a product, ascending."""

    ids: Ids
    epochs: Ids
    digests: Digests


@dataclass
class Comparison:
    """Two products, compared as :meth:`rows` are asked for; then there is a report.

    Raises
    ------
    ConfigError, BadInputError
        If one is not a product, is of no kind that can be compared, or they are of different kinds.
    """

    before: Path
    after: Path
    """Directories that ``publish`` made: HATS lightcurves, objects, or bulk files; both of a kind."""
    snapshot: SnapshotFiles | None = None
    """Of the store that the newer one was made of: its lineage says what became of objects that are gone."""
    _counts: Counter[str] = field(default_factory=Counter)
    _epochs: list[int] = field(default_factory=lambda: [0, 0])
    _objects: list[int] = field(default_factory=lambda: [0, 0])
    _watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self._manifests = [read_manifest(place) for place in (self.before, self.after)]
        kinds = [manifest.product for manifest in self._manifests]
        if kinds[0] != kinds[1] or kinds[0] not in _LAYOUTS:
            raise ConfigError(
                f"{self.before} is {kinds[0]!r} and {self.after} {kinds[1]!r}; expected two of one of "
                f"{', '.join(map(repr, _LAYOUTS))}"
            )
        self._layout, self._links = _LAYOUTS[kinds[0]], Successors(self.snapshot)

    def rows(self) -> Iterator[pa.Table]:
        """What differs, some objects at a time."""
        places = [[place / name for name in files_of_rows(place)] for place in (self.before, self.after)]
        most = max(sum(pq.read_metadata(path).num_rows for path in paths) for paths in places)
        portions = max(math.ceil(most / OBJECTS_AT_ONCE), 1)
        for portion in range(portions):
            old, new = (_read(paths, self._layout, portion, portions) for paths in places)
            yield self._compared(old, new)

    def _compared(self, old: _Objects, new: _Objects) -> pa.Table:
        for side, objects in enumerate((old, new)):
            self._objects[side] += len(objects.ids)
            self._epochs[side] += int(objects.epochs.sum())
        arrived, gone = ~is_among(new.ids, old.ids), ~is_among(old.ids, new.ids)
        stayed_old, stayed = np.flatnonzero(~gone), np.flatnonzero(~arrived)
        other = (old.digests[stayed_old] != new.digests[stayed]) | (old.epochs[stayed_old] != new.epochs[stayed])
        self._counts.update({NEW: int(arrived.sum()), GONE: int(gone.sum()), CHANGED: int(other.sum())})
        self._counts["same"] += len(stayed) - int(other.sum())
        were, are = stayed_old[other], stayed[other]
        parts = [
            changed_rows(SCHEMA, NEW, objectid=new.ids[arrived], epochs_after=new.epochs[arrived]),
            changed_rows(
                SCHEMA, CHANGED, objectid=new.ids[are], epochs_before=old.epochs[were], epochs_after=new.epochs[are]
            ),
            changed_rows(
                SCHEMA, GONE, objectid=old.ids[gone], epochs_before=old.epochs[gone], **self._links.of(old.ids[gone])
            ),
        ]
        return pa.concat_tables(parts).sort_by("objectid")

    def report(self) -> ReleaseDifference:
        """What differs, in numbers; of all :meth:`rows`."""
        return ReleaseDifference(
            before=str(self.before),
            after=str(self.after),
            product=self._manifests[0].product,
            releases=(self._manifests[0].release, self._manifests[1].release),
            objects=(self._objects[0], self._objects[1]),
            epochs=(self._epochs[0], self._epochs[1]),
            new=self._counts[NEW],
            gone=self._counts[GONE],
            changed=self._counts[CHANGED],
            same=self._counts["same"],
            lineage=self._links.kinds,
            succeeded=self._links.succeeded,
            seconds=self._watch.seconds,
        )


def changed_rows(schema: pa.Schema, change: str, **columns: Any) -> pa.Table:
    """Rows of objects with one kind of change; columns that are not given are null."""
    n = len(columns["objectid"])
    columns |= {"change": pa.repeat(change, n)}
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _read(paths: Sequence[Path], layout: _Layout, portion: int, portions: int) -> _Objects:
    parts: list[tuple[Any, Any, Any]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))]
    columns = [layout.key, layout.epochs, *layout.values]
    for path in tracked(paths, "reading files"):
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns):
                ids = batch[layout.key].to_numpy()
                mine = ids % portions == portion
                epochs = batch[layout.epochs].fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
                parts.append((ids[mine], epochs[mine], _digests(batch, layout, epochs)[mine]))
    ids, epochs, digests = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(ids)
    return _Objects(ids[order], epochs[order], digests[order])


def _digests(batch: pa.RecordBatch, layout: _Layout, epochs: Ids) -> Digests:
    """A number for each row that differs, all but certainly, where any bit of its values does."""
    if batch.num_rows == 0:
        return np.zeros(0, np.uint64)
    mixed = digest_of(batch, layout.values)
    if not layout.listed:
        return mixed
    place = np.arange(len(mixed), dtype=np.uint64) - np.repeat(np.cumsum(epochs) - epochs, epochs).astype(np.uint64)
    return np.asarray(np.add.reduceat(_mixed(mixed ^ place), np.cumsum(epochs) - epochs))


def digest_of(batch: pa.RecordBatch, names: Sequence[str]) -> Digests:
    """The same of some columns; of lists one for each element."""
    mixed: Any = np.uint64(0)
    for name in names:
        mixed = _mixed(mixed ^ _bits(_column(batch, name)))
    return np.asarray(mixed)


def _mixed(values: Digests) -> Digests:
    values = values * _FACTOR
    return np.asarray(values ^ (values >> _SHIFT))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Values of a column; of lists all, one after the other."""
    outer, _, inner = name.partition(".")
    column = batch[outer]
    column = column.field(inner) if inner else column
    return column.flatten() if pa.types.is_list(column.type) else column


def _bits(values: pa.Array) -> Digests:
    """Bits of numbers; those of a null are of no number."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    plain = values.fill_null(0).to_numpy(zero_copy_only=False)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.where(missing, _FACTOR, plain.view(f"u{plain.itemsize}").astype(np.uint64))
