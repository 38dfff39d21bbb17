"""Figures in the report as text: one look for every part of it."""

from __future__ import annotations

from typing import Literal

from orchestrator.ensembling.evaluate import Accuracy
from orchestrator.ensembling.results import SeedSpread
from orchestrator.report.tables import milliseconds, percent

NONE = "n/a"


def with_error(found: Accuracy | None) -> str:
    """Top-1 in per cent with its standard error."""
    return NONE if found is None else f"{percent(found.top1)} ± {percent(found.top1_error)}"


def over_seeds(found: SeedSpread | None, split: Literal["selection", "test", "clean"]) -> str:
    """Mean and standard deviation of top-1 over the seeds, in per cent."""
    if found is None:
        return NONE
    mean, std = {
        "selection": (found.selection_mean, found.selection_std),
        "test": (found.test_mean, found.test_std),
        "clean": (found.clean_mean, found.clean_std),
    }[split]
    if mean is None or std is None:
        return NONE
    return f"{percent(mean)} ± {percent(std)} (n={found.seeds})"


def known(number: float | None) -> str:
    """A figure that was not measured, or that evaluations of an earlier version lack."""
    return NONE if number is None else f"{number:.2f}"


def timed(latency: float | None) -> str:
    """A latency, ms, which may not have been measured."""
    return NONE if latency is None else milliseconds(latency)
