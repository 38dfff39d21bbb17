"""The temporal modules by arithmetic."""

from __future__ import annotations

from trainables.contract.model import ModelConfig
from trainables.cost.counting.ms_tcn import count_ms_tcn
from trainables.cost.counting.six_branch_tcn import count_six_branch_tcn
from trainables.cost.counting.tally import Tally


def count_temporal(
    model: ModelConfig, tally: Tally, channels: int, before: int, frames: int, *, bias: bool = True
) -> None:
    """The module `build_temporal` builds; `before` and `frames`: lengths of its input and output.
    `bias`: of the single convolution.
    """
    match model.temporal:
        case "conv":
            tally.conv_bn(channels, channels, frames, taps=model.kernel_size, bias=bias)
        case "rep_tcn":
            _rep_tcn(model, tally, channels, before, frames)
        case "ms_tcn":
            count_ms_tcn(model, tally, channels, before, frames)
        case "ms_tcn6" | "dg_ms_tcn":
            count_six_branch_tcn(model, tally, channels, before, frames)


def _rep_tcn(model: ModelConfig, tally: Tally, channels: int, before: int, frames: int) -> None:
    """Branches of convolution and BatchNorm, then BatchNorm; the released code fuses the branches
    and keeps the last BatchNorm.
    """
    if tally.form != "training":
        tally.conv(channels, channels, frames, taps=model.kernel_size, bias=True)
        if tally.form == "released":
            tally.norm(channels)
        return
    for branch in model.branches:
        if branch == "origin" or branch == "pointwise":
            tally.conv_bn(
                channels, channels, frames, taps=model.kernel_size if branch == "origin" else 1
            )
            continue
        tally.conv_bn(channels, channels, before)
        if branch == "average":
            tally.norm(channels)
        else:
            tally.conv_bn(channels, channels, frames, taps=int(branch))
    tally.fuse_branches(model.branches, model.kernel_size)
    tally.norm(channels)
