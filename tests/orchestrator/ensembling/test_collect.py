"""One member per cell, chosen by the objectives, never by luck of a seed and never by the test
split.
"""

from __future__ import annotations

import json
import shutil

import pytest

from orchestrator.ensembling.collect import collect, load_failures, missing_cells
from orchestrator.record.journal import Journal
from orchestrator.record.states import load_trials
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.errors import UserError


def test_the_best_trial_of_each_cell_is_its_member(tmp_path):
    worse = Trial("joint", 0.6, lr=0.1, wrong_selection=(0, 1, 2))
    better = Trial("joint", 0.6, lr=0.2, wrong_selection=(0,), wrong_test=(1, 2, 3))
    other = Trial("bone", 0.6, wrong_selection=(0, 1))
    run = make_run(tmp_path, [worse, better, other])
    members = collect(run, make_sweep())
    assert [(member.cell, member.trial) for member in members] == [
        ("joint-0.6", better.name),
        ("bone-0.6", other.name),
    ]
    assert members[0].axes == {"data.stream": "joint", "sparsity.level": 0.6}
    assert members[0].selection.labels is not None
    assert members[0].test.labels is None


def test_the_first_objective_decides_and_the_others_break_ties(tmp_path):
    fast = Trial("joint", 0.0, lr=0.1, wrong_selection=(0, 1), latency=1.0)
    slow = Trial("joint", 0.0, lr=0.2, wrong_selection=(3, 4), latency=2.0)
    best = Trial("joint", 0.0, lr=0.3, wrong_selection=(0,), latency=9.0)
    accurate_first = (("selection_top1", "maximize"), ("deploy_latency_ms", "minimize"))
    run = make_run(tmp_path, [slow, fast, best])
    assert collect(run, make_sweep(objectives=accurate_first))[0].trial == best.name
    limited = make_sweep(
        objectives=accurate_first, limits=({"metric": "deploy_latency_ms", "max": 5.0},)
    )
    assert collect(run, limited)[0].trial == fast.name
    fast_first = make_sweep(objectives=accurate_first[::-1])
    assert collect(run, fast_first)[0].trial == fast.name


def test_of_equally_accurate_trials_the_smallest_is_chosen(tmp_path):
    """A level that is searched as a number: accuracy first, then what is shipped; or the sparsest
    within a limit.
    """
    trials = [
        Trial("joint", level, wrong_selection=wrong)
        for level, wrong in ((0.412, (1,)), (0.57, (0,)), (0.9312, (0, 1)))
    ]
    for trial in trials:
        trial.in_one_cell = True
    run = make_run(tmp_path, trials)
    objectives = (("selection_top1", "maximize"), ("deploy_nonzero_params", "minimize"))
    assert collect(run, make_sweep(objectives=objectives))[0].trial == trials[1].name
    sparsest = make_sweep(
        objectives=(("level", "maximize"),), limits=({"metric": "selection_top1", "min": 0.9},)
    )
    assert collect(run, sparsest)[0].trial == trials[1].name


def test_equal_trials_are_told_apart_by_their_id(tmp_path):
    trials = [Trial("joint", 0.0, lr=lr) for lr in (0.1, 0.2, 0.3)]
    run = make_run(tmp_path, trials)
    assert collect(run, make_sweep())[0].trial == min(trial.name for trial in trials)


def test_seeds_count_by_their_mean_and_the_first_represents(tmp_path):
    lucky = [
        Trial("joint", 0.0, lr=0.1, seed=s, wrong_selection=wrong)
        for s, wrong in enumerate([(), (0, 1, 2, 3), (0, 1, 2, 3)])
    ]
    steady = [
        Trial("joint", 0.0, lr=0.2, seed=s, wrong_selection=wrong)
        for s, wrong in enumerate([(0, 1, 2), (0,), (0, 1)])
    ]
    run = make_run(tmp_path, [*reversed(lucky), *reversed(steady)])
    (member,) = collect(run, make_sweep())
    assert member.trial == steady[0].name
    assert [each.seed for each in member.seeds] == [0, 1, 2]


@pytest.mark.parametrize("state", ["failed", "unfinished"])
def test_one_finished_seed_does_not_compete_with_the_mean_of_three(tmp_path, state):
    lucky = [
        Trial("joint", 0.0, lr=0.1, seed=seed, state="complete" if seed == 1 else state)
        for seed in range(3)
    ]
    steady = [Trial("joint", 0.0, lr=0.2, seed=seed, wrong_selection=(0,)) for seed in range(3)]
    alone = Trial("bone", 0.0, seed=1)
    run = make_run(tmp_path, [*lucky, *steady, alone, Trial("bone", 0.0, state=state)])
    assert [member.trial for member in collect(run, make_sweep())] == [steady[0].name, alone.name]


