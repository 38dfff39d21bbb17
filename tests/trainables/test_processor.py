"""Which library multiplies matrices on a processor."""

from __future__ import annotations

import pytest
import torch

from trainables import processor


@pytest.mark.parametrize(
    ("maker", "capability", "lacks"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("", "AVX512", False),
    ],
)
def test_mkl_lacks_wide_vectors_on_processors_of_other_makers(
    monkeypatch, maker, capability, lacks
):
    monkeypatch.setattr(processor, "_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for library in ("has_mkl", "_has_mkldnn"):
        monkeypatch.setattr(torch._C, library, True)
    assert processor.mkl_lacks_avx512.__wrapped__() is lacks
    monkeypatch.setattr(torch._C, "has_mkl", False)
    assert not processor.mkl_lacks_avx512.__wrapped__()
