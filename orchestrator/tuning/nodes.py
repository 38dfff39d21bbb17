"""Nodes of the cluster that end their trials: seen in Tune's events, and left out of where Ray puts
the next ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray.air.execution.resources.placement_group import PlacementGroupResourceManager
from ray.air.execution.resources.request import ResourceRequest
from ray.tune import Callback
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial as TuneTrial
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from orchestrator.record.decisions import excluded_nodes
from orchestrator.record.journal import read_journal
from orchestrator.sweep import Resources
from orchestrator.tuning.cluster import Slots
from orchestrator.tuning.failing_nodes import Excluded, FailingNodes
from orchestrator.tuning.sweep_run import SweepRun
from orchestrator.tuning.waiting import can_hold
from orchestrator.tuning.workers import Death, death_of
from trainables.ray_trainable import epochs_of

NODE_ID = "ray.io/node-id"
"""Label that Ray gives every node."""


class NodeWatch(Callback):  # type: ignore[misc]  # Ray ships no types
    """Listener that learns from attempts of trials which node fails them."""

    def __init__(
        self,
        context: SweepRun,
        slots: Slots,
        name_of: Callable[[TuneTrial], str],
        take_back: Callable[[str, int], None],
        ended_with_us: Callable[[Death], bool],
        note: Callable[[str], None],
    ) -> None:
        """name_of: of a trial. take_back: is told how many restarts of a trial were not its own
        fault. ended_with_us: whether a signal to this process may be what a worker died of. note:
        says one line to the person.
        """
        self._context = context
        self._slots = slots
        self._name_of = name_of
        self._take_back = take_back
        self._ended_with_us = ended_with_us
        self._note = note
        known = excluded_nodes(read_journal(context.journal.path))
        self._watched = FailingNodes(context.sweep.failure.exclude_node, known)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore of its own; a sweep continues from its files
        instead.
        """
        return {}

    def avoided(self) -> frozenset[str]:
        """Nodes that no trial is to be put on now."""
        wanted = self._context.sweep.resources
        return self._watched.avoided(time.monotonic(), partial(usable_nodes, wanted, self._slots))

    def where(self, trial: str) -> str | None:
        """The node that a trial's attempt runs on, until the listener is told of its end; None:
        nobody knows.
        """
        return self._watched.where(trial)

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._watched.started(self._name_of(trial), node_of(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        for told in epochs_of(result)[-1:]:
            name, epoch = self._name_of(trial), int(told["epoch"])
            self._give_up(self._watched.got_on(name, epoch, time.monotonic()), trials)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._failed(trials, trial)

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._failed(trials, trial)
        self._watched.gone(self._name_of(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        name = self._name_of(trial)
        if (trial.last_result or {}).get("complete"):
            self._watched.finished(name)
        else:
            self._watched.gone(name)

    def _failed(self, trials: list[TuneTrial], trial: TuneTrial) -> None:
        name, death = self._name_of(trial), death_of(trial)
        if death.counts and not self._ended_with_us(death):
            self._give_up(self._watched.failed(name, time.monotonic()), trials)
        else:
            self._watched.ended(name)  # a node that is lost, or that did nothing, teaches nothing

    def _give_up(self, excluded: Excluded | None, trials: list[TuneTrial]) -> None:
        if excluded is None:
            return
        host = host_of(excluded.node)
        self._context.journal.append(
            "node_excluded",
            node=excluded.node,
            host=host,
            reason=excluded.reason,
            failures=excluded.failures,
        )
        self._note(
            f"EXCLUDED  node {excluded.node[:8]} on {host}: {excluded.reason}; it is given no more"
            " trials (ended and started again, it is another node)"
        )
        for trial in trials:
            number = excluded.failures.get(self._name_of(trial), 0)
            if number:
                failed = trial.run_metadata.num_failures
                trial.run_metadata.num_failures = max(0, failed - number)
                self._take_back(self._name_of(trial), number)


def node_of(trial: TuneTrial) -> str | None:
    """Number of the node that the trial's worker runs on; None where Ray does not say."""
    actor = trial.temporary_state.ray_actor
    if actor is None:
        return None
    try:
        said = ray._private.state.actors(actor_id=actor._actor_id.hex())
        return str(said["Address"]["NodeID"]) or None
    except Exception:  # of Ray's, whose head may be gone, or a worker that it has forgotten
        return None


def host_of(node: str) -> str:
    """The address of a node's machine."""
    hosts = {each["NodeID"]: str(each["NodeManagerAddress"]) for each in ray.nodes()}
    return hosts.get(node, "a machine that is gone")


def usable_nodes(wanted: Resources, slots: Slots) -> list[str]:
    """Numbers of the nodes that can hold a trial."""
    return [
        str(node["NodeID"])
        for node in ray.nodes()
        if node["Alive"] and can_hold(wanted, slots, [node["Resources"]])
    ]


class Elsewhere(PlacementGroupResourceManager):  # type: ignore[misc]  # Ray ships no types
    """Asks Ray for room on nodes that are not avoided. What waits for room when these change is
    asked for again.
    """

    avoided: Callable[[], frozenset[str]]

    def __init__(self, update_interval_s: float = 0.1) -> None:
        super().__init__(update_interval_s)
        self._without: dict[PlacementGroup, frozenset[str]] = {}  # of those that wait

    def request_resources(self, resource_request: ResourceRequest) -> None:
        without, bundles = self.avoided(), resource_request.bundles
        selector = {NODE_ID: f"!in({','.join(sorted(without))})"}
        group = placement_group(
            bundles,
            resource_request.strategy,
            bundle_label_selector=[selector] * len(bundles) if without else None,
        )
        self._without[group] = without
        self._pg_to_request[group] = resource_request
        self._request_to_staged_pgs[resource_request].add(group)
        future = group.ready()
        self._staging_future_to_pg[future] = group
        self._pg_to_staging_future[group] = future

    def update_state(self) -> None:
        super().update_state()
        self._without = {
            group: without
            for group, without in self._without.items()
            if group in self._pg_to_staging_future
        }
        now = self.avoided()
        for group in [group for group, without in self._without.items() if without != now]:
            self.request_resources(self._withdrawn(group))

    def _withdrawn(self, group: PlacementGroup) -> ResourceRequest:
        """The request that `group` was to serve, which does not wait for it any more."""
        request = self._pg_to_request.pop(group)
        self._request_to_staged_pgs[request].discard(group)
        future = self._pg_to_staging_future.pop(group)
        self._staging_future_to_pg.pop(future)
        del self._without[group]
        ray.cancel(future)
        remove_placement_group(group)
        return request


@contextmanager
def placed_elsewhere(avoided: Callable[[], frozenset[str]]) -> Iterator[None]:
    """Within: Tune puts no trials on nodes that are avoided, neither into new workers nor, as it
    does otherwise without asking for room, into the worker of a trial that ended there.
    """

    def manager() -> Elsewhere:
        made = Elsewhere()
        made.avoided = avoided
        return made

    controller = tune_controller.TuneController
    kept, before = (
        controller._maybe_cache_trial_actor,
        tune_controller.PlacementGroupResourceManager,
    )

    def kept_elsewhere(self: Any, trial: TuneTrial) -> bool:
        """Whether the worker of a trial that ended is kept for another one."""
        without = avoided()
        return not (without and node_of(trial) in without) and bool(kept(self, trial))

    tune_controller.PlacementGroupResourceManager = manager
    controller._maybe_cache_trial_actor = kept_elsewhere
    try:
        yield
    finally:
        tune_controller.PlacementGroupResourceManager = before
        controller._maybe_cache_trial_actor = kept
