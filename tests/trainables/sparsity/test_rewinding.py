"""Iterative magnitude pruning: the schedule, what goes and what comes back, epochs of a trial."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from tests.naive_sparsity import pruned
from tests.trainables.sparsity.small import Clips, attached, fit_of, network, outside
from trainables.contract.config import SparsityConfig, TrialConfig
from trainables.sparsity.masks import removed_count
from trainables.training.optimiser import learning_rate


def trial(epochs=5, **sparsity):
    return TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p"},
            "train": {"epochs": epochs},
            "sparsity": {"level": 0.9, "generator": "rewinding", **sparsity},
        }
    )


def test_epochs_of_a_trial():
    config = trial(rounds=2, rewind_epoch=2)
    assert (config.total_epochs, config.first_kept_epoch) == (5 + 3 + 3, 8)
    assert [config.recipe_epoch(epoch) for epoch in range(11)] == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4]
    plain = trial(level=0.0)
    assert (plain.total_epochs, plain.first_kept_epoch, plain.recipe_epoch(4)) == (5, 0, 4)
    with pytest.raises(
        ValidationError,
        match=r"sparsity\.rewind_epoch must be less than train.epochs, got 5 and train.epochs=5",
    ):
        trial(rewind_epoch=5)


@pytest.mark.parametrize("level", [0.3, 0.8, 0.99])
@pytest.mark.parametrize("rounds", [1, 3, 7])
def test_the_same_fraction_goes_every_time_and_the_level_is_met_exactly(level, rounds):
    schedule = attached(network(), generator="rewinding", rounds=rounds, level=level)
    for size in (18, 36, 1000, 37_440):
        last = size - removed_count(size, level)
        left, fraction = float(size), (last / size) ** (1 / rounds)
        for number in range(1, rounds + 1):
            left *= fraction
            # rounded once, not every time
            assert abs(schedule.kept(size, last, number) - left) <= 0.5 + 1e-6
        assert schedule.kept(size, last, rounds) == last


@pytest.mark.parametrize("rewind_epoch", [0, 1])
@pytest.mark.parametrize("scope", ["block", "global"])
def test_prunings_and_rewindings(tmp_path, rewind_epoch, scope):
    """After every training: masks of the naive twin, everything else as it was, no momentum, and
    the recipe's rate goes on from there.
    """
    model = network()
    run = fit_of(
        model, generator="rewinding", rounds=2, rewind_epoch=rewind_epoch, level=0.75, scope=scope
    )
    schedule, start, trained, after = run.schedule, [], [], []
    plain, prune = Clips.epoch, schedule._prune

    class Watching(Clips):
        def epoch(self, epoch, first_step=0):
            if epoch == rewind_epoch:
                start.extend(tensor.clone() for tensor in schedule._state())
            if epoch in (4, 4 + 4 - rewind_epoch):
                after.append(
                    (
                        [tensor.clone() for tensor in schedule._state()],
                        [mask.clone() for mask in schedule.masks],
                    )
                )
                assert not run.optimizer.state
            yield from plain(self, epoch, first_step)

    def watched(number):
        trained.append(
            (
                [weight.detach().clone() for weight in schedule.weights],
                [mask.clone() for mask in schedule.masks],
            )
        )
        prune(number)

    schedule._prune = watched
    run.run(Watching(), None, outside(tmp_path))
    assert len(run.progress.history) == run.course.epochs == 4 + 2 * (4 - rewind_epoch)
    assert [row["lr"] for row in run.progress.history[4:8]] == [
        learning_rate(run.config, e) for e in [*range(rewind_epoch, 4)] * 2
    ][:4]
    assert len(trained) == len(after) == 2
    for number, ((weights, before), (state, masks)) in enumerate(
        zip(trained, after, strict=True), start=1
    ):
        for unit in [[0, 1]] if scope == "global" else [[0], [1]]:
            weight, mask, found = (
                torch.cat([tensors[i].flatten() for i in unit]).tolist()
                for tensors in (weights, before, masks)
            )
            left = schedule.kept(
                len(weight), len(weight) - removed_count(len(weight), 0.75), number
            )
            assert found == pruned(weight, mask, left)
        gone = iter(masks)
        for tensor, first in zip(state, start, strict=True):
            # kernels are the only tensors of four axes
            assert torch.equal(tensor, first * next(gone) if tensor.ndim == 4 else first)
    kept = [row for row in run.progress.history if row["epoch"] >= run.course.first_kept_epoch]
    assert len(kept) == 4 - rewind_epoch


def test_what_is_gone_stays_gone_under_erk(tmp_path):
    model, seen = network(), []
    run = fit_of(
        model, generator="rewinding", rounds=4, level=0.9, scope="tensor", distribution="erk"
    )
    prune = run.schedule._prune

    def watched(number):
        prune(number)
        seen.append(torch.cat([mask.flatten() for mask in run.schedule.masks]).clone())

    run.schedule._prune = watched
    run.run(Clips(), None, outside(tmp_path))
    assert all((later <= earlier).all() for earlier, later in pairwise(seen))
    assert int((seen[-1] == 0).sum()) == removed_count(54, 0.9)


def test_only_a_rewinding_trial_is_longer():
    assert SparsityConfig(level=0.5, rounds=3).total_epochs(10) == 10
