"""The card of a generator that removes weights at even distances. Imports no torch."""

from pydantic import BaseModel, Field

from trainables.contract.generators import GeneratorCard


class NthOptions(BaseModel, frozen=True, extra="forbid"):
    """What a sweep may write under `sparsity.options`."""

    start: int = Field(default=0, ge=0)  # how far the pattern is moved


CARD = GeneratorCard(
    name="every_nth",
    module="every_nth.masks:every_nth",
    about="Weights at even distances are removed.",
    settings=("warmup", "penalty", "penalty_weight"),
    options=NthOptions,
)
