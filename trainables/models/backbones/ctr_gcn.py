"""CTR-GCN: an adjacency per channel, refined by what each clip shows, and MS-TCN.

Knows nothing of data or masks.

Inside the network a clip of M persons is M samples: x is (N M, C, T, V), written (P, C, T, V).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.adjacency import initial_adjacency
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import (
    Block,
    Classifier,
    DataNorm,
    bias_of,
    convs,
    kaiming_convs,
    residual_path,
)
from trainables.models.temporal import build_temporal
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import (
    ConvBN,
    Deployable,
    Folding,
    batch_norm_state,
    frozen,
    frozen_conv,
    plain_copy,
)

Convention = Literal["official", "pyskl"]


def reduced_channels(inside: int, convention: Convention) -> int:
    """r, the channels in which joints are compared: C_in / 8, but 8 for raw coordinates and, in
    PYSKL, for up to 16 channels.
    """
    few = inside in (3, 9) if convention == "official" else inside <= 16
    return 8 if few else inside // 8


class TopologyRefinement(Deployable):
    """CTR-GC: ReLU(BN(sum_k A'_k embed_k(x)) + residual(x)), an adjacency A'_k per subset k and
    channel: (P, C_in, T, V) -> (P, C_out, T, V).

    A'_k[c, u, v] = A_k[u, v] + alpha refine_k(tanh(p_k[u] - q_k[v]))[c], where p_k and q_k are
    means over time of 1x1 convolutions of x to r channels. Its product with z = embed_k(x) is sum_v
    A'_k[c, u, v] z[c, t, v]; PYSKL sums over the other index, sum_u A'_k[c, u, v] z[c, t, u]. A_k
    is learned, alpha starts at 0, BN's scale at 1e-6: a block starts as its residual (Chen et al.
    2021, CTR-GCN). The convolutions of p and q follow the mean, with which they commute, and are
    computed as one.
    """

    def __init__(
        self, adjacency: Tensor, inside: int, outside: int, *, convention: Convention
    ) -> None:
        """adjacency: (K, V, V), what A starts from."""
        super().__init__()
        subsets, reduced = len(adjacency), reduced_channels(inside, convention)
        self.convention: Convention = convention
        self.adjacency = nn.Parameter(adjacency)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.relate = nn.Conv2d(inside, 2 * subsets * reduced, 1)  # p_1, ..., p_K, q_1, ..., q_K
        self.refine = nn.ModuleList(nn.Conv2d(reduced, outside, 1) for _ in range(subsets))
        self.embed = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(subsets))
        self.bn = BatchNorm2d(outside)
        self.residual = residual_path(inside, outside, 1)
        kaiming_convs(self)
        for part in self.relate.weight.data.chunk(2 * subsets):
            nn.init.kaiming_normal_(part, mode="fan_out")
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        kernels = [
            (self.alpha * conv.weight, self.alpha * bias_of(conv)) for conv in convs(self.refine)
        ]
        compared = differences(
            self.relate(x.mean(dim=2, keepdim=True)), len(kernels), self.convention
        )
        out: Tensor = self.bn(
            refined_mixing(
                x, compared, kernels, by_source(self.adjacency, self.convention), self.embed
            )
        )
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        return FoldedTopologyRefinement(self) if folding.across else plain_copy(self, folding)


class FoldedTopologyRefinement(nn.Module):
    """The deploy form: alpha is part of `refine`, the BatchNorm's scale of `embed`, its shift of
    the residual.
    """

    def __init__(self, trained: TopologyRefinement) -> None:
        super().__init__()
        bn = batch_norm_state(trained.bn)
        self.convention: Convention = trained.convention
        self.adjacency = frozen(by_source(trained.adjacency, trained.convention))
        self.relate = frozen_conv(trained.relate.weight, trained.relate.bias)
        self.refine = nn.ModuleList(
            frozen_conv(trained.alpha * conv.weight, trained.alpha * bias_of(conv))
            for conv in convs(trained.refine)
        )
        self.embed = nn.ModuleList(
            frozen_conv(conv.weight * bn.scale[:, None, None, None], bias_of(conv) * bn.scale)
            for conv in convs(trained.embed)
        )
        self.residual = shifted_residual(trained.residual, bn.image_of_zero)

    def forward(self, x: Tensor) -> Tensor:
        kernels = [(conv.weight, bias_of(conv)) for conv in convs(self.refine)]
        compared = differences(
            self.relate(x.mean(dim=2, keepdim=True)), len(kernels), self.convention
        )
        return F.relu(
            refined_mixing(
                x, compared, kernels, self.adjacency, self.embed, start=self.residual(x)
            ),
            inplace=True,
        )


class ChannelShift(nn.Module):
    """x + shift per channel: an identity residual with the shift of a BatchNorm that could go
    nowhere else. (P, C, T, V) kept.
    """

    def __init__(self, shift: Tensor) -> None:
        """shift: (C,)."""
        super().__init__()
        self.shift = frozen(shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def shifted_residual(residual: nn.Module, shift: Tensor) -> nn.Module:
    """The deploy form of `residual_path(...)` plus `shift` (C,)
    in one; its result is a new tensor.
    """
    if isinstance(residual, ConvBN):
        kernel, bias = residual.fuse()
        return frozen_conv(kernel, bias + shift)
    return ChannelShift(shift)


def by_source(adjacency: Tensor, convention: Convention) -> Tensor:
    """(K, V, V) with the joint that is summed over as the row."""
    return adjacency.mT if convention == "official" else adjacency


def differences(related: Tensor, subsets: int, convention: Convention) -> Tensor:
    """tanh(p_k[u] - q_k[v]) as (K, P, r, V, V), the joint that is summed over as the row; related:
    (P, 2 K r, 1, V), p before q.
    """
    persons, _, _, joints = related.shape
    # (K, P, r, V)
    p, q = related.reshape(persons, 2, subsets, -1, joints).permute(1, 2, 0, 3, 4).unbind()
    relations = (
        p[..., None, :] - q[..., None]
        if convention == "official"
        else p[..., None] - q[..., None, :]
    )
    return relations.tanh_()


def refined_mixing(
    x: Tensor,
    compared: Tensor,
    kernels: Sequence[tuple[Tensor, Tensor]],
    adjacency: Tensor,
    embed: Iterable[nn.Module],
    *,
    start: Tensor | None = None,
) -> Tensor:
    """`start` (overwritten; nothing if None) + sum_k of embed_k(x) mixed by A_k +
    refine_k(compared_k): (P, C_out, T, V).

    kernels: weight and bias of each 1x1 convolution refine_k; adjacency: (K, V, V), rows are summed
    over.
    """
    persons, _, frames, joints = x.shape
    out = None if start is None else start.reshape(-1, frames, joints)
    for differing, (weight, bias), matrix, convolve in zip(
        compared, kernels, adjacency, embed, strict=True
    ):
        topology = F.conv2d(differing, weight, bias)  # (P, C_out, V, V)
        topology += matrix
        pieces = convolve(x).reshape(-1, frames, joints), topology.reshape(-1, joints, joints)
        if out is not None and out.dtype == pieces[0].dtype == pieces[1].dtype:
            out = out.baddbmm_(*pieces)
        else:  # the first, or under autocast, where `start` is wider than a product
            out = torch.bmm(*pieces) if out is None else out + torch.bmm(*pieces)
    assert out is not None
    return out.view(persons, -1, frames, joints)


class CTRGCN(Backbone):
    """Ten blocks of refined graph convolution and temporal convolution; every person's coordinates
    are normalised on their own.
    """

    kept = "adjacency matrices refined by each clip (tanh of differences)"

    def __init__(self, spec: NetworkSpec) -> None:
        model = spec.model
        pyskl = model.convention == "pyskl"
        blocks = [
            unit(
                spec,
                TopologyRefinement(
                    initial_adjacency(spec), inside, outside, convention=model.convention
                ),
                number,
                relu=pyskl,
            )
            for number, (inside, outside, _) in enumerate(model.block_plan)
        ]
        head = Classifier(model.width, spec.classes, model.dropout, std=0.01 if pyskl else None)
        super().__init__(
            spec, data_norm=DataNorm(spec.persons, spec.joints), blocks=blocks, head=head
        )


def unit(spec: NetworkSpec, graph: nn.Module, number: int, *, relu: bool = False) -> Block:
    """Block `number` of CTR-GCN's repository behind any graph convolution: the first has no
    residual; single convolutions start as He's.
    """
    inside, outside, stride = spec.model.block_plan[number]
    temporal = build_temporal(spec, outside, stride, relu=relu)
    residual = residual_path(inside, outside, stride) if number else None
    for part in (temporal, residual):
        if isinstance(part, ConvBN):
            kaiming_convs(part)
    return Block(graph, temporal, residual)
