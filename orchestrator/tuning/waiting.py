"""Says in words what a sweep waits for while none of its trials runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import ray

from orchestrator.sweep import Resources
from orchestrator.tuning.cluster import Slots, in_words, live_nodes, possible_nodes

WAIT_S = 5.0
"""Without a running trial for so long, the sweep says what it waits for."""

SLOW_START_S = 60.0
"""So long a worker may take to start before that is said, too."""

SAY_AGAIN_S = 300.0

Nodes = Sequence[Mapping[str, float]]


def free_nodes() -> list[dict[str, float]]:
    """What each node of the cluster has free now, by Ray's names."""
    return list(ray._private.state.state.available_resources_per_node().values())


def has_reserved() -> bool:
    """Whether cores are kept for a trial of this sweep, whose worker is then being started."""
    job = ray.get_runtime_context().get_job_id()  # placement groups have it at the end of their ids
    return any(
        group["state"] == "CREATED" and number.endswith(job)
        for number, group in ray.util.placement_group_table().items()
    )


def can_hold(wanted: Resources, slots: Slots, nodes: Nodes) -> bool:
    """Whether one of the nodes has room for a trial."""
    asked = {"CPU": slots.cpus, "GPU": slots.gpus}
    if wanted.per_trial_memory_gb is not None:
        asked["memory"] = wanted.per_trial_memory_gb * 2**30
    return any(
        all(node.get(name, 0.0) >= amount - 1e-9 for name, amount in asked.items())
        for node in nodes
    )


class WaitingForCores:
    """Says why no trial of the sweep runs: the cluster is busy, has become too small, or takes long
    to start a worker.
    """

    def __init__(self, wanted: Resources, slots: Slots, note: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._slots = slots
        self._note = note
        self._idle_since = time.monotonic()
        self._say_at = 0.0
        self.waits_for = ""  # in words, once it was said and as long as no trial runs

    def check(self, running: int) -> None:
        """running: trials of this sweep that have a worker now."""
        now = time.monotonic()
        if running:
            self._idle_since, self._say_at, self.waits_for = now, 0.0, ""
            return
        idle = now - self._idle_since
        if idle < WAIT_S or now < self._say_at:
            return
        nodes = live_nodes()
        text = self.lack(nodes, free_nodes(), possible_nodes())
        if not text or (can_hold(self._wanted, self._slots, nodes) and has_reserved()):
            if idle < SLOW_START_S:
                return
            text = "Ray to start a worker: cores are kept for it, but it does not answer yet"
        self.waits_for, self._say_at = text, now + SAY_AGAIN_S
        self._note(f"waiting   for {text}")

    def lack(self, nodes: Nodes, free: Nodes, possible: Nodes) -> str | None:
        """What is missing, by what each node has, what of that is free, and what each node would
        have that the cluster may come to; None where a trial should start soon.
        """
        wanted, slots = self._wanted, self._slots
        if can_hold(wanted, slots, free):
            return None
        memory = wanted.per_trial_memory_gb
        trial = f"{slots.words}{'' if memory is None else f' and {memory:g} GB of memory'}"
        if not can_hold(wanted, slots, nodes):
            if can_hold(wanted, slots, possible):
                return f"the autoscaler to start a node with {trial} for a trial"
            return (
                f"a node with {trial} for a trial: those there are have {_in_words(nodes)};"
                " the sweep goes on when such a node joins the cluster"
            )
        return f"{trial} on one node: the nodes have {_in_words(nodes)}, and free {_in_words(free)}"


def _in_words(nodes: Nodes) -> str:
    """`2 x (4 CPUs, 1 GPU, 8.0 GB), (2 CPUs, 0 GPUs, 4.0 GB)`."""
    counts: dict[str, int] = {}
    for node in nodes:
        parts = [in_words(node.get(name, 0.0), name) for name in ("CPU", "GPU")]
        words = f"({', '.join(parts)}, {node.get('memory', 0.0) / 2**30:.1f} GB)"
        counts[words] = counts.get(words, 0) + 1
    return (
        ", ".join(f"{count} x {words}" if count > 1 else words for words, count in counts.items())
        or "nothing"
    )
