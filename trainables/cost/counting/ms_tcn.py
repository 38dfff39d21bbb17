"""MS-TCN by arithmetic."""

from __future__ import annotations

from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import Tally


def count_ms_tcn(model: ModelConfig, tally: Tally, channels: int, before: int, frames: int) -> None:
    """Three 1x1 convolutions computed as one, two dilated convolutions, a normalised maximum, a
    strided 1x1 convolution.
    """
    width = channels // 4
    tally.conv_bn(channels, 3 * width, before, bias=True)
    for _ in range(2):
        tally.conv_bn(width, width, frames, taps=model.kernel_size, bias=True)
    tally.norm(width)
    tally.conv_bn(channels, width, frames, bias=True)
