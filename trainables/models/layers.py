"""Layers the backbones share: input normalisation, input blocks, joint mixing, classifier.

Knows no particular backbone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.onednn import add_conv, add_product, convolved, onednn_multiplies, rows_last
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import (
    ConvBN,
    Deployable,
    Folding,
    batch_norm_state,
    deployed,
    frozen,
    frozen_conv,
    plain_copy,
)
from trainables.reparam.kernels import fuse_conv_bn, sum_adjacency

COORDINATES = 3


class DataNorm(nn.BatchNorm1d, Deployable):
    """BatchNorm of the coordinates, persons folded into samples: (N, 3, T, V, M) -> (N M, 3, T, V).

    Every (person, joint, coordinate) has statistics of its own; `shared`: every (joint,
    coordinate), persons being samples.
    """

    def __init__(self, persons: int, joints: int, *, shared: bool = False) -> None:
        super().__init__((1 if shared else persons) * joints * COORDINATES)
        self.persons = persons
        self.joints = joints

    def forward(self, input: Tensor) -> Tensor:
        x = by_person(input, persons=self.persons, joints=self.joints)  # (N, M, 3, T, V)
        clips, persons, coordinates, frames, joints = x.shape
        flat = x.permute(0, 1, 4, 2, 3).reshape(-1, self.num_features, frames)
        normalised = super().forward(flat).view(clips * persons, joints, coordinates, frames)
        return normalised.permute(0, 2, 3, 1).contiguous()

    def deployed(self, folding: Folding) -> nn.Module:
        if not folding.across:
            return plain_copy(self)
        bn = batch_norm_state(self)
        return DataAffine(
            *(
                tensor.view(-1, self.joints, COORDINATES).mT
                for tensor in (bn.scale, bn.image_of_zero)
            ),
            persons=self.persons,
        )


class DataAffine(nn.Module):
    """x * scale + shift per (person, joint, coordinate), persons folded into samples: (N, 3, T, V,
    M) -> (N M, 3, T, V).
    """

    def __init__(self, scale: Tensor, shift: Tensor, *, persons: int) -> None:
        """scale, shift: (M, 3, V), or (1, 3, V) for all persons alike."""
        super().__init__()
        self.persons = persons
        self.scale = frozen(scale[:, :, None])
        self.shift = frozen(shift[:, :, None])

    def forward(self, clips: Tensor) -> Tensor:
        x = by_person(clips, persons=self.persons, joints=self.scale.shape[-1])
        return torch.addcmul(self.shift, x, self.scale).flatten(0, 1)


def by_person(clips: Tensor, *, persons: int, joints: int) -> Tensor:
    """(N, 3, T, V, M) -> (N, M, 3, T, V); ValueError names both shapes where the clips are of
    another kind.
    """
    if clips.dim() != 5 or (clips.shape[1], clips.shape[3], clips.shape[4]) != (
        COORDINATES,
        joints,
        persons,
    ):
        raise ValueError(
            f"clips must have shape (N, {COORDINATES}, T, {joints}, {persons}), got"
            f" {tuple(clips.shape)}"
        )
    return clips.permute(0, 4, 1, 2, 3)


def rows_of(x: Tensor) -> Tensor:
    """A channels_last (N, C, T, V) as its rows (N T V, C): a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class PointwiseProduct(nn.Conv2d):
    """A 1x1 convolution as the product of rows of channels with a matrix in a form of its own, such
    as a sparse one.

    `weight` stays beside it for whoever reads it; `product` is what runs.
    """

    def __init__(self, conv: nn.Conv2d, compress: Callable[[Tensor], Tensor]) -> None:
        """compress: (C_out, C_in) -> what `F.linear` takes as its weight."""
        with torch.device("meta"):
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                1,
                stride=(conv.stride[0], 1),
                bias=conv.bias is not None,
            )
        self.weight, self.bias = conv.weight, conv.bias
        self.matrix = compress(conv.weight.detach()[:, :, 0, 0].contiguous())

    def forward(self, input: Tensor) -> Tensor:
        return (
            self.product(input)
            if self.bias is None
            else self.product(input) + self.bias[:, None, None]
        )

    def product(self, x: Tensor) -> Tensor:
        """W x without the bias: (N, C_in, T, V) -> (N, C_out, T', V), in memory as rows of
        channels.
        """
        rows = x[:, :, :: self.stride[0]].permute(0, 2, 3, 1)
        return (
            F.linear(rows.reshape(-1, x.shape[1]), self.matrix)
            .view(*rows.shape[:3], -1)
            .permute(0, 3, 1, 2)
        )


