"""InfoGCN: joints attend to each other in every frame; the classifier sees a compressed, noisy
code. Knows nothing of data or masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.layers import (
    COORDINATES,
    Block,
    by_person,
    kaiming_convs,
    residual_path,
    side_by_side,
    start_as_residual,
)
from trainables.models.onednn import rows_last
from trainables.models.temporal import build_temporal
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
from trainables.reparam.kernels import fuse_conv_bn

NOISE_RATIO = 0.5
"""The code's standard deviation is exp(NOISE_RATIO * log variance)."""

LARGEST_DEVIATION = 100.0

NO_ATTENTION = 1e-30
"""Attention beyond any precision counts as none: products of such numbers are subnormal, with which
a CPU takes twice as long.
"""

PRIOR_GAIN = 3.0
"""Length of the class priors (of their columns where there are more classes than latent
dimensions).
"""

LABEL_SMOOTHING = 0.1
CLASS_WEIGHT = 0.1
"""Of the distance between the classes' mean codes and their priors (lambda_2)."""

MEAN_WEIGHT = 1e-4
"""Of the length of the batch's mean code (lambda_1)."""


class JointEmbedding(Deployable):
    """BN(W x + b + position[v]), persons folded into samples: (N, 3, T, V, M) -> (N M, C, T, V).

    Position is learned and starts as N(0, 1). BatchNorm has statistics of its own for every
    (person, joint, channel).
    """

    def __init__(self, persons: int, joints: int, channels: int) -> None:
        super().__init__()
        self.persons = persons
        self.linear = nn.Linear(COORDINATES, channels)
        self.position = nn.Parameter(torch.randn(1, joints, channels))
        self.bn = nn.BatchNorm1d(persons * joints * channels)

    def forward(self, clips: Tensor) -> Tensor:
        joints, channels = self.position.shape[1:]
        # (N, M, V, T, 3)
        x = by_person(clips, persons=self.persons, joints=joints).permute(0, 1, 4, 3, 2)
        embedded = (
            self.linear(x.flatten(0, 3)).view(*x.shape[:4], channels) + self.position[0, :, None]
        )
        # (N, M V C, T)
        features: Tensor = self.bn(embedded.transpose(3, 4).reshape(x.shape[0], -1, x.shape[3]))
        return features.view(-1, joints, channels, x.shape[3]).permute(0, 2, 3, 1).contiguous()

    def deployed(self, folding: Folding) -> nn.Module:
        if not folding.across:
            return plain_copy(self, folding)
        joints, channels = self.position.shape[1:]
        bn = batch_norm_state(self.bn)
        # (M, V, C)
        scale, shift = (
            tensor.view(-1, joints, channels) for tensor in (bn.scale, bn.image_of_zero)
        )
        return AffineEmbedding(
            self.linear.weight, scale, shift + scale * (self.linear.bias + self.position)
        )


class AffineEmbedding(nn.Module):
    """scale * (W x) + shift with scale and shift per (person, joint, channel): (N, 3, T, V, M) ->
    (N M, C, T, V).

    One affine map per person and joint, kept in factors: fewer numbers than (M, V, C, 3), and
    faster.
    """

    def __init__(self, weight: Tensor, scale: Tensor, shift: Tensor) -> None:
        """weight: (C, 3); scale, shift: (M, V, C)."""
        super().__init__()
        self.persons = len(scale)
        self.conv = frozen_conv(weight[:, :, None, None], None)
        self.scale = frozen(scale.mT[:, :, None])  # (M, C, 1, V)
        self.shift = frozen(shift.mT[:, :, None])

    def forward(self, clips: Tensor) -> Tensor:
        x = by_person(clips, persons=self.persons, joints=self.scale.shape[-1])
        embedded = self.conv(x.flatten(0, 1)).unflatten(0, (-1, self.persons))
        return torch.addcmul(self.shift, embedded, self.scale).flatten(0, 1)


