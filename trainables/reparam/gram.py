"""Second moments of the windows of frames that convolutions over time see, from lagged Gram
matrices. Knows torch and the kernel algebra.

With x centred and zero beyond the ends of time, R(d) = sum over samples, frames and joints of x(t)
x(t + d)^T. The Gram matrix of whole windows, sum over outputs j of x(j + a) x(j + b)^T, is R(b - a)
without the pairs that reach over an end, which lie within the first and the last frames. Under a
stride of s the frames s t + i are channels of their own.

A quadratic form of a Gram matrix rounds by the square of what lies far from zero. So the largest
difference between samples is taken out before (`Centre`), and whoever needs it adds its square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainables.reparam.kernels import contiguous
from trainables.reparam.products import product, summed_products, total


@dataclass(frozen=True, slots=True)
class Window:
    """The frames that output frame j of a centred convolution over time sees: s j - reach .. s j +
    reach.
    """

    size: int  # frames of a window, odd
    stride: int
    groups: int  # of channels that meet each other

    @property
    def reach(self) -> int:
        return self.size // 2

    @property
    def before(self) -> int:
        """Strides that a window reaches back."""
        return -(-self.reach // self.stride)

    @property
    def after(self) -> int:
        """Strides that a window reaches ahead."""
        return self.reach // self.stride

    @property
    def lags(self) -> int:
        """Strides that a window spans."""
        return self.before + self.after + 1

    def outputs(self, frames: int) -> int:
        return (frames - 1) // self.stride + 1

    def over(self, frames: int, device: torch.device) -> Tensor:
        """1 where a tap of an output's window reaches over an end: (T', K)."""
        there = F.pad(
            torch.ones(frames, dtype=torch.float64, device=device), (self.reach, self.reach)
        )
        return 1 - there.unfold(0, self.size, self.stride)


@dataclass(frozen=True, eq=False, slots=True)
class Centre:
    """Where each sample lies: shift + along[n] direction.

    Of all samples, each as often as it counts, `along` has mean 0 and mean square 1, if their means
    differ. In float64; but the shift is a value of the precision of the means.
    """

    shift: Tensor  # the mean of all (C,)
    direction: Tensor  # in which the samples' means differ most (C,)
    along: Tensor  # (N,)
    counts: Tensor | None  # how often each sample is taken (N,); None: once

    @classmethod
    def of(cls, means: Tensor, counts: Tensor | None) -> Centre:
        """Of samples with these means (N, C), float32 at least."""
        taken = means.new_ones(len(means)) if counts is None else counts
        shares = (taken.double() / taken.double().sum())[:, None]  # (N, 1)
        shift = (shares * means).sum(dim=0)
        apart = means - shift
        # one step of a power iteration from the sample that weighs most; no look at the device
        weigh = shares * apart.square().sum(dim=1, keepdim=True)
        along = (apart * apart.index_select(0, weigh.argmax().view(1))).sum(dim=1, keepdim=True)
        along = along - (shares * along).sum()
        spread = (shares * along.square()).sum().sqrt()
        along = along / spread.clamp(min=torch.finfo(along.dtype).tiny)
        direction = (shares * along * apart).sum(dim=0)
        return cls(shift.to(means.dtype).double(), direction, along[:, 0], counts)

    @property
    def offsets(self) -> Tensor:
        """along[n] direction (N, C)."""
        return self.along[:, None] * self.direction

    def without(self, x: Tensor) -> Tensor:
        """x (N, C, T, V) without it, float32 at least: in two steps, as a sum of shift and offset
        would round by the shift. That the offset is rounded is not seen.
        """
        precise = x if x.dtype == torch.float64 else x.float()
        centred = precise - self.shift.to(precise.dtype)[:, None, None]
        return centred.sub_(self.offsets.to(precise.dtype)[..., None, None])


def window_moments(
    x: Tensor, y: Tensor, centre: Centre, window: Window
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over samples and joints of y (N, C, T, V), which is x without its centre, zero beyond
    the ends.

    Returns the Gram matrix of the windows (g, K c, K c) with c = C / g, tap by tap; that of single
    frames (g, c, c), float32 at least; in float64 the sum of each frame, and that weighted by
    `centre.along` (2, C, T). Differentiable in x, through y; of x alone a reference is kept.
    """
    result: tuple[Tensor, Tensor, Tensor] = _WindowMoments.apply(  # type: ignore[no-untyped-call]
        x, y, centre.shift, centre.direction, centre.along, centre.counts, window
    )
    return result


