"""HD-GCN: graph convolution layer by layer of a hierarchy of joints around a centre of mass.

Knows nothing of data or masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.graphs import centre_joint, hierarchical, hierarchy
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.backbones.ctr_gcn import unit
from trainables.models.layers import DataNorm, bias_of, kaiming_convs, residual_path
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
from trainables.reparam.fusion import Fusion
from trainables.reparam.kernels import fuse_conv_bn

PARTS = 4
"""Three subsets (a level itself, links outwards, links inwards) and an EdgeConv, of C / 4 channels
each.
"""

SUBSETS = PARTS - 1
SLOPE = 0.2
"""Of EdgeConv's LeakyReLU."""

NEAREST_JOINTS = 5
NEAREST_LAYERS = 3


class EdgeConv(Fusion):
    """max over the k nearest u of LeakyReLU(BN(W [x_u - x_v; x_v])): (N, G, C, P) -> (N, G, C, P),
    group by group (Wang et al. 2019, DGCNN).

    P points of C features, G groups with weights of their own; a point is the first of its own
    neighbours. As W [x_u - x_v; x_v] = W1 x_u + (W2 - W1) x_v, both products are made once per
    point instead of once per pair.
    """

    def __init__(self, channels: int, neighbours: int, *, groups: int = 1) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.conv = nn.Conv2d(
            2 * groups * channels, groups * channels, 1, groups=groups, bias=False
        )
        self.bn = BatchNorm2d(groups * channels)
        _stacked_he(self.conv, channels)

    def forward(self, x: Tensor) -> Tensor:
        theirs, own = _pairwise(x, self.masked_kernel(self.one_kernel()))
        # (N, G, C, P, k)
        pairs = at_neighbours(theirs, nearest(x, self.neighbours)) + own[..., None]
        out = F.leaky_relu(self.bn(pairs.flatten(1, 2)), SLOPE, inplace=True)
        return out.max(dim=3).values.reshape(x.shape)

    def deployed(self, folding: Folding) -> nn.Module:
        return FoldedEdgeConv(self) if folding.across else plain_copy(self, folding)

    def one_kernel(self) -> Tensor:
        return self.split(self.conv.weight)

    def parts(self) -> list[nn.Conv2d]:
        return [self.conv]

    def input_copies(self) -> int:
        return 2

    def split(self, kernel: Tensor) -> Tensor:
        """[W1; W2 - W1] of every group: (G C, 2 C, 1, 1) -> (2 G C, C, 1, 1)."""
        difference, own = kernel.reshape(self.conv.groups, -1, *kernel.shape[1:]).chunk(2, dim=2)
        return torch.cat([difference, own - difference], dim=1).flatten(0, 1)


class FoldedEdgeConv(nn.Module):
    """The deploy form: (x + b) and LeakyReLU grow with x, so the maximum is taken first, of the
    neighbours' products alone.

    BatchNorm's scale is in the weights: the maximum is taken behind it, whatever its sign.
    """

    def __init__(self, trained: EdgeConv) -> None:
        super().__init__()
        self.neighbours = trained.neighbours
        kernel, bias = fuse_conv_bn(trained.conv.weight, batch_norm_state(trained.bn))
        self.kernel = frozen(trained.masked_kernel(trained.split(kernel)))
        self.bias = frozen(bias.view(trained.conv.groups, -1, 1))

    def forward(self, x: Tensor) -> Tensor:
        theirs, own = _pairwise(x, self.kernel)
        own = own + self.bias
        return F.leaky_relu(
            at_neighbours(theirs, nearest(x, self.neighbours)).amax(dim=4) + own, SLOPE
        )


