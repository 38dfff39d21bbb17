"""The trainable of a sweep: the adapter's, and on another node than the driver's the files of a
finished trial go from there to the tracker's store. Every worker imports this: it is light.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from trainables.ray_trainable import TrialRequest, train

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import ArtifactStore, Sent, Tracker
    from trainables.contract.artifacts import TrialDir

log = logging.getLogger(__name__)


class Elsewhere(TypedDict):
    """What a worker needs that is not on the driver's node."""

    driver: str  # the node of the driver
    store: ArtifactStore


class SweepRequest(TrialRequest):
    """What the sweep sends to a worker."""

    elsewhere: Elsewhere | None  # None: the driver takes care of all files


def elsewhere_of(tracker: Tracker) -> Elsewhere | None:
    """What workers on other nodes are told, now."""
    store = tracker.artifact_store()
    return None if store is None else Elsewhere(driver=_this_node(), store=store)


def train_and_send(request: SweepRequest) -> None:
    """Tune's trainable, see `train`."""
    train(request, partial(_send, request["elsewhere"]))


def _send(elsewhere: Elsewhere | None, folder: TrialDir) -> Sent | None:
    if elsewhere is None:
        return None
    try:
        if elsewhere["driver"] == _this_node():
            return None
        from orchestrator.tracking.sending import SENDER

        return SENDER.send(elsewhere["store"], folder)
    except Exception as error:  # such as of an environment that lacks a package
        log.info("%s: its files are left to the driver: %s", folder.path, error)
        return None


def _this_node() -> str:
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node
