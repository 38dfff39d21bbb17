"""The weights of a training form in a file of their own, to go on training from or to deploy later.

Knows no trial.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from pydantic import ValidationError

from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.deploy.form import read_file
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.build import build_training_form

FORMAT = "orchestrate weights 1"


def save_weights(network: Backbone, path: Path) -> None:
    """Write specification and plain tensors so that `load_weights` can rebuild the network,
    atomically. No masks may be attached.
    """
    state = network.state_dict()
    assert not any("parametrizations" in name for name in state)
    content = io.BytesIO()
    torch.save(
        {"format": FORMAT, "spec": network.spec.model_dump(mode="json"), "state": state}, content
    )
    write_atomic(path, content.getvalue())


def load_weights(path: Path) -> Backbone:
    """The network `save_weights` wrote, on the CPU, in training mode; UserError if the file is
    missing or damaged.
    """
    content = read_file(path, "file of weights", FORMAT)
    try:
        spec, state = NetworkSpec.model_validate(content["spec"]), dict(content["state"])
        with torch.random.fork_rng(devices=[]):  # every weight is replaced
            network = build_training_form(spec)
        network.to(next(tensor.dtype for tensor in state.values() if tensor.is_floating_point()))
        network.load_state_dict(state, strict=True)
    except (
        ValidationError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        StopIteration,
    ) as error:
        raise UserError(
            f"{path}: must hold weights that fit their specification, got: {error}"
        ) from error
    return network
