"""Products of matrices by the faster library of this processor. Knows torch and the rule for that.

MKL, which torch multiplies matrices by, has kernels with AVX-512 for Intel's processors alone:
others get those with AVX2, at half their speed. oneDNN, which convolves, has them for all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.libraries import mkl_lacks_avx512

LEAST_ROWS = 32
"""Of both matrices of a product by oneDNN: of smaller ones a call costs more than it gains
(measured).
"""
MOST_VALUES = 409_600
"""Of either matrix of a product by oneDNN: where samples are joined, more would not stay in the
cache of a core, and fewer are too little for a call (measured).
"""


def product(left: Tensor, right: Tensor) -> Tensor:
    """left right^T of each group, (g, m, p) and (g, n, p) -> (g, m, n). No gradient."""
    if not _by_onednn(left, right):
        return left @ right.mT
    return torch.stack([_linear(*both) for both in zip(left, right, strict=True)])


def summed_products(left: Tensor, right: Tensor, counts: Tensor | None = None) -> Tensor:
    """The sum over samples of left right^T, each as often as it is taken (N,), once by default: (N,
    g, m, p) and (N, g, n, p) -> (g, m, n). No gradient.

    A product of few samples at a time, whose results are added up, which rounds little.
    """
    if not _by_onednn(left, right):
        return total(left @ right.mT, counts)
    if counts is not None:
        left = left * counts[:, None, None, None]
    rows, positions = max(left.shape[2], right.shape[2]), left.shape[3]
    together = max(1, MOST_VALUES // (rows * positions))
    parts = [
        torch.stack(
            [
                _linear(_side_by_side(one), _side_by_side(other))
                for one, other in zip(few.unbind(1), others.unbind(1), strict=True)
            ]
        )
        for few, others in zip(
            torch.split(left, together), torch.split(right, together), strict=True
        )
    ]
    result = parts[0]
    for part in parts[1:]:
        result += part
    return result


def total(of_samples: Tensor, counts: Tensor | None) -> Tensor:
    """The sum over the first axis, each sample as often as it is taken; what is given is lost."""
    if counts is not None:
        of_samples *= counts.view(-1, *[1] * (of_samples.ndim - 1))
    return of_samples.sum(dim=0)


def _by_onednn(left: Tensor, right: Tensor) -> bool:
    return (
        left.device.type == "cpu"
        and left.dtype == torch.float32
        and min(left.shape[-2], right.shape[-2]) >= LEAST_ROWS
        and mkl_lacks_avx512()
    )


def _side_by_side(samples: Tensor) -> Tensor:
    """(N, m, p) -> (m, N p), in memory in this order."""
    return samples.transpose(0, 1).flatten(1).contiguous()


def _linear(left: Tensor, right: Tensor) -> Tensor:
    """left right^T of matrices."""
    # oneDNN is slow by far where there are gaps between the rows of the second
    dense = right.mT.contiguous().mT if right.stride(0) == 1 else right.contiguous()
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, dense, None, "none", [], "")
    return result