def _pairwise(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """W1 x and (W2 - W1) x, (N, G, C, P) each, as one grouped convolution."""
    groups, points = x.shape[1], x.shape[3]
    products = F.conv2d(x.flatten(1, 2).unsqueeze(2), kernel, groups=groups)  # (N, 2 G C, 1, P)
    theirs, own = products.reshape(x.shape[0], groups, 2, x.shape[2], points).unbind(dim=2)
    return theirs, own


@torch.no_grad()
def nearest(x: Tensor, neighbours: int) -> Tensor:
    """Numbers of the k points nearest to each, itself among them: (N, G, C, P) -> (N, G, P, k)."""
    # differences need the digits
    points = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return (
        torch.cdist(points.mT, points.mT)
        .topk(min(neighbours, x.shape[3]), dim=-1, largest=False, sorted=False)
        .indices
    )


def at_neighbours(x: Tensor, numbers: Tensor) -> Tensor:
    """x (N, G, C, P) at each point's neighbours, numbers (N, G, P, k): (N, G, C, P, k)."""
    wanted = numbers.flatten(2).unsqueeze(2).expand(-1, -1, x.shape[2], -1)
    return x.gather(3, wanted).view(*x.shape, numbers.shape[3])


class HierarchyAttention(nn.Module):
    """A-HA: how much every layer of the hierarchy counts in every channel, in (0, 1) (Lee et al.
    2023, HD-GCN).

    y_l, the maximum over time of layer l's output, goes through a 1x1 convolution to C / 4 channels
    with BatchNorm and ReLU and is averaged over the joints of the layer's two levels; EdgeConv
    between the layers; a 1x1 convolution back to C channels; sigmoid.
    """

    joints: Tensor

    def __init__(self, levels: Sequence[Sequence[int]], size: int, channels: int) -> None:
        """levels: joints by distance from the centre; size: V."""
        super().__init__()
        width = channels // PARTS
        members = torch.zeros(len(levels) - 1, size)
        for layer in range(len(members)):
            members[layer, [*levels[layer], *levels[layer + 1]]] = 1.0
        self.register_buffer("joints", members)
        self.reduce = ConvBN(channels, width, bias=True)
        self.edge = EdgeConv(width, NEAREST_LAYERS)
        self.expand = nn.Conv1d(width, channels, 1)
        _stacked_he(self.reduce.conv, width)

    def forward(self, y: Tensor) -> Tensor:
        """(N, L, C, V) -> (N, L, C)."""
        layers, size = self.joints.shape
        reduced = F.relu(self.reduce(y.flatten(0, 1).unsqueeze(2)), inplace=True).reshape(
            y.shape[0], layers, -1, size
        )
        # (N, L, C / 4)
        means = (reduced * self.joints[:, None]).sum(dim=3) / self.joints.sum(dim=1)[:, None]
        related = self.edge(means.mT.unsqueeze(1)).squeeze(1)
        return torch.sigmoid(self.expand(related)).mT


class HierarchicalGraphConv(Deployable):
    """HD-GC: ReLU(BN(sum_l a_l y_l) + residual(x)): (N, C_in, T, V) -> (N, C_out, T, V) (Lee et al.
    2023, HD-GCN).

    Layer l joins two adjacent levels of the hierarchy: z_l = ReLU(BN(1x1 convolution of x)) of
    C_out / 4 channels, and y_l stacks BN(W_ls (A_ls z_l) + b_ls) for three learned matrices s, (A
    z)[v] = sum_u A[v, u] z[u], and EdgeConv of z_l's mean over time, the same in every frame. a_l:
    A-HA's weights, or 1. BN's scale starts at 1e-6.

    All layers are computed as one: channels are ordered by layer, then subset. W and A commute, so
    W comes first.
    """

    def __init__(self, spec: NetworkSpec, inside: int, outside: int, *, attention: bool) -> None:
        super().__init__()
        centre, width = centre_joint(spec.model.centre, spec.parents), outside // PARTS
        adjacency = torch.tensor(
            hierarchical(spec.parents, centre), dtype=torch.get_default_dtype()
        )
        self.layers = layers = len(adjacency)
        self.adjacency = nn.Parameter(adjacency)  # (L, 3, V, V)
        self.reduce = ConvBN(inside, layers * width, bias=True)
        self.embed = nn.Conv2d(layers * width, layers * SUBSETS * width, 1, groups=layers)
        self.embed_bn = BatchNorm2d(layers * SUBSETS * width)
        self.edge = EdgeConv(width, NEAREST_JOINTS, groups=layers)
        self.attention = (
            HierarchyAttention(hierarchy(spec.parents, centre), spec.joints, outside)
            if attention
            else None
        )
        self.bn = BatchNorm2d(outside)
        self.residual = residual_path(inside, outside, 1)
        _stacked_he(self.reduce.conv, width)
        _stacked_he(self.embed, width)
        kaiming_convs(self.residual)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.reduce(x), inplace=True)
        mixed = (
            mixed_by_layer(z, self.embed.weight, self.adjacency)
            + bias_of(self.embed)[:, None, None]
        )
        linked = by_layer(self.embed_bn(mixed), self.layers)  # (N, L, 3 C / 4, T, V)
        edges = self.edge(by_layer(z.mean(dim=2), self.layers))  # (N, L, C / 4, V)
        if self.attention is None:
            linked, edge = linked.sum(dim=1), edges.sum(dim=1)
        else:
            # (N, L, C, 1)
            weights = self.attention(torch.cat([peaks(linked), edges], dim=2))[..., None]
            of_links, of_edges = torch.split(weights, [linked.shape[2], edges.shape[2]], dim=2)
            linked, edge = (linked * of_links[..., None]).sum(dim=1), (edges * of_edges).sum(dim=1)
        out: Tensor = self.bn(
            torch.cat([linked, edge.unsqueeze(2).expand(-1, -1, x.shape[2], -1)], dim=1)
        )
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        return (
            FoldedHierarchicalGraphConv(self, folding)
            if folding.across
            else plain_copy(self, folding)
        )

    def links(self) -> tuple[Tensor, Tensor]:
        """(kernel (3 L C / 4, C / 4, 1, 1), shift (L, 3 C / 4, 1)) of the subsets, BatchNorm
        included.
        """
        kernel, bias = fuse_conv_bn(
            self.embed.weight, batch_norm_state(self.embed_bn), self.embed.bias
        )
        return kernel, bias.view(self.layers, -1, 1)


