"""What is said of an ensemble beside its best member and the dense network, chance and ties too."""

from __future__ import annotations

import pytest

from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.report.findings import read_findings
from orchestrator.report.sections.decision import candidates
from orchestrator.report.verdicts import verdicts
from tests.orchestrator.fake_run import Trial
from tests.orchestrator.report.evaluated import FINAL, LEVELS, disjoint_errors, evaluated

pytestmark = pytest.mark.usefixtures("quick_end")


def test_an_ensemble_that_is_better_is_called_better(tmp_path):
    trials = disjoint_errors()
    trials[3].wrong_selection = ()  # the best member is a sparse one
    lines = verdicts(FinalEvaluation.load(evaluated(tmp_path, trials, LEVELS, FINAL)))
    assert len(lines) == 2
    assert "its best member, `bone-0.6`" in lines[0]
    assert (
        "**The ensemble is better than it** by the sign test (p = 0.016), with 7.00 times its"
        " non-zero parameters in the deploy form" in lines[0]
    )
    assert "+23.33 points" in lines[0]
    assert "only the ensemble has 7 right, only the other 0" in lines[0]
    assert "the dense single network, `joint-0`" in lines[1]
    assert "with 2.80 times" in lines[1]


def test_members_that_tie_on_selection_are_said_to_tie(tmp_path):
    trials = disjoint_errors()
    for trial in trials:
        trial.wrong_selection = (0,)
    trials[1].wrong_test = (20, 21)
    found = FinalEvaluation.load(evaluated(tmp_path, trials, LEVELS, FINAL))
    best, dense = verdicts(found)
    assert best.startswith(
        "`final` (100.00 %) against its best member: 4 networks are equally good on selection"
        " (91.67 %), so none of them is the best. Against `joint-0` (76.67 %) +23.33 points,"
        " standard error 7.72, sign test p = 0.016; `joint-0.6` (93.33 %) +6.67 points"
    )
    assert best.endswith(
        "**The ensemble is better than `joint-0`, `bone-0` and `bone-0.6`, not distinguishable"
        " from `joint-0.6` on these clips**."
    )
    assert "the dense single network: 2 networks are equally good on selection" in dense
    assert dense.endswith("**The ensemble is better than each of them**.")
    ties = {each.tied for each in found.comparisons if each.ensemble == "final"}
    assert ties == {("joint-0", "joint-0.6", "bone-0", "bone-0.6"), ("joint-0", "bone-0")}


def test_a_tie_of_the_same_networks_in_two_roles_is_said_once(tmp_path):
    trials = disjoint_errors()
    for trial in trials:
        trial.wrong_selection = (0,) if trial.level == 0 else (0, 1)
    (line,) = verdicts(FinalEvaluation.load(evaluated(tmp_path, trials, LEVELS, FINAL)))
    assert "its best member, which is the dense single network: 2 networks are equally" in line


def test_a_best_member_that_is_the_dense_network_is_named_once(tmp_path):
    lines = verdicts(FinalEvaluation.load(evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)))
    assert len(lines) == 1
    assert "its best member, which is the dense single network, `joint-0`" in lines[0]


def test_every_ensemble_of_the_last_recipe_gets_a_line(tmp_path):
    trials = disjoint_errors()
    trials[3].wrong_selection = ()
    found = FinalEvaluation.load(evaluated(tmp_path, trials, LEVELS))
    lines = verdicts(found)
    assert lines[0].startswith("`levels.bone` (100.00 %) against its best member")
    assert lines[-1].startswith(
        "`levels.joint` (100.00 %) against its best member, which is the dense single network,"
        " `joint-0` (76.67 %): +23.33 points"
    )
    assert lines[-1].endswith(", it is better than it by the sign test (p = 0.016).")


def test_an_ensemble_that_is_one_of_two_equally_good_networks_is_held_against_the_other(tmp_path):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0)]
    recipe = {"name": "both", "over": "data.stream", "method": "greedy"}
    alone, other, *_ = verdicts(FinalEvaluation.load(evaluated(tmp_path, trials, recipe)))
    assert alone.endswith(" alone: no other network was given weight.")
    assert " against the dense single network, `" in other


def test_an_ensemble_of_one_network_is_not_held_against_itself(tmp_path):
    trials = [Trial("joint", 0.0), Trial("joint", 0.6, wrong_selection=(0, 1, 2, 3))]
    recipe = {**LEVELS, "method": "greedy"}
    lines = verdicts(FinalEvaluation.load(evaluated(tmp_path, trials, recipe)))
    assert lines == [
        "`levels.joint` is `joint-0` alone: no other network was given weight.",
    ]


def test_another_seed_of_the_dense_network_is_an_opponent_too(tmp_path):
    """The second seed, in the ensemble itself, is better on selection than the first."""
    trials = [
        Trial("joint", 0.0, seed=seed, wrong_selection=wrong)
        for seed, wrong in ((0, (0,)), (1, ()))
    ]
    found = FinalEvaluation.load(evaluated(tmp_path, trials, {"name": "seeds", "over": "seed"}))
    assert {(each.role, each.against) for each in found.comparisons} == {
        ("best member", "joint-0-seed1"),
        ("dense network", "joint-0-seed1"),
    }


def test_a_difference_within_chance_is_called_that(tmp_path):
    lines = verdicts(
        FinalEvaluation.load(evaluated(tmp_path, disjoint_errors(size=3), LEVELS, FINAL))
    )
    assert all(
        "**The ensemble is not distinguishable from it on these clips**" in line for line in lines
    )


def test_what_decides_is_said_where_the_interval_looks_otherwise(tmp_path):
    """Five clips more are right: the interval is above 0, the sign test has p = 2 / 2^5."""
    run = evaluated(tmp_path, disjoint_errors(size=5), LEVELS, FINAL)
    (line,) = verdicts(FinalEvaluation.load(run))
    low = float(line.split("95 % interval +")[1].split()[0])
    assert low > 0
    said = "not distinguishable from it on these clips** by the sign test (p = 0.062)"
    assert f"**The ensemble is {said}, with" in line
    assert line.count("sign test") == 1
    ensemble, _ = candidates(read_findings(run))
    assert any(each.endswith(f"**{said}.") for each in ensemble.against)


def test_an_ensemble_that_is_worse_is_called_worse(tmp_path):
    bad = tuple(range(20))
    trials = [
        Trial("joint", 0.0),
        *(
            Trial("joint", level, wrong_selection=(0,), wrong_test=bad)
            for level in (0.6, 0.8, 0.95)
        ),
    ]
    recipe = {
        "name": "final",
        "over": "sparsity.level",
        "method": "weights",
        "weights": {"0": 0.01, "0.6": 1, "0.8": 1, "0.95": 1},
    }
    lines = verdicts(FinalEvaluation.load(evaluated(tmp_path, trials, recipe)))
    assert "**The ensemble is worse than it**" in lines[0]


def test_no_dense_network_is_said(tmp_path):
    found = FinalEvaluation.load(
        evaluated(tmp_path, disjoint_errors(levels=(0.6, 0.8)), LEVELS, FINAL)
    )
    assert "trained no dense single network" in verdicts(found)[-1]
