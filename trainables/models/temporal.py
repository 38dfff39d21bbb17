"""The temporal module of a block, by name: one convolution, Rep-TCN, or the multi-scale branches of
the family.
"""

from __future__ import annotations

from torch import nn

from trainables.models.backbone import NetworkSpec
from trainables.models.ms_tcn import MSTCN
from trainables.models.six_branch_tcn import GlobalSixBranchTCN, SixBranchTCN
from trainables.reparam.fusible import ConvBN
from trainables.reparam.merged import NormalisedRepTCN
from trainables.reparam.rep_tcn import RepTCN


def build_temporal(
    spec: NetworkSpec, channels: int, stride: int, *, bias: bool = True, relu: bool = False
) -> nn.Module:
    """(N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1, V), normalised, ready to be added to a
    residual.

    bias: of the single convolution (without effect behind its BatchNorm, but in the released
    checkpoints). relu: MS-TCN ends with one in some code bases. Single convolutions start as torch
    draws them; a backbone may draw them anew.
    """
    model = spec.model
    match model.temporal:
        case "conv":
            return ConvBN(
                channels, channels, kernel_size=model.kernel_size, stride=stride, bias=bias
            )
        case "rep_tcn":
            return NormalisedRepTCN(
                RepTCN(channels, model.kernel_size, model.branches, stride=stride), channels
            )
        case "ms_tcn":
            return MSTCN(channels, model.kernel_size, stride, relu=relu)
        case "ms_tcn6":
            return SixBranchTCN(channels, model.kernel_size, stride)
        case "dg_ms_tcn":
            return GlobalSixBranchTCN(channels, model.kernel_size, stride, joints=spec.joints)
