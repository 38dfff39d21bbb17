"""The level is learned, ends where it was asked to end, and from then on this is training with a
fixed mask.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests import naive_models, naive_sparsity
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import SparsityConfig, TrainConfig
from trainables.contract.errors import Interrupted, TrialFailed
from trainables.deploy.form import deploy
from trainables.reparam.fusible import ConvBN
from trainables.sparsity.gates import GATES, Gate
from trainables.sparsity.learned import LearnedLevel
from trainables.sparsity.masks import maskable, raw_weight, removed_count
from trainables.training.loop import Course, Fit, Outside

EPOCHS, WARMUP, STEPS = 5, 3, 4
ASKED = [{"target": 0.7}, {"price": 1.0}]


def config_of(gate="threshold", **asked):
    return SparsityConfig(level="learned", gate=gate, **asked)


class Clips:
    """Batches of a fixed problem that two of six input channels
    decide, dealt again from any step.
    """

    def __init__(self, steps=STEPS, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(steps, 16, 6, 3, 2, generator=generator, dtype=dtype)
        self.y = (self.x[:, :, 0].mean(dim=(2, 3)) > self.x[:, :, 1].mean(dim=(2, 3))).long()

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, len(self.x)):
            yield SimpleNamespace(x=self.x[step], y=self.y[step], index=torch.arange(16))


def network():
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(6, 12, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(12, 12, 1),
        nn.Flatten(),
        nn.Linear(72, 2),
    ]
    return nn.Sequential(*layers)


def blocks_of(model):
    return [model[0], model[4]]


def learned(model, sparsity, warmup=WARMUP, steps=STEPS):
    return LearnedLevel(model, blocks_of(model), sparsity, warmup, steps, torch.ones(1, 6, 3, 2))


def fit_of(model, sparsity, warmup=WARMUP, steps=STEPS, **changes):
    recipe = {
        "epochs": EPOCHS,
        "lr": 0.05,
        "warmup_epochs": 1,
        "milestones": (),
        "weight_decay": 1e-2,
        "clip_norm": 1.0,
    } | changes
    return Fit(
        model,
        TrainConfig(**recipe),
        seed=3,
        objective=lambda x, y: (nn.functional.cross_entropy(model(x), y), model(x)),
        course=Course(recipe["epochs"], first_kept_epoch=warmup),
        schedule=learned(model, sparsity, warmup, steps),
    )


def outside(folder, stop_after=None, reports=None):
    count = iter(range(10**6))
    report = (reports if reports is not None else []).append
    return Outside(
        folder / "last.pt",
        folder / "best.pt",
        report,
        should_stop=lambda: next(count) == stop_after,
    )


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
@pytest.mark.parametrize("stop_after", [0, 5, 11, 12, 14])
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


@pytest.mark.parametrize("gate", GATES)
def test_the_cut_is_that_of_the_naive_twin(gate):
    model = network()
    schedule = learned(model, config_of(gate, target=0.6))
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    for i, module in enumerate(gates):
        generator = torch.Generator().manual_seed(i)
        module.gate.copy_(
            torch.tensor([-0.2, -1.4][i])
            if gate == "threshold"
            else torch.randn(module.gate.shape, generator=generator)
        )
    layers = [model[0], model[4]]
    scores = [
        module.margins(raw_weight(layer)).flatten().tolist()
        for module, layer in zip(gates, layers, strict=True)
    ]
    schedule.end_epoch(WARMUP - 1, torch.optim.SGD(model.parameters(), lr=0.1))
    expected = naive_sparsity.most_kept(scores, removed_count(72 + 144, 0.6))
    assert [module.mask.flatten().int().tolist() for module in gates] == expected
    assert [(layer.weight != 0).flatten().int().tolist() for layer in layers] == expected


def test_thresholds_start_from_the_dense_network():
    dense, sparse = network().eval(), network().eval()
    schedule, x = learned(sparse, config_of(target=0.5)), Clips().x[0]
    schedule.begin_epoch(0, torch.optim.SGD(sparse.parameters(), lr=0.1))
    schedule.begin_step(0, 0)
    assert torch.equal(sparse(x), dense(x))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("steps", [6, 400])
def test_gates_move_by_nothing_but_their_own_rule(gate, steps):
    """Neither rate nor decay nor momentum of the network; as far as they can if all gradients are
    alike, unless they meet their bounds.
    """
    model = network()
    schedule = learned(model, config_of(gate, price=1.0), warmup=2, steps=steps // 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9, weight_decay=0.5)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(network().parameters())
    )
    for epoch in range(2):
        schedule.begin_epoch(epoch, optimizer)
        for step in range(steps // 2):
            schedule.begin_step(epoch, step)
            schedule._live.grad = torch.full_like(schedule._live, 3e-7)
            schedule.after_update(epoch, step, optimizer)
    for layer in (model[0], model[4]):
        module = layer.parametrizations.weight[0]
        free = (
            module.START
            - 0.99 * min(module.WANDER * (3 / steps) ** 0.5, module.FASTEST) * steps / 2
        )
        expected = torch.full_like(
            module.gate, max(free, float(module.lowest([raw_weight(layer).detach()])))
        )
        # damping takes a hundredth; of bounds nothing
        torch.testing.assert_close(module.gate, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("gate", GATES)
def test_a_network_copies_and_changes_its_precision_while_it_learns(gate, tmp_path):
    model = network()
    with pytest.raises(Interrupted):
        fit_of(model, config_of(gate, target=0.7)).run(
            Clips(), None, outside(tmp_path, stop_after=6)
        )
    x, twin = Clips().x[0], copy.deepcopy(model)
    assert torch.equal(twin.eval()(x), model.eval()(x))
    # single precision on one side
    torch.testing.assert_close(twin.double()(x.double()).float(), model(x), rtol=1e-4, atol=1e-5)


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
        assert len(reports) == (0 if attempt else WARMUP - 1)
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


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", sorted(BACKBONES.own))
def test_every_backbone_learns_a_level_and_ships_it(name, gate):
    model = naive_models.narrow_backbone(name, layout="coco17", classes=3)
    sparsity, blocks = config_of(gate, target=0.8), list(model.blocks)
    schedule = LearnedLevel(
        model,
        blocks,
        sparsity,
        warmup_epochs=1,
        steps=3,
        clips=naive_models.random_clips(1, 3, 8, 17, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    clips = naive_models.random_clips(2, 3, 8, 17, 1)
    for epoch, steps in ((0, 3), (1, 1)):
        schedule.begin_epoch(epoch, optimizer)
        for step in range(steps):
            schedule.begin_step(epoch, step)
            loss, _ = model.train().objective(clips, torch.tensor([0, 2]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.after_update(epoch, step, optimizer)
        schedule.end_epoch(epoch, optimizer)
    weights = [layer.weight for block in maskable(blocks) for layer in block]
    assert sum(int((weight == 0).sum()) for weight in weights) == removed_count(
        sum(weight.numel() for weight in weights), 0.8
    )
    assert all(weight.any() for weight in weights)
    with torch.no_grad():
        expected = model.eval()(clips)
        shipped = deploy(model, frames=8)(clips)
    # rounding of folded kernels in float64
    assert (shipped - expected).abs().max() <= 1e-9 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("gate", GATES)
def test_a_channel_of_which_nothing_is_left_is_a_constant_in_training_and_in_evaluation(gate):
    """As with masks that were given: running statistics that lag behind would be enlarged three
    hundred times in evaluation.
    """

    def fresh():
        model = naive_models.narrow_backbone("hpi_gcn_rp", layout="coco17", classes=3)
        clip = naive_models.random_clips(1, 3, 8, 17, 1)
        return model, LearnedLevel(
            model,
            list(model.blocks),
            config_of(gate, target=0.97),
            warmup_epochs=1,
            steps=2,
            clips=clip,
        )

    model, schedule = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    clips = naive_models.random_clips(2, 3, 8, 17, 1)
    for epoch in range(2):
        schedule.begin_epoch(epoch, optimizer)
        assert not epoch or any(scale.active for _, scale in schedule._scales)
        for step in range(2):
            schedule.begin_step(epoch, step)
            loss, _ = model.train().objective(clips, torch.tensor([0, 2]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.after_update(epoch, step, optimizer)
        assert epoch or not any(scale.active for _, scale in schedule._scales)
        schedule.end_epoch(epoch, optimizer)
    for part in (part for part in model.blocks.modules() if isinstance(part, ConvBN)):
        scale = part.bn.parametrizations.weight[0]
        assert not scale.mask[(part.conv.weight == 0).flatten(1).all(dim=1)].any()
    silent = 0
    for norm, scale in schedule._scales:
        gone, raw = scale.mask == 0, raw_weight(norm)
        silent += int(gone.sum())
        for tensor in (raw, raw.grad, optimizer.state[raw]["momentum_buffer"]):
            assert not tensor[gone].any()
        for mode in (True, False):
            out = norm.train(mode)(naive_models.random_clips(4, len(raw), 8, 17))[:, gone]
            assert torch.equal(out, norm.bias[gone][:, None, None].expand_as(out))
    assert silent > 0
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model.eval()(clips)
        assert torch.equal(again.eval()(clips), expected)  # scored without being trained further
        other.begin_epoch(1, torch.optim.SGD(again.parameters(), lr=0.1))
        assert torch.equal(again(clips), expected)
        assert (deploy(model, frames=8)(clips) - expected).abs().max() <= 1e-9 * max(
            1.0, float(expected.abs().max())
        )
