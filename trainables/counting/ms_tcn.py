"""placeholder"""

from __future__ import annotations

from trainables.contract.config import ModelConfig
from trainables.counting.tally import Tally


def count_ms_tcn(model: ModelConfig, tally: Tally, channels: int, before: int, frames: int) -> None:
    """placeholder"""
