"""The cards of the strategies that a sweep file may name in `ensembles[].method`.

Knows what a file must know of them; what they do is in orchestrator/ensembling/strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator.sweep.presets import Combine
from trainables.contract.cards import Card, CardTable

Refusal = tuple[str, str]
"""A field of `ensembles[]`, as in `options.cap`, and the rule that it breaks."""


def nothing(options: Any, combine: Combine, families: int) -> Iterable[Refusal]:
    """Of a strategy that takes any options that its model admits."""
    return ()


class NoOptions(BaseModel):
    """Of a strategy that has no options."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class StrategyCard(Card):
    """What is known of a strategy before it is loaded.

    `module` names a function from the sources of an ensemble (`ensembling.strategies.sources`) and
    the options to a weight per source, or to a `Choice`; sources without a weight, or with 0, are
    left out.
    """

    options: type[BaseModel] = NoOptions  # of `ensembles[].options`, with their defaults
    takes_weights: bool = False  # whether `ensembles[].weights` must be there; else it must not
    needs_selection: bool = False  # whether it needs clips that were held out of training
    keeps_budget: bool = False  # whether what it chooses stays within `sources.budget`
    # what it will refuse of a file's options, of what is summed, and with so many families at most
    refusals: Callable[[Any, Combine, int], Iterable[Refusal]] = nothing
    # whether its weights are those of least log-loss: the softmax of summed logits means
    # probabilities then
    fits_probabilities: bool = False
    combine: Combine | None = None  # the only way of summing it has weights for; None: any


STRATEGIES = CardTable(
    "strategy",
    "orchestrate.strategies",
    StrategyCard,
    {
        "mean": "orchestrator.ensembling.strategies.mean:CARD",
        "weights": "orchestrator.ensembling.strategies.given:CARD",
        "greedy": "orchestrator.ensembling.strategies.greedy:CARD",
        "simplex": "orchestrator.ensembling.strategies.simplex:CARD",
        "stacking": "orchestrator.ensembling.strategies.stacking:CARD",
        "temperature": "orchestrator.ensembling.strategies.temperature:CARD",
    },
)
