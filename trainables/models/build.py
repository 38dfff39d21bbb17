"""How a backbone is built from a configuration.

Knows nothing of data or training.
"""

from __future__ import annotations

import torch

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.graphs import graph_parents
from trainables.layouts import Layout
from trainables.models.backbone import Backbone, NetworkSpec

__all__ = ["Backbone", "build_backbone", "build_training_form", "network_spec"]


def network_spec(
    model: ModelConfig, layout: Layout, *, classes: int, persons: int, stream: StreamConfig
) -> NetworkSpec:
    """The architecture that a configuration asks for on that skeleton; UserError where they do not
    fit together.
    """
    if model.layout not in ("auto", layout.name):
        raise UserError(
            f"model.layout must be the store's layout '{layout.name}' or 'auto', got"
            f" '{model.layout}'"
        )
    resolved = model.model_copy(update={"input_block": model.input_block_for(stream)})
    return NetworkSpec(
        model=resolved, parents=graph_parents(model, layout), classes=classes, persons=persons
    )


def build_training_form(spec: NetworkSpec) -> Backbone:
    """The training form of `spec`, weights drawn from torch's global generator."""
    card = spec.model.card
    network = card.load()(spec)
    if not isinstance(network, Backbone):
        raise UserError(
            f"backbone {spec.model.backbone}: {card.module} must give a"
            f" trainables.models.backbone.Backbone, got {type(network).__name__}"
        )
    return network


def build_backbone(
    model: ModelConfig,
    layout: Layout,
    *,
    classes: int,
    persons: int,
    stream: StreamConfig,
    seed: int,
) -> Backbone:
    """The training form on the CPU: (N, 3, T, V, M) -> (N, K). Weights depend on `seed` alone; the
    global generator is untouched.
    """
    spec = network_spec(model, layout, classes=classes, persons=persons, stream=stream)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build_training_form(spec)