class _WindowMoments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        shift: Tensor,
        direction: Tensor,
        along: Tensor,
        counts: Tensor | None,
        window: Window,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, shift, direction, along, counts)
        ctx.window, centre = window, Centre(shift, direction, along, counts)
        # of what the offsets are rounded by the sums are free, and the matrices to first order
        rounded = centre.offsets - centre.offsets.to(y.dtype)
        sums = y.sum(dim=3).double() - x.shape[3] * rounded[..., None]  # (N, C, T)
        twice = torch.stack([sums, sums * along[:, None, None]], dim=1)
        phases = _phases(y, window)
        band = _band(phases, counts, window.lags)
        full = _toeplitz(band)
        for end in _ends(window):
            end.subtract(full, _summed_along_diagonals(_gram(end.frames(phases), counts)))
        moments = _per_frame(full, band[:, window.lags - 1], window)
        return (*moments, total(twice, counts))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_windows: Tensor, of_frames: Tensor, of_sums: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        window, centre = ctx.window, Centre(*rest)
        phases = _phases(centre.without(x), window)
        full = _per_stride(of_windows, window)
        kernel = _both_ways(_diagonal_sums(full), of_frames, window)
        result = F.conv2d(
            phases.flatten(1, 2), kernel, padding=(window.lags - 1, 0), groups=window.groups
        ).view(phases.shape)
        for end in _ends(window):
            of_gram = _spread_along_diagonals(end.block(full).neg())
            end.add(result, _gram_gradient(of_gram, end.frames(phases)))
        gradient = _joined(result, x.shape, window)
        per_frame = of_sums[0] + centre.along[:, None, None] * of_sums[1]  # (N, C, T)
        gradient += per_frame.to(gradient.dtype)[..., None]
        if centre.counts is not None:
            gradient *= centre.counts[:, None, None, None]
        return gradient.to(x.dtype), None, None, None, None, None, None


