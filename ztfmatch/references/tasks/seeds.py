"""Seeds of a reference, from its file or from a store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.catalogs import read_reference
from ztfmatch.core.io.parquet import read_table
from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.schema import OBJECTS
from ztfmatch.core.survey import Unit
from ztfmatch.references.kernels.flatness import bin_of, pixels_of
from ztfmatch.references.tasks.stored import StoredReference


@dataclass(frozen=True)
class Seeds:
    """Seeds of one reference, shape (N,) each."""

    unit: Unit
    generation: int | None
    clrcoeff: float
    """0 where it is not known."""
    objectid: Ints
    """In a store ascending; 0, 1, 2 ... of a file."""
    ra: Floats
    dec: Floats
    mag: Floats
    """Calibrated, without colour term; NaN where there is none."""
    error: Floats

    @cached_property
    def xyz(self) -> Floats:
        """Unit vectors, shape (N, 3)."""
        xyz: Floats = unit_vectors(self.ra, self.dec)
        return xyz

    @cached_property
    def pixels(self) -> tuple[Floats, Floats]:
        """Pixels x and y on the quadrant, shape (N,) each."""
        return pixels_of(self.xyz, self.unit.field, self.unit.rcid)

    @cached_property
    def bins(self) -> Ints:
        """Bin of the quadrant of each, shape (N,)."""
        return bin_of(*self.pixels)


def seeds_of_file(source: str) -> Seeds:
    """Seeds of a reference catalog.

    Raises
    ------
    CatalogError
        If it cannot be used.
    """
    catalog = read_reference(source)
    ra, dec, mag, error = (np.array(catalog.records[name], np.float64) for name in ("ra", "dec", "mag", "sigmag"))
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0)
    ra, dec = ra[good], dec[good]
    number = np.arange(len(ra), dtype=np.int64)
    return Seeds(
        unit=catalog.unit,
        generation=None,
        clrcoeff=catalog.clrcoeff or 0.0,
        objectid=number,
        ra=ra,
        dec=dec,
        mag=catalog.magzp + mag[good],
        error=error[good],
    )


def seeds_of_store(reference: StoredReference) -> Seeds:
    """Active seeds of a reference, by objectid."""
    names = ["objectid", "ra", "dec", "refmag", "refmagerr", "status"]
    rows = read_table(reference.storage, reference.files(OBJECTS.name), OBJECTS, names, [reference.span])
    rows = active_rows(rows).sort_by("objectid")
    values = [np.array(rows[name].to_numpy(), np.float64) for name in ("ra", "dec", "refmag", "refmagerr")]
    return Seeds(reference.unit, reference.generation, reference.clrcoeff or 0.0, rows["objectid"].to_numpy(), *values)
