"""Trials of a space: recorded ones first, the largest grid, and options that nothing has."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.trials import space
from orchestrator.trials.cells import expand
from orchestrator.trials.space import (
    MAX_COMBINATIONS,
    all_trials,
    check_space,
    grid,
    samples,
    trials,
)
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.errors import UserError


def test_trials_that_were_written_down_come_first_and_keep_their_names(tmp_path) -> None:
    sweep = loaded(
        tmp_path, SMALL, "parameters={train.lr: [0.1, 0.2, 0.3]}", "method={seeds: 2}", "seed=5"
    )
    (cell,) = expand(sweep)
    plain = trials(sweep, cell)
    # one of the sweep's own, under an older name, and one that this version would not make
    own = replace(plain[3].proposal, trial="old-name")
    other = replace(own, trial="older", assignment={"train.lr": 0.7}, seed=9)
    found = trials(sweep, cell, [own, other])
    assert [trial.proposal.trial for trial in found[:2]] == ["old-name", "older"]
    assert (found[1].config.train.lr, found[1].config.seed) == (0.7, 9)
    # six slots in all: four are left, and what is written down is not proposed again
    assert found[2:] == [plain[number] for number in (0, 1, 2, 4)]


@pytest.mark.parametrize(
    ("recorded", "number"),
    [
        ("", 4 + 1),
        ("ffffr", 4 + 1),
        # two more trials were asked for when the best of the first two had been repeated: the best
        # of all four may be another one
        ("ffr", 4 + 1 + 1),
        ("ffrff", 4 + 1 + 1),
        ("ffrffr", 4 + 1 + 1),
    ],
)
def test_repeats_before_an_extension_take_no_slot(tmp_path, recorded, number) -> None:
    changes = ["parameters={train.lr: {min: 0.01, max: 0.5}}", "seed=5"]
    method = "method={name: tpe, trials_per_cell: 4, startup_trials: 2, final_seeds: 2}"
    sweep = loaded(tmp_path, SMALL, *changes, method)
    (cell,) = expand(sweep)
    one = trials(sweep, cell)[0].proposal
    made = [
        replace(one, trial=f"t{place}", seed=5 if kind == "f" else 6 + place)
        for place, kind in enumerate(recorded)
    ]
    assert len(trials(sweep, cell, made)) == number


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("model.branches=[3, 5]", "temporal modules (conv)"),
        ("model.groups=4", "backbones (hpi_gcn_rp)"),
    ],
)
def test_options_that_no_network_of_the_sweep_has(tmp_path, given, reason) -> None:
    leaf = given.partition("=")[0]
    sweep = loaded(tmp_path, SMALL, given, "model.backbone=hpi_gcn_rp", "model.temporal=conv")
    assert check_space(sweep) == [
        f"--set {leaf}: has no effect: none of the sweep's {reason} has it; leave it out"
    ]


def test_the_largest_grid(tmp_path, monkeypatch) -> None:
    assert MAX_COMBINATIONS + 1 == 3 * 59 * 113
    values = {
        "train.epochs": [*range(2, 61)],
        "train.batch_size": [*range(1, 114)],
        "model.kernel_size": [3, 5, 7],
    }
    refused = loaded(tmp_path, SMALL, f"parameters={json.dumps(values)}")
    with pytest.raises(UserError, match="a grid must have at most 20000 combinations per cell"):
        grid(refused, expand(refused)[0])
    monkeypatch.setattr(space, "MAX_COMBINATIONS", 4)
    accepted = loaded(
        tmp_path, SMALL, "parameters={model.kernel_size: [5, 9], train.lr: [0.1, 0.2]}"
    )
    assert len(grid(accepted, expand(accepted)[0])) == 4
    # as many are listed for random draws, too: of four all come
    assert len(samples(accepted, expand(accepted)[0], 9)) == 4


def test_a_drawn_value_that_does_not_fit_is_said_once(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters={train.warmup_epochs: {min: 2, max: 9}, train.lr: [0.1, 0.2]}",
        "method={name: random, trials_per_cell: 4}",
    )
    (problem,) = check_space(sweep)
    assert "warmup_epochs must be less than epochs, got warmup_epochs=" in problem


def test_a_rule_about_what_the_file_does_not_say_is_of_its_section(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL)
    assert space._concerned(sweep, ("model", 0), "must fit together") == ("model", "0")


def test_all_trials_of_a_sweep_keep_what_was_written_down(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL)
    plain = all_trials(sweep)
    older = replace(plain[2].proposal, trial="old-name", cell="old-cell")
    found = all_trials(sweep, [older])
    assert found[2].proposal == older
    assert [trial.proposal.trial for trial in found if trial is not found[2]] == [
        plain[number].proposal.trial for number in (0, 1, 3)
    ]
    assert all_trials(sweep) == plain
    assert all_trials(sweep, [older]) == found
    newer = replace(older, trial="new-name")
    assert all_trials(sweep, [newer])[2].proposal == newer
    assert all_trials(sweep) == plain


def test_seeds_that_were_written_down_are_no_repeats_of_a_best_one(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL, "parameters={train.lr: [0.1, 0.2, 0.3]}", "method={seeds: 2}")
    (cell,) = expand(sweep)
    plain = trials(sweep, cell)
    for number in range(len(plain) + 1):
        recorded = [trial.proposal for trial in plain[:number]]
        assert trials(sweep, cell, recorded) == plain


def test_trials_are_made_once_for_the_checks_the_plan_and_the_run(tmp_path, monkeypatch) -> None:
    sweep, built = loaded(tmp_path, SMALL), []
    build = space.build_config
    monkeypatch.setattr(space, "build_config", lambda *told: built.append(1) or build(*told))
    space._LAST_TRIALS.clear()
    older = replace(all_trials(sweep)[2].proposal, trial="old-name")
    assert len(built) == 4
    all_trials(sweep, [older])
    assert len(built) == 8
    all_trials(sweep, [older]).clear()  # whoever asks may change the list
    assert len(all_trials(sweep)) == len(all_trials(sweep, [older])) == 4
    assert len(built) == 8
    other = loaded(tmp_path, SMALL, "seed=9")
    assert {trial.config.seed for trial in all_trials(other)} == {9}
    assert len(space._LAST_TRIALS) == 1  # no sweep is kept for good


def test_what_trials_share_is_worked_out_once(tmp_path, monkeypatch) -> None:
    sweep, asked = loaded(tmp_path, SMALL, "seed=7"), []
    leaves = type(sweep).leaves
    monkeypatch.setattr(type(sweep), "leaves", lambda self: asked.append(1) or leaves(self))
    (cell, *_) = expand(sweep)
    asked.clear()
    for _ in range(3):
        trials(sweep, cell)
    assert len(asked) == 1
