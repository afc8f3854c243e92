"""Views: a snapshot's own files, without a copy, as other tools want to find them."""

from ztfmatch.views.delta import DeltaReport, view_delta
from ztfmatch.views.hats import HatsViewReport, view_hats

__all__ = ["DeltaReport", "HatsViewReport", "view_delta", "view_hats"]
