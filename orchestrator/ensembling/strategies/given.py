"""The weights that the sweep file names, or a published preset of them."""

from __future__ import annotations

from pydantic import BaseModel

from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.sweep.strategies import StrategyCard

CARD = StrategyCard(
    name="weights",
    module="orchestrator.ensembling.strategies.given:choose",
    about="the weights of the sweep file, or of a published preset",
    takes_weights=True,
)


def choose(sources: Sources, options: BaseModel) -> dict[str, float]:
    """The given weights as they are; sources without one are left out."""
    return {name: sources.given[name] for name in sources.members if sources.given.get(name)}
