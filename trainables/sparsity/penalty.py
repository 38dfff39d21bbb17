"""Penalties that empty the weights a mask will remove."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-12  # inside the root: keeps the gradient finite when a block's masked weights are all zero


def removal_penalty(weights: Sequence[Sequence[Tensor]], masks: Sequence[Sequence[Tensor]], kind: str) -> Tensor:
    """L_p on the weights W (1 - M) that will be removed, by the name a configuration uses for it; `weights` and `masks` by block.

    group_lasso: sum over blocks l of || W_l (1 - M_l) ||_2, all removed weights of a block as one vector (sparse ST-GCN paper, its equation
    of L_p). global: || W (1 - M) ||_2 over all blocks. detached: group_lasso without a gradient, as the released code adds it.
    Differentiable: of one norm dL/dw = w / ||.||_2 on the weights that will be removed and exactly 0 on those that stay.
    """
    if kind == "detached":
        weights = [[weight.detach() for weight in block] for block in weights]
    squares = [
        torch.stack([((1.0 - mask) * weight).square().sum() for weight, mask in zip(block, kept, strict=True)]).sum()
        for block, kept in zip(weights, masks, strict=True)
    ]
    norms = torch.stack(squares)
    return torch.sqrt((norms.sum() if kind == "global" else norms) + EPSILON).sum()
