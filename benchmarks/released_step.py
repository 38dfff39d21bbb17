"""A training step in the released code's arrangement of operations, for `training_step.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.backbones.hpi_gcn import GraphConv
from trainables.models.build import Backbone
from trainables.models.layers import GroupedJointMixing, ParallelJointMixing
from trainables.reparam.fusible import batch_norm_state
from trainables.reparam.rep_tcn import AverageBranch, PaddedBatchNorm, RepTCN


def as_released(network: Backbone) -> Backbone:
    """The network with the released code's arrangement of operations."""
    forwards: dict[type[nn.Module], Callable[..., Tensor]] = {
        AverageBranch: _average_branch,
        PaddedBatchNorm: _padded_norm,
        RepTCN: _branches,
        ParallelJointMixing: _parallel,
        GroupedJointMixing: _grouped,
        GraphConv: _graph_conv,
    }
    for module in network.modules():
        if type(module) in forwards:
            module.forward = MethodType(forwards[type(module)], module)
    return network


def _average_branch(self: AverageBranch, x: Tensor) -> Tensor:
    pooled = F.avg_pool2d(self.pad_bn(self.pointwise(x)), (3, 1), (self.stride, 1))
    out: Tensor = self.bn(pooled)
    return out


def _padded_norm(self: PaddedBatchNorm, x: Tensor) -> Tensor:
    inside = nn.BatchNorm2d.forward(self, x)
    value = batch_norm_state(self).image_of_zero.detach()[:, None, None]
    padded = F.pad(inside, (0, 0, self.rows, self.rows))
    padded[:, :, : self.rows] = value
    padded[:, :, -self.rows :] = value
    return padded


def _branches(self: RepTCN, x: Tensor) -> Tensor:
    first, *others = self.branches.values()
    total: Tensor = first(x)
    for branch in others:
        total = total + branch(x)
    return total


def _parallel(self: ParallelJointMixing, x: Tensor) -> Tensor:
    first, *others = self.matrices
    total = torch.matmul(x, first.T)
    for matrix in others:
        total = total + torch.matmul(x, matrix.T)
    return total


def _grouped(self: GroupedJointMixing, x: Tensor) -> Tensor:
    parts = x.chunk(len(self.matrices), dim=1)
    return torch.cat(
        [torch.matmul(part, matrix.T) for part, matrix in zip(parts, self.matrices, strict=True)],
        dim=1,
    )


def _graph_conv(self: GraphConv, x: Tensor) -> Tensor:
    return F.relu(self.expand(self.mixing(self.embed(x))) + self.residual(x))
