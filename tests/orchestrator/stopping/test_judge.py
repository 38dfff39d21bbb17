"""Who is compared with whom in a sweep, and what counts."""

import pytest

from orchestrator.stopping.judge import Judge, group_of
from orchestrator.sweep import parse_sweep
from orchestrator.trials.dense import needed
from orchestrator.trials.space import all_trials

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.6, 0.99]
  train.lr: [0.1, 0.2, 0.3]
train: {epochs: 20}
sparsity: {warmup: 0.5}
early_terminate: {type: asha, grace: 2}
"""


def scene(*changes, text=TEXT, known=lambda trial: {}):
    sweep = parse_sweep("small.yaml", text, changes)
    trials = all_trials(sweep)
    sources = needed(trials)
    return Judge(sweep.early_terminate, sweep.objectives, sources, known), trials


def stopped(judge, trial, value, metric="selection_top1"):
    """The epochs after which the trial ends; None where it does not."""
    for epoch in range(trial.config.total_epochs):
        if judge.ends(trial, epoch, {metric: value, "train_loss": 1.0}):
            return epoch + 1
    return None


def test_trials_of_different_cells_are_never_compared():
    judge, trials = scene()
    values = {0.0: 0.9, 0.6: 0.5, 0.99: 0.1}
    ended = [stopped(judge, t, values[t.config.sparsity.level] - t.config.train.lr) for t in trials]
    # the first of each cell is its best; the others end two epochs after their own warm-up
    assert ended == [None, 2, 2, None, 12, 12, None, 12, 12]


@pytest.mark.parametrize("repeat", [1, 5])
def test_rungs_count_epochs_of_training_whatever_an_epoch_repeats(repeat):
    judge, trials = scene(f"data.repeat={repeat}")
    assert [stopped(judge, trial, 0.5 - trial.config.train.lr) for trial in trials[3:5]] == [
        None,
        12,
    ]


def test_what_a_dense_network_reaches_before_its_masks_are_final_does_not_count():
    judge, (*_, first, second, _) = scene()
    assert stopped(judge, first, 0.3) is None
    for epoch in range(10):
        assert not judge.ends(second, epoch, {"selection_top1": 0.9})
    assert [judge.ends(second, epoch, {"selection_top1": 0.2}) for epoch in (10, 11)] == [
        False,
        True,
    ]


def test_dense_trials_of_a_cell_are_a_group_of_their_own():
    searched = TEXT.replace("[0.0, 0.6, 0.99]", "{values: [0.0, 0.6, 0.99], axis: trial}")
    _, trials = scene(text=searched)
    assert len({trial.proposal.cell for trial in trials}) == 1
    assert len({group_of(trial) for trial in trials}) == 2


def test_a_trial_that_others_start_from_is_compared_and_never_ends():
    judge, trials = scene("sparsity.from=dense")
    assert [stopped(judge, trial, 0.5 - trial.config.train.lr) for trial in trials[:3]] == [
        None
    ] * 3
    assert stopped(judge, trials[4], 0.1) is None
    assert stopped(judge, trials[5], 0.05) == 12


def test_a_trial_at_its_last_epoch_is_not_ended():
    judge, trials = scene("early_terminate={type: after_epochs, grace: 1}")
    best, beaten = trials[:2]
    for epoch in range(19):
        assert not judge.ends(beaten, epoch, {"selection_top1": 0.4})
    assert stopped(judge, best, 0.9) is None
    assert not judge.ends(beaten, 19, {"selection_top1": 0.4})


def test_an_epoch_that_is_reported_again_or_without_the_objective_decides_nothing():
    judge, trials = scene()
    first, second, third = trials[:3]
    assert (judge.is_new(first.proposal.trial, 0), judge.epochs(first.proposal.trial)) == (True, 0)
    assert stopped(judge, first, 0.9) is None
    assert not judge.ends(second, 1, {"train_loss": 1.0})
    assert not judge.ends(third, 0, {"selection_top1": 0.1})
    assert judge.ends(third, 1, {"selection_top1": 0.1})
    assert not judge.ends(third, 1, {"selection_top1": 0.1})
    assert (judge.epochs(third.proposal.trial), judge.is_new(third.proposal.trial, 2)) == (2, True)


def test_an_objective_that_is_known_beforehand_is_part_of_the_comparison():
    sizes = {0.1: 100.0, 0.2: 50.0, 0.3: 200.0}
    objectives = (
        "objectives=[{metric: selection_top1, goal: maximize},"
        " {metric: nonzero_params, goal: minimize}]"
    )
    judge, trials = scene(
        objectives, known=lambda trial: {"nonzero_params": sizes[trial.config.train.lr]}
    )
    # the second is less accurate and smaller, the third neither
    assert [stopped(judge, t, 0.5 - t.config.train.lr) for t in trials[:3]] == [None, None, 2]


def test_the_first_epoch_that_counts_is_known_before_a_trial_has_reported():
    judge, trials = scene()
    by_level = {trial.config.sparsity.level: trial for trial in trials}
    first = {level: judge.first_epoch(trial) for level, trial in by_level.items()}
    assert first == {0.0: 0, 0.6: 10, 0.99: 10}
    assert not judge.ends(by_level[0.6], 3, {"selection_top1": 0.9})
    assert judge.first_epoch(by_level[0.6]) == 10


def test_repeats_of_the_best_are_neither_ended_nor_compared_with():
    sweep = parse_sweep("small.yaml", TEXT, ())
    trials = all_trials(sweep)
    best, repeat, other = trials[:3]
    judge = Judge(
        sweep.early_terminate,
        sweep.objectives,
        needed(trials),
        lambda trial: {},
        lambda trial: trial is repeat,
    )
    assert stopped(judge, best, 0.5) is None
    assert stopped(judge, repeat, 0.1) is None
    assert judge.epochs(repeat.proposal.trial) == 20
    # between the best and the repeat: it is the worst of two, not the second of three
    assert stopped(judge, other, 0.3) == 2
