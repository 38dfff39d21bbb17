"""One question to every node of a Ray cluster. Knows no sweeps and no trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.contract.errors import UserError

T = TypeVar("T")

PATIENCE_S = 180.0
"""For the answer of a node: its first worker has to start, from a network disk perhaps."""


@dataclass(frozen=True, slots=True)
class NodeAnswer(Generic[T]):
    """What a node has answered, or why it has not."""

    node: str  # name and address
    resources: dict[str, float]  # by Ray's names
    answer: T | None
    error: str = ""


def ask_nodes(question: Callable[..., T], *arguments: Any) -> list[NodeAnswer[T]]:
    """The answers of `question(*arguments)`, run once on each node that lives, in Ray's order;
    UserError where the head dies meanwhile.
    """
    try:
        return _asked(question, *arguments)
    except (RayError, ConnectionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--address: the Ray cluster does not answer any more: {reason}") from error


def _asked(question: Callable[..., T], *arguments: Any) -> list[NodeAnswer[T]]:
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*arguments)
        for node in nodes
    ]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE_S)
    names = [f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in nodes]
    return [
        _answer(
            # several nodes of one machine are told apart by their ids
            name if names.count(name) == 1 else f"{name} {node['NodeID'][:6]}",
            node["Resources"],
            reference if reference in ready else None,
        )
        for name, node, reference in zip(names, nodes, asked, strict=True)
    ]


def _answer(place: str, resources: dict[str, float], reference: Any) -> NodeAnswer[Any]:
    if reference is None:
        return NodeAnswer(place, resources, None, f"no answer for {PATIENCE_S:g} s")
    try:
        return NodeAnswer(place, resources, ray.get(reference))
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return NodeAnswer(place, resources, None, lines[-1] if lines else type(error).__name__)
