"""Plans with their inputs from files: the audit and the previous plan are Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.errors import MetadataError, first_line
from ztfmatch.core.plain import Row
from ztfmatch.core.schema.types import Table
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.loss import coverage_loss, retune
from ztfmatch.references.plan import Known, PlanReport, make_plan, update_plan
from ztfmatch.references.schema import AUDIT, PLAN
from ztfmatch.references.schema.settings import ReferenceSettings


def read_rows(path: Path, what: str, table: Table) -> pa.Table:
    """Rows of a Parquet file.

    Raises
    ------
    MetadataError
        If it is none, or has not the columns of a table.
    """
    try:
        rows = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise MetadataError(f"{path} is not {what}: {first_line(error)}; expected Parquet") from error
    lacking = [name for name in table.names if name not in rows.column_names]
    if lacking:
        raise MetadataError(f"{path} is not {what}: it has no column {lacking[0]}")
    return rows


def plan_references(
    source: ImageSource, audit: Path | None, settings: ReferenceSettings, tune: bool = False
) -> tuple[PlanReport, list[Row], pa.Table | None]:
    """The plan, the loss of sky coverage, and its table against each threshold, if it is asked for.

    Raises
    ------
    MetadataError
        If metadata or audit cannot be used.
    """
    rows = None if audit is None else read_rows(audit, "an audit", AUDIT)
    report = make_plan(source, rows, settings)
    known = Known.of(rows)
    tuned = pa.Table.from_pylist(retune(source, known, settings)) if tune else None
    return report, coverage_loss(report.judged, known), tuned


def update_references(plan: Path, source: ImageSource, settings: ReferenceSettings) -> PlanReport:
    """A plan brought up to date; see :func:`ztfmatch.references.plan.update_plan`."""
    return update_plan(read_rows(plan, "a plan", PLAN), source, settings)
