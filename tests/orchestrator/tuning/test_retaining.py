"""Retention while trials end: decided one by one as it is decided over the whole sweep."""

import random
from types import SimpleNamespace

import pytest

from orchestrator.record.retention import checkpoint_files, unneeded_of_sweep
from orchestrator.record.states import TrialState
from orchestrator.trials.beginnings import Beginning
from orchestrator.trials.proposed import Proposal
from orchestrator.tuning.beginnings import Beginnings
from orchestrator.tuning.retaining import Retaining
from tests.orchestrator.fake_run import Trial, make_sweep, result_of


class Scene:
    """A sweep of a dense and a sparse cell, every trial with a checkpoint."""

    def __init__(self, folder, policy, proposals=None):
        dense = tuple(f"d{number}" for number in range(4))
        self.proposals = [Proposal(name, "dense", {}, {"lr": name}, 0) for name in dense]
        self.proposals += [Proposal(f"s{i}", "sparse", {}, {"lr": i}, 0, dense) for i in range(4)]
        self.proposals = self.proposals if proposals is None else proposals
        self.sweep = make_sweep()
        self.sweep.retain = SimpleNamespace(checkpoints=policy)
        self.delivered: set[str] = set()
        self.run = folder
        self.context = SimpleNamespace(
            behind={},
            sweep=self.sweep,
            folder=folder,
            tracker=SimpleNamespace(delivered=lambda trial: trial in self.delivered),
        )
        for proposal in self.proposals:
            checkpoint = proposal.folder(folder).checkpoint_file
            checkpoint.parent.mkdir(parents=True)
            checkpoint.write_bytes(b"weights")
        self.states = {each.trial: TrialState(each) for each in self.proposals}
        self.retaining = Retaining(
            self.context, self.states.values(), Beginnings(self.context.folder, (), (), {})
        )
        self.retaining.start()

    def end(self, proposal, errors):
        made = Trial("joint", 0.0, wrong_selection=tuple(range(errors)))
        made.name = proposal.trial
        state = TrialState(proposal, "finished", result_of(made))
        self.states[proposal.trial] = state
        self.retaining.ended(proposal, state.ending, state.result)

    def without(self):
        """Trials that have no checkpoint any more."""
        return {
            each.trial for each in self.proposals if not checkpoint_files(each.folder(self.run))
        }

    def decided(self):
        policy = self.sweep.retain.checkpoints
        return set(unneeded_of_sweep([*self.states.values()], self.sweep, policy))


@pytest.mark.parametrize("policy", ["all", "best_per_cell", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_as_trials_end_as_over_the_whole_sweep(tmp_path, policy, seed):
    scene, chance = Scene(tmp_path, policy), random.Random(seed)
    scene.delivered = set(scene.states)
    for proposal in chance.sample(scene.proposals, len(scene.proposals)):
        scene.retaining.started(proposal)
        scene.end(proposal, chance.randrange(9))
        assert scene.without() == scene.decided()
    left = {"all": 8, "best_per_cell": 2, "none": 1}[policy]
    assert len(scene.proposals) - len(scene.without()) == left


@pytest.mark.parametrize("seed", range(4))
def test_seeds_without_a_checkpoint_count_in_the_mean(tmp_path, seed):
    """Or else one with fewer of them would not compare, and the best would lose its weights."""
    numbers = [(lr, repeat) for lr in range(4) for repeat in range(3)]
    proposals = [
        Proposal(f"t{lr}{repeat}", "all", {}, {"lr": lr}, repeat) for lr, repeat in numbers
    ]
    scene, chance = Scene(tmp_path, "best_per_cell", proposals), random.Random(seed)
    scene.delivered = set(scene.states)
    for proposal in chance.sample(proposals, len(proposals)):
        scene.retaining.started(proposal)
        scene.end(proposal, chance.randrange(9))
        assert scene.without() == scene.decided()
    assert len(proposals) - len(scene.without()) == 1


def test_a_shared_beginning_goes_with_the_last_trial_that_needs_it(tmp_path):
    scene = Scene(tmp_path, "best_per_cell")
    shared = Beginning("0123456789abcdef", 6, ("d0", "d1", "d2"), frozenset({"d1", "d2"}))
    beginnings = Beginnings(tmp_path, (shared,), [*scene.states], {})
    scene.retaining = Retaining(scene.context, scene.states.values(), beginnings)
    shared.file(tmp_path).parent.mkdir()
    shared.file(tmp_path).write_bytes(b"weights")
    left = []
    for proposal in scene.proposals[:3]:
        scene.end(proposal, 1)
        left.append(shared.file(tmp_path).exists())
    assert left == [True, True, False]


def test_what_the_tracker_lacks_goes_with_a_later_end(tmp_path):
    scene = Scene(tmp_path, "best_per_cell")
    scene.end(scene.proposals[0], 5)
    scene.end(scene.proposals[1], 1)
    assert scene.without() == set()
    scene.delivered = {"d0"}
    scene.end(scene.proposals[2], 2)
    assert scene.without() == {"d0"}


def test_another_policy_is_applied_when_a_sweep_goes_on(tmp_path):
    scene = Scene(tmp_path, "all")
    scene.delivered = set(scene.states)
    for number, proposal in enumerate(scene.proposals):
        scene.end(proposal, number)
    assert scene.without() == set()
    scene.sweep.retain.checkpoints = "none"
    Retaining(scene.context, scene.states.values(), scene.retaining._beginnings).start()
    assert scene.without() == set(scene.states) - {"d0"}


def test_a_trial_that_is_proposed_later_has_its_source(tmp_path):
    scene = Scene(tmp_path, "none")
    scene.delivered = set(scene.states)
    retaining = Retaining(
        scene.context, [scene.states[f"d{i}"] for i in range(4)], scene.retaining._beginnings
    )
    scene.retaining = retaining
    scene.end(scene.proposals[0], 3)
    assert scene.without() == {"d0"}  # nobody was to start from it
    retaining.started(scene.proposals[4])
    scene.end(scene.proposals[1], 4)
    assert scene.without() == {"d0"}
