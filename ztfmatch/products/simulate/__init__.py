"""Simulated data sets in the survey's own formats, with the truth beside them."""

from ztfmatch.products.simulate.config import SimulationConfig
from ztfmatch.products.simulate.dataset import (
    SimulationSummary,
    Simulator,
    benchmark_unit,
    regenerate_references,
    simulate,
)

__all__ = [
    "SimulationConfig",
    "SimulationSummary",
    "Simulator",
    "benchmark_unit",
    "regenerate_references",
    "simulate",
]
