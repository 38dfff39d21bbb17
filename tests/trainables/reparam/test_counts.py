"""BatchNorm of counted samples against torch's BatchNorm of repeated ones."""

import copy

import pytest
import torch
from torch import nn

from trainables.reparam.counts import BatchNorm2d, Counts, counted_moments

COUNTS = torch.tensor([1.0, 5.0, 1.0, 3.0])


def norms(channels=3):
    """A counting one, and torch's with the same parameters and statistics."""
    counting = BatchNorm2d(channels, momentum=0.3).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*counting.parameters(), counting.running_mean, counting.running_var):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    plain = nn.BatchNorm2d(channels, momentum=0.3).double()
    plain.load_state_dict(copy.deepcopy(counting.state_dict()))
    counting.counts = Counts()
    return counting, plain


def samples(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def assert_same(mine, expected):
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2], ids=["a row each", "two rows each"])
def test_counted_samples_are_repeated_samples(rows):
    counting, plain = norms()
    x = samples(4 * rows, 3, 5, 2) + 7.0
    upstream = samples(int(COUNTS.sum()) * rows, 3, 5, 2)
    # (4 rows,) -> (16 rows,): all rows of a sample, then those of its copy
    number = torch.arange(4 * rows).view(4, rows).repeat_interleave(COUNTS.long(), dim=0).flatten()
    for _ in range(3):  # running statistics move on
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        with counting.counts.of(COUNTS, 10):
            out = counting(mine)
        expected = plain(theirs[number])
        assert_same(out[number], expected)
        (out[number] * upstream[: len(number)]).sum().backward()
        (expected * upstream[: len(number)]).sum().backward()
        assert_same(mine.grad, theirs.grad)
    for name, parameter in counting.named_parameters():
        assert_same(parameter.grad, plain.get_parameter(name).grad)
    for name, tensor in counting.state_dict().items():
        assert_same(tensor, plain.state_dict()[name])
    assert int(counting.num_batches_tracked) == 3


def test_a_single_value_per_channel_is_refused_as_by_torch():
    counting, plain = norms()
    x = samples(1, 3, 1, 1)
    for module in (counting, plain):
        with (
            counting.counts.of(torch.ones(1), 1),
            pytest.raises(ValueError, match="Expected more than 1 value per channel"),
        ):
            module(x)


@pytest.mark.parametrize("training", [True, False])
def test_without_counts_it_is_torchs_bit_for_bit(training):
    counting, plain = norms()
    x = samples(4, 3, 5, 2)
    assert torch.equal(counting.train(training)(x), plain.train(training)(x))
    assert all(
        torch.equal(tensor, plain.state_dict()[name])
        for name, tensor in counting.state_dict().items()
    )


def test_counts_do_not_matter_in_evaluation():
    counting, plain = norms()
    x = samples(4, 3, 5, 2)
    with counting.counts.of(COUNTS, 10):
        assert torch.equal(counting.eval()(x), plain.eval()(x))


def test_counts_end_with_the_forward_pass_even_where_it_fails():
    counts = Counts()
    with pytest.raises(KeyError), counts.of(COUNTS, 10):
        raise KeyError
    assert counts.value is None


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_the_variance_of_a_constant_channel_is_never_negative(offset):
    x = torch.full((4, 3, 5, 2), offset)
    mean, var = counted_moments(x, COUNTS, 100)
    torch.testing.assert_close(mean, x[0, :, 0, 0])
    assert bool((var >= 0).all())
    assert float(var.max()) <= (1e-6 * offset) ** 2


def test_single_precision_is_as_near_as_torchs():
    counting, plain = norms()
    x, upstream = samples(4, 3, 50, 20) * 3 + 20, samples(10, 3, 50, 20)
    number = torch.arange(4).repeat_interleave(COUNTS.long())

    def gradient_of(module, repeated, kind):
        module = copy.deepcopy(module).to(kind)
        mine = x.to(kind, copy=True).requires_grad_()
        if repeated:
            out = module(mine[number])
        else:
            with module.counts.of(COUNTS, 10):
                out = module(mine)[number]
        (out * upstream.to(kind)).sum().backward()
        return torch.cat([out.detach().double().flatten(), mine.grad.double().flatten()])

    exact = gradient_of(plain, True, torch.float64)
    theirs = (gradient_of(plain, True, torch.float32) - exact).abs().max()
    mine = (gradient_of(counting, False, torch.float32) - exact).abs().max()
    assert mine <= 2 * theirs


def test_half_precision_under_autocast_keeps_statistics_in_single():
    counting, _ = norms()
    counting = counting.float()
    x = samples(4, 3, 5, 2).bfloat16().requires_grad_()
    with counting.counts.of(COUNTS, 10), torch.autocast("cpu", dtype=torch.bfloat16):
        out = counting(x)
    out.float().square().sum().backward()
    assert (out.dtype, x.grad.dtype, counting.weight.grad.dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    )
    assert bool(x.grad.isfinite().all())
