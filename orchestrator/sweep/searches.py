"""What is known of a search before it is imported: its card, and the table of the cards there are.

A card stands beside the search it describes, in a module that imports neither torch nor ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from trainables.contract.cards import Card, CardTable, NameOf


@dataclass(frozen=True, kw_only=True)
class SearchCard(Card):
    """A search; its `module` is called with the trials of a cell and returns an
    `orchestrator.search.listed.CellSearch`.
    """

    # which trials that are: every combination of the values, or `method.trials_per_cell` random
    # draws
    given: Literal["combinations", "draws"] = "draws"


SEARCHES = CardTable(
    "search",
    "orchestrate.searches",
    SearchCard,
    {
        "grid": "orchestrator.search.listed_card:GRID",
        "random": "orchestrator.search.listed_card:RANDOM",
    },
)

SearchName = Annotated[str, NameOf(SEARCHES)]
"""A name of the table of searches, of an installed package, or `package.module:NAME`."""
