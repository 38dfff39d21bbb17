"""What learned adjacency matrices start from. Knows skeleton trees, no particular backbone."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.graphs import spatial, stgcn_spatial
from trainables.models.backbone import NetworkSpec


def initial_adjacency(spec: NetworkSpec) -> Tensor:
    """(K, V, V): the graph that `model.graph` names; random: every entry from N(0.04, 0.02^2), no
    skeleton (Duan et al. 2022, DG-STGCN).
    """
    match spec.model.graph:
        case "spatial":
            return torch.tensor(spatial(spec.parents), dtype=torch.get_default_dtype())
        case "stgcn_spatial":
            return torch.tensor(stgcn_spatial(spec.parents), dtype=torch.get_default_dtype())
        case "random":
            return torch.empty(spec.model.subsets, spec.joints, spec.joints).normal_(0.04, 0.02)
