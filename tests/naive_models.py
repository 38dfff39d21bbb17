"""Slow, obvious twins of the network's layers (loops, no tricks)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.laws.narrow import (
    build_narrow,
    disturb,
    narrow_backbone,
    random_clips,
    randomise_batch_norm,
)
from trainables.reparam.fusible import ConvBN
from trainables.reparam.rep_tcn import AverageBranch, PaddedBranch, RepTCN

__all__ = [
    "build_narrow",
    "disturb",
    "narrow_backbone",
    "random_clips",
    "randomise_batch_norm",
]

GOLDEN = Path(__file__).parent / "golden"


def load_golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())


def joint_mixing(x: Tensor, matrices: Tensor) -> Tensor:
    """y[n, c, t, i] = sum_v A[group of c, i, v] x[n, c, t, v]; matrices (g, V, V), channels in g
    contiguous groups.
    """
    out = torch.zeros_like(x)
    width = x.shape[1] // matrices.shape[0]
    for channel in range(x.shape[1]):
        for i in range(x.shape[3]):
            for v in range(x.shape[3]):
                out[:, channel, :, i] += matrices[channel // width, i, v] * x[:, channel, :, v]
    return out


def temporal_conv(x: Tensor, kernel: Tensor, stride: int, groups: int) -> Tensor:
    """No padding: y[n, o, t, v] = sum_ik W[o, i, k] x[n, first(o) + i, stride t + k, v]."""
    outside, width, size = kernel.shape[:3]
    frames = (x.shape[2] - size) // stride + 1
    out = torch.zeros(x.shape[0], outside, frames, x.shape[3], dtype=x.dtype)
    for o in range(outside):
        first = o // (outside // groups) * width
        for i in range(width):
            for k in range(size):
                for t in range(frames):
                    out[:, o, t] += kernel[o, i, k, 0] * x[:, first + i, stride * t + k]
    return out


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Evaluation mode, channel by channel."""
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        out[:, c] = (
            norm.weight[c]
            * (x[:, c] - norm.running_mean[c])
            / (norm.running_var[c] + norm.eps).sqrt()
            + norm.bias[c]
        )
    return out


def zero_rows(x: Tensor, rows: int) -> Tensor:
    ends = torch.zeros(x.shape[0], x.shape[1], rows, x.shape[3], dtype=x.dtype)
    return torch.cat([ends, x, ends], dim=2)


def rep_tcn(module: RepTCN, x: Tensor, stride: int, groups: int) -> Tensor:
    """The sum of branches in evaluation mode; padded BatchNorm there means: pad the branch's input
    with zeros.
    """
    out = torch.zeros((), dtype=x.dtype)
    for branch in module.branches.values():
        if isinstance(branch, ConvBN):
            kernel = branch.conv.weight
            out = out + batch_norm(
                temporal_conv(zero_rows(x, kernel.shape[2] // 2), kernel, stride, groups), branch.bn
            )
            continue
        assert isinstance(branch, AverageBranch | PaddedBranch)
        inner = batch_norm(
            temporal_conv(zero_rows(x, branch.pad_bn.rows), branch.pointwise.weight, 1, groups),
            branch.pad_bn,
        )
        if isinstance(branch, AverageBranch):
            frames = range(0, inner.shape[2] - 2, stride)
            inner = torch.stack(
                [(inner[:, :, t] + inner[:, :, t + 1] + inner[:, :, t + 2]) / 3 for t in frames],
                dim=2,
            )
        else:
            inner = temporal_conv(inner, branch.conv.weight, stride, groups)
        out = out + batch_norm(inner, branch.bn)
    return out


def explicit_motion(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Five branches one after the other: positions, then displacements to t-1, t-2, t+1, t+2; zero
    where there is no such frame.
    """
    frames, eighth = x.shape[2], weight.shape[0] // 8
    parts = [x]
    for other in (-1, -2, 1, 2):
        part = torch.zeros_like(x)
        for t in range(frames):
            if 0 <= t + other < frames:
                part[:, :, t] = x[:, :, t] - x[:, :, t + other]
        parts.append(part)
    outs, start = [], 0
    for part, width in zip(parts, (4 * eighth, eighth, eighth, eighth, eighth), strict=True):
        rows = slice(start, start + width)
        outs.append(
            torch.einsum("oi,nitv->notv", weight[rows, :, 0, 0], part) + bias[rows, None, None]
        )
        start += width
    out = batch_norm(torch.cat(outs, dim=1), norm)
    return torch.where(out > 0, out, 0.1 * out)
