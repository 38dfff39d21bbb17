"""Exact continuation, best-epoch keeping and failure, on a module small enough to train in
milliseconds.
"""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from trainables.contract.config import SparsityConfig, TrainConfig
from trainables.contract.errors import Interrupted, TrialFailed, UserError
from trainables.sparsity.generator import SparseGenerator
from trainables.training import loop
from trainables.training.checkpoint import Progress, load_checkpoint, load_tensors
from trainables.training.loop import Course, Fit, Outside
from trainables.training.memory import BatchTooLarge
from trainables.training.schedule import Schedule

CONFIG = TrainConfig(epochs=4, lr=0.05, warmup_epochs=1, milestones=(3,), clip_norm=1.0)


class Clips:
    """Batches of a fixed random problem, dealt again from any step."""

    def __init__(self, steps=3, poison=None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(steps, 8, 3, 4, 2, generator=generator)
        self.y = (self.x.mean(dim=(2, 3, 4)) > 0).long()
        if poison is not None:
            self.x[poison] = math.nan

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, len(self.x)):
            yield SimpleNamespace(x=self.x[step], y=self.y[step], index=torch.arange(8))


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(6, 6, 1),
        nn.Flatten(),
        nn.Linear(48, 2),
    )


def classify(model):
    def objective(clips, labels):
        logits = model(clips)
        return nn.functional.cross_entropy(logits, labels), logits

    return objective


def fit_of(model, sparse, seed=3, **changes):
    config = CONFIG.model_copy(update=changes)
    masks = (
        SparseGenerator([model[0], model[4]], SparsityConfig(level=0.5), 2, seed=9)
        if sparse
        else None
    )
    return Fit(
        model,
        config,
        seed=seed,
        objective=classify(model),
        course=Course(config.epochs, first_kept_epoch=2 if sparse else 0),
        schedule=masks,
    )


def outside(folder, stop_after=None, reports=None):
    count = iter(range(10**6))
    return Outside(
        folder / "last.pt",
        folder / "best.pt",
        report=(reports if reports is not None else []).append,
        should_stop=lambda: next(count) == stop_after,
    )


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


def test_best_epoch_is_never_from_the_dense_warm_up(tmp_path):
    reports = []
    progress = fit_of(network(), sparse=True).run(
        Clips(), Clips(2), outside(tmp_path, reports=reports)
    )
    assert [row["epoch"] for row in reports] == [0, 1, 2, 3]
    late = [row for row in reports if row["epoch"] >= 2]
    best = max(late, key=lambda row: (row["selection_top1"], -row["selection_loss"]))
    assert progress.best_epoch == best["epoch"]
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == progress.best_epoch


def ranked(monkeypatch, *top1):
    """Every run's epochs get these accuracies, whatever its weights are worth."""
    monkeypatch.setattr(
        Fit,
        "_evaluate",
        lambda fit, _selection: {
            "selection_loss": 1.0,
            "selection_top1": top1[fit.progress.epoch],
        },
    )


def test_the_first_sparse_epoch_can_be_the_best(tmp_path, monkeypatch):
    ranked(monkeypatch, 0.9, 0.8, 0.7, 0.6)
    progress = fit_of(network(), sparse=True).run(Clips(), Clips(2), outside(tmp_path))
    assert progress.best_epoch == 2


