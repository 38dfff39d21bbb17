"""Ensembles of several axes, of seeds and within budgets."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import BaseModel

from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.bundle import _recipe
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.what_if import cross_fitted_rows
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep.strategies import StrategyCard
from tests.orchestrator.fake_run import SELECTION, Trial, make_run, make_sweep
from trainables.contract.errors import UserError

HERE = __name__
ALL = {"name": "all", "over": ["data.stream", "sparsity.level"]}
SEEDS = {"name": "seeds", "over": "seed", "per": ["data.stream", "sparsity.level"]}
STACKING = {"method": "stacking", "combine": "logits"}
SEEN: list[Sources] = []
ANSWER: list[Choice] = []


def keep(sources: Sources, options: BaseModel) -> Choice:
    SEEN.append(sources)
    return ANSWER[0] if ANSWER else Choice(dict.fromkeys(sources.members, 1.0))


KEEP = StrategyCard(
    name="keep", module=f"{HERE}:keep", about="what the test says", needs_selection=True
)


@pytest.fixture(autouse=True)
def forgotten():
    SEEN.clear()
    ANSWER.clear()


def grid(seeds=1, levels=(0.0, 0.6)):
    """Two streams x levels x seeds; every network errs on clips of its own."""
    trials = []
    for row, stream in enumerate(("joint", "bone")):
        for column, level in enumerate(levels):
            for seed in range(seeds):
                own = 4 * row + 2 * column + seed
                trials.append(
                    Trial(stream, level, seed=seed, wrong_selection=(own,), wrong_test=(own,))
                )
    return trials


def built(run, *recipes):
    cells = {proposal.cell: proposal.axes for proposal in load_proposals(run)}
    sweep = make_sweep(*recipes)
    return build_ensembles(sweep.ensembles, collect(run, sweep), cells)


def test_several_axes_are_combined_at_once(tmp_path):
    run = make_run(tmp_path, grid())
    (flat,) = built(run, ALL).ensembles
    assert list(flat.weights) == ["joint-0", "joint-0.6", "bone-0", "bone-0.6"]
    assert (flat.name, dict(flat.axes)) == ("all", {})
    found = built(run, {**ALL, "over": ["sparsity.level"], "per": ["data.stream"]})
    assert [each.name for each in found.ensembles] == ["all.joint", "all.bone"]


def test_a_cell_that_lacks_one_of_several_axes_takes_part(tmp_path):
    run = make_run(tmp_path, [*grid(), Trial("joint", 0.9, in_one_cell=True)])
    (flat,) = built(run, ALL).ensembles
    assert list(flat.weights)[-1] == "joint"
    (levels,) = built(run, {**ALL, "over": "sparsity.level"}).ensembles
    assert "joint" not in levels.weights


def test_seeds_of_a_network_are_sources(tmp_path):
    run = make_run(tmp_path, grid(seeds=3, levels=(0.0,)))
    joint, bone = built(run, SEEDS).ensembles
    assert joint.weights == dict.fromkeys(("joint-0", "joint-0-seed1", "joint-0-seed2"), 1 / 3)
    assert joint.name == "seeds.joint-0"
    assert [each.trial for each in bone.members] == [
        proposal.trial for proposal in load_proposals(run) if proposal.cell == "bone-0"
    ]
    assert joint.by_seed == {}
    rows = [each.test.logits for each in joint.members]
    assert joint.test.logits == pytest.approx(combine_rows(rows, [1, 1, 1], "probabilities"))


def test_seeds_may_stay_apart_and_be_combined_later(tmp_path):
    run = make_run(tmp_path, grid(seeds=2))
    levels = {"name": "levels", "over": "sparsity.level", "per": ["data.stream", "seed"]}
    then = {"name": "then", "from": ["levels"], "over": "seed", "per": ["data.stream"]}
    found = built(run, levels, then)
    assert [each.name for each in found.ensembles] == [
        *("levels.joint-0", "levels.joint-1", "levels.bone-0", "levels.bone-1"),
        *("then.joint", "then.bone"),
    ]
    assert list(found.ensembles[1].weights) == ["joint-0-seed1", "joint-0.6-seed1"]
    assert len(found.ensembles[4].members) == 4
    assert [each.name for each in found.others] == [
        *("joint-0-seed1", "joint-0.6-seed1", "bone-0-seed1", "bone-0.6-seed1")
    ]


def test_a_seed_without_a_result_is_missing(tmp_path):
    trials = grid(seeds=3, levels=(0.0,))
    trials[1].state = "failed"
    joint, bone = built(make_run(tmp_path, trials), SEEDS).ensembles
    assert joint.missing == ("joint-0-seed1",)
    assert len(bone.weights) == 3


def test_further_seeds_are_rows_of_the_evaluation(tmp_path):
    run, sweep = make_run(tmp_path, grid(seeds=2, levels=(0.0,))), make_sweep(SEEDS)
    found = finalize(run, sweep, collect(run, sweep), {})
    names = [row.name for row in found.rows]
    assert names[:4] == ["joint-0", "bone-0", "joint-0-seed1", "bone-0-seed1"]
    assert found.predictions(run, found.rows[0]).firsts.keys() == set(names)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"nonzero_params": 1400}, ""),
        ({"nonzero_params": 1399}, "exceeds its budget: nonzero_params 1,400, the limit is 1,399"),
        ({"nonzero_params": "2.8x"}, ""),
        ({"nonzero_params": "2x"}, "exceeds its budget: nonzero_params 1,400, the limit is 1,000"),
        ({"latency_ms": "3x"}, "exceeds its budget: latency_ms 6, the limit is 4.5"),
        ({"members": 3}, "exceeds its budget: members 4, the limit is 3"),
        (
            {"nonzero_params": 100},
            "none of its sources fits into the budget: joint-0.6 has least nonzero_params, 200 of"
            " 100",
        ),
        (  # the limit that every source keeps is not blamed
            {"nonzero_params": 100, "members": 4},
            "none of its sources fits into the budget: joint-0.6 has least nonzero_params, 200 of"
            " 100",
        ),
        (  # nor one that the cheapest source keeps to the last bit
            {"nonzero_params": 100, "members": 1},
            "none of its sources fits into the budget: joint-0.6 has least nonzero_params, 200 of"
            " 100",
        ),
        (
            {"bytes": 100},
            "none of its sources fits into the budget: bytes is known of none of them",
        ),
        (
            {"bytes": "1x"},
            "its budget bytes 1x is relative to a dense network, and that of the dense one is not"
            " known; give a number, or train level 0 as well",
        ),
    ],
)
def test_a_fixed_recipe_beyond_its_budget_is_skipped(tmp_path, budget, reason: str):
    found = built(make_run(tmp_path, grid()), {**ALL, "budget": budget})
    assert found.skipped.get("all", "") == reason
    assert bool(found.ensembles) is not bool(reason)


def test_a_share_is_that_of_the_best_dense_network_of_the_same_axes(tmp_path):
    run = make_run(tmp_path, grid())
    per_stream = {**ALL, "over": "sparsity.level", "per": ["data.stream"]}
    joint, _ = built(run, {**per_stream, "budget": {"nonzero_params": "2x"}}).ensembles
    assert joint.limits == {"nonzero_params": 1000.0}
    assert joint.cost["nonzero_params"] == 700


@pytest.mark.parametrize(("errors", "limit"), [((2, 1), 3.0), ((1, 2), 1.0)])
def test_of_several_dense_networks_a_share_is_that_of_the_most_accurate(tmp_path, errors, limit):
    joint, bone = (tuple(range(number)) for number in errors)
    trials = [
        Trial("joint", 0.0, latency=1.0, wrong_selection=joint),
        Trial("bone", 0.0, latency=3.0, wrong_selection=bone),
    ]
    recipe = {**ALL, "method": f"{HERE}:KEEP", "budget": {"latency_ms": "1x"}}
    ANSWER.append(Choice({"joint-0": 1.0}))
    (found,) = built(make_run(tmp_path, trials), recipe).ensembles
    assert found.limits == {"latency_ms": limit}


def test_without_a_dense_network_parameters_are_known_and_time_is_not(tmp_path):
    run = make_run(tmp_path, grid(levels=(0.6, 0.9)))
    (known,) = built(run, {**ALL, "budget": {"nonzero_params": "2x"}}).ensembles
    assert known.limits == {"nonzero_params": 1000.0}  # of the same network without a mask
    skipped = built(run, {**ALL, "budget": {"latency_ms": "2x"}}).skipped
    assert "relative to a dense network, and there is none" in skipped["all"]


def test_a_strategy_sees_networks_families_and_the_budget(tmp_path):
    run = make_run(tmp_path, grid(seeds=2))
    recipe = {**ALL, "over": [*ALL["over"], "seed"], "method": f"{HERE}:KEEP"}
    (ensemble,) = built(run, {**recipe, "budget": {"members": 9}}).ensembles
    (seen,) = SEEN
    assert len(seen.members) == 8
    assert set(seen.families) == {"data.stream=joint", "data.stream=bone"}
    assert [set(each) for each in seen.networks] == [{each.trial} for each in ensemble.members]
    assert seen.budget.limits == {"members": 9.0}
    assert not seen.budget.fits([each.trial for each in ensemble.members] * 2 + ["other"])


def test_an_ensemble_says_which_clips_chose_it_where_any_did(tmp_path):
    run = make_run(tmp_path, grid())
    chosen, fixed = built(run, {**ALL, "method": f"{HERE}:KEEP"}, {**ALL, "name": "b"}).ensembles
    assert (chosen.chosen_on is None, fixed.chosen_on is None) == (False, True)


def test_temperatures_divide_the_logits_before_they_are_summed(tmp_path):
    run = make_run(tmp_path, grid(levels=(0.0,)))
    ANSWER.append(Choice({"joint-0": 2.0, "bone-0": 1.0}, {"joint-0": 4.0, "bone-0": 1.0}))
    (found,) = built(run, {"name": "e", "over": "data.stream", "method": f"{HERE}:KEEP"}).ensembles
    assert found.temperatures == {"joint-0": 4.0}
    sweep = make_sweep({"name": "e", "over": "data.stream", "method": f"{HERE}:KEEP"})
    evaluation = finalize(run, sweep, collect(run, sweep), {})
    assert _recipe(evaluation, "e")["sources"][0][2:] == [4.0]
    joint, bone = (each.test.logits for each in found.members)
    assert found.test.logits == pytest.approx(
        combine_rows([joint / np.float32(4), bone], [2, 1], "probabilities")
    )


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ({**STACKING, "options": {"folds": 20}}, "folds: must be at least 2 and at most"),
        (
            {"method": "greedy", "options": {"cap": 0.5}},
            "cap: must be at least 1 / 1 with 1 families, got 0.5",
        ),
    ],
)
def test_a_strategy_that_refuses_costs_its_own_ensemble_alone(tmp_path, refused, why):
    """One of two streams has no network, and clips are fewer than folds."""
    trials = [
        Trial(each.stream, each.level, state="complete" if each.stream == "joint" else "failed")
        for each in grid()
    ]
    run = make_run(tmp_path, trials)
    recipe = {"name": "fitted", "over": ["data.stream", "sparsity.level"], **refused}
    sweep = make_sweep(recipe, ALL)
    found = finalize(run, sweep, collect(run, sweep), {})
    assert found.headline.name == "all"
    assert found.skipped["fitted"].startswith(f"method {refused['method']}: {why}")


def test_where_parts_of_the_clips_are_too_few_for_a_strategy_nothing_is_cross_fitted(tmp_path):
    run = make_run(tmp_path, grid())
    options = {"folds": SELECTION}
    (stacked,) = built(run, {**ALL, **STACKING, "options": options}).ensembles
    assert cross_fitted_rows(stacked) is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_one_weight_that_is_no_number_is_refused(tmp_path, wrong):
    run = make_run(tmp_path, grid())
    recipe = {**ALL, "method": f"{HERE}:KEEP"}
    built(run, recipe)
    first, *others = SEEN[0].members
    ANSWER.append(Choice({first: wrong} | dict.fromkeys(others, 1.0)))
    with pytest.raises(UserError, match="must give numbers, one of them other than 0"):
        built(run, recipe)


@pytest.mark.parametrize(
    ("temperatures", "message"),
    [
        ({"joint-0": 0.0}, "must give temperatures above 0"),
        ({"joint-0": -2.0}, "must give temperatures above 0"),
        ({"joint-0": 2.0, "bone-0": float("nan")}, "must give temperatures above 0"),
        ({"elsewhere": 2.0}, r"to the sources \(joint-0, .*\), got elsewhere"),
    ],
)
def test_a_temperature_without_a_meaning_is_refused(tmp_path, temperatures, message):
    run = make_run(tmp_path, grid(levels=(0.0,)))
    ANSWER.append(Choice({"joint-0": 2.0, "bone-0": 1.0}, temperatures))
    with pytest.raises(UserError, match=message):
        built(run, {**ALL, "method": f"{HERE}:KEEP"})
