"""Rep-TCN and the BatchNorm behind it trained as one convolution: the same outputs, gradients and
running statistics as branch by branch, for less work and memory.

Between its BatchNorms every branch is linear, so what they normalise by is a quadratic form of the
second moments of the input's windows. With x centred, and zero beyond the ends of time, a branch
before its outer BatchNorm is z(j) = W x(j) + base + the sum of E[d] over the taps d that reach over
an end at frame j. W is a kernel of its taps. Then

    var z = diag(W cov(x) W^T) + 2 sum_d E[d] W cov(x, d reaches over) + E cov(reaching over) E^T.

Where samples lie far from one another, as one of absent persons does, the first term would round by
the square of the distance. So x is y + u D, where u is a number of each sample, of mean 0 and mean
square 1, and D is the direction in which the samples' means differ most (`Centre`). With s(j) = the
sum of W[d] D over the taps d that reach over no end at j, W x(j) = W y(j) + u s(j). To the above,
with y for x, that adds

    mean of s^2 + 2 mean of u s(j) W y(j).
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
from trainables.reparam.gram import Centre, Window, window_moments
from trainables.reparam.kernels import contiguous
from trainables.reparam.merged_operators import bordered_conv, products_by_tap, quadratic_forms
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
            and len(x)
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
        kernel = whole.kernel * scale.to(whole.kernel.dtype)[..., None, None]
        inside = norm.bias.view_as(scale) + scale * (whole.base - mean)
        edge, along = (whole.ends * scale[..., None, None]).unbind(3)  # (g, o, K)
        constants = inside[..., None] + edge @ known.over.mT  # (g, o, T')
        levels = along @ (1 - known.over).mT
        weight = contiguous(kernel.transpose(2, 3).flatten(0, 1)[..., None])
        return bordered_conv(
            x,
            known.y,
            known.centre,
            weight.to(working),
            constants.flatten(0, 1),
            levels.flatten(0, 1),
            window,
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a batch; C channels are g groups of c. Gram matrices and means are of y, the
    input without its centre.
    """

    window: Window
    centre: Centre
    y: Tensor  # (N, C, T, V), float32 at least
    windows: Tensor  # Gram matrix of windows of K frames (g, K c, K c)
    frames: Tensor  # Gram matrix of frames (g, c, c)
    vectors: Tensor  # of frames: mean of y, mean of u y, - shift, D (g, c, 4)
    # means over windows of y, u y, each with 1 and with `border` (g, K, c, 2 (1 + K))
    meets: Tensor
    over: Tensor  # 1 where a tap reaches over an end (T', K)
    border: Tensor  # the same less its mean
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
    ends: Tensor  # E and W D, tap by tap (g, o, taps, 2)
    base: Tensor  # (g, o)
    spread: int = 1  # where it is not 1, k is 1, and W stands at so many taps


@dataclass(frozen=True, slots=True)
class _Mixed:
    """A 1x1 convolution and its padded BatchNorm: kernel x + inside at the frames that are there;
    beyond the ends values through which no gradient flows.
    """

    kernel: Tensor  # (g, o, c)
    vectors: Tensor  # what is more beyond the ends than inside, kernel D, inside (g, o, 3)


