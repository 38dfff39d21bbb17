"""Products of matrices both ways, on any processor."""

from __future__ import annotations

import pytest
import torch

from trainables.libraries import mkl_lacks_avx512
from trainables.reparam import products

WITHOUT = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN"
)
OTHER = {"matmul" if mkl_lacks_avx512() else "oneDNN": [pytest.mark.full]}
"""The one that this machine does not take."""


@pytest.fixture(
    params=[
        pytest.param("matmul", marks=OTHER.get("matmul", [])),
        pytest.param("oneDNN", marks=[WITHOUT, *OTHER.get("oneDNN", [])]),
    ]
)
def library(request, monkeypatch):
    """Which one multiplies matrices, small ones, too; in float64, which oneDNN has not, few samples
    at a time as it would.
    """
    one = request.param == "oneDNN"
    monkeypatch.setattr(products, "_by_onednn", lambda *_: one)
    by_onednn = products._linear
    monkeypatch.setattr(
        products,
        "_linear",
        lambda left, right: (
            left @ right.mT if left.dtype == torch.float64 else by_onednn(left, right)
        ),
    )
    monkeypatch.setattr(products, "MOST_VALUES", 500)
    return request.param
