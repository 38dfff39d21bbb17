"""Which curve stands for a trial, and which curves are of another space."""

from dataclasses import replace
from math import log

import pytest

from orchestrator.simulation.library import Axis, Library
from orchestrator.sweep import Parameter, parse_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curves
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.6, 0.99]
  train.lr: {min: 0.001, max: 0.1, distribution: log_uniform}
  train.weight_decay: {min: 0.0002, max: 0.0012}
  train.schedule: [step, cosine]
method: {name: random, trials_per_cell: 12}
train: {epochs: 20}
"""


def sweep_of(*changes, text=TEXT):
    sweep = parse_sweep("small.yaml", text, changes)
    return sweep, all_trials(sweep)


def library(*changes, of=()):
    """The sweep's trials, and curves of the sweep with changes `of`."""
    sweep, trials = sweep_of(*changes)
    curves = made_curves(sweep_of(*of)[1], lambda trial: (0.5, 2.0))
    return Library(curves, sweep, trials), trials, curves


def test_a_trial_that_was_recorded_has_its_own_curve():
    found, trials, curves = library()
    assert [found.nearest(trial) for trial in trials] == [(curve, True) for curve in curves]


def test_others_have_the_nearest_of_their_cell_on_the_scale_they_are_drawn_from():
    found, trials, curves = library("method.seed=1")
    for trial in trials:
        curve, own = found.nearest(trial)
        assert not own
        assert curve.cell == trial.proposal.cell

        def apart(other, trial=trial):
            own = trial.config.train
            rate = log(other.leaves["train.lr"] / own.lr) / log(100)
            decay = (other.leaves["train.weight_decay"] - own.weight_decay) / 0.001
            return rate**2 + decay**2 + (other.leaves["train.schedule"] != own.schedule)

        of_cell = [each for each in curves if each.cell == trial.proposal.cell]
        assert apart(curve) == pytest.approx(min(map(apart, of_cell)))


@pytest.mark.parametrize(
    ("parameter", "recorded", "places"),
    [
        ({"values": (0.1, 0.001)}, (0.04,), {0.001: 0.0, 0.04: 0.5, 0.1: 1.0}),
        ({"values": (5,)}, (), {5: 0.0, 9: -1.0}),
        ({"values": (16, 8)}, (), {8: 0.0, 16: 1.0}),
        ({"values": ("step", "cosine")}, (), {"cosine": 0.0, "step": 1.0, "other": -1.0}),
        ({"min": 2, "max": 4, "distribution": "uniform"}, (), {2: 0.0, 3.5: 0.75, 6: 2.0}),
        ({"min": 0.01, "max": 1.0, "distribution": "log_uniform"}, (), {0.1: 0.5, "text": -1.0}),
        ({"min": 1, "max": 16, "distribution": "int_log_uniform"}, (), {4: 0.5}),
    ],
)
def test_places_of_values(parameter, recorded, places):
    axis = Axis(Parameter(**parameter), recorded)
    assert {value: axis.place(value) for value in places} == pytest.approx(places)


def test_repetitions_take_the_curves_of_their_seeds():
    values = "parameters.train.lr=[0.01, 0.02]", "parameters.train.weight_decay=[0.0004]"
    grid = ("method={name: grid, seeds: 3}", *values)
    found, trials, _ = library(*grid, of=grid)
    assert all(found.nearest(trial)[0].seed == trial.proposal.seed for trial in trials)
    found, trials, _ = library(*grid, of=("method={name: grid, seeds: 2}", *values))
    assert {found.nearest(trial)[0].seed for trial in trials} == {0, 1}