class SelfAttentionGraphConv(Deployable):
    """SA-GC: ReLU(BN(sum_h W_h (A_h x) + b_h) + residual(x)): (N, C_in, T, V) -> (N, C_out, T, V),
    (A x)[u] = sum_v A[u, v] x[v].

    A_h = topology_h * softmax_v(q_h k_h^T / sqrt(d)) in every frame, q and k linear in LayerNorm(x)
    with d = C_in / 8 features per head; the topology is learned, shared by all frames and starts as
    identity. BN's scale starts at 1e-6 (Chi et al. 2022, InfoGCN).
    """

    def __init__(self, heads: int, joints: int, inside: int, outside: int) -> None:
        super().__init__()
        self.topology = nn.Parameter(torch.eye(joints).repeat(heads, 1, 1))
        self.norm = nn.LayerNorm(inside)
        self.compare = nn.Linear(inside, 2 * heads * (inside // 8))  # q_1, ..., q_h, k_1, ..., k_h
        self.project = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(heads))
        self.bn = BatchNorm2d(outside)
        self.residual = residual_path(inside, outside, 1)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.compare.weight)
        start_as_residual(self.project, self.bn, self.residual)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(0, 2, 3, 1).contiguous()  # (N, T, V, C)
        query, key = self.compare(self.norm(frames).flatten(0, 2)).chunk(2, dim=1)
        query = query * (query.shape[1] // len(self.topology)) ** -0.5
        mixed = mixed_by_attention(frames, query, key, self.topology)
        kernel, bias = side_by_side(self.project)
        out: Tensor = self.bn(by_channel(F.linear(mixed, kernel[:, :, 0, 0], bias), x))
        out += self.residual(x)
        return F.relu(out, inplace=True)

    def deployed(self, folding: Folding) -> nn.Module:
        return (
            FoldedSelfAttentionGraphConv(self, folding)
            if folding.across
            else plain_copy(self, folding)
        )

    def projection(self) -> tuple[Tensor, Tensor]:
        """All W_h side by side and sum_h b_h, BatchNorm included: weight (C_out, h C_in), bias
        (C_out,).
        """
        kernel, bias = side_by_side(self.project)
        kernel, bias = fuse_conv_bn(kernel, batch_norm_state(self.bn), bias)
        return kernel[:, :, 0, 0], bias

    def comparison(self) -> tuple[Tensor, Tensor]:
        """(weight (2 h d, C), bias (2 h d,)) of q and k on (x - mean) / deviation: LayerNorm's
        scale and shift, and 1 / sqrt(d) in q.
        """
        weight, bias = (
            self.compare.weight * self.norm.weight,
            self.compare.bias + self.compare.weight @ self.norm.bias,
        )
        half = len(bias) // 2
        scale = (half // len(self.topology)) ** -0.5
        return torch.cat([weight[:half] * scale, weight[half:]]), torch.cat(
            [bias[:half] * scale, bias[half:]]
        )


class FoldedSelfAttentionGraphConv(nn.Module):
    """The deploy form: LayerNorm without scale and shift,
    BatchNorm inside the last linear layer.
    """

    def __init__(self, trained: SelfAttentionGraphConv, folding: Folding) -> None:
        super().__init__()
        self.eps = trained.norm.eps
        self.topology = frozen(trained.topology)
        self.compare_weight, self.compare_bias = map(frozen, trained.comparison())
        self.project_weight, self.project_bias = map(frozen, trained.projection())
        self.residual = deployed(trained.residual, folding)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(0, 2, 3, 1).contiguous()  # (N, T, V, C)
        normalised = F.layer_norm(frames, frames.shape[-1:], eps=self.eps).flatten(0, 2)
        query, key = F.linear(normalised, self.compare_weight, self.compare_bias).chunk(2, dim=1)
        mixed = mixed_by_attention(frames, query, key, self.topology)
        out = by_channel(F.linear(mixed, self.project_weight, self.project_bias), x)
        out += self.residual(x)
        return F.relu(out, inplace=True)


def mixed_by_attention(frames: Tensor, query: Tensor, key: Tensor, topology: Tensor) -> Tensor:
    """frames (N, T, V, C) mixed by topology * softmax(q k^T) head by head: (N T V, h C).

    query, key: (N T V, h d), the scale in either; topology: (h, V, V).
    """
    clips, length, joints, _ = frames.shape
    heads = len(topology)
    shape = (clips * length, joints, heads, query.shape[1] // heads)
    # (N T, h, V, V)
    scores = torch.matmul(
        query.reshape(shape).transpose(1, 2), key.reshape(shape).permute(0, 2, 3, 1)
    )
    attention = F.threshold(F.softmax(scores, dim=-1), NO_ATTENTION, 0.0)
    # (N T, V h, V): all heads of a joint side by side
    matrices = (attention * topology).transpose(1, 2).flatten(1, 2)
    return torch.bmm(matrices, frames.flatten(0, 1)).view(-1, heads * frames.shape[3])


def by_channel(rows: Tensor, x: Tensor) -> Tensor:
    """(N T V, C') -> (N, C', T, V), in memory as x (N, C, T, V) lies."""
    out = rows.view(x.shape[0], x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2)
    return out if rows_last(x) else out.contiguous()


class LatentClassifier(Deployable):
    """(N, C) -> logits (N, K) through a code z: hidden = dropout(ReLU(W x)), logits = D z (Chi et
    al. 2022, InfoGCN).

    Training: z = mu(hidden) + eps * min(exp(NOISE_RATIO * logvar(hidden)), 100), eps ~ N(0, 1);
    evaluation: z = mu(hidden).
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.mu = nn.Linear(channels, channels)
        self.logvar = nn.Linear(channels, channels)
        self.decoder = nn.Linear(channels, classes)
        for layer in (self.hidden, self.mu, self.logvar):
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2.0))
        nn.init.normal_(self.decoder.weight, 0.0, math.sqrt(2.0 / classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.code(x))
        return logits

    def code(self, x: Tensor) -> Tensor:
        """z (N, C)."""
        hidden = self.dropout(F.relu(self.hidden(x)))
        mu: Tensor = self.mu(hidden)
        if not self.training:
            return mu
        deviation = torch.exp(NOISE_RATIO * self.logvar(hidden)).clamp(max=LARGEST_DEVIATION)
        return mu + torch.randn_like(deviation) * deviation

    def deployed(self, folding: Folding) -> nn.Module:
        """Without noise mu and decoder are one linear layer; the variance is not needed."""
        if not folding.across:
            twin = plain_copy(self, folding)
            del twin.logvar
            return twin
        weight, bias = (
            self.decoder.weight @ self.mu.weight,
            self.decoder.bias + self.decoder.weight @ self.mu.bias,
        )
        return nn.Sequential(
            _frozen_linear(self.hidden.weight, self.hidden.bias),
            nn.ReLU(),
            _frozen_linear(weight, bias),
        )


class InfoGCN(Backbone):
    """Joint embedding, nine blocks of SA-GC and temporal convolution, a noisy code before the
    classifier.
    """

    never_learns = ("logvar",)
    kept = "attention between joints (softmax of products of features), LayerNorm's division"

    head: LatentClassifier
    priors: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        model = spec.model
        blocks = [
            Block(
                graph=SelfAttentionGraphConv(model.subsets, spec.joints, inside, outside),
                temporal=build_temporal(spec, outside, stride, relu=True),
                residual=residual_path(inside, outside, stride),
            )
            for inside, outside, stride in model.block_plan
        ]
        for block in blocks:
            for part in (block.residual, block.temporal):
                if isinstance(part, ConvBN):
                    kaiming_convs(part)
        super().__init__(
            spec,
            data_norm=JointEmbedding(spec.persons, spec.joints, model.channels),
            blocks=blocks,
            head=LatentClassifier(model.width, spec.classes, model.dropout),
        )
        self.register_buffer(
            "priors", nn.init.orthogonal_(torch.empty(spec.classes, model.width), gain=PRIOR_GAIN)
        )

    def head_objective(
        self, head: nn.Module, features: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy with smoothed labels + lambda_2 (distance of class means to priors) +
        lambda_1 ||batch mean of z||.
        """
        assert isinstance(head, LatentClassifier)
        code = head.code(features)
        logits: Tensor = head.decoder(code)
        z = code.float()
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        loss = (
            loss
            + CLASS_WEIGHT * class_distance(z, labels, self.priors)
            + MEAN_WEIGHT * torch.linalg.vector_norm(z.mean(dim=0))
        )
        return loss, logits


def class_distance(z: Tensor, labels: Tensor, priors: Tensor) -> Tensor:
    """Mean squared difference between a class's mean code and its prior, over the classes in the
    batch and the latent dimensions.

    z: (N, C); labels: (N,); priors: (K, C). Shapes do not depend on the labels, nothing is read
    from the device.
    """
    counts = z.new_zeros(len(priors)).index_add(0, labels, z.new_ones(len(z)))
    means = (
        torch.zeros_like(priors, dtype=z.dtype).index_add(0, labels, z)
        / counts.clamp(min=1.0)[:, None]
    )
    present = counts > 0
    squared = (means - priors).square().mean(dim=1)  # (K,)
    return torch.where(present, squared, 0.0).sum() / present.sum()


def _frozen_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Draws no random number."""
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = frozen(weight), frozen(bias)
    return linear
