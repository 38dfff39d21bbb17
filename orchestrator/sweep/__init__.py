"""The sweep file: read, completed and checked, with file and line for every problem.

Knows neither data nor trials.
"""

from orchestrator.sweep.load import FaultySweep, load_sweep, parse_sweep, shipped
from orchestrator.sweep.schema import (
    EnsembleConfig,
    MetricLimit,
    Objective,
    Parameter,
    Resources,
    Sweep,
)

__all__ = [
    "EnsembleConfig",
    "FaultySweep",
    "MetricLimit",
    "Objective",
    "Parameter",
    "Resources",
    "Sweep",
    "load_sweep",
    "parse_sweep",
    "shipped",
]
