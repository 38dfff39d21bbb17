"""When trials end that run so many at a time, each after those it waits for. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping


def wall_time(
    times: Mapping[str, float], after: Mapping[str, Iterable[str]], at_once: int
) -> float:
    """How long trials of such `times` take together, started in their order as soon as a place
    is free and all they wait for have ended. What is not among them has ended before.
    """
    missing = {name: {each for each in after.get(name, ()) if each in times} for name in times}
    followers: dict[str, list[str]] = {}
    for name, others in missing.items():
        for other in others:
            followers.setdefault(other, []).append(name)
    ready = deque(name for name in times if not missing[name])
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(at_once, 1):
            name = ready.popleft()
            heapq.heappush(running, (now + times[name], name))
        now, ended = heapq.heappop(running)
        for name in followers.get(ended, ()):
            missing[name].discard(ended)
            if not missing[name]:
                ready.append(name)
    return now
