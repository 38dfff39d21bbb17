"""Modules of deploy forms that compute with kept weights: a convolution, and the blocks that add to
it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.deploy.sparse.choices import Choices, kept_share
from trainables.models.backbones.hpi_gcn import DeployedGraphConv, MergedGraphConv, joint_bias
from trainables.models.backbones.st_gcn import FoldedSubsetGraphConv, bias_map
from trainables.models.layers import ConvBlock, bias_of
from trainables.sparse.convolution import Convolution, Steps

Way = Literal["undecided", "kept weights", "dense"]


class SparseConv(nn.Conv2d):
    """A convolution over time that runs on its kept weights where that is faster, which is found at
    its first call.

    The dense kernel stays beside them for whoever reads it.
    """

    def __init__(self, conv: nn.Conv2d, choices: Choices | None) -> None:
        """conv: one that `steps_of` knows; choices: None: kept weights whether or not they are
        faster.
        """
        with torch.device("meta"):
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                (conv.kernel_size[0], conv.kernel_size[1]),
                stride=(conv.stride[0], conv.stride[1]),
                dilation=(conv.dilation[0], conv.dilation[1]),
                groups=conv.groups,
                bias=conv.bias is not None,
            )
        self.padding, self.weight, self.bias = conv.padding, conv.weight, conv.bias
        steps = steps_of(conv)
        assert steps is not None
        kernel = conv.weight.detach()[..., 0].contiguous().numpy()
        self.kept = Convolution(kernel, steps, groups=conv.groups)
        self.kind = conv.weight.dtype  # of the kept weights; the module may be cast later
        self.choices = choices
        self.way: Way = "undecided" if choices else "kept weights"

    def forward(self, input: Tensor) -> Tensor:
        return self.added(input, self.bias)

    def added(
        self, x: Tensor, bias: Tensor | None, residual: Tensor | None = None, *, relu: bool = False
    ) -> Tensor:
        """conv(x) + bias + residual, then ReLU where asked: a new tensor. bias: (C_out,)."""
        usable = x.dtype == self.weight.dtype == self.kind and not torch.compiler.is_compiling()
        if usable and self.way == "undecided":
            self.way = self._decided(x)
        if not usable or self.way != "kept weights":
            return self._dense(x, bias, residual, relu=relu)
        return self._sparse(x, bias, residual, relu=relu)

    def _sparse(
        self, x: Tensor, bias: Tensor | None, residual: Tensor | None, *, relu: bool
    ) -> Tensor:
        found = self.kept(
            x.detach().numpy(),
            bias=None if bias is None else bias.detach().numpy(),
            residual=None if residual is None else residual.detach().numpy(),
            relu=relu,
            threads=torch.get_num_threads(),
        )
        return torch.from_numpy(found)

    def _dense(
        self, x: Tensor, bias: Tensor | None, residual: Tensor | None, *, relu: bool
    ) -> Tensor:
        out = F.conv2d(x, self.weight, bias, self.stride, self.padding, self.dilation, self.groups)
        out = out if residual is None else out + residual
        return F.relu(out, inplace=True) if relu else out

    def _decided(self, x: Tensor) -> Way:
        kept = len(self.kept.rows.values)
        name = (
            f"{tuple(self.weight.shape[:3])} stride {self.stride[0]} dilation {self.dilation[0]}"
            f" groups {self.groups} frames {x.shape[2]} joints {x.shape[3]} {x.dtype} kept"
            f" {kept_share(kept, self.weight.numel())} threads {torch.get_num_threads()}"
        )
        assert self.choices is not None
        faster = self.choices.worth(
            name,
            lambda: self._sparse(x, self.bias, None, relu=False),
            lambda: self._dense(x, self.bias, None, relu=False),
        )
        return "kept weights" if faster else "dense"


def steps_of(conv: nn.Conv2d) -> Steps | None:
    """How a convolution goes through the frames; None where it is another kind of convolution."""
    size, dilation, stride = conv.kernel_size[0], conv.dilation[0], conv.stride[0]
    over_time = conv.kernel_size[1] == 1 and conv.stride[1] == 1
    if not over_time or conv.padding_mode != "zeros":
        return None
    if isinstance(conv.padding, str):
        spanned = dilation * (size - 1) if conv.padding == "same" else 0
        return None if spanned % 2 else Steps(stride, dilation, spanned // 2)
    return Steps(stride, dilation, conv.padding[0]) if conv.padding[1] == 0 else None


class SparseBlock(nn.Module):
    """ReLU(conv(graph(x)) + residual(x)) in one pass of the convolution."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        self.graph, self.temporal, self.residual = block.graph, block.temporal, block.residual

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.temporal, SparseConv)
        return self.temporal.added(self.graph(x), self.temporal.bias, self.residual(x), relu=True)


class SparseMergedGraphConv(nn.Module):
    """ReLU(W (A x) + B + residual(x)), see `MergedGraphConv`."""

    def __init__(self, graph: MergedGraphConv) -> None:
        super().__init__()
        self.mixing, self.conv, self.residual = graph.mixing, graph.conv, graph.residual
        self.bias = nn.Parameter(
            joint_bias(graph.inner_bias, bias_of(graph.conv), graph.mixing.matrix),
            requires_grad=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.conv, SparseConv)
        return self.conv.added(self.mixing(x), None, self.residual(x) + self.bias, relu=True)


class SparseGraphConv(nn.Module):
    """ReLU(W1 mixing(W0 x + b0) + b1 + residual(x)), see `DeployedGraphConv`."""

    def __init__(self, graph: DeployedGraphConv) -> None:
        super().__init__()
        self.embed, self.mixing = graph.embed, graph.mixing
        self.expand, self.residual = graph.expand, graph.residual

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.expand, SparseConv)
        mixed = self.mixing(self.embed(x))
        return self.expand.added(mixed, self.expand.bias, self.residual(x), relu=True)


class SparseSubsetGraphConv(nn.Module):
    """ReLU(W mixing(x) + B + residual(x)), see `FoldedSubsetGraphConv`."""

    def __init__(self, graph: FoldedSubsetGraphConv) -> None:
        super().__init__()
        self.mixing, self.conv, self.residual = graph.mixing, graph.conv, graph.residual
        total = bias_map(graph.biases, graph.mixing.adjacency())
        self.bias = nn.Parameter(total + bias_of(graph.conv)[:, None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.conv, SparseConv)
        total = self.bias if self.residual is None else self.residual(x) + self.bias
        shape = (len(x), total.shape[-3], *x.shape[2:])
        return self.conv.added(self.mixing(x), None, total.expand(shape), relu=True)


def with_kept_weights(module: nn.Module, choices: Choices | None) -> nn.Module:
    """The module that takes this one's place, its parts already replaced; itself where it has
    nothing to gain.
    """
    if type(module) is nn.Conv2d and steps_of(module) is not None and (module.weight == 0).any():
        return SparseConv(module, choices)
    if isinstance(module, ConvBlock) and isinstance(module.temporal, SparseConv):
        return SparseBlock(module)
    if isinstance(module, MergedGraphConv) and isinstance(module.conv, SparseConv):
        return SparseMergedGraphConv(module)
    if isinstance(module, DeployedGraphConv) and isinstance(module.expand, SparseConv):
        return SparseGraphConv(module)
    if isinstance(module, FoldedSubsetGraphConv) and isinstance(module.conv, SparseConv):
        return SparseSubsetGraphConv(module)
    return module
