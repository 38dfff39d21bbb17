"""What a sweep learns from others is checked before, and written down in its own folder."""

import shutil

import pytest

from orchestrator.record.folder import folder_of, journal_of, prepare
from orchestrator.record.journal import read_journal
from orchestrator.record.warm_start import check_warm_start, warm_up
from orchestrator.search.making import asked_searches
from orchestrator.sweep import parse_sweep
from orchestrator.trials.cells import expand
from tests.orchestrator.recorded import recorded
from tests.orchestrator.simulation.made_curves import made_result

SPACE = """
version: 1
name: {name}
data: {{store: nowhere, protocol: xsub}}
parameters:
  sparsity.level: [{levels}]
  {leaf}: {{min: 0.001, max: {largest}, distribution: log_uniform}}
train: {{epochs: 9}}
"""
OWN = "method: {name: tpe, trials_per_cell: 4, startup_trials: 2, warm_start: [other]}\n"


def space(name, levels="0.0, 0.9", leaf="train.lr", largest=1.0):
    return SPACE.format(name=name, levels=levels, leaf=leaf, largest=largest)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A sweep whose trials have finished, but for the last, which failed, and one that waits."""
    monkeypatch.chdir(tmp_path)

    def make(name="other", finished=True, **changes):
        text = space(name, **changes) + "method: {name: random, trials_per_cell: 4}\n"
        run, trials = recorded(parse_sweep("other.yaml", text))
        for trial in trials[1:-1] if finished else ():
            folder = trial.proposal.folder(run)
            folder.path.mkdir(parents=True)
            folder.result_file.write_text(made_result(trial, 0.5).model_dump_json())
        journal_of(run).append("trial_failed", trial=trials[-1].proposal.trial, reason="why")
        return run, trials

    return make


def own(**changes):
    return parse_sweep("own.yaml", space("own", **changes) + OWN)


def test_a_sweep_that_learns_from_no_other_is_not_looked_for(monkeypatch):
    def asked(_sweep):
        raise AssertionError("its storage may be an address that only the cluster reaches")

    monkeypatch.setattr("orchestrator.record.warm_start.folder_of", asked)
    text = space("own") + "method: {name: tpe, trials_per_cell: 4}\nstorage: s3://bucket/runs\n"
    assert check_warm_start(parse_sweep("own.yaml", text)) == []


def test_what_is_learned_is_written_down_and_needs_the_other_sweep_no_more(other):
    run, trials = other()
    sweep = own()
    assert check_warm_start(sweep) == []
    prepare(sweep, folder_of(sweep))
    first = warm_up(sweep, folder_of(sweep), journal_of(folder_of(sweep)))
    # what failed may be tried again
    assert [each.outcome.ending for each in first] == ["finished"] * 6
    assert [each.assignment for each in first] == [t.proposal.assignment for t in trials[1:-1]]
    shutil.rmtree(run)
    assert check_warm_start(sweep) == []
    assert warm_up(sweep, folder_of(sweep), journal_of(folder_of(sweep))) == first
    events = read_journal(folder_of(sweep) / "journal.jsonl")
    assert [event["event"] for event in events].count("search_warmed") == 1


def test_each_cell_learns_what_its_space_holds(other):
    _, trials = other()
    sweep = own(levels="0.9", largest=0.1)
    prepare(sweep, folder_of(sweep))
    earlier = warm_up(sweep, folder_of(sweep), journal_of(folder_of(sweep)))
    [search] = asked_searches(sweep, expand(sweep), (), (), earlier).values()
    known = search._proposer.cell_study.trials()
    lrs = [t.config.train.lr for t in trials if t.config.sparsity.level == 0.9]
    assert [each.params["train.lr"] for each in known] == [lr for lr in lrs if lr <= 0.1]
    assert 0 < len(known) < 4


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"leaf": "train.weight_decay"}, "must search the same leaves within its cells (train.lr)"),
        ({"levels": "0.5"}, "must share a cell with this sweep, got other"),
        ({"finished": False}, "must have finished trials with selection_top1, got other"),
        ({"name": "another"}, "other: must be a sweep in runs/ or a sweep's folder"),
    ],
)
def test_a_sweep_that_cannot_teach_is_one_error(other, changes, problem):
    other(**changes)
    [found] = check_warm_start(own())
    assert found.startswith("own.yaml:9 method.warm_start[0]: ")
    assert problem in found


@pytest.mark.parametrize(("number", "allowed"), [(297, True), (298, False)])
def test_a_search_of_few_trials_learns_from_few(other, number, allowed):
    other()  # three trials of one cell have finished, and three of the other
    method = OWN.replace("tpe", "gp").replace("trials_per_cell: 4", f"trials_per_cell: {number}")
    found = check_warm_start(parse_sweep("own.yaml", space("own") + method))
    expected = (
        "own.yaml:9 method.warm_start: gp learns from at most 300 trials of a cell, got 3 of other"
        " sweeps and 298 of its own; use tpe"
    )
    assert found == ([] if allowed else [expected])


def test_a_sweep_does_not_warm_itself(other):
    other("own")
    [found] = check_warm_start(parse_sweep("own.yaml", space("own") + OWN.replace("other", "own")))
    assert "a sweep learns from its own trials anyway" in found
