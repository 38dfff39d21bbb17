"""What is known of a search before it is imported: its card, and the table of the cards there are.

A card stands beside the search it describes, in a module that imports neither torch nor ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from trainables.contract.cards import Card, CardTable, NameOf


@dataclass(frozen=True, kw_only=True)
class SearchCard(Card):
    """A search; its `module` is called with what is `given` and returns an
    `orchestrator.search.protocol.CellSearch`, an `AskedSearch` where it is asked.
    """

    # the trials of a cell: every combination of the values, or `method.trials_per_cell` random
    # draws. asked: the cell's `orchestrator.trials.cell_space.CellSpace`, of which the search makes
    # trials one by one
    given: Literal["combinations", "draws", "asked"] = "draws"
    learns: bool = False  # whether it is told more than it forgets: what ended helps it propose
    most_trials: int | None = None  # of one cell that it can learn from in reasonable time

    @property
    def asked(self) -> bool:
        """Whether it makes trials one by one."""
        return self.given == "asked"


SEARCHES = CardTable(
    "search",
    "orchestrate.searches",
    SearchCard,
    {
        "grid": "orchestrator.search.listed_card:GRID",
        "random": "orchestrator.search.listed_card:RANDOM",
        "qmc": "orchestrator.search.asked_cards:QMC",
        "tpe": "orchestrator.search.asked_cards:TPE",
        "gp": "orchestrator.search.asked_cards:GP",
        "nsga2": "orchestrator.search.asked_cards:NSGA2",
        "auto": "orchestrator.search.asked_cards:AUTO",
    },
)

SearchName = Annotated[str, NameOf(SEARCHES)]
"""A name of the table of searches, of an installed package, or `package.module:NAME`."""
