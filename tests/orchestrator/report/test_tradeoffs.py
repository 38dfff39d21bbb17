"""Trials that no other beats: against a naive definition, and what the report makes of them."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from orchestrator.record.states import TrialState
from orchestrator.report.tradeoffs import non_dominated
from orchestrator.report.writing import write_report
from orchestrator.trials.proposed import Proposal
from tests.orchestrator.fake_run import Trial, make_run

GOALS = {"selection_top1": "maximize", "nonzero_params": "minimize"}


def state(number, cell, top1, size, seed=0, assignment=None):
    proposal = Proposal(
        f"{cell}-{number}-{seed}",
        cell,
        {},
        {"x": number} if assignment is None else assignment,
        seed,
    )
    result = SimpleNamespace(metrics=lambda: {"selection_top1": top1, "nonzero_params": size})
    return TrialState(proposal, "finished", result)


@pytest.mark.parametrize("seed", range(20))
def test_what_no_other_beats_matches_naive(seed):
    rng = random.Random(seed)
    points = [(rng.randrange(6), rng.randrange(6)) for _ in range(12)]
    found = {
        each.trial.proposal.trial
        for each in non_dominated([state(i, "c", *point) for i, point in enumerate(points)], GOALS)
    }
    naive = set()
    for i, (top1, size) in enumerate(points):
        if not [1 for a, b in points if (a > top1 and b <= size) or (a >= top1 and b < size)]:
            naive.add(f"c-{i}-0")
    assert found == naive


def test_cells_do_not_compete_and_a_lone_trial_is_no_choice():
    good, bad, lone = state(0, "a", 0.9, 10), state(1, "a", 0.8, 20), state(0, "b", 0.1, 99)
    other = [state(0, "c", 0.5, 50), state(1, "c", 0.6, 60)]
    found = [each.trial.proposal.trial for each in non_dominated([good, bad, lone, *other], GOALS)]
    # of a cell the best by the first objective comes first
    assert found == ["a-0-0", "c-1-0", "c-0-0"]


def test_seeds_count_by_their_mean():
    steady = [state(0, "a", 0.8, 10, seed=i) for i in range(2)]
    lucky = [state(1, "a", top1, 10, seed=i) for i, top1 in enumerate((0.9, 0.6))]
    (found,) = non_dominated([*steady, *lucky], GOALS)
    assert (found.trial.proposal.trial, found.values["selection_top1"]) == ("a-0-0", 0.8)


def test_unfinished_trials_and_missing_metrics_take_no_part():
    without = TrialState(
        Proposal("a-9", "a", {}, {"x": 9}, 0),
        SimpleNamespace(metrics=lambda: {"nonzero_params": 1}),
        None,
    )
    unfinished = TrialState(Proposal("a-8", "a", {}, {"x": 8}, 0))
    found = non_dominated(
        [without, unfinished, state(0, "a", 0.9, 10), state(1, "a", 0.8, 5)], GOALS
    )
    assert [each.trial.proposal.trial for each in found] == ["a-0-0", "a-1-0"]


@pytest.mark.usefixtures("quick_end")
def test_the_report_has_a_table_where_there_are_several_objectives(tmp_path):
    trials = [Trial("joint", 0.6, lr=0.1), Trial("joint", 0.6, lr=0.2, wrong_selection=(0,))]
    run = make_run(tmp_path, trials)
    assert "## Trade-offs" not in write_report(run).read_text()
    resolved = json.loads((run / "resolved.json").read_text())
    resolved["sweep"]["objectives"] = [
        {"metric": metric, "goal": goal} for metric, goal in GOALS.items()
    ]
    (run / "resolved.json").write_text(json.dumps(resolved))
    section = write_report(run).read_text().partition("## Trade-offs")[2].partition("\n## ")[0]
    assert "maximize selection_top1, minimize nonzero_params" in section
    assert f"| `joint-0.6` | 0.1 | 1 | 400 | `{trials[0].name}` |" in section
    assert trials[1].name not in section  # as large, and worse


def test_one_seed_does_not_beat_the_mean_of_two():
    steady = [state(0, "a", 0.8, 10, seed=i) for i in range(2)]
    (found,) = non_dominated([*steady, state(1, "b", 0.1, 9), state(2, "b", 0.2, 9)], GOALS)
    assert found.trial.proposal.cell == "b"
    other = [state(2, "a", 0.7, 9, seed=i) for i in range(2)]
    lucky = [state(1, "a", 0.9, 8, seed=1)]
    names = [each.trial.proposal.trial for each in non_dominated([*steady, *lucky, *other], GOALS)]
    assert names == ["a-0-0", "a-2-0"]
