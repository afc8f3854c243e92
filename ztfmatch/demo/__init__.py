"""Demonstrations: building a store, and a regenerated reference."""

from ztfmatch.demo.cases import find_cases
from ztfmatch.demo.regeneration import UNIT, RegenerationReport, demo_config, run_regeneration
from ztfmatch.demo.tour import DemoReport, run_demo

__all__ = ["UNIT", "DemoReport", "RegenerationReport", "demo_config", "find_cases", "run_demo", "run_regeneration"]
