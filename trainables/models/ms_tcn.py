"""MS-TCN: the four temporal branches of CTR-GCN, InfoGCN and HD-GCN."""

from __future__ import annotations

from torch import Tensor, nn


class MSTCN(nn.Module):
    """placeholder"""

    def __init__(self, channels: int, kernel_size: int, stride: int, *, relu: bool) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
