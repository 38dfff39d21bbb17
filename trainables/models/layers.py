"""Layers the backbones share: input normalisation, input blocks, joint mixing, classifier. Knows no particular backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.reparam.fusible import Fusible
from trainables.reparam.kernels import sum_adjacency

COORDINATES = 3


class DataNorm(nn.BatchNorm1d):
    """BatchNorm over every (person, joint, coordinate) on its own, persons folded into samples: (N, 3, T, V, M) -> (N M, 3, T, V)."""

    def __init__(self, persons: int, joints: int) -> None:
        super().__init__(persons * joints * COORDINATES)
        self.persons = persons
        self.joints = joints

    def forward(self, input: Tensor) -> Tensor:
        clips, coordinates, frames, joints, persons = input.shape
        if (coordinates, joints, persons) != (COORDINATES, self.joints, self.persons):
            expected = f"(N, {COORDINATES}, T, {self.joints}, {self.persons})"
            raise ValueError(f"clips must have shape {expected}, got {tuple(input.shape)}")
        flat = input.permute(0, 4, 3, 1, 2).reshape(clips, persons * joints * coordinates, frames)
        normalised = super().forward(flat).view(clips, persons, joints, coordinates, frames)
        return normalised.permute(0, 1, 3, 4, 2).reshape(clips * persons, coordinates, frames, joints)


def displacement(x: Tensor, frames: int) -> Tensor:
    """x[t] - x[t - frames] along time (dim 2), zero where the other frame does not exist; `frames` may be negative. Shape kept."""
    distance = abs(frames)
    forward = x[:, :, distance:] - x[:, :, :-distance]
    return F.pad(forward, (0, 0, distance, 0)) if frames > 0 else F.pad(-forward, (0, 0, 0, distance))


class ExplicitMotion(nn.Module):
    """EMM: positions (C/2 channels) beside displacements to t-1, t-2, t+1, t+2 (C/8 channels each): (N, 3, T, V) -> (N, C, T, V).

    Each part is a biased 1x1 convolution -> BN -> LeakyReLU(0.1); as all are pointwise they are computed as one convolution of
    eight equal groups, of which the positions fill the first four (HPI-GCN, section 3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8 * COORDINATES, channels, 1, groups=8)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.cat([x, x, x, x, *(displacement(x, frames) for frames in (1, 2, -1, -2))], dim=1)
        return F.leaky_relu(self.bn(self.conv(parts)), 0.1, inplace=True)


class JointMixing(nn.Module):
    """One learned adjacency for all channels: y[c, t, i] = sum_v A[i, v] x[c, t, v]."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(joints, joints))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.matrix)


class ParallelJointMixing(Fusible):
    """n parallel adjacencies whose results are added; entries start as U[0.9, 1.1) (HPI-GC-RP). Deploys as one `JointMixing`.

    Mixing is linear, so the matrices are added first and one product is enough, in training too.
    """

    def __init__(self, matrices: int, joints: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.empty(matrices, joints, joints).uniform_(0.9, 1.1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, sum_adjacency(self.matrices))

    def fused_state(self) -> dict[str, Tensor]:
        return {"matrix": sum_adjacency(self.matrices)}


class GroupedJointMixing(nn.Module):
    """A learned adjacency per group of C/g contiguous channels, started at ones: y[c, t, i] = sum_v A[group(c), i, v] x[c, t, v]."""

    def __init__(self, groups: int, joints: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.ones(groups, joints, joints))

    def forward(self, x: Tensor) -> Tensor:
        groups, joints, _ = self.matrices.shape
        grouped = x.reshape(x.shape[0], groups, -1, joints)  # (N, g, C/g T, V)
        return torch.matmul(grouped, self.matrices.mT).view(x.shape)


class MeanClassifier(nn.Module):
    """Mean over frames, joints and persons, dropout, linear: (N M, C, T, V) -> (N, K). Weights start as N(0, 2 / K)."""

    def __init__(self, channels: int, *, classes: int, persons: int, dropout: float) -> None:
        super().__init__()
        self.persons = persons
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)
        nn.init.normal_(self.fc.weight, 0.0, (2.0 / classes) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.reshape(-1, self.persons, *x.shape[1:]).mean(dim=(1, 3, 4))
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits


def kaiming_fan_out(conv: nn.Conv2d) -> None:
    """Weights N(0, 2 / fan_out), bias 0 (He et al. 2015)."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
