"""Select the images of references: apply the criteria to all images of a survey, count what is left of each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Array, Arrays, Ints
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import FILTER_CODES, unit_codes, units_of_codes
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.kernels.depth import combined_limit
from ztfmatch.references.kernels.flatness import medians_of_runs
from ztfmatch.references.kernels.selection import CRITERIA, OUTCOMES, Bits, Choice, choose, failures
from ztfmatch.references.schema.settings import ReferenceSettings

_SHARPNESS: Final = "fwhm"
"""Needed for the order of images, whether or not it is a criterion."""

Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Images:
    """N images of U units, judged."""

    code: Ints
    """Units by :func:`~ztfmatch.core.survey.unit_codes`, ascending, shape (U,)."""
    unit: npt.NDArray[np.int32]
    """Number of each image's unit, shape (N,)."""
    exposureid: Ints
    fwhm: Floats
    maglimit: Floats
    """NaN where no criterion needs it."""
    bits: Bits
    """Criteria that each fails."""
    kept: Columns = field(default_factory=dict)
    """Columns that were asked for beside."""

    def choose(self, nmin: int, nmax: int) -> Selection:
        """Take the sharpest images of the units that have enough."""
        choice = choose(self.unit, self.fwhm, self.exposureid, self.bits, (len(self.code), nmin, nmax))
        return Selection(images=self, nmin=nmin, nmax=nmax, choice=choice)

    @cached_property
    def fid(self) -> Ints:
        """Filter of each unit, shape (U,)."""
        return units_of_codes(self.code)[2]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What becomes of the images, by some numbers of a reference's images."""

    images: Images
    nmin: int
    nmax: int
    choice: Choice

    @cached_property
    def predicted(self) -> Floats:
        """Depth of a reference of the selected images: median limit and 1.25 log10(N), shape (U,); NaN without any."""
        offsets = self.choice.offsets
        limit = medians_of_runs(self.images.maglimit[self.choice.order].astype(np.float64), offsets)
        return np.asarray(combined_limit(limit, np.maximum(np.diff(offsets), 1)))

    def image_table(self) -> pa.Table:
        """One row an image in the order in which they were read: unit, outcome, place among the selected from 1."""
        images, choice = self.images, self.choice
        unit = units_of_codes(images.code[images.unit])
        place = np.zeros(len(images.unit), np.int32)
        first = np.repeat(choice.offsets[:-1], np.diff(choice.offsets))
        place[choice.order] = np.arange(len(choice.order)) - first + 1
        outcome = pa.DictionaryArray.from_arrays(pa.array(choice.outcome), pa.array(OUTCOMES))
        return pa.table(
            {
                "exposureid": images.exposureid,
                **_unit_columns(*unit),
                "fwhm": images.fwhm,
                "outcome": outcome,
                "place": pa.array(place, mask=place == 0),
            }
        )

    def unit_table(self) -> pa.Table:
        """One row a unit: images, how many have each outcome, those that pass, predicted depth."""
        code = self.images.code
        counts = self.counts
        predicted = self.predicted
        return pa.table(
            {
                **_unit_columns(*units_of_codes(code)),
                "nimages": counts.sum(axis=1),
                "npassed": self.choice.passed,
                **{f"n_{name}": counts[:, k] for k, name in enumerate(OUTCOMES)},
                "predicted": pa.array(predicted, mask=~np.isfinite(predicted)),
            }
        )

    @cached_property
    def counts(self) -> Ints:
        """Images of each unit by outcome, shape (U, outcomes)."""
        key = self.images.unit.astype(np.int64) * len(OUTCOMES) + self.choice.outcome
        return np.bincount(key, minlength=len(self.images.code) * len(OUTCOMES)).reshape(-1, len(OUTCOMES))

    def figures(self) -> list[Row]:
        """By filter: images, units, units that have enough, and images by outcome."""
        rows = []
        for fid, name in FILTER_CODES.items():
            own = self.images.fid == fid
            if own.any():
                by_outcome = dict(zip(OUTCOMES, self.counts[own].sum(axis=0).tolist(), strict=True))
                enough = int((self.choice.passed[own] >= self.nmin).sum())
                rows.append({"filter": name, "units": int(own.sum()), "enough": enough,
                             "images": sum(by_outcome.values()), **by_outcome})  # fmt: skip
        return rows


