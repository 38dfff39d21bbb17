"""The six temporal branches of ST-GCN++ and, with the mean over joints beside them, of DG-STGCN."""

from __future__ import annotations

from torch import Tensor, nn


class SixBranchTCN(nn.Module):
    """placeholder"""

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class GlobalSixBranchTCN(SixBranchTCN):
    """placeholder"""

    def __init__(self, channels: int, kernel_size: int, stride: int, *, joints: int) -> None:
        super().__init__(channels, kernel_size, stride)
