"""How exactly the device computes. Knows torch only."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def full_float32() -> AbstractContextManager[None]:
    """Within: float32 convolutions are float32.

    GPUs round their inputs to ten bits otherwise (TF32).

    That rounding is larger than the training form and the deploy form may differ by, and a latency
    with it is not one of float32.
    """
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
