"""Columns of what is found out about references, and the settings that say what is good."""

from ztfmatch.references.schema.tables import AUDIT, PLAN, without_lists

__all__ = ["AUDIT", "PLAN", "without_lists"]
