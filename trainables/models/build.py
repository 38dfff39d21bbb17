"""The table of backbones and how one is built from a configuration. Knows nothing of data or training."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.layouts import Layout
from trainables.models.backbone import TRAINING, Backbone, Form, NetworkSpec
from trainables.models.hpi_gcn import HPIGCNOP, HPIGCNRP

__all__ = ["BACKBONES", "Backbone", "build_backbone", "build_form"]

BACKBONES: dict[str, Callable[[NetworkSpec, Form], Backbone]] = {"hpi_gcn_rp": HPIGCNRP, "hpi_gcn_op": HPIGCNOP}


def build_form(spec: NetworkSpec, form: Form) -> Backbone:
    """The architecture of `spec` in one of its forms, weights drawn from torch's global generator."""
    return BACKBONES[spec.model.backbone](spec, form)


def build_backbone(model: ModelConfig, layout: Layout, *, classes: int, persons: int, stream: StreamConfig, seed: int) -> Backbone:
    """The training form on the CPU: (N, 3, T, V, M) -> (N, K). Weights depend on `seed` alone; the global generator is untouched."""
    if model.layout not in ("auto", layout.name):
        raise UserError(f"model.layout must be the store's layout '{layout.name}' or 'auto', got '{model.layout}'")
    resolved = model.model_copy(update={"input_block": model.input_block_for(stream)})
    spec = NetworkSpec(model=resolved, joints=layout.size, classes=classes, persons=persons)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build_form(spec, TRAINING)
