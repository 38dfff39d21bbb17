"""What a strategy is given, the sources of one ensemble with their aligned selection scores, and
what it may answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.budgets import Budget
from orchestrator.sweep.presets import Combine


@dataclass(frozen=True, eq=False, slots=True)
class Sources:
    """The sources of one ensemble, S of them, on the N selection clips of a store of K classes.

    Row i of every source is the clip `ids[i]`. Where nothing was held out (the papers' protocol) N
    is 0. The arrays are read-only. Of the test split nothing is here.
    """

    members: tuple[str, ...]  # names, (S,): cells, or earlier ensembles
    values: npt.NDArray[np.float32]  # (S, N, K) logits
    labels: npt.NDArray[np.int64]  # (N,) class numbers
    ids: tuple[str, ...]  # (N,)
    given: Mapping[str, float]  # member -> weight of the sweep file; empty where it names none
    # (S,): the trials each needs; an earlier ensemble needs several. By default its own name alone
    networks: tuple[frozenset[str], ...] = ()
    # (S,): sources of one family differ in the seed or the sparsity level only. By default, and
    # where it is empty, each is its own
    families: tuple[str, ...] = ()
    combine: Combine = "probabilities"  # what is summed with the weights
    # what the networks of the chosen sources may cost together
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        networks = self.networks or tuple(frozenset({name}) for name in self.members)
        families = self.families or ("",) * len(self.members)
        assert len(networks) == len(families) == len(self.members) == len(self.values)
        named = tuple(family or name for family, name in zip(families, self.members, strict=True))
        object.__setattr__(self, "networks", networks)
        object.__setattr__(self, "families", named)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a strategy answers where weights alone do not say it; a mapping of weights is a choice
    without temperatures.
    """

    weights: Mapping[str, float]  # source -> weight, not negative; without one, or 0: left out
    # source -> what its logits are divided by before they are combined; 1 where it has none
    temperatures: Mapping[str, float] = field(default_factory=dict)
