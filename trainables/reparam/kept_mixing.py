"""Joints mixed and convolved in one operation, in steps that compute with kept weights alone.

Between the two lies a map of K times the channels of the input. Written and read as a whole, six
times in a step, it costs more than what is computed with it. Here a few persons at a time go
through both; what lies between stays in the cache and is computed once more on the way back. Equal
to mixing and convolution by themselves but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
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
from trainables.sparse.convolution import in_parts
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
        source, mixing = x.detach().numpy(), matrices.detach().numpy()
        out = np.empty((len(source), len(kernel), *source.shape[2:]), source.dtype)

        def run(part: slice, _number: int) -> None:
            out[part] = pattern(_mixes(source[part], mixing), ctx.values, None)

        _for_parts(run, len(source))
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    @torch_says_so()
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, matrices = ctx.saved_tensors
        pattern, mixing = ctx.pattern, matrices.detach().numpy()
        given, source = gradient.contiguous().numpy(), x.detach().numpy()
        samples, channels, frames, joints = source.shape
        of_x, of_matrices = ctx.needs_input_grad[:2]
        parts = -(-samples // AT_ONCE)
        to_x = np.empty(source.shape if of_x else (0,), source.dtype)
        to_matrices = np.zeros((parts, *matrices.shape), source.dtype)
        to_values = np.zeros((parts, len(pattern.places)), source.dtype)

        def run(part: slice, number: int) -> None:
            mixes = _mixes(source[part], mixing)
            to_values[number] = pattern.weight_gradient(mixes, given[part])
            if not (of_x or of_matrices):
                return
            of_mixes = pattern.input_gradient(given[part], ctx.values, frames)
            of_each = of_mixes.reshape(len(of_mixes), len(mixing), channels * frames, joints)
            if of_x:
                to_x[part] = rows_gradient(of_each, mixing).reshape(to_x[part].shape)
            if of_matrices:
                rows = source[part].reshape(-1, channels * frames, joints)
                to_matrices[number] = matrices_gradient(rows, of_each)

        _for_parts(run, samples)
        flat = np.zeros(ctx.shape.numel(), source.dtype)
        flat[pattern.places] = to_values.sum(axis=0)
        return (
            torch.from_numpy(to_x) if of_x else None,
            torch.from_numpy(to_matrices.sum(axis=0)) if of_matrices else None,
            torch.from_numpy(flat).view(ctx.shape),
            None,
        )


def _for_parts(run: Callable[[slice, int], None], samples: int) -> None:
    """`run` of every few persons and their number, each by one thread, so that how many there are
    changes no bit.
    """

    def run_some(numbers: slice) -> None:
        for number in range(numbers.start, numbers.stop):
            run(slice(number * AT_ONCE, (number + 1) * AT_ONCE), number)

    in_parts(run_some, -(-samples // AT_ONCE), torch.get_num_threads())


def _mixes(x: Numbers, matrices: Numbers) -> Numbers:
    """(n, K C, T, V) of x (n, C, T, V)."""
    samples, channels, frames, joints = x.shape
    found = mixed(x.reshape(samples, channels * frames, joints), matrices)
    return found.reshape(samples, -1, frames, joints)
