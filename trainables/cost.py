"""What a built network costs, measured: parameters, non-zero weights, latency. Knows torch modules, no configuration."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.precision import full_float32

WARMUP_CALLS = 5
TIMED_CALLS = 30


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers of the module."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_zeros(blocks: Sequence[nn.Module]) -> tuple[int, int]:
    """(weights, exact zeros among them) over the 2-D convolutions of the blocks, masks applied."""
    weights = [module.weight.detach() for block in blocks for module in block.modules() if isinstance(module, nn.Conv2d)]
    return sum(w.numel() for w in weights), sum(int((w == 0).sum()) for w in weights)


@torch.inference_mode()
def latency_ms(model: nn.Module, clip: Tensor) -> float:
    """Median milliseconds of one forward pass of `clip` (N, C, T, V, M) in full float32, after warm-up; the device is drained around each call.

    Whatever else runs on the device runs beside it: figures to publish are measured on an idle one.
    """
    model.eval()
    times = []
    with full_float32():
        for _ in range(WARMUP_CALLS + TIMED_CALLS):
            _drain(clip.device)
            started = time.perf_counter()
            model(clip)
            _drain(clip.device)
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[WARMUP_CALLS:])


def device_name(device: torch.device) -> str:
    """The card's or the processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} CPU"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
