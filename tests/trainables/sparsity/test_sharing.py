"""Masks that survive fusing: the same laws for every backbone in which something fuses."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn

from tests import naive_models
from tests.trainables.sparsity.sharing_cases import (
    CASES,
    FRAMES,
    JOINTS,
    LAYOUT,
    LEVEL,
    generator_of,
    network_of,
    optimizer_of,
    step,
    trial,
)
from trainables.contract.config import SparsityConfig, StreamConfig
from trainables.cost.counting.count import Count, count, removed_count
from trainables.deploy.form import deploy, load_deploy, nonzero_params, save_deploy
from trainables.layouts import load_layout
from trainables.reparam.fusible import FULL, RELEASED
from trainables.reparam.fusion import Fusion
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import random_scores
from trainables.sparsity.sharing import SharedKernel, counted_kernels

SHARINGS = ("branches", "channels", "fused")


IN_EVERY_RUN = "hpi_gcn_rp"
"""The case that meets every sharing in every run; each other one meets one of its sharings there,
in turn, and the others in `make test-full`.
"""


def sharings_of(case: str) -> list[str]:
    """Those that its network can have."""
    alone = "baseline" in case or case == "hd_gcn"  # without parallel branches
    return [sharing for sharing in SHARINGS if sharing != "branches" or not alone]


PAIRS = [
    pytest.param(
        case,
        sharing,
        marks=[]
        if case == IN_EVERY_RUN or place == number % len(sharings_of(case))
        else pytest.mark.full,
    )
    for number, case in enumerate(CASES)
    for place, sharing in enumerate(sharings_of(case))
]


@cache
def trained(case: str, sharing: str, scope: str = "block"):
    """A network after a dense step and two masked ones, in evaluation mode, and its generator; not
    to be changed.
    """
    network = network_of(case)
    generator, optimizer = generator_of(network, sharing, 1, scope=scope), optimizer_of(network)
    for epoch in (0, 1, 1):
        generator.begin_epoch(epoch, optimizer)
        step(network, optimizer, generator, epoch)
    return network.eval(), generator


def unsilenced(network):
    """A copy in which channels that are constants have a scale: weights that read nothing but
    constants then ship, too.
    """
    twin = copy.deepcopy(network)
    for norm in [
        part
        for part in twin.modules()
        if isinstance(part, nn.BatchNorm2d) and hasattr(part, "parametrizations")
    ]:
        norm.parametrizations.weight[0].active = False
        norm.parametrizations.weight.original.data[norm.parametrizations.weight[0].mask == 0] = 0.7
    return twin


def counted(network) -> Count:
    spec = network.spec
    layout = load_layout(LAYOUT)
    return count(
        spec.model,
        layout,
        classes=spec.classes,
        persons=spec.persons,
        frames=FRAMES,
        stream=StreamConfig(),
    )


@pytest.mark.parametrize(("case", "sharing"), PAIRS)
class TestSharing:
    def test_both_forms_are_equal_and_the_holes_are_those_that_were_asked_for(
        self, case, sharing, tmp_path
    ):
        network, generator = trained(case, sharing)
        form = deploy(network, frames=FRAMES)
        clips = naive_models.random_clips(3, 3, FRAMES, JOINTS, 1)
        with torch.no_grad():
            expected = network(clips)
            assert (form(clips) - expected).abs().max() <= 1e-9 * expected.abs().max()
        sparsity = SparsityConfig(level=LEVEL, sharing=sharing)
        nonzero, exact = counted(network).deploy_nonzero_params(sparsity)
        heard = deploy(unsilenced(network), frames=FRAMES)
        assert nonzero_params(form) <= nonzero_params(heard)
        if exact:
            assert nonzero_params(heard) == nonzero
        else:  # branches: W0 W1 of RP and the edge convolutions of HD-GCN are filled by chance
            assert sharing == "branches"
            assert case.startswith(("hpi_gcn_rp", "hd_gcn"))
            assert nonzero_params(heard) == pytest.approx(nonzero, rel=0.05)
        counted_tensors = generator.counted(network)
        weights, zeros = (
            sum(math.prod(each.shape) for each in counted_tensors),
            sum(each.removed for each in counted_tensors),
        )
        assert zeros == generator.removed
        if sharing != "channels":
            sizes = [
                [kernel.weight.numel() for kernel in block]
                for block in counted_kernels(list(network_of(case).blocks), sharing)
            ]
            assert weights == sum(map(sum, sizes))
            assert zeros == sum(removed_count(sum(block), LEVEL) for block in sizes)
        save_deploy(form, tmp_path / "deploy.pt")
        with torch.no_grad():
            assert torch.equal(load_deploy(tmp_path / "deploy.pt")(clips), form(clips))

    def test_state_and_copies_carry_everything(self, case, sharing):
        network, _ = trained(case, sharing)
        twin = network_of(case)
        generator_of(twin, sharing, 1, generator="fixed_random").begin_epoch(1, optimizer_of(twin))
        for masked in (
            part
            for part in twin.modules()
            if isinstance(part, Fusion) and part.kernel_mask is not None
        ):
            masked.kernel_mask.active = False  # comes back with the state
        twin.load_state_dict(network.state_dict())
        clips = naive_models.random_clips(2, 3, FRAMES, JOINTS, 1)
        with torch.no_grad():
            expected = network(clips)
            assert torch.equal(twin.eval()(clips), expected)
            assert torch.equal(copy.deepcopy(network)(clips), expected)

    def test_count_of_the_training_form(self, case, sharing):
        network, _ = trained(case, sharing)
        found = sum(parameter.numel() for parameter in network.parameters())
        convs = [part for part in network.blocks.modules() if isinstance(part, nn.Conv2d)]
        found -= sum(int((conv.weight == 0).sum()) for conv in convs)
        expected = counted(network).nonzero_params(SparsityConfig(level=LEVEL, sharing=sharing))
        assert (
            found == expected
            if sharing == "channels"
            else found == pytest.approx(expected, rel=0.02)
        )


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "hd_gcn rep_tcn"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_before_the_switch_it_trains_as_if_dense(case, sharing):
    network, dense = network_of(case), network_of(case)
    generator = generator_of(network, sharing, 3, penalty="none")
    optimizers = optimizer_of(network, lr=1e-4), optimizer_of(dense, lr=1e-4)
    plain = generator_of(network_of(case), "none", 3, penalty="none")
    for _ in range(2):
        generator.begin_epoch(0, optimizers[0])
        # masks change the order of the parameters, and a norm's last bits with it
        step(network, optimizers[0], generator, clip=False)
        step(dense, optimizers[1], plain, clip=False)
    clips = naive_models.random_clips(2, 3, FRAMES, JOINTS, 1)
    with torch.no_grad():
        assert torch.equal(network.eval()(clips), dense.eval()(clips))


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "hd_gcn rep_tcn"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_penalty_empties_what_will_go(case, sharing):
    network = network_of(case)
    generator, optimizer = (
        generator_of(network, sharing, 1000),
        torch.optim.SGD(network.parameters(), lr=1e-3),
    )
    values = []
    for _ in range(4):
        optimizer.zero_grad()
        penalty = generator.penalty(0)
        penalty.backward()
        optimizer.step()
        values.append(float(penalty.detach()))
    assert values == sorted(values, reverse=True)
    # two blocks, each norm falls at least as fast as its weights
    assert values[0] - values[3] > 0.99 * 3 * 2 * 1e-3


@pytest.mark.parametrize(
    ("sharing", "level"), [("none", 0.98), ("branches", 0.98), ("channels", 0.8), ("fused", 0.98)]
)
def test_a_channel_of_which_a_constant_is_left_is_that_constant_in_training_and_in_evaluation(
    sharing, level
):
    """Otherwise running statistics that lag behind are enlarged three hundred times, and evaluation
    is noise.
    """
    network = network_of("hpi_gcn_rp")
    generator, optimizer = (
        generator_of(network, sharing, level=level),
        optimizer_of(network, lr=0.1),
    )
    for _ in range(3):
        generator.begin_epoch(1, optimizer)
        step(network, optimizer, generator, epoch=1)
    assert generator._scales
    x = naive_models.random_clips(4, 16, FRAMES, JOINTS)
    for norm, masked in generator._scales:
        gone, raw = masked.mask == 0, norm.parametrizations.weight.original
        assert not raw[gone].any()
        assert not raw.grad[gone].any()
        assert not optimizer.state[raw]["momentum_buffer"][gone].any()
        for mode in (True, False):
            norm.train(mode)
            out = norm(x[:, : len(raw)])
            assert torch.equal(out[:, gone], norm.bias[gone][:, None, None].expand_as(out[:, gone]))
    network.eval()
    clips = naive_models.random_clips(2, 3, FRAMES, JOINTS, 1)
    foldings = [FULL] if sharing == "fused" else [FULL, RELEASED]
    with torch.no_grad():
        for folding in foldings:
            assert (deploy(network, folding)(clips) - network(clips)).abs().max() <= 1e-9 * network(
                clips
            ).abs().max()
            assert not any(
                "parametrizations" in name for name in deploy(network, folding).state_dict()
            )


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("sharing", ["branches", "fused"])
def test_the_level_holds_in_every_scope(scope, sharing):
    network, generator = trained("hpi_gcn_op", sharing, scope)
    sizes = [
        kernel.weight.numel()
        for block in counted_kernels(list(network_of("hpi_gcn_op").blocks), sharing)
        for kernel in block
    ]
    expected = (
        sum(removed_count(size, LEVEL) for size in sizes)
        if scope == "tensor"
        else removed_count(sum(sizes), LEVEL)
    )
    assert sum(each.removed for each in generator.counted(network)) == generator.removed == expected


@pytest.mark.parametrize("case", ["hpi_gcn_op", "hpi_gcn_rp", "hd_gcn rep_tcn"])
@pytest.mark.parametrize(
    "settings",
    [{"scope": "block"}, {"scope": "tensor"}, {"scope": "tensor", "distribution": "erk"}],
    ids=str,
)
def test_without_sharing_holes_are_filled_as_expected(case, settings):
    """Within 4 %: the 48 columns of a 1x1 kernel keep 5 +- 2 weights each, and each decides on a
    column of the product.
    """
    config = SparsityConfig(level=0.9, **settings)
    network = network_of(case, channels=48)
    generator = SparseGenerator(list(network.blocks), config, 0, seed=1)
    generator.mask_constant_channels(network, torch.ones(1, 3, FRAMES, JOINTS, 1))
    generator.begin_epoch(0, optimizer_of(network))
    nonzero, exact = counted(network).deploy_nonzero_params(config)
    form = deploy(network)
    assert not exact
    assert nonzero_params(form) == pytest.approx(nonzero, rel=0.04)
    assert (
        nonzero
        > 1.2
        * counted(network).deploy_nonzero_params(config.model_copy(update={"sharing": "fused"}))[0]
    )


@pytest.mark.parametrize("sharing", ["none", "branches", "fused"])
@pytest.mark.parametrize(("structure", "level"), [("2:4", 0.5), ("channel", 0.5), ("4x4", 0.75)])
def test_structures_of_what_ships(structure, level, sharing):
    config = SparsityConfig(level=level, structure=structure, sharing=sharing)
    network = network_of("hpi_gcn_op", channels=16)
    generator = SparseGenerator(list(network.blocks), config, 0, seed=1)
    generator.mask_constant_channels(network, torch.ones(1, 3, FRAMES, JOINTS, 1))
    generator.begin_epoch(0, optimizer_of(network))
    nonzero, exact = counted(network).deploy_nonzero_params(config)
    form = deploy(network)
    assert exact == (sharing != "none" and structure != "4x4")
    assert nonzero_params(form) == (nonzero if exact else pytest.approx(nonzero, rel=0.04))
    kernels = [form.blocks[0].temporal.weight, form.blocks[1].temporal.weight]
    if structure == "2:4":
        fits = [
            ((kernel.transpose(1, 3).unflatten(3, (-1, 4)) != 0).sum(dim=4) == 2).all()
            for kernel in kernels
        ]
        assert all(fits) == (sharing != "none")


def test_zeros_of_the_weights_a_trial_starts_from_silence_nothing():
    network = network_of("hpi_gcn_op")
    conv = network.blocks[0].temporal.body.branches["origin"].conv
    conv.weight.data[0] = 0.0
    generator = generator_of(network, "none", level=0.3)
    assert not any(
        norm is network.blocks[0].temporal.body.branches["origin"].bn
        for norm, _ in generator._scales
    )


def test_masks_are_those_of_the_seed():
    masks = [
        [
            masked.mask
            for block in generator_of(network_of("hpi_gcn_op"), sharing)._masked
            for masked in block
        ]
        for sharing in SHARINGS * 2
    ]
    for first, again in zip(masks[:3], masks[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_without_sharing_every_convolution_is_counted_as_ever():
    blocks = list(network_of("hpi_gcn_rp").blocks)
    kernels = counted_kernels(blocks, "none")
    assert not any(isinstance(kernel, SharedKernel) for block in kernels for kernel in block)
    scores = random_scores(kernels, torch.Generator().manual_seed(1))
    assert [[score.shape for score in block] for block in scores] == [
        [kernel.weight.shape for kernel in block] for block in kernels
    ]


@pytest.mark.parametrize("sharing", SHARINGS)
def test_sharing_where_nothing_fuses_is_an_error(sharing):
    with pytest.raises(ValueError, match=rf"sparsity\.sharing {sharing} needs .*rep_tcn.*got"):
        trial(sharing, backbone="st_gcn")
    trial(sharing, backbone="st_gcn", temporal="rep_tcn")
    trial(sharing, backbone="st_gcn", level=0.0)  # nothing is removed
    if sharing != "branches":
        trial(sharing, backbone="hpi_gcn_baseline")
