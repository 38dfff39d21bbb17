"""Which search suits a cell: `method.name: auto`."""

from __future__ import annotations

from typing import Literal

from orchestrator.search import qmc
from orchestrator.search.one_by_one import Forgetful, OneByOne
from orchestrator.trials.cell_space import CellSpace

FEWEST_TO_LEARN = 20
"""Trials of a cell below which a search that learns has hardly begun to when it ends: a quarter of
them, at most 10, are random.
"""
MANY_OBJECTIVES_TRIALS = 1000
"""Trials of a cell from which several objectives are better bred than modelled: the time of a tpe
proposal grows with them, and the Parzen estimator looks at 25 good trials at most.
"""

Choice = Literal["random", "qmc", "tpe", "nsga2"]


def choose(assignments: int | None, trials: int, objectives: int) -> Choice:
    """The search for one cell. assignments: how many there are; None: too many to list them.

    random, in effect the whole grid in random order: where every assignment can be tried, there is
    nothing to learn. qmc, or random where values are listed: for fewer trials than
    FEWEST_TO_LEARN, spreading them is all that can be done (Bergstra and Bengio 2012). nsga2: for
    several objectives and very many trials (Deb et al. 2002). tpe: else; it takes conditional
    leaves and lists (Bergstra et al. 2011), learns from trials that a stopping rule ended, which a
    Gaussian process does not, and its proposals stay cheap (Watanabe 2023).
    """
    if assignments is not None and assignments <= trials:
        return "random"
    if trials < FEWEST_TO_LEARN:
        return "qmc" if assignments is None else "random"
    if objectives > 1 and trials >= MANY_OBJECTIVES_TRIALS:
        return "nsga2"
    return "tpe"


def chosen(space: CellSpace) -> Choice:
    """The name of the search of one cell."""
    number = None if space.listed is None else len(space.listed)
    return choose(number, space.slots, len(space.sweep.objectives))


def search(space: CellSpace) -> OneByOne:
    """The search of one cell."""
    choice = chosen(space)
    if choice == "random":
        return OneByOne(space, Forgetful(space))
    if choice == "qmc":
        return qmc.search(space)
    from orchestrator.search.learning import search as learning

    return learning.nsga2(space) if choice == "nsga2" else learning.tpe(space)
