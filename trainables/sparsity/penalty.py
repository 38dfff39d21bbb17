"""Penalties that empty the weights a mask will remove."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# inside the root: keeps the gradient finite when a block's masked weights are all zero
EPSILON = 1e-12


def removal_penalty(
    weights: Sequence[Sequence[Tensor]], masks: Sequence[Sequence[Tensor]], kind: str
) -> Tensor:
    """L_p on the weights W (1 - M) that will be removed, by the name a configuration uses for it;
    `weights` and `masks` by block.

    group_lasso: sum over blocks l of || W_l (1 - M_l) ||_2, all removed weights of a block as one
    vector (sparse ST-GCN paper, its equation of L_p). global: || W (1 - M) ||_2 over all blocks.
    detached: group_lasso without a gradient, as the released code adds it.
    Differentiable: of one norm dL/dw = w / ||.||_2 on the weights that will be removed and exactly
    0 on those that stay.
    """
    flat, stay = (
        [weight for block in weights for weight in block],
        [mask for block in masks for mask in block],
    )
    if kind == "detached":
        flat = [weight.detach() for weight in flat]
    gone = torch._foreach_mul(flat, torch._foreach_add(torch._foreach_neg(stay), 1.0))
    lengths = torch.stack(torch._foreach_norm(gone))  # of each tensor
    if kind == "global":
        return torch.sqrt(lengths.square().sum() + EPSILON)
    blocks = torch.split(lengths.square(), [len(block) for block in weights])
    return torch.sqrt(torch.stack([block.sum() for block in blocks]) + EPSILON).sum()
