"""Networks that take equally long are timed once."""

import json

import pytest

from orchestrator.record.folder import held
from orchestrator.record.networks import networks_of
from orchestrator.record.proposals import load_proposals
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.errors import UserError


@pytest.fixture
def run(tmp_path):
    """Three finished trials and one that failed."""
    trials = [Trial("joint", level) for level in (0.0, 0.6, 0.8)]
    return make_run(tmp_path, [*trials, Trial("joint", 0.9, state="failed")])


def structured(run, *structures, **cost):
    """Say of its finished trials which structure their deploy forms have, and this besides."""
    for proposal, structure in zip(load_proposals(run), structures, strict=False):
        file = proposal.folder(run).result_file
        result = json.loads(file.read_text())
        result["cost"] |= {"deploy_structure": structure, "removed_params": 0, **cost}
        file.write_text(json.dumps(result))


def test_trials_of_one_structure_are_one_network(run):
    structured(run, "s1", "s2", "s1")
    first, second = networks_of([run])
    trials = [proposal.folder(run) for proposal in load_proposals(run)]
    assert first.trials == (trials[0], trials[2])
    assert second.trials == (trials[1],)
    assert first.cost == trials[0].load().cost
    assert first.name == f"{trials[0].path.name} and 1 more"
    assert second.name == trials[1].path.name


def test_masked_trials_that_do_not_say_what_they_keep_stand_for_themselves(run):
    """Unless they are timed dense alone."""
    structured(run, "s1", "s1", "s1", removed_params=7)
    assert [len(network.trials) for network in networks_of([run])] == [1, 1, 1]
    assert [len(network.trials) for network in networks_of([run], sparse=False)] == [3]
    structured(run, "s1", "s1", "s1", removed_params=7, deploy_kept="k")
    assert [len(network.trials) for network in networks_of([run])] == [3]


def test_trials_that_say_nothing_of_their_structure_stand_for_themselves(run):
    structured(run, "", "", "")
    assert [len(network.trials) for network in networks_of([run])] == [1, 1, 1]


def test_a_sweep_that_runs_or_has_no_finished_trial_has_none(run, tmp_path):
    with held(run), pytest.raises(UserError, match=r"run: must not be running while its networks"):
        networks_of([run])
    empty = make_run(tmp_path / "other", [Trial("joint", 0.0, state="unfinished")])
    with pytest.raises(UserError, match=r"other/run: must have a finished trial whose network"):
        networks_of([empty])
    assert len(networks_of([empty, run])) == 3
