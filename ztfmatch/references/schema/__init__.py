"""Columns of what is found out about references, and the settings that say what is good."""

from ztfmatch.references.schema.tables import AUDIT, without_lists

__all__ = ["AUDIT", "without_lists"]
