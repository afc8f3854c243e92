"""A PS1 catalog of any size, as Parquet, HATS or SQLite, read box by box.

Columns are found by the names below (in any case), by those of PS1's MeanObject tables, or by a mapping. Only the rows
of a box on the sky are held: Parquet row groups are passed over by the bounds of their declinations and right
ascensions, so files sorted by declination or divided over the sky are quick; of a HATS catalog only the partitions near
the box are opened; a SQLite table wants an index on its declination.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Ids
from ztfmatch.core.errors import MetadataError, first_line
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.kernels.crossmatch import build_grid, count_seeds, nearest_seeds
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec, unit_vectors
from ztfmatch.photometry.io import ps1hats
from ztfmatch.photometry.io.skybox import Box

BANDS: Final = "gri"
REQUIRED: Final = ("ra", "dec", *BANDS)
OPTIONAL: Final = (*(f"{band}_err" for band in BANDS), "star")

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "ra": ("ra", "ramean", "raj2000"),
    "dec": ("dec", "decmean", "dej2000"),
    **{band: (band, f"{band}mag", f"{band}meanpsfmag") for band in BANDS},
    **{f"{band}_err": (f"{band}_err", f"{band}err", f"e_{band}mag", f"{band}meanpsfmagerr") for band in BANDS},
    "star": ("star", "is_star"),
}
"""Names by which a column is found, in order of preference, in lower case."""

_FETCH_ROWS: Final = 100_000
_STEPS_PER_LOOK: Final = 1_000_000
_LOOKS: Final = 100
_BYTES_PER_LOOK: Final = 10_000
"""SQLite's steps: a scan takes some 20 for each row, of some 40 bytes at least; 100 for each byte end no honest one."""
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_MARGIN_DEG: Final = 1.0 / 60.0
"""How far around positions."""
_PLAUSIBLE_MAG: Final = (5.0, 30.0)
_MISSING: Final = -999.0
"""PS1 writes it where it has no value."""


@dataclass(frozen=True)
class Ps1Stars:
    """PS1 sources of a box, shape (N,) each."""

    ra: Floats
    """Degrees, ICRS."""
    dec: Floats
    mag: Floats
    """g, r, i; NaN where not measured; shape (3, N)."""
    error: Floats
    """Their errors; NaN where the catalog gives none; shape (3, N)."""
    star: npt.NDArray[np.bool_]
    """Whether the source is a good star."""

    @property
    def lacking(self) -> list[str]:
        """Bands in which no source has a magnitude, of g, r and i."""
        return [band for band, mag in zip(BANDS, self.mag, strict=True) if np.isnan(mag).all()]

    def nearest(self, xyz: Floats, match_arcsec: float, isolation_arcsec: float) -> npt.NDArray[np.int64]:
        """Star at each position, unit vectors of shape (N, 3), alone within the isolation radius; -1 for none."""
        if not len(self.ra):
            return np.full(len(xyz), -1, np.int64)
        grid = build_grid(unit_vectors(self.ra, self.dec), isolation_arcsec)
        nearest, chord2 = nearest_seeds(grid, xyz)
        found = (nearest >= 0) & (chord2 <= chord2_of_arcsec(match_arcsec))
        found &= count_seeds(grid, xyz) == 1
        found &= self.star[np.maximum(nearest, 0)]
        return np.where(found, nearest, -1).astype(np.int64)

    def references(self, source: Ids, fid: int | Ids, max_error: float = np.inf) -> tuple[Floats, Floats]:
        """Magnitude in a filter and colour of its colour term, r - i for i, else g - r; NaN where they cannot be used.

        Parameters
        ----------
        source : int64 ndarray, shape (N,)
            Numbers of sources; -1 for none.
        fid : int, or int64 ndarray of shape (N,)
            Filter ids, 1 to 3.
        max_error : float
            Largest error of a magnitude that is used, of the filter or of the colour.
        """
        mag, colour = np.full(len(source), np.nan), np.full(len(source), np.nan)
        rows = np.flatnonzero(source >= 0)
        at, band = source[rows], np.broadcast_to(np.asarray(fid) - 1, source.shape)[rows]
        blue = np.where(band == 2, 1, 0)
        colour[rows] = self.mag[blue, at] - self.mag[blue + 1, at]
        usable = np.isfinite(colour[rows])
        for used in (band, blue, blue + 1):
            usable &= ~(self.error[used, at] > max_error)
        mag[rows] = np.where(usable, self.mag[band, at], np.nan)
        return mag, colour


NO_STARS: Final = Ps1Stars(np.zeros(0), np.zeros(0), np.zeros((3, 0)), np.zeros((3, 0)), np.zeros(0, bool))
"""Where there is no source."""


