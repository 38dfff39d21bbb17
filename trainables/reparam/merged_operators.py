"""The operators of merged training that save little: quadratic forms of kernels, and a convolution
with constants of its own near the ends of time and for each sample, and a kernel gradient that
rounds little. Knows torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.reparam.gram import Centre, Window
from trainables.reparam.products import product, summed_products


def quadratic_forms(
    matrix: Tensor, size: int, kernels: Sequence[Tensor], spreads: Sequence[int]
) -> tuple[Tensor, ...]:
    """w M w^T of every row w of every kernel: (g, o) each.

    matrix: M (g, size c, size c), symmetric, tap by tap. kernels: (g, o, k, c), k centred taps; one
    with a spread of s has k = 1 and stands at each of s centred taps.
    """
    forms: tuple[Tensor, ...] = _QuadraticForms.apply(  # type: ignore[no-untyped-call]
        matrix, size, tuple(spreads), *kernels
    )
    return forms


class _QuadraticForms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, size: int, spreads: tuple[int, ...], *kernels: Tensor
    ) -> tuple[Tensor, ...]:
        saved, forms = [], []
        for kernel, spread in zip(kernels, spreads, strict=True):
            rows = kernel.flatten(2)
            part = _middle(matrix, size, kernel.shape[2] * spread)
            part = part if spread == 1 else _blocks(part, spread).sum(dim=(1, 3))
            seen = product(rows, part.mT)
            saved += [rows, seen]
            forms.append(torch.linalg.vecdot(seen, rows))
        ctx.save_for_backward(*saved)
        ctx.size, ctx.spreads, ctx.shape = size, spreads, matrix.shape
        ctx.shapes = [kernel.shape for kernel in kernels]
        return tuple(forms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_forms: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        of_matrix = saved[0].new_zeros(ctx.shape)
        of_kernels = []
        for number, (spread, shape) in enumerate(zip(ctx.spreads, ctx.shapes, strict=True)):
            rows, seen = saved[2 * number : 2 * number + 2]
            weight = of_forms[number][..., None]
            of_kernels.append((seen * (2 * weight)).view(shape))
            of_part = product((rows * weight).mT, rows.mT)
            part = _middle(of_matrix, ctx.size, shape[2] * spread)
            if spread == 1:
                part += of_part
            else:
                _blocks(part, spread).add_(of_part[:, None, :, None])
        return of_matrix, None, None, *of_kernels


def _middle(matrix: Tensor, size: int, taps: int) -> Tensor:
    """The rows and columns of so many centred taps, a view."""
    channels = matrix.shape[1] // size
    first = (size - taps) // 2 * channels
    kept = slice(first, first + taps * channels)
    return matrix[:, kept, kept]


def _blocks(part: Tensor, taps: int) -> Tensor:
    """(g, taps c, taps c) -> (g, taps, c, taps, c), a view."""
    channels = part.shape[1] // taps
    return part.view(len(part), taps, channels, taps, channels)


def products_by_tap(kernel: Tensor, vectors: Tensor) -> Tensor:
    """Kernel (g, o, k, c) by vectors (g, c, n), tap by tap, in float64: (g, o, k, n).

    They say how far apart samples lie, of which the square is in a variance: in float32 a sum of
    products rounds four times as much as the mean of a whole batch does.
    """
    result: Tensor = _ProductsByTap.apply(kernel, vectors)  # type: ignore[no-untyped-call]
    return result


class _ProductsByTap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(kernel, vectors)
        product = kernel.flatten(1, 2).double() @ vectors.double()
        return product.view(*kernel.shape[:3], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        kernel, vectors = ctx.saved_tensors
        upstream = gradient.flatten(1, 2)
        of_kernel = (upstream @ vectors.double().mT).to(kernel.dtype).view(kernel.shape)
        of_vectors = kernel.flatten(1, 2).double().mT @ upstream
        return of_kernel, of_vectors.to(vectors.dtype)


def bordered_conv(
    x: Tensor,
    y: Tensor,
    centre: Centre,
    kernel: Tensor,
    constants: Tensor,
    levels: Tensor,
    window: Window,
) -> Tensor:
    """The convolution of y, which is x without its centre, by kernel (C_out, C / g, K, 1) over
    time, zeros beyond the ends, plus constants + `centre.along` levels, both (C_out, T').

    It works in the kernel's dtype. Constants and levels are float64, and so are their gradients:
    where samples lie far apart, these are large, and the statistics take nearly all of them back.
    The gradient to x is through y; none flows to the centre. Of x alone a reference is kept.
    """
    result: Tensor = _BorderedConv.apply(  # type: ignore[no-untyped-call]
        x, y, centre.shift, centre.direction, centre.along, kernel, constants, levels, window
    )
    return result


class _BorderedConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        shift: Tensor,
        direction: Tensor,
        along: Tensor,
        kernel: Tensor,
        constants: Tensor,
        levels: Tensor,
        window: Window,
    ) -> Tensor:
        ctx.save_for_backward(x, shift, direction, along, kernel)
        ctx.window = window
        result = torch.conv2d(
            y.to(kernel.dtype),
            kernel,
            None,
            (window.stride, 1),
            (window.reach, 0),
            (1, 1),
            window.groups,
        )
        added = torch.addcmul(constants, along[:, None, None], levels)  # (N, C_out, T')
        result += added.to(result.dtype)[..., None]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, shift, direction, along, kernel = ctx.saved_tensors
        window: Window = ctx.window
        y = Centre(shift, direction, along, None).without(x).to(kernel.dtype)
        exactly = x.device.type == "cpu" and kernel.dtype in (torch.float32, torch.float64)
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[5] and not exactly, False)
        of_x, of_kernel, _ = torch.ops.aten.convolution_backward(
            gradient,
            y,
            kernel,
            None,
            (window.stride, 1),
            (window.reach, 0),
            (1, 1),
            False,
            (0, 0),
            window.groups,
            wanted,
        )
        if ctx.needs_input_grad[5] and exactly:
            of_kernel = kernel_gradient(gradient, y, window)
        of_x = None if of_x is None else of_x.to(x.dtype)
        sums = gradient.sum(dim=3, dtype=torch.float64)  # (N, C_out, T')
        of_levels = (along[:, None, None] * sums).sum(dim=0)
        return of_x, None, None, None, None, of_kernel, sums.sum(dim=0), of_levels, None


def _by_group(x: Tensor, groups: int) -> Tensor:
    """(N, C, T, V) -> (N, g, c, T V)."""
    samples, channels, frames, joints = x.shape
    return x.reshape(samples, groups, channels // groups, frames * joints)


def kernel_gradient(gradient: Tensor, x: Tensor, window: Window) -> Tensor:
    """That of the kernel of a centred convolution of x (N, C, T, V) over time, zeros beyond the
    ends, given that of its output (N, C_out, T', V): (C_out, C / g, K, 1).

    A product per tap, for a few samples at a time, added up. oneDNN's convolution adds up all
    positions of a batch one behind the other, which rounds ten times as much in float32: behind it
    BatchNorm's share is taken away, which may be most of it.
    """
    groups, joints, outputs = window.groups, x.shape[3], gradient.shape[2]
    upstream = _by_group(gradient, groups)
    phases = [
        _by_group(x[:, :, first :: window.stride], groups)
        for first in range(min(window.stride, x.shape[2]))
    ]
    result = x.new_zeros(window.size, groups, upstream.shape[2], x.shape[1] // groups)
    for tap in range(window.size):
        ahead, phase = divmod(tap - window.reach, window.stride)  # frame s (j + ahead) + phase
        if phase >= len(phases):
            continue
        frames = phases[phase].shape[3] // joints
        begin, end = max(-ahead, 0), min(outputs, frames - ahead)
        if begin < end:
            seen = phases[phase][..., (begin + ahead) * joints : (end + ahead) * joints]
            result[tap] = summed_products(upstream[..., begin * joints : end * joints], seen)
    return result.permute(1, 2, 3, 0).flatten(0, 1)[..., None].contiguous()
