"""The truth of a simulated data set, as Parquet."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ints
from ztfmatch.core.schema.types import LABEL
from ztfmatch.core.survey import exposureid_of
from ztfmatch.simulate.catalogs import DETECTED_KINDS, Catalog, UnitSky
from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.exposures import Conditions, Exposure
from ztfmatch.simulate.sky import Region
from ztfmatch.simulate.stars import Stars
from ztfmatch.simulate.systematics import MAP_CELLS, cell_centres
from ztfmatch.simulate.variability import KINDS, TRANSIENT

_UNIT: Final = {"field": pa.int16(), "rcid": pa.int8(), "fid": pa.int8()}


def _numbers(*names: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(names, pa.float64())


SCHEMAS: Final[dict[str, dict[str, pa.DataType]]] = {
    "stars": {
        "star_id": pa.int64(),
        **_numbers("ra", "dec", "g", "r", "i"),
        "kind": LABEL,
        **_numbers("period", "amplitude", "epoch", "shape"),
    },
    "ps1": {
        "star_id": pa.int64(),
        **_numbers("ra", "dec"),
        **{band + error: pa.float32() for band in "gri" for error in ("", "_err")},
        "star": pa.bool_(),
    },
    "seeds": {**_UNIT, "generation": pa.int8(), "sourceid": pa.int32(), "star_id": pa.int64()},
    "detections": {
        "exposureid": pa.int64(),
        "sourceid": pa.int32(),
        "star_id": pa.int64(),
        "kind": LABEL,
        "true_mag": pa.float32(),
        "systematic": pa.float32(),
    },
    "exposures": {
        "exposureid": pa.int64(),
        "fracday": pa.int64(),
        **_UNIT,
        **_numbers("obsmjd", "magzp", "magzprms", "clrcoeff"),
        "nmatches": pa.int32(),
        "airmass": pa.float64(),
        "programid": pa.int8(),
        **_numbers("limit_mag", "dither_east_arcsec", "dither_north_arcsec", "rotation_deg"),
        "bad": pa.bool_(),
        "bad_kind": pa.string(),
        "n_rows": pa.int32(),
    },
    "systematics": {
        **_UNIT,
        **_numbers("bias_linear", "bias_quadratic", "edge_low_x", "edge_high_x", "edge_low_y", "edge_high_y"),
        "field_offset": pa.float64(),
    },
    "references": {**_UNIT, "kind": pa.string(), "suspect": pa.bool_(), **_numbers("amplitude", "lost")},
    "maps": {"rcid": pa.int8(), "fid": pa.int8(), "xpos": pa.float32(), "ypos": pa.float32(), "offset": pa.float32()},
}
"""Columns of each truth table: ``truth/<table>.parquet``."""

_PS1_LIMIT_MAG: Final = 22.5
_TAG_PS1: Final = 501
_PS1_GALAXIES, _PS1_MISSING = 0.03, 0.01
"""Parts of the PS1 sources that are galaxies, and of their magnitudes that are missing."""


def schema(table: str) -> pa.Schema:
    """Arrow schema of a truth table."""
    return pa.schema(list(SCHEMAS[table].items()))


class TruthWriter:
    """Writes the truth tables, one row group per call: memory holds no more than one catalog.

    Parameters
    ----------
    directory : Path
        Made if absent.
    config : SimulationConfig
        Of the simulation: its seed, and what PS1 has of outliers.
    tables : tuple of str
        Those to write.
    """

    def __init__(self, directory: Path, config: SimulationConfig, tables: tuple[str, ...] = tuple(SCHEMAS)) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._seed, self._outliers = config.seed, config.ps1_outliers
        self._writers = {
            table: pq.ParquetWriter(directory / f"{table}.parquet", schema(table), compression="zstd")
            for table in tables
        }
        self._known_stars = np.zeros(0, dtype=np.int64)
        self._known_maps: set[tuple[int, int]] = set()
        self._exposures: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._exposures:
            rows = pa.Table.from_pylist(self._exposures, schema=schema("exposures"))
            self._writers["exposures"].write_table(rows)
        for writer in self._writers.values():
            writer.close()

    def _write(self, table: str, columns: list[Any]) -> None:
        named = dict(zip(SCHEMAS[table], columns, strict=True))
        self._writers[table].write_table(pa.table(named, schema=schema(table)))

    def region(self, region: Region) -> None:
        """Stars of a region that no earlier region had."""
        stars = region.stars.take(~np.isin(region.stars.star_id, self._known_stars))
        self._known_stars = np.concatenate([self._known_stars, stars.star_id])
        positions = [stars.star_id, stars.ra, stars.dec]
        rest = [stars.g, stars.r, stars.i, _names(stars.kind, KINDS), stars.period, stars.amplitude]
        self._write("stars", [*positions, *rest, stars.epoch, stars.shape])
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, _TAG_PS1, region.field, region.rcid]))
        self._write("ps1", _ps1(rng, stars, self._outliers))

    def unit(self, sky: UnitSky) -> None:
        """Systematics of a unit."""
        unit, known = sky.unit, sky.systematics
        values = [unit.field, unit.rcid, unit.fid, *known.bias, *known.edges, sky.offset]
        self._write("systematics", [[value] for value in values])
        fault = sky.fault
        said = [unit.field, unit.rcid, unit.fid, fault.kind, fault.suspect, fault.amplitude, fault.lost]
        self._write("references", [[value] for value in said])
        if (unit.rcid, unit.fid) not in self._known_maps:
            self._known_maps.add((unit.rcid, unit.fid))
            x, y = cell_centres(MAP_CELLS)
            n = len(x)
            offset = known.position(x, y).astype(np.float32)
            pixels = [x.astype(np.float32), y.astype(np.float32)]
            self._write("maps", [np.full(n, unit.rcid), np.full(n, unit.fid), *pixels, offset])

    def seeds(self, sky: UnitSky, star_id: Ints, generation: int) -> None:
        """Star of each seed of a unit, in order of sourceid."""
        n, unit = len(star_id), sky.unit
        unit_columns = [np.full(n, value) for value in (unit.field, unit.rcid, unit.fid, generation)]
        self._write("seeds", [*unit_columns, np.arange(n), star_id])

    def catalog(self, sky: UnitSky, exposure: Exposure, state: Conditions, catalog: Catalog) -> None:
        """Star of each row of a catalog, and the exposure itself."""
        n = len(catalog.rows)
        exposureid = exposureid_of(exposure.fracday, sky.unit.rcid)
        kind = _names(catalog.kind, DETECTED_KINDS)
        mags = [catalog.true_mag.astype(np.float32), catalog.systematic.astype(np.float32)]
        self._write("detections", [np.full(n, exposureid), np.arange(n), catalog.star_id, kind, *mags])
        east, north = exposure.pointing.dither_deg
        own: dict[str, object] = {
            "exposureid": exposureid,
            "rcid": sky.unit.rcid,
            "limit_mag": sky.limit(exposure),
            "n_rows": n,
        }
        own |= {"dither_east_arcsec": east * 3600.0, "dither_north_arcsec": north * 3600.0}
        own |= {"rotation_deg": exposure.pointing.rotation_deg, "bad": exposure.bad != "good", "bad_kind": exposure.bad}
        self._exposures.append({**vars(exposure), **vars(state), **own})


def _names(index: npt.NDArray[np.int8], names: tuple[str, ...]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int8()), pa.array(names))


def _ps1(rng: np.random.Generator, stars: Stars, outliers: float) -> list[Any]:
    """Draw what PS1 measured: stars to g = 22.5, at rest, without transients.

    Some are no good references: galaxies, told by ``star``, whose PSF magnitudes are off; stars that were caught
    bright, faint or blended, which nothing tells; and magnitudes that are missing.
    """
    held = stars.take((stars.kind != TRANSIENT) & (stars.g < _PS1_LIMIT_MAG))
    columns: list[Any] = [held.star_id, held.ra, held.dec]
    n = len(held)
    off = np.zeros(n)
    bands = []
    for mag in (held.g, held.r, held.i):
        error = 0.003 + 0.0025 * 10.0 ** (0.3 * (np.maximum(mag, 17.0) - 18.0))
        bands.append((mag + error * rng.standard_normal(n), error))
    galaxy, bad = rng.random(n) < _PS1_GALAXIES, rng.random(n) < outliers
    off[galaxy] = rng.uniform(0.05, 0.5, int(galaxy.sum()))
    off[bad] = rng.uniform(0.1, 1.0, int(bad.sum())) * rng.choice([-1.0, 1.0], int(bad.sum()))
    for measured, error in bands:
        missing = rng.random(n) < _PS1_MISSING
        columns += [pa.array(v.astype(np.float32), mask=missing) for v in (measured + off, error)]
    columns.append(~galaxy)
    return columns