@dataclass(frozen=True)
class Ps1Catalog:
    """Where a PS1 catalog is, and what its columns are called; made by :func:`open_ps1`, cheap to pickle."""

    path: str
    table: str | None
    """Of a SQLite database; None for Parquet."""
    columns: tuple[tuple[str, str], ...]
    """Our name and the catalog's."""
    stamp: str
    """Digest of names, sizes and times of its files: a catalog that was replaced is another one."""
    partitions: str | None = None
    """Directory of the partitions of a HATS catalog; None of others."""
    dec_as_text: bool = False
    """Whether a database has declinations as text, which no index orders by number."""

    def read(self, box: Box) -> Ps1Stars:
        """All sources of a box, stars or not.

        Raises
        ------
        MetadataError
            If the catalog cannot be read.
        """
        names = dict(self.columns)
        rows = self._parquet(box, names) if self.table is None else self._sqlite(box, names)
        columns = {ours: np.array(rows[theirs].to_numpy(), np.float64) for ours, theirs in names.items()}
        n = len(columns["ra"])
        mag = np.stack([columns[band] for band in BANDS])
        mag[~((mag > _PLAUSIBLE_MAG[0]) & (mag < _PLAUSIBLE_MAG[1]))] = np.nan
        error = np.stack([columns.get(f"{band}_err", np.full(n, np.nan)) for band in BANDS])
        error[~(error > 0.0)] = np.nan
        star = ~np.isin(np.nan_to_num(columns.get("star", np.ones(n))), (0.0, _MISSING))
        usable = np.isfinite(columns["ra"]) & np.isfinite(columns["dec"])
        return Ps1Stars(columns["ra"][usable], columns["dec"][usable], mag[:, usable], error[:, usable], star[usable])

    def around(self, ra: Floats, dec: Floats) -> Ps1Stars:
        """All sources around some positions, shape (N,), degrees."""
        return self.read(Box.around(ra, dec, _MARGIN_DEG)) if len(ra) else NO_STARS

    def _parquet(self, box: Box, names: Mapping[str, str]) -> pa.Table:
        import pyarrow.dataset as ds

        ra, dec = ds.field(names["ra"]), ds.field(names["dec"])
        across = (ra >= box.ra[0][0]) & (ra <= box.ra[0][1])
        for low, high in box.ra[1:]:
            across = across | ((ra >= low) & (ra <= high))
        inside = (dec >= box.dec[0]) & (dec <= box.dec[1]) & across
        wanted = list(dict.fromkeys(names.values()))
        with _clear_errors(self.path):
            files = (
                _plain_files(self.path, self.stamp)
                if self.partitions is None
                else ps1hats.files_near(self.partitions, box, self.stamp)
            )
            if not files:
                return _empty(wanted)
            rows: pa.Table = ds.dataset(files, format="parquet").to_table(
                columns=wanted, filter=inside, use_threads=False
            )
            return rows.cast(_empty(wanted).schema)

    def _sqlite(self, box: Box, names: Mapping[str, str]) -> pa.Table:
        wanted = list(dict.fromkeys(names.values()))
        ra, dec = f"CAST({_quoted(names['ra'])} AS REAL)", _quoted(names["dec"])
        dec = f"CAST({dec} AS REAL)" if self.dec_as_text else dec  # else as it is, for its index
        across = " OR ".join(f"{ra} BETWEEN ? AND ?" for _ in box.ra)
        query = (
            f"SELECT {', '.join(map(_quoted, wanted))} FROM {_quoted(self.table or '')} "  # noqa: S608  (quoted names)
            f"WHERE {dec} BETWEEN ? AND ? AND ({across})"
        )
        bounds = [*box.dec, *(edge for pair in box.ra for edge in pair)]
        parts = [_empty(wanted)]
        with _clear_errors(self.path), _connected(self.path) as connection:
            cursor = connection.execute(query, bounds)
            while rows := cursor.fetchmany(_FETCH_ROWS):
                columns = zip(wanted, zip(*rows, strict=True), strict=True)
                parts.append(pa.table({name: self._sql_numbers(name, values) for name, values in columns}))
        return pa.concat_tables(parts)

    def _sql_numbers(self, name: str, values: Sequence[Any]) -> pa.Array:
        """Numbers of a column, which may hold them as text; what is empty is null."""
        try:
            return pa.array([None if v is None or v == "" else float(v) for v in values], pa.float64())
        except (ValueError, TypeError):
            value = next(v for v in values if not _is_number(v))
        raise MetadataError(
            f"{self.path}: column {name} of table {self.table} has the {_SQL_TYPES.get(type(value), 'value')} "
            f"{value!r}; expected a number or NULL"
        )


