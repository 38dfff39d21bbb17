"""What the answer says of how sure it is, and what it chooses from."""

from __future__ import annotations

import pytest

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.report.content import Table
from orchestrator.report.findings import read_findings
from orchestrator.report.sections.decision import best_network, candidates, decision
from orchestrator.report.sections.reproduce import reproduce
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from tests.orchestrator.report.test_doubt import STREAMS, rivals
from trainables.contract.config import SelectionConfig

pytestmark = pytest.mark.usefixtures("quick_end")


def evaluated(tmp_path, trials, *ensembles, **options):
    run, sweep = make_run(tmp_path, trials, **options), make_sweep(*ensembles)
    members = collect(run, sweep)
    finalize(run, sweep, members, missing_cells(run, members))
    return read_findings(run)


def sure(found):
    return {each.title: " ".join(each.sure) for each in candidates(found)}


def test_the_luck_of_the_best_of_several_cells_is_said_not_to_be_counted(tmp_path):
    said = sure(evaluated(tmp_path, rivals(bone=(4, 8)), STREAMS))
    assert "Chosen from 2 in its cell: " in said["Single network"]
    assert (
        "and more that is not counted, as it is the best of 2 networks." in said["Single network"]
    )
    assert "Chosen from 4: " in said["Ensemble"]
    assert "not counted" not in said["Ensemble"]


def test_the_luck_of_choosing_among_cells_of_one_trial_is_said_not_to_be_known(tmp_path):
    said = sure(evaluated(tmp_path, [Trial("joint", 0.0), Trial("bone", 0.0)], STREAMS))
    best = "It is the best of 2 networks; how much of that is luck is not known."
    assert best in said["Single network"]
    assert "luck" not in sure(evaluated(tmp_path / "one", [Trial("joint", 0.0)]))["Single network"]


def test_the_answer_says_what_is_left_without_copies(tmp_path):
    trials = [Trial("joint", 0.0, wrong_test=(0, 29)), Trial("bone", 0.0)]
    said = sure(evaluated(tmp_path, trials, STREAMS, copies=7))
    without = "Without the 7 copies of training or selection clips: "
    assert len(said) == 2
    assert all(f"{without}" in each and "% of 23 clips." in each for each in said.values())


def test_accuracies_on_other_clips_do_not_choose(tmp_path):
    evaluation = evaluated(tmp_path, [Trial("joint", 0.0, wrong_selection=(0, 1))]).evaluation
    (row,) = evaluation.rows
    paper = row.division.model_copy(update={"selection": SelectionConfig(kind="none")})
    easy = row.model_copy(
        update={
            "name": "easy",
            "division": row.division.model_copy(update={"protocol": "xset"}),
            "selection": row.selection.model_copy(update={"top1": 1.0}),
        }
    )
    for rows in ([row, easy], [easy.model_copy(update={"division": paper}), row]):
        both = evaluation.model_copy(update={"rows": tuple(rows)})
        assert both.headline == row
        assert best_network(both) == row


def test_sizes_are_of_what_ships_beside_what_the_dense_network_ships(tmp_path):
    """Level 0.6 ships 200 of 500 weights, its training form has 400 of 1,000: two networks of the
    level ship 400.
    """
    masked = [Trial("joint", 0.6), Trial("joint", 0.95)]
    weights = {"method": "weights", "weights": {"0.6": 1, "0.95": 1}}
    recipe = {"name": "levels", "over": "sparsity.level", **weights}
    dense = Trial("joint", 0.0, wrong_selection=(0, 1))
    for name, trials in (("dense", [dense, *masked]), ("masked", masked)):
        found = evaluated(tmp_path / name, trials, recipe)
        ensemble, single = candidates(found)
        assert ensemble.row.share_of_dense == 0.45
        for each, networks, size, share in (
            (ensemble, "2", "400", "0.80 x"),
            (single, "1", "200", "0.40 x"),
        ):
            costs = {"networks": networks, "non-zero": size, "of its dense size": share}
            assert costs.items() <= each.costs.items()
        (ships,) = [block for block in decision([ensemble, single]) if isinstance(block, Table)]
        assert [row["of its dense size"] for row in ships.rows] == ["0.80 x", "0.40 x"]
        assert [row["networks"] for row in ships.rows] == ["2", "1"]


@pytest.mark.parametrize(
    ("method", "stopping", "words"),
    [
        ("grid", "none", "give the same networks."),
        ("tpe", "none", "what search `tpe` proposes depends on which trial ends first."),
        ("random", "asha", "which trials are stopped early depends on which trial ends first."),
        ("tpe", "asha", "what search `tpe` proposes and which trials are stopped early depends"),
    ],
)
def test_what_comes_again_is_not_promised_of_a_search_that_learns(
    tmp_path, method, stopping, words
):
    found = evaluated(tmp_path, [Trial("joint", 0.0)])
    found.resolved["sweep"] |= {"method": {"name": method}, "early_terminate": {"type": stopping}}
    assert words in str(reproduce(found, [])[1])