def _phases(x: Tensor, window: Window) -> Tensor:
    """(N, C, T, V) -> (N, g, s c, ceil(T / s), V): frames s t + i as channels, i outside."""
    samples, channels, frames, joints = x.shape
    stride, groups = window.stride, window.groups
    if stride == 1:
        return x.view(samples, groups, -1, frames, joints)
    longer = -frames % stride
    x = F.pad(x, (0, 0, 0, longer)).view(samples, groups, channels // groups, -1, stride, joints)
    return x.permute(0, 1, 4, 2, 3, 5).flatten(2, 3)


def _joined(phases: Tensor, shape: torch.Size, window: Window) -> Tensor:
    """The inverse of `_phases`."""
    if window.stride == 1:
        return phases.view(shape)
    samples, groups, _, _, joints = phases.shape
    parts = phases.view(samples, groups, window.stride, shape[1] // groups, -1, joints)
    return parts.permute(0, 1, 3, 4, 2, 5).reshape(*shape[:2], -1, joints)[:, :, : shape[2]]


def _band(phases: Tensor, counts: Tensor | None, lags: int) -> Tensor:
    """R(d) for d = 1 - lags .. lags - 1: (g, 2 lags - 1, c, c)."""
    _, groups, channels, frames, joints = phases.shape
    flat = phases.flatten(3, 4)  # a lag of one frame is a shift by V
    band = flat.new_zeros(groups, 2 * lags - 1, channels, channels)
    for lag in range(min(lags, frames)):
        pairs = (frames - lag) * joints
        gram = summed_products(flat[..., :pairs], flat[..., lag * joints :], counts)  # (g, c, c)
        band[:, lags - 1 + lag] = gram
        band[:, lags - 1 - lag] = gram.mT
    return band


def _toeplitz(band: Tensor) -> Tensor:
    """R(b - a) at (a, b): (g, K, c, K, c)."""
    groups, diagonals, channels, _ = band.shape
    lags = (diagonals + 1) // 2
    full = band.new_empty(groups, lags, channels, lags, channels)
    for tap in range(lags):
        full[:, tap] = band[:, lags - 1 - tap : diagonals - tap].transpose(1, 2)
    return full


def _diagonal_sums(full: Tensor) -> Tensor:
    """The adjoint of `_toeplitz`: (g, 2 K - 1, c, c)."""
    groups, lags, channels, _, _ = full.shape
    band = full.new_zeros(groups, 2 * lags - 1, channels, channels)
    for tap in range(lags):
        band[:, lags - 1 - tap : 2 * lags - 1 - tap] += full[:, tap].transpose(1, 2)
    return band


def _both_ways(band: Tensor, of_frames: Tensor, window: Window) -> Tensor:
    """The convolution that takes phases to their gradient: every product x(t) x(t + d) moves both
    its frames; (g s c, s c, 2 K - 1, 1).
    """
    channels = of_frames.shape[-1]
    for phase in range(window.stride):
        part = slice(phase * channels, (phase + 1) * channels)
        band[:, window.lags - 1, part, part] += of_frames
    both = band + band.flip(1).mT
    return contiguous(both.permute(0, 2, 3, 1).flatten(0, 1)[..., None])


def _per_frame(full: Tensor, single: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Of Gram matrices of phases (g, K, s c, K, s c) and (g, s c, s c), those of windows and
    frames.
    """
    groups, lags, wide, _, _ = full.shape
    stride, channels = window.stride, wide // window.stride
    size = window.size * channels
    kept = _kept_rows(window, channels)
    windows = full.view(groups, lags * wide, lags * wide)[:, kept, kept]
    frames = single.view(groups, stride, channels, stride, channels).diagonal(dim1=1, dim2=3)
    return windows.reshape(groups, size, size), frames.sum(dim=-1)


def _per_stride(of_windows: Tensor, window: Window) -> Tensor:
    """The adjoint of the cropping in `_per_frame`: (g, K, s c, K, s c)."""
    groups, size, _ = of_windows.shape
    channels = size // window.size
    wide = window.stride * channels
    if window.stride == 1:
        return of_windows.reshape(groups, window.size, channels, window.size, channels)
    kept = _kept_rows(window, channels)
    full = of_windows.new_zeros(groups, window.lags * wide, window.lags * wide)
    full[:, kept, kept] = of_windows
    return full.view(groups, window.lags, wide, window.lags, wide)


def _kept_rows(window: Window, channels: int) -> slice:
    """Whole strides reach further than the window: its rows among theirs."""
    first = (window.stride * window.before - window.reach) * channels
    return slice(first, first + window.size * channels)


@dataclass(frozen=True, slots=True)
class _End:
    """One end of time: the frames there, counted from the end, and the taps that reach over it."""

    frames_there: int
    at_start: bool

    def frames(self, phases: Tensor) -> Tensor:
        """(N, g, c, T, V) -> (g, n, c, N V), zero where there are fewer frames."""
        near = (
            phases[:, :, :, : self.frames_there]
            if self.at_start
            else phases[:, :, :, -self.frames_there :].flip(3)
        )
        near = F.pad(near, (0, 0, 0, self.frames_there - near.shape[3]))
        return near.permute(1, 3, 2, 0, 4).flatten(3)

    def add(self, phases: Tensor, near: Tensor) -> None:
        """The adjoint of `frames`, added in place."""
        samples, _, _, frames, joints = phases.shape
        count = min(self.frames_there, frames)
        near = near[:, :count]
        near = near.reshape(*near.shape[:3], samples, joints).permute(3, 0, 2, 1, 4)
        if self.at_start:
            phases[:, :, :, :count] += near
        else:
            phases[:, :, :, -count:] += near.flip(3)

    def subtract(self, full: Tensor, pairs: Tensor) -> None:
        """Take what reaches over this end from the windows' Gram matrix, in place."""
        count = self.frames_there
        if self.at_start:
            full[:, -count:, :, -count:] -= pairs
        else:
            full[:, :count, :, :count] -= pairs.flip(1, 3)

    def block(self, full: Tensor) -> Tensor:
        """The adjoint of `subtract`, but for the sign."""
        count = self.frames_there
        if self.at_start:
            return full[:, -count:, :, -count:]
        return full[:, :count, :, :count].flip(1, 3)


def _ends(window: Window) -> list[_End]:
    ends = (_End(window.after, at_start=True), _End(window.before, at_start=False))
    return [end for end in ends if end.frames_there]


def _gram(frames: Tensor, counts: Tensor | None) -> Tensor:
    """(g, n, c, N V) -> (g, n, c, n, c)."""
    groups, count, channels, columns = frames.shape
    rows = frames.flatten(1, 2)
    counted = rows
    if counts is not None:
        counted = rows * counts.repeat_interleave(columns // len(counts))
    return product(rows, counted).view(groups, count, channels, count, channels)


def _gram_gradient(of_gram: Tensor, frames: Tensor) -> Tensor:
    matrix = of_gram.flatten(3, 4).flatten(1, 2)
    return product(matrix + matrix.mT, frames.flatten(1, 2).mT).view(frames.shape)


def _summed_along_diagonals(pairs: Tensor) -> Tensor:
    """M[i, j] = pairs[i, j] + M[i - 1, j - 1], in place: a window that reaches one frame further
    misses one pair more; (g, n, c, n, c).
    """
    for tap in range(1, pairs.shape[1]):
        pairs[:, tap, :, 1:] += pairs[:, tap - 1, :, :-1]
    return pairs


def _spread_along_diagonals(of_sums: Tensor) -> Tensor:
    """The adjoint of `_summed_along_diagonals`, in place."""
    for tap in range(of_sums.shape[1] - 1, 0, -1):
        of_sums[:, tap - 1, :, :-1] += of_sums[:, tap, :, 1:]
    return of_sums