def add_pointwise(total: Tensor, x: Tensor, conv: nn.Conv2d) -> Tensor:
    """ReLU(total + the 1x1 convolution of x), its bias left out, in place; total (N, C_out, T, V)
    lies in memory as x does.
    """
    if isinstance(conv, PointwiseProduct):
        return total.add_(conv.product(x)).relu_()
    if onednn_multiplies(total):
        return add_product(total, conv, x)
    if not rows_last(x):
        return total.add_(F.conv2d(x, conv.weight)).relu_()
    rows_of(total).addmm_(rows_of(x), conv.weight[:, :, 0, 0].T)
    return total.relu_()


def displacement(x: Tensor, frames: int) -> Tensor:
    """x[t] - x[t - frames] along time (dim 2), zero where the other frame does not exist; `frames`
    may be negative. Shape kept.
    """
    distance = abs(frames)
    if x.shape[2] < distance:
        return torch.zeros_like(x)
    forward = x[:, :, distance:] - x[:, :, :-distance]
    return (
        F.pad(forward, (0, 0, distance, 0)) if frames > 0 else F.pad(-forward, (0, 0, 0, distance))
    )


class ExplicitMotion(Deployable):
    """EMM: positions (C/2 channels) beside displacements to t-1, t-2, t+1, t+2 (C/8 channels each):
    (N, 3, T, V) -> (N, C, T, V).

    Each part is a biased 1x1 convolution -> BN -> LeakyReLU(0.1); as all are pointwise they are
    computed as one convolution of eight equal groups, of which the positions fill the first four
    (HPI-GCN, section 3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8 * COORDINATES, channels, 1, groups=8)
        self.bn: nn.Module = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if rows_last(x) and isinstance(self.bn, nn.Identity):
            return self._as_one_product(x)
        parts = torch.cat(
            [x, x, x, x, *(displacement(x, frames) for frames in (1, 2, -1, -2))], dim=1
        )
        return F.leaky_relu(self.bn(self.conv(parts)), 0.1, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        twin = plain_copy(self, folding)
        if folding.across:
            assert isinstance(self.bn, nn.BatchNorm2d)
            kernel, bias = fuse_conv_bn(self.conv.weight, batch_norm_state(self.bn), self.conv.bias)
            twin.conv, twin.bn = frozen_conv(kernel, bias, groups=8), nn.Identity()
        return twin

    def _as_one_product(self, x: Tensor) -> Tensor:
        """The five folded branches as one matrix of 15 inputs, for feature maps that lie in memory
        as rows.
        """
        eighth = self.conv.out_channels // 8
        kernels = torch.split(self.conv.weight[:, :, 0, 0], [4 * eighth, *[eighth] * 4])
        matrix: Tensor = torch.block_diag(*kernels)  # type: ignore[no-untyped-call]
        parts = torch.cat([x, *(displacement(x, frames) for frames in (1, 2, -1, -2))], dim=1)
        product = F.linear(parts.permute(0, 2, 3, 1), matrix, self.conv.bias)
        return F.leaky_relu(product, 0.1, inplace=True).permute(0, 3, 1, 2)


class JointMixing(nn.Module):
    """One learned adjacency for all channels: y[c, t, i] = sum_v A[i, v] x[c, t, v]."""

    def __init__(self, matrix: Tensor) -> None:
        """matrix: (V, V), the initial adjacency."""
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def adjacency(self) -> Tensor:
        """(V, V)."""
        return self.matrix

    def forward(self, x: Tensor) -> Tensor:
        if not rows_last(x):
            return F.linear(x, self.matrix)
        frames = x.permute(0, 2, 3, 1).flatten(0, 1)  # (N T, V, C)
        mixed = torch.bmm(self.matrix.expand(len(frames), -1, -1), frames)
        return mixed.view(x.shape[0], x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2)


class ParallelJointMixing(Deployable):
    """n parallel adjacencies whose results are added; entries start as U[0.9, 1.1) (HPI-GC-RP).

    Deploys as one `JointMixing`.

    Mixing is linear, so the matrices are added first and one product is enough, in training too.
    """

    def __init__(self, matrices: int, joints: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.empty(matrices, joints, joints).uniform_(0.9, 1.1))

    def adjacency(self) -> Tensor:
        """The sum of all, (V, V)."""
        return sum_adjacency(self.matrices)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.adjacency())

    def deployed(self, folding: Folding) -> nn.Module:
        return deployed(JointMixing(self.adjacency()), folding)


class GroupedJointMixing(nn.Module):
    """A learned adjacency per group of C/g contiguous channels, started at ones: y[c, t, i] = sum_v
    A[group(c), i, v] x[c, t, v].
    """

    def __init__(self, groups: int, joints: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.ones(groups, joints, joints))

    def forward(self, x: Tensor) -> Tensor:
        groups, joints, _ = self.matrices.shape
        grouped = x.reshape(x.shape[0], groups, -1, joints)  # (N, g, C/g T, V)
        return torch.matmul(grouped, self.matrices.mT).view(x.shape)


class Classifier(nn.Module):
    """Dropout, linear: (N, C) -> (N, K). Weights start as N(0, std^2); std None: sqrt(2 / K)."""

    def __init__(
        self, channels: int, classes: int, dropout: float, *, std: float | None = None
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)
        nn.init.normal_(self.fc.weight, 0.0, (2.0 / classes) ** 0.5 if std is None else std)
        if std is not None:
            nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(x))
        return logits


class Block(Deployable):
    """ReLU(temporal(graph(x)) + residual(x)): (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride)
    + 1, V).

    graph changes the width and ends with a ReLU, temporal the length. residual: None (no residual),
    identity, or a strided 1x1 convolution with BatchNorm.
    """

    def __init__(self, graph: nn.Module, temporal: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.graph = graph
        self.temporal = temporal
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.temporal(self.graph(x))
        if self.residual is not None:
            out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        temporal = deployed(self.temporal, folding)
        if not (folding.across and isinstance(temporal, nn.Conv2d) and self.residual is not None):
            return plain_copy(self, folding)
        return ConvBlock(deployed(self.graph, folding), temporal, deployed(self.residual, folding))


class ConvBlock(nn.Module):
    """ReLU(conv(graph(x)) + residual(x)): the deploy form of a block whose temporal module is one
    convolution.

    The result may be written into x, which is nobody's any more: the output of the block before, or
    the normalised coordinates.
    """

    def __init__(self, graph: nn.Module, temporal: nn.Conv2d, residual: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.temporal = temporal
        self.residual = Pointwise(residual) if isinstance(residual, nn.Conv2d) else residual

    def forward(self, x: Tensor) -> Tensor:
        return add_conv(self.residual(x), self.temporal, self.graph(x))


class Pointwise(nn.Module):
    """A strided 1x1 convolution as one matrix product where the feature map lies in memory as rows
    of channels.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        if onednn_multiplies(x):
            return convolved(self.conv, x)
        if not rows_last(x):
            out: Tensor = self.conv(x)
            return out
        kept = x[:, :, :: self.conv.stride[0]]
        product = F.linear(kept.permute(0, 2, 3, 1), self.conv.weight[:, :, 0, 0], self.conv.bias)
        return product.permute(0, 3, 1, 2)


