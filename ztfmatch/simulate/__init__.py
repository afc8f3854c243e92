"""Simulated data sets in the survey's own formats, with the truth beside them."""

from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.dataset import (
    SimulationSummary,
    Simulator,
    benchmark_config,
    benchmark_unit,
    regenerate_references,
    simulate,
)
from ztfmatch.simulate.defects import Defects, write_spoilt_reference

__all__ = [
    "Defects",
    "SimulationConfig",
    "SimulationSummary",
    "Simulator",
    "benchmark_config",
    "benchmark_unit",
    "regenerate_references",
    "simulate",
    "write_spoilt_reference",
]
