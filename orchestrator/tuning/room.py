"""Free space before and while trials run: a sweep stops, resumably, before writes fail.

Knows no Ray.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from orchestrator.planning.space import Footprints, copies_of, savings, shortage
from orchestrator.record.states import TrialState
from orchestrator.trials.space import all_trials
from orchestrator.tuning.sweep_run import SweepRun
from trainables.contract.addresses import is_address
from trainables.contract.errors import UserError

log = logging.getLogger(__name__)

CHECK_S = 10.0
"""Between two looks at what is free."""


class Room:
    """Room on the disk of a sweep's folder. Where the store cannot be read, nothing is known of the
    trials' sizes, and only the margin is kept; so it is where the sweep lies at an address, and
    the folder is a copy of it.
    """

    def __init__(self, context: SweepRun, now: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._now = now
        self._check_at = 0.0
        self._footprints: Footprints | None = None
        if is_address(context.sweep.storage):
            return  # trials leave there what they leave
        with suppress(UserError):
            self._footprints = Footprints.of(context.sweep)

    def check_start(self, states: Collection[TrialState], at_once: int) -> None:
        """UserError where there is no room for the trials that have not ended."""
        sweep, run = self._context.sweep, self._context.folder
        if self._footprints is None:
            return
        ended = {state.proposal.trial for state in states if state.ended}
        planned = (
            all_trials(sweep, [state.proposal for state in states])
            if self._context.slots
            else self._context.trials
        )
        left = [trial for trial in planned if trial.proposal.trial not in ended]
        copies = copies_of(sweep, run)
        need = self._footprints.needed(sweep, left, at_once, copies)
        text = shortage(run, need, f"{len(left)} trials are expected to need")
        if text is not None:
            less = savings(self._footprints, sweep, left, at_once, copies)
            raise UserError(f"{text}{f' ({less})' if less else ''}")

    def problem(self, running: Collection[str]) -> str | None:
        """Why the sweep must stop now, looked at every CHECK_S seconds: what is free is less than
        the running trials need to end, or to write a last checkpoint. running: their names.
        """
        now = self._now()
        if now < self._check_at:
            return None
        self._check_at = now + CHECK_S
        trials = [t for t in self._context.trials if t.proposal.trial in running]
        prints = self._footprints
        need = 0.0 if prints is None else sum(prints.trial(trial).whole for trial in trials)
        number = len(trials)
        who = "the running trial needs" if number == 1 else f"the {number} running trials need"
        try:
            return shortage(self._context.folder, need, who)
        except OSError as error:  # the folder does not answer; writing to it will say so
            log.debug("%s: %s", self._context.folder, error)
            return None
