"""Which training checkpoints of a sweep nobody needs any more, and their removal.

A trial that goes on always keeps its checkpoint; deploy forms, scores and results are never
touched.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.record.choice import Candidate, allowed, by_assignment, order
from orchestrator.record.copies import remove
from orchestrator.record.states import TrialState
from orchestrator.trials.best import repeats_best
from trainables.contract import locks
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

log = logging.getLogger(__name__)

Policy = Literal["all", "best_per_cell", "none"]
"""See `retain.checkpoints` of the sweep file."""


def unneeded(
    states: Sequence[TrialState],
    sweep: Sweep,
    policy: Policy,
    sources: Iterable[str],
) -> dict[str, TrialState]:
    """Trials of one cell whose checkpoint nobody needs.

    Trials that go on need theirs. So does a failed one, as it may be tried again, and under
    `best_per_cell` a finished one that may still be the best: an assignment is judged once all its
    seeds have ended. Whoever is named here is not needed later, whatever ends. sources: see
    `source`.
    """
    if policy == "all":
        return {}
    kept = {state.proposal.trial for state in states if not state.ended}
    kept |= {state.proposal.trial for state in states if state.ending == "failed"}
    kept |= set(sources)
    if policy == "best_per_cell":
        kept |= _may_be_best(states, sweep)
    return {state.proposal.trial: state for state in states if state.proposal.trial not in kept}


def _may_be_best(states: Sequence[TrialState], sweep: Sweep) -> set[str]:
    """The best of the assignments whose seeds have all ended, and every trial of the others; with
    `method.final_seeds` also the best trial of the first seed, which may be repeated, and where a
    mean over its seeds may turn out to be outside a limit, the one after it.
    """
    waiting = [state.proposal.assignment for state in states if not state.ended]
    settled: list[Candidate] = []
    kept: set[str] = set()
    candidates = by_assignment(_finished(states))
    for candidate in candidates:
        if candidate[0][0].assignment in waiting:
            kept |= {proposal.trial for proposal, _ in candidate}
        else:
            settled.append(candidate)
    best = min(allowed(settled, sweep), key=lambda each: order(each, sweep), default=None)
    found = [best] if best else []
    if sweep.method.final_seeds > 1:
        repeatable = [each for each in candidates if len(each) == 1 or allowed([each], sweep)]
        firsts = [each[:1] for each in repeatable if not repeats_best(sweep, each[0][0])]
        most = 2 if sweep.metric_limits else 1
        found += sorted(allowed(firsts, sweep), key=lambda each: order(each, sweep))[:most]
    return kept | {candidate[0][0].trial for candidate in found}


def _finished(states: Iterable[TrialState]) -> Candidate:
    return [(state.proposal, state.result) for state in states if state.result is not None]


def source(states: Iterable[TrialState], sweep: Sweep) -> str | None:
    """The trial whose weights others start from, of those that they may start from: the best that
    has a result, if any.
    """
    best = min(_finished(states), key=lambda each: order([each], sweep), default=None)
    return best[0].trial if best else None


def sources(states: Iterable[TrialState], sweep: Sweep) -> set[str]:
    """The trials of a sweep whose weights others start from, or would if they were added later."""
    by_name = {state.proposal.trial: state for state in states}
    groups = {state.proposal.after for state in by_name.values()}
    found = {
        source((by_name[name] for name in group if name in by_name), sweep) for group in groups
    }
    return {name for name in found if name is not None}


def unneeded_of_sweep(
    states: Sequence[TrialState], sweep: Sweep, policy: Policy
) -> dict[str, TrialState]:
    """Like `unneeded`, of all cells of a sweep."""
    cells: dict[str, list[TrialState]] = {}
    for state in states:
        cells.setdefault(state.proposal.cell, []).append(state)
    started_from = sources(states, sweep)
    return {
        trial: state
        for cell in cells.values()
        for trial, state in unneeded(cell, sweep, policy, started_from).items()
    }


_OURS = re.compile(r"last\.pt|(next\.)?best\.pt|\.((next\.)?best|last)\.pt\.[0-9a-f]{8}\.partial")


def checkpoint_files(folder: TrialDir) -> list[Path]:
    """What training wrote into the trial's checkpoint, in the order in which it may be removed: as
    long as `best.pt` is there, it is what the trial ships, so it goes last.
    """
    checkpoint = folder.checkpoint_file.parent
    if not checkpoint.is_dir() or checkpoint.is_symlink():
        return []
    files = [path for path in checkpoint.iterdir() if _OURS.fullmatch(path.name) and path.is_file()]
    return sorted(files, key=lambda path: (path == folder.best_file, path.name))


def remove_checkpoint(folder: TrialDir) -> int:
    """Remove the checkpoint of a trial that has ended; returns the bytes that are free by that: 0
    where there is none, or where its process still holds the trial.
    """
    if not checkpoint_files(folder):
        return 0
    freed = 0
    try:
        with locks.held(folder.path, patience=0.0, busy="its process has not ended"):
            for path in checkpoint_files(folder):
                size = path.stat().st_size
                remove(path)
                freed += size
            with suppress(OSError):  # something else lies in it
                folder.checkpoint_file.parent.rmdir()
    except UserError as error:
        log.info("%s: its checkpoint stays: %s", folder.path, error)
    except OSError as error:
        log.warning("%s: its checkpoint stays: %s", folder.path, error)
    return freed


def may_go(state: TrialState, run: Path, delivered: Callable[[str], bool]) -> bool:
    """Whether the checkpoint is nowhere waited for: a tracker keeps the weights of dense trials,
    and `delivered` tells whether it has those of a trial.
    """
    if state.result is None or delivered(state.proposal.trial):
        return True
    try:
        return not state.proposal.folder(run).load_config().sparsity.dense
    except (OSError, ValueError):  # damaged: whether it is dense is not known
        return False


def remove_unneeded(
    run: Path,
    trials: Mapping[str, TrialState],
    may_go: Callable[[TrialState], bool] = lambda state: True,
) -> list[str]:
    """Remove the checkpoints of these trials, unless one is needed elsewhere; returns the trials
    that have none any more.
    """
    gone = []
    for name, state in trials.items():
        folder = state.proposal.folder(run)
        if checkpoint_files(folder) and may_go(state):
            remove_checkpoint(folder)
        if not checkpoint_files(folder):
            gone.append(name)
    return gone
