"""HPI-GCN: re-parameterised (RP) and over-parameterised (OP) graph convolution with Rep-TCN. Knows nothing of data or masks.

Inside the network a clip of M persons is M samples: x is (N M, C, T, V).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.backbone import Backbone, Form, NetworkSpec
from trainables.models.layers import COORDINATES, ExplicitMotion, GroupedJointMixing, kaiming_fan_out
from trainables.reparam.fusible import temporal_conv

GraphConvBuilder = Callable[[NetworkSpec, Form, int, int], "GraphConv"]


class GraphConv(nn.Module):
    """ReLU(expand(mixing(embed(x))) + residual(x)): a 1x1 convolution, learned joint mixing, a 1x1 convolution with BatchNorm.

    No skeleton prior: which joints exchange features is learned from the start.
    """

    def __init__(self, embed: nn.Conv2d, mixing: nn.Module, expand: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.mixing = mixing
        self.expand = expand
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand(self.mixing(self.embed(x)))
        out += self.residual(x)
        return F.relu(out, inplace=True)


def rp_graph_conv(spec: NetworkSpec, form: Form, inside: int, outside: int) -> GraphConv:
    """HPI-GC-RP: n parallel adjacency matrices for all channels, one at inference. He initialisation, residual included."""
    graph = GraphConv(
        embed=temporal_conv(inside, inside),
        mixing=form.mixing(spec.model.adjacencies, spec.joints),
        expand=form.conv_bn(inside, outside, 1),
        residual=_residual(form, inside, outside, 1),
    )
    for module in graph.modules():
        if isinstance(module, nn.Conv2d):
            kaiming_fan_out(module)
    return graph


def op_graph_conv(spec: NetworkSpec, form: Form, inside: int, outside: int) -> GraphConv:
    """HPI-GC-OP: an adjacency per channel group, the same in training and at inference. He initialisation of its two convolutions."""
    embed, project = temporal_conv(inside, inside), temporal_conv(inside, outside)
    kaiming_fan_out(embed)
    kaiming_fan_out(project)
    return GraphConv(
        embed=embed,
        mixing=GroupedJointMixing(spec.model.groups, spec.joints),
        expand=nn.Sequential(OrderedDict(conv=project, bn=nn.BatchNorm2d(outside))),
        residual=_residual(form, inside, outside, 1),
    )


class Block(nn.Module):
    """ReLU(BN(temporal(graph(x))) + residual(x)): (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V).

    The graph convolution changes the width, the temporal one the length. The last BatchNorm stays in the deploy form,
    as in the released network.
    """

    def __init__(self, graph: GraphConv, temporal: nn.Module, bn: nn.BatchNorm2d, residual: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.temporal = temporal
        self.bn = bn
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.temporal(self.graph(x)))
        out += self.residual(x)
        return F.relu(out, inplace=True)


class HPIGCN(Backbone):
    """Stem (EMM, or a 1x1 convolution for bone streams), blocks of graph and temporal convolution, mean, classifier."""

    def __init__(self, spec: NetworkSpec, form: Form, graph_conv: GraphConvBuilder) -> None:
        model = spec.model
        stem = ExplicitMotion(model.channels) if model.input_block == "emm" else form.conv_bn(COORDINATES, model.channels, 1)
        blocks: list[nn.Module] = [
            Block(
                graph=graph_conv(spec, form, inside, outside),
                temporal=form.temporal(outside, model.kernel_size, stride),
                bn=nn.BatchNorm2d(outside),
                residual=_residual(form, inside, outside, stride),
            )
            for inside, outside, stride in model.block_plan
        ]
        super().__init__(spec, stem=stem, blocks=blocks, channels=model.block_plan[-1][1])


class HPIGCNRP(HPIGCN):
    """HPI-GCN-RP: everything in a block but the embedding and the last BatchNorm is re-parameterised."""

    def __init__(self, spec: NetworkSpec, form: Form) -> None:
        super().__init__(spec, form, rp_graph_conv)


class HPIGCNOP(HPIGCN):
    """HPI-GCN-OP: grouped joint mixing is kept at inference, the temporal and residual branches are re-parameterised."""

    def __init__(self, spec: NetworkSpec, form: Form) -> None:
        super().__init__(spec, form, op_graph_conv)


def _residual(form: Form, inside: int, outside: int, stride: int) -> nn.Module:
    """The input itself where shapes agree, otherwise a strided 1x1 convolution with BatchNorm."""
    return nn.Identity() if inside == outside and stride == 1 else form.conv_bn(inside, outside, stride)
