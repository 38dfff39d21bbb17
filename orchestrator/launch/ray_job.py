"""A job of a Ray cluster that runs: its driver on the head, its trials on every node.

Knows no Ray: the command `ray` is the client.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from orchestrator.launch.request import Rendered, Work, checked, matches, shared


@dataclass(frozen=True, slots=True)
class RayRequest:
    """Which cluster is asked."""

    address: str  # http://HOST:8265 of its dashboard, which takes jobs

    def problems(self) -> list[str]:
        """What cannot be an address of a dashboard."""
        rule = "http://HOST:PORT of a Ray dashboard (8265, not the port that nodes join)"
        return matches("--address", self.address, r"https?://[^\s/@:]+(:\d+)?/?", rule)


def render_ray(work: Work, asked: RayRequest) -> Rendered:
    """The command that submits the job; its driver starts in the sweep's folder on the head, which
    has it under the same path.
    """
    checked([*work.problems(), *asked.problems(), *shared(work)])
    entrypoint = [*work.start(), *work.words("auto")]
    command = ("ray", "job", "submit", "--address", asked.address, "--no-wait", "--", *entrypoint)
    return Rendered("ray", shlex.join(entrypoint) + "\n", command)
