"""Products of matrices by either library against their definition."""

from __future__ import annotations

import pytest
import torch

from tests import naive_models
from trainables.reparam import products
from trainables.reparam.products import product, summed_products

WITHOUT = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN"
)


@pytest.fixture(params=["matmul", pytest.param("oneDNN", marks=WITHOUT)])
def either(request, monkeypatch):
    monkeypatch.setattr(products, "mkl_lacks_avx512", lambda: request.param == "oneDNN")


@pytest.mark.parametrize("most", [1, 3_000, 1_000_000])
@pytest.mark.parametrize("counts", [None, (1.0, 4.0, 2.0, 1.0, 3.0)])
@pytest.mark.usefixtures("either")
def test_products_of_samples_are_summed(counts, most, monkeypatch):
    monkeypatch.setattr(products, "MOST_VALUES", most)
    left = naive_models.random_clips(5, 2, 40, 31, seed=1).float()
    right = naive_models.random_clips(5, 2, 33, 37, seed=2).float()[..., 6:]
    often = None if counts is None else torch.tensor(counts)
    weights = torch.ones(5) if often is None else often
    expected = torch.einsum("n,ngmp,ngkp->gmk", weights.double(), left.double(), right.double())
    found = summed_products(left.clone(), right, often)
    assert (found - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.usefixtures("either")
def test_products_of_views(turned):
    """Rows with gaps between them, and matrices that are transposed."""
    left = naive_models.random_clips(2, 60, 70, seed=1).float()[:, 10:50, 10:60]
    right = naive_models.random_clips(2, 70, 70, seed=2).float()[:, 10:60, 5:55]
    right = right.mT if turned else right
    expected = torch.einsum("gmp,gnp->gmn", left.double(), right.double())
    assert (product(left, right) - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("change", [{"dtype": torch.float64}, {"rows": 31}, {"device": "meta"}])
def test_small_and_double_ones_and_those_elsewhere_are_multiplied_as_ever(change, monkeypatch):
    monkeypatch.setattr(products, "mkl_lacks_avx512", lambda: True)
    monkeypatch.delattr(products, "_linear")
    rows = change.get("rows", 40)
    where = {name: value for name, value in change.items() if name != "rows"}
    left = naive_models.random_clips(2, 1, rows, 9, seed=1).float().to(**where)
    found, expected = product(left[0], left[1]), left[0] @ left[1].mT
    summed, added = summed_products(left, left), (left @ left.mT).sum(dim=0)
    assert (found.shape, summed.shape) == (expected.shape, added.shape)
    if not left.is_meta:
        assert torch.equal(found, expected)
        assert torch.equal(summed, added)
