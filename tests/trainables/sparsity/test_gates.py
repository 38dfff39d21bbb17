import pytest
import torch

from tests import naive_sparsity as naive
from trainables.sparsity.gates import (
    GATES,
    HardConcreteGate,
    ThresholdGate,
    attach_gate,
    hard_concrete,
    logistic_noise,
    soft_threshold,
)

EXACT = 1e-12  # float64: rounding of a handful of operations on numbers of order one


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_threshold_matches_the_naive_twin_and_is_exact_at_both_ends():
    weight = weights(40)
    cut = weight.abs().sort().values[20]
    expected = [naive.soft_threshold(float(w), float(cut)) for w in weight]
    found = soft_threshold(weight, cut)
    assert found.tolist() == pytest.approx(expected, abs=EXACT)
    assert int((found == 0).sum()) == 21  # the weight at the threshold itself included
    assert torch.equal(soft_threshold(weight, torch.zeros((), dtype=torch.float64)), weight)


def test_gradients_of_the_gate_functions_by_finite_differences():
    weight = weights(30).requires_grad_()
    # no weight within a finite difference of it
    cut = torch.tensor(0.5123, dtype=torch.float64, requires_grad=True)
    assert (weight.abs() - cut).abs().min() > 1e-3
    assert torch.autograd.gradcheck(soft_threshold, (weight, cut))
    gates, noise = weights(30, seed=1).requires_grad_(), logistic_noise(weights(30))
    assert torch.autograd.gradcheck(hard_concrete, (gates,))
    assert torch.autograd.gradcheck(lambda gate: hard_concrete(gate, noise), (gates,))
    assert torch.autograd.gradcheck(
        lambda gate: HardConcreteGate.expected_kept([gate], [weight]), (gates,)
    )
    assert torch.autograd.gradcheck(
        lambda a, b: ThresholdGate.expected_kept([a, b], [weight[:20], weight[20:]]),
        (-cut, -2 * cut),
    )


@pytest.mark.parametrize("u", [None, 0.01, 0.4, 0.97])
def test_hard_concrete_matches_the_naive_twin(u):
    gates = torch.linspace(-6, 6, 41, dtype=torch.float64)
    noise = None if u is None else torch.logit(torch.full_like(gates, u))
    assert hard_concrete(gates, noise).tolist() == pytest.approx(
        [naive.hard_concrete(float(gate), u) for gate in gates], abs=EXACT
    )


def test_a_gate_is_open_as_often_as_is_expected():
    torch.manual_seed(0)
    gates = torch.tensor([-4.0, -2.0, 0.0, 2.0], dtype=torch.float64)
    draws = 20_000
    found = (hard_concrete(gates, logistic_noise(gates.expand(draws, -1))) > 0).double().mean(dim=0)
    for gate, share in zip(gates, found, strict=True):
        expected = float(HardConcreteGate.expected_kept([gate], [gate]))
        assert expected == pytest.approx(naive.hard_concrete_kept([float(gate)]), abs=EXACT)
        # four standard errors
        assert abs(share - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5


def test_the_soft_count_of_thresholds_matches_the_naive_twin():
    tensors, gates = [weights(3, 4), 5 * weights(7, seed=1)], [-0.3, -1.2]
    found = ThresholdGate.expected_kept(
        [torch.tensor(gate, dtype=torch.float64) for gate in gates], tensors
    )
    assert float(found) == pytest.approx(
        naive.threshold_kept([tensor.flatten().tolist() for tensor in tensors], gates), abs=EXACT
    )


@pytest.mark.parametrize("kind", GATES)
def test_an_open_gate_changes_nothing_and_a_weight_is_zero_where_its_margin_is_used_up(kind):
    layer = torch.nn.Conv2d(6, 8, (3, 1), dtype=torch.float64)
    before = layer.weight.detach().clone()
    gate = attach_gate(layer, GATES[kind])
    gate.gate.fill_(gate.OPEN)
    assert torch.equal(layer.weight, before)
    gate.gate.copy_(weights(*gate.gate.shape) * 3 if gate.gate.ndim else torch.tensor(-0.9))
    kept = layer.weight != 0
    assert 0 < int(kept.sum()) < kept.numel()
    assert torch.equal(kept, gate.margins(before) > 0)
    # a shift of the gate is a shift of all margins
    gate.gate -= gate.margins(before).flatten().sort().values[10]
    # rounding decides on the weight at the boundary
    assert int((layer.weight != 0).sum()) in (kept.numel() - 11, kept.numel() - 10)


def test_a_tensor_of_zeros_has_a_threshold():
    layer = torch.nn.Conv2d(2, 2, 1)
    torch.nn.init.zeros_(layer.weight)
    gate = attach_gate(layer, ThresholdGate)
    gate.gate.fill_(-1.0)
    assert torch.equal(layer.weight, torch.zeros(2, 2, 1, 1))
    assert gate.margins(layer.weight).isfinite().all()
