"""Batches that do not fit into memory are taken in halves."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.trainables.training.small_fit import (
    CONFIG,
    Clips,
    classify,
    network,
    outside,
)
from trainables.contract.errors import Interrupted, TrialFailed
from trainables.training.loop import Fit
from trainables.training.memory import BatchTooLarge
from trainables.training.schedule import Schedule

"""Clips that fit into memory at once, in the tests below; a batch has 8."""


SMALL = 4
"""Clips that fit into memory at once; a batch has 8."""


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


class Pairs(Clips):
    """Batches of so few clips."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def epoch(self, epoch, first_step=0):
        for batch in super().epoch(epoch, first_step):
            x, y = batch.x[: self.size], batch.y[: self.size]
            yield SimpleNamespace(persons=None, x=x, y=y, index=torch.arange(self.size))


@pytest.mark.parametrize(("size", "error"), [(2, BatchTooLarge), (1, TrialFailed)])
def test_two_clips_can_be_halved_and_one_cannot(tmp_path, size, error):
    fit = limited_fit(network(), [], fits=0)
    with pytest.raises(error, match=f"a batch of {size} does not fit into memory"):
        fit.run(Pairs(size), None, outside(tmp_path))


class OddClips(Clips):
    """Batches of seven: one half is larger."""

    def epoch(self, epoch, first_step=0):
        for batch in super().epoch(epoch, first_step):
            yield SimpleNamespace(
                persons=None, x=batch.x[:7].double(), y=batch.y[:7], index=torch.arange(7)
            )


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