@pytest.mark.parametrize("state", ["failed", "unfinished"])
def test_trials_that_did_not_finish_are_no_members_and_are_named(tmp_path, state):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0, state=state)]
    run = make_run(tmp_path, trials)
    members = collect(run, make_sweep())
    assert [member.cell for member in members] == ["joint-0"]
    reason = "loss is nan in epoch 1" if state == "failed" else "not finished"
    assert reason in missing_cells(run, members)["bone-0"]


def test_a_trial_given_up_without_a_word_of_its_own_failed_for_the_journals_last_reason(tmp_path):
    trial = Trial("joint", 0.0, state="unfinished")
    run = make_run(tmp_path, [trial])
    journal = Journal(run / "journal.jsonl")
    for reason in ("out of memory", "the worker died"):
        journal.append("trial_started", trial=trial.name, cell=trial.cell)
        journal.append("trial_failed", trial=trial.name, cell=trial.cell, reason=reason)
    journal.append("sweep_finished")
    assert missing_cells(run, ()) == {"joint-0": f"{trial.name} failed: the worker died"}
    assert [(state.status, state.failure) for state in load_trials(run)] == [
        ("failed", "the worker died")
    ]


@pytest.mark.parametrize("event", ["trial_started", "trial_finished", "trial_interrupted"])
def test_a_later_event_of_the_trial_supersedes_the_journals_reason(tmp_path, event):
    trials = [Trial("joint", 0.0, state="unfinished"), Trial("bone", 0.0, state="unfinished")]
    run = make_run(tmp_path, trials)
    journal = Journal(run / "journal.jsonl")
    for trial in trials:
        journal.append("trial_failed", trial=trial.name, reason="the worker died")
    journal.append(event, trial=trials[0].name)
    assert load_failures(run) == {trials[1].name: "the worker died"}
    assert "not finished" in missing_cells(run, ())["joint-0"]
    assert [state.status for state in load_trials(run)] == ["unfinished", "failed"]


def test_a_trial_that_is_complete_or_has_a_word_of_its_own_needs_no_journal(tmp_path):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0, state="failed")]
    run = make_run(tmp_path, trials)
    for trial in trials:
        Journal(run / "journal.jsonl").append(
            "trial_failed", trial=trial.name, reason="the worker died"
        )
    assert load_failures(run) == {trials[1].name: "loss is nan in epoch 1"}
    assert [state.status for state in load_trials(run)] == ["finished", "failed"]


def test_a_cell_outside_the_constraints_is_named(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0, latency=9.0)])
    members = collect(run, make_sweep(limits=({"metric": "deploy_latency_ms", "max": 5.0},)))
    assert members == ()
    assert "outside the constraints" in missing_cells(run, members)["joint-0"]


def test_members_scored_on_other_clips_are_refused(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("bone", 0.0, test_count=29)])
    with pytest.raises(UserError, match=r"test scores of the same clips.*29 and 30"):
        collect(run, make_sweep())


@pytest.mark.parametrize(
    "name", ["scores.selection.parquet", "scores.test.parquet", "config.json", "result.json"]
)
def test_a_file_of_another_trial_is_refused_and_named(tmp_path, name):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0, wrong_selection=(1,), wrong_test=(0, 1, 2))]
    run = make_run(tmp_path, trials)
    mine, others = (run / "trials" / trial.name / name for trial in trials)
    shutil.copyfile(others, mine)
    with pytest.raises(UserError, match=rf"{trials[0].name}/{name}: must be the"):
        collect(run, make_sweep())


@pytest.mark.parametrize("name", ["scores.selection.parquet", "scores.test.parquet"])
def test_scores_that_are_gone_are_an_error_and_no_paper_protocol(tmp_path, name):
    trial = Trial("joint", 0.0)
    run = make_run(tmp_path, [trial])
    (run / "trials" / trial.name / name).unlink()
    with pytest.raises(UserError, match=f"{trial.name}/{name}: must be the file that this trial"):
        collect(run, make_sweep())


def test_a_sweep_that_notes_no_digests_is_still_read(tmp_path):
    """As version 0.2 wrote it."""
    trial = Trial("joint", 0.0)
    run = make_run(tmp_path, [trial])
    file = run / "trials" / trial.name / "result.json"
    content = json.loads(file.read_text())
    del content["digests"], content["store_checksums"]
    file.write_text(json.dumps(content))
    assert len(collect(run, make_sweep())) == 1


def test_paper_protocol_has_no_selection_scores(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0, lr=lr) for lr in (0.1, 0.2)], kind="none")
    (member,) = collect(run, make_sweep())
    assert member.selection is None
    assert not member.division.held_out


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"resolved\.json is missing"):
        collect(tmp_path, make_sweep())
