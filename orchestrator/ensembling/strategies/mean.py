"""Every source has the same weight."""

from __future__ import annotations

from pydantic import BaseModel

from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.sweep.strategies import StrategyCard

CARD = StrategyCard(
    name="mean",
    module="orchestrator.ensembling.strategies.mean:choose",
    about="every source has the same weight",
)


def choose(sources: Sources, options: BaseModel) -> dict[str, float]:
    """1 / S for each of the S sources."""
    return dict.fromkeys(sources.members, 1.0 / len(sources.members))
