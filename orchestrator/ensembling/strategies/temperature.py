"""The mean of sources that are each softened by a temperature of their own first."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.strategies.temperatures import Softened
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.strategies import Refusal, StrategyCard


def refusals(options: BaseModel, combine: Combine, families: int) -> Iterator[Refusal]:
    """A temperature that would change nothing."""
    if combine == "normalised":
        yield "combine", "must not be normalised for method temperature: it would change nothing"


CARD = StrategyCard(
    name="temperature",
    module="orchestrator.ensembling.strategies.temperature:choose",
    about="every source has the same weight, and a temperature of its own",
    needs_selection=True,
    refusals=refusals,
)


def choose(sources: Sources, options: BaseModel) -> Choice:
    """1 / S for each of the S sources, with the temperature of its least log-loss."""
    softened = Softened.of(sources, fitted=True)
    return Choice(dict.fromkeys(sources.members, 1.0 / len(sources.members)), softened.named())
