"""Which networks of a sweep are still to be timed, and what becomes of the figures."""

import json
from types import SimpleNamespace

import pytest

from orchestrator.record.proposals import load_proposals
from orchestrator.tuning.timing import untimed
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.artifacts import LATENCIES, Latency

ALONE = Latency(
    deploy_latency_ms=3.0,
    deploy_batch64_latency_ms=90.0,
    latency_device="a cpu",
    latency_threads=1,
    latency_measured="alone",
    deploy_structure="a",
)


@pytest.fixture
def context(tmp_path):
    """Trials of structures a, a, b without a latency, and one of version 0.2 that timed itself."""
    run = make_run(tmp_path, [Trial("joint", 0.0, lr=0.1 * (n + 1)) for n in range(4)])
    proposals = load_proposals(run)
    for proposal, structure in zip(proposals, "aab", strict=False):
        change(proposal.folder(run), deploy_structure=structure, **dict.fromkeys(LATENCIES))
    told = []
    tracker = SimpleNamespace(log_latency=lambda trial, latency: told.append((trial, latency)))
    trials = [SimpleNamespace(proposal=proposal) for proposal in proposals]
    return SimpleNamespace(folder=run, trials=trials, tracker=tracker, told=told)


def change(folder, **cost):
    result = json.loads(folder.result_file.read_text())
    result["cost"] |= cost | {"latency_measured": None}
    folder.result_file.write_text(json.dumps(result))


def folders(context):
    return [trial.proposal.folder(context.folder) for trial in context.trials]


def test_every_distinct_form_is_timed_once(context):
    first, second, third, old = folders(context)
    assert untimed(context) == {"a": [first, second], "b": [third]}
    assert old.load().cost.latency_measured == "in trial"


def test_a_form_that_was_timed_before_is_not_timed_again(context):
    first, second, third, _ = folders(context)
    first.save_latency(ALONE)
    assert untimed(context) == {"b": [third]}
    cost = second.load().cost
    assert (cost.deploy_latency_ms, cost.latency_measured) == (3.0, "alone")
    assert context.told == [(second.path.name, ALONE)]


def test_masked_networks_are_timed_by_what_they_keep_where_that_counts(context):
    """On a GPU all levels of a structure take equally long; a level that is not noted stands for
    itself.
    """
    first, second, third, _ = folders(context)
    change(first, removed_params=7, deploy_kept="k")
    change(second, removed_params=7)
    found = untimed(context)
    assert found == {"a k": [first], str(second.path): [second], "b": [third]}
    assert untimed(context, sparse=False) == {"a": [first, second], "b": [third]}


def test_a_figure_counts_where_structures_were_described_in_other_words(context):
    _, _, third, _ = folders(context)
    third.save_latency(ALONE)  # of "a", while the result says "b"
    assert third.load().cost.latency_measured == "alone"
    assert untimed(context).keys() == {"a"}


def test_the_latency_of_another_network_is_not_taken(context):
    _, _, third, old = folders(context)
    third.save_latency(ALONE)
    change(third, deploy_structure="c")  # it was trained again
    assert third.load().cost.deploy_latency_ms is None
    old.save_latency(ALONE.model_copy(update={"latency_measured": "bench"}))
    assert old.load().cost.latency_measured == "bench"
    assert old.load().metrics()["deploy_latency_ms"] == 3.0
