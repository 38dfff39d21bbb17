"""The cards of grid and random search."""

from orchestrator.sweep.searches import SearchCard

GRID = SearchCard(
    name="grid",
    module="orchestrator.search.listed:ListedSearch",
    about="every combination of the values",
    given="combinations",
)
RANDOM = SearchCard(
    name="random",
    module="orchestrator.search.listed:ListedSearch",
    about="random assignments, all different",
)
