"""AA-GCN: adjacency matrices that adapt to every clip, and attention over joints, frames and
channels. Knows nothing of data or masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.adjacency import initial_adjacency
from trainables.models.backbone import Backbone, NetworkSpec
from trainables.models.backbones.ctr_gcn import unit
from trainables.models.layers import (
    Classifier,
    DataNorm,
    bias_of,
    residual_path,
    side_by_side,
    start_as_residual,
)
from trainables.models.mixing import mixed_by_each
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
from trainables.reparam.kernels import fuse_conv_bn

SQUEEZE = 4
"""theta and phi have C_out / 4 channels."""


class AdaptiveGraphConv(Deployable):
    """attention(ReLU(BN(sum_k W_k (x A'_k) + b_k) + residual(x))): (N, C_in, T, V) -> (N, C_out, T,
    V), (x A)[v] = sum_u x[u] A[u, v].

    A'_k = A_k + alpha S_k, where A_k is learned and S_k compares the joints of this very sample:
    S_k[u, v] = tanh(sum_{c, t} theta_k(x)[c, t, u] phi_k(x)[c, t, v] / (C' T)), theta and phi 1x1
    convolutions to C' = C_out / 4 channels. alpha starts at 0, BN's scale at 1e-6: a block starts
    as its residual (Shi et al. 2019, 2s-AGCN).
    """

    def __init__(self, adjacency: Tensor, inside: int, outside: int, *, attention: bool) -> None:
        """adjacency: (K, V, V), what A starts from."""
        super().__init__()
        subsets, joints, _ = adjacency.shape
        self.adjacency = nn.Parameter(adjacency)
        self.alpha = nn.Parameter(torch.zeros(1))
        # theta_1, phi_1, theta_2, phi_2, ...
        self.embed = nn.Conv2d(inside, 2 * subsets * (outside // SQUEEZE), 1)
        self.project = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(subsets))
        self.bn = BatchNorm2d(outside)
        self.residual = residual_path(inside, outside, 1)
        self.attention = STCAttention(outside, joints) if attention else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        for part in self.embed.weight.data.chunk(2 * len(self.project)):
            nn.init.kaiming_normal_(part, mode="fan_out")
        nn.init.zeros_(bias_of(self.embed))
        start_as_residual(self.project, self.bn, self.residual)

    def forward(self, x: Tensor) -> Tensor:
        mixed = mixed_by_similarity(x, self.embed(x), self.adjacency, self.alpha)
        out: Tensor = self.bn(F.conv2d(mixed, *side_by_side(self.project)))
        out += self.residual(x)
        attended: Tensor = self.attention(F.relu(out, inplace=True))
        return attended

    def deployed(self, folding: Folding) -> nn.Module:
        return (
            FoldedAdaptiveGraphConv(self, folding) if folding.across else plain_copy(self, folding)
        )

    def projection(self) -> tuple[Tensor, Tensor]:
        """All W_k side by side and sum_k b_k, BatchNorm included: kernel (C_out, K C_in, 1, 1),
        bias (C_out,).
        """
        kernel, bias = side_by_side(self.project)
        return fuse_conv_bn(kernel, batch_norm_state(self.bn), bias)


class FoldedAdaptiveGraphConv(nn.Module):
    """The deploy form: two convolutions, of which the second ends all subsets and holds the
    BatchNorm.
    """

    def __init__(self, trained: AdaptiveGraphConv, folding: Folding) -> None:
        super().__init__()
        self.adjacency = frozen(trained.adjacency)
        self.alpha = frozen(trained.alpha)
        self.embed = frozen_conv(trained.embed.weight, trained.embed.bias)
        self.project = frozen_conv(*trained.projection())
        self.residual = deployed(trained.residual, folding)
        self.attention = deployed(trained.attention, folding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(
            mixed_by_similarity(x, self.embed(x), self.adjacency, self.alpha)
        )
        out += self.residual(x)
        attended: Tensor = self.attention(F.relu(out, inplace=True))
        return attended


def mixed_by_similarity(x: Tensor, embedded: Tensor, adjacency: Tensor, alpha: Tensor) -> Tensor:
    """x (N, C, T, V) mixed by every A_k + alpha S_k: (N, K C, T, V), subset by subset.

    embedded: (N, 2 K C', T, V), theta_1, phi_1, theta_2, phi_2, ...; adjacency: (K, V, V); alpha:
    (1,).
    """
    clips, joints, subsets = x.shape[0], x.shape[3], len(adjacency)
    theta, phi = embedded.reshape(clips * subsets, 2, -1, joints).unbind(dim=1)  # (N K, C' T, V)
    similarity = torch.tanh(torch.bmm(theta.mT, phi) / theta.shape[1])
    matrices = adjacency + alpha * similarity.view(clips, subsets, joints, joints)
    return mixed_by_each(x, matrices)


class STCAttention(nn.Module):
    """Joints, then frames, then channels each scaled by 1 + sigmoid(gate): (N, C, T, V) -> same
    shape (Shi et al. 2020, MS-AAGCN).

    gates: a convolution over the joints of the mean over frames, one over the frames of the mean
    over joints, two linear layers of the mean over both. As gates only scale, each mean is that of
    the scaled input without the scaled input being formed.
    """

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        size = joints if joints % 2 else joints - 1
        self.joint = nn.Conv1d(channels, 1, size, padding=size // 2)
        self.frame = nn.Conv1d(channels, 1, 9, padding=4)
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)
        nn.init.xavier_normal_(self.joint.weight)
        nn.init.zeros_(self.frame.weight)
        nn.init.kaiming_normal_(self.squeeze.weight)
        nn.init.zeros_(self.excite.weight)
        for layer in (self.joint, self.frame, self.squeeze, self.excite):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        joint = 1 + torch.sigmoid(self.joint(x.mean(dim=2)))  # (N, 1, V)
        # (N, C, T)
        over_joints = torch.matmul(x.flatten(1, 2), joint.mT).view(x.shape[:3]) / x.shape[3]
        frame = 1 + torch.sigmoid(self.frame(over_joints))  # (N, 1, T)
        over_both = (over_joints * frame).mean(dim=2)  # (N, C)
        channel = 1 + torch.sigmoid(self.excite(F.relu(self.squeeze(over_both))))  # (N, C)
        return x * (channel[:, :, None] * frame)[..., None] * joint[:, :, None]


class AAGCN(Backbone):
    """Ten blocks of adaptive graph convolution and temporal convolution; every person's coordinates
    are normalised on their own.
    """

    kept = (
        "joint similarity (tanh of products of features) and, where it is on, attention over"
        " joints, frames and channels"
    )

    def __init__(self, spec: NetworkSpec) -> None:
        model = spec.model
        blocks = [
            unit(
                spec,
                AdaptiveGraphConv(
                    initial_adjacency(spec), inside, outside, attention=model.attention
                ),
                number,
            )
            for number, (inside, outside, _) in enumerate(model.block_plan)
        ]
        head = Classifier(model.width, spec.classes, model.dropout, std=0.01)
        super().__init__(
            spec, data_norm=DataNorm(spec.persons, spec.joints), blocks=blocks, head=head
        )
