"""The group-lasso penalty that empties the weights a mask will remove."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-12  # inside the root: keeps the gradient finite when a block's masked weights are all zero


def group_lasso(weights: Sequence[Sequence[Tensor]], masks: Sequence[Sequence[Tensor]]) -> Tensor:
    """L_p = sum over blocks l of || W_l (1 - M_l) ||_2, all masked weights of a block as one vector.

    Sparse ST-GCN paper, equation "L_p" of its sparse generator. `weights` and `masks` by block; differentiable in the weights:
    dL_p/dw = w / ||.||_2 on the weights that will be removed and exactly 0 on those that stay.
    """
    norms = []
    for block_weights, block_masks in zip(weights, masks, strict=True):
        squares = [((1.0 - mask) * weight).square().sum() for weight, mask in zip(block_weights, block_masks, strict=True)]
        norms.append(torch.sqrt(torch.stack(squares).sum() + EPSILON))
    return torch.stack(norms).sum()
