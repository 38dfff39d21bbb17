"""Rep-TCN and the BatchNorm behind it trained as one convolution: the same outputs, gradients and
running statistics as branch by branch, for less work and memory.

Between its BatchNorms every branch is linear, so what they normalise by is a quadratic form of the
second moments of the input's windows. With x centred, and zero beyond the ends of time, a branch
before its outer BatchNorm is z(j) = W x(j) + base + the sum of E[d] over the taps d that reach over
an end at frame j. W is a kernel of its taps. Then

    var z = diag(W cov(x) W^T) + 2 sum_d E[d] W cov(x, d reaches over) + E cov(reaching over) E^T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.contract.fast import merging_pays
from trainables.reparam.counts import BatchNorm2d, Counts
from trainables.reparam.fusible import ConvBN, Normalised, batch_norm_state
from trainables.reparam.gram import Window, window_moments
from trainables.reparam.kernels import contiguous
from trainables.reparam.merged_operators import bordered_conv, quadratic_forms
from trainables.reparam.rep_tcn import AverageBranch, PaddedBranch, RepTCN


class NormalisedRepTCN(Normalised):
    """Rep-TCN and its BatchNorm, in training branch by branch or merged."""

    body: RepTCN
    merged = False
    """Whether training merges them where that costs less; set from outside."""

    def forward(self, x: Tensor) -> Tensor:
        body, positions = self.body, x.numel() // x.shape[1]
        if (
            self.training
            and self.merged
            and not body.fixed
            and merging_pays(x.shape[1], body.kernel_size, positions, x.device.type)
        ):
            return merged_forward(body, self.bn, x)
        return super().forward(x)


def merged_forward(block: RepTCN, norm: BatchNorm2d, x: Tensor) -> Tensor:
    """norm(block(x)) in training, running statistics updated: (N, C, T, V) -> (N, C, T', V).

    Weights are read as attributes, which applies attached masks.
    """
    device = x.device.type
    working = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        window = Window(block.kernel_size, block.stride, block.groups)
        known = _measured(x, window, norm.counts)
        branches = _branches(block, known)
        whole = _normalised_sum(block, branches, known)
        offset, var, _ = _statistics([whole], known)
        mean = whole.base + offset
        _follow(norm, mean, var, known.outputs)
        scale = _scale(norm, var)
        kernel, edge = whole.kernel * scale[..., None, None], whole.edge * scale[..., None]
        inside = norm.bias.view_as(scale) + scale * (whole.base - mean)
        constants = inside[..., None] + edge @ known.over.mT  # (g, o, T')
        weight = contiguous(kernel.transpose(2, 3).flatten(0, 1)[..., None])
        constants = constants.flatten(0, 1).to(working)
        return bordered_conv(x, known.shift.flatten(), weight.to(working), constants, window)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a batch; C channels are g groups of c. All of the centred input."""

    window: Window
    shift: Tensor  # what it was centred by (g, c)
    windows: Tensor  # Gram matrix of windows of K frames (g, K c, K c)
    frames: Tensor  # Gram matrix of frames (g, c, c)
    mean: Tensor  # of frames (g, c)
    window_mean: Tensor  # (g, K, c)
    over: Tensor  # 1 where a tap reaches over an end (T', K)
    # of a window's entries and whether a tap reaches over an end: covariance (g, K, c, K)
    cross: Tensor
    positions: int  # samples x frames x joints
    outputs: int  # of the output

    def taps(self, count: int) -> slice:
        """So many centred taps."""
        first = (self.window.size - count) // 2
        return slice(first, first + count)


@dataclass(frozen=True, slots=True)
class _Linear:
    """A branch before its outer BatchNorm; o output channels of each group."""

    kernel: Tensor  # W (g, o, k, c)
    edge: Tensor  # E (g, o, taps)
    base: Tensor  # (g, o)
    spread: int = 1  # where it is not 1, k is 1, and W stands at so many taps


@dataclass(frozen=True, slots=True)
class _Mixed:
    """A 1x1 convolution and its padded BatchNorm: kernel x + inside at the frames that are there,
    outside beyond the ends, through which no gradient flows.
    """

    kernel: Tensor  # (g, o, c)
    inside: Tensor  # (g, o)
    outside: Tensor  # (g, o)


def _measured(x: Tensor, window: Window, counts: Counts | None) -> _Known:
    samples, channels, frames, joints = x.shape
    taken, total = None, samples
    if counts is not None and counts.value is not None:
        taken = counts.per_row(samples)
        total = counts.total * (samples // len(counts.value))
    positions, outputs = total * frames * joints, total * window.outputs(frames) * joints
    with torch.no_grad():
        precise = torch.promote_types(x.dtype, torch.float32)
        means = x.mean(dim=(2, 3), dtype=precise)  # (N, C)
        # the mean that the statistics have: variances are differences, and small beside another
        shift = means.mean(dim=0) if taken is None else taken.to(precise) @ means / total
    windows, single, sums = window_moments(x, shift, taken, window)
    grouped = (window.groups, channels // window.groups)
    margins, steps = (window.reach, window.reach), (window.size, window.stride)
    seen = F.pad(sums, margins).unfold(1, *steps)  # (C, T', K)
    over = 1 - F.pad(sums.new_ones(frames), margins).unfold(0, *steps)
    cross = seen.mT @ (over - over.mean(dim=0)) / outputs  # (C, K, K)
    return _Known(
        window,
        shift.view(grouped),
        windows,
        single,
        (sums.sum(dim=1) / positions).view(grouped),
        (seen.sum(dim=1) / outputs).view(*grouped, -1).mT,
        over,
        cross.view(*grouped, window.size, window.size).transpose(1, 2),
        positions,
        outputs,
    )


def _branches(block: RepTCN, known: _Known) -> list[_Linear]:
    """Before their outer BatchNorms; running statistics of the inner ones are updated."""
    padded = [each for each in _parts(block) if isinstance(each, PaddedBranch | AverageBranch)]
    mixed = iter(_mixed(padded, known) if padded else ())
    return [_linear(branch, mixed, known) for branch in _parts(block)]


def _parts(block: RepTCN) -> list[ConvBN | PaddedBranch | AverageBranch]:
    kinds = ConvBN | PaddedBranch | AverageBranch
    parts = [branch for branch in block.branches.values() if isinstance(branch, kinds)]
    assert len(parts) == len(block.branches), "a branch of a kind that is not merged"
    return parts


def _linear(
    branch: ConvBN | PaddedBranch | AverageBranch, mixed: Iterator[_Mixed], known: _Known
) -> _Linear:
    """mixed: of the padded branches that are still to come."""
    if isinstance(branch, ConvBN):
        kernel = _taps_first(branch.conv.weight, known)
        moved = _times(kernel, known.shift)
        return _Linear(kernel, -moved, moved.sum(dim=2))
    first = next(mixed)
    jump = first.outside - first.inside
    if isinstance(branch, AverageBranch):
        edge = (jump / 3)[..., None].expand(-1, -1, 3)
        return _Linear(first.kernel[:, :, None] / 3, edge, first.inside, spread=3)
    kernel = _taps_first(branch.conv.weight, known)
    return _Linear(
        (kernel.flatten(1, 2) @ first.kernel).view(*kernel.shape[:3], -1),
        _times(kernel, jump),
        _times(kernel, first.inside).sum(dim=2),
    )


def _mixed(branches: list[PaddedBranch | AverageBranch], known: _Known) -> list[_Mixed]:
    kernels = [_taps_first(branch.pointwise.weight, known) for branch in branches]
    stacked = torch.cat(kernels, dim=1)  # (g, branches o, 1, c)
    (forms,) = quadratic_forms(known.frames, 1, [stacked], [1])
    means = _times(stacked, known.mean)[..., 0]
    variances = (forms / known.positions - means.square()).clamp(min=0)
    true_means = means + _times(stacked, known.shift)[..., 0]
    parts = (each.chunk(len(branches), dim=1) for each in (means, variances, true_means))
    return [
        _after_padding(norm, kernel, mean, var, true_mean, known)
        for norm, kernel, mean, var, true_mean in zip(
            (branch.pad_bn for branch in branches), kernels, *parts, strict=True
        )
    ]


def _after_padding(
    norm: BatchNorm2d,
    kernel: Tensor,
    mean: Tensor,
    var: Tensor,
    true_mean: Tensor,
    known: _Known,
) -> _Mixed:
    _follow(norm, true_mean, var, known.positions)
    scale = _scale(norm, var)
    return _Mixed(
        kernel[:, :, 0] * scale[..., None],
        norm.bias.view_as(scale) - scale * mean,
        batch_norm_state(norm).image_of_zero.detach().view_as(scale),
    )


def _normalised_sum(block: RepTCN, branches: list[_Linear], known: _Known) -> _Linear:
    """The sum of all branches behind their BatchNorms; running statistics are updated."""
    norms = [branch.bn for branch in _parts(block)]
    offsets, variances, edges = _statistics(branches, known)
    bases = torch.cat([branch.base for branch in branches], dim=1)
    scales = _stacked([norm.weight for norm in norms], known) * torch.rsqrt(
        variances + norms[0].eps
    )
    count = len(branches)
    for norm, mean, var in zip(
        norms, (bases + offsets).chunk(count, dim=1), variances.chunk(count, dim=1), strict=True
    ):
        _follow(norm, mean, var, known.outputs)
    shifts = _stacked([norm.bias for norm in norms], known) - scales * offsets
    kernel = _summed_kernels(branches, scales.chunk(count, dim=1), known.window.size)
    groups = known.window.groups
    edge = (edges * scales[..., None]).view(groups, count, -1, known.window.size).sum(dim=1)
    return _Linear(kernel, edge, shifts.view(groups, count, -1).sum(dim=1))


def _summed_kernels(branches: list[_Linear], scales: Sequence[Tensor], size: int) -> Tensor:
    """Sum of scale W over the branches, each at its taps: (g, o, K, c)."""
    total: Tensor | None = None
    for branch, scale in zip(branches, scales, strict=True):
        taps = branch.edge.shape[2]
        margin = (size - taps) // 2
        kernel = (branch.kernel * scale[..., None, None]).expand(-1, -1, taps, -1)
        kernel = F.pad(kernel, (0, 0, margin, margin)) if margin else kernel
        total = kernel if total is None else total + kernel
    assert total is not None
    return total


def _statistics(branches: list[_Linear], known: _Known) -> tuple[Tensor, Tensor, Tensor]:
    """Of all branches' outputs, one behind the other, the mean without `base` and the biased
    variance (g, branches o), and their edges at all K taps (g, branches o, K).
    """
    size, outputs = known.window.size, known.outputs
    forms = quadratic_forms(
        known.windows,
        size,
        [branch.kernel for branch in branches],
        [branch.spread for branch in branches],
    )
    # what a row meets: the windows' mean, and their covariance with reaching over an end
    meets = torch.cat([known.window_mean[..., None], known.cross], dim=3)  # (g, K, c, 1 + K)
    met, edges = [], []
    for branch in branches:
        taps = branch.edge.shape[2]
        seen = meets[:, known.taps(taps)]
        seen = seen if branch.spread == 1 else seen.sum(dim=1, keepdim=True)
        met.append(branch.kernel.flatten(2) @ seen.flatten(1, 2))
        margin = (size - taps) // 2
        edges.append(F.pad(branch.edge, (margin, margin)) if margin else branch.edge)
    stacked, edge, over_mean = (
        torch.cat(met, dim=1),
        torch.cat(edges, dim=1),
        known.over.mean(dim=0),
    )
    mean, crossed = stacked[..., 0], stacked[..., 1:]
    var = (
        torch.cat(forms, dim=1) / outputs
        - mean.square()
        + 2 * torch.linalg.vecdot(edge, crossed)
        + (edge @ (known.over - over_mean).mT).square().mean(dim=2)
    )
    return mean + edge @ over_mean, var.clamp(min=0), edge


def _follow(norm: BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    norm.follow(mean.flatten(), var.flatten(), count)


def _scale(norm: BatchNorm2d, var: Tensor) -> Tensor:
    """gamma / sqrt(var + eps), in the shape of var."""
    return norm.weight.view_as(var) * torch.rsqrt(var + norm.eps)


def _taps_first(weight: Tensor, known: _Known) -> Tensor:
    """(C, c, k, 1) -> (g, o, k, c)."""
    _, channels, taps, _ = weight.shape
    grouped = weight.reshape(known.window.groups, -1, channels, taps)
    return grouped.transpose(2, 3).contiguous()


def _times(kernel: Tensor, vector: Tensor) -> Tensor:
    """Kernel (g, o, k, c) by vector (g, c), tap by tap: (g, o, k)."""
    return (kernel.flatten(1, 2) @ vector[..., None]).view(kernel.shape[:3])


def _stacked(vectors: Sequence[Tensor], known: _Known) -> Tensor:
    """(C,) each -> (g, vectors o), one behind the other."""
    return torch.cat([each.view(known.window.groups, -1) for each in vectors], dim=1)
