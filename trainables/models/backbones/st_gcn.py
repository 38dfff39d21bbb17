"""ST-GCN and ST-GCN++ as in PYSKL: a 1x1 convolution and an adjacency matrix per subset of links,
added up. Knows nothing of data or masks.

Inside the network a clip of M persons is M samples: x is (N M, C, T, V).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.adjacency import initial_adjacency
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import Block, Classifier, DataNorm, bias_of, residual_path
from trainables.models.mixing import mixed_by_each
from trainables.models.temporal import build_temporal
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
from trainables.reparam.kept import ConvOptions, conv_over_time, weight_mask
from trainables.reparam.kept_mixing import mixed_and_convolved, mixed_pattern


class SubsetMixing(Deployable):
    """Every channel mixed with each of K adjacency matrices: y[k C + c, t, w] = sum_v x[c, t, v]
    A_k[v, w]; (N, C, T, V) -> (N, K C, T, V).

    learned: A is trained. scaled: A is fixed and multiplied by learned factors, which start at 1;
    deploys as their product. fixed: A is fixed.
    """

    factors: nn.Parameter | None

    def __init__(self, matrices: Tensor, adjacency: Literal["learned", "scaled", "fixed"]) -> None:
        """matrices: (K, V, V), the initial A."""
        super().__init__()
        if adjacency == "learned":
            self.matrices: Tensor = nn.Parameter(matrices)
        else:
            self.register_buffer("matrices", matrices)
        self.factors = nn.Parameter(torch.ones_like(matrices)) if adjacency == "scaled" else None

    def adjacency(self) -> Tensor:
        """(K, V, V)."""
        return self.matrices if self.factors is None else self.matrices * self.factors

    def forward(self, x: Tensor) -> Tensor:
        return mixed_by_each(x, self.adjacency())

    def deployed(self, folding: Folding) -> nn.Module:
        return plain_copy(
            self if self.factors is None else SubsetMixing(self.adjacency(), "learned"), folding
        )


class SubsetGraphConv(Deployable):
    """ReLU(BN(sum_k (W_k x + b_k) A_k) + residual(x)): (N, C_in, T, V) -> (N, C_out, T, V) (Yan et
    al. 2018, ST-GCN; PYSKL's unit_gcn).

    A 1x1 convolution and joint mixing commute and C_in <= C_out, so joints are mixed first and one
    convolution of K C_in channels adds the subsets up: [W_1 ... W_K] [x A_1; ...; x A_K] + B, with
    B[c, w] = sum_k b_k[c] sum_v A_k[v, w].
    """

    def __init__(
        self, mixing: SubsetMixing, inside: int, outside: int, residual: nn.Module | None
    ) -> None:
        """residual: ST-GCN++ has one, ST-GCN none."""
        super().__init__()
        self.mixing = mixing
        self.conv = nn.Conv2d(inside, mixing.matrices.shape[0] * outside, 1)  # W_1; ...; W_K
        self.bn = BatchNorm2d(outside)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        kernel, biases = self.kernel_and_biases()
        mask, adjacency = weight_mask(self.conv), self.mixing.adjacency()
        pattern = mixed_pattern(x, kernel, mask, self._side_by_side)
        if pattern is not None:
            out = mixed_and_convolved(x, adjacency, kernel, pattern)
        else:
            mixed = self.mixing(x)
            out = conv_over_time(mixed, kernel, None, mask, ConvOptions(), self._side_by_side)
        out += bias_map(biases, adjacency)
        out = self.bn(out)
        if self.residual is not None:
            out += self.residual(x)
        return F.relu(out, inplace=True)

    def kernel_and_biases(self) -> tuple[Tensor, Tensor]:
        """([W_1 ... W_K] (C_out, K C_in, 1, 1), (b_1; ...; b_K) (K, C_out))."""
        subsets = self.mixing.matrices.shape[0]
        return self._side_by_side(self.conv.weight), bias_of(self.conv).view(subsets, -1)

    def _side_by_side(self, weight: Tensor) -> Tensor:
        """W_1; ...; W_K -> [W_1 ... W_K]."""
        subsets, inside = self.mixing.matrices.shape[0], weight.shape[1]
        return weight.view(subsets, -1, inside).transpose(0, 1).reshape(-1, subsets * inside, 1, 1)

    def deployed(self, folding: Folding) -> nn.Module:
        if not folding.across:
            return plain_copy(self, folding)
        (kernel, biases), bn = self.kernel_and_biases(), batch_norm_state(self.bn)
        mixing = deployed(self.mixing, folding)
        assert isinstance(mixing, SubsetMixing)
        return FoldedSubsetGraphConv(
            mixing,
            frozen_conv(kernel * bn.scale[:, None, None, None], bn.image_of_zero),
            biases * bn.scale,
            None if self.residual is None else deployed(self.residual, folding),
        )


class FoldedSubsetGraphConv(nn.Module):
    """ReLU(W mixing(x) + B + residual(x)): the deploy form, BatchNorm in W and in the bias B per
    channel and joint.
    """

    def __init__(
        self, mixing: SubsetMixing, conv: nn.Conv2d, biases: Tensor, residual: nn.Module | None
    ) -> None:
        """conv: (C_out, K C_in, 1, 1) with BatchNorm's shift as its bias; biases: (K, C_out), those
        of the subsets, scaled.
        """
        super().__init__()
        self.mixing = mixing
        self.conv = conv
        self.biases = frozen(biases)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = F.conv2d(self.mixing(x), self.conv.weight)
        out += bias_map(self.biases, self.mixing.adjacency()) + bias_of(self.conv)[:, None, None]
        if self.residual is not None:
            out += self.residual(x)
        return F.relu(out, inplace=True)


def bias_map(biases: Tensor, adjacency: Tensor) -> Tensor:
    """What biases before the mixing are behind it: B[c, i] = sum_k b_k[c] sum_v A_k[v, i]; (K, C),
    (K, V, V) -> (C, 1, V).
    """
    return (biases[:, :, None, None] * adjacency.sum(dim=1)[:, None, None]).sum(dim=0)


class STGCN(Backbone):
    """ST-GCN: blocks of subset graph convolution and temporal convolution, mean, classifier.

    Weights start as torch's.
    """

    graph_residual = False

    def __init__(self, spec: NetworkSpec) -> None:
        model = spec.model
        super().__init__(
            spec,
            data_norm=DataNorm(spec.persons, spec.joints, shared=True),
            blocks=[
                Block(
                    graph=self._graph_conv(spec, inside, outside),
                    temporal=build_temporal(spec, outside, stride),
                    residual=None if number == 0 else residual_path(inside, outside, stride),
                )
                for number, (inside, outside, stride) in enumerate(model.block_plan)
            ],
            head=Classifier(model.width, spec.classes, model.dropout, std=0.01),
        )

    def _graph_conv(self, spec: NetworkSpec, inside: int, outside: int) -> SubsetGraphConv:
        mixing = SubsetMixing(initial_adjacency(spec), spec.model.adjacency)
        return SubsetGraphConv(
            mixing,
            inside,
            outside,
            residual_path(inside, outside, 1) if self.graph_residual else None,
        )


class STGCNPP(STGCN):
    """ST-GCN++: a residual inside the graph convolution, six
    temporal branches (Duan et al. 2022).
    """

    graph_residual = True
    kept = "the maximum over frames in a temporal module of several branches"
