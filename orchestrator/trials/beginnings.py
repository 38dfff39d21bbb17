"""Which trials of a sweep share their first epochs: those are trained once, and the others start
from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.proposed import Trial

FOLDER = "shared"
"""Where the states after beginnings lie in a sweep's folder, as long as a trial needs them."""


_FILE = re.compile(r"[0-9a-f]{16}\.pt")


def whole_file(name: str) -> bool:
    """Whether a file of that name in the folder holds the state after a beginning."""
    return _FILE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first epochs that several trials share."""

    digest: str  # of the configuration of those epochs
    epochs: int
    # all that train it, in the order in which one is to do it for the others: dense ones first, as
    # their best epoch may be one of these, so that they start from no other trial
    trials: tuple[str, ...]
    branching: frozenset[str]  # of them, those that can start from it

    def file(self, run: Path) -> Path:
        """Where the state after it lies, in a sweep's folder."""
        return run / FOLDER / f"{self.digest}.pt"


def shared_beginnings(sweep: Sweep, trials: Sequence[Trial]) -> tuple[Beginning, ...]:
    """Those of the trials of a sweep; none where the method makes trials one by one: which of them
    will share one is not known when the first is trained.
    """
    if SEARCHES.find(sweep.method.name).asked:
        return ()
    branching: dict[tuple[str, int], list[str]] = {}
    for trial in trials:
        if epochs := trial.config.branch_epoch:
            key = trial.config.beginning_digest(epochs), epochs
            branching.setdefault(key, []).append(trial.proposal.trial)
    dense = _dense(trials, branching)
    return tuple(
        Beginning(digest, epochs, (*dense.get(digest, ()), *names), frozenset(names))
        for (digest, epochs), names in branching.items()
        if len(names) + len(dense.get(digest, ())) > 1
    )


def _dense(
    trials: Sequence[Trial], branching: Iterable[tuple[str, int]]
) -> dict[str, tuple[str, ...]]:
    """By digest, the dense trials whose first epochs are one of the beginnings."""
    lengths = {epochs for _, epochs in branching}
    found: dict[str, tuple[str, ...]] = {}
    for trial in trials if lengths else ():
        config = trial.config
        for epochs in lengths if config.sparsity.dense else ():
            if epochs <= config.train.epochs:
                digest = config.beginning_digest(epochs)
                found[digest] = (*found.get(digest, ()), trial.proposal.trial)
    return found


def trained_once(
    shared: Iterable[Beginning],
    ended: Collection[str],
    begun: Mapping[str, float],
    there: Callable[[Beginning], bool],
) -> dict[str, Beginning]:
    """The trials that have not ended and start from a beginning, or did, each with that. begun:
    see `trainer`; there: whether its state is there already; else one of its trials has to train
    it, and those that are behind it went there alone.
    """
    found: dict[str, Beginning] = {}
    for each in shared:
        names = each.branching.difference(ended)
        if not there(each):
            names -= {trainer(each, ended, begun), *_behind(each, begun)}
        found |= dict.fromkeys(sorted(names), each)
    return found


def trainer(beginning: Beginning, ended: Collection[str], begun: Mapping[str, float]) -> str | None:
    """Who trains it, where its state is not there: the first that has not ended, and does not go
    on from a checkpoint behind it. begun: epochs of such checkpoints, by trial.
    """
    behind = _behind(beginning, begun)
    return next((name for name in beginning.trials if name not in {*ended, *behind}), None)


def _behind(beginning: Beginning, begun: Mapping[str, float]) -> set[str]:
    """Trials that will not come to its end again, and leave nothing there."""
    return {name for name, epochs in begun.items() if epochs >= beginning.epochs}