def _measured(x: Tensor, window: Window, counts: Counts | None) -> _Known:
    samples, channels, frames, joints = x.shape
    precise = torch.promote_types(x.dtype, torch.float32)
    taken, total = None, samples
    if counts is not None and counts.value is not None:
        taken = counts.per_row(samples).to(precise)
        total = counts.total * (samples // len(counts.value))
    positions, outputs = total * frames * joints, total * window.outputs(frames) * joints
    with torch.no_grad():
        centre = Centre.of(x.mean(dim=(2, 3), dtype=precise), taken)
        y = centre.without(x)
    windows, single, sums = window_moments(x, y, centre, window)
    grouped = (window.groups, channels // window.groups)
    margins, steps = (window.reach, window.reach), (window.size, window.stride)
    over = window.over(frames, x.device)
    border = over - over.mean(dim=0)
    seen = F.pad(sums, margins).unfold(2, *steps)  # (2, C, T', K)
    meets = seen.mT @ F.pad(border, (1, 0), value=1.0) / outputs  # (2, C, K, 1 + K)
    means = sums.sum(dim=2) / positions
    return _Known(
        window,
        centre,
        y,
        windows,
        single,
        torch.stack([*means, -centre.shift, centre.direction], dim=1).view(*grouped, 4),
        meets.to(precise).view(2, *grouped, window.size, -1).permute(1, 3, 2, 0, 4).flatten(3),
        over,
        border,
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
        ends = products_by_tap(kernel, known.vectors[..., 2:])
        return _Linear(kernel, ends, -ends[..., 0].sum(dim=2))
    first = next(mixed)
    if isinstance(branch, AverageBranch):
        ends = (first.vectors[:, :, None, :2] / 3).expand(-1, -1, 3, -1)
        return _Linear(first.kernel[:, :, None] / 3, ends, first.vectors[..., 2], spread=3)
    kernel = _taps_first(branch.conv.weight, known)
    product = (kernel.flatten(1, 2) @ first.kernel).view(*kernel.shape[:3], -1)
    values = products_by_tap(kernel, first.vectors)
    return _Linear(product, values[..., :2], values[..., 2].sum(dim=2))


def _mixed(branches: list[PaddedBranch | AverageBranch], known: _Known) -> list[_Mixed]:
    kernels = [_taps_first(branch.pointwise.weight, known) for branch in branches]
    stacked = torch.cat(kernels, dim=1)  # (g, branches o, 1, c)
    (forms,) = quadratic_forms(known.frames, 1, [stacked], [1])
    means, met, shifts, along = products_by_tap(stacked, known.vectors)[:, :, 0].unbind(2)
    variances = forms.double() / known.positions - means.square() + along * (along + 2 * met)
    variances = variances.clamp(min=0)
    norms, count = [branch.pad_bn for branch in branches], len(branches)
    for norm, mean, var in zip(
        norms, (means - shifts).chunk(count, dim=1), variances.chunk(count, dim=1), strict=True
    ):
        _follow(norm, mean, var, known.positions)
    scales = _stacked([norm.weight for norm in norms], known) * torch.rsqrt(
        variances + norms[0].eps
    )
    inside = _stacked([norm.bias for norm in norms], known) - scales * means
    outside = [batch_norm_state(norm).image_of_zero.detach() for norm in norms]
    vectors = torch.stack([_stacked(outside, known) - inside, scales * along, inside], dim=2)
    scaled = stacked[:, :, 0] * scales.to(stacked.dtype)[..., None]
    return [
        _Mixed(kernel, values)
        for kernel, values in zip(
            scaled.chunk(count, dim=1), vectors.chunk(count, dim=1), strict=True
        )
    ]


def _normalised_sum(block: RepTCN, branches: list[_Linear], known: _Known) -> _Linear:
    """The sum of all branches behind their BatchNorms; running statistics are updated."""
    norms = [branch.bn for branch in _parts(block)]
    offsets, variances, ends = _statistics(branches, known)
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
    ends = (ends * scales[..., None, None]).view(groups, count, -1, known.window.size, 2)
    return _Linear(kernel, ends.sum(dim=1), shifts.view(groups, count, -1).sum(dim=1))


def _summed_kernels(branches: list[_Linear], scales: Sequence[Tensor], size: int) -> Tensor:
    """Sum of scale W over the branches, each at its taps: (g, o, K, c)."""
    total: Tensor | None = None
    for branch, scale in zip(branches, scales, strict=True):
        taps = branch.ends.shape[2]
        margin = (size - taps) // 2
        weighted = branch.kernel * scale.to(branch.kernel.dtype)[..., None, None]
        kernel = weighted.expand(-1, -1, taps, -1)
        kernel = F.pad(kernel, (0, 0, margin, margin)) if margin else kernel
        total = kernel if total is None else total + kernel
    assert total is not None
    return total


def _statistics(branches: list[_Linear], known: _Known) -> tuple[Tensor, Tensor, Tensor]:
    """Of all branches' outputs, one behind the other, the mean without `base` and the biased
    variance (g, branches o), and their ends at all K taps (g, branches o, K, 2).
    """
    size, outputs = known.window.size, known.outputs
    forms = quadratic_forms(
        known.windows,
        size,
        [branch.kernel for branch in branches],
        [branch.spread for branch in branches],
    )
    met, padded = [], []
    for branch in branches:
        taps = branch.ends.shape[2]
        seen = known.meets[:, known.taps(taps)]
        seen = seen if branch.spread == 1 else seen.sum(dim=1, keepdim=True)
        met.append(branch.kernel.flatten(2) @ seen.flatten(1, 2))
        margin = (size - taps) // 2
        padded.append(F.pad(branch.ends, (0, 0, margin, margin)) if margin else branch.ends)
    ends = torch.cat(padded, dim=1)
    edge, along = ends.unbind(3)
    of_y, of_uy = torch.cat(met, dim=1).double().chunk(2, dim=2)  # (g, rows, 1 + K) each
    mean, missed = of_y[..., 0], ends.mT @ known.over.mean(dim=0)  # (g, rows, 2)
    level = along.sum(dim=2) - missed[..., 1]  # the mean of s
    var = (
        torch.cat(forms, dim=1).double() / outputs
        - mean.square()
        + (ends.mT @ known.border.mT).square().mean(dim=3).sum(dim=2)
        + level * (level + 2 * of_uy[..., 0])
        + 2 * torch.linalg.vecdot(edge, of_y[..., 1:])
        - 2 * torch.linalg.vecdot(along, of_uy[..., 1:])
    )
    return mean + missed[..., 0], var.clamp(min=0), ends


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


def _stacked(vectors: Sequence[Tensor], known: _Known) -> Tensor:
    """(C,) each -> (g, vectors o), one behind the other."""
    return torch.cat([each.view(known.window.groups, -1) for each in vectors], dim=1)
