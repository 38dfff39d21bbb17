"""The level is learned, ends where it was asked to end, and from then on this is training with a
fixed mask.
"""

import pytest
import torch
from torch import nn

from tests.trainables.sparsity.learned_cases import (
    EPOCHS,
    STEPS,
    WARMUP,
    Clips,
    blocks_of,
    config_of,
    fit_of,
    learned,
    network,
    outside,
)
from trainables.contract.config import TrainConfig
from trainables.contract.errors import Interrupted, TrialFailed
from trainables.sparsity.gates import GATES, Gate
from trainables.sparsity.learned import LearnedLevel
from trainables.sparsity.masks import maskable, raw_weight, removed_count
from trainables.training.loop import Fit

ASKED = [{"target": 0.7}, {"price": 1.0}]


def zeros(model):
    return [
        int((layer.weight == 0).sum()) for block in maskable(blocks_of(model)) for layer in block
    ]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("target", [0.3, 0.7, 0.97])
def test_the_target_is_met_exactly_and_stays(tmp_path, gate, target):
    model, reports = network(), []
    fit_of(model, config_of(gate, target=target)).run(
        Clips(), Clips(2), outside(tmp_path, reports=reports)
    )
    total = 72 + 144
    removed = removed_count(total, target)
    assert sum(zeros(model)) == removed
    assert all(gone < size for gone, size in zip(zeros(model), (72, 144), strict=True))
    assert [row["level"] for row in reports[WARMUP:]] == [removed / total] * (EPOCHS - WARMUP)


@pytest.mark.parametrize("gate", GATES)
def test_the_ramp_leads_to_the_target_without_the_last_shift(tmp_path, gate):
    model, reports = network(), []
    fit_of(model, config_of(gate, target=0.7), warmup=30, steps=STEPS, epochs=31).run(
        Clips(), None, outside(tmp_path, reports=reports)
    )
    levels = [row["level"] for row in reports[:30]]
    assert levels[0] < 0.25
    assert abs(levels[29] - 0.7) < 0.1  # the expected share is held, not the number of zeros
    assert levels[15] == pytest.approx(0.7 * (1 - (1 - 15.5 / 24) ** 3), abs=0.15)


@pytest.mark.parametrize("gate", GATES)
def test_a_higher_price_removes_more(tmp_path, gate):
    removed = []
    for price in (0.02, 0.5):
        model = network()
        fit_of(model, config_of(gate, price=price), warmup=15, epochs=16).run(
            Clips(), None, outside(tmp_path / str(price))
        )
        removed.append(zeros(model))
    assert sum(removed[0]) < 0.5 * sum(removed[1])
    # most of the first tensor's weights see channels that say nothing
    assert removed[0][0] > removed[0][1] * 72 / 144


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("asked", [{"target": 0.9}, {"price": 1.0}])
def test_the_largest_weight_of_a_tensor_always_stays(gate, asked):
    model = network()
    schedule = learned(model, config_of(gate, **asked))
    first, second = (layer.parametrizations.weight[0] for layer in (model[0], model[4]))
    first.gate.fill_(-50.0)  # as a price beyond everything would leave it
    if gate == "hard_concrete":
        first.gate[3, 2] = -49.0
    best = raw_weight(model[0]).detach().abs().argmax() if gate == "threshold" else 3 * 6 + 2
    kept = raw_weight(model[0]).detach().flatten()[best].clone()
    schedule.end_epoch(WARMUP - 1, torch.optim.SGD(model.parameters(), lr=0.1))
    assert first.mask.flatten().nonzero().tolist() == [[int(best)]]
    assert torch.equal(model[0].weight.flatten()[best], kept)
    assert int(second.mask.sum()) == (
        216 - removed_count(216, 0.9) - 1 if "target" in asked else 144
    )


