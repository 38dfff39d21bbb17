"""More than one way into a budget: a strategy that begins with the best source may have spent all
of it on that one, where several smaller ones together are better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.budgets import Budget
from orchestrator.ensembling.cross_fitting import combined
from orchestrator.ensembling.spill import Rows
from orchestrator.ensembling.strategies.sources import Choice, Sources

Choose = Callable[[Sources], Mapping[str, float] | Choice]

PARTS = (2, 3, 4)
"""Into so many sources the budget is shared out, beside being left to a single one."""


def best_within_budget(choose: Choose, sources: Sources) -> Choice:
    """The best, on the selection clips, of what the strategy chooses of all sources, of those that
    leave room for another one, and of those that fit twice, three and four times into the budget;
    of equally good ones the cheaper.
    """
    tried = [_choice(choose(sources))]
    before = len(sources.members)
    for fitting in _smaller(sources) if sources.budget.limits else ():
        if 2 <= len(fitting) < before:
            before = len(fitting)
            tried.append(_choice(choose(_some(sources, fitting))))
    if len(tried) == 1:
        return tried[0]
    return max(tried, key=lambda each: (_right(sources, each), -_cost(sources, each)))


def _smaller(sources: Sources) -> Iterator[npt.NDArray[np.intp]]:
    """The sources that fit into the budget beside the cheapest, and several times."""
    budget, networks = sources.budget, sources.networks
    measure = next(iter(budget.limits))
    cheapest = min(networks, key=lambda each: budget.cost(each).get(measure, np.inf))
    yield np.flatnonzero([budget.fits(each | cheapest) for each in networks])
    for parts in PARTS:
        smaller = Budget({m: most / parts for m, most in budget.limits.items()}, budget.figures)
        yield np.flatnonzero([smaller.fits(each) for each in networks])


def _choice(answer: Mapping[str, float] | Choice) -> Choice:
    return answer if isinstance(answer, Choice) else Choice(answer)


def _some(sources: Sources, numbers: npt.NDArray[np.intp]) -> Sources:
    """These sources alone; a table larger than memory lies in a file again."""
    _, clips, classes = sources.values.shape
    rows = Rows(clips * classes)
    for number in numbers:
        rows.append(sources.values[number].reshape(1, -1))
    values = rows.table().reshape(len(numbers), clips, classes)
    values.setflags(write=False)
    members = tuple(sources.members[i] for i in numbers)
    return replace(
        sources,
        members=members,
        values=values,
        given={name: weight for name, weight in sources.given.items() if name in members},
        networks=tuple(sources.networks[i] for i in numbers),
        families=tuple(sources.families[i] for i in numbers),
    )


def _right(sources: Sources, choice: Choice) -> int:
    """How many selection clips it gets right."""
    return int((combined(sources, choice).argmax(axis=1) == sources.labels).sum())


def _cost(sources: Sources, choice: Choice) -> float:
    """Of its networks, by the first measure that is limited."""
    numbers = {name: number for number, name in enumerate(sources.members)}
    chosen = [numbers[name] for name, weight in choice.weights.items() if weight]
    networks = frozenset[str]().union(*(sources.networks[number] for number in chosen))
    return sources.budget.cost(networks)[next(iter(sources.budget.limits))]
