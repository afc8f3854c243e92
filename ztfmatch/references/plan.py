"""Plan the regeneration of references: an action for each unit, its images, and the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array, Ints, Mask
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.io.rows import codes_of_rows
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.plain import Json, Keywords, Row
from ztfmatch.core.survey import FILTER_CODES, units_of_codes
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.schema import PLAN
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.selection import Images, Selection, judge

MAKE, WAIT, KEEP, REGENERATE, UPDATABLE, DEEPEN = (
    *("make", "wait", "keep", "regenerate", "potentially updatable", "deepen"),
)
ACTIONS: Final = (MAKE, WAIT, KEEP, REGENERATE, UPDATABLE, DEEPEN)
TO_BE_MADE: Final = (MAKE, REGENERATE, DEEPEN)
"""Actions of which new references come."""

REASONS: Final = (
    "no reference, and enough images",
    "no reference, and too few images",
    "good, and as deep as a new one",
    "good, and no fewer images than it takes would make a new one",
    "suspect, and enough images",
    "suspect, and too few images",
    "good, and a new one would be deeper",
    "not known whether it is good",
)
_ABOUT: Final = b"ztfmatch"

Facts = Mapping[str, Array]
"""What is known of units, by name, shape (U,) each."""


@dataclass(frozen=True)
class Known:
    """What is known of today's references, shape (R,) each."""

    code: Ints
    """Units, ascending."""
    suspect: Mask
    unknown: Mask
    depth: Floats
    """NaN where it is not known."""
    nwon: Ints
    """0 where it is not known."""
    rank: Ints

    @classmethod
    def of(cls, audit: pa.Table | None) -> Known:
        """Of the rows of an audit; of none, where no reference is there.

        Raises
        ------
        MetadataError
            If it is no audit.
        """
        if audit is None:
            none = np.zeros(0, np.int64)
            return cls(none, none.astype(bool), none.astype(bool), none.astype(np.float64), none, none)
        lacking = [name for name in ("field", "rcid", "fid", "suspect", "unknown", "depth", "nwon", "rank")
                   if name not in audit.column_names]  # fmt: skip
        if lacking:
            raise MetadataError(f"the audit has no column {lacking[0]}; expected what 'references audit' writes")
        code = codes_of_rows(audit)
        order = np.argsort(code, kind="stable")
        if (np.diff(code[order]) == 0).any():
            raise MetadataError("the audit has a unit more than once; expected one reference a unit")
        values = [
            audit["suspect"].to_numpy(), audit["unknown"].to_numpy(), audit["depth"].to_numpy().astype(np.float64),
            pc.fill_null(audit["nwon"], 0).to_numpy(), audit["rank"].to_numpy(),
        ]  # fmt: skip
        return cls(code[order], *(value[order] for value in values))


@dataclass(frozen=True, kw_only=True)
class PlanReport(Displayable):
    """What is planned."""

    units: int
    images: int
    """That were judged."""
    actions: list[Row]
    """By filter: units of each action."""
    won: int
    """Epochs that the references to be made would win."""
    possible: list[Row]
    """Of an update: units whose references became possible."""
    passed_over: int
    """Of an update: images that are not newer than the plan."""
    seconds: float
    judged: Images
    table: pa.Table
    """One row a unit, see :data:`ztfmatch.references.schema.PLAN`."""

    def _fields(self) -> Mapping[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("table", "judged")}


def make_plan(source: ImageSource, audit: pa.Table | None, settings: ReferenceSettings) -> PlanReport:
    """Plan all units that have images or a reference.

    Parameters
    ----------
    source : ImageSource
    audit : pyarrow.Table or None
        Of today's references; None if there are none.
    settings : ReferenceSettings

    Raises
    ------
    MetadataError
        If metadata or audit cannot be used, or there are no images at all.
    """
    watch = Stopwatch()
    images = judge(source, settings)
    if not len(images.unit):
        raise MetadataError(f"{source.name}: has no images, so nothing can be planned")
    table = _about(_planned(images, Known.of(audit), settings), _identity(source, images, settings))
    return _report(table, images, watch)


