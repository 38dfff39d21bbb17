"""DG-STGCN: adjacency matrices of their own for every channel group, channel and clip, no skeleton.

Knows nothing of data or masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.adjacency import initial_adjacency
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import Block, Classifier, DataNorm, residual_path
from trainables.models.temporal import build_temporal
from trainables.reparam.fusible import (
    ConvBN,
    Deployable,
    Folding,
    deployed,
    frozen,
    frozen_conv,
    plain_copy,
)

WIDTH = 8
"""Every subset has C_out / 8 channels, however many subsets there are."""


class DynamicGroupGraphConv(Deployable):
    """ReLU(post(pre(x) mixed by A') + residual(x)): (N, C_in, T, V) -> (N, C_out, T, V).

    pre = ReLU(BN(1x1 convolution)) gives K subsets of m = C_out / 8 channels; p and q are 1x1
    convolutions of the mean over frames to as many. Every subset k and channel c of this very
    sample has its matrix A'[k, c, u, v] = A[k, u, v] + alpha tanh(p[k, c, u] - q[k, c, v]) + beta
    softmax_u(sum_c p[k, c, u] q[k, c, v]), and mixed[k, c, t, v] = sum_u pre[k, c, t, u] A'[k, c,
    u, v]. post: 1x1 convolution and BatchNorm. alpha and beta start at 0; they have K elements, of
    which all subsets use the first, as released (Duan et al. 2022, DG-STGCN).
    """

    def __init__(self, adjacency: Tensor, inside: int, outside: int) -> None:
        """adjacency: (K, V, V), what A starts from."""
        super().__init__()
        subsets = len(adjacency)
        middle = subsets * (outside // WIDTH)
        self.adjacency = nn.Parameter(adjacency)
        self.alpha = nn.Parameter(torch.zeros(subsets))
        self.beta = nn.Parameter(torch.zeros(subsets))
        self.pre = ConvBN(inside, middle, bias=True)
        self.source = nn.Conv2d(inside, middle, 1)  # p
        self.target = nn.Conv2d(inside, middle, 1)  # q
        self.post = ConvBN(middle, outside, bias=True)
        self.residual = residual_path(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=2, keepdim=True)
        matrices = dynamic_adjacency(
            self.source(mean), self.target(mean), self.adjacency, self.alpha[0], self.beta[0]
        )
        out: Tensor = self.post(mixed_by_channel(F.relu(self.pre(x), inplace=True), matrices))
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        return (
            FoldedDynamicGroupGraphConv(self, folding)
            if folding.across
            else plain_copy(self, folding)
        )


class FoldedDynamicGroupGraphConv(nn.Module):
    """The deploy form: no BatchNorm, p and q by one convolution, the elements of alpha and beta
    that are used.
    """

    def __init__(self, trained: DynamicGroupGraphConv, folding: Folding) -> None:
        super().__init__()
        p, q = trained.source, trained.target
        assert p.bias is not None
        assert q.bias is not None
        self.adjacency = frozen(trained.adjacency)
        self.alpha = frozen(trained.alpha[0])
        self.beta = frozen(trained.beta[0])
        self.pre = deployed(trained.pre, folding)
        self.ends = frozen_conv(torch.cat([p.weight, q.weight]), torch.cat([p.bias, q.bias]))
        self.post = deployed(trained.post, folding)
        self.residual = deployed(trained.residual, folding)

    def forward(self, x: Tensor) -> Tensor:
        p, q = self.ends(x.mean(dim=2, keepdim=True)).chunk(2, dim=1)
        matrices = dynamic_adjacency(p, q, self.adjacency, self.alpha, self.beta)
        out: Tensor = self.post(mixed_by_channel(F.relu(self.pre(x), inplace=True), matrices))
        out += self.residual(x)
        return F.relu(out, inplace=True)


def dynamic_adjacency(
    p: Tensor, q: Tensor, adjacency: Tensor, alpha: Tensor, beta: Tensor
) -> Tensor:
    """A'[k, c, u, v], see `DynamicGroupGraphConv`: (N, K, m, V, V). p, q: (N, K m, 1, V);
    adjacency: (K, V, V); alpha, beta: numbers.
    """
    subsets, joints, _ = adjacency.shape
    p, q = (ends.reshape(ends.shape[0], subsets, -1, joints) for ends in (p, q))
    alike = torch.softmax(torch.matmul(p.mT, q), dim=2)  # (N, K, V, V), columns sum to one
    differing = torch.tanh(p[..., :, None] - q[..., None, :])  # (N, K, m, V, V)
    return (adjacency + beta * alike)[:, :, None] + alpha * differing


def mixed_by_channel(x: Tensor, matrices: Tensor) -> Tensor:
    """y[n, c, t, v] = sum_u x[n, c, t, u] A'[n, c, u, v]; x: (N, K m, T, V), matrices: (N, K, m, V,
    V).
    """
    return torch.matmul(x, matrices.flatten(1, 2))


class DGSTGCN(Backbone):
    """Ten blocks of dynamic group graph convolution and temporal branches; persons share the
    normalisation of their coordinates.
    """

    kept = "dynamic adjacency (tanh and softmax of features)"

    def __init__(self, spec: NetworkSpec) -> None:
        model = spec.model
        blocks = [
            Block(
                graph=DynamicGroupGraphConv(initial_adjacency(spec), inside, outside),
                temporal=build_temporal(spec, outside, stride),
                residual=residual_path(inside, outside, stride) if number else None,
            )
            for number, (inside, outside, stride) in enumerate(model.block_plan)
        ]
        head = Classifier(model.width, spec.classes, model.dropout, std=0.01)
        super().__init__(
            spec,
            data_norm=DataNorm(spec.persons, spec.joints, shared=True),
            blocks=blocks,
            head=head,
        )
