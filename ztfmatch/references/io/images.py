"""Metadata of images: from a table, from the ledger of a store, or from both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array
from ztfmatch.core.errors import MetadataError, first_line
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import N_RCID, exposureid_of
from ztfmatch.references.kernels.depth import combined_limit

ROWS_PER_BATCH: Final = 1_000_000

_NUMBERS: Final[dict[str, tuple[str, ...]]] = {
    "fwhm": ("fwhm", "seeing", "diq"),
    "magzp": ("magzp",),
    "clrcoeff": ("clrcoeff",),
    "maglimit": ("maglimit", "limitmag", "maglim"),
    "median": ("gmedian", "median"),
    "rms": ("grms", "pixrms", "rms"),
    "flatdelta": ("flatdelta",),
    "flatrms": ("flatrms",),
}
"""Our name and those of tables, in order of preference; compared in lower case."""

_WHOLE: Final[dict[str, tuple[str, ...]]] = {"status": ("status",), "infobits": ("infobits",)}
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "exposureid": ("exposureid",),
    "fracday": ("fracday", "filefracday"),
    "field": ("field", "fieldid"),
    "rcid": ("rcid",),
    "fid": ("fid", "filterid"),
}
_UNKNOWN: Final = -1
"""In place of a whole number that is not there."""

Columns = dict[str, Array]


@dataclass(frozen=True)
class ImageSource(WithPaths):
    """Where metadata of images are.

    Parameters
    ----------
    snapshot : SnapshotFiles, optional
        Of a store, whose ledger has them.
    table : Path, optional
        CSV or Parquet, a file or a directory of Parquet; beside a store it has what the ledger lacks.
    """

    snapshot: SnapshotFiles | None = None
    table: Path | None = None

    @property
    def name(self) -> str:
        """As an error calls it."""
        return str(self.table) if self.snapshot is None else self.snapshot.storage.root

    def batches(self, needed: Mapping[str, str], after_commit: int = -1) -> Iterator[Columns]:
        """Columns of images, some at a time: keys, and those that are needed; NaN or -1 where nothing is known.

        Parameters
        ----------
        needed : mapping of str to str
            Column, and the criterion that needs it.
        after_commit : int
            Of a store only what later commits ingested.

        Raises
        ------
        MetadataError
            If a column that is needed is not there, or has no value at all; if a filter is unknown.
        """
        rows = self._of_table(needed) if self.snapshot is None else self._of_store(needed, after_commit)
        known = dict.fromkeys(needed, False)
        images = 0
        for batch in rows:
            _check_keys(batch, self.name)
            images += len(batch["fid"])
            for name in known:
                values = batch[name]
                known[name] |= bool((values != _UNKNOWN).any() if name in _WHOLE else np.isfinite(values).any())
            yield batch
        empty = next((name for name, has in known.items() if not has), None)
        if images and empty is not None:
            raise MetadataError(
                f"{self.name}: column {empty} is empty in {images:,} images, and criterion {needed[empty]} needs it: "
                f"give it in a metadata table, or leave the criterion out (--without {needed[empty]})"
            )

    def _of_table(self, needed: Mapping[str, str]) -> Iterator[Columns]:
        assert self.table is not None
        for batch in _read(self.table, needed):
            yield _keys_of(batch, self.table) | {name: _column(batch[name], name, self.table) for name in needed}

    def _of_store(self, needed: Mapping[str, str], after_commit: int) -> Iterator[Columns]:
        assert self.snapshot is not None
        held = {name: next((n for n in (_NUMBERS | _WHOLE)[name] if n in EXPOSURES.names), None) for name in needed}
        beside = self._beside(needed)
        lacking = [name for name, column in held.items() if column is None and name not in beside]
        if lacking:
            raise _lacks(f"the ledger of {self.name}", lacking, needed)
        known = build_map(beside["exposureid"]) if beside else None
        names = ["exposureid", "field", "rcid", "fid", "commit", *filter(None, held.values())]
        for file in tracked(self.snapshot.ledger, "reading files of the ledger"):
            if file.commit <= after_commit:
                continue  # no row is of a later commit than its file
            rows = read_file_rows(self.snapshot.storage, file, list(dict.fromkeys(names)))
            rows = rows.filter(pc.greater(rows["commit"], after_commit))
            batch = {name: rows[name].to_numpy().astype(np.int64) for name in ("exposureid", "field", "rcid", "fid")}
            at = None if known is None else find_rows(known, batch["exposureid"])
            for name, column in held.items():
                values = None if column is None else _column(rows[column], name, Path(self.name))
                batch[name] = _completed(values, beside.get(name), at, name)
            yield batch

    def _beside(self, needed: Mapping[str, str]) -> Columns:
        """Columns of the table beside a store: those that it has; empty without rows."""
        if self.table is None:
            return {}
        schema = _names(self.table)
        held = {name: of for name, of in needed.items() if _found((_NUMBERS | _WHOLE)[name], schema)}
        parts = [
            _keys_of(batch, self.table) | {name: _column(batch[name], name, self.table) for name in held}
            for batch in _read(self.table, held)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


class MadeOf(TypedDict):
    """What a reference is made of, as columns of an audit."""

    nimages: int
    predicted: float | None
    """Depth that the images make, mag."""


def images_of_references(path: Path) -> dict[tuple[int, int, int], MadeOf]:
    """Number of images of references by field, readout channel and filter, and the depth that these make.

    Raises
    ------
    MetadataError
        If it cannot be read, lacks a column, or a number of images is not positive.
    """
    names = _names(path)
    wanted = ("field", "rcid", "fid", "nimages", "maglimit")
    lacking = [name for name in wanted if name not in names]
    if lacking:
        raise MetadataError(f"{path}: has no column {lacking[0]}; expected {', '.join(wanted)}")
    with _clear_errors(path):
        table = _dataset(path).to_table(columns=[names[name] for name in wanted]).rename_columns(list(wanted))
    keys = [_cast(table[name], pa.int64(), name, path) for name in wanted[:4]]
    if (keys[3] < 1).any():
        raise MetadataError(f"{path}: nimages is {keys[3].min()}; expected at least 1")
    predicted = combined_limit(_cast(table["maglimit"], pa.float64(), "maglimit", path), keys[3])
    return {
        (f, r, k): MadeOf(nimages=n, predicted=depth if np.isfinite(depth) else None)
        for f, r, k, n, depth in zip(*(key.tolist() for key in keys), predicted.tolist(), strict=True)
    }


def _completed(values: Array | None, others: Array | None, at: npt.NDArray[np.int32] | None, name: str) -> Array:
    """Values of the ledger, and of the table beside it where that has none."""
    if others is None or at is None:
        assert values is not None
        return values
    nothing = _UNKNOWN if name in _WHOLE else np.nan
    beside = np.where(at >= 0, others[at], nothing)
    if values is None:
        return beside
    return np.where(values == _UNKNOWN if name in _WHOLE else np.isnan(values), beside, values)


def _read(path: Path, needed: Mapping[str, str]) -> Iterator[pa.Table]:
    """Batches of a table, with our names of keys and of the columns that are needed."""
    import pyarrow.dataset as ds

    names = _names(path)
    found = {ours: _found(options, names) for ours, options in _KEYS.items()}
    wanted = {ours: theirs for ours, theirs in found.items() if theirs is not None}
    if "exposureid" in wanted:
        wanted.pop("fracday", None)
    for key in ("field", "rcid", "fid", *(() if "exposureid" in wanted else ("fracday",))):
        if key not in wanted:
            raise MetadataError(
                f"{path}: has no column {key} (looked for {', '.join(_KEYS[key])}); every image needs it"
            )
    given = {name: _found((_NUMBERS | _WHOLE)[name], names) for name in needed}
    if lacking := [name for name, theirs in given.items() if theirs is None]:
        raise _lacks(str(path), lacking, needed)
    wanted |= {name: theirs for name, theirs in given.items() if theirs is not None}
    projection = {ours: ds.field(theirs) for ours, theirs in wanted.items()}
    with _clear_errors(path):
        dataset = _dataset(path)
        how = {"schema": dataset.schema, "columns": projection, "batch_size": ROWS_PER_BATCH, "use_threads": False}
        for part in tracked([part for file in dataset.get_fragments() for part in _parts(file)], "reading metadata"):
            for batch in part.to_batches(**how):
                yield pa.Table.from_batches([batch])


def _parts(file: Any) -> list[Any]:
    """Row groups of a file of a dataset; the whole where it has none."""
    return list(file.split_by_row_group()) if hasattr(file, "split_by_row_group") else [file]


def _lacks(where: str, names: Sequence[str], needed: Mapping[str, str]) -> MetadataError:
    """Error for columns that are not there."""
    lacking = [
        f"no column {name} (looked for {', '.join((_NUMBERS | _WHOLE)[name])}), and criterion {needed[name]} needs it"
        for name in names
    ]
    without = " ".join(f"--without {of}" for of in dict.fromkeys(needed[name] for name in names))
    return MetadataError(
        f"{where} has {'; '.join(lacking)}: give it in a metadata table, or leave the criterion out ({without})"
    )


def _names(path: Path) -> dict[str, str]:
    """Columns of a table, by their name in lower case."""
    if not path.exists():
        raise MetadataError(f"{path}: no such table of metadata")
    with _clear_errors(path):
        return {name.lower(): name for name in reversed(_dataset(path).schema.names)}


def _dataset(path: Path) -> Any:
    import pyarrow.dataset as ds

    return ds.dataset(path, format="csv" if path.suffix.lower() == ".csv" else "parquet")


def _found(options: tuple[str, ...], names: Mapping[str, str]) -> str | None:
    return next((names[option] for option in options if option in names), None)


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise MetadataError(f"{path}: not a readable table of metadata: {first_line(error)}") from error


def _keys_of(batch: pa.Table, path: Path) -> Columns:
    """Keys of images as int64; exposureid is made of fracday and rcid where it is not there."""
    keys: Columns = {}
    for name in (one for one in _KEYS if one in batch.column_names):
        if batch[name].null_count:
            raise MetadataError(f"{path}: column {name} is empty in {batch[name].null_count:,} rows; expected a number")
        keys[name] = _cast(batch[name], pa.int64(), name, path)
    if "exposureid" not in keys:
        keys["exposureid"] = exposureid_of(keys["fracday"], keys["rcid"])
    keys.pop("fracday", None)
    return keys


def _column(values: pa.ChunkedArray, name: str, path: Path) -> Array:
    """Values of a column, NaN or -1 for null; floats keep their precision."""
    if name in _WHOLE:
        return _cast(pc.fill_null(_arrow(values, pa.int64(), name, path), _UNKNOWN), pa.int64(), name, path)
    return _cast(values, values.type if pa.types.is_floating(values.type) else pa.float64(), name, path)


def _cast(values: pa.ChunkedArray, kind: pa.DataType, name: str, path: Path) -> Array:
    return np.asarray(_arrow(values, kind, name, path).to_numpy())


def _arrow(values: pa.ChunkedArray, kind: pa.DataType, name: str, path: Path) -> pa.ChunkedArray:
    try:
        return values.cast(kind)
    except pa.ArrowException as error:
        raise MetadataError(f"{path}: column {name}: {first_line(error)}; expected numbers") from None


def _check_keys(batch: Columns, where: str) -> None:
    """Refuse filters, channels and fields that are not the survey's."""
    for name, (low, high) in {"fid": (1, 3), "rcid": (0, N_RCID - 1), "field": (1, 9999)}.items():
        bad = (batch[name] < low) | (batch[name] > high)
        if bad.any():
            row = int(np.argmax(bad))
            raise MetadataError(
                f"{where}: image {batch['exposureid'][row]} has {name} {batch[name][row]}; expected {low} to {high}"
            )
