"""Audit the references of one field and readout channel, all filters together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ztfmatch.core.camera import field_grid
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.plain import Row
from ztfmatch.photometry.io.ps1 import Ps1Catalog, Ps1Stars
from ztfmatch.references.kernels.depth import limit_of_errors, neighbour_distances, turnover
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.lightcurves import lightcurve_row
from ztfmatch.references.tasks.ps1 import differences, stars_of
from ztfmatch.references.tasks.rows import flatness_row, known
from ztfmatch.references.tasks.seeds import Seeds, seeds_of_file, seeds_of_store
from ztfmatch.references.tasks.stored import StoredReference

_CROWDED_ARCSEC: Final = 3.0


@dataclass(frozen=True)
class AuditTask:
    """References of the same place on the sky."""

    key: str
    references: tuple[str | StoredReference, ...]
    """Paths of catalogs, or what a store has."""
    ps1: Ps1Catalog | None
    settings: ReferenceSettings
    with_lightcurves: bool = False
    """Whether those of a store are asked."""


@dataclass(frozen=True)
class Audited:
    """What was found."""

    rows: list[Row] = field(default_factory=list)
    """Of the table ``audit``, without flags and rank."""
    refused: list[Refused] = field(default_factory=list)
    """Rows as the quarantine has them, of catalogs that cannot be used."""


def audit_references(task: AuditTask) -> Audited:
    """Measure references; what is wrong with them is decided by who has all rows.

    Those of a field off the survey's grid are compared with nothing: where their seeds lie on an image is not known.
    """
    found = Audited()
    seeds = list(_read(task, found.refused))
    stars = _stars_near(seeds, task.ps1)
    for number, one in enumerate(seeds):
        row, placed = catalog_row(one), one.unit.field in field_grid()
        if stars is not None and placed:
            row |= ps1_row(one, stars, task.settings)
        reference = task.references[number] if task.with_lightcurves and placed else None
        if isinstance(reference, StoredReference):
            row |= lightcurve_row(one, reference, task.settings)
        found.rows.append(row)
    return found


def _read(task: AuditTask, refused: list[Refused]) -> Iterator[Seeds]:
    for reference in task.references:
        if isinstance(reference, StoredReference):
            yield seeds_of_store(reference)
            continue
        try:
            yield seeds_of_file(reference)
        except CatalogError as error:
            refused.append(Refused.unreadable(reference, error))


def _stars_near(seeds: list[Seeds], ps1: Ps1Catalog | None) -> Ps1Stars | None:
    """PS1 sources around all seeds; None if there is no PS1, or nothing to compare with it."""
    ra, dec = (np.concatenate([np.zeros(0), *(getattr(one, name) for one in seeds)]) for name in ("ra", "dec"))
    return ps1.around(ra, dec) if ps1 is not None and len(ra) else None


def catalog_row(seeds: Seeds) -> Row:
    """What the catalog alone tells: identity, depth, confusion."""
    distance = neighbour_distances(seeds.xyz) if len(seeds.ra) > 1 else np.full(len(seeds.ra), np.inf)
    unit = seeds.unit
    return {
        "field": unit.field,
        "rcid": unit.rcid,
        "fid": unit.fid,
        "generation": seeds.generation,
        "nsources": len(seeds.ra),
        "neighbour": known(np.median(distance)) if len(distance) else None,
        "crowded": float(np.mean(distance <= _CROWDED_ARCSEC)) if len(distance) else None,
        "depth": known(limit_of_errors(seeds.mag, seeds.error)),
        "turnover": known(turnover(seeds.mag)),
    }


def ps1_row(seeds: Seeds, stars: Ps1Stars, settings: ReferenceSettings) -> Row:
    """What PS1 tells."""
    star, ps1, colour = stars_of(seeds, stars, settings.flatness)
    difference = differences(seeds.mag + seeds.clrcoeff * colour, ps1, settings.flatness)
    names = ("nflat", "nbin", "bins", "delta", "rms", "offset")
    return {"nps1": int((star >= 0).sum()), **flatness_row(names, difference, seeds.bins, settings.flatness.min_bin)}
