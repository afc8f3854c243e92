"""Read lists of objectids: one per line, or a column ``objectid`` of CSV or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ints
from ztfmatch.core.errors import MetadataError, first_line

_COLUMN = "objectid"


def read_objectids(path: Path) -> Ints:
    """Objectids of a file, ascending, each once.

    Raises
    ------
    MetadataError
        If it cannot be read, or has something else in it.
    """
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        ids = _numbers(pq.read_table(path, columns=[_COLUMN])) if is_parquet else _of_text(path)
    except FileNotFoundError:
        raise MetadataError(f"{path}: no such file") from None
    except (pa.ArrowException, KeyError, ValueError, OverflowError, OSError) as error:
        raise MetadataError(
            f"{path}: expected objectids, one a line or a column {_COLUMN!r}; {first_line(error)}"
        ) from None
    return np.unique(ids)


def _numbers(rows: pa.Table) -> Ints:
    ids = rows[_COLUMN].cast(pa.int64())
    if ids.null_count:
        raise ValueError(f"{ids.null_count} rows have none")
    return np.asarray(ids.to_numpy())


def _of_text(path: Path) -> Ints:
    lines = path.read_text().splitlines()
    words = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if words and not words[0].isdecimal():
        return _numbers(pyarrow.csv.read_csv(path))
    return np.array([int(word) for word in words], np.int64)
