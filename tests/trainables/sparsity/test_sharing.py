"""Masks that survive fusing: the same laws for every backbone in which something fuses."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn

from tests import naive_models, naive_sparsity
from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig, TrialConfig
from trainables.cost.counting.count import Count, count, removed_count
from trainables.cost.counting.sparse import side
from trainables.deploy.form import deploy, load_deploy, nonzero_params, save_deploy
from trainables.layouts import load_layout
from trainables.reparam.fusible import FULL, RELEASED
from trainables.reparam.fusion import Fusion
from trainables.reparam.kernels import average_kernel
from trainables.reparam.rep_tcn import RepTCN
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import random_scores
from trainables.sparsity.sharing import SharedKernel, counted_kernels

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
SHARINGS = ("branches", "channels", "fused")
PAIRS = [
    (case, sharing)
    for case in CASES
    for sharing in SHARINGS
    if sharing != "branches" or ("baseline" not in case and case != "hd_gcn")
]
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


def test_magnitude_at_init_keeps_the_largest_fused_weights():
    network = network_of("hpi_gcn_op")
    kernel = next(part for part in network.blocks.modules() if isinstance(part, RepTCN))
    before = kernel.one_kernel().detach().abs()
    generator_of(network, "fused", generator="magnitude_at_init", scope="tensor")
    kept = kernel.kernel_mask.mask == 1
    assert before[kept].min() >= before[~kept].max()


def test_magnitude_at_init_keeps_the_channels_with_the_largest_weights():
    network = network_of("hpi_gcn_op", stages=(1,))
    first = [part for part in network.blocks[0].modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        for conv in first:
            conv.weight[[1, 6]] *= 100
            conv.weight[:, [1, 6]] *= 100
    generator = generator_of(network, "channels", level=0.93, generator="magnitude_at_init")
    assert side(8, 0.93) == 2
    for masked in generator._masked[0]:
        kept = masked.mask[:, :, 0, 0]
        assert kept.nonzero().unique().tolist() == [1, 6]
        assert kept.sum() == 4


@pytest.mark.parametrize(
    "branches",
    [
        ("origin", "pointwise", "average", 5),
        ("average", 3),
        ("pointwise", 5),
        ("origin",),
        ("pointwise",),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_branch_masks_are_within_the_mask_and_fill_it(branches, groups):
    module = RepTCN(4, 5, branches, groups=groups).double()
    kernel = module.one_kernel()
    mask = (torch.rand(kernel.shape, generator=torch.Generator().manual_seed(1)) > 0.6).double()
    masks = module.masks_within(mask)
    assert [part.shape for part in masks] == [conv.weight.shape for conv in module.parts()]
    supports = naive_sparsity.branch_supports(
        branches, [part[..., 0].tolist() for part in masks], kernel.shape[2], groups
    )
    found = torch.tensor(supports, dtype=torch.float64)[..., None]
    assert torch.equal(found.amax(dim=0), mask)


def test_no_larger_mask_of_the_average_branch_stays_within():
    module = RepTCN(4, 5, ("origin", "average")).double()
    mask = (
        torch.rand(module.one_kernel().shape, generator=torch.Generator().manual_seed(1)) > 0.4
    ).double()
    average = module.masks_within(mask)[1]
    assert 0 < average.sum() < average.numel()
    for o, i in (average[:, :, 0, 0] == 0).nonzero().tolist():
        assert (mask[o, i, 1:4] == 0).any()


def test_inside_a_fixed_kernel_statistics_stay_and_gradients_reach_everything():
    network = network_of("hpi_gcn_rp")
    generator, optimizer = generator_of(network, "fused"), optimizer_of(network)
    generator.begin_epoch(0, optimizer)
    inner = [
        norm
        for part in network.blocks.modules()
        if isinstance(part, RepTCN)
        for norm in part.modules()
        if isinstance(norm, nn.BatchNorm2d)
    ]
    before = [norm.running_mean.clone() for norm in inner]
    step(network, optimizer, generator, epoch=1)
    assert all(
        torch.equal(norm.running_mean, mean) for norm, mean in zip(inner, before, strict=True)
    )
    silent = [
        name
        for name, parameter in network.blocks.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert [name for name in silent if not name.endswith("bias")] == []


def test_gradient_through_the_masked_kernel_by_finite_differences():
    torch.manual_seed(0)
    module = RepTCN(2, 5, ("origin", "pointwise", "average", 5)).double()
    naive_models.randomise_batch_norm(module, torch.Generator().manual_seed(3))
    mask = (torch.rand(module.one_kernel().shape) > 0.5).double()
    module.mask_kernel(mask).active = True
    x = naive_models.random_clips(1, 2, 4, 1)
    parameters = dict(module.named_parameters())

    def run(*values):
        return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, tuple(parameters.values()), fast_mode=True)


def test_a_fixed_kernel_is_the_naive_convolution():
    module = RepTCN(4, 5, ("origin", "pointwise", "average", 5), stride=2).double().eval()
    naive_models.randomise_batch_norm(module, torch.Generator().manual_seed(3))
    x = naive_models.random_clips(2, 4, 7, 3)
    with torch.no_grad():
        masked = module.mask_kernel(torch.ones_like(module.one_kernel()))
        masked.active = True
        assert (module(x) - naive_models.rep_tcn(module, x, 2, 1)).abs().max() < 1e-12
        masked.mask[:, 1] = 0  # input 1 is not seen any more
        other = x.clone()
        other[:, 1] += 1
        assert torch.equal(module(x), module(other))


def test_trains_in_bfloat16_with_a_kernel_fused_in_single_precision():
    network = network_of("hpi_gcn_rp").float()
    generator = generator_of(network, "fused")
    generator.begin_epoch(0, optimizer_of(network))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = network.objective(
            naive_models.random_clips(4, 3, FRAMES, JOINTS, 1).float(), torch.arange(4)
        )
    loss.backward()
    assert all(
        parameter.grad.isfinite().all() and parameter.grad.dtype == torch.float32
        for parameter in network.parameters()
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


def test_average_kernel_of_one_tap_only_scales_channels():
    x = naive_models.random_clips(1, 4, 3, 2)
    assert torch.equal(
        torch.nn.functional.conv2d(x, average_kernel(4, 1, groups=2, like=x), groups=2), x
    )


def trial(sharing: str, level: float = 0.5, **model) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p"},
            "model": model,
            "sparsity": {"level": level, "sharing": sharing},
        }
    )


@pytest.mark.parametrize("sharing", SHARINGS)
def test_sharing_where_nothing_fuses_is_an_error(sharing):
    with pytest.raises(ValueError, match=rf"sparsity\.sharing {sharing} needs .*rep_tcn.*got"):
        trial(sharing, backbone="st_gcn")
    trial(sharing, backbone="st_gcn", temporal="rep_tcn")
    trial(sharing, backbone="st_gcn", level=0.0)  # nothing is removed
    if sharing != "branches":
        trial(sharing, backbone="hpi_gcn_baseline")


def test_branches_that_no_mask_fits_are_an_error():
    with pytest.raises(ValueError, match=r"origin or a number"):
        trial("branches", branches=["pointwise", "average"])
    trial("fused", branches=["pointwise", "average"])


@pytest.mark.parametrize(
    ("level", "kept"), [(0.0, 64), (0.5, 45), (0.95, 14), (0.99, 6), (0.9999, 1)]
)
def test_side_of_the_rectangle(level, kept):
    assert side(64, level) == kept
    config = SparsityConfig(level=level, sharing="channels")
    model = ModelConfig(backbone="hpi_gcn_op")
    found = count(
        model, load_layout("ntu25"), classes=60, persons=1, frames=64, stream=StreamConfig()
    )
    assert found.deploy_nonzero_params(config)[1]