def open_ps1(path: Path, mapping: Mapping[str, str] | None = None) -> Ps1Catalog:
    """Find out what a PS1 catalog is and what its columns are called.

    Parameters
    ----------
    path : Path
        Parquet file, directory of Parquet files, HATS catalog or collection, or SQLite database.
    mapping : mapping of str to str, optional
        Our name of a column and the catalog's, for columns of other names; ``table`` names the table of a database.

    Raises
    ------
    MetadataError
        If there is no such file, it is none of them, lacks columns, or has text in one.
    """
    given = dict(mapping or {})
    table = given.pop("table", None)
    unknown = sorted(set(given) - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise MetadataError(f"PS1 column {unknown[0]!r} is not one of {', '.join((*REQUIRED, *OPTIONAL))}")
    path = path.absolute()
    if not path.exists():
        raise MetadataError(f"{path}: no such PS1 catalog")
    if path.is_file() and _head(path) == _SQLITE_MAGIC:
        return _open_sqlite(path, table or _only_table(path), given)
    return _open_parquet(path, given)


def _open_sqlite(path: Path, table: str, given: Mapping[str, str]) -> Ps1Catalog:
    found = _found(path, _sqlite_columns(path, table), given)
    as_text = _has_text(path, table, found["dec"])
    return Ps1Catalog(str(path), table, tuple(found.items()), _stamp(path), dec_as_text=as_text)


def _open_parquet(path: Path, given: Mapping[str, str]) -> Ps1Catalog:
    partitions = ps1hats.partitions_of(path) if path.is_dir() else None
    stamp = _stamp(partitions or path)
    schema = _parquet_schema(path if partitions is None else Path(ps1hats.first_file(str(partitions), stamp)))
    found = _found(path, schema.names, given)
    for name in found.values():
        kind = schema.field(name).type
        if not any(is_kind(kind) for is_kind in _NUMBERS):
            raise MetadataError(f"{path}: column {name} is of type {kind}; expected numbers: write it as double")
    held = None if partitions is None else str(partitions)
    return Ps1Catalog(str(path), None, tuple(found.items()), stamp, partitions=held)


_NUMBERS: Final = (
    *(pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal),
    *(pa.types.is_boolean, pa.types.is_null),
)


def _stamp(path: Path) -> str:
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in ps1hats.files_below(path)]
    return short_digest(repr(seen).encode())


@functools.lru_cache(maxsize=2)
def _plain_files(path: str, stamp: str) -> list[str]:  # noqa: ARG001  (the stamp distinguishes states)
    return ps1hats.data_files(Path(path))


def _found(path: Path, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    lower = {name.lower(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for ours in (*REQUIRED, *OPTIONAL):
        options = (given[ours].lower(),) if ours in given else ALIASES[ours]
        theirs = next((lower[option] for option in options if option in lower), None)
        if theirs is not None:
            found[ours] = theirs
        elif ours in REQUIRED or ours in given:
            looked = given.get(ours, " or ".join(ALIASES[ours]))
            raise MetadataError(
                f"{path}: a PS1 catalog needs a column {ours} (looked for {looked}); it has {', '.join(names)}; "
                f"name it with --ps1-column {ours}=NAME"
            )
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise MetadataError(f"{path}: the PS1 catalog cannot be read: {error.strerror or error}") from None


def _parquet_schema(path: Path) -> pa.Schema:
    import pyarrow.dataset as ds

    files = ps1hats.data_files(path)
    if not files:
        raise MetadataError(f"{path}: holds no Parquet file")
    with _clear_errors(str(path)):
        return ds.dataset(files, format="parquet").schema


def _only_table(path: Path) -> str:
    with _clear_errors(str(path)), _connected(str(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    names = sorted(name for (name,) in rows)
    if len(names) != 1:
        raise MetadataError(f"{path}: has tables {', '.join(names) or 'none'}; name one with --ps1-column table=NAME")
    return str(names[0])


def _sqlite_columns(path: Path, table: str) -> list[str]:
    with _clear_errors(str(path)), _connected(str(path)) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(table)})")]
    if not names:
        raise MetadataError(f"{path}: has no table {table!r}")
    return names


def _has_text(path: Path, table: str, column: str) -> bool:
    """Whether a column has texts that are not empty: to SQLite they are above all numbers, so an index finds them."""
    query = f"SELECT 1 FROM {_quoted(table)} WHERE {_quoted(column)} > '' LIMIT 1"  # noqa: S608  (quoted names)
    with _clear_errors(str(path)), _connected(str(path)) as connection:
        return connection.execute(query).fetchone() is not None


@contextlib.contextmanager
def _connected(path: str) -> Iterator[sqlite3.Connection]:
    """A database that may be anybody's: what its views call is harmless, and they end."""
    looks = _LOOKS + Path(path).stat().st_size // _BYTES_PER_LOOK
    with contextlib.closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        calls = itertools.count(1)
        connection.set_progress_handler(lambda: next(calls) > looks, _STEPS_PER_LOOK)
        try:
            yield connection
        except sqlite3.OperationalError:
            if next(calls) <= looks:
                raise
            raise MetadataError(
                f"{path}: reading it takes far more steps than a table of its size needs; expected a table, or a view "
                "that joins tables by an index"
            ) from None


@contextlib.contextmanager
def _clear_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, pa.ArrowException, OSError) as error:
        expected = "expected Parquet (a file, a directory, HATS) or SQLite"
        raise MetadataError(f"{path}: not a readable PS1 catalog, {expected}: {first_line(error)}") from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_SQL_TYPES: Final[dict[type, str]] = {str: "text", bytes: "blob"}


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a text that says one, or nothing."""
    try:
        float(value or 0)
    except (ValueError, TypeError):
        return False
    return True


def _empty(names: Sequence[str]) -> pa.Table:
    """No rows of columns of numbers."""
    return pa.table({name: pa.array([], pa.float64()) for name in names})
