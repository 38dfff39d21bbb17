"""Which library multiplies matrices on this processor. Knows torch only."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


@cache
def mkl_lacks_avx512() -> bool:
    """Whether torch's float32 products (MKL's) use half the width of this processor's vectors and
    oneDNN's all of it: AVX-512 of another maker than Intel, such as AMD's from Zen 4 on.

    A rule and no measurement, so that the same machine always computes the same way.
    """
    return (
        torch._C.has_mkl
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and _maker() not in ("", "GenuineIntel")
    )


def _maker() -> str:
    """Of the processor, as Linux tells it; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    makers = [line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")]
    return makers[0] if makers else ""
