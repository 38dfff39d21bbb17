"""Cells are asked in turn; those that wait are asked again when it is worth it."""

import pytest

from orchestrator.search.protocol import WAIT, Outcome
from orchestrator.search.turns import Turns
from orchestrator.trials.proposed import Proposal, Trial
from trainables.contract.config import DataConfig, TrialConfig

FAILED = Outcome("failed")


def trial(name, *after):
    proposal = Proposal(name, name.partition("-")[0], {}, {}, 0, after)
    return Trial(proposal, TrialConfig(data=DataConfig(store="s", protocol="p")))


class Scripted:
    """Answers from a list, and remembers what it is told."""

    def __init__(self, *answers):
        self.answers, self.told = list(answers), []

    def ask(self):
        return self.answers.pop(0) if self.answers else None

    def tell(self, trial, outcome):
        self.told.append((trial, outcome))


def name_of(trial):
    return None if trial is None else trial.proposal.trial


def test_a_cell_that_waits_is_asked_again_after_an_end_of_its_own():
    first, second = trial("a-0"), trial("a-1")
    cells = {"a": Scripted(first, WAIT, second), "b": Scripted(other := trial("b-0"))}
    written, over = [], []
    turns = Turns(
        cells, {}, propose=lambda each: written.append(name_of(each)), exhausted=over.append
    )
    assert [name_of(turns.next()) for _ in range(3)] == ["a-0", "b-0", None]
    assert written == ["a-0", "b-0"]
    assert turns.waits
    turns.end(other, FAILED)
    assert turns.next() is None
    turns.end(first, FAILED)
    assert name_of(turns.next()) == "a-1"
    assert over == ["b"]
    turns.end(second, FAILED)
    assert turns.over
    assert over == ["b", "a"]
    assert cells["a"].told == [("a-0", FAILED), ("a-1", FAILED)]


def test_as_many_trials_may_come_as_are_listed_where_no_others_are_made():
    listed = [trial("a-0"), trial("a-1")]
    turns = Turns({"a": Scripted(*listed)}, {"a": listed})
    assert (turns.most, turns.unended) == (2, 2)
    turns.end(turns.next(), FAILED)
    assert (turns.most, turns.unended) == (2, 1)


def test_trials_that_an_earlier_run_began_go_on_first_and_are_not_written_again():
    written = []
    turns = Turns(
        {"a": Scripted(trial("a-2"))},
        {},
        begun=[trial("a-0"), trial("a-1", "a-0")],
        propose=lambda each: written.append(name_of(each)),
    )
    assert [name_of(turns.next()) for _ in range(3)] == ["a-0", "a-2", None]
    assert turns.waits  # a-1 starts from a-0
    turns.end(trial("a-0"), FAILED)
    assert name_of(turns.next()) == "a-1"
    assert written == ["a-2"]


def test_a_cell_behind_another_is_asked_when_all_trials_of_that_have_ended():
    dense = trial("dense-0")
    turns = Turns(
        {"sparse": Scripted(trial("sparse-0")), "dense": Scripted(dense)},
        {},
        behind={"sparse": ["dense"], "dense": ["of no sweep"]},
    )
    assert [name_of(turns.next()) for _ in range(2)] == ["dense-0", None]
    assert turns.waits
    assert not turns.over
    turns.end(dense, FAILED)
    assert [name_of(turns.next()) for _ in range(2)] == ["sparse-0", None]


def test_nothing_waits_for_ever_on_a_search_that_only_waits():
    turns = Turns({"a": Scripted(WAIT, WAIT)}, {})
    assert turns.next() is None
    assert not turns.waits


def test_a_search_learns_nothing_of_a_trial_that_was_interrupted():
    search = Scripted(first := trial("a-0"))
    turns = Turns({"a": search}, {})
    assert turns.next() is first
    turns.end(first, None)
    assert search.told == []


@pytest.mark.parametrize("slots", [0, 5])
def test_how_many_trials_there_may_be(slots):
    listed = {"a": [trial("a-0"), trial("a-1")]}
    turns = Turns({"a": Scripted(), "b": Scripted()}, listed, begun=[trial("b-0")], slots=slots)
    assert turns.most == 3 + slots
    assert turns.unended == 3


def test_a_trial_that_is_held_lets_those_behind_it_go_first():
    held, trials = {"a-0"}, [trial("a-0"), trial("a-1")]
    turns = Turns({"a": Scripted(*trials), "b": Scripted(trial("b-0"))}, {})
    turns.hold = lambda each: name_of(each) in held
    assert [name_of(turns.next()) for _ in range(3)] == ["b-0", "a-1", None]
    assert turns.waits
    assert not turns.over
    held.clear()
    assert name_of(turns.next()) == "a-0"