@pytest.mark.parametrize("write", ["save_checkpoint", "keep_best"])
@pytest.mark.parametrize("epoch", [0, 2, 3])
def test_the_best_weights_are_those_of_the_epoch_that_is_said_wherever_a_process_dies(
    tmp_path, monkeypatch, write, epoch
):
    """Killed around the checkpoint of a new best epoch; the second process trains otherwise, as on
    a GPU, and its epoch is no longer the best.
    """
    from trainables.training import loop

    killed, kept = fit_of(network(), False), getattr(loop, write)

    def dies(*arguments):
        if killed.progress.history[-1]["epoch"] == epoch:
            raise SystemExit("killed")
        kept(*arguments)

    ranked(monkeypatch, 0.1, 0.2, 0.3, 0.4)
    monkeypatch.setattr(loop, write, dies)
    with pytest.raises(SystemExit):
        killed.run(Clips(), Clips(2), outside(tmp_path))
    monkeypatch.setattr(loop, write, kept)
    told = []
    ranked(monkeypatch, *(0.0 if other == epoch else 0.1 * (other + 1) for other in range(3)), 0.0)
    model = network()
    progress = fit_of(model, False, seed=4).run(Clips(), Clips(2), outside(tmp_path, reports=told))
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == progress.best_epoch
    rows = {row["epoch"]: row["selection_top1"] for row in progress.history}
    assert progress.best_top1 == rows[progress.best_epoch] == max(rows.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_best_weights_that_were_lost_are_not_shipped(tmp_path, monkeypatch):
    """As version 0.2 left them, killed between its two files: `best.pt` is ahead."""
    ranked(monkeypatch, 0.9, 0.1, 0.2, 0.3)
    fit_of(network(), False, epochs=1).run(Clips(), Clips(2), outside(tmp_path))
    state = torch.load(tmp_path / "best.pt", weights_only=True)
    torch.save({**state, "epoch": 1}, tmp_path / "best.pt")
    progress = fit_of(network(), False).run(Clips(), Clips(2), outside(tmp_path))
    assert progress.best_epoch == 3
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("every", [0.0, math.inf])
def test_short_epochs_share_a_checkpoint(tmp_path, monkeypatch, every):
    """The last one has one, and so does a trial that is asked to stop; what lies between is trained
    again, to the same weights.
    """
    ranked(monkeypatch, 0.1, 0.4, 0.3, 0.2)
    written = []
    save = loop.save_checkpoint
    monkeypatch.setattr(
        loop, "save_checkpoint", lambda *state: written.append(state[3].epoch) or save(*state)
    )

    def rarely(folder, **options):
        return replace(outside(folder, **options), checkpoint_every_s=every)

    whole = network()
    fit_of(whole, False).run(Clips(), Clips(2), rarely(tmp_path / "whole"))
    assert written == ([1, 2, 3, 4] if every == 0.0 else [4])

    def dies(metrics):
        if metrics["epoch"] == 2:
            raise SystemExit("killed")

    with pytest.raises(SystemExit):
        fit_of(network(), False).run(
            Clips(), Clips(2), replace(rarely(tmp_path / "parts"), report=dies)
        )
    with pytest.raises(Interrupted):  # at the first step of the last epoch
        fit_of(network(), False).run(
            Clips(), Clips(2), rarely(tmp_path / "parts", stop_after=0 if every == 0.0 else 9)
        )
    model = network()
    progress = fit_of(model, False).run(Clips(), Clips(2), rarely(tmp_path / "parts"))
    assert progress.best_epoch == 1
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == ["best.pt", "last.pt"]
    one, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("whole", "parts")
    )
    assert one["epoch"] == other["epoch"] == 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert torch.equal(one["model"][name], other["model"][name])


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


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint"):
        fit_of(network(), False).run(Clips(), None, outside(tmp_path))


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


SMALL = 4
"""Clips that fit into memory at once, in the tests below; a batch has 8."""


def limited(model, sizes, fits=SMALL, error=torch.OutOfMemoryError):
    """Its objective where no more than `fits` clips fit into memory; notes sizes."""
    objective = classify(model)

    def within_limits(clips, labels):
        sizes.append(len(clips))
        if len(clips) > fits:
            model(clips)  # the forward pass has changed what BatchNorm keeps
            raise error("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")
        return objective(clips, labels)

    return within_limits


def limited_fit(model, sizes, **options):
    return Fit(model, CONFIG, seed=3, objective=limited(model, sizes, **options))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_told_apart_from_other_errors(tmp_path, error):
    with pytest.raises(BatchTooLarge, match=r"^a batch of 8 does not fit into memory in ep.* 1: C"):
        limited_fit(network(), [], error=error).run(Clips(), None, outside(tmp_path))
    model = network()
    other = Fit(model, CONFIG, seed=3, objective=lambda clips, labels: model(clips.flatten()))
    with pytest.raises(RuntimeError) as caught:
        other.run(Clips(), None, outside(tmp_path))
    assert not isinstance(caught.value, torch.OutOfMemoryError)


