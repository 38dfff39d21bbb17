"""Quasi-random search: points of a scrambled Sobol sequence, which fill the space more evenly than
random draws do (Bergstra and Bengio 2012 find it the better of the two where few trials are to be
had). It learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.search.one_by_one import Forgetful, OneByOne
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.space import MAX_TRIES, Assignment, generator, key_of, value_at

BLOCK = 128  # points of the sequence that are made at once; a power of two


class SobolPoints(Forgetful):
    """Proposes the first point of the sequence that was not tried and is allowed, and what random
    search does once `MAX_TRIES` points in a row were nothing new: what it proposes depends on
    nothing but what was tried, however many trials earlier runs of the sweep have made.
    """

    def __init__(self, space: CellSpace) -> None:
        super().__init__(space)
        self._points = _points(space)
        self._passed: set[str] = set()  # assignments that the sequence has come to
        self._refused = 0  # points in a row that were forbidden, or passed before

    def propose(self, index: int, tried: Mapping[str, Assignment]) -> Assignment | None:
        while self._refused < MAX_TRIES:
            found = self._space.assignment(next(self._points))
            key = None if found is None else key_of(found)
            if key is None or key in self._passed:
                self._refused += 1
                continue
            self._passed.add(key)
            self._refused = 0
            if key not in tried:
                return found
        return super().propose(index, tried)  # the last of a space that can be listed


def _points(space: CellSpace) -> Iterator[dict[str, object]]:
    """Values of the searched leaves."""
    from scipy.stats import qmc

    names = tuple(space.parameters)
    seed = generator(space.sweep, space.cell).getrandbits(32)
    sequence = qmc.Sobol(max(len(names), 1), scramble=True, rng=seed)
    while True:
        for point in sequence.random(BLOCK):
            yield {
                name: value_at(space.parameters[name], float(place))
                for name, place in zip(names, point, strict=False)
            }


def search(space: CellSpace) -> OneByOne:
    """The search of one cell."""
    return OneByOne(space, SobolPoints(space))
