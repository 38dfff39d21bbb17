"""Whether a Ray cluster takes us in: its token, its versions. Knows no sweeps."""

from __future__ import annotations

import json
import os
from platform import python_version

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.exceptions import AuthenticationError, RayError, RpcError

from trainables.contract.errors import UserError

VERSIONS = {"ray_version": "Ray", "python_version": "Python"}
"""Keys of a cluster's description -> what they are of."""


def check_head(address: str) -> None:
    """UserError where the head at HOST:PORT would not take this process in, which Ray itself tries
    for minutes: another token, another version of Ray or Python.
    """
    try:
        client = GcsClient(address=address)
        said = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster")
    except AuthenticationError as error:
        raise UserError(
            f"--address: the Ray cluster at {address} asks for a token that this process does not"
            " have: set RAY_AUTH_MODE=token here and give it the head's token, as"
            " RAY_AUTH_TOKEN_PATH or in ~/.ray/auth_token"
        ) from error
    except (RayError, RpcError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--address: must be HOST:PORT of a running Ray cluster, got '{address}': {reason}"
        ) from error
    if said is not None:
        _check_versions(address, json.loads(said))


def _check_versions(address: str, cluster: dict[str, str]) -> None:
    here = {"ray_version": ray.__version__, "python_version": python_version()}
    if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor":
        here["python_version"] = cluster.get("python_version", "")  # Ray compares it itself
    problems = [
        f"--address: {what} must be of one version on every node: {cluster[key]} at {address},"
        f" {here[key]} here"
        for key, what in VERSIONS.items()
        if cluster.get(key, here[key]) != here[key]
    ]
    if problems:
        raise UserError.of(problems)
