"""What a search is made again from: every proposal and every end, in the order they happened."""

from dataclasses import asdict

import pytest

from orchestrator.record.folder import journal_of
from orchestrator.record.journal import read_journal
from orchestrator.record.past import load_past, outcome_of, write_ends
from orchestrator.record.states import TrialState, load_trials
from orchestrator.search.making import Step
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import parse_sweep
from tests.orchestrator.fake_run import Trial as MadeUp
from tests.orchestrator.fake_run import result_of
from tests.orchestrator.recorded import recorded
from trainables.contract.disk import write_atomic

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.6, 0.8]
objectives: [{metric: selection_top1, goal: maximize}, {metric: train_loss, goal: minimize}]
"""
RESULT = result_of(MadeUp("joint", 0.0))
FAILED = Outcome("failed")


class Scene:
    """A sweep of three trials, of which nothing has happened yet."""

    def __init__(self):
        self.sweep = parse_sweep("small.yaml", TEXT)
        self.run, self.trials = recorded(self.sweep)
        self.journal = journal_of(self.run)

    def tell(self, number, event, **fields):
        proposal = self.trials[number].proposal
        self.journal.append(event, trial=proposal.trial, cell=proposal.cell, **fields)

    def finish(self, number):
        file = self.trials[number].proposal.folder(self.run).result_file
        write_atomic(file, RESULT.model_dump_json().encode())

    def states(self):
        return {state.proposal.trial: state for state in load_trials(self.run)}

    def past(self, trials=None):
        return load_past(self.run, self.sweep, trials or self.trials, self.states())


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Scene()


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ({}, None),
        ({"ending": "interrupted", "stopped_at": 3}, None),
        ({"ending": "failed", "reason": "loss is nan"}, FAILED),
        ({"ending": "discarded"}, Outcome("discarded")),
        (
            {"ending": "pruned", "stopped_at": 7, "stopped_values": {"selection_top1": 0.5}},
            Outcome("pruned", None, 7, (0.5, None)),
        ),
        ({"ending": "pruned"}, Outcome("pruned", None, 0, (None, None))),
    ],
)
def test_what_a_search_is_told_of_an_end(scene, state, outcome):
    assert outcome_of(TrialState(scene.trials[0].proposal, **state), scene.sweep) == outcome


def test_a_finished_trial_has_the_values_of_its_result(scene):
    found = outcome_of(TrialState(scene.trials[0].proposal, "finished", RESULT), scene.sweep)
    assert found == Outcome.finished(RESULT, scene.sweep.objectives)


def test_ends_stand_between_the_proposals_as_they_happened(scene):
    scene.journal.path.unlink()
    first, second, third = scene.trials
    for number in (1, 0):
        scene.journal.append("trial_proposed", **asdict(scene.trials[number].proposal))
    scene.tell(1, "trial_failed", reason="loss is nan")
    scene.journal.append("trial_proposed", **asdict(third.proposal))
    scene.tell(0, "trial_pruned", epochs=2, values={})
    assert scene.past() == [
        Step(second),
        Step(first),
        Step(second, FAILED),
        Step(third),
        Step(first, Outcome("pruned", None, 2, (None, None))),
    ]


def test_of_several_ends_the_last_counts(scene):
    first, second, _ = scene.trials
    scene.tell(0, "trial_failed", reason="the worker died")
    scene.tell(1, "trial_failed", reason="the worker died")
    scene.tell(0, "trial_retried")
    scene.tell(0, "trial_failed", reason="the worker died")
    ends = [step.trial for step in scene.past() if step.outcome is not None]
    assert ends == [second, first]


def test_an_end_that_was_not_written_down_comes_last(scene):
    first, _, third = scene.trials
    scene.finish(0)  # the driver was killed before it heard of it
    scene.tell(2, "trial_failed", reason="loss is nan")
    assert [step.trial for step in scene.past() if step.outcome is not None] == [third, first]


def test_a_trial_that_no_event_proposed_is_older_than_all_that_one_did(scene):
    """As of version 0.2, which wrote a list instead."""
    first, second, third = scene.trials
    events = scene.journal.path.read_bytes().splitlines(keepends=True)
    scene.tell(0, "trial_failed", reason="loss is nan")
    states = scene.states()
    told = scene.journal.path.read_bytes().splitlines(keepends=True)[len(events) :]
    scene.journal.path.write_bytes(b"".join([*told, *events[1:]]))
    steps = load_past(scene.run, scene.sweep, scene.trials, states)
    assert steps == [Step(first), Step(first, FAILED), Step(second), Step(third)]


def test_what_a_killed_run_could_not_write_down_is_written_once(scene):
    for number in (0, 1):
        scene.finish(number)
    scene.tell(1, "trial_finished", seconds=60.0)
    for _ in range(2):
        write_ends(scene.run, scene.journal, load_trials(scene.run))
    written = [
        {name: value for name, value in event.items() if name != "time"}
        for event in read_journal(scene.journal.path)
        if event["event"] == "trial_finished"
    ]
    first, second = (trial.proposal for trial in scene.trials[:2])
    assert written == [
        {"event": "trial_finished", "trial": second.trial, "cell": second.cell, "seconds": 60.0},
        {
            "event": "trial_finished",
            "trial": first.trial,
            "cell": first.cell,
            "seconds": RESULT.seconds,
            "selection_top1": RESULT.selection_top1,
            "nonzero_params": RESULT.cost.nonzero_params,
        },
    ]


def test_where_nothing_is_to_be_written_down_the_journal_stays_as_it_is(scene):
    before = scene.journal.path.read_bytes()
    write_ends(scene.run, scene.journal, load_trials(scene.run))
    assert scene.journal.path.read_bytes() == before
