"""Workers that die: every death costs a restart of its trial, and is told in a few words."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial as TuneTrial

DIED = "the worker died"


class WorkerDied(RayActorError):  # type: ignore[misc]  # Ray ships no types
    """A death that Ray reports otherwise than as the error of an actor, in words of ours."""


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Ray's manager of Tune's workers, which ends the whole run where a worker dies of anything but
    an actor's error: killed for memory, for one.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _as_actor_error(exception))

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _as_actor_error(exception))


def _as_actor_error(error: Exception) -> Exception:
    if isinstance(error, RayError) and not isinstance(error, RayActorError | RayTaskError):
        return WorkerDied(error_msg=death(error))
    return error


@contextmanager
def survivable_deaths() -> Iterator[None]:
    """Within: Tune restarts the trial of a worker whatever it died of, up to its `max_failures`."""
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = ActorManager
    try:
        yield
    finally:
        tune_controller.RayActorManager = before


def death(error: BaseException | None) -> str:
    """Why a trial has to be started again or is given up, in one line."""
    if isinstance(error, WorkerDied):
        return str(error)
    text = "" if error is None else str(error)
    if isinstance(error, OutOfMemoryError) or "low on memory" in text:
        return f"{DIED}: killed for memory{_memory(text)}"
    if isinstance(error, RayTaskError):
        return _last_line(text) or type(error.cause).__name__
    if "node has died" in text or "node is dead" in text:
        return f"{DIED}: its node was lost"
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


def death_of(trial: TuneTrial) -> str:
    """Why the trial's last attempt ended, from the exception that Tune keeps on this machine."""
    try:
        return death(pickle.loads(Path(trial.pickled_error_file).read_bytes()))
    except Exception:  # no file, or whatever unpickling a stranger's exception may raise
        return DIED
