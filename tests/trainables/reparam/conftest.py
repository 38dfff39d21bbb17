"""Products of matrices both ways, on any processor."""

from __future__ import annotations

import pytest
import torch

from trainables.reparam import products


@pytest.fixture(params=["matmul", pytest.param("oneDNN", marks=pytest.mark.full)])
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
