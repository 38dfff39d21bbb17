"""What all searches share that make their trials one by one."""

import pytest

from orchestrator.search.one_by_one import Forgetful, OneByOne
from orchestrator.search.protocol import WAIT, Outcome
from orchestrator.trials import cell_space
from orchestrator.trials.cells import expand
from orchestrator.trials.space import all_trials, key_of
from tests.orchestrator.search.asked import finished, proposed, run, search_of, sweep_of

QMC = "{name: qmc, trials_per_cell: 6}"
FEW = """
version: 1
name: few
data: {store: nowhere, protocol: xsub}
parameters:
  train.lr: {values: [0.1, 0.2, 0.3, 0.4], axis: trial}
constraints: ["train.lr < 0.35"]
"""
UNDER_HALF = "constraints: ['train.lr * 1000 < 500 * train.weight_decay * 10000']\n"


def lr_is_best_at_a_tenth(trial):
    return 1 - abs(trial.config.train.lr - 0.1)


def test_names_and_digests_are_those_of_any_search():
    sweep = sweep_of(QMC)
    for trial in proposed(run(search_of(sweep), sweep, lambda trial: 0.5)):
        assert trial.proposal.trial == f"all-{trial.config.digest()}"
        assert trial.config.train.lr == trial.proposal.assignment["train.lr"]
        assert trial.proposal.seed == trial.config.seed == 0


def test_a_space_that_can_be_listed_ends_when_all_of_it_was_tried():
    sweep = sweep_of("{name: qmc, trials_per_cell: 50}", FEW)
    trials = proposed(run(search_of(sweep), sweep, lambda trial: 0.5))
    assert sorted(trial.config.train.lr for trial in trials) == [0.1, 0.2, 0.3]
    assert len(all_trials(sweep)) == 3  # what plan and status count with


def test_a_listed_space_is_gone_through_once(monkeypatch):
    keys = []
    monkeypatch.setattr(
        cell_space, "key_of", lambda assignment: keys.append(1) or key_of(assignment)
    )
    values = [round(0.001 * (number + 1), 3) for number in range(60)]
    sweep = sweep_of(
        "{name: qmc, trials_per_cell: 60}", FEW.replace("0.1, 0.2, 0.3, 0.4", str(values)[1:-1])
    )
    (cell,) = expand(sweep)
    space, tried = cell_space.CellSpace(sweep, cell), {}
    assert space.listed is not None
    for known in space.listed[5:9]:  # of earlier runs
        tried[key_of(known)] = known
    found = []
    while (drawn := space.random(len(tried), tried)) is not None:
        found.append(drawn)
        tried[key_of(drawn)] = drawn
    assert found == [*space.listed[:5], *space.listed[9:]]
    assert len(keys) == len(values)


def test_constraints_cost_no_trial():
    sweep = sweep_of(QMC, UNDER_HALF + sweep_of(QMC).text.partition("method")[0])
    trials = proposed(run(search_of(sweep), sweep, lambda trial: 0.5))
    assert len(trials) == 6
    assert all(t.config.train.lr < 5000 * t.config.train.weight_decay for t in trials)


def test_the_best_is_repeated_with_other_seeds_when_all_others_have_ended():
    sweep = sweep_of("{name: qmc, trials_per_cell: 4, final_seeds: 3}", FEW.split("constr")[0])
    search = search_of(sweep)
    firsts = [search.ask() for _ in range(4)]
    for trial in firsts:
        assert search.ask() is WAIT
        top1 = lr_is_best_at_a_tenth(trial)
        outcome = Outcome("failed") if top1 == 1 else finished(trial, top1, sweep)
        search.tell(trial.proposal.trial, outcome)
    repeats = [search.ask(), search.ask()]
    assert search.ask() is None
    # the very best failed
    assert [(each.config.train.lr, each.config.seed) for each in repeats] == [(0.2, 1), (0.2, 2)]
    assert len({trial.proposal.trial for trial in firsts + repeats}) == 6
    assert len(all_trials(sweep)) == 6


