"""What is known of a sparsity generator without its code: its card, and the table of our cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from trainables.contract.cards import Card, CardTable


@dataclass(frozen=True, kw_only=True)
class GeneratorCard(Card):
    """A way to choose the weights that are removed; its `module` is a function
    (`trainables.sparsity.build.Subject`, `SparsityConfig`) -> `Schedule`.
    """

    # of `sparsity`: those that change something, besides level and the others that every one has
    settings: tuple[str, ...] = ("scope", "distribution")
    # settings of its own, under `sparsity.options`; checked and completed by this model
    options: type[BaseModel] | None = None
    drawn: bool = False  # masks, or the first masks, are drawn at random
    scored: bool = False  # a score per weight is trained beside the network
    # how long it trains as a dense network does, to the last bit, where no penalty acts: not at
    # all, to the end of its warm-up, or through the recipe to its first pruning
    dense_until: Literal["start", "warmup", "pruning"] = "start"

    @property
    def from_file(self) -> bool:
        """Whether the masks are those of a file."""
        return "mask" in self.settings

    @property
    def structured(self) -> bool:
        """Whether it removes rows, n of m or blocks where asked, and shares masks."""
        return "structure" in self.settings

    @property
    def rewinds(self) -> bool:
        """Whether it goes through the recipe in rounds."""
        return "rounds" in self.settings


_HERE = "trainables.sparsity.cards"

GENERATORS = CardTable(
    "generator",
    "orchestrate.generators",
    GeneratorCard,
    {
        "fixed_random": f"{_HERE}:FIXED_RANDOM",
        "magnitude_at_init": f"{_HERE}:MAGNITUDE_AT_INIT",
        "predefined": f"{_HERE}:PREDEFINED",
        "score_trainable": f"{_HERE}:SCORE_TRAINABLE",
        "supermask": f"{_HERE}:SUPERMASK",
        "rewinding": f"{_HERE}:REWINDING",
        "rigl": f"{_HERE}:RIGL",
        "set": f"{_HERE}:SET",
    },
)
