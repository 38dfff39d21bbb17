"""Which trials of a sweep share their first epochs."""

import pytest

from orchestrator.sweep import parse_sweep
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError

HEAD = """\
version: 1
name: s
data: {store: nowhere, protocol: xsub}
train: {epochs: 10, warmup_epochs: 1, milestones: [5]}
"""


def beginnings(text):
    sweep = parse_sweep("s.yaml", HEAD + text)
    trials = all_trials(sweep)
    names = {trial.proposal.trial: trial for trial in trials}
    return [
        (
            each.epochs,
            [names[name].config.sparsity.described for name in each.trials],
            {names[name].config.seed for name in each.trials},
        )
        for each in shared_beginnings(sweep, trials)
    ], trials


def test_levels_of_one_seed_share_their_dense_epochs_and_the_dense_trial_trains_them():
    text = "sparsity: {penalty: none}\nmethod: {name: grid, seeds: 2}\n"
    found, _ = beginnings(text + "parameters:\n  sparsity.level: [0.6, 0.8, 0, 0.95]\n")
    levels = ["0", "0.6", "0.8", "0.95"]
    assert found == [(6, levels, {0}), (6, levels, {1})]


def test_a_dense_trial_may_leave_several():
    found, _ = beginnings(
        "sparsity: {penalty: none, rounds: 1}\nparameters:\n  sparsity.level: [0, 0.8]\n"
        "  sparsity.generator: [fixed_random, magnitude_at_init, rewinding, rigl]\n"
    )
    assert found == [(6, ["0", "0.8", "0.8"], {0}), (10, ["0", "0.8"], {0})]


@pytest.mark.parametrize(
    "text",
    [
        "parameters:\n  sparsity.level: [0, 0.6, 0.8]\n",  # the default penalty is on the mask
        "sparsity: {penalty: none, branch_at: off}\nparameters:\n  sparsity.level: [0, 0.6]\n",
        # one alone
        "sparsity: {penalty: none, level: 0.8}\nparameters:\n  train.lr: [0.1, 0.2]\n",
        # whoever will share is not known
        "sparsity: {penalty: none}\nmethod: {name: tpe, trials_per_cell: 3}\n"
        "parameters:\n  sparsity.level: [0, 0.6]\n"
        "  train.lr: {distribution: log_uniform, min: 0.01, max: 0.1}\n",
    ],
)
def test_nothing_is_shared(text):
    assert beginnings(text)[0] == []


def test_lengths_that_differ_are_made_equal_by_branch_at():
    text = "parameters:\n  sparsity.level: [0.6]\n  sparsity.warmup: [4, 6]\n"
    assert beginnings("sparsity: {penalty: none}\n" + text)[0] == []
    [(epochs, levels, _)], _ = beginnings("sparsity: {penalty: none, branch_at: 3}\n" + text)
    assert (epochs, levels) == (3, ["0.6", "0.6"])


@pytest.mark.parametrize(
    ("sparsity", "rule"),
    [
        (
            "generator: rigl, branch_at: 1",
            "1 needs a beginning that is the same at every level: generator rewinding, or penalty"
            " none and a warmup with one of fixed_random, magnitude_at_init, predefined; got"
            " generator rigl",
        ),
        (
            "branch_at: 1",
            "1 needs a beginning that is the same at every level: generator rewinding, or penalty"
            " none and a warmup with one of fixed_random, magnitude_at_init, predefined; got"
            " generator fixed_random, penalty group_lasso and warmup 0.6",
        ),
        (
            "penalty: none, branch_at: 7",
            "must be at most 6, the epoch in which masks begin to act, got 7",
        ),
        (
            "generator: rewinding, branch_at: 11",
            "must be at most 10, the epoch in which masks begin to act, got 11",
        ),
    ],
)
def test_a_branch_where_trials_differ_is_named_by_its_line(sparsity, rule):
    with pytest.raises(UserError) as caught:
        beginnings(f"sparsity: {{{sparsity}}}\nparameters:\n  sparsity.level: [0, 0.6]\n")
    assert caught.value.problems == (f"s.yaml:5 sparsity.branch_at: {rule} (cell level0.6)",)
