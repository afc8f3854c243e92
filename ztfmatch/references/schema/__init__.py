"""Columns of audits and plans, and the settings of criteria."""

from ztfmatch.references.schema.tables import AUDIT, PLAN, without_lists

__all__ = ["AUDIT", "PLAN", "without_lists"]
