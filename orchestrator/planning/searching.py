"""What a plan says of searches that make their trials one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orchestrator.search.auto import chosen
from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.cells import expand


def searching(sweep: Sweep) -> Iterator[str]:
    """How trials are found that nobody knows yet, and what the plan shows in their place."""
    name = sweep.method.name
    if not SEARCHES.find(name).asked:
        return
    spaces = [CellSpace(sweep, cell) for cell in expand(sweep)]
    names = Counter(chosen(space) if name == "auto" else name for space in spaces)
    if name == "auto":
        taken = [f"{each} in {number} of {len(spaces)} cells" for each, number in names.items()]
        yield f"method auto takes {', '.join(taken) if len(taken) > 1 else next(iter(names))}"
    startup = ""
    if any(SEARCHES.find(each).learns for each in names):
        startup = f", which learns once {spaces[0].startup} trials of a cell have ended"
    if SEARCHES.find(name).most_trials is not None:
        startup += ", in a time that is not counted here"
    yield (
        f"method {name} chooses trials as the sweep goes on{startup}; in place of those that are"
        " not chosen yet the figures are of random ones"
    )
