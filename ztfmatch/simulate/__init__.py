"""Simulated data sets in the survey's own formats, with the truth beside them."""

from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.dataset import (
    SimulationSummary,
    Simulator,
    benchmark_config,
    benchmark_unit,
    regenerate_references,
    simulate,
    write_reference,
)
from ztfmatch.simulate.defects import Defects, write_spoilt_reference
from ztfmatch.simulate.systematics import ChannelSystematics, cell_centres

__all__ = [
    "ChannelSystematics",
    "Defects",
    "SimulationConfig",
    "SimulationSummary",
    "Simulator",
    "benchmark_config",
    "benchmark_unit",
    "cell_centres",
    "regenerate_references",
    "simulate",
    "write_reference",
    "write_spoilt_reference",
]
