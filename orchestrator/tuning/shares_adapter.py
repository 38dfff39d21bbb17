"""Tune's events, passed on to what grants resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.planning.device_shares import LADDER
from orchestrator.sweep import Resources
from orchestrator.trials.space import Trial
from orchestrator.tuning.cluster import Slots, fit_slots, possible_nodes
from orchestrator.tuning.shares import Grant, Place, Said, Shares
from orchestrator.tuning.sweep_run import SweepRun
from trainables.ray_trainable import epochs_of


class ShareReports(Callback):  # type: ignore[misc]  # Ray ships no types
    """Tells what trials report, and when their workers are free."""

    def __init__(self, shares: Shares, trial_of: Callable[[str], Trial]) -> None:
        """trial_of: what runs under Tune's trial id."""
        self._shares = shares
        self._trial_of = trial_of

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore of its own; a sweep continues from its files
        instead.
        """
        return {}

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        name = self._name(trial)
        for told in epochs_of(result) or [result]:
            self._shares.reported(name, told)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._shares.end(self._name(trial))

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._shares.end(self._name(trial))

    def _name(self, trial: TuneTrial) -> str:
        return self._trial_of(trial.trial_id).proposal.trial


def shares_of(context: SweepRun, slots: Slots, trials: int, note: Callable[[str], None]) -> Shares:
    """Of a sweep that is about to run. slots: what a trial gets as long as nothing is measured.
    trials: how many there may be.
    """
    wanted = context.sweep.resources
    measured = wanted.cpus == "auto" or _packs(wanted, slots)
    place = Place.of(possible_nodes()) if measured else Place(0, 0.0)
    fixed = Grant(int(slots.cpus), slots.gpus)
    return Shares(wanted, fixed, place, trials, Said(context.journal, note))


def most_at_once(wanted: Resources, slots: Slots) -> int:
    """Trials that may run at a time once as many share a GPU as are ever tried."""
    packed = at_most_shared(wanted, slots)
    if packed is wanted:
        return slots.concurrent
    return max(slots.concurrent, fit_slots(packed, possible_nodes()).concurrent)


def at_most_shared(wanted: Resources, slots: Slots) -> Resources:
    """What a trial gets where as many share a GPU as are ever tried; `wanted` where none do."""
    if not _packs(wanted, slots):
        return wanted
    return wanted.model_copy(update={"gpus": 1 / LADDER[-1]})


def _packs(wanted: Resources, slots: Slots) -> bool:
    return wanted.gpus == "auto" and slots.gpus > 0
