"""The law that a backbone is counted as it is built."""

from __future__ import annotations

from math import isclose
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.cost.counting.count import count
from trainables.deploy.form import deploy
from trainables.laws.law import PartSettings, require
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.reparam.fusible import FULL


def is_counted_as_it_is_built(
    model: PartSettings, *, layout: str, persons: int, frames: int, changes: dict[str, Any]
) -> None:
    """Its counter gives the parameters and MACs of the network and of its deploy form, and the
    weights of every block that masks may touch.
    """
    skeleton, classes = load_layout(layout), 12
    config = ModelConfig.model_validate({**changes, **model})
    sizes: dict[str, Any] = {"classes": classes, "persons": persons, "stream": StreamConfig()}
    counted = count(config, skeleton, frames=frames, **sizes)
    with torch.device("meta"):
        network = build_backbone(config, skeleton, seed=0, **sizes).eval()
        form = deploy(network, FULL)
    weights = [
        sorted(part.weight.numel() for part in block.modules() if isinstance(part, nn.Conv2d))
        for block in network.blocks
    ]
    found = [sorted(block) for block in counted.maskable]
    require(found == weights, f"weights of convolutions by block: counted {found}, built {weights}")
    for what, cost, module in (
        ("network", counted.training, network),
        ("deploy form", counted.deploy, form),
    ):
        params = sum(parameter.numel() for parameter in module.parameters())
        require(
            cost.params == params,
            f"parameters of the {what}: counted {cost.params}, built {params}",
        )
        gmacs, leaf = measured_gmacs(module, frames)
        for name, counted_work, work in (
            ("MACs", cost.gmacs, gmacs),
            ("MACs of convolutions and linear layers", cost.leaf_gmacs, leaf),
        ):
            require(
                isclose(counted_work, work, rel_tol=1e-12),
                f"{name} of the {what}: counted {counted_work * 1e9:.0f}, ran {work * 1e9:.0f}",
            )


def measured_gmacs(module: Any, frames: int) -> tuple[float, float]:
    """(all, convolutions and linear layers alone) as torch counts the operations of one clip."""
    clip = torch.empty(1, 3, frames, module.spec.joints, module.spec.persons, device="meta")
    # torch counts only the form that allocates
    in_place = {
        torch.ops.aten.baddbmm_: lambda _sum, left, right, **_: 2 * left.numel() * right[-1]
    }
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        module(clip)
    operations = counter.get_flop_counts()["Global"]
    leaf = sum(
        number
        for operation, number in operations.items()
        if str(operation) in ("aten.convolution", "aten.addmm")
    )
    return sum(operations.values()) / 2e9, leaf / 2e9


SIZES: tuple[dict[str, Any], ...] = (
    {"layout": "ntu25", "persons": 2, "frames": 64, "changes": {}},
    {"layout": "ucla20", "persons": 1, "frames": 52, "changes": {"channels": 32}},
    {
        "layout": "coco17",
        "persons": 3,
        "frames": 33,
        "changes": {"channels": 16, "stages": (2, 1), "adjacencies": 2, "groups": 4},
    },
    {
        "layout": "openpose18",
        "persons": 1,
        "frames": 5,
        "changes": {"channels": 8, "stages": (1, 1, 2, 1), "strides": (1, 2, 1, 2), "groups": 2},
    },
)
"""Skeletons, clips and depths that counts are compared under."""
