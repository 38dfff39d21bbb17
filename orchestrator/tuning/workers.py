"""Workers that die: a death is told in a few words, and costs a restart of its trial unless its
node was lost.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.air.execution._internal import RayActorManager
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.tune.execution import class_cache, tune_controller
from ray.tune.experiment import Trial as TuneTrial

DIED = "the worker died"
NODE_LOST = f"{DIED}: its node was lost"


class WorkerDied(RayActorError):  # type: ignore[misc]  # Ray ships no types
    """A death in words of ours: one that Ray reports otherwise than as the error of an actor, or
    that of a node, which is `preempted`: Tune does not count it among a trial's failures.
    """


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Ray's manager of Tune's workers, which ends the whole run where a worker dies of anything but
    an actor's error (killed for memory, for one), and counts a lost node as the trial's failure.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _as_actor_error(exception))

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _as_actor_error(exception))


def _as_actor_error(error: Exception) -> Exception:
    if isinstance(error, RayTaskError) or not isinstance(error, RayError):
        return error
    if _node_lost(error):
        return WorkerDied(error_msg=NODE_LOST, preempted=True)
    return error if isinstance(error, RayActorError) else WorkerDied(error_msg=death(error))


def _node_lost(error: BaseException) -> bool:
    """Whether a worker died with its machine: preempted, drained, switched off, out of reach."""
    if isinstance(error, NodeDiedError) or getattr(error, "preempted", False):
        return True
    text = str(error)
    return "node has died" in text or "node is dead" in text or "node was terminated" in text


@contextmanager
def survivable_deaths() -> Iterator[None]:
    """Within: Tune restarts the trial of a worker whatever it died of, up to its `max_failures`."""
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = ActorManager
    try:
        yield
    finally:
        tune_controller.RayActorManager = before


@contextmanager
def plain_workers() -> Iterator[None]:
    """Within: Tune gives its workers no keys of a cloud's from our environment, which Ray would
    write into the log of every node: a worker has those of its own machine. Nor does it give them a
    variable for PyTorch Lightning: workers with variables are none of those that Ray has started
    before they are needed.
    """
    keys, others = class_cache.ENV_VARS_TO_PROPAGATE, class_cache.DEFAULT_ENV_VARS
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in keys if not name.startswith("AWS_")}
    class_cache.DEFAULT_ENV_VARS = {}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE, class_cache.DEFAULT_ENV_VARS = keys, others


def death(error: BaseException | None) -> str:
    """Why a trial has to be started again or is given up, in one line."""
    if isinstance(error, WorkerDied):
        return str(error)
    text = "" if error is None else str(error)
    if isinstance(error, OutOfMemoryError) or "low on memory" in text:
        return f"{DIED}: killed for memory{_memory(text)}"
    if isinstance(error, RayTaskError):
        return _last_line(text) or type(error.cause).__name__
    if error is not None and _node_lost(error):
        return NODE_LOST
    return DIED if isinstance(error, RayActorError) or not text else f"{DIED}: {_last_line(text)}"


def _memory(text: str) -> str:
    """The figures of Ray's message: ` (the trial held 0.3GB, the node 22.8GB of 24.0GB)`."""
    held = re.search(r"memory used=([\d.]+ ?\w+)", text)
    node = re.search(r"was ([\d.]+ ?\w+)(?: used)? / ([\d.]+ ?\w+)", text)
    if held is None or node is None:
        return ""
    return f" (the trial held {held[1]}, the node {node[1]} of {node[2]})"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


@dataclass(frozen=True, slots=True)
class Death:
    """How an attempt of a trial ended."""

    reason: str  # one line
    counts: bool = True  # as one of the restarts that a trial may have


def death_of(trial: TuneTrial) -> Death:
    """Why the trial's last attempt ended, from the exception that Tune keeps on this machine."""
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        return Death(death(error), not getattr(error, "preempted", False))
    except Exception:  # no file, or whatever unpickling a stranger's exception may raise
        return Death(DIED)


def count_as_failure(trial: TuneTrial) -> None:
    """Let a death that did not count be one of the trial's failures."""
    trial.run_metadata.num_failures += 1


def kill(trial: TuneTrial) -> None:
    """End the trial's worker: Tune meets a dead worker and starts the trial again, or gives up."""
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)
