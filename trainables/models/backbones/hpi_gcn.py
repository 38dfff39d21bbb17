"""HPI-GCN: re-parameterised (RP) and over-parameterised (OP) graph convolution with Rep-TCN, and
their baseline. Knows nothing of data or masks.

Inside the network a clip of M persons is M samples: x is (N M, C, T, V).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.fast import graph_merging_pays
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import (
    COORDINATES,
    Block,
    DataNorm,
    ExplicitMotion,
    GroupedJointMixing,
    JointMixing,
    ParallelJointMixing,
    Pointwise,
    PointwiseProduct,
    add_pointwise,
    bias_of,
    kaiming_convs,
    kaiming_fan_out,
    residual_path,
    rows_of,
)
from trainables.models.onednn import (
    add_product,
    channels_first,
    kept_rows,
    onednn_multiplies,
    rows_last,
)
from trainables.models.temporal import build_temporal
from trainables.reparam.fusible import (
    ConvBN,
    Folding,
    FusibleConv,
    Normalised,
    deployed,
    frozen,
    frozen_conv,
    kernel_and_bias,
    plain_copy,
    temporal_conv,
)
from trainables.reparam.fusion import Fusion
from trainables.reparam.kept import ConvOptions, conv_over_time
from trainables.reparam.kernels import merge_pointwise


class GraphConv(Fusion):
    """ReLU(expand(mixing(embed(x))) + residual(x)): a 1x1 convolution, learned joint mixing, a 1x1
    convolution with BatchNorm.

    No skeleton prior: which joints exchange features is learned from the start. One adjacency for
    all channels commutes with the two convolutions, which then ship as one.
    """

    merged = False
    """Whether they are one in training, too, where that costs less; set from outside."""

    def __init__(
        self,
        embed: nn.Conv2d,
        mixing: nn.Module,
        expand: nn.Conv2d | FusibleConv,
        residual: nn.Module,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.mixing = mixing
        self.expand = expand
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            return self._as_one(x)
        out = self._product(x) if self._trains_as_one(x) else self._in_steps(x)
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def _in_steps(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(self.mixing(self.embed(x)))
        return out

    def _trains_as_one(self, x: Tensor) -> bool:
        return (
            self.training
            and self.merged
            and isinstance(self.mixing, JointMixing | ParallelJointMixing)
            and graph_merging_pays(self.embed.in_channels, x.numel() // x.shape[1])
        )

    def _product(self, x: Tensor) -> Tensor:
        """expand(mixing(embed(x))) by one convolution: BatchNorm stands behind both."""
        mixing, expand = self.mixing, self.expand
        assert isinstance(mixing, JointMixing | ParallelJointMixing)
        conv = expand.conv if isinstance(expand, ConvBN) else expand
        assert isinstance(conv, nn.Conv2d)
        with torch.autocast(x.device.type, enabled=False):
            kernel, inner = merge_pointwise(self.embed.weight, bias_of(self.embed), conv.weight)
            bias = joint_bias(inner, conv.bias, mixing.adjacency())
        out = F.conv2d(mixing(x), kernel)
        out += bias.to(out.dtype)
        return expand.bn(out) if isinstance(expand, ConvBN) else out

    def _as_one(self, x: Tensor) -> Tensor:
        mixing = self.mixing
        assert isinstance(mixing, JointMixing | ParallelJointMixing)
        with torch.autocast(x.device.type, enabled=False):
            kernel, inner_bias, bias = self._merged()
            total_bias = joint_bias(inner_bias, bias, mixing.adjacency())
        total: Tensor = self.residual(x) + total_bias
        mixed = conv_over_time(mixing(x), kernel, None, self.kernel_mask, ConvOptions())
        return F.relu(total + mixed, inplace=True)

    def _merged(self) -> tuple[Tensor, Tensor, Tensor]:
        """W1 W0, masked where a mask is active, W1 b0 and b1."""
        kernel, bias = kernel_and_bias(self.expand)
        assert bias is not None
        merged, inner_bias = merge_pointwise(self.embed.weight, bias_of(self.embed), kernel)
        return self.masked_kernel(merged), inner_bias, bias

    def one_kernel(self) -> Tensor:
        return merge_pointwise(
            self.embed.weight, bias_of(self.embed), kernel_and_bias(self.expand)[0]
        )[0]

    def parts(self) -> list[nn.Conv2d]:
        """None where every channel group has an adjacency of its own: nothing commutes there."""
        if isinstance(self.mixing, GroupedJointMixing):
            return []
        return [
            self.embed,
            *(module for module in self.expand.modules() if isinstance(module, nn.Conv2d)),
        ]

    def deployed(self, folding: Folding) -> nn.Module:
        if self.fixed and not (folding.across and folding.merge):
            raise ValueError(
                f"a mask on the merged kernel needs everything folded, got '{folding}'"
            )
        if not folding.across:
            return plain_copy(self, folding)
        mixing, residual = deployed(self.mixing, folding), deployed(self.residual, folding)
        residual = Pointwise(residual) if isinstance(residual, nn.Conv2d) else residual
        if isinstance(mixing, JointMixing) and folding.merge:
            return MergedGraphConv(mixing, *self._merged(), residual)
        kernel, bias = kernel_and_bias(self.expand)
        embed = frozen_conv(self.embed.weight, self.embed.bias)
        return DeployedGraphConv(embed, mixing, frozen_conv(kernel, bias), residual)


class MergedGraphConv(nn.Module):
    """ReLU(W (A x) + B + residual(x)): the deploy form of one adjacency between two 1x1
    convolutions, which commute with it.

    W1 (A (W0 x + b0)) + b1 = (W1 W0)(A x) + B with one bias per channel and joint: B[c, i] = (W1
    b0)[c] sum_v A[i, v] + b1[c].
    """

    def __init__(
        self,
        mixing: JointMixing,
        kernel: Tensor,
        inner_bias: Tensor,
        bias: Tensor,
        residual: nn.Module,
    ) -> None:
        """kernel: W1 W0 (C_out, C_in, 1, 1); inner_bias: W1 b0; bias: b1, both (C_out,)."""
        super().__init__()
        self.mixing = mixing
        self.conv = frozen_conv(kernel, bias)
        self.inner_bias = frozen(inner_bias)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inner_bias, bias_of(self.conv), self.mixing.matrix
        bias = kept_rows(self, parts, joint_bias) if rows_last(x) else joint_bias(*parts)
        total: Tensor = self.residual(x) + bias
        return add_pointwise(total, self.mixing(x), self.conv)


def joint_bias(inner: Tensor, outer: Tensor | None, adjacency: Tensor) -> Tensor:
    """B[c, i] = inner[c] sum_v A[i, v] + outer[c]: (C,), (C,), (V, V) -> (C, 1, V); outer None:
    zero.
    """
    if outer is None:
        return (inner[:, None] * adjacency.sum(dim=1))[:, None]
    return torch.addcmul(outer[:, None], inner[:, None], adjacency.sum(dim=1))[:, None]


def grouped_joint_bias(inner: Tensor, matrices: Tensor, kernel: Tensor, outer: Tensor) -> Tensor:
    """W1 mixing(b0) + b1, which no feature map changes: (C_in,), (g, V, V), (C_out, C_in, 1, 1),
    (C_out,) -> (C_out, 1, V).
    """
    sums = matrices.double().sum(dim=2).repeat_interleave(len(inner) // len(matrices), dim=0)
    mixed = kernel[:, :, 0, 0].double() @ (inner[:, None] * sums)
    return (mixed + outer[:, None]).to(outer.dtype)[:, None]


class DeployedGraphConv(nn.Module):
    """ReLU(W1 mixing(W0 x + b0) + b1 + residual(x)), the two convolutions kept."""

    def __init__(
        self, embed: nn.Conv2d, mixing: nn.Module, expand: nn.Conv2d, residual: nn.Module
    ) -> None:
        super().__init__()
        self.embed = embed
        self.mixing = mixing
        self.expand = expand
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        grouped = (
            rows_last(x)
            and isinstance(self.mixing, GroupedJointMixing)
            and not isinstance(self.expand, PointwiseProduct)
        )
        if grouped and onednn_multiplies(x):
            assert isinstance(self.mixing, GroupedJointMixing)
            matrices = self.mixing.matrices
            parts = bias_of(self.embed), matrices, self.expand.weight, bias_of(self.expand)
            mapped: Tensor = self.residual(x) + kept_rows(self, parts, grouped_joint_bias)
            return add_product(mapped, self.expand, self._mixed(x))
        total: Tensor = self.residual(x) + bias_of(self.expand)[:, None, None]
        if not grouped:
            return add_pointwise(total, self.mixing(self.embed(x)), self.expand)
        samples, inside, frames, joints = x.shape
        embedded = self._embedded(x.permute(0, 2, 3, 1).flatten(1, 2))
        mixed = self.mixing(embedded.view(samples, inside, frames, joints)).view(
            samples, inside, -1
        )
        rows = total.permute(0, 2, 3, 1).flatten(1, 2)  # (N, T V, C_out), a view
        rows.baddbmm_(mixed.mT, self.expand.weight[:, :, 0, 0].T.expand(samples, -1, -1))
        return total.relu_()

    def _mixed(self, x: Tensor) -> Tensor:
        """mixing(W0 x) by oneDNN: (N, C_in, T, V), in memory (C_in, N, T, V), where every
        group's channels are together.
        """
        assert isinstance(self.mixing, GroupedJointMixing)
        embedded = channels_first(self.embed.weight[:, :, 0, 0], rows_of(x))  # (C_in, N T V)
        groups, joints, _ = self.mixing.matrices.shape
        mixed = torch.bmm(embedded.view(groups, -1, joints), self.mixing.matrices.mT)
        return mixed.view(-1, len(x), *x.shape[2:]).transpose(0, 1)

    def _embedded(self, rows: Tensor) -> Tensor:
        """(N, T V, C_in) -> W0 x + b0 as (N, C_in, T V): the product puts every group's channels
        together for the mixing.
        """
        kernel = self.embed.weight[:, :, 0, 0].expand(len(rows), -1, -1)
        return torch.baddbmm(bias_of(self.embed)[:, None], kernel, rows.mT)


def rp_graph_conv(spec: NetworkSpec, inside: int, outside: int) -> GraphConv:
    """HPI-GC-RP: n parallel adjacency matrices for all channels, one at inference.

    He initialisation, residual included.
    """
    graph = GraphConv(
        embed=temporal_conv(inside, inside),
        mixing=ParallelJointMixing(spec.model.adjacencies, spec.joints),
        expand=ConvBN(inside, outside),
        residual=residual_path(inside, outside, 1, bias=False),
    )
    kaiming_convs(graph)
    return graph


def baseline_graph_conv(spec: NetworkSpec, inside: int, outside: int) -> GraphConv:
    """The inference structure of HPI-GC-RP trained as it is: one adjacency, started as U[0.9, 1.1).

    As released (`normalised` false) the adjacency starts from zeros and biased convolutions stand
    where RP has convolution and BatchNorm.
    """
    if spec.model.normalised:
        one = spec.model_copy(update={"model": spec.model.model_copy(update={"adjacencies": 1})})
        return rp_graph_conv(one, inside, outside)
    graph = GraphConv(
        embed=temporal_conv(inside, inside),
        mixing=JointMixing(torch.zeros(spec.joints, spec.joints)),
        expand=temporal_conv(inside, outside),
        residual=nn.Identity() if inside == outside else temporal_conv(inside, outside),
    )
    kaiming_convs(graph)
    return graph


def op_graph_conv(spec: NetworkSpec, inside: int, outside: int) -> GraphConv:
    """HPI-GC-OP: an adjacency per channel group, the same in training and at inference.

    He initialisation of its two convolutions.
    """
    embed, project = temporal_conv(inside, inside), temporal_conv(inside, outside)
    kaiming_fan_out(embed)
    kaiming_fan_out(project)
    return GraphConv(
        embed=embed,
        mixing=GroupedJointMixing(spec.model.groups, spec.joints),
        expand=Normalised(project, outside),
        residual=residual_path(inside, outside, 1, bias=False),
    )


class HPIGCN(Backbone):
    """Stem (EMM, or a 1x1 convolution for bone streams), blocks of graph and temporal convolution,
    mean, classifier.
    """

    as_rows = True
    released_deploys = True

    def __init__(
        self,
        spec: NetworkSpec,
        graph_conv: Callable[[NetworkSpec, int, int], GraphConv],
        *,
        normalised: bool = True,
    ) -> None:
        model = spec.model
        stem = (
            ExplicitMotion(model.channels)
            if model.input_block == "emm"
            else _conv(COORDINATES, model.channels, normalised=normalised)
        )
        blocks = [
            Block(
                graph=graph_conv(spec, inside, outside),
                temporal=build_temporal(spec, outside, stride, bias=not normalised),
                residual=_conv(inside, outside, stride, normalised=normalised)
                if (inside, 1) != (outside, stride)
                else nn.Identity(),
            )
            for inside, outside, stride in model.block_plan
        ]
        super().__init__(
            spec, data_norm=DataNorm(spec.persons, spec.joints), stem=stem, blocks=blocks
        )


class HPIGCNBaseline(HPIGCN):
    """The baseline of HPI-GCN's ablations: the inference structure of RP, trained without
    re-parameterisation.
    """

    merges = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec, baseline_graph_conv, normalised=spec.model.normalised)


class HPIGCNRP(HPIGCN):
    """HPI-GCN-RP: parallel adjacency matrices and Rep-TCN, one adjacency and one kernel per block
    at inference.
    """

    merges = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec, rp_graph_conv)


class HPIGCNOP(HPIGCN):
    """HPI-GCN-OP: grouped joint mixing is kept at inference, the temporal and residual branches are
    re-parameterised.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec, op_graph_conv)


def _conv(inside: int, outside: int, stride: int = 1, *, normalised: bool) -> nn.Module:
    """A 1x1 convolution with BatchNorm, or with a bias instead."""
    return (
        ConvBN(inside, outside, stride=stride)
        if normalised
        else temporal_conv(inside, outside, stride=stride)
    )
