"""Early stopping over several runs of a sweep: a run that was killed decides as if it had not."""

import random

import pytest

from orchestrator.record.folder import journal_of
from orchestrator.record.states import load_trials
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from orchestrator.tuning.early import EarlyStops
from tests.orchestrator.recorded import recorded
from trainables.contract.artifacts import load_curve

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.9]
  train.lr: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
train: {epochs: 20}
sparsity: {warmup: 0.3}
"""
TYPES = {
    "asha": "{type: asha, eta: 2}",
    "median": "{type: median}",
    "plateau": "{type: plateau, patience: 3}",
    "after_epochs": "{type: after_epochs, keep: 2}",
}


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(early="{type: asha, grace: 1}", *changes):
        sweep = parse_sweep("small.yaml", TEXT, [f"early_terminate={early}", *changes])
        return sweep, *recorded(sweep)

    return make


def reports(trials, seed):
    """(trial, epoch, metrics) as they come from trials that run side by side."""
    rng, epochs = random.Random(seed), {trial.proposal.trial: 0 for trial in trials}
    running = {trial.proposal.trial: trial for trial in trials}
    while running:
        trial = running[rng.choice(sorted(running))]
        name = trial.proposal.trial
        top1 = 1 - 1 / (2 + epochs[name] * trial.config.train.lr) + 0.1 * rng.random()
        if (yield trial, epochs[name], {"selection_top1": top1, "train_loss": rng.random()}):
            del running[name]
            continue
        epochs[name] += 1
        if epochs[name] == trial.config.total_epochs:
            del running[name]


def decided(early, trials, seed, restart=lambda early: early):
    """Every decision in the order it was made; `restart` may kill the sweep before one."""
    source, found = reports(trials, seed), []
    event = next(source)
    while True:
        trial, epoch, metrics = event
        early = restart(early)
        ends = early.ends(trial, epoch, metrics)
        found.append((trial.proposal.trial, epoch, ends))
        try:
            event = source.send(ends)
        except StopIteration:
            return found


@pytest.mark.parametrize("kind", sorted(TYPES))
@pytest.mark.parametrize("seed", range(3))
def test_decisions_after_kill_9_are_those_of_a_run_without(scene, kind, seed):
    sweep, run, trials = scene(TYPES[kind])
    whole = decided(EarlyStops(sweep, run, trials), trials, seed)
    (run / "epochs.jsonl").unlink()
    rng = random.Random(seed)

    def killed(early):
        return EarlyStops(sweep, run, trials) if rng.random() < 0.1 else early

    assert decided(EarlyStops(sweep, run, trials), trials, seed, killed) == whole
    assert {end for *_, end in whole} == {True, False}
    again = EarlyStops(sweep, run, trials)
    assert again.pruned == {trial: epoch + 1 for trial, epoch, ends in whole if ends}


def test_a_trial_that_ended_early_keeps_its_curve_and_says_what_that_saved(scene):
    sweep, run, trials = scene()
    early, first, second = EarlyStops(sweep, run, trials), *trials[:2]
    assert not early.ends(first, 0, {"selection_top1": 0.9})
    assert early.ends(second, 0, {"selection_top1": 0.2, "lr": 0.1})
    folder = second.proposal.folder(run)
    folder.path.mkdir(parents=True)
    assert early.end(journal_of(run), second) == Outcome("pruned", None, 1, (0.2,))
    assert load_curve(folder.metrics_file) == {"epoch": [0], "selection_top1": [0.2], "lr": [0.1]}
    state = load_trials(run)[1]
    assert (state.ending, state.stopped_at, state.stopped_of) == ("pruned", 1, 20)
    assert state.stopped_values == {"selection_top1": 0.2}


def test_without_a_rule_nothing_ends_and_nothing_is_written(scene):
    sweep, run, trials = scene("{type: none}")
    early = EarlyStops(sweep, run, trials)
    assert not any(early.ends(trials[0], epoch, {"selection_top1": 0.0}) for epoch in range(5))
    assert not (run / "epochs.jsonl").exists()


def test_another_rule_judges_again_what_is_known(scene):
    sweep, run, trials = scene("{type: asha, grace: 19}")
    decided(EarlyStops(sweep, run, trials), trials[:8], 0)
    sweep, _, _ = scene("{type: after_epochs, grace: 2}")
    early = EarlyStops(sweep, run, trials)
    # each was trained for longer than the epoch at which this rule would have ended it
    assert set(early.pruned.values()) <= {19, 20}
    assert len(early.pruned) == 7


def test_reports_of_trials_that_the_sweep_lacks_are_left_alone(scene):
    sweep, run, trials = scene()
    EarlyStops(sweep, run, trials).ends(trials[0], 0, {"selection_top1": 0.9})
    assert EarlyStops(sweep, run, trials[1:]).pruned == {}


def test_sizes_are_looked_up_where_an_objective_is_one(scene, monkeypatch):
    from orchestrator.tuning import early as module

    objectives = (
        "objectives=[{metric: selection_top1, goal: maximize}, {metric: params, goal: minimize}]"
    )

    class FakeSizes:
        def __init__(self, store):
            assert store == "the store"

        def metrics(self, config):
            return {"params": 1000 * config.train.lr}

    monkeypatch.setattr(module, "Sizes", FakeSizes)
    sweep, run, trials = scene("{type: asha, grace: 1}", objectives)
    monkeypatch.setattr("trainables.data.store.cache.open_outline", lambda store: "the store")
    found = EarlyStops(sweep, run, trials)
    top1 = [0.5, 0.6, 0.5]  # the second is larger and better, the third larger than both
    ended = [found.ends(t, 0, {"selection_top1": v}) for t, v in zip(trials, top1, strict=False)]
    assert ended == [False, False, True]


def test_the_files_of_a_trial_that_has_an_ending_are_left_alone(scene):
    sweep, run, trials = scene()
    early, first, second = EarlyStops(sweep, run, trials), *trials[:2]
    early.ends(first, 0, {"selection_top1": 0.9})
    assert early.ends(second, 0, {"selection_top1": 0.2})
    early.forget(second.proposal.trial)
    early.ends(second, 1, {"selection_top1": 0.3})  # a late report
    folder = second.proposal.folder(run)
    folder.path.mkdir(parents=True)
    early.end(journal_of(run), second)
    assert not folder.metrics_file.exists()


def test_repeats_of_the_best_with_other_seeds_are_not_compared(tmp_path):
    method = "method: {name: tpe, trials_per_cell: 2, startup_trials: 1, final_seeds: 3}\n"
    space = TEXT.replace("[0.0, 0.9]", "[0.9]").replace("{warmup: 0.3}", "{warmup: 0.0}")
    rule = "early_terminate={type: after_epochs, keep: 1, grace: 1}"
    sweep = parse_sweep("small.yaml", space + method, [rule])
    best, *_, other = trials = all_trials(sweep)
    assert [trial.proposal.seed - sweep.seed for trial in trials] == [0, 1, 2, 0]
    for _ in range(2):  # the second is made again from the log
        early = EarlyStops(sweep, tmp_path, trials)
        for trial, top1 in zip(trials, (0.9, 0.1, 0.2, 0.8), strict=True):
            for epoch in range(3):
                early.ends(trial, epoch, {"selection_top1": top1})
        assert set(early.pruned) == {other.proposal.trial}
    assert not early.ends(best, 3, {"selection_top1": 0.0})
