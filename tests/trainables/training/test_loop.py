"""Exact continuation and failure, on a module small enough to train in milliseconds."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from tests.trainables.training.small_fit import (
    CONFIG,
    Clips,
    classify,
    fit_of,
    network,
    outside,
)
from trainables.contract.config import SparsityConfig
from trainables.contract.errors import Interrupted, TrialFailed, UserError
from trainables.sparsity.generator import SparseGenerator
from trainables.training.checkpoint import Progress, load_checkpoint, load_tensors
from trainables.training.loop import Course, Fit
from trainables.training.schedule import Schedule


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 2, 4, 7, 10])
def test_interrupted_and_continued_equals_uninterrupted(tmp_path, sparse, stop_after):
    whole, parts = network(), network()
    reference = fit_of(whole, sparse).run(Clips(), Clips(2), outside(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        fit_of(parts, sparse).run(Clips(), Clips(2), outside(tmp_path / "parts", stop_after))
    fresh = network()
    continued = fit_of(fresh, sparse).run(Clips(), Clips(2), outside(tmp_path / "parts"))
    for (name, a), (other, b) in zip(
        whole.state_dict().items(), fresh.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b), name

    def timeless(history):
        return [
            {name: value for name, value in row.items() if name != "clips_per_s"} for row in history
        ]

    assert timeless(continued.history) == timeless(reference.history)
    assert continued.best_epoch == reference.best_epoch


def test_an_epoch_whose_process_died_before_it_was_heard_of_is_reported_by_the_next(tmp_path):
    def die(metrics):
        heard.append(metrics["epoch"])
        if metrics["epoch"] == 1:
            raise SystemExit

    heard, reports = [], []
    with pytest.raises(SystemExit):
        fit_of(network(), False).run(Clips(), None, replace(outside(tmp_path), report=die))
    fit_of(network(), False).run(Clips(), None, outside(tmp_path, reports=reports))
    assert heard == [0, 1]
    assert [row["epoch"] for row in reports] == [1, 2, 3]


def test_level_zero_generator_with_penalty_off_trains_bit_equal_to_no_generator(tmp_path):
    plain, masked = network(), network()
    fit_of(plain, sparse=False).run(Clips(), None, outside(tmp_path / "plain"))
    masks = SparseGenerator(
        [masked[0], masked[4]], SparsityConfig(level=0.0, penalty="none"), 2, seed=9
    )
    Fit(
        masked,
        CONFIG,
        seed=3,
        objective=classify(masked),
        schedule=masks,
    ).run(Clips(), None, outside(tmp_path / "masked"))
    assert torch.equal(plain[4].weight, masked[4].weight)
    x = Clips().x[0]
    assert torch.equal(plain.eval()(x), masked.eval()(x))


def test_every_step_is_told_with_its_epoch(tmp_path):
    told = []
    told_to = replace(outside(tmp_path), stepped=lambda *step: told.append(step))
    fit_of(network(), False).run(Clips(), None, told_to)
    steps = len(list(Clips().epoch(0)))
    assert told == [(epoch, step) for epoch in range(CONFIG.epochs) for step in range(1, steps + 1)]


def test_another_seed_gives_other_weights(tmp_path):
    a, b = network(), network()
    fit_of(a, False, seed=3).run(Clips(), None, outside(tmp_path / "a"))
    fit_of(b, False, seed=4).run(Clips(), None, outside(tmp_path / "b"))
    assert not torch.equal(a[0].weight, b[0].weight)  # dropout differs


def test_training_seconds_count_all_attempts(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    class Timed(Clips):
        def epoch(self, epoch, first_step=0):
            for batch in super().epoch(epoch, first_step):
                clock.now += 1.0  # a second per batch
                yield batch

    monkeypatch.setattr(
        "trainables.training.loop.time", SimpleNamespace(perf_counter=lambda: clock.now)
    )
    for stop_after in (1, 4):  # in the first epoch, and in the third
        with pytest.raises(Interrupted):
            fit_of(network(), False).run(Timed(), None, outside(tmp_path, stop_after))
        clock.now += 100.0  # between attempts
    progress = fit_of(network(), False).run(Timed(), None, outside(tmp_path))
    assert progress.seconds == 12.0
    assert [row["clips_per_s"] for row in progress.history] == [8.0] * 4


def test_a_non_finite_loss_ends_the_trial_and_keeps_the_last_good_checkpoint(tmp_path):
    good = Clips()
    model = network()
    fit_of(model, False, epochs=1).run(good, None, outside(tmp_path))
    with pytest.raises(TrialFailed, match=r"train_loss must be finite, got nan in epoch 2"):
        fit_of(network(), False).run(Clips(poison=1), None, outside(tmp_path))
    state = load_checkpoint(tmp_path / "last.pt", torch.device("cpu"))
    assert state is not None
    assert state[2].epoch == 1
    assert all(torch.isfinite(value).all() for value in state[0].values())


def test_clipping_bounds_the_whole_gradient(tmp_path):
    model = network().eval()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    plain = {
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
        "lr": 1.0,
        "warmup_epochs": 0,
        "epochs": 1,
    }
    fit_of(model, False, clip_norm=0.01, **plain).run(Clips(1), None, outside(tmp_path))
    change = torch.cat(
        [(after - old).flatten() for after, old in zip(model.parameters(), before, strict=True)]
    )
    # one plain step of a gradient that was longer
    assert change.detach().norm().item() == pytest.approx(0.01, rel=1e-3)


def test_dropout_differs_between_steps_and_between_epochs(tmp_path):
    model, seen = network(), []
    model[3].register_forward_hook(
        lambda _module, _inputs, output: (
            seen.append((output == 0).flatten()) if model.training else None
        )
    )
    fit_of(model, False, epochs=2).run(Clips(2), None, outside(tmp_path))
    assert len(seen) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_a_non_finite_selection_loss_ends_the_trial(tmp_path):
    with pytest.raises(TrialFailed, match=r"selection_loss must be finite, got nan in epoch 1"):
        fit_of(network(), False).run(Clips(), Clips(2, poison=1), outside(tmp_path))
    assert not (tmp_path / "best.pt").exists()


def test_rounds_go_through_the_recipe_again_and_are_counted_on(tmp_path):
    """Epochs 4, 5 and 6 are epochs 1, 2 and 3 of the recipe; whatever a schedule changes at the end
    of one is in its checkpoint.
    """

    class Ending(Schedule):
        ended: ClassVar[list[int]] = []

        def end_epoch(self, epoch, optimizer):
            self.ended.append(epoch)
            model[0].bias.data.fill_(epoch)

    model, reports = network(), []
    fit = Fit(
        model,
        CONFIG,
        seed=3,
        objective=classify(model),
        course=Course(7, lambda epoch: epoch if epoch < 4 else epoch - 3),
        schedule=Ending(),
    )
    fit.run(Clips(), None, outside(tmp_path, reports=reports))
    assert [row["epoch"] for row in reports] == Ending.ended == [0, 1, 2, 3, 4, 5, 6]
    rates = [row["lr"] for row in reports]
    assert rates[4:] == rates[1:4]
    assert rates[3] < rates[2]
    state = load_checkpoint(tmp_path / "last.pt", torch.device("cpu"))
    assert state is not None
    assert (state[0]["0.bias"] == 6).all()


def test_a_schedule_is_told_in_the_order_it_was_promised(tmp_path):
    """Gradients are there before an update, other weights after it; penalties count."""

    class Told(Schedule):
        def begin_epoch(self, epoch, optimizer):
            told.append(("begin_epoch", epoch))

        def begin_step(self, epoch, step):
            told.append(("begin_step", epoch, step))

        def penalty(self, epoch):
            told.append(("penalty", epoch))
            return model[0].weight.square().sum()

        def before_update(self, epoch, step, optimizer):
            assert model[0].weight.grad is not None
            before.append(model[0].weight.detach().clone())
            told.append(("before_update", epoch, step))

        def after_update(self, epoch, step, optimizer):
            assert not torch.equal(before[-1], model[0].weight)
            told.append(("after_update", epoch, step))

        def end_epoch(self, epoch, optimizer):
            told.append(("end_epoch", epoch))

        def metrics(self):
            return {"level": 0.5}

    model, told, before, reports = network(), [], [], []
    fit = Fit(
        model,
        CONFIG,
        seed=3,
        objective=classify(model),
        course=Course(2),
        schedule=Told(),
    )
    fit.run(Clips(2), None, outside(tmp_path, reports=reports))
    steps = [
        [
            ("begin_step", epoch, step),
            ("penalty", epoch),
            ("before_update", epoch, step),
            ("after_update", epoch, step),
        ]
        for epoch in range(2)
        for step in range(2)
    ]
    assert told == [
        *(("begin_epoch", 0), *steps[0], *steps[1], ("end_epoch", 0)),
        *(("begin_epoch", 1), *steps[2], *steps[3], ("end_epoch", 1)),
    ]
    assert reports[0]["level"] == 0.5
    expected = sum(float(weight.square().sum()) for weight in before[:2]) / 2
    assert reports[0]["penalty"] == pytest.approx(expected, rel=1e-5)


def test_the_global_generator_is_left_as_it_was(tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
    torch.manual_seed(11)
    fit_of(model, False).run(Clips(), None, outside(tmp_path))
    assert torch.equal(torch.rand(1), expected)


def test_bf16_autocast_runs_and_keeps_fp32_weights(tmp_path):
    model = network()
    progress = fit_of(model, False, precision="bf16").run(Clips(), Clips(1), outside(tmp_path))
    assert model[0].weight.dtype == torch.float32
    assert math.isfinite(progress.history[-1]["selection_loss"])


def test_a_run_that_has_not_begun_has_no_best_epoch():
    assert Progress().best_epoch == -1
    assert Progress().best_top1 < 0
    assert Progress().best_loss == math.inf
    assert (Progress().epoch, Progress().step, Progress().clip_count) == (0, 0, 0)
    assert (Progress().loss_sum, Progress().correct_sum, Progress().penalty_sum) == (0, 0, 0)
    assert (Progress().seconds, Progress().epoch_seconds) == (0, 0)
    assert (Progress().shared_epochs, Progress().shared_seconds) == (0, 0)
    assert Progress().halved_epoch < 0  # no batch was too large


def test_every_epoch_may_be_kept_where_nothing_else_is_said():
    assert Course(3).first_kept_epoch == 0
    assert Course(3).recipe_epoch(2) == 2


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"model": SimpleNamespace()}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint"):
        load_tensors(tmp_path / "last.pt", torch.device("cpu"))


@pytest.mark.parametrize(
    ("precision", "device", "capability", "half"),
    [
        ("auto", "cuda", (7, 5), False),
        ("auto", "cuda", (8, 0), True),
        ("auto", "cuda", (9, 0), True),
        ("auto", "cpu", (9, 0), False),
        ("fp32", "cuda", (9, 0), False),
        ("bf16", "cpu", (7, 5), True),
    ],
)
def test_half_precision_is_taken_where_it_is_asked_for_or_gains(
    monkeypatch, precision, device, capability, half
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    fit = fit_of(network(), False, precision=precision)
    fit.device = torch.device(device)
    assert (fit._autocast() == (device, torch.bfloat16)) is half


def test_figures_of_an_epoch_are_means_over_its_clips_as_they_were_trained(tmp_path):
    torch.manual_seed(1)
    model, clips, reports = nn.Sequential(nn.Flatten(), nn.Linear(24, 2)), Clips(1), []
    with torch.no_grad():
        logits = model(clips.x[0])
    fit_of(model, False, epochs=1).run(clips, None, outside(tmp_path, reports=reports))
    [row] = reports
    assert row["train_loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits, clips.y[0])), rel=1e-5
    )
    assert row["train_top1"] == (logits.argmax(dim=1) == clips.y[0]).sum().item() / 8
    assert 0 < row["train_top1"] < 1
    assert row["penalty"] == 0
