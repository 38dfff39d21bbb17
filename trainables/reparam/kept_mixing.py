"""Joints mixed and convolved in one operation, in steps that compute with kept weights alone.

Between the two lies a map of K times the channels of the input. Written and read as a whole, six
times in a step, it costs more than what is computed with it. Here a few persons at a time go
through both; what lies between stays in the cache and is computed once more on the way back. Equal
to mixing and convolution by themselves but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.reparam.kept import (
    Arrangement,
    ConvOptions,
    WeightMask,
    pattern_in,
    torch_says_so,
)
from trainables.sparse.gradients import Pattern
from trainables.sparse.mixing import MIXED, matrices_gradient, mixed, rows_gradient
from trainables.sparse.rows import Numbers

AT_ONCE = 2
"""Persons that go through together."""


def mixed_pattern(
    x: Tensor, kernel: Tensor, mask: WeightMask | None, arrange: Arrangement
) -> Pattern | None:
    """What a step computes with of a 1x1 kernel that reads x, mixed by several matrices; None where
    it is dense, or joints are so many or few that mixing has no kernels.
    """
    if x.shape[3] not in MIXED:
        return None
    return pattern_in(mask, x, kernel, ConvOptions(), arrange)


def mixed_and_convolved(x: Tensor, matrices: Tensor, kernel: Tensor, pattern: Pattern) -> Tensor:
    """W [x A_1; ...; x A_K]: x (N, C, T, V), matrices (K, V, V), kernel W (C_out, K C, 1, 1) ->
    (N, C_out, T, V).
    """
    out: Tensor = _MixedConv.apply(x, matrices, kernel, pattern)  # type: ignore[no-untyped-call]
    return out


class _MixedConv(torch.autograd.Function):
    """As above; the kernel's gradient is zero where nothing is kept."""

    @staticmethod
    @torch_says_so()
    def forward(ctx: Any, x: Tensor, matrices: Tensor, kernel: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(x, matrices)
        ctx.pattern, ctx.shape = pattern, kernel.shape
        ctx.values = kernel.detach().reshape(-1).numpy()[pattern.places]
        given, threads = x.detach().numpy(), torch.get_num_threads()
        out = np.empty((len(given), len(kernel), *given.shape[2:]), given.dtype)
        for part in _parts(len(given)):
            mixes = _mixes(given[part], matrices, threads)
            out[part] = pattern(mixes, ctx.values, None, threads=threads)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    @torch_says_so()
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, matrices = ctx.saved_tensors
        pattern, threads = ctx.pattern, torch.get_num_threads()
        given, source = gradient.contiguous().numpy(), x.detach().numpy()
        samples, channels, frames, joints = source.shape
        of_x, of_matrices = ctx.needs_input_grad[:2]
        to_x = np.empty(source.shape if of_x else (0,), source.dtype)
        to_matrices = np.zeros(matrices.shape, source.dtype)
        to_values = np.zeros(len(pattern.places), source.dtype)
        for part in _parts(samples):
            mixes = _mixes(source[part], matrices, threads)
            to_values += pattern.weight_gradient(mixes, given[part], threads=threads)
            if not (of_x or of_matrices):
                continue
            of_mixes = pattern.input_gradient(given[part], ctx.values, frames, threads=threads)
            of_each = of_mixes.reshape(len(of_mixes), len(matrices), channels * frames, joints)
            if of_x:
                found = rows_gradient(of_each, matrices.detach().numpy(), threads=threads)
                to_x[part] = found.reshape(to_x[part].shape)
            if of_matrices:
                rows = source[part].reshape(-1, channels * frames, joints)
                to_matrices += matrices_gradient(rows, of_each, threads=threads)
        flat = np.zeros(ctx.shape.numel(), source.dtype)
        flat[pattern.places] = to_values
        return (
            torch.from_numpy(to_x) if of_x else None,
            torch.from_numpy(to_matrices) if of_matrices else None,
            torch.from_numpy(flat).view(ctx.shape),
            None,
        )


def _parts(samples: int) -> Iterator[slice]:
    return (slice(begin, begin + AT_ONCE) for begin in range(0, samples, AT_ONCE))


def _mixes(x: Numbers, matrices: Tensor, threads: int) -> Numbers:
    """(n, K C, T, V) of x (n, C, T, V)."""
    samples, channels, frames, joints = x.shape
    rows = x.reshape(samples, channels * frames, joints)
    found = mixed(rows, matrices.detach().numpy(), threads=threads)
    return found.reshape(samples, -1, frames, joints)
