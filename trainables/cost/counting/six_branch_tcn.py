"""The six temporal branches by arithmetic, with and without the mean joint."""

from __future__ import annotations

from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import Tally


def count_six_branch_tcn(
    model: ModelConfig, tally: Tally, channels: int, before: int, frames: int
) -> None:
    """`before` and `frames`: lengths of its input and output.

    The mean over joints is one joint more; behind 1x1 convolutions once deployed.
    """
    deployed, has_mean = tally.form == "deploy", model.temporal == "dg_ms_tcn"
    sixth = channels // 6
    joints = tally.joints + has_mean
    pointwise_joints = tally.joints if deployed else joints
    tally.conv(channels, channels - sixth, before, joints=pointwise_joints)
    for width in (channels - 5 * sixth, sixth, sixth, sixth):
        tally.conv(width, width, frames, taps=model.kernel_size, joints=joints)
    tally.conv(channels, sixth, frames, joints=pointwise_joints)
    tally.conv(channels, channels, frames)
    if deployed:
        tally.norm(sixth)  # behind the maximum
    else:
        tally.norm(channels - sixth)
        tally.norm(channels)
        tally.norm(channels)
    # a coefficient per joint, and once deployed the shift that the mean joint must not bring along
    if has_mean:
        tally.leaf_params += tally.joints + channels * deployed
