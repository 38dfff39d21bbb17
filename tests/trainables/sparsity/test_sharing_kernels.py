"""The kernels and branch masks behind masks that survive fusing, against slow twins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import naive_models, naive_sparsity
from tests.trainables.sparsity.sharing_cases import (
    FRAMES,
    JOINTS,
    generator_of,
    network_of,
    optimizer_of,
    step,
    trial,
)
from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig
from trainables.cost.counting.count import count
from trainables.cost.counting.sparse import side
from trainables.layouts import load_layout
from trainables.reparam.kernels import average_kernel
from trainables.reparam.rep_tcn import RepTCN


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


def test_average_kernel_of_one_tap_only_scales_channels():
    x = naive_models.random_clips(1, 4, 3, 2)
    assert torch.equal(
        torch.nn.functional.conv2d(x, average_kernel(4, 1, groups=2, like=x), groups=2), x
    )


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
