"""The table of backbones and how one is built from a configuration.

Knows nothing of data or training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.graphs import graph_parents
from trainables.layouts import Layout
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.backbones.aa_gcn import AAGCN
from trainables.models.backbones.ctr_gcn import CTRGCN
from trainables.models.backbones.dg_stgcn import DGSTGCN
from trainables.models.backbones.hd_gcn import HDGCN
from trainables.models.backbones.hpi_gcn import HPIGCNOP, HPIGCNRP, HPIGCNBaseline
from trainables.models.backbones.info_gcn import InfoGCN
from trainables.models.backbones.st_gcn import STGCN, STGCNPP
from trainables.models.backbones.st_gcn_k5 import STGCNK5

__all__ = ["BACKBONES", "Backbone", "build_backbone", "build_network", "network_spec"]

BACKBONES: dict[str, Callable[[NetworkSpec], Backbone]] = {
    "hpi_gcn_baseline": HPIGCNBaseline,
    "hpi_gcn_rp": HPIGCNRP,
    "hpi_gcn_op": HPIGCNOP,
    "st_gcn": STGCN,
    "st_gcn_pp": STGCNPP,
    "aa_gcn": AAGCN,
    "dg_stgcn": DGSTGCN,
    "ctr_gcn": CTRGCN,
    "st_gcn_k5": STGCNK5,
    "info_gcn": InfoGCN,
    "hd_gcn": HDGCN,
}


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


def build_network(spec: NetworkSpec) -> Backbone:
    """The training form of `spec`, weights drawn from torch's global generator."""
    return BACKBONES[spec.model.backbone](spec)


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
        return build_network(spec)
