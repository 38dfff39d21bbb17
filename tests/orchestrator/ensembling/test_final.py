"""Ensembles: what is combined with which weights, and a final evaluation that reads the test labels
once.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.combine import combine_rows, combine_scores
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.sealed import checked_test
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep.presets import PRESETS
from tests import naive_scores
from tests.orchestrator.fake_run import (
    SELECTION,
    TEST,
    Trial,
    make_run,
    make_sweep,
)
from trainables.contract.config import STREAMS
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store

pytestmark = pytest.mark.usefixtures("quick_end")

LEVELS = {"name": "multi_level", "over": "sparsity.level", "per": ["data.stream"]}
FINAL = {"name": "final", "from": ["multi_level"], "over": "data.stream"}


def grid(**states):
    """Two streams x three levels; every network errs on clips of its own."""
    trials = []
    for row, stream in enumerate(("joint", "bone")):
        for column, level in enumerate((0.0, 0.6, 0.95)):
            start = 5 * (3 * row + column)
            trial = Trial(
                stream, level, wrong_selection=(column,), wrong_test=tuple(range(start, start + 5))
            )
            trial.state = states.get(trial.cell.replace("-", "_").replace(".", ""), "complete")
            trials.append(trial)
    return trials


def built(run, sweep):
    return build_ensembles(
        sweep.ensembles,
        collect(run, sweep),
        {planned.cell: planned.axes for planned in load_proposals(run)},
    )


def complete(run, sweep):
    members = collect(run, sweep)
    return finalize(run, sweep, members, missing_cells(run, members))


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 1.0, 0.5]])
def test_combined_rows_match_naive(weights):
    tables = [np.random.default_rng(i).normal(size=(9, 4)).astype(np.float32) * 3 for i in range(3)]
    probabilities = combine_rows(tables, weights, "probabilities")
    assert np.exp(probabilities) == pytest.approx(
        np.array(naive_scores.weighted_probabilities([t.tolist() for t in tables], weights)),
        rel=1e-5,
    )
    logits = combine_rows(tables, weights, "logits")
    assert logits == pytest.approx(
        sum(w * t for w, t in zip(weights, tables, strict=True)), rel=1e-5, abs=1e-5
    )


def test_normalised_logits_match_naive():
    tables = [np.random.default_rng(i).normal(size=(9, 4)).astype(np.float32) * 3 for i in range(2)]
    first, second = ([naive_scores.over_deviation(row) for row in t.tolist()] for t in tables)
    expected = 2 * np.array(first) + np.array(second)
    assert combine_rows(tables, [2.0, 1.0], "normalised") == pytest.approx(expected, rel=1e-4)
    alike = combine_rows([np.ones((1, 3), np.float32), tables[0][:1, :3]], [1, 1], "normalised")
    assert np.isfinite(alike).all()


@pytest.mark.parametrize("combine", ["logits", "normalised"])
def test_a_negative_weight_counts_against_a_class_in_sums_of_logits_alone(combine):
    tables = [np.array([[3.0, 0.0]], np.float32), np.array([[5.0, 0.0]], np.float32)]
    assert combine_rows(tables, [2.0, -1.0], combine)[0, 0] == pytest.approx(
        1.0 if combine == "logits" else 2.0
    )
    with pytest.raises(UserError, match=r"must not be negative where probabilities are averaged"):
        combine_rows(tables, [2.0, -1.0], "probabilities")


def test_very_sure_members_give_finite_scores():
    sure = np.array([[500.0, -500.0]], dtype=np.float32)
    assert np.isfinite(combine_rows([sure, sure], [1.0, 1.0], "probabilities")).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -2.0], [np.nan, 1.0], [1.0]])
def test_weights_without_a_meaning_are_refused(weights):
    with pytest.raises(UserError, match="weights must be"):
        combine_rows([np.zeros((2, 2), np.float32)] * 2, weights, "logits")


def test_scores_of_different_clips_are_refused():
    first, second = (
        Scores.of(ids, np.zeros((2, 2), np.float32)) for ids in (["a", "b"], ["a", "c"])
    )
    with pytest.raises(UserError, match=r"1 only in the first \['b'\]"):
        combine_scores([first, second], [1.0, 1.0], "logits")


def test_presets_name_known_streams():
    assert {stream for preset in PRESETS.values() for stream in preset.weights} <= set(STREAMS)


def test_per_makes_a_group_each_and_from_combines_them(tmp_path):
    run = make_run(tmp_path, grid())
    levels_joint, levels_bone, final = built(run, make_sweep(LEVELS, FINAL)).ensembles
    assert [levels_joint.name, levels_bone.name, final.name] == [
        "multi_level.joint",
        "multi_level.bone",
        "final",
    ]
    assert levels_joint.weights == pytest.approx(
        {"joint-0": 1 / 3, "joint-0.6": 1 / 3, "joint-0.95": 1 / 3}
    )
    assert final.weights == {"multi_level.joint": 0.5, "multi_level.bone": 0.5}
    assert len(final.members) == 6
    alone = [member.test.logits.tolist() for member in final.members]
    assert np.exp(final.test.logits) == pytest.approx(
        np.array(naive_scores.weighted_probabilities(alone, [1.0] * 6)), rel=1e-5
    )
    assert final.test.labels is None


def test_weights_by_value_leave_the_others_out(tmp_path):
    run = make_run(tmp_path, grid())
    recipe = {**LEVELS, "method": "weights", "weights": {"0.6": 3, "0.95": 1}, "combine": "logits"}
    joint = built(run, make_sweep(recipe)).ensembles[0]
    assert joint.weights == {"joint-0.6": 3.0, "joint-0.95": 1.0}
    assert joint.left_out == ("joint-0",)
    parts = {member.cell: member.test.logits for member in joint.members}
    assert joint.test.logits == pytest.approx(3 * parts["joint-0.6"] + parts["joint-0.95"])


def test_a_preset_brings_weights(tmp_path):
    run = make_run(tmp_path, grid())
    recipe = {
        "name": "two",
        "over": "data.stream",
        "per": ["sparsity.level"],
        "method": "weights",
        "weights": "hpi_gcn",
        "combine": "logits",
    }
    first = built(run, make_sweep(recipe)).ensembles[0]
    assert (first.combine, first.weights) == ("logits", {"joint-0": 1.1, "bone-0": 0.9})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({**LEVELS, "over": "model.groups"}, r"got model\.groups"),
        ({**FINAL, "from": ["nothing"]}, "must name ensembles above it, got nothing"),
    ],
)
def test_recipes_that_fit_nothing_are_refused(tmp_path, recipe, message):
    run = make_run(tmp_path, grid())
    with pytest.raises(UserError, match=message):
        built(run, make_sweep(recipe))


def test_a_network_that_lacks_an_axis_is_in_no_ensemble_along_it_but_compared_with_the_dense_one(
    tmp_path,
):
    """Dense networks have no penalty; sparse ones are told apart by it."""
    run = make_run(tmp_path, grid())
    resolved = json.loads((run / "resolved.json").read_text())
    for entry in resolved["trials"]:
        if entry["axes"]["sparsity.level"]:
            entry["axes"]["sparsity.penalty"] = "none"
    (run / "resolved.json").write_text(json.dumps(resolved))
    recipe = {**LEVELS, "per": ["data.stream", "sparsity.penalty"]}
    first, second = built(run, make_sweep(recipe)).ensembles
    assert (first.name, list(first.weights), first.left_out) == (
        "multi_level.joint-none",
        ["joint-0.6", "joint-0.95"],
        (),
    )
    assert second.name == "multi_level.bone-none"
    found = complete(run, make_sweep(recipe))
    assert {each.against for each in found.comparisons if each.role == "dense network"} == {
        "joint-0",
        "bone-0",
    }


def test_a_missing_member_is_named_and_too_few_are_skipped(tmp_path):
    run = make_run(tmp_path, grid(joint_06="failed", bone_0="failed", bone_06="unfinished"))
    found = built(run, make_sweep(LEVELS, FINAL))
    assert [each.name for each in found.ensembles] == ["multi_level.joint"]
    assert found.ensembles[0].missing == ("joint-0.6",)
    assert (
        found.skipped["multi_level.bone"]
        == "needs at least 2 sources, has 1 of 3; without scores: bone-0, bone-0.6"
    )
    assert "multi_level.bone" in found.skipped["final"]


def test_the_final_evaluation_counts_what_can_be_counted_by_hand(tmp_path):
    run = make_run(tmp_path, grid(), copies=2)
    found = complete(run, make_sweep(LEVELS, FINAL))
    rows = {row.name: row for row in found.rows}
    assert rows["joint-0"].test.right == TEST - 5
    assert rows["joint-0"].clean.clips == TEST - 2
    assert rows["joint-0"].clean.right == TEST - 5  # both copies are among the clips it gets wrong
    assert rows["joint-0.6"].clean.right == TEST - 2 - 5
    assert rows["joint-0"].selection.right == SELECTION - 1
    assert rows["final"].test.right == TEST  # no two networks err on the same clip
    assert rows["final"].size.nonzero_params == 2 * (1000 + 400 + 50)
    assert rows["final"].share_of_dense == pytest.approx(2.9)
    assert rows["final"].size.latency_ms == pytest.approx(6 * 1.5)
    assert rows["final"].size.batch64_latency_ms == pytest.approx(6 * 30)
    # of the largest: they run one after the other
    assert rows["final"].size.peak_mb == pytest.approx(3.95)
    assert rows["final"].test.cross_entropy is not None
    against = {each.role: each for each in found.comparisons if each.ensemble == "final"}
    assert against["best member"].test.first_only == 5
    assert against["best member"].chosen_on == "selection"
    assert against["dense network"].against in ("joint-0", "bone-0")
    assert found.splits[0].clean_clips == TEST - 2


def test_comparisons_and_seeds_are_told_without_the_copies_too(tmp_path):
    """Every network errs on five clips of its own: joint-0 on the copies 0 and 1 and on three clean
    clips.
    """
    trials = [*grid(), Trial("joint", 0.0, seed=1, wrong_test=(0, 2))]
    found = complete(make_run(tmp_path, trials, copies=2), make_sweep(LEVELS, FINAL))
    dense = next(
        each for each in found.comparisons if each.ensemble == "final" and each.against == "joint-0"
    )
    assert (dense.test.clips, dense.test.first_only) == (TEST, 5)
    assert (dense.clean.clips, dense.clean.first_only, dense.clean.second_only) == (TEST - 2, 3, 0)
    assert dense.clean.difference == pytest.approx(3 / 28)
    spread = found.rows[0].seeds
    assert spread.test_mean == pytest.approx(1 - (5 + 2) / 2 / TEST)
    assert spread.clean_mean == pytest.approx(1 - (3 + 1) / 2 / (TEST - 2))
    assert spread.clean_std == pytest.approx(2 / (TEST - 2) / 2**0.5)


@pytest.mark.parametrize("copies", [0, TEST])
def test_without_both_copies_and_clean_clips_there_is_nothing_to_tell_apart(tmp_path, copies):
    found = complete(make_run(tmp_path, grid(), copies=copies), make_sweep(LEVELS, FINAL))
    assert all(each.clean is None for each in (*found.rows, *found.comparisons))
    assert [found.without_copies(row) for row in found.rows] == [
        None if copies else row.test for row in found.rows
    ]
    assert found.splits[0].clean_classes == (0 if copies else 3)


def test_classes_of_which_only_copies_are_tested_are_left_out_of_the_clean_figures(
    tmp_path, monkeypatch
):
    """Every clip of class 0 is a copy, as two classes of NW-UCLA are."""
    monkeypatch.setattr(
        Store, "clean_test", lambda self, split: self.column("label")[split.test] != 0
    )
    found = complete(make_run(tmp_path, [Trial("joint", 0.0, wrong_test=(0, 1, 4))]), make_sweep())
    (row,) = found.rows
    assert row.test.mean_class == pytest.approx((9 / 10 + 8 / 10 + 1) / 3)
    assert row.clean.mean_class == pytest.approx((8 / 10 + 1) / 2)
    assert (
        found.splits[0].classes,
        found.splits[0].clean_clips,
        found.splits[0].clean_classes,
    ) == (3, 20, 2)


def test_labels_and_copies_come_in_the_order_of_the_scores_and_not_of_the_store(tmp_path):
    (member,) = collect(make_run(tmp_path, [Trial("joint", 0.0)], copies=2), make_sweep())
    ids = member.test.ids
    shuffled = tuple(ids[i] for i in np.random.default_rng(0).permutation(TEST))
    assert shuffled != ids
    found = checked_test({member.division: shuffled}).read(
        Journal(tmp_path / "journal.jsonl"), "a test"
    )[member.division]
    assert found.labels.tolist() == [int(name[1:]) % 3 for name in shuffled]
    assert found.clean.tolist() == [name not in ("c00", "c01") for name in shuffled]


@pytest.mark.parametrize("kind", ["protocol", "clip"])
def test_no_test_label_is_seen_before_the_journal_says_so(tmp_path, monkeypatch, kind):
    """Until the event is on disk, the store gives wrong test labels; a selection of clips may look
    at the labels of training clips only.
    """
    run, sweep = make_run(tmp_path, grid(), kind=kind), make_sweep(LEVELS, FINAL)
    members, column, seen = collect(run, sweep), Store.column, []

    def watched(store, name):
        values = column(store, name)
        if name == "label":
            seen.append(
                "test_read" in [event["event"] for event in read_journal(run / "journal.jsonl")]
            )
            if not seen[-1]:
                values = np.where(column(store, "subject") == 3, 2 - values, values)
        return values

    monkeypatch.setattr(Store, "column", watched)
    found = finalize(run, sweep, members, {})
    assert found.rows[0].test.right == TEST - 5
    assert seen == ([True] if kind == "protocol" else [False, True])


def test_scores_of_another_test_split_leave_the_seal_unbroken(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0, test_count=29)])
    with pytest.raises(UserError, match="29 scores, 29 of them among the 30 test clips"):
        complete(run, make_sweep(LEVELS))
    assert read_journal(run / "journal.jsonl") == []
    assert not (run / "ensembles").exists()


def test_seeds_give_a_spread(tmp_path):
    trials = [Trial("joint", 0.0, seed=s, wrong_test=tuple(range(2 * s))) for s in range(3)]
    (row,) = complete(make_run(tmp_path, trials), make_sweep()).rows
    assert row.test.right == TEST
    assert row.seeds.test_mean == pytest.approx(1 - 2 / TEST)
    assert row.seeds.test_std == pytest.approx(2 / TEST)
    assert row.seeds.selection_std == 0.0


def test_an_ensemble_is_made_of_the_trials_of_every_seed_that_all_its_sources_have(tmp_path):
    """It errs where all its networks do: of seed 0 on two clips, of seed 1 on one; seed 2 has no
    sparse network.
    """
    trials = [
        Trial("joint", 0.0, seed=0, wrong_test=(0, 1), wrong_selection=(4,)),
        Trial("joint", 0.0, seed=1, wrong_test=(0, 1, 2, 3), wrong_selection=(4, 5)),
        Trial("joint", 0.0, seed=2),
        Trial("joint", 0.6, seed=0, wrong_test=(0, 1), wrong_selection=(4, 5)),
        Trial("joint", 0.6, seed=1, wrong_test=(3, 4), wrong_selection=(4, 5)),
        Trial("bone", 0.0),
        Trial("bone", 0.6),
    ]
    run = make_run(tmp_path, trials)
    found = complete(run, make_sweep(LEVELS, FINAL))
    rows = {row.name: row for row in found.rows}
    spread = rows["multi_level.joint"].seeds
    assert spread.seeds == 2
    assert spread.test_mean == pytest.approx(1 - 1.5 / TEST)
    assert spread.test_std == pytest.approx(1 / TEST / 2**0.5)
    assert spread.selection_mean == pytest.approx(1 - 1.5 / SELECTION)
    assert rows["multi_level.joint"].test.right == TEST - 2
    assert rows["multi_level.bone"].seeds is None
    assert rows["final"].seeds is None
    (gain,) = (
        each.over_seeds
        for each in found.comparisons
        if each.ensemble == "multi_level.joint" and each.role == "dense network"
    )
    assert (gain.seeds, gain.mean) == (2, pytest.approx(1.5 / TEST))
    assert gain.std == pytest.approx(3 / TEST / 2**0.5)
    assert all(each.over_seeds is None for each in found.comparisons if each.ensemble == "final")


def test_without_selection_clips_the_spread_is_of_the_test_clips_alone(tmp_path):
    trials = [
        Trial("joint", level, seed=seed, wrong_test=(seed,))
        for level in (0.0, 0.6)
        for seed in (0, 1)
    ]
    found = complete(make_run(tmp_path, trials, kind="none"), make_sweep(LEVELS))
    assert all(
        row.seeds.selection_mean is None and row.seeds.selection_std is None for row in found.rows
    )
    assert [row.seeds.test_mean for row in found.rows] == [pytest.approx(1 - 1 / TEST)] * 3


def test_under_the_paper_protocol_the_best_member_is_chosen_on_test_and_it_is_said(tmp_path):
    run = make_run(tmp_path, grid(), kind="none")
    found = complete(run, make_sweep(LEVELS))
    assert all(row.selection is None for row in found.rows)
    assert {each.chosen_on for each in found.comparisons} == {"test"}
