"""Views: a snapshot's own files, without a copy, in the layout of other tools."""

from ztfmatch.views.delta import DeltaReport, view_delta
from ztfmatch.views.hats import HatsViewReport, view_hats

__all__ = ["DeltaReport", "HatsViewReport", "view_delta", "view_hats"]
