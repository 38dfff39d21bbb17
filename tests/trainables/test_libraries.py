"""Which library multiplies matrices on a libraries."""

from __future__ import annotations

import pytest
import torch

from trainables import libraries


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
    monkeypatch.setattr(libraries, "_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for library in ("has_mkl", "_has_mkldnn"):
        monkeypatch.setattr(torch._C, library, True)
    assert libraries.mkl_lacks_avx512.__wrapped__() is lacks
    monkeypatch.setattr(torch._C, "has_mkl", False)
    assert not libraries.mkl_lacks_avx512.__wrapped__()


@pytest.mark.parametrize(
    ("described", "maker"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\n", "AuthenticAMD"),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n", "GenuineIntel"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", ""),
        (None, ""),
    ],
)
def test_the_maker_is_read(monkeypatch, tmp_path, described, maker):
    file = tmp_path / "cpuinfo"
    if described is not None:
        file.write_text(described)
    monkeypatch.setattr(libraries, "Path", lambda _: file)
    assert libraries._maker() == maker
