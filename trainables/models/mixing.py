"""Joints mixed with adjacency matrices, one output for each matrix. Knows torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def mixed_by_each(x: Tensor, matrices: Tensor) -> Tensor:
    """y[n, k C + c, t, w] = sum_v x[n, c, t, v] A_k[v, w]: (N, C, T, V) -> (N, K C, T, V).

    matrices: (K, V, V), or (N, K, V, V) where every sample has its own.

    One broadcast product copies x for each matrix, and gives its gradient for each before they are
    added. On a CPU the products are taken one by one into their places: half the time, and x is
    kept for the backward pass once.
    """
    samples, channels, frames, joints = x.shape
    if not _one_by_one(x, matrices):
        rows = x.reshape(samples, 1, channels * frames, joints)
        return torch.matmul(rows, matrices).view(samples, -1, frames, joints)
    out: Tensor = _MixedByEach.apply(  # type: ignore[no-untyped-call]
        x.reshape(samples, channels * frames, joints), matrices
    )
    return out.view(samples, -1, frames, joints)


def _one_by_one(x: Tensor, matrices: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == matrices.dtype
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _MixedByEach(torch.autograd.Function):
    """rows (N, R, V), matrices (K, V, V) or (N, K, V, V) -> (N, K, R, V)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrices: Tensor) -> Tensor:
        ctx.save_for_backward(rows, matrices)
        out = rows.new_empty(len(rows), matrices.shape[-3], *rows.shape[1:])
        for sample, own, mixed in zip(rows, _of_samples(matrices, rows), out, strict=True):
            for matrix, part in zip(own, mixed, strict=True):
                torch.mm(sample, matrix, out=part)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """dx = sum_k dy_k A_k^T; dA_k = sum_n x_n^T dy_{n, k}, or without the sum."""
        rows, matrices = ctx.saved_tensors
        to_rows = to_matrices = None
        if ctx.needs_input_grad[0]:
            to_rows = torch.zeros_like(rows, memory_format=torch.contiguous_format)
            for into, own, given in zip(
                to_rows, _of_samples(matrices, rows), gradient, strict=True
            ):
                for matrix, part in zip(own, given, strict=True):
                    into.addmm_(part, matrix.mT)
        if ctx.needs_input_grad[1]:
            to_matrices = torch.zeros_like(matrices, memory_format=torch.contiguous_format)
            for sample, into, given in zip(
                rows, _of_samples(to_matrices, rows), gradient, strict=True
            ):
                for matrix, part in zip(into, given, strict=True):
                    matrix.addmm_(sample.mT, part)
        return to_rows, to_matrices


def _of_samples(matrices: Tensor, rows: Tensor) -> Tensor:
    """(N, K, V, V), without a copy."""
    return matrices if matrices.ndim == 4 else matrices.expand(len(rows), -1, -1, -1)
