"""A deploy form without the channels that masks made useless: the same function with smaller
convolutions. Knows zeros, not masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.deploy.form import DeployForm, Execution, persons_at_once
from trainables.models.backbones.hpi_gcn import DeployedGraphConv, MergedGraphConv, joint_bias
from trainables.models.layers import ConvBlock, GroupedJointMixing, JointMixing, Pointwise, bias_of
from trainables.models.multilevel import MultiLevel
from trainables.module_copies import module_copy
from trainables.reparam.fusible import frozen, frozen_conv

WORTH = 0.75
"""A block is made smaller if at most this share of its weights is left: picking a few channels out
takes longer than computing them.
"""


def compact(form: DeployForm) -> DeployForm | None:
    """A copy that computes hardly a channel in vain, equal up to the order of sums; None where that
    is not worth it.

    In every block that ends in one convolution over time, only the channels it reads are computed
    before it, and only those it writes by it; the others pass by. In HPI-GCN the graph convolution
    shrinks too, inputs, inner channels and outputs, its inner bias moving into a bias per channel
    and joint; of other graph convolutions the channels that are read are picked from the result.
    Single zeros make no channel useless: only whole channels do. The file of `save_deploy` is that
    of the form this was made of.
    """
    assert isinstance(form.blocks, nn.ModuleList)
    blocks = [_compact_block(block) for block in form.blocks]
    if all(found is block for found, block in zip(blocks, form.blocks, strict=True)):
        return None
    twin = module_copy(form)
    twin.blocks = module_copy(nn.ModuleList(blocks))
    twin.compact = True
    device = next(twin.parameters()).device
    # picking channels wants them apart in memory
    twin.arrange(Execution(at_once=persons_at_once(device)))
    if twin.frames is not None:
        twin.expect(twin.frames)
    return twin


def compact_form(form: DeployForm | MultiLevel) -> DeployForm | None:
    """See `compact`; None for networks of several levels, whose masks remove single weights."""
    return compact(form) if isinstance(form, DeployForm) else None


class Pick(nn.Module):
    """Some channels: (N, C, T, V) -> (N, number of them, T, V)."""

    channels: Tensor

    def __init__(self, channels: Tensor) -> None:
        """channels: their numbers, ascending."""
        super().__init__()
        self.register_buffer("channels", channels)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.channels)


def _pick(channels: Tensor, of: int) -> nn.Module:
    return nn.Identity() if len(channels) == of else Pick(channels)


class PartialConv(nn.Module):
    """total[:, written] += conv(x), in place: a convolution whose other outputs are zero."""

    written: Tensor

    def __init__(self, conv: nn.Conv2d, written: Tensor, outputs: int) -> None:
        """conv: without a bias; written: numbers of its outputs among `outputs` channels."""
        super().__init__()
        self.conv = conv
        self.all = len(written) == outputs
        self.register_buffer("written", written)

    def forward(self, total: Tensor, x: Tensor) -> Tensor:
        output = self.conv(x).to(total.dtype)  # they differ under autocast
        return total.add_(output) if self.all else total.index_add_(1, self.written, output)


class CompactBlock(nn.Module):
    """ReLU(conv(graph(x)) + bias + residual(x)): graph gives the channels that conv reads, conv the
    channels it writes.

    The result may be written into x, as in `ConvBlock`.
    """

    def __init__(self, graph: nn.Module, temporal: nn.Conv2d, residual: nn.Module) -> None:
        """graph: gives all channels; temporal: of all channels."""
        super().__init__()
        kernel = temporal.weight
        read, written = _used(kernel, 1), _used(kernel, 0)
        self.graph = _narrow_graph(graph, read)
        small = frozen_conv(
            _part(kernel, written, read),
            None,
            stride=temporal.stride[0],
            dilation=temporal.dilation[0],
            padding=temporal.padding,
        )
        self.temporal = PartialConv(small, written, len(kernel))
        self.residual = residual
        self.bias = frozen(bias_of(temporal)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        read = self.graph(x)
        total: Tensor = self.residual(x).add_(self.bias)
        return F.relu(self.temporal(total, read), inplace=True)


class NarrowGraphConv(nn.Module):
    """ReLU(W1 mixing(W0 x) + B + residual(x)) for some of its outputs, from some inputs and over
    some channels in between.

    W1 mixing(W0 x + b0) + b1 = W1 mixing(W0 x) + B with B[c, i] = sum_h W1[c, h] b0[h] sum_v A_h[i,
    v] + b1[c], so what masks left of an inner channel, its bias, needs no channel.
    """

    def __init__(
        self,
        embed: Tensor | None,
        mixing: nn.Module,
        expand: Tensor,
        bias_map: Tensor,
        residual: nn.Module,
        outputs: Tensor,
    ) -> None:
        """embed W0: (C, C_in, 1, 1), None: there is none; expand W1: (C_out, C, 1, 1); bias_map:
        (C_out, 1, V); outputs: the ones to give.
        """
        super().__init__()
        self.residual = _narrow_residual(residual, outputs, len(expand))
        expand, bias_map = expand[outputs], bias_map[outputs]
        written, inner = _used(expand, 0), _used(expand, 1)
        if embed is not None:
            inner = inner[_used(embed[inner], 0)]
        inputs = inner if embed is None else _used(embed[inner], 1)
        self.pick = _pick(inputs, expand.shape[1] if embed is None else embed.shape[1])
        self.embed = (
            nn.Identity() if embed is None else frozen_conv(_part(embed, inner, inputs), None)
        )
        self.mixing = _narrow_mixing(mixing, inner, expand.shape[1])
        self.expand = PartialConv(
            frozen_conv(_part(expand, written, inner), None), written, len(outputs)
        )
        self.bias_map = frozen(bias_map)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixing(self.embed(self.pick(x)))
        total = (
            x + self.bias_map
            if isinstance(self.residual, nn.Identity)
            else self.residual(x).add_(self.bias_map)
        )
        return F.relu(self.expand(total, mixed), inplace=True)


def _compact_block(block: nn.Module) -> nn.Module:
    """`block` itself where it is not worth it."""
    if not isinstance(block, ConvBlock) or block.temporal.groups > 1:
        return block
    small = CompactBlock(block.graph, block.temporal, block.residual)
    return small if _weights(small) <= WORTH * _weights(block) else block


def _weights(block: nn.Module) -> int:
    return sum(part.weight.numel() for part in block.modules() if isinstance(part, nn.Conv2d))


def _narrow_graph(graph: nn.Module, read: Tensor) -> nn.Module:
    if isinstance(graph, MergedGraphConv):
        bias_map = joint_bias(graph.inner_bias, bias_of(graph.conv), graph.mixing.matrix)
        return NarrowGraphConv(
            None, graph.mixing, graph.conv.weight, bias_map, graph.residual, read
        )
    if isinstance(graph, DeployedGraphConv):
        embed, expand = graph.embed, graph.expand
        reach = _reach(graph.mixing, expand.weight.shape[1])  # (C, V)
        bias_map = (
            torch.einsum("oh,hv->ov", expand.weight[:, :, 0, 0], bias_of(embed)[:, None] * reach)
            + bias_of(expand)[:, None]
        )
        return NarrowGraphConv(
            embed.weight, graph.mixing, expand.weight, bias_map[:, None], graph.residual, read
        )
    return nn.Sequential(graph, Pick(read))


def _reach(mixing: nn.Module, channels: int) -> Tensor:
    """sum_v A[i, v] of the adjacency of every channel: (C, V)."""
    if isinstance(mixing, JointMixing):
        return mixing.matrix.sum(dim=1).expand(channels, -1)
    assert isinstance(mixing, GroupedJointMixing)
    return mixing.matrices.sum(dim=2).repeat_interleave(channels // len(mixing.matrices), dim=0)


def _narrow_mixing(mixing: nn.Module, inner: Tensor, channels: int) -> nn.Module:
    """The mixing of channels `inner`; groups that are no longer equally large become one group for
    each channel.
    """
    if isinstance(mixing, JointMixing):
        return mixing
    assert isinstance(mixing, GroupedJointMixing)
    groups, joints, _ = mixing.matrices.shape
    members = torch.bincount(inner // (channels // groups), minlength=groups)
    narrow = GroupedJointMixing(groups, joints)
    equal = bool((members == members[0]).all()) and len(inner) > 0
    narrow.matrices = frozen(
        mixing.matrices if equal else mixing.matrices[inner // (channels // groups)]
    )
    return narrow


def _narrow_residual(residual: nn.Module, outputs: Tensor, of: int) -> nn.Module:
    """`residual`, an identity or a 1x1 convolution, for some of its outputs."""
    if isinstance(residual, Pointwise):
        kernel, stride = residual.conv.weight[outputs], residual.conv.stride[0]
        inputs = _used(kernel, 1)
        small = frozen_conv(kernel[:, inputs], bias_of(residual.conv)[outputs], stride=stride)
        return nn.Sequential(_pick(inputs, kernel.shape[1]), small)
    assert isinstance(residual, nn.Identity)
    return _pick(outputs, of)


def _used(kernel: Tensor, side: int) -> Tensor:
    """Numbers of the outputs (0) or inputs (1) that have a weight other than zero; at least one,
    for convolutions of none are not defined.
    """
    used = (kernel != 0).transpose(0, side).flatten(1).any(dim=1).nonzero().flatten()
    return used if len(used) else torch.zeros(1, dtype=torch.long, device=kernel.device)


def _part(kernel: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    return kernel[outputs][:, inputs]