class PlanIdentity(TypedDict):
    """What a plan is made of, as its table tells it."""

    snapshot: int | None
    """None for images of a table alone."""
    through: int
    """The newest image."""
    settings: Json


def _identity(source: ImageSource, images: Images, settings: ReferenceSettings) -> PlanIdentity:
    return {
        "snapshot": None if source.snapshot is None else source.snapshot.number,
        "through": int(images.exposureid.max(initial=0)),
        "settings": _plain(settings),
    }


def _about(table: pa.Table, about: PlanIdentity) -> pa.Table:
    return table.replace_schema_metadata({_ABOUT: json.dumps(about, sort_keys=True)})


def about_plan(plan: pa.Table) -> PlanIdentity:
    """What a plan is made of.

    Raises
    ------
    MetadataError
        If it is none.
    """
    held = (plan.schema.metadata or {}).get(_ABOUT)
    if held is None or not set(PLAN.names) <= set(plan.column_names):
        raise MetadataError("not a plan: expected what 'references plan' writes, as Parquet")
    about: PlanIdentity = json.loads(held)
    return about


def _planned(images: Images, known: Known, settings: ReferenceSettings) -> pa.Table:
    """Rows of all units that have images or a reference."""
    code = np.union1d(images.code, known.code)
    chosen = images.choose(1, settings.plan.nmax)
    at, of = find_sorted(images.code, code), find_sorted(known.code, code)
    passed = np.where(at >= 0, np.append(chosen.choice.passed, 0)[at], 0)
    lists = _lists(chosen, at)
    predicted = np.append(chosen.predicted, np.nan)[at]
    judged = np.bincount(images.unit, minlength=len(images.code))
    facts = {
        "nimages": np.append(judged, 0)[at],
        "npassed": passed,
        "predicted": predicted,
        "has": of >= 0,
        "suspect": np.append(known.suspect, False)[of],
        "unknown": np.append(known.unknown, False)[of],
        "depth": np.append(known.depth, np.nan)[of],
        "nwon": np.append(known.nwon, 0)[of],
        "rank": np.append(known.rank, 0)[of],
    }
    return _table(code, facts, lists, settings)


def _lists(chosen: Selection, at: Ints) -> dict[str, pa.Array]:
    """Images of each unit of the plan, sharpest first; empty for those without any."""
    offsets = chosen.choice.offsets
    number = np.where(at >= 0, np.append(np.diff(offsets), 0)[at], 0)
    ends = pa.array(np.concatenate([[0], np.cumsum(number)]).astype(np.int32))
    order, images = chosen.choice.order, chosen.images  # both are in order of the code
    columns = {"exposures": images.exposureid, "fwhm": images.fwhm, "maglimit": images.maglimit}
    kinds = {"exposures": pa.int64(), "fwhm": pa.float32(), "maglimit": pa.float32()}
    return {
        name: pa.ListArray.from_arrays(ends, pa.array(values[order], from_pandas=True).cast(kinds[name]))
        for name, values in columns.items()
    }


def _table(code: Ints, facts: Facts, lists: Mapping[str, pa.Array], settings: ReferenceSettings) -> pa.Table:
    action, reason = decide(facts, settings)
    field, rcid, fid = units_of_codes(code)
    has, predicted = facts["has"], facts["predicted"]
    columns = {
        "field": field,
        "rcid": rcid,
        "fid": fid,
        "action": pa.DictionaryArray.from_arrays(pa.array(action), pa.array(ACTIONS)),
        "reason": pa.DictionaryArray.from_arrays(pa.array(reason), pa.array(REASONS)),
        "nimages": facts["nimages"],
        "npassed": facts["npassed"],
        **lists,
        "predicted": pa.array(predicted, mask=~np.isfinite(predicted)),
        "hasreference": has,
        "suspect": pa.array(facts["suspect"], mask=~has),
        "unknown": pa.array(facts["unknown"], mask=~has),
        "depth": pa.array(facts["depth"], mask=~(has & np.isfinite(facts["depth"]))),
        "nwon": pa.array(facts["nwon"], mask=~has),
        "rank": pa.array(facts["rank"], mask=~has),
    }
    return pa.table([pa.array(columns[name]).cast(PLAN[name].type) for name in PLAN.names], schema=PLAN.schema)