def _unit_columns(field: Ints, rcid: Ints, fid: Ints) -> Arrays:
    return {"field": field.astype(np.int16), "rcid": rcid.astype(np.int8), "fid": fid.astype(np.int8)}


def select_images(source: ImageSource, settings: ReferenceSettings) -> Selection:
    """Judge all images and take the best.

    Raises
    ------
    MetadataError
        If a column is missing that a criterion needs, an image is there twice, a filter is unknown, or no image passes.
    ConfigError
        If a criterion is left out that there is not, or all of a range are beyond each other.
    """
    selection = judge(source, settings).choose(settings.select.nmin, settings.select.nmax)
    if not len(selection.choice.order):
        outcomes = zip(OUTCOMES, selection.counts.sum(axis=0).tolist(), strict=True)
        failing = ", ".join(f"{name} {n:,}" for name, n in outcomes if n)
        raise MetadataError(
            f"{source.name}: an empty selection: none of {len(selection.images.unit):,} images is in a unit with "
            f"{settings.select.nmin} that pass; by the first criterion that fails: {failing or 'there are none'}"
        )
    return selection


def needed_columns(settings: ReferenceSettings) -> dict[str, str]:
    """Columns that criteria need, and which; FWHM always, for the order."""
    check_criteria(settings.select.without)
    applied = (criterion for criterion in CRITERIA if criterion.name not in settings.select.without)
    return {_SHARPNESS: _SHARPNESS} | {column: one.name for one in applied for column in one.columns}


def check_criteria(names: Sequence[str]) -> None:
    """Refuse a criterion that there is not."""
    known = [criterion.name for criterion in CRITERIA]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no criterion {name!r}; there are: {', '.join(known)}")


def judge(source: ImageSource, settings: ReferenceSettings, keep: Sequence[str] = (), after: int = -1) -> Images:
    """Say which criteria every image fails.

    Parameters
    ----------
    keep : sequence of str
        Columns to be kept with the images.
    after : int
        Of a store only what later commits ingested.
    """
    needed = needed_columns(settings)
    names = [*dict.fromkeys(["exposureid", _SHARPNESS, *(["maglimit"] if "maglimit" in needed else []), *keep])]
    parts: dict[str, list[Array]] = {name: [] for name in ("code", "bits", *names)}
    for batch in source.batches(needed, after):
        made = {"code": unit_codes(batch["field"], batch["rcid"], batch["fid"]), "bits": failures(batch, settings)}
        for name, held in parts.items():
            held.append(made.get(name, batch.get(name)))  # type: ignore[arg-type]
    if not parts["code"]:
        parts = {name: [np.zeros(0, np.int64)] for name in parts}
    whole = {name: np.concatenate(held) for name, held in parts.items()}
    _check_unique(whole["exposureid"], source.name)
    code, unit = _numbered(whole["code"])
    nothing = np.full(len(unit), np.nan, np.float32)
    return Images(
        code=code,
        unit=unit,
        exposureid=whole["exposureid"],
        fwhm=whole[_SHARPNESS],
        maglimit=whole.get("maglimit", nothing),
        bits=whole["bits"].astype(np.uint16),
        kept={name: whole[name] for name in keep},
    )


def _numbered(code: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Codes that occur, ascending, and the place of each among them: counted, not sorted."""
    there = np.bincount(code) > 0
    place = np.cumsum(there, dtype=np.int32) - 1
    return np.flatnonzero(there).astype(np.int64), place[code] if len(code) else np.zeros(0, np.int32)


def _check_unique(exposureid: Ints, where: str) -> None:
    ordered = np.sort(exposureid)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise MetadataError(
            f"{where}: image {ordered[twice[0]]} is there more than once, as are {len(twice) - 1:,} others; "
            "expected each image once"
        )


def with_limits(settings: ReferenceSettings, **select: Any) -> ReferenceSettings:
    """Settings with other values of the selection."""
    return replace(settings, select=replace(settings.select, **select))
