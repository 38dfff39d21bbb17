"""What a sweep has decided of its trials' resources and of its cluster's nodes: from its
journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def resource_decisions(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """By kind of trial the last decision in words: `1 core and 0.5 of a GPU per trial: 1 at a time
    do 900 clips/s; tries 2`.
    """
    found: dict[str, str] = {}
    for event in events:
        if event["event"] == "resources_decided":
            cpus, gpus = event.get("cpus", 1), event.get("gpus", 0)
            cores = f"{cpus:g} core{'' if cpus == 1 else 's'}"
            share = f" and {gpus:.2g} of a GPU" if gpus else ""
            found[str(event.get("kind"))] = f"{cores}{share} per trial: {event.get('reason')}"
    return found


def excluded_nodes(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """By node, its number in Ray, why it is given no more trials: `10.0.0.7: 3 attempts of ...`."""
    return {
        str(event.get("node")): f"{event.get('host')}: {event.get('reason')}"
        for event in events
        if event["event"] == "node_excluded"
    }