@pytest.mark.parametrize(("every", "epoch"), [(0.0, 1), (math.inf, 0)])
def test_the_error_names_the_epoch_from_which_halves_are_taken(tmp_path, every, epoch):
    model = network()
    fit = Fit(model, CONFIG, seed=3, objective=classify(model))
    kept = replace(outside(tmp_path), checkpoint_every_s=every)

    def reported(metrics):
        fit.objective = limited(model, [])  # from the second epoch on

    with pytest.raises(BatchTooLarge) as caught:
        fit.run(Clips(), None, replace(kept, report=reported))
    assert caught.value.epoch == epoch
    again = limited_fit(network(), [])
    assert again.run(Clips(), None, outside(tmp_path), halve=True).halved_epoch == epoch


def test_halves_that_do_not_fit_are_the_end(tmp_path):
    fit = limited_fit(network(), [], fits=3)
    with pytest.raises(TrialFailed, match=r"^half a batch of 8 does not fit into memory in"):
        fit.run(Clips(), None, outside(tmp_path), halve=True)


@pytest.mark.parametrize("stop_after", [0, 4, 7])
def test_halving_is_remembered_by_the_checkpoint(tmp_path, stop_after):
    whole, parts, sizes = network(), network(), []
    limited_fit(whole, []).run(Clips(), None, outside(tmp_path / "whole"), halve=True)
    with pytest.raises(Interrupted):
        limited_fit(parts, sizes).run(
            Clips(), None, outside(tmp_path / "parts", stop_after), halve=True
        )
    fresh = network()
    progress = limited_fit(fresh, sizes).run(Clips(), None, outside(tmp_path / "parts"))
    assert progress.halved_epoch == 0
    assert set(sizes) == {SMALL}
    for a, b in zip(whole.state_dict().values(), fresh.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_epoch_of_the_halving_is_kept(tmp_path):
    first = Fit(model := network(), CONFIG, seed=3, objective=classify(model))
    with pytest.raises(Interrupted):
        first.run(Clips(), None, outside(tmp_path, stop_after=4))
    progress = limited_fit(network(), []).run(Clips(), None, outside(tmp_path), halve=True)
    assert progress.halved_epoch == 1


def plain_network():
    """Without BatchNorm and dropout, in double precision."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 1), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)]
    return nn.Sequential(*layers).double()


class OddClips(Clips):
    """Batches of seven: one half is larger."""

    def epoch(self, epoch, first_step=0):
        for batch in super().epoch(epoch, first_step):
            yield SimpleNamespace(x=batch.x[:7].double(), y=batch.y[:7], index=torch.arange(7))


@pytest.mark.parametrize("penalty", [False, True])
def test_gradients_of_halves_are_those_of_the_whole_batch(tmp_path, penalty):
    """Every gradient of every update; reports, too."""

    class Watched(Schedule):
        def __init__(self, model):
            self.model, self.gradients = model, []

        def penalty(self, epoch):
            return 0.1 * self.model[0].weight.square().sum() if penalty else None

        def before_update(self, epoch, step, optimizer):
            self.gradients.append([each.grad.clone() for each in self.model.parameters()])

    seen, reports = [], []
    for halve in (False, True):
        model = plain_network()
        schedule = Watched(model)
        fit = Fit(model, CONFIG, seed=3, objective=classify(model), schedule=schedule)
        told = []
        fit.run(OddClips(), None, outside(tmp_path / str(halve), reports=told), halve=halve)
        seen.append(schedule.gradients)
        reports.append([{k: v for k, v in row.items() if k != "clips_per_s"} for row in told])
    assert len(seen[0]) == len(seen[1]) == 12
    for whole, halves in zip(*seen, strict=True):
        for a, b in zip(whole, halves, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    for whole, halves in zip(*reports, strict=True):
        assert halves == pytest.approx(whole, rel=1e-12)
