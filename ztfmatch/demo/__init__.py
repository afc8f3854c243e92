"""Demonstrations: a store from its beginning, and a regenerated reference."""

from ztfmatch.demo.regeneration import RegenerationReport, run_regeneration
from ztfmatch.demo.tour import DemoReport, run_demo

__all__ = ["DemoReport", "RegenerationReport", "run_demo", "run_regeneration"]
