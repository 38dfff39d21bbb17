"""Channels that masks leave constant: all of them are found, in every backbone, and their
statistics change nothing.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import naive_models
from tests.trainables.sparsity.small import attached
from tests.trainables.sparsity.small import network as small_network
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import SparsityConfig
from trainables.sparsity.generator import SparseGenerator

FRAMES, JOINTS = 8, 17
CASES: dict[str, dict] = {
    **{name: {} for name in BACKBONES.own},
    "ctr_gcn rep_tcn": {"temporal": "rep_tcn"},
    "st_gcn ms_tcn6": {"temporal": "ms_tcn6"},
    "hpi_gcn_rp fused": {"sharing": "fused"},
    "hpi_gcn_op channels": {"sharing": "channels"},
}


def masked_network(case: str, level: float = 0.95):
    """(network with masks that apply, its generator): two blocks, the first one without a residual
    in most backbones.
    """
    options = dict(CASES[case])
    sharing = options.pop("sharing", "none")
    network = naive_models.narrow_backbone(
        case.split()[0], layout="coco17", channels=16, groups=4, **options
    )
    generator = SparseGenerator(
        list(network.blocks), SparsityConfig(level=level, sharing=sharing), 0, seed=2
    )
    generator.mask_constant_channels(network, torch.ones(1, 3, FRAMES, JOINTS, 1))
    generator.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    return network, generator


@torch.no_grad()
def constant_channels(network, seed: int) -> set[tuple[str, int]]:
    """What BatchNorms of the blocks get that is the same everywhere, in training, with new weights;
    slowly, one channel at a time.
    """
    generator, found = torch.Generator().manual_seed(seed), set()
    for name, parameter in network.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3
        if parameter.ndim > 1:
            parameter.copy_(drawn)
        elif not name.endswith("weight.original"):  # scales of zero stay
            parameter.copy_(drawn.abs() + 0.1)  # shifts that no ReLU cuts off
    hooks = []
    for name, norm in network.blocks.named_modules():
        if isinstance(norm, nn.BatchNorm2d):

            def look(_norm, given, name=name):
                for channel in range(given[0].shape[1]):
                    values = given[0][:, channel]
                    if (values - values.flatten()[0]).abs().max() < 1e-9 * max(
                        1.0, values.abs().max()
                    ):
                        found.add((name, channel))

            hooks.append(norm.register_forward_pre_hook(look))
    network.train()(naive_models.random_clips(3, 3, FRAMES, JOINTS, 1, seed=seed))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_channels_that_are_constant_whatever_the_weights_are_masked(case):
    network, generator = masked_network(case)
    names = {module: name for name, module in network.blocks.named_modules()}
    masked = {
        (names[norm], channel)
        for norm, scale in generator._scales
        for channel in (scale.mask == 0).nonzero().flatten().tolist()
    }
    assert masked
    assert set.intersection(*(constant_channels(network, seed) for seed in range(3))) == masked


@pytest.mark.parametrize(
    "case", ["hpi_gcn_rp", "st_gcn_k5", "aa_gcn", "ctr_gcn", "dg_stgcn", "hd_gcn"]
)
def test_statistics_of_constant_channels_change_nothing(case):
    network, generator = masked_network(case)
    clips = naive_models.random_clips(2, 3, FRAMES, JOINTS, 1)
    with torch.no_grad():
        expected = network.eval()(clips)
        for norm, scale in generator._scales:
            norm.running_mean[scale.mask == 0] = 1e3
            norm.running_var[scale.mask == 0] = 0.0
        assert torch.equal(network(clips), expected)


def test_what_is_drawn_while_looking_changes_no_random_number():
    before = torch.get_rng_state()
    masked_network("info_gcn")  # draws its own weights from a seed of their own
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_norms_of_the_blocks_are_masked():
    model = small_network()
    schedule = attached(model, level=0.9)
    assert not schedule._scales
    assert type(model[1]) is nn.BatchNorm2d
