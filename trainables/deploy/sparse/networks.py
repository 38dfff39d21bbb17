"""Networks of graph and temporal convolutions as one program for kept weights: HPI-GCN and ST-GCN.

What they are made of besides is left to `modules`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.deploy.sparse.modules import steps_of
from trainables.models.backbones.hpi_gcn import DeployedGraphConv, MergedGraphConv
from trainables.models.backbones.st_gcn import FoldedSubsetGraphConv
from trainables.models.layers import (
    Block,
    ConvBlock,
    ExplicitMotion,
    GroupedJointMixing,
    JointMixing,
    Pointwise,
    displacement,
)
from trainables.sparse.convolution import SHAPES
from trainables.sparse.program import Compiled, Map, Program, Reads
from trainables.sparse.rows import Numbers, Rows


def fits(stem: nn.Module, blocks: nn.ModuleList) -> bool:
    """Whether `NetworkProgram` knows all of the parts."""
    known_stem = (
        isinstance(stem, nn.Identity)
        or (isinstance(stem, ExplicitMotion) and isinstance(stem.bn, nn.Identity))
        or _pointwise(stem)
    )
    return known_stem and all(_block_fits(block) for block in blocks)


def _block_fits(block: nn.Module) -> bool:
    if not (isinstance(block, ConvBlock) or (type(block) is Block and block.residual is None)):
        return False
    temporal, graph = block.temporal, block.graph
    return (
        type(temporal) is nn.Conv2d
        and steps_of(temporal) is not None
        and _residual_fits(block.residual)
        and isinstance(graph, MergedGraphConv | DeployedGraphConv | FoldedSubsetGraphConv)
        and _residual_fits(graph.residual)
        and (not isinstance(graph, DeployedGraphConv) or _mixing_fits(graph.mixing))
    )


def _mixing_fits(mixing: nn.Module) -> bool:
    return isinstance(mixing, JointMixing | GroupedJointMixing)


def _residual_fits(residual: nn.Module | None) -> bool:
    if residual is None or isinstance(residual, nn.Identity):
        return True
    return _pointwise(residual.conv if isinstance(residual, Pointwise) else residual)


def _pointwise(module: nn.Module) -> bool:
    """A 1x1 convolution; frames may be left out, joints not."""
    return (
        type(module) is nn.Conv2d
        and (module.kernel_size, module.padding) == ((1, 1), (0, 0))
        and (module.stride[1], module.groups) == (1, 1)
    )


class NetworkProgram(nn.Module):
    """(P, 3, T, V) -> (P, C', 1, 1): the mean over frames and joints of the last block, person by
    person, every one through the whole network before the next.
    """

    def __init__(self, stem: nn.Module, blocks: nn.ModuleList) -> None:
        """stem, blocks: those of a deploy form, which `fits`."""
        super().__init__()
        self.stem, self.blocks = stem, blocks
        self._programs: OrderedDict[tuple[int, int, str], Compiled] = OrderedDict()

    def forward(self, x: Tensor) -> Tensor:
        weight = next(self.blocks.parameters())
        parts = self._inputs(x.to(weight.dtype))
        program = self._program(parts.shape[1:])
        means = program(parts.numpy(), threads=torch.get_num_threads())
        return torch.from_numpy(means)[:, :, None, None]

    def _inputs(self, x: Tensor) -> Tensor:
        """What the stem's convolution reads."""
        if not isinstance(self.stem, ExplicitMotion):
            return x
        return torch.cat([x, *(displacement(x, frames) for frames in (1, 2, -1, -2))], dim=1)

    def _program(self, shape: torch.Size) -> Compiled:
        """That of clips (C, T, V), kept for some lengths."""
        channels, frames, joints = shape
        kind, sizes = _array(next(self.blocks.parameters())).dtype, dict[str, int]()
        key = (frames, joints, str(kind))
        if key not in self._programs:
            for _ in range(2):  # the first finds out how much memory each map needs
                program = Program(frames, joints, kind, sizes)
                source = program.map("input", channels, frames)
                result = _add_stem(program, self.stem, source)
                for number, block in enumerate(self.blocks):
                    result = _add_block(program, block, result, number)
                sizes = program.sizes
            self._programs[key] = program.finish(source, result)
            while len(self._programs) > SHAPES:
                self._programs.popitem(last=False)
        return self._programs[key]


def _array(tensor: Tensor) -> Numbers:
    found: Numbers = tensor.detach().numpy()
    return found


def _matrix(conv: nn.Conv2d) -> Numbers:
    """(C_out, C_in) of a 1x1 convolution."""
    return _array(conv.weight)[:, :, 0, 0]


def _bias(conv: nn.Conv2d) -> Numbers:
    return (
        np.zeros(conv.out_channels, _array(conv.weight).dtype)
        if conv.bias is None
        else _array(conv.bias)
    )


def _add_stem(program: Program, stem: nn.Module, source: Map) -> Map:
    if isinstance(stem, nn.Identity):
        return source
    convolution = stem.conv if isinstance(stem, ExplicitMotion) else stem
    assert isinstance(convolution, nn.Conv2d)
    kernel = convolution.weight.detach()[:, :, 0, 0]
    if isinstance(stem, ExplicitMotion):  # half of the outputs read positions, see there
        eighth = len(kernel) // 8
        pieces = torch.split(kernel, [4 * eighth, *[eighth] * 4])
        kernel = torch.block_diag(*pieces)  # type: ignore[no-untyped-call]
    out = program.map("even", len(kernel), source.frames)
    program.multiply([Reads.of(kernel.numpy(), source)], _bias(convolution), out, relu=False)
    if isinstance(stem, ExplicitMotion):
        program.leak(out)
    return out


def _add_block(program: Program, block: nn.Module, x: Map, number: int) -> Map:
    """ReLU(temporal(graph(x)) + residual(x))."""
    assert isinstance(block, ConvBlock | Block)
    temporal = block.temporal
    assert isinstance(temporal, nn.Conv2d)
    steps = steps_of(temporal)
    assert steps is not None
    spanned = steps.dilation * (temporal.kernel_size[0] - 1)
    frames = (x.frames + 2 * steps.padding - spanned - 1) // steps.stride + 1
    around = max(steps.padding, spanned - steps.padding)
    whole = steps.stride == 1
    graph = program.map("graph", temporal.in_channels, x.frames, around=around if whole else 0)
    _add_graph(program, block.graph, x, graph, number)
    parts = [graph]
    if not whole:
        parts = [
            program.map(
                f"phase {first}",
                temporal.in_channels,
                -(-(x.frames - first) // steps.stride),
                around=around // steps.stride + 2,
            )
            for first in range(steps.stride)
        ]
        for first, part in enumerate(parts):
            program.pick(graph, steps.stride, first, part)
    rows = Rows.of(np.ascontiguousarray(_array(temporal.weight)[..., 0]), temporal.groups)
    ahead = rows.taps * steps.dilation - steps.padding
    phase, shift = ahead % steps.stride, ahead // steps.stride
    reads = []
    for first, part in enumerate(parts):
        there = phase == first
        channels = rows.channels[there]
        places = part.at + channels * part.row + shift[there] * program.width
        reads.append(Reads(rows.owners[there], places, rows.values[there], channels, part))
    start, more, bias = _residual(program, block.residual, x)
    in_place = start is x and x.name != "input" and frames * program.width % program.tile == 0
    if in_place:  # every tile of it is read only where it is written
        out = x
    else:
        name = "even" if x.name != "even" else "odd"
        out = program.map(name, temporal.out_channels, frames)
    program.multiply([*reads, *more], _bias(temporal) + bias, out, start=start)
    return out


def _residual(
    program: Program, residual: nn.Module | None, x: Map
) -> tuple[Map | None, list[Reads], Any]:
    """What a sum starts with, what it reads besides, and the bias of that."""
    if residual is None:
        return None, [], 0.0
    if isinstance(residual, nn.Identity):
        return x, [], 0.0
    conv = residual.conv if isinstance(residual, Pointwise) else residual
    assert isinstance(conv, nn.Conv2d)
    stride = conv.stride[0]
    if stride > 1:
        kept = program.map("kept frames", x.channels, -(-x.frames // stride))
        program.pick(x, stride, 0, kept)
        x = kept
    return None, [Reads.of(_matrix(conv), x)], _bias(conv)


def _add_graph(program: Program, graph: nn.Module, x: Map, out: Map, number: int) -> None:
    """The three graph convolutions; every one ends as W m + residual(x) of mixed maps m."""
    if isinstance(graph, DeployedGraphConv):
        mixed, bias = _embedded(program, graph, x), _bias(graph.expand)
        reads = [Reads.of(_matrix(graph.expand), mixed)]
    elif isinstance(graph, MergedGraphConv):
        adjacency, bias = _array(graph.mixing.matrix), _bias(graph.conv)
        mixed = _mixed(program, x, _matrix(graph.conv), [adjacency.T])
        sums = program.constant(f"sums {number}", adjacency.sum(axis=1)[None], x.frames)
        inner = _array(graph.inner_bias)[:, None]
        reads = [Reads.of(_matrix(graph.conv), mixed), Reads.of(inner, sums)]
    else:
        assert isinstance(graph, FoldedSubsetGraphConv)
        matrices, bias = _array(graph.mixing.adjacency()), _bias(graph.conv)
        mixed = _mixed(program, x, _matrix(graph.conv), list(matrices))
        sums = program.constant(f"sums {number}", matrices.sum(axis=1), x.frames)
        reads = [Reads.of(_matrix(graph.conv), mixed), Reads.of(_array(graph.biases).T, sums)]
    residual = graph.residual
    assert residual is None or isinstance(residual, nn.Module)
    start, more, more_bias = _residual(program, residual, x)
    program.multiply([*reads, *more], bias + more_bias, out, start=start)


def _mixed(program: Program, x: Map, kernel: Numbers, matrices: list[Numbers]) -> Map:
    """Every channel mixed by each matrix, one matrix after the other, as far as the kernel reads
    it.
    """
    mixed = program.map("mixed", len(matrices) * x.channels, x.frames)
    numbers = [program.matrix(matrix) for matrix in matrices]
    read = (kernel != 0).any(axis=0).nonzero()[0].tolist()
    rows = [(c % x.channels, numbers[c // x.channels], c) for c in read]
    program.mix(x, mixed, rows, x.frames)
    return mixed


def _embedded(program: Program, graph: DeployedGraphConv, x: Map) -> Map:
    """mixing(W0 x + b0)."""
    channels = graph.embed.out_channels
    embedded = program.map("embedded", channels, x.frames)
    mixed = program.map("mixed", channels, x.frames)
    reads = [Reads.of(_matrix(graph.embed), x)]
    program.multiply(reads, _bias(graph.embed), embedded, relu=False)
    mixing = graph.mixing
    if isinstance(mixing, GroupedJointMixing):
        matrices = _array(mixing.matrices)
    else:
        assert isinstance(mixing, JointMixing)
        matrices = _array(mixing.matrix)[None]
    numbers = [program.matrix(matrix.T) for matrix in matrices]
    read = (_matrix(graph.expand) != 0).any(axis=0).nonzero()[0].tolist()
    rows = [(c, numbers[c * len(numbers) // channels], c) for c in read]
    program.mix(embedded, mixed, rows, x.frames)
    return mixed