def decide(facts: Facts, settings: ReferenceSettings) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Action and reason of each unit, as places in ACTIONS and REASONS.

    Parameters
    ----------
    facts : mapping of str to ndarray, shape (U,)
        ``npassed`` images that meet every criterion; ``predicted`` depth of a reference of the best, NaN where it is
        not known; of today's reference whether there is one (``has``), ``suspect``, ``unknown`` and ``depth``.
    """
    enough = facts["npassed"] >= settings.select.nmin
    has = facts["has"]
    bad = has & facts["suspect"]
    deeper = has & ~bad & enough & (facts["predicted"] - facts["depth"] >= settings.plan.deeper)
    cases = [
        (~has & enough, MAKE, 0),
        (~has, WAIT, 1),
        (bad & enough, REGENERATE, 4),
        (bad, UPDATABLE, 5),
        (deeper, DEEPEN, 6),
        (facts["unknown"], KEEP, 7),
        (~enough, KEEP, 3),
    ]
    conditions = [case for case, _, _ in cases]
    action = np.select(conditions, [ACTIONS.index(name) for _, name, _ in cases], ACTIONS.index(KEEP))
    reason = np.select(conditions, [number for _, _, number in cases], 2)
    return action.astype(np.int8), reason.astype(np.int8)


def update_plan(plan: pa.Table, source: ImageSource, settings: ReferenceSettings) -> PlanReport:
    """Bring a plan up to date with new images alone: those that are newer than it.

    Only units that have new images are decided anew. Of a store, what later commits ingested is new; of a table, what
    was exposed after the newest image of the plan. Images that are not newer are counted and passed over.

    Raises
    ------
    MetadataError
        If it is not a plan, or metadata cannot be used.
    ConfigError
        If the plan was made with other settings, or of another kind of source.
    """
    watch = Stopwatch()
    about = about_plan(plan)
    if about["settings"] != _plain(settings):
        raise ConfigError("the plan was made with other settings: make a new one, or give those")
    if (about["snapshot"] is None) != (source.snapshot is None):
        raise ConfigError("the plan was made of a store and is to be updated from a table, or the reverse")
    images = judge(source, settings, after=-1 if about["snapshot"] is None else about["snapshot"])
    images, old = (images, 0) if source.snapshot is not None else _newer(images, about["through"])
    fresh = _merged(plan, images, settings)
    through = max(about["through"], int(images.exposureid.max(initial=0)))
    about |= {"through": through, "snapshot": None if source.snapshot is None else source.snapshot.number}
    return _report(_about(fresh, about), images, watch, plan, old)


def _plain(settings: ReferenceSettings) -> Any:
    return json.loads(json.dumps(asdict(settings), default=str))


def _newer(images: Images, through: int) -> tuple[Images, int]:
    """Images exposed after one, and how many were not."""
    new = images.exposureid > through
    code = np.unique(images.code[images.unit[new]])
    unit = np.searchsorted(code, images.code[images.unit[new]]).astype(np.int32)
    held = Images(code, unit, images.exposureid[new], images.fwhm[new], images.maglimit[new], images.bits[new])
    return held, int((~new).sum())


def _merged(plan: pa.Table, images: Images, settings: ReferenceSettings) -> pa.Table:
    """A plan with new images in it."""
    code = codes_of_rows(plan)
    at = find_sorted(code, images.code)
    held = plan.take(pa.array(at[at >= 0]))
    old = _images_of(held, images.code, images.code[at >= 0])
    names = ("unit", "exposureid", "fwhm", "maglimit", "bits")
    both: Keywords = {name: np.concatenate([getattr(old, name), getattr(images, name)]) for name in names}
    whole = Images(images.code, **both)
    chosen = whole.choose(1, settings.plan.nmax)
    rows = np.flatnonzero(at >= 0)

    def before(name: str, nothing: Any) -> Array:
        values = np.full(len(images.code), nothing)
        values[rows] = pc.fill_null(held[name], nothing).to_numpy()
        return values

    new_passed = np.bincount(images.unit[images.bits == 0], minlength=len(images.code))
    facts = {
        "nimages": before("nimages", 0) + np.bincount(images.unit, minlength=len(images.code)),
        "npassed": before("npassed", 0) + new_passed,
        "predicted": chosen.predicted,
        "has": before("hasreference", False),
        "suspect": before("suspect", False),
        "unknown": before("unknown", False),
        "depth": before("depth", np.nan),
        "nwon": before("nwon", 0),
        "rank": before("rank", 0),
    }
    fresh = _table(images.code, facts, _lists(chosen, np.arange(len(images.code))), settings)
    stays = plan.filter(pa.array(~np.isin(code, images.code))).replace_schema_metadata(None)
    return pa.concat_tables([stays.cast(PLAN.schema), fresh]).sort_by(PLAN.order)


def _images_of(rows: pa.Table, codes: Ints, own: Ints) -> Images:
    """Images that rows of a plan list, all of which pass; ``codes`` are the units' numbers, ``own`` the rows'."""
    lists = rows["exposures"].combine_chunks()
    number = np.diff(lists.offsets.to_numpy()) if len(rows) else np.zeros(0, np.int64)
    unit = np.repeat(np.searchsorted(codes, own), number).astype(np.int32)
    exposureid, fwhm, maglimit = (
        rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        for name in ("exposures", "fwhm", "maglimit")
    )
    return Images(codes, unit, exposureid, fwhm, maglimit, np.zeros(len(unit), np.uint16))


def _report(
    table: pa.Table, images: Images, watch: Stopwatch, before: pa.Table | None = None, passed_over: int = 0
) -> PlanReport:
    to_make = pc.is_in(table["action"].cast(pa.string()), pa.array(TO_BE_MADE))
    won = pc.sum(table.filter(to_make)["nwon"]).as_py() or 0
    return PlanReport(
        units=table.num_rows,
        images=len(images.unit),
        actions=_actions(table),
        won=won,
        possible=[] if before is None else _became_possible(before, table, images),
        passed_over=passed_over,
        seconds=watch.seconds,
        judged=images,
        table=table,
    )


def _actions(table: pa.Table) -> list[Row]:
    fid, action = table["fid"].to_numpy(), table["action"].cast(pa.string()).to_numpy(zero_copy_only=False)
    return [
        {"filter": code, **{name: int(((fid == k) & (action == name)).sum()) for name in ACTIONS}}
        for k, code in FILTER_CODES.items()
        if (fid == k).any()
    ]


def _became_possible(before: pa.Table, after: pa.Table, images: Images) -> list[Row]:
    """Units whose reference can be made now and could not before."""
    names = ["field", "rcid", "fid", "action", "npassed", "predicted"]
    now = after.filter(pa.array(np.isin(codes_of_rows(after), images.code))).select(names)
    was = before.filter(pa.array(np.isin(codes_of_rows(before), images.code)))
    actions = dict(zip(codes_of_rows(was).tolist(), was["action"].to_pylist(), strict=True))
    rows = zip(codes_of_rows(now).tolist(), now.to_pylist(), strict=True)
    return [row for code, row in rows
            if row["action"] in TO_BE_MADE and actions.get(code, WAIT) in (WAIT, UPDATABLE)]  # fmt: skip
