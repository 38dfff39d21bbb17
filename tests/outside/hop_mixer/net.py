"""HopMixer: fixed matrices of the skeleton's hops, a 1x1 convolution, a temporal module."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hop_mixer.card import HopOptions
from trainables.graphs import distances
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import Block, DataNorm, residual_path
from trainables.models.temporal import build_temporal
from trainables.reparam.fusible import ConvBN


class HopConv(nn.Module):
    """ReLU(BN(W [x; A_1 x; ...; A_H x])): (N, C_in, T, V) -> (N, C_out, T, V).

    Row i of A_h is the mean over the joints h links from joint i.
    """

    def __init__(self, spec: NetworkSpec, hops: int, inside: int, outside: int) -> None:
        super().__init__()
        far = np.stack([distances(spec.parents, joint) for joint in range(spec.joints)])
        links = np.stack([far == hop for hop in range(1, hops + 1)]).astype(float)
        means = links / np.maximum(links.sum(axis=2, keepdims=True), 1)
        self.register_buffer("matrices", torch.tensor(means, dtype=torch.get_default_dtype()))
        self.project = ConvBN((hops + 1) * inside, outside)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x, *(F.linear(x, matrix) for matrix in self.matrices)], dim=1)
        return F.relu(self.project(seen), inplace=True)


class HopMixer(Backbone):
    """Blocks of hop convolution and temporal module, mean, classifier."""

    def __init__(self, spec: NetworkSpec) -> None:
        hops = HopOptions.model_validate(spec.model.options).hops
        blocks = [
            Block(
                graph=HopConv(spec, hops, inside, outside),
                temporal=build_temporal(spec, outside, stride),
                residual=residual_path(inside, outside, stride) if number else None,
            )
            for number, (inside, outside, stride) in enumerate(spec.model.block_plan)
        ]
        super().__init__(spec, data_norm=DataNorm(spec.persons, spec.joints), blocks=blocks)
