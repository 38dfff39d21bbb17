"""A sweep that gets more trials: what its folder says, what is refused, and its file afterwards."""

import json

import pytest

from orchestrator.record.extending import as_extended, extended, extensions, tell_extensions
from orchestrator.record.folder import (
    folder_of,
    journal_of,
    known_proposals,
    load_folder,
    opened,
    prepare,
)
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.recorded import recorded
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: {values: [0.6, 0.8], axis: cell}
  train.lr: {distribution: log_uniform, min: 0.02, max: 0.2}
method: {name: random, trials_per_cell: 3}
"""
GRID = TEXT.replace("method: {name: random, trials_per_cell: 3}\n", "").replace(
    "{distribution: log_uniform, min: 0.02, max: 0.2}", "{values: [0.1, 0.2]}"
)


def sweep_of(text=TEXT, *overrides):
    return parse_sweep("small.yaml", text, overrides)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    return recorded(sweep_of())[0]


def extend(run, more=None, *overrides):
    """As `extend` does, before the first trial: returns all trials."""
    sweep = extended(run, more, overrides)
    prepare(sweep, run, extends=True)
    tell_extensions(run, journal_of(run))
    return all_trials(sweep, load_proposals(run))


def names(trials):
    return [trial.proposal.trial for trial in trials]


def test_every_cell_gets_more_trials_and_those_there_are_stay(run):
    before = load_proposals(run)
    trials = extend(run, 2)
    assert [trial.proposal for trial in trials if trial.proposal in before] == list(before)
    assert len(trials) == 10
    cells = [trial.proposal.cell for trial in trials]
    assert {cells.count(cell) for cell in set(cells)} == {5}
    # as if the file had asked for them from the start
    assert set(names(trials)) == set(names(all_trials(sweep_of(TEXT, "method.trials_per_cell=5"))))
    assert load_folder(run).method.trials_per_cell == 5


def test_wider_ranges_and_more_cells(run):
    before = {proposal.trial for proposal in load_proposals(run)}
    changes = ("parameters.sparsity.level.values=[0.6, 0.8, 0.9]", "parameters.train.lr.max=0.8")
    trials = extend(run, 1, *changes)
    assert before < set(names(trials))
    assert len(trials) == 3 * 4
    assert (
        max(trial.config.train.lr for trial in trials if trial.config.sparsity.level == 0.9) > 0.2
    )


def test_a_grid_grows_by_values_alone():
    run = recorded(sweep_of(GRID))[0]
    with pytest.raises(UserError, match=r"--trials: small has tried every combination .*values=\["):
        extended(run, 1)
    more = "parameters.train.lr.values=[0.1, 0.2, 0.4]"
    with pytest.raises(UserError) as caught:  # the advice was followed
        extended(run, 1, [more])
    assert str(caught.value) == (
        "--trials: must be left out: a grid has no number of trials; it grows by the values given"
        " with --set"
    )
    trials = extend(run, None, more)
    assert len(trials) == 6
    assert set(names(all_trials(sweep_of(GRID)))) < set(names(trials))


@pytest.mark.parametrize(
    ("more", "changes", "rule"),
    [
        (None, (), "nothing would be added"),
        (None, ("resources.cpus=2",), "nothing would be added"),
        (None, ("method.trials_per_cell=2",), "method.trials_per_cell: was 3, is now 2"),
        (2, ("parameters.train.lr.max=0.1",), "parameters.train.lr.max: was 0.2, is now 0.1"),
        (2, ("train.lr=0.1",), "train.lr"),
    ],
)
def test_what_is_no_extension_is_refused_with_the_difference(run, more, changes, rule):
    before = (run / "resolved.json").read_text()
    with pytest.raises(UserError, match=rule):
        extended(run, more, changes)
    assert (run / "resolved.json").read_text() == before


@pytest.mark.parametrize("change", ["train.epochs=70", "data.protocol=xview", "seed=1"])
def test_a_setting_that_decides_what_trials_are_stays(run, change):
    with pytest.raises(UserError, match=f"{change.partition('=')[0]}: was .*, is now"):
        extended(run, 2, (change,))
    assert extensions(run) == []


def test_what_trials_run_on_may_change_with_it(run):
    extend(run, 2, "resources.cpus=2")
    assert load_folder(run).resources.cpus == 2


def test_a_space_without_other_assignments_cannot_be_extended_by_trials():
    text = TEXT.replace("{distribution: log_uniform, min: 0.02, max: 0.2}", "[0.1, 0.2, 0.3]")
    run = recorded(sweep_of(text))[0]
    with pytest.raises(UserError, match="no trial would be added: the cells hold no other assig"):
        extended(run, 2)
    assert len(extend(run, 2, "parameters.train.lr.values=[0.1, 0.2, 0.3, 0.4]")) == 8


def test_trials_of_cells_that_lack_an_axis_stay():
    """A penalty has no effect in a dense cell."""
    text = TEXT.replace(
        "  train.lr:", "  sparsity.penalty: {values: [none, global], axis: cell}\n  train.lr:"
    )
    run = recorded(sweep_of(text))[0]
    trials = extend(run, None, "parameters.sparsity.level.values=[0, 0.6, 0.8]")
    assert {proposal.trial for proposal in load_proposals(run)} < set(names(trials))
    assert len(trials) == 5 * 3


TICKETS = TEXT.replace("values: [0.6, 0.8]", "values: [0, 0.8]") + "sparsity: {from: dense}\n"


def test_trials_that_start_from_a_dense_one_keep_those_they_may_start_from():
    run = recorded(sweep_of(TICKETS))[0]
    before = {each.trial: each.after for each in load_proposals(run)}
    after = {each.proposal.trial: each.proposal.after for each in extend(run, 2)}
    assert {name: after[name] for name in before} == before
    assert sorted(map(len, after.values())) == [0] * 5 + [3] * 3 + [5] * 2


def test_the_folder_and_the_journal_say_what_grew(run):
    original = (run / "sweep.yaml").read_text()
    extend(run, 2)
    extend(run, 1)
    assert [each["changes"] for each in extensions(run)] == [
        ["method.trials_per_cell: was 3, is now 5"],
        ["method.trials_per_cell: was 5, is now 6"],
    ]
    told = [each for each in read_journal(run / "journal.jsonl") if "changes" in each]
    assert [each["event"] for each in told] == ["sweep_extended"] * 2
    assert [each["changes"] for each in told] == [each["changes"] for each in extensions(run)]
    assert tell_extensions(run, journal_of(run)) == []
    assert (run / "sweep.yaml").read_text() == original


@pytest.mark.parametrize("times", [1, 2])
def test_the_file_it_was_started_from_goes_on_with_the_extended_sweep(run, times):
    for _ in range(times):
        extend(run, 2)
    cores = sweep_of(TEXT, "resources.cpus=2")
    sweep, grew = as_extended(cores)
    assert sweep.method.trials_per_cell == 3 + 2 * times
    assert grew == (f"method.trials_per_cell: was 3, is now {3 + 2 * times}",)
    assert sweep.resources.cpus == 2
    prepare(sweep, run)
    assert len(extensions(run)) == times  # not forgotten
    assert len(all_trials(sweep, load_proposals(run))) == 2 * (3 + 2 * times)


def test_a_file_that_asks_for_what_there_is_needs_no_word(run):
    extend(run, 2)
    same = sweep_of(TEXT, "method.trials_per_cell=5")
    assert as_extended(same) == (same, ())
    prepare(same, run)


@pytest.mark.parametrize("extended_before", [False, True])
def test_a_file_that_asks_for_more_is_told_of_extend(run, extended_before):
    if extended_before:
        extend(run, 2)
    more = sweep_of(TEXT, "method.trials_per_cell=9")
    assert as_extended(more) == (more, ())
    with pytest.raises(UserError) as caught:
        prepare(more, run)
    assert caught.value.problems[-1] == (
        "  (orchestrate extend small adds trials and values to the sweep that is there)"
    )
    with pytest.raises(UserError) as caught:
        prepare(sweep_of(TEXT, "method.trials_per_cell=1"), run)
    assert "orchestrate extend" not in str(caught.value)


def test_a_sweep_without_a_folder_is_as_its_file_says():
    assert as_extended(sweep_of()) == (sweep_of(), ())


def test_the_plan_of_an_extension_knows_the_trials_there_are(run):
    assert known_proposals(extended(run, 2), run) == load_proposals(run)
    assert known_proposals(sweep_of(TEXT, "method.trials_per_cell=1"), run) == ()
    assert known_proposals(sweep_of(TEXT, "train.epochs=9"), run) == ()


def test_two_extensions_at_once_are_one(run):
    first, second = extended(run, 2), extended(run, 1)
    prepare(first, run, extends=True)
    with pytest.raises(UserError, match="was extended meanwhile"):
        prepare(second, run, extends=True)


@pytest.mark.parametrize("told", [False, True])
def test_an_extension_that_ends_before_its_first_trial_is_taken_back(run, told):
    files = [run / "resolved.json", run / "journal.jsonl"]
    before = [path.read_bytes() for path in files]

    def begin():
        prepare(extended(run, 2), run, extends=True)
        if told:
            tell_extensions(run, journal_of(run))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened(run):
        begin()
    assert [path.read_bytes() for path in files] == before


def test_a_sweep_of_before_keeps_its_folder_as_it_was():
    run = recorded(sweep_of())[0]
    assert "extensions" not in json.loads((run / "resolved.json").read_text())
    assert folder_of(sweep_of()) == run
