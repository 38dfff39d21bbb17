"""A RayJob of Kubernetes: KubeRay makes a cluster for it, Kueue says when it is its turn.

Knows no other scheduler.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.launch.request import (
    Rendered,
    Work,
    at_least,
    checked,
    images,
    kept_in,
    kubernetes_name,
    kubernetes_words,
    matches,
    mounts,
)

RAY_VERSION = "2.60.0"
"""Of the image; KubeRay sets tokens up from 2.52 on."""

RETRIES = 3
"""Clusters that a job may lose: each next one goes on where the last one was. KubeRay makes the
next one after every end but a good one.
"""

UNLESS_FOR_GOOD = ("python", "-m", "orchestrator.launch.for_good")
"""Before the sweep's command: ends well where another cluster would not help."""

IMAGE_GROUP = 1000
"""Of the image's user, who writes to the claim; a new one is root's."""

AMOUNT = r"\d+(\.\d+)?([KMGT]i|[kMGT])"
"""Of memory, in words of Kubernetes: a thousand is `k`, 1024 is `Ki`."""

LONGEST = 40
"""Letters of a job's name: KubeRay adds some, and Kubernetes takes 63."""


@dataclass(frozen=True, slots=True)
class KubeRayRequest:
    """What Kubernetes is asked for."""

    image: str  # with `orchestrate` in it, as clusters/Dockerfile builds
    workers: int = 1
    cpus: int = 8  # of each worker
    gpus: int = 1  # of each worker
    memory: str = "32Gi"  # of each worker
    claim: str | None = "sweeps"  # PersistentVolumeClaim that all pods can write to; None: none
    mount: str = "/sweeps"  # where the claim is mounted
    namespace: str = "default"
    queue: str | None = None  # LocalQueue of Kueue
    secret: str | None = None  # Secret whose keys become variables of the environment

    @property
    def mounted(self) -> str | None:
        """What outlives the pods."""
        return None if self.claim is None else self.mount

    def problems(self) -> list[str]:
        """Every field that Kubernetes would not take."""
        return [
            *images("--image", self.image),
            *kubernetes_words(253, ("--claim", self.claim), ("--secret", self.secret)),
            *kubernetes_words(63, ("--queue", self.queue)),  # a label's value
            *kubernetes_words(63, ("--namespace", self.namespace), dots=False),
            *matches("--memory", self.memory, AMOUNT, "an amount such as 32Gi"),
            *mounts("--mount", self.mount),
            *at_least("--workers", self.workers, 1),
            *at_least("--cpus", self.cpus, 1),
            *at_least("--gpus", self.gpus, 0),
        ]


def render_kuberay(work: Work, asked: KubeRayRequest) -> Rendered:
    """The RayJob, which `kubectl create` reads from its standard input; each gets a name of its
    own, and all of them go on with the one sweep.
    """
    problems = [*work.problems(), *asked.problems(), *kept_in(asked.mounted, work)]
    checked([*problems, *_needing_quotes(work)])
    queue = {} if asked.queue is None else {"kueue.x-k8s.io/queue-name": asked.queue}
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "generateName": f"{kubernetes_name(work.name, LONGEST)}-",
            "namespace": asked.namespace,
            **({"labels": queue} if queue else {}),
        },
        "spec": {
            "entrypoint": shlex.join([*work.start(), *UNLESS_FOR_GOOD, *work.words("auto")]),
            "backoffLimit": RETRIES,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": cluster_spec(asked),
        },
    }
    return Rendered("kuberay", as_yaml(job), ("kubectl", "create", "--filename", "-"), ".yaml")


def cluster_spec(asked: KubeRayRequest) -> dict[str, Any]:
    """A head that runs no trial, and workers that do; all of them ask for Ray's token, which
    KubeRay makes and hands out.
    """
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},
            "template": _pod("head", asked, cpus=2, memory="8Gi", gpus=0),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": asked.workers,
                "minReplicas": asked.workers,
                "maxReplicas": asked.workers,
                "rayStartParams": {},
                "template": _pod("worker", asked, asked.cpus, asked.memory, asked.gpus),
            }
        ],
    }


def _pod(name: str, asked: KubeRayRequest, cpus: int, memory: str, gpus: int) -> dict[str, Any]:
    resources: dict[str, str] = {"cpu": str(cpus), "memory": memory}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    container: dict[str, Any] = {
        "name": f"ray-{name}",
        "image": asked.image,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }
    if asked.claim is not None:
        container["volumeMounts"] = [{"name": "sweeps", "mountPath": asked.mount}]
    if asked.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": asked.secret}}]
    pod: dict[str, Any] = {
        "securityContext": {"fsGroup": IMAGE_GROUP},
        "containers": [container],
    }
    if asked.claim is not None:
        claim = {"claimName": asked.claim}
        pod["volumes"] = [{"name": "sweeps", "persistentVolumeClaim": claim}]
    return {"spec": pod}


def _needing_quotes(work: Work) -> list[str]:
    """KubeRay takes the command apart and puts it together again on its way to the head: what needs
    quotes may arrive as something else.
    """
    return [
        f"{place}: must be free of spaces, quotes and other signs of a shell, got '{word}'; write"
        " it into the sweep file"
        for place, word in (
            ("--folder", work.folder or ""),
            ("FILE", work.file),
            *((f"--set {each.partition('=')[0]}", each) for each in work.overrides),
        )
        if word and shlex.quote(word) != word
    ]


class _Readable(yaml.SafeDumper):
    """Texts of several lines as they are, nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def as_yaml(content: dict[str, Any]) -> str:
    """A YAML document with its keys in our order."""
    return yaml.dump(content, Dumper=_Readable, sort_keys=False, width=100)
