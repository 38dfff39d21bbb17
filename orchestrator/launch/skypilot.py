"""A managed job of SkyPilot: one machine of whatever cloud has it, again and again until the sweep
is done.

Knows no other scheduler.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from orchestrator.launch.kuberay import as_yaml
from orchestrator.launch.request import (
    FILE,
    Rendered,
    Work,
    checked,
    images,
    kept_in,
    kubernetes_name,
    matches,
    mounts,
)

LONGEST = 50
"""Letters of a job's name."""


@dataclass(frozen=True, slots=True)
class SkyPilotRequest:
    """What SkyPilot is asked for."""

    image: str  # with `orchestrate` in it, as clusters/Dockerfile builds
    bucket: str | None = None  # s3://..., gs://... to mount; None: the sweep lies at addresses
    accelerators: str | None = None  # A100:4; None: a machine without
    cpus: str = "8+"
    infra: str | None = None  # aws, gcp/us-central1, ...; None: the cheapest that has it
    spot: bool = True
    mount: str = "/sweeps"  # where the bucket is mounted
    secrets: tuple[str, ...] = ()  # variables of the environment that the job gets

    @property
    def mounted(self) -> str | None:
        """What outlives the machine."""
        return None if self.bucket is None else self.mount

    def problems(self) -> list[str]:
        """Every field that SkyPilot would not take."""
        return [
            *images("--image", self.image),
            *matches("--bucket", self.bucket, r"[a-z0-9]+://[^\s@:?]+", "an address like s3://b"),
            *matches("--accelerators", self.accelerators, r"[\w.-]+(:\d+)?", "like A100:4"),
            *matches("--cpus", self.cpus, r"\d+\+?", "a number such as 8 or 8+"),
            *matches("--infra", self.infra, r"[\w./*-]+", "like aws or gcp/us-central1"),
            *mounts("--mount", self.mount),
            *(
                problem
                for name in self.secrets
                for problem in matches("--secret", name, r"[A-Za-z_]\w*", "a variable's name")
            ),
        ]


def render_skypilot(work: Work, asked: SkyPilotRequest) -> Rendered:
    """The task, and the command that launches it as a managed job, which SkyPilot starts again
    elsewhere when its machine is taken away.
    """
    if asked.bucket is None and not work.at_addresses:
        rule = "must be given unless `storage` and `data.store` are addresses"
        checked([f"--bucket: {rule}, got '{work.storage}' and '{work.store}'"])
    checked([*work.problems(), *asked.problems(), *kept_in(asked.mounted, work)])
    resources: dict[str, Any] = {
        "infra": asked.infra,
        "accelerators": asked.accelerators,
        "cpus": asked.cpus,
        "image_id": f"docker:{asked.image}",
        "use_spot": asked.spot,
        # 3 and 4: trials failed, or a check did not hold; starting again would not help
        "job_recovery": {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 0},
    }
    name = kubernetes_name(work.name, LONGEST)
    command = shlex.join(work.words())
    task = {
        "name": name,
        "num_nodes": 1,
        "resources": {key: value for key, value in resources.items() if value is not None},
        **_mounts(asked),
        **({"secrets": dict.fromkeys(asked.secrets)} if asked.secrets else {}),
        "run": f"{_into(work.folder)}{command}\n",
    }
    secrets = [word for each in asked.secrets for word in ("--secret", each)]
    launch = ("sky", "jobs", "launch", "--yes", "--detach-run", "--name", name, *secrets, FILE)
    return Rendered("skypilot", as_yaml(task), launch, ".yaml")


def _mounts(asked: SkyPilotRequest) -> dict[str, Any]:
    if asked.bucket is None:
        return {}
    # cached, as the journal is appended to, which a plain mount of a bucket cannot
    return {"file_mounts": {asked.mount: {"source": asked.bucket, "mode": "MOUNT_CACHED"}}}


def _into(folder: str | None) -> str:
    return "" if folder is None else f"mkdir -p {shlex.quote(folder)}\ncd {shlex.quote(folder)}\n"