class FoldedHierarchicalGraphConv(nn.Module):
    """The deploy form. A layer's shift adds a constant, so it is left out of the large tensors: a
    maximum or a weighted sum takes it later.
    """

    def __init__(self, trained: HierarchicalGraphConv, folding: Folding) -> None:
        super().__init__()
        kernel, shift = trained.links()
        bn = batch_norm_state(trained.bn)
        self.layers = trained.layers
        self.adjacency = frozen(trained.adjacency)
        self.reduce = deployed(trained.reduce, folding)
        self.edge = deployed(trained.edge, folding)
        self.attention = None if trained.attention is None else deployed(trained.attention, folding)
        self.residual = deployed(trained.residual, folding)
        # holds the weights, which `mixed_by_layer` reads
        self.embed = frozen_conv(kernel, None, groups=self.layers)
        self.link_shift = frozen(shift)
        self.scale = frozen(bn.scale[:, None])
        self.shift = frozen(bn.image_of_zero[:, None])

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.reduce(x), inplace=True)
        linked = by_layer(mixed_by_layer(z, self.embed.weight, self.adjacency), self.layers)
        edges = self.edge(by_layer(z.mean(dim=2), self.layers))
        if self.attention is None:
            weights = self.scale.expand(x.shape[0], self.layers, -1, -1)
        else:
            # (N, L, C, 1)
            weights = (
                self.attention(torch.cat([peaks(linked) + self.link_shift, edges], dim=2))[
                    ..., None
                ]
                * self.scale
            )
        of_links, of_edges = torch.split(weights, [linked.shape[2], edges.shape[2]], dim=2)
        constant = torch.cat(
            [
                (of_links * self.link_shift).sum(dim=1).expand(-1, -1, x.shape[3]),
                (of_edges * edges).sum(dim=1),
            ],
            dim=1,
        )
        out: Tensor = self.residual(x) + (constant + self.shift).unsqueeze(2)
        sums = out[:, : linked.shape[2]]
        for layer in range(self.layers):
            sums.addcmul_(linked[:, layer], of_links[:, layer, ..., None])
        return F.relu(out, inplace=True)


def mixed_by_layer(z: Tensor, kernel: Tensor, adjacency: Tensor) -> Tensor:
    """A_ls (W_ls z_l) for every layer and subset: (N, L C, T, V) -> (N, L S C, T, V).

    kernel: (L S C, C, 1, 1), W by layer and subset; adjacency: (L, S, V, V). Batched products take
    less time than a grouped convolution.
    """
    clips, _, frames, joints = z.shape
    layers, subsets = adjacency.shape[:2]
    # (N, L, S C, T V)
    embedded = torch.matmul(
        kernel.reshape(layers, -1, kernel.shape[1]), z.reshape(clips, layers, -1, frames * joints)
    )
    mixed = torch.matmul(
        embedded.view(clips, layers * subsets, -1, joints), adjacency.flatten(0, 1).mT
    )
    return mixed.view(clips, -1, frames, joints)


def by_layer(x: Tensor, layers: int) -> Tensor:
    """(N, L C, ...) -> (N, L, C, ...)."""
    return x.reshape(x.shape[0], layers, -1, *x.shape[2:])


def peaks(x: Tensor) -> Tensor:
    """Maximum over time: (N, L, C, T, V) -> (N, L, C, V).

    On the CPU the reduction takes 3 to 5 times as long as taking the larger of two (overlapping)
    halves again and again. Its gradient, which goes to one frame alone, takes an eighth of that of
    the halves.
    """
    if x.requires_grad or x.is_cuda or torch.compiler.is_compiling():
        return x.max(dim=3).values
    while (frames := x.shape[3]) > 1:
        half = (frames + 1) // 2
        x = torch.maximum(x[:, :, :, :half], x[:, :, :, frames - half :])
    return x.squeeze(3)


class HDGCN(Backbone):
    """Ten blocks of hierarchical graph convolution and temporal convolution; the first sums its
    layers without attention.
    """

    continuous = False
    kept = (
        "choice of nearest joints and layers, maxima over neighbours and time, weights of the"
        " hierarchy's layers (sigmoid)"
    )

    def __init__(self, spec: NetworkSpec) -> None:
        blocks = [
            unit(spec, HierarchicalGraphConv(spec, inside, outside, attention=number > 0), number)
            for number, (inside, outside, _) in enumerate(spec.model.block_plan)
        ]
        super().__init__(spec, data_norm=DataNorm(spec.persons, spec.joints), blocks=blocks)


def _stacked_he(conv: nn.Conv2d, outputs: int) -> None:
    """Weights N(0, 2 / outputs), bias 0: He's fan-out of each of the stacked 1x1 convolutions,
    which has `outputs` channels.
    """
    nn.init.normal_(conv.weight, 0.0, math.sqrt(2.0 / outputs))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
