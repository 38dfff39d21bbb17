"""The whole choice made again on parts of the selection clips: trials, weights, ensembles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensembling import whole_choice
from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.cross_fitting import folds_of
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.members import SWEEP
from orchestrator.ensembling.statistics.luck import Bags
from orchestrator.ensembling.whole_choice import WholeChoice, choices_of, contests
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep.strategies import StrategyCard
from tests import naive_scores
from tests.orchestrator.fake_run import SELECTION, TEST, Trial, make_run, make_sweep
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

STREAMS = {"name": "streams", "over": "data.stream"}


def rivals():
    """Two cells of four learning rates; what is chosen differs from clip to clip."""
    wrong = {
        "joint": [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10)],
        "bone": [(0, 1), (2, 3, 4), (4, 5, 6), (1, 2, 5)],
    }
    return [
        Trial(stream, 0.0, lr=0.1 + 0.1 * i, wrong_selection=clips, wrong_test=(i,) * (i > 0))
        for stream, each in wrong.items()
        for i, clips in enumerate(each)
    ]


def whole(run, sweep):
    cells = {each.cell: each.axes for each in load_proposals(run)}
    return WholeChoice(contests((run,), sweep, collect(run, sweep)), sweep.ensembles, cells)


@pytest.mark.parametrize(
    "objectives",
    [
        [("selection_top1", "maximize")],
        [("selection_loss", "minimize")],
        [("selection_top5", "maximize"), ("selection_top1", "maximize")],
        [("deploy_latency_ms", "minimize"), ("selection_top1", "maximize")],
        [("selection_top1", "minimize")],
    ],
)
def test_on_all_clips_the_chosen_trial_wins(tmp_path, objectives):
    trials = rivals()
    for i, trial in enumerate(trials):
        trial.latency = 1.0 + i // 2
    run = make_run(tmp_path, trials)
    for each in load_proposals(run):  # the fake losses are no losses of the scores
        folder = each.folder(run)
        scores = Scores.load(folder.selection_scores)
        loss = naive_scores.cross_entropy(scores.logits.tolist(), scores.labels.tolist())
        found = folder.load().model_copy(update={"selection_loss": loss})
        folder.result_file.write_text(found.model_dump_json())
    sweep = make_sweep(objectives=objectives)
    everything = Bags(np.ones((1, SELECTION), np.float32))
    for contest in contests((run,), sweep, collect(run, sweep)).values():
        assert len(contest.rivals) == 4
        assert contest.rivals[contest.winners(everything)[0]] is contest.chosen


def test_several_seeds_count_by_their_mean_and_the_first_stands_for_them(tmp_path):
    trials = [
        Trial("joint", 0.0, lr=lr, seed=seed, wrong_selection=wrong)
        for lr, each in ((0.1, [(0,), (1, 2, 3)]), (0.2, [(4, 5), (4,)]))
        for seed, wrong in enumerate(each)
    ]
    run, sweep = make_run(tmp_path, trials), make_sweep()
    (contest,) = contests((run,), sweep, collect(run, sweep)).values()
    assert sorted(contest.hits.sum(axis=1)) == [SELECTION - 2, SELECTION - 1]
    first = np.zeros((1, SELECTION), np.float32)
    first[0, :4] = 3  # 2 seeds are right 4 times against 8
    assert contest.rivals[contest.winners(Bags(first))[0]].config.train.lr == 0.2


def test_what_an_ensemble_says_out_of_the_bag_matches_naive(tmp_path):
    run, sweep = make_run(tmp_path, rivals()), make_sweep(STREAMS)
    choice, bags = whole(run, sweep), Bags.drawn(SELECTION, 20, np.random.default_rng(0))
    for bag, members in enumerate(choice._members(bags)):
        inside, outside = bags.inside(bag), bags.outside(bag)
        best = []
        for contest in choice.contests.values():
            right = [sum(bool(row[clip]) for clip in inside) for row in contest.hits]
            best.append(contest.rivals[right.index(max(right))])
        assert [each.trial for each in best] == [each.trial for each in members]
        (ensemble,) = choice.ensembles(members, inside, outside)
        tables = [each.selection.logits[outside].tolist() for each in best]
        expected = np.array(naive_scores.weighted_probabilities(tables, [1.0, 1.0]))
        assert np.exp(ensemble.test.logits) == pytest.approx(expected, rel=1e-5)
        assert ensemble.test.labels is None
        assert ensemble.selection.labels.tolist() == (inside % 3).tolist()


def test_each_fifth_of_the_clips_is_scored_with_what_the_others_chose(tmp_path):
    run, sweep = make_run(tmp_path, rivals()), make_sweep(STREAMS)
    choice, members = whole(run, sweep), collect(run, sweep)
    built = build_ensembles(sweep.ensembles, members, choice.cells).ensembles
    found, labels = choice.cross_fitted(built, 3)["streams"], choice.labels
    fold, right = folds_of(labels, 5, 3), 0
    for number in range(5):
        best = []
        for contest in choice.contests.values():
            others = [sum(map(int, row[fold != number])) for row in contest.hits]
            best.append(contest.rivals[others.index(max(others))])
        own = np.flatnonzero(fold == number)
        tables = [each.selection.logits[own].tolist() for each in best]
        for row, label in zip(
            naive_scores.weighted_probabilities(tables, [1.0, 1.0]), labels[own], strict=True
        ):
            right += row.index(max(row)) == label
    assert (found.right, found.clips) == (right, SELECTION)


def test_a_strategy_that_needs_more_clips_than_a_bag_has_leaves_the_evaluation_alone(
    tmp_path, monkeypatch
):
    recipe = {**STREAMS, "method": "tests.orchestrator.ensembling.test_strategies:BEST"}
    run, sweep = make_run(tmp_path, rivals()), make_sweep(recipe)

    def demanding(sources, options):
        if len(sources.ids) < SELECTION or len({name[:3] for name in sources.ids}) < SELECTION:
            raise UserError("must have more clips")
        return {"joint-0": 1.0}

    monkeypatch.setattr(StrategyCard, "load", lambda card: demanding)
    row = finalize(run, sweep, collect(run, sweep), {}).rows[-1]
    assert (row.name, row.luck, row.cross_fitted) == ("streams", None, None)


def test_a_chosen_ensemble_sees_every_clip_of_the_bag_as_often_as_it_is_there(tmp_path):
    """The strategy of a stranger that keeps the best source alone."""
    recipe = {**STREAMS, "method": "tests.orchestrator.ensembling.test_strategies:BEST"}
    run, sweep = make_run(tmp_path, rivals()), make_sweep(recipe)
    choice = whole(run, sweep)
    members = collect(run, sweep)  # joint errs on 9 and 10, bone on 0 and 1
    for inside, best in (
        ([9, 9, 0], "bone-0"),
        ([0, 0, 9], "joint-0"),
        ([0, 1, 9, 9, 9], "bone-0"),
    ):
        (ensemble,) = choice.ensembles(members, np.sort(inside), np.array([2]))
        assert list(ensemble.weights) == [best]


def test_the_final_evaluation_says_how_much_is_luck(tmp_path):
    run, sweep = make_run(tmp_path, rivals()), make_sweep(STREAMS)
    members = collect(run, sweep)
    rows = {row.name: row for row in finalize(run, sweep, members, {}).rows}
    for name, contending in (("joint-0", 4), ("bone-0", 4), ("streams", 8)):
        found = rows[name].luck
        assert (found.contenders, found.clips) == (contending, SELECTION)
        assert found.naive == pytest.approx(rows[name].selection.top1)
        assert found.interval[0] <= found.corrected <= found.interval[1]
    # the trials of a cell err on clips of their own: the luckiest of them is no better
    assert rows["joint-0"].luck.bias > 0.03
    assert finalize(run, sweep, members, {}).rows[0].luck == rows["joint-0"].luck


def test_where_nothing_is_chosen_or_held_out_nothing_is_said_of_luck(tmp_path):
    run, sweep = make_run(tmp_path, rivals()[::4]), make_sweep(STREAMS)
    found = finalize(run, sweep, collect(run, sweep), {})
    assert [row.luck for row in found.rows] == [None] * 3
    assert found.first_tried == ()
    run = make_run(tmp_path / "paper", rivals(), kind="none")
    found = finalize(run, sweep, collect(run, sweep), {})
    assert [row.luck for row in found.rows] == [None] * 3
    assert found.first_tried == ()


def test_luck_stands_only_beside_what_was_chosen(tmp_path, monkeypatch):
    """Joint has rivals at level 0 and one trial at level 0.5; bone has one trial at each."""
    monkeypatch.setattr(whole_choice, "MOST_ENSEMBLE_DRAWS", 20)
    best = "tests.orchestrator.ensembling.test_strategies:BEST"
    trials = [*rivals()[:4], Trial("joint", 0.5), Trial("bone", 0.0), Trial("bone", 0.5)]
    recipes = [
        {"name": "levels", "over": "sparsity.level", "per": ["data.stream"]},
        {"name": "all", "over": ["data.stream", "sparsity.level"]},
        {"name": "streams", "over": "data.stream", "per": ["sparsity.level"], "method": best},
        {"name": "of_chosen", "from": ["streams"], "over": "sparsity.level"},
    ]
    run, sweep = make_run(tmp_path, trials), make_sweep(*recipes)
    found = finalize(run, sweep, collect(run, sweep), {})
    lucks = {row.name: row.luck for row in found.rows if row.kind == "ensemble"}
    contenders = {name: own.contenders for name, own in lucks.items() if own is not None}
    assert contenders == {
        "levels.joint": 5,
        "all": 7,
        "streams.0": 5,
        "streams.0.5": 2,
        "of_chosen": 7,
    }
    assert lucks.keys() - contenders.keys() == {"levels.bone"}
    cross_fitted = {row.name for row in found.rows if row.cross_fitted}
    assert cross_fitted == contenders.keys()


def test_the_seeds_of_a_chosen_trial_count_each_where_they_are_combined(tmp_path):
    trials = [
        Trial("joint", 0.0, lr=lr, seed=seed, wrong_selection=(seed,))
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    ]
    sweep = make_sweep({"name": "seeds", "over": "seed"})
    choice = whole(run := make_run(tmp_path, trials), sweep)
    built = build_ensembles(sweep.ensembles, collect(run, sweep), choice.cells).ensembles
    assert choice.contenders(built) == {"seeds": 4}


def test_the_chosen_trial_is_held_against_the_first_one_tried(tmp_path):
    run, sweep = make_run(tmp_path, rivals()), make_sweep()
    members = collect(run, sweep)
    joint, bone = finalize(run, sweep, members, missing_cells(run, members)).first_tried
    assert (joint.contenders, joint.first, joint.chosen) == (
        4,
        load_proposals(run)[0].trial,
        members[0].trial,
    )
    assert joint.difference == pytest.approx(-1 / TEST)  # the first has all test clips right
    assert (joint.test.first_only, joint.test.second_only) == (0, 1)
    assert bone.first == load_proposals(run)[4].trial


def test_a_sweep_that_went_on_is_evaluated_again(tmp_path):
    trials = rivals()
    trials[2].state = "unfinished"
    run, sweep = make_run(tmp_path, trials), make_sweep()
    first = finalize(run, sweep, collect(run, sweep), {})
    again = make_run(tmp_path / "more", rivals(), store="../store")
    second = finalize(again, sweep, collect(again, sweep), {})
    assert first.inputs != second.inputs
    assert [each.contenders for each in second.first_tried] == [4, 4]


def test_an_ensemble_that_is_rarely_built_has_no_figure(tmp_path):
    """Its budget holds the chosen trials and not those that most bags choose."""
    run, sweep = make_run(tmp_path, rivals()), make_sweep({**STREAMS, "budget": {"members": 2}})
    cells = {each.cell: each.axes for each in load_proposals(run)}
    members = collect(run, sweep)
    built = build_ensembles(sweep.ensembles, members, cells).ensembles
    tight = make_sweep({**STREAMS, "budget": {"members": 1}})
    assert "streams" in choices_of((run,), sweep, members, built, cells, 0).lucks
    assert "streams" not in choices_of((run,), tight, members, built, cells, 0).lucks


def test_of_several_sweeps_each_cell_has_the_rivals_of_its_own(tmp_path, monkeypatch):
    """The second sweep minimises what the first maximises."""
    runs = [make_run(tmp_path / name, rivals()) for name in ("one", "two")]
    moved = [run.rename(run.with_name(run.parent.name)) for run in runs]
    sweeps = {
        "one": make_sweep(),
        "two": make_sweep(objectives=[("selection_top1", "minimize")]),
    }
    monkeypatch.setattr(whole_choice, "load_folder", lambda run: sweeps[run.name])
    members = []
    for run in moved:
        for member in collect(run, sweeps[run.name]):
            seeds = tuple(replace(each, trial=f"{run.name}/{each.trial}") for each in member.seeds)
            members.append(
                replace(
                    member.at_store("store"),
                    name=f"{run.name}/{member.name}",
                    trial=f"{run.name}/{member.trial}",
                    axes={**member.axes, SWEEP: run.name},
                    seeds=seeds,
                )
            )
    found = contests(moved, sweeps["one"], members)
    assert list(found) == ["one/joint-0", "one/bone-0", "two/joint-0", "two/bone-0"]
    everything = Bags(np.ones((1, SELECTION), np.float32))
    for name, contest in found.items():
        assert len(contest.rivals) == 4
        assert all(each.trial.startswith(name[:4]) for each in contest.rivals)
        assert all(each.division == contest.chosen.division for each in contest.rivals)
        assert contest.rivals[contest.winners(everything)[0]] is contest.chosen
