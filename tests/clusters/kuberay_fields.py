"""A small part of KubeRay's resource definitions, by hand from its Go types (ray.io/v1): the fields
that our files use and their neighbours. Not the definitions themselves, which take megabytes: it
notices a field that is misspelt, misplaced or of another kind.
"""

from __future__ import annotations

from typing import Any

Kind = type | dict[str, Any] | list[Any]
REQUIRED = "!"
"""After the name of a field that must be there."""

AMOUNTS: Kind = {"*": str}
CONTAINER: Kind = {
    "name!": str,
    "image!": str,
    "command": [str],
    "args": [str],
    "env": [{"name!": str, "value": str, "valueFrom": {"secretKeyRef": {"*": str}}}],
    "envFrom": [{"secretRef": {"name!": str, "optional": bool}, "configMapRef": {"*": str}}],
    "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool, "subPath": str}],
    "ports": [{"name": str, "containerPort!": int}],
}
POD: Kind = {
    "metadata": {"labels": {"*": str}, "annotations": {"*": str}},
    "spec!": {
        "containers!": [CONTAINER],
        "securityContext": {"fsGroup": int, "runAsUser": int, "runAsNonRoot": bool},
        "volumes": [
            {
                "name!": str,
                "persistentVolumeClaim": {"claimName!": str, "readOnly": bool},
                "emptyDir": {"*": str},
            }
        ],
        "nodeSelector": {"*": str},
        "serviceAccountName": str,
        "terminationGracePeriodSeconds": int,
    },
}
CLUSTER: Kind = {
    "rayVersion": str,
    "authOptions": {"mode!": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {
        "version": str,
        "idleTimeoutSeconds": int,
        "upscalingMode": str,
        "resources": {"requests": AMOUNTS, "limits": AMOUNTS},
    },
    "headGroupSpec!": {
        "rayStartParams": {"*": str},
        "serviceType": str,
        "template!": POD,
    },
    "workerGroupSpecs": [
        {
            "groupName!": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "numOfHosts": int,
            "rayStartParams": {"*": str},
            "template!": POD,
        }
    ],
    "suspend": bool,
}
JOB: Kind = {
    "entrypoint": str,
    "runtimeEnvYAML": str,
    "submissionMode": str,
    "backoffLimit": int,
    "activeDeadlineSeconds": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "suspend": bool,
    "rayClusterSpec": CLUSTER,
    "clusterSelector": {"*": str},
}
METADATA: Kind = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": {"*": str},
    "annotations": {"*": str},
}


def problems_of(resource: dict[str, Any]) -> list[str]:
    """What KubeRay would not take, each with its place."""
    spec = {"RayJob": JOB, "RayCluster": CLUSTER}[resource["kind"]]
    whole = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": spec}
    found = [] if resource["apiVersion"] == "ray.io/v1" else ["apiVersion: must be ray.io/v1"]
    return found + _problems(resource, whole, "")


def _problems(value: Any, kind: Kind, place: str) -> list[str]:
    if isinstance(kind, type):
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        return [] if right else [f"{place}: must be {kind.__name__}, got {value!r}"]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{place}: must be a list, got {value!r}"]
        found = [_problems(each, kind[0], f"{place}[{at}]") for at, each in enumerate(value)]
        return [problem for problems in found for problem in problems]
    if not isinstance(value, dict):
        return [f"{place}: must be a mapping, got {value!r}"]
    known = {name.removesuffix(REQUIRED): below for name, below in kind.items()}
    start = f"{place}." if place else ""
    found = []
    for name, below in value.items():
        if name in known or "*" in known:
            found += _problems(below, known.get(name, known.get("*")), f"{start}{name}")
        else:
            found.append(f"{start}{name}: unknown")
    required = [name.removesuffix(REQUIRED) for name in kind if name.endswith(REQUIRED)]
    return found + [f"{start}{name}: is missing" for name in required if name not in value]
