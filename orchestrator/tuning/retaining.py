"""Retention while a sweep runs: as trials end, the checkpoints and the shared beginnings that
nobody needs any more go.

Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.record.retention import may_go, remove_unneeded, source, unneeded
from orchestrator.record.states import Ending, TrialState
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import key_of
from orchestrator.tuning.beginnings import Beginnings
from orchestrator.tuning.sweep_run import SweepRun
from trainables.contract.artifacts import TrialResult


class Retaining:
    """The trials of a sweep that may have a checkpoint, by cell.

    A trial whose checkpoint is gone stays unneeded, whatever ends later, and is forgotten once no
    other seed of its assignment has one: until then it counts in the mean that the assignment is
    judged by. So every end costs one look at the trials of its cell, and no result is read again.
    """

    def __init__(
        self, context: SweepRun, states: Iterable[TrialState], beginnings: Beginnings
    ) -> None:
        """states: of all trials that were proposed so far."""
        self._context = context
        self._beginnings = beginnings
        self._policy = context.sweep.retain.checkpoints
        self._cells: dict[str, dict[str, TrialState]] = {}
        # dense trials that others may start from: those with a result, and the one that is taken
        self._groups: dict[tuple[str, ...], dict[str, TrialState]] = {}
        self._sources: dict[tuple[str, ...], str | None] = {}
        for state in states:
            self._note(state)

    def start(self) -> None:
        """Apply the sweep file's policy, which may be another one than in the run before."""
        self._beginnings.tidy(begins=True)
        known = self._known()
        for group in self._groups:
            self._join(group, (known[name] for name in group if name in known))
        for cell in self._cells:
            self._apply(cell)

    def started(self, proposal: Proposal) -> None:
        """A trial runs; it may have been proposed since."""
        self._note(TrialState(proposal))
        group = proposal.after
        if group in self._groups and group not in self._sources:
            known = self._known()
            self._join(group, (known[name] for name in group if name in known))

    def _known(self) -> dict[str, TrialState]:
        return {name: state for cell in self._cells.values() for name, state in cell.items()}

    def ended(self, proposal: Proposal, ending: Ending, result: TrialResult | None) -> None:
        """A trial has an ending; result: of a finished one."""
        self._beginnings.ended(proposal.trial)
        state = TrialState(proposal, ending, result)
        self._note(state)
        for group in self._groups:
            if proposal.trial in group:
                self._join(group, [state])
        self._apply(proposal.cell)

    def _join(self, group: tuple[str, ...], states: Iterable[TrialState]) -> None:
        members = self._groups[group]
        members |= {state.proposal.trial: state for state in states if state.result is not None}
        self._sources[group] = source(members.values(), self._context.sweep)

    def _note(self, state: TrialState) -> None:
        if self._policy == "all":
            return
        proposal = state.proposal
        self._cells.setdefault(proposal.cell, {})[proposal.trial] = state
        self._groups.setdefault(proposal.after, {})

    def _apply(self, cell: str) -> None:
        if any(cell in before for before in self._context.behind.values()):
            return  # trials that are not proposed yet may start from any of the cell
        states = self._cells.get(cell, {})
        sweep, tracker = self._context.sweep, self._context.tracker
        started_from = filter(None, self._sources.values())
        found = unneeded([*states.values()], sweep, self._policy, started_from)
        gone = remove_unneeded(
            self._context.folder,
            found,
            lambda state: may_go(state, self._context.folder, tracker.delivered),
        )
        kept = {key_of(states[name].proposal.assignment) for name in states.keys() - {*gone}}
        for name in gone:
            if key_of(states[name].proposal.assignment) not in kept:
                del states[name]
