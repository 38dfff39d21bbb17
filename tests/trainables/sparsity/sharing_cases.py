"""Networks with masks that survive fusing."""

from __future__ import annotations

import torch
from torch import nn

from tests import naive_models
from trainables.contract.config import SparsityConfig, TrialConfig
from trainables.sparsity.generator import SparseGenerator

CASES: dict[str, dict] = {
    "hpi_gcn_rp": {},
    "hpi_gcn_op": {},
    "hpi_gcn_op K9": {"kernel_size": 9},
    "hpi_gcn_rp K7 without origin": {"kernel_size": 7, "branches": ("pointwise", 5, "average")},
    "hpi_gcn_baseline": {},
    "hpi_gcn_baseline as released": {"normalised": False},
    "hd_gcn": {},
    **{
        f"{name} rep_tcn": {"temporal": "rep_tcn"}
        for name in ("st_gcn", "aa_gcn", "ctr_gcn", "dg_stgcn", "st_gcn_k5", "info_gcn", "hd_gcn")
    },
}


LEVEL = 0.8


LAYOUT, JOINTS, FRAMES = "coco17", 17, 6


def network_of(case: str, **changes):
    network = naive_models.narrow_backbone(
        case.split()[0], **({"layout": LAYOUT} | CASES[case] | changes)
    )
    for parameter in network.parameters():  # skeleton graphs hold zeros, which no mask put there
        parameter.data[parameter.data == 0] = 0.01
    return network


def generator_of(network, sharing: str, warmup_epochs: int = 0, **sparsity) -> SparseGenerator:
    config = SparsityConfig(
        **{"level": LEVEL, "sharing": sharing, "penalty_weight": 1.0, **sparsity}
    )
    generator = SparseGenerator(list(network.blocks), config, warmup_epochs, seed=4)
    generator.mask_constant_channels(network, torch.ones(1, 3, FRAMES, JOINTS, 1))
    return generator


def optimizer_of(network, lr: float = 0.01) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-3
    )


def step(
    network,
    optimizer,
    generator: SparseGenerator,
    epoch: int = 0,
    seed: int = 5,
    *,
    clip: bool = True,
) -> None:
    clips = naive_models.random_clips(4, 3, FRAMES, JOINTS, 1, seed=seed)
    network.train()
    torch.manual_seed(seed)  # dropout
    loss, _ = network.objective(clips, torch.tensor([0, 1, 2, 3]))
    penalty = generator.penalty(epoch)
    optimizer.zero_grad()
    (loss if penalty is None else loss + penalty).backward()
    if clip:
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def trial(sharing: str, level: float = 0.5, **model) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p"},
            "model": model,
            "sparsity": {"level": level, "sharing": sharing},
        }
    )
