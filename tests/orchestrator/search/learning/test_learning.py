"""What the searches that learn propose and are told, and that nothing but the past counts."""

import math

import pytest
from optuna.trial import TrialState

from orchestrator.search.protocol import Outcome
from orchestrator.trials.space import all_trials
from tests.orchestrator.search.asked import finished, proposed, run, search_of, sweep_of
from tests.orchestrator.simulation.made_curves import made_result

SPACE = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
  train.weight_decay: {min: 1.0e-5, max: 1.0e-2, distribution: log_uniform}
  train.schedule: {values: [step, cosine], axis: trial}
  train.milestones: {values: [[3], [5, 8], []], axis: trial}
"""
TWO = "objectives: [{metric: selection_top1, goal: maximize}, {metric: params, goal: minimize}]\n"
LIMIT = "constraints: [{metric: params, max: 1000}]\n"


def study_of(search):
    return search._proposer.cell_study


def quality(trial):
    lr, decay = trial.config.train.lr, trial.config.train.weight_decay
    return 1 - 0.3 * abs(math.log10(lr) + 1) - 0.1 * abs(math.log10(decay) + 3)


def outcome_in(sweep):
    """Trials of every ending; params grow with the learning rate."""

    def outcome(trial):
        number = int(trial.proposal.trial[-3:], 16)
        if number % 7 == 0:
            return Outcome("failed")
        values = (quality(trial), 1000.0)[: len(sweep.objectives)]
        if number % 5 == 0:
            return Outcome("pruned", None, 3 + number % 4, values)
        result = made_result(trial, quality(trial), params=int(5000 * trial.config.train.lr))
        return Outcome.finished(result, sweep.objectives)

    return outcome


def facts(search):
    return [
        (
            each.number,
            each.state,
            each.values,
            each.params,
            each.distributions,
            each.intermediate_values,
            each.constraints,
            {key: value for key, value in each.system_attrs.items() if value != ""},
        )
        for each in study_of(search).trials()
    ]


CASES = [("tpe", ""), ("tpe", LIMIT), ("tpe", TWO), ("nsga2", TWO + LIMIT), ("nsga2", "")]


@pytest.mark.parametrize(("name", "more"), CASES)
def test_a_study_rebuilt_from_the_past_equals_the_living_one(name, more):
    method = f"{{name: {name}, trials_per_cell: 24, startup_trials: 4}}"
    sweep = sweep_of(method, SPACE + more)
    living = search_of(sweep)
    steps = run(living, sweep, outcome_in(sweep), at_once=3)
    assert len(proposed(steps)) == 24
    assert facts(search_of(sweep, steps)) == facts(living)
    asked = [position for position, step in enumerate(steps) if step.outcome is None]
    for position in asked[::5]:
        again = search_of(sweep, steps[:position])
        assert again.ask() == steps[position].trial


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp"])
def test_the_first_assignments_are_those_of_random_search(name):
    method = f"{{name: {name}, trials_per_cell: 9, startup_trials: 3}}"
    sweep = sweep_of(method, SPACE)
    drawn = all_trials(sweep_of("{name: random, trials_per_cell: 9}", SPACE))
    search = search_of(sweep)
    asked = [search.ask() for _ in range(5)]  # nothing has ended yet
    assert [each.proposal for each in asked] == [each.proposal for each in drawn[:5]]


def test_tpe_finds_what_random_search_does_not():
    best = {}
    for name in ("tpe", "random"):
        sweep = sweep_of(f"{{name: {name}, trials_per_cell: 40}}", SPACE)
        if name == "random":
            best[name] = max(map(quality, all_trials(sweep)))
        else:
            best[name] = max(map(quality, proposed(run(search_of(sweep), sweep, quality))))
    assert best["tpe"] > best["random"]


def test_leaves_without_effect_are_no_part_of_a_trial():
    sweep = sweep_of("{name: tpe, trials_per_cell: 30, startup_trials: 4}", SPACE)
    trials = proposed(run(search := search_of(sweep), sweep, quality))
    by_schedule = {trial.config.train.schedule: set(trial.proposal.assignment) for trial in trials}
    assert "train.milestones" in by_schedule["step"]
    assert "train.milestones" not in by_schedule["cosine"]
    for trial, known in zip(trials, study_of(search).trials(), strict=True):
        assert set(known.params) == set(trial.proposal.assignment)
        assert trial.proposal.trial == f"all-{trial.config.digest()}"


def test_how_trials_ended_is_told_as_what_it_is():
    sweep = sweep_of("{name: tpe, trials_per_cell: 9}", SPACE + LIMIT)
    search = search_of(sweep)
    trials = [search.ask() for _ in range(6)]
    small, large = (made_result(trials[0], 0.5, params=each) for each in (500, 1500))
    outcomes = [
        Outcome.finished(small, sweep.objectives),
        Outcome.finished(large, sweep.objectives),
        Outcome("pruned", None, 7, (0.4,)),
        Outcome("pruned"),
        Outcome("failed"),
    ]
    for trial, outcome in zip(trials, outcomes, strict=False):
        search.tell(trial.proposal.trial, outcome)
    known = study_of(search).trials()
    assert [each.state for each in known] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert [each.constraints for each in known[:2]] == [
        {"params max 1000": -0.5},
        {"params max 1000": 0.5},
    ]
    assert (known[2].intermediate_values, known[2].value) == ({7: 0.4}, 0.4)
    assert known[3].intermediate_values == {}


def test_a_finished_trial_without_an_objective_teaches_nothing():
    sweep = sweep_of("{name: tpe, trials_per_cell: 9}", SPACE)
    search = search_of(sweep)
    search.tell(search.ask().proposal.trial, Outcome("finished", None, 3, (None,)))
    search.tell(search.ask().proposal.trial, Outcome("finished", None, 3, (math.nan,)))
    assert {each.state for each in study_of(search).trials()} == {TrialState.FAIL}


def test_pruned_trials_of_several_objectives_have_no_values():
    sweep = sweep_of("{name: tpe, trials_per_cell: 9}", SPACE + TWO)
    search = search_of(sweep)
    search.tell(search.ask().proposal.trial, Outcome("pruned", None, 7, (0.4, 100.0)))
    [known] = study_of(search).trials()
    assert (known.state, known.values, known.intermediate_values) == (TrialState.PRUNED, None, {})


def test_a_sampler_that_finds_nothing_new_leaves_the_rest_to_chance():
    few = SPACE.partition("parameters")[0] + "parameters:\n  train.lr: [0.1, 0.2, 0.3, 0.4, 0.5]\n"
    few = few.replace(
        "[0.1, 0.2, 0.3, 0.4, 0.5]", "{values: [0.1, 0.2, 0.3, 0.4, 0.5], axis: trial}"
    )
    sweep = sweep_of("{name: tpe, trials_per_cell: 9, startup_trials: 1}", few)
    trials = proposed(run(search_of(sweep), sweep, quality))
    assert sorted(trial.config.train.lr for trial in trials) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_trials_of_other_sweeps_teach_take_no_slot_and_are_not_run_again():
    sweep = sweep_of("{name: tpe, trials_per_cell: 6, startup_trials: 4}", SPACE)
    others = all_trials(sweep_of("{name: random, trials_per_cell: 8}", SPACE))
    taught, blank = search_of(sweep), search_of(sweep)
    for trial in others:
        taught.learn(dict(trial.proposal.assignment), finished(trial, quality(trial), sweep))
    first, other = taught.ask(), blank.ask()
    assert other.proposal.trial == others[0].proposal.trial
    assert first.proposal.trial not in {trial.proposal.trial for trial in others}
    taught.tell(first.proposal.trial, finished(first, 0.5, sweep))
    assert len(proposed(run(taught, sweep, quality))) == 5


def test_what_both_this_and_another_sweep_tried_is_told_once():
    sweep = sweep_of("{name: tpe, trials_per_cell: 6}", SPACE)
    trial = all_trials(sweep)[0]
    search = search_of(sweep)
    search.learn(dict(trial.proposal.assignment), finished(trial, 0.5, sweep))
    search.recall(trial)
    search.tell(trial.proposal.trial, finished(trial, 0.6, sweep))
    assert [each.value for each in study_of(search).trials()] == [0.5]


def test_gp_goes_on_as_it_would_have():
    sweep = sweep_of("{name: gp, trials_per_cell: 5, startup_trials: 3}", SPACE)
    steps = run(living := search_of(sweep), sweep, quality)
    assert facts(search_of(sweep, steps)) == facts(living)
    assert search_of(sweep, steps[:-2]).ask() == steps[-2].trial