def test_tensors_that_do_not_matter_lose_more(tmp_path):
    """The second input of the sum is noise: its convolution should go first."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.useful, self.useless, self.fc = (
                nn.Conv2d(6, 12, 1),
                nn.Conv2d(6, 12, 1),
                nn.Linear(12, 2),
            )

        def forward(self, x):
            own = torch.randn(
                x.shape,
                generator=torch.Generator().manual_seed(int(1e6 * float(x.flatten()[0].abs()))),
            )
            return self.fc(torch.relu(self.useful(x) + self.useless(own)).mean(dim=(2, 3)))

    model = Two()
    schedule = LearnedLevel(
        model, [model], config_of(target=0.5), 30, STEPS, torch.ones(1, 6, 3, 2)
    )
    recipe = TrainConfig(epochs=31, lr=0.05, warmup_epochs=1, milestones=())
    objective = lambda x, y: (nn.functional.cross_entropy(model(x), y), model(x))  # noqa: E731
    Fit(model, recipe, seed=3, objective=objective, schedule=schedule).run(
        Clips(), None, outside(tmp_path)
    )
    gone = [int((layer.weight == 0).sum()) for layer in (model.useful, model.useless)]
    assert sum(gone) == removed_count(144, 0.5)
    assert gone[1] > 1.2 * gone[0]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("asked", ASKED)
# 11: the last step of the last learning epoch
@pytest.mark.parametrize(
    "stop_after", [0, 11, 12, *(pytest.param(n, marks=pytest.mark.full) for n in (5, 14))]
)
def test_interrupted_and_continued_equals_uninterrupted(tmp_path, gate, asked, stop_after):
    whole, parts, fresh = network(), network(), network()
    reference = fit_of(whole, config_of(gate, **asked)).run(
        Clips(), Clips(2), outside(tmp_path / "whole")
    )
    with pytest.raises(Interrupted):
        fit_of(parts, config_of(gate, **asked)).run(
            Clips(), Clips(2), outside(tmp_path / "parts", stop_after)
        )
    continued = fit_of(fresh, config_of(gate, **asked)).run(
        Clips(), Clips(2), outside(tmp_path / "parts")
    )
    for (name, a), (other, b) in zip(
        whole.state_dict().items(), fresh.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b), name
    assert [row["level"] for row in continued.history] == [
        row["level"] for row in reference.history
    ]
    assert continued.best_epoch == reference.best_epoch >= WARMUP


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("asked", ASKED)
def test_removed_weights_get_no_gradient_no_decay_and_no_momentum(tmp_path, gate, asked):
    model = network()
    fit = fit_of(model, config_of(gate, **asked))
    fit.run(Clips(), None, outside(tmp_path))
    assert sum(zeros(model)) > 0
    for layer in (model[0], model[4]):
        weight, gone = raw_weight(layer), layer.parametrizations.weight[0].mask == 0
        for tensor in (weight, weight.grad, fit.optimizer.state[weight]["momentum_buffer"]):
            assert torch.count_nonzero(tensor[gone]) == 0
            assert torch.count_nonzero(tensor[~gone]) > 0


@pytest.mark.parametrize("gate", GATES)
def test_with_a_price_the_network_is_the_same_before_and_after_the_mask_is_fixed(gate):
    model = network().eval()
    schedule, x = learned(model, config_of(gate, price=1.0)), Clips().x[0]
    for module in model.modules():
        if isinstance(module, Gate):
            generator = torch.Generator().manual_seed(5)
            module.gate.copy_(
                torch.full((), -0.8)
                if gate == "threshold"
                else 4 * torch.randn(module.gate.shape, generator=generator)
            )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule.begin_epoch(WARMUP - 1, optimizer)
    before, level = model(x), schedule.metrics()["level"]
    assert 0.1 < level < 0.9
    schedule.end_epoch(WARMUP - 1, optimizer)
    # a module that goes no further, such as one that is only scored
    assert torch.equal(model(x), before)
    schedule.begin_epoch(WARMUP, optimizer)
    assert torch.equal(model(x), before)
    assert schedule.metrics()["level"] == level


def test_a_mask_that_is_refused_when_it_is_fixed_leaves_the_checkpoint_before_it(tmp_path):
    """So that trying again meets the same mask and refuses it again."""

    def refuse():
        raise TrialFailed("cut")

    for attempt in range(2):
        model, reports = network(), []
        fit = fit_of(model, config_of(target=0.7))
        fit.schedule._when_fixed = refuse
        with pytest.raises(TrialFailed, match="cut"):
            fit.run(Clips(), None, outside(tmp_path, reports=reports))
        # the last epoch of the checkpoint is told again
        assert len(reports) == (1 if attempt else WARMUP - 1)
        assert sum(zeros(model)) == removed_count(216, 0.7)


def test_a_target_that_leaves_less_than_one_weight_per_tensor_is_refused():
    with pytest.raises(
        TrialFailed,
        match=(
            r"sparsity.target: must leave at least one weight of each of the 2 convolutions, got"
            r" 0.999 of 216"
        ),
    ):
        learned(network(), config_of(target=0.999))
