"""What is quasi-random search's own: where it is in its sequence."""

import pytest

from orchestrator.search import qmc
from orchestrator.search.making import Step
from tests.orchestrator.search.asked import proposed, run, search_of, sweep_of

RANGES = """
version: 1
name: ranges
data: {store: nowhere, protocol: xsub}
parameters:
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
"""
WHOLE = RANGES.replace("train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}", "{}").replace(
    "  {}", "  train.epochs: {min: 10, max: 29, distribution: int_uniform}"
)
FORBIDDEN = RANGES + 'constraints: ["train.lr < 0.0013"]\n'  # all but a twenty-sixth


@pytest.mark.parametrize("text", [RANGES, WHOLE, FORBIDDEN])
def test_a_search_that_is_made_again_goes_on_as_the_first_would_have(monkeypatch, text):
    monkeypatch.setattr(qmc, "MAX_TRIES", 12)  # fewer than the trials
    sweep = sweep_of("{name: qmc, trials_per_cell: 30}", text)
    whole = search_of(sweep)
    trials = list(iter(whole.ask, None))
    assert len({trial.proposal.trial for trial in trials}) == (20 if text == WHOLE else 30)
    steps = [Step(trial) for trial in trials]
    for length in range(0, len(trials), 3):
        assert search_of(sweep, steps[:length]).ask() == trials[length]


def test_a_sequence_that_brings_nothing_new_is_not_asked_again():
    sweep = sweep_of("{name: qmc, trials_per_cell: 30}", WHOLE)
    search = search_of(sweep)
    assert len(list(iter(search.ask, None))) == 20
    assert search.ask() is None


def test_a_cell_with_nothing_to_search_has_one_trial():
    text = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.6, 0.9]
"""
    sweep = sweep_of("{name: qmc, trials_per_cell: 3}", text)
    trials = proposed(run(search_of(sweep), sweep, lambda trial: 0.5))
    assert [trial.config.sparsity.level for trial in trials] == [0.6]
