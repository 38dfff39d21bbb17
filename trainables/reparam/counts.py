"""BatchNorm of samples of which each stands for several equal ones.

Knows torch alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Counts:
    """How many equal samples each sample of the running forward pass stands for: one object per
    network, held by its modules that make batch statistics.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None  # (P,), float32; None: every sample stands for itself
        self.total = 0  # their sum

    @contextmanager
    def of(self, value: Tensor, total: int) -> Iterator[None]:
        """Within, samples count `value` (P,) times, `total` in all, which spares a look at the
        device.
        """
        self.value, self.total = value, total
        try:
            yield
        finally:
            self.value = None

    def per_row(self, rows: int) -> Tensor:
        """(rows,): the same where a module sees every sample as several rows, one behind the
        other.
        """
        assert self.value is not None
        copies, left = divmod(rows, len(self.value))
        assert left == 0, f"{rows} rows must be the same number for each of {len(self.value)}"
        return self.value if copies == 1 else self.value.repeat_interleave(copies)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, whose statistics in training count every sample as often as `counts` says."""

    counts: Counts | None = None

    def forward(self, input: Tensor) -> Tensor:
        counts = self.counts
        if not self.training or counts is None or counts.value is None:
            return super().forward(input)
        # persons times frames times joints of the whole batch
        total = counts.total * (input.numel() // input.shape[1]) // len(counts.value)
        per_row = counts.per_row(len(input))
        mean, var = counted_moments(input.detach(), per_row, total)
        self.follow(mean, var, total)
        out: Tensor = _CountedBatchNorm.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, mean, var, per_row, total, self.eps
        )
        return out

    @torch.no_grad()
    def follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch of so many values per channel: mean
        and biased variance, (C,) each. ValueError where one is all there is, as torch's.
        """
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got {count}")
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = var * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


def counted_moments(x: Tensor, counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of x (P, C, T, V) with sample p taken counts[p] times; total:
    sum of the counts times T V.

    Float32 at least. The variance is a sum of squares, so it is never negative.
    """
    precise = x if x.dtype == torch.float64 else x.float()
    weights = counts.to(precise.dtype)[:, None] / total  # (P, 1)
    # not a product of matrices, which autocast would round
    mean = (weights * precise.sum(dim=(2, 3))).sum(dim=0)
    # a norm is read in one pass, squares would be written first
    lengths = torch.linalg.vector_norm(precise - mean[:, None, None], dim=(2, 3))  # (P, C)
    return mean, (weights * lengths.square()).sum(dim=0)


class _CountedBatchNorm(torch.autograd.Function):
    """gamma (x - mean) / sqrt(var + eps) + beta, mean and var being those of x itself.

    Gradients g of the outputs are sums over the samples that each stands for: with h = (x - mean) /
    sqrt(var + eps), dx[p] = gamma / sqrt(var + eps) (g[p] - counts[p] (sum g + h[p] sum g h) /
    total).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        counts: Tensor,
        total: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, counts)
        ctx.total, ctx.eps = total, eps
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, counts = ctx.saved_tensors
        # as if mean and var were constants: gamma / sqrt(var + eps) g, sum g h, sum g
        dx, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        scale = -weight * torch.rsqrt(var + ctx.eps) / ctx.total  # (C,)
        through_moments = torch.batch_norm(
            x, scale * of_weight, scale * of_bias, mean, var, False, 0.0, ctx.eps, False
        )
        dx.addcmul_(through_moments, counts.to(dx.dtype)[:, None, None, None])
        return dx, of_weight, of_bias, None, None, None, None, None
