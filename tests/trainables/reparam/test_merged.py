"""Rep-TCN trained as one convolution against the same branch by branch: outputs, gradients, running
statistics; masks, counts, single precision, and batches with no variance.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import naive_models
from trainables.contract.model import Branch
from trainables.reparam.counts import BatchNorm2d, Counts
from trainables.reparam.gram import Centre, Window
from trainables.reparam.merged import NormalisedRepTCN, merged_forward
from trainables.reparam.merged_operators import bordered_conv, kernel_gradient
from trainables.reparam.rep_tcn import RepTCN
from trainables.sparsity.masks import attach

pytestmark = pytest.mark.usefixtures("library")
K5: tuple[Branch, ...] = ("origin", "pointwise", "average", 5)
K9: tuple[Branch, ...] = ("origin", "pointwise", "average", 5, 7)


def block(
    size: int, branches: Sequence[Branch], stride: int = 1, groups: int = 1, channels: int = 4
) -> NormalisedRepTCN:
    module = NormalisedRepTCN(
        RepTCN(channels, size, branches, stride=stride, groups=groups), channels
    ).double()
    naive_models.randomise_batch_norm(module, torch.Generator().manual_seed(1))
    return module.train()


def merged(module: NormalisedRepTCN, x: Tensor) -> Tensor:
    return merged_forward(module.body, module.bn, x)


def activations(*shape: int, seed: int) -> Tensor:
    """Not centred, as behind a ReLU."""
    return (naive_models.random_clips(*shape, seed=seed) + 0.5).relu()


def scaled_error(ours: Tensor, theirs: Tensor) -> float:
    size = max(theirs.abs().max().item(), 1e-2)  # some gradients are zero but for rounding
    return (ours.double() - theirs.double()).abs().max().item() / size


def errors_of_a_step(
    module: NormalisedRepTCN, twin: NormalisedRepTCN, x: Tensor, upstream: Tensor
) -> dict[str, float]:
    """Relative differences of one forward and backward pass, merged (twin) and not."""
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = merged(twin, ours), module(theirs)
    out.backward(upstream)
    expected.backward(upstream)
    assert ours.grad is not None
    assert theirs.grad is not None
    errors = {"output": scaled_error(out, expected), "input": scaled_error(ours.grad, theirs.grad)}
    for (name, parameter), other in zip(twin.named_parameters(), module.parameters(), strict=True):
        assert parameter.grad is not None, name
        errors[name] = scaled_error(parameter.grad, other.grad)
    for (name, buffer), other in zip(twin.named_buffers(), module.buffers(), strict=True):
        errors[name] = scaled_error(buffer, other)
    return errors


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("frames", [12, 13])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "branches"), [(5, K5), (9, K9)])
def test_three_steps_equal_those_of_the_branches(size, branches, stride, frames, masked):
    module = block(size, branches, stride)
    if masked:
        for number, layer in enumerate(module.body.parts()):
            draw = naive_models.random_clips(*layer.weight.shape, seed=number)
            attach(layer, (draw > 0).double())
    twin = copy.deepcopy(module)
    steps = [
        torch.optim.SGD(each.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for each in (module, twin)
    ]
    for step in range(3):
        x = activations(3, 4, frames, 5, seed=step)
        upstream = naive_models.random_clips(*module(x).shape, seed=9)
        twin.load_state_dict(module.state_dict())  # what only counted the batch above
        errors = errors_of_a_step(module, twin, x, upstream)
        assert max(errors.values()) < 1e-11, errors
        for each in steps:
            each.step()
            each.zero_grad()


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "branches"),
    [(5, ("origin",)), (5, (3, "pointwise")), (9, ("average", 9, 5)), (3, ("average", "origin"))],
)
def test_any_branches_groups_and_lengths(size, branches, groups, stride, frames):
    module = block(size, branches, stride, groups)
    x = activations(3, 4, frames, 5, seed=1)
    upstream = naive_models.random_clips(3, 4, (frames - 1) // stride + 1, 5, seed=2)
    errors = errors_of_a_step(module, copy.deepcopy(module), x, upstream)
    assert max(errors.values()) < 1e-9, errors  # two frames leave little variance to divide by


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "branches"), [(5, K5), (9, K9)])
def test_counted_samples_weigh_as_often_as_they_are_taken(size, branches, stride, groups):
    module = block(size, branches, stride, groups)
    twin, counts = copy.deepcopy(module), Counts()
    for norm in twin.modules():
        if isinstance(norm, BatchNorm2d):
            norm.counts = counts
    often, first = torch.tensor([1, 4, 2]), [0, 1, 5]
    number = torch.arange(3).repeat_interleave(often)
    ours = activations(3, 4, 9, 5, seed=1).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    upstream = naive_models.random_clips(3, 4, 8 // stride + 1, 5, seed=2)
    with counts.of(often.float(), 7):
        out = merged(twin, ours)
    everything = module(theirs[number])
    (out * upstream * often[:, None, None, None]).sum().backward()
    (everything * upstream[number]).sum().backward()
    pairs = [(out, everything[first]), (ours.grad, theirs.grad)]
    pairs += zip(twin.buffers(), module.buffers(), strict=True)
    # beside the largest: of a bias before a BatchNorm the gradient is nothing but rounding
    pairs.append(
        tuple(
            torch.cat([each.grad.flatten() for each in form.parameters()])
            for form in (twin, module)
        )
    )
    for found, expected in pairs:
        assert scaled_error(found, expected) < 1e-12


def test_what_samples_far_apart_add_has_gradients_in_double_precision():
    """Of constants and levels, and the kernel's is that of the input without its centre: beside
    it, single precision would round by the distance.
    """
    clips = naive_models.random_clips(6, 4, 9, 5, seed=1)
    clips[0] += 1000
    kernel = naive_models.random_clips(3, 4, 5, 1, seed=2)
    upstream = naive_models.random_clips(6, 3, 9, 5, seed=3).float()
    zeros, window, found = torch.zeros(3, 9, dtype=torch.float64), Window(5, 1, 1), []
    centre = Centre.of(clips.float().mean(dim=(2, 3)), None)
    for dtype in (torch.float64, torch.float32):
        x = clips.float().to(dtype)
        inputs = [each.clone().requires_grad_() for each in (kernel.to(dtype), zeros, zeros)]
        out = bordered_conv(x, centre.without(x), centre, *inputs, window)
        found.append(torch.autograd.grad(out, inputs, upstream.to(dtype)))
    (exact, *plain), (single, *others) = found
    assert scaled_error(single, exact) < 1e-4  # what x less its centre is rounded by
    for ours, theirs in zip(others, plain, strict=True):
        assert ours.dtype == torch.float64
        assert scaled_error(ours, theirs) < 1e-12


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 9])
def test_the_kernels_gradient_is_that_of_the_convolution(size, groups, stride, frames):
    window = Window(size, stride, groups)
    x = naive_models.random_clips(3, 4, frames, 5, seed=1)
    kernel = naive_models.random_clips(6, 4 // groups, size, 1, seed=2).requires_grad_()
    out = F.conv2d(x, kernel, None, (stride, 1), (size // 2, 0), 1, groups)
    upstream = naive_models.random_clips(*out.shape, seed=3)
    out.backward(upstream)
    ours = kernel_gradient(upstream, x, window)
    torch.testing.assert_close(ours, kernel.grad, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("size", "branches"), [(5, K5), (9, K9)])
def test_single_precision_rounds_no_more_than_twice_as_much_as_the_branches(size, branches):
    exact = block(size, branches, channels=16)
    x = activations(4, 16, 16, 10, seed=3)
    upstream = naive_models.random_clips(4, 16, 16, 10, seed=4)
    found: list[list[Tensor]] = []
    for dtype, forward in (
        (torch.float64, exact.__class__.forward),
        (torch.float32, exact.__class__.forward),
        (torch.float32, merged),
    ):
        module, clips = (
            copy.deepcopy(exact).to(dtype),
            x.detach().clone().to(dtype).requires_grad_(),
        )
        out = forward(module, clips)
        out.backward(upstream.to(dtype))
        weights = torch.cat([each.grad.flatten() for each in module.parameters()])
        statistics = torch.cat([buffer.flatten().double() for buffer in module.buffers()])
        found.append([out.detach(), clips.grad, weights, statistics])
    for plain, branches_error, merged_error in zip(*found, strict=True):
        allowed = 2 * (branches_error.double() - plain).norm()
        assert (merged_error.double() - plain).norm() <= allowed


# clips that stand for themselves, deviations from the constant one to them, stride, groups, and
# whether the constant one is run once
COUNTED = {
    "most are one": (7, 1, 1, 1, True),
    "half are one": (17, 1, 1, 1, True),
    "most are one, far away": (7, 4, 1, 1, True),
    "half are one, far away, stride, copies": (17, 4, 2, 1, False),
    "most are one, very far away, grouped": (7, 12, 1, 2, True),
    "half are one, very far away": (17, 12, 1, 1, True),
    "most are one, at thirty deviations": (7, 30, 1, 1, True),
    "most are one, at thirty deviations, grouped": (7, 30, 1, 2, True),
    "half are one, at thirty deviations, stride, copies": (17, 30, 2, 1, False),
}


@pytest.mark.parametrize("case", sorted(COUNTED))
@pytest.mark.parametrize(("size", "branches"), [(5, K5), (9, K9)])
def test_single_precision_with_counts_rounds_no_more_than_twice_as_much(size, branches, case):
    """A constant clip stands for many of the samples, far from the mean of the others.

    Geometric means over eight batches: in one, a few channels decide, and single errors are up to
    ten times the usual by the luck of the order in which products are added. Quadratic forms of
    Gram matrices of everything lose 6 to 10 times as much as the branches 4 deviations away, 50 to
    130 times 12 deviations away. At 30 a kernel gradient that holds what the centre adds loses 2 to
    5 times as much, seen in the gradients of scales.
    """
    alone, apart, stride, groups, run_once = COUNTED[case]
    exact, rows = block(size, branches, stride, groups, channels=16), 1 + alone
    often = torch.tensor([32 - rows, *[1] * alone])
    errors = []
    for seed in range(8):
        x = activations(rows, 16, 16, 10, seed=5 + 2 * seed)
        x = x + (apart - 1) * x.std()  # the mean of activations is one deviation
        x[0] = 0
        upstream = naive_models.random_clips(rows, 16, 16 // stride, 10, seed=6 + 2 * seed)
        errors.append(torch.stack(_rounding_with_counts(exact, x, upstream, often, run_once)))
    by_branches, by_merged = torch.stack(errors).log().mean(dim=0).exp()
    assert (by_merged <= 2 * by_branches).all(), by_merged / by_branches


def _rounding_with_counts(
    exact: NormalisedRepTCN, x: Tensor, upstream: Tensor, often: Tensor, run_once: bool
) -> tuple[Tensor, Tensor]:
    """Errors (branches, merged) of output, gradients of input, kernels, scales and shifts of
    BatchNorm, and statistics.
    """
    number, first = torch.arange(len(x)).repeat_interleave(often), often.cumsum(0) - often
    found: list[list[Tensor]] = []
    for dtype, forward, counted in (
        (torch.float64, exact.__class__.forward, False),
        (torch.float32, exact.__class__.forward, False),
        (torch.float32, merged, run_once),
    ):
        module, counts = copy.deepcopy(exact).to(dtype), Counts()
        clips = x.clone().to(dtype).requires_grad_()
        for norm in module.modules():
            if isinstance(norm, BatchNorm2d):
                norm.counts = counts
        if counted:
            with counts.of(often.float(), int(often.sum())):
                out = forward(module, clips)
            (out * (upstream * often[:, None, None, None]).to(dtype)).sum().backward()
        else:
            everything = forward(module, clips[number])
            out = everything[first]
            (everything * upstream[number].to(dtype)).sum().backward()
        kernels = [each.grad.flatten() for each in module.parameters() if each.ndim > 1]
        scales, shifts = (
            [
                norm.get_parameter(name).grad
                for norm in module.modules()
                if isinstance(norm, BatchNorm2d)
            ]
            for name in ("weight", "bias")
        )
        gradients = [torch.cat(each) for each in (kernels, scales, shifts)]
        statistics = torch.cat([buffer.flatten().double() for buffer in module.buffers()])
        found.append([out.detach(), clips.grad, *gradients, statistics])
    plain, in_branches, in_merged = found
    return tuple(
        torch.stack(
            [(ours.double() - true).norm() for ours, true in zip(single, plain, strict=True)]
        )
        for single in (in_branches, in_merged)
    )


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (1, 2), (2, 2)])
def test_a_single_value_per_channel_is_refused_as_branch_by_branch(frames, stride):
    module = block(5, K5, stride)
    for forward in (module.__class__.forward, merged):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            forward(module, activations(1, 4, frames, 1, seed=1))


def test_a_branch_of_another_kind_is_not_left_out():
    module = block(5, K5)
    module.body.branches["new"] = nn.Conv2d(4, 4, 1)
    with pytest.raises(AssertionError, match="not merged"):
        merged(module, activations(2, 4, 8, 3, seed=1))


def _constant_channel(x: Tensor) -> Tensor:
    x[:, 1] = 1000.1
    return x


def _nearly_constant(x: Tensor) -> Tensor:
    return 100 + 1e-4 * x


HOSTILE = {
    "constant channel": (_constant_channel, (3, 4, 12, 5)),
    "all constant": (lambda x: torch.full_like(x, 17.3), (3, 4, 12, 5)),
    "all zero": (torch.zeros_like, (3, 4, 12, 5)),
    "variance near zero": (_nearly_constant, (3, 4, 12, 5)),
    "clips of one frame": (lambda x: x, (3, 4, 1, 5)),
    "batch of one": (lambda x: x, (1, 4, 12, 5)),
    "one value per frame": (lambda x: x, (1, 4, 12, 1)),
}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_batches_with_little_variance_are_as_stable_as_branch_by_branch(case, stride):
    change, shape = HOSTILE[case]
    x = change(activations(*shape, seed=6))
    exact, found = block(9, K9, stride), []
    upstream = torch.ones_like(exact(x)).cumsum(dim=2)
    for dtype, forward in (
        (torch.float64, exact.__class__.forward),
        (torch.float32, exact.__class__.forward),
        (torch.float32, merged),
    ):
        module, clips = (
            copy.deepcopy(exact).to(dtype),
            x.detach().clone().to(dtype).requires_grad_(),
        )
        out = forward(module, clips)
        out.backward(upstream.to(dtype))
        assert clips.grad.isfinite().all()
        found.append((out.detach().double(), clips.grad.double()))
    for plain, by_branch, as_one in zip(*found, strict=True):
        rounding = (by_branch - plain).norm()
        floor = 1e-5 * plain.norm() + 1e-5
        assert (as_one - plain).norm() <= 2 * rounding + floor


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_variances_of_such_batches_are_never_negative(case, stride, counted):
    """As differences of sums they would be, where nothing varies."""
    change, shape = HOSTILE[case]
    x, counts = change(activations(*shape, seed=6)).float(), Counts()
    module = block(9, K9, stride).float()
    for norm in module.modules():
        if isinstance(norm, BatchNorm2d):
            norm.momentum, norm.counts = 1.0, counts  # running variances are the batch's own
    with counts.of(torch.full((len(x),), 3.0), 3 * len(x)) if counted else nullcontext():
        out = merged(module, x)
    assert out.isfinite().all()
    for norm in module.modules():
        if isinstance(norm, BatchNorm2d):
            assert (norm.running_var >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_variances_of_kernels_that_see_no_change_are_never_negative(seed):
    """All channels are multiples of one, and what they are multiplied by is taken out of the
    kernels: a quadratic form is then as often below zero as above.
    """
    module, direction = block(9, K9, channels=8), naive_models.random_clips(8, seed=seed)
    direction /= direction.norm()
    with torch.no_grad():
        for layer in module.body.parts():
            seen = torch.einsum("oikj,i->okj", layer.weight, direction)
            layer.weight -= seen[:, None] * direction[:, None, None]
    for norm in module.modules():
        if isinstance(norm, BatchNorm2d):
            norm.momentum = 1.0
    x = activations(3, 1, 12, 5, seed=seed) * direction[:, None, None]
    out = merged(module.float(), x.float())
    assert out.isfinite().all()
    for norm in module.modules():
        if isinstance(norm, BatchNorm2d):
            assert (norm.running_var >= 0).all()


def test_reduced_precision_is_close_to_single():
    module = block(5, K5, channels=8).float()
    twin = copy.deepcopy(module)
    x = activations(4, 8, 12, 5, seed=2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = merged(twin, x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert scaled_error(out, module(x)) < 2e-2
    assert scaled_error(twin.bn.running_var, module.bn.running_var) < 1e-2


def test_no_samples_are_run_by_the_branches():
    module = block(5, K5)
    module.merged = True
    x = activations(8, 4, 64, 100, seed=1)[:0].requires_grad_()
    assert module(x).shape == x.shape


def test_evaluation_and_small_batches_run_the_branches():
    module = block(5, K5)
    twin = copy.deepcopy(module)
    twin.merged = True
    x = activations(2, 4, 8, 3, seed=1)
    assert torch.equal(module(x), twin(x))  # too few positions for it to pay
    wide = activations(8, 4, 64, 100, seed=1)
    assert not torch.equal(module(wide), twin(wide))
    assert torch.equal(module.eval()(x), copy.deepcopy(module).eval()(x))