def test_listed_numbers_are_near_by_their_rank():
    grid = ("method={name: grid}", "parameters.train.weight_decay=[0.0004]")
    found, trials, _ = library(
        *grid,
        "parameters.train.lr=[0.03]",
        of=(*grid, "parameters.train.lr=[0.001, 0.04, 0.1]"),
    )
    assert {found.nearest(trial)[0].leaves["train.lr"] for trial in trials} <= {0.001, 0.04}
    assert {found.nearest(trial)[0].leaves["train.schedule"] for trial in trials} == {
        "step",
        "cosine",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["train.epochs=30"],
            "cells level0.6, level0.99: the curves hold no finished trial of this space:"
            " train.epochs is 20 in the curves and 30 in the sweep",
        ),
        (["data.frames=32", "model.channels=16"], "data.frames is 64 in the curves and 32 in"),
        (
            ["parameters.sparsity.level=[0.6, 0.7]"],
            "cell level0.7: the curves hold no finished trial of this space: no trial of that cell",
        ),
        (["parameters.model.kernel_size={values: [5, 9], axis: cell}"], "no trial of that cell"),
    ],
)
def test_curves_of_another_space_are_one_error(changes, said):
    with pytest.raises(UserError) as caught:
        library(*changes)
    assert any(said in problem for problem in caught.value.problems)


def test_where_the_clips_lie_does_not_matter():
    found, trials, curves = library("data.store=elsewhere", "data.residence=mmap")
    assert [found.nearest(trial) for trial in trials] == [(curve, True) for curve in curves]


def test_of_many_cells_that_lack_curves_the_first_are_named():
    levels = [f"0.{number}" for number in range(10, 17)]
    with pytest.raises(UserError) as caught:
        library(f"parameters.sparsity.level=[{', '.join(levels)}]")
    assert caught.value.problems == (
        "cells level0.1, level0.11, level0.12, level0.13, level0.14 and 2 more: the curves hold no"
        " finished trial of this space: no trial of that cell",
    )
    with pytest.raises(UserError, match=r"level0\.14: the curves hold no finished"):
        library(f"parameters.sparsity.level=[{', '.join(levels[:5])}]")


def test_a_leaf_that_has_an_effect_is_one_apart_from_one_that_has_none():
    """Milestones belong to schedule step alone; the rates differ by a third of their range."""
    grid = (
        "method={name: grid}",
        "parameters.train.weight_decay=[0.0004]",
        "parameters.train.lr={values: [0.01, 0.02, 0.03, 0.04]}",
        "parameters.train.lr_decay=[0.1, 0.2]",
    )
    found, trials, _ = library(
        *grid, of=(*grid, "parameters.train.lr=[0.01, 0.04]", "parameters.train.schedule=[step]")
    )
    for trial in trials:
        curve, own = found.nearest(trial)
        train = trial.config.train
        assert curve.leaves["train.schedule"] == "step"
        assert curve.leaves["train.lr"] == (0.01 if train.lr < 0.025 else 0.04)
        if train.schedule == "step":
            assert curve.leaves["train.lr_decay"] == train.lr_decay
            assert own == (train.lr in (0.01, 0.04))


def test_curves_that_were_not_trained_to_their_end_stand_for_no_trial():
    sweep, trials = sweep_of()
    curves = made_curves(trials, lambda trial: (0.5, 2.0))
    first = replace(curves[0], result=None)
    found = Library([first, *curves[1:]], sweep, trials)
    curve, own = found.nearest(trials[0])
    assert curve in curves[1:]
    assert not own


def test_a_trial_without_a_leaf_is_nearer_to_curves_without_it():
    """Schedule cosine has no milestones: curves of cosine have none either."""
    own = (
        "method={name: grid}",
        "parameters.train.weight_decay=[0.0004]",
        "parameters.train.lr_decay=[0.1, 0.2]",
    )
    found, trials, _ = library(
        *own, "parameters.train.lr=[0.02]", of=(*own, "parameters.train.lr=[0.01, 0.04]")
    )
    for trial in trials:
        curve, exact = found.nearest(trial)
        assert not exact
        assert curve.leaves["train.schedule"] == trial.config.train.schedule
        if trial.config.train.schedule == "step":
            assert curve.leaves["train.lr_decay"] == trial.config.train.lr_decay
