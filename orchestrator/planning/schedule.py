"""When trials end that run so many at a time, each after those it waits for. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping


def wall_time(
    times: Mapping[str, float],
    after: Mapping[str, Iterable[str]],
    at_once: int,
    goes_on: Mapping[str, str] | None = None,
) -> float:
    """How long trials of such `times` take together, started in their order as soon as a place
    is free and all they wait for have ended. What is not among them has ended before.

    goes_on: parts of trials that others wait for, each with the part that follows it at once.
    """
    goes_on = {} if goes_on is None else goes_on
    behind = set(goes_on.values())
    missing = {name: {each for each in after.get(name, ()) if each in times} for name in times}
    followers: dict[str, list[str]] = {}
    for name, others in missing.items():
        for other in others:
            followers.setdefault(other, []).append(name)
    ready = deque(name for name in times if not missing[name] and name not in behind)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(at_once, 1):
            name = ready.popleft()
            heapq.heappush(running, (now + times[name], name))
        now, ended = heapq.heappop(running)
        if ended in goes_on:
            heapq.heappush(running, (now + times[goes_on[ended]], goes_on[ended]))
        for name in followers.get(ended, ()):
            missing[name].discard(ended)
            if not missing[name] and name not in behind:
                ready.append(name)
    return now
