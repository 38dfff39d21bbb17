"""Tune's snapshots of a run, from which nothing is restored: the journal is the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray.tune.execution import tune_controller
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager


class OneSnapshot(_ExperimentCheckpointManager):  # type: ignore[misc]  # Ray ships no types
    """Writes the first, which has to be there as Tune ends, and no later one: each would describe
    every trial that there was.
    """

    _written = False

    def sync_up_experiment_state(
        self, save_fn: Callable[[], None], force: bool = False, wait: bool = False
    ) -> None:
        def once() -> None:
            if not self._written:
                save_fn()
                self._written = True

        super().sync_up_experiment_state(once, force=force, wait=wait)


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Within: a Tune run that begins writes one snapshot, of its beginning."""
    before = tune_controller._ExperimentCheckpointManager
    tune_controller._ExperimentCheckpointManager = OneSnapshot
    try:
        yield
    finally:
        tune_controller._ExperimentCheckpointManager = before