def test_repeats_that_an_earlier_run_began_are_completed():
    sweep = sweep_of("{name: qmc, trials_per_cell: 3, final_seeds: 3}")
    whole = run(search_of(sweep), sweep, lr_is_best_at_a_tenth)
    for length in range(1, len(whole)):
        if whole[length].outcome is None:
            assert search_of(sweep, whole[:length]).ask() == whole[length].trial


def test_a_better_one_of_an_extended_sweep_is_repeated_too():
    space = FEW.split("constr")[0]
    few, more = (
        sweep_of(f"{{name: qmc, trials_per_cell: {number}, final_seeds: 2}}", space)
        for number in (2, 4)
    )
    order = [t.config.train.lr for t in proposed(run(search_of(more), more, lambda trial: 0.5))]

    def later_is_better(trial):
        return order.index(trial.config.train.lr) / 4

    past = run(search_of(few), few, later_is_better)
    found = [*proposed(past), *proposed(run(search_of(more, past), more, later_is_better))]
    places = [(order.index(each.config.train.lr), each.config.seed) for each in found]
    assert places == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]


def test_nothing_is_repeated_where_nothing_finished():
    sweep = sweep_of("{name: qmc, trials_per_cell: 3, final_seeds: 3}")
    steps = run(search_of(sweep), sweep, lambda trial: Outcome("pruned", None, 3, (0.1,)))
    assert len(proposed(steps)) == 3


def test_a_trial_of_a_limit_is_not_the_best():
    limit = "constraints: [{metric: selection_top1, max: 0.85}]\n"
    sweep = sweep_of(
        "{name: qmc, trials_per_cell: 4, final_seeds: 2}", limit + FEW.split("constr")[0]
    )
    trials = proposed(run(search_of(sweep), sweep, lr_is_best_at_a_tenth))
    assert trials[-1].config.train.lr == 0.3


@pytest.mark.parametrize("at_once", [1, 4])
def test_no_assignment_is_tried_twice(at_once):
    sweep = sweep_of("{name: qmc, trials_per_cell: 40}")
    trials = proposed(run(search_of(sweep), sweep, lr_is_best_at_a_tenth, at_once=at_once))
    assert len({key_of(trial.proposal.assignment) for trial in trials}) == 40


class Noting(Forgetful):
    """Proposes like random search, and notes what it is told."""

    def __init__(self, space):
        super().__init__(space)
        self.added, self.ended = [], []

    def add(self, assignment):
        self.added.append(assignment)

    def end(self, assignment, outcome):
        self.ended.append((assignment, outcome))


def test_a_proposer_is_told_once_of_every_assignment_and_of_its_end():
    sweep = sweep_of(QMC)
    space = cell_space.CellSpace(sweep, expand(sweep)[0])
    noting = Noting(space)
    search = OneByOne(space, noting)
    elsewhere = {"train.lr": 0.5, "train.weight_decay": 0.001}
    good = Outcome("finished", None, 9, (0.9,))
    for _ in range(2):  # a trial of another sweep
        search.learn(elsewhere, good)
    assert noting.ended == [(elsewhere, good)]
    own, other = search.ask(), search.ask()
    assert noting.added == [elsewhere, own.proposal.assignment, other.proposal.assignment]
    for name in (other.proposal.trial, own.proposal.trial, own.proposal.trial, "unknown"):
        search.tell(name, Outcome("failed"))
    assert noting.ended[1:] == [
        (other.proposal.assignment, Outcome("failed")),
        (own.proposal.assignment, Outcome("failed")),
    ]


def test_what_another_sweep_has_taught_is_not_learned_again():
    sweep = sweep_of(QMC)
    space = cell_space.CellSpace(sweep, expand(sweep)[0])
    known, fresh = OneByOne(space, Forgetful(space)).ask(), Noting(space)
    search = OneByOne(space, fresh)
    good = Outcome("finished", None, 9, (0.9,))
    search.learn(dict(known.proposal.assignment), good)
    search.recall(known)  # an earlier run proposed the same
    search.tell(known.proposal.trial, Outcome("failed"))
    assert fresh.added == [known.proposal.assignment]
    assert fresh.ended == [(known.proposal.assignment, good)]