def residual_path(inside: int, outside: int, stride: int, *, bias: bool = True) -> nn.Module:
    """The input itself where shapes agree, otherwise a strided 1x1 convolution with BatchNorm."""
    return (
        nn.Identity()
        if inside == outside and stride == 1
        else ConvBN(inside, outside, stride=stride, bias=bias)
    )


def kaiming_fan_out(conv: nn.Conv2d) -> None:
    """Weights N(0, 2 / fan_out), bias 0 (He et al. 2015)."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def kaiming_convs(module: nn.Module) -> None:
    """`kaiming_fan_out` of every 2-D convolution in `module`."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            kaiming_fan_out(part)


def bias_of(conv: nn.Conv2d) -> Tensor:
    """Of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias


def convs(modules: Iterable[nn.Module]) -> list[nn.Conv2d]:
    """`modules`, known to be convolutions."""
    return [module for module in modules if isinstance(module, nn.Conv2d)]


def start_as_residual(
    project: Iterable[nn.Module], bn: nn.BatchNorm2d, residual: nn.Module
) -> None:
    """Initial weights of a sum of S projections, its BatchNorm and the residual path beside it.

    Projections: N(0, 2 / (weights of one * S)), biases 0; BN's scale 1e-6: the block starts as its
    residual.
    """
    projections = convs(project)
    for conv in projections:
        nn.init.normal_(conv.weight, 0.0, math.sqrt(2.0 / (conv.weight.numel() * len(projections))))
        nn.init.zeros_(bias_of(conv))
    nn.init.constant_(bn.weight, 1e-6)
    kaiming_convs(residual)


def side_by_side(modules: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """A sum of 1x1 convolutions, each of its own input, as one of all inputs: kernel (C_out, K
    C_in, 1, 1), bias (C_out,).
    """
    parts = convs(modules)
    return torch.cat([conv.weight for conv in parts], dim=1), torch.stack(
        [bias_of(conv) for conv in parts]
    ).sum(dim=0)
