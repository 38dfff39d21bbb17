"""ST-GCN-K5, the baseline of CTR-GCN's repository: CTR-GCN's skeleton with plain learned graphs and
one temporal convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.backbones.ctr_gcn import unit
from trainables.models.layers import (
    DataNorm,
    bias_of,
    convs,
    kaiming_convs,
    residual_path,
    side_by_side,
)
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import (
    Deployable,
    Folding,
    batch_norm_state,
    deployed,
    frozen,
    frozen_conv,
    plain_copy,
)
from trainables.reparam.kernels import fuse_conv_bn

EPSILON = 1e-4
"""Added to the norms of an adjacency's columns."""


class NormalisedGraphConv(Deployable):
    """ReLU(BN(sum_k project_k(x A'_k)) + residual(x)): (P, C_in, T, V) -> (P, C_out, T, V), (x
    A)[v] = sum_u x[u] A[u, v].

    A'_k[u, v] = A_k[u, v] / (sqrt(sum_w A_k[w, v]^2) + 1e-4). The A_k are learned and start as
    identities, BN's scale at 1e-6: a block starts as its residual. A sum of 1x1 convolutions is
    computed as one convolution of all their inputs.
    """

    def __init__(self, subsets: int, joints: int, inside: int, outside: int) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(torch.eye(joints).repeat(subsets, 1, 1))
        self.project = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(subsets))
        self.bn = BatchNorm2d(outside)
        self.residual = residual_path(inside, outside, 1)
        for conv in convs(self.project):
            nn.init.normal_(conv.weight, 0.0, (2.0 / (outside * inside * subsets)) ** 0.5)
            nn.init.zeros_(bias_of(conv))
        kaiming_convs(self.residual)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(
            F.conv2d(mixed_by_each(x, column_unit(self.adjacency).mT), *side_by_side(self.project))
        )
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        return FoldedGraphConv(self, folding) if folding.across else plain_copy(self, folding)


class FoldedGraphConv(nn.Module):
    """The deploy form: normalised adjacency matrices and one convolution, which holds the
    BatchNorm.
    """

    def __init__(self, trained: NormalisedGraphConv, folding: Folding) -> None:
        super().__init__()
        kernel, bias = side_by_side(trained.project)
        self.adjacency = frozen(column_unit(trained.adjacency).mT)
        self.project = frozen_conv(*fuse_conv_bn(kernel, batch_norm_state(trained.bn), bias))
        self.residual = deployed(trained.residual, folding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(mixed_by_each(x, self.adjacency))
        out += self.residual(x)
        return F.relu(out, inplace=True)


def column_unit(adjacency: Tensor) -> Tensor:
    """(K, V, V) with every column divided by its Euclidean norm + 1e-4."""
    lengths: Tensor = torch.linalg.vector_norm(adjacency, dim=1, keepdim=True)
    return adjacency / (lengths + EPSILON)


def mixed_by_each(x: Tensor, matrices: Tensor) -> Tensor:
    """y_k[i] = sum_v A_k[i, v] x[v], subset by subset: (P, C, T, V) -> (P, K C, T, V); matrices:
    (K, V, V).
    """
    return torch.cat([F.linear(x, matrix) for matrix in matrices], dim=1)


class STGCNK5(Backbone):
    """Ten blocks of graph convolution and temporal convolution over 5 frames; every person's
    coordinates are normalised on their own.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        blocks = [
            unit(
                spec, NormalisedGraphConv(spec.model.subsets, spec.joints, inside, outside), number
            )
            for number, (inside, outside, _) in enumerate(spec.model.block_plan)
        ]
        super().__init__(spec, data_norm=DataNorm(spec.persons, spec.joints), blocks=blocks)
