"""The door for strategies: what one sees and may answer, and that no test label is there."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from pydantic import BaseModel, Field

from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep.strategies import STRATEGIES, StrategyCard
from tests.orchestrator.fake_run import SELECTION, Trial, make_run, make_sweep
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.errors import UserError

HERE = __name__
OVER = {"name": "final", "over": "data.stream"}


class Best(BaseModel, extra="forbid"):
    count: int = Field(default=1, ge=1)  # how many sources get a vote


SEEN: list[Sources] = []
ANSWER: dict[str, float] = {}


def best(sources: Sources, options: Best) -> dict[str, float]:
    """One vote for each of the sources that are most often right."""
    SEEN.append(sources)
    right = (sources.values.argmax(axis=2) == sources.labels).sum(axis=1)
    order = np.argsort(-right, kind="stable")[: options.count]
    return {sources.members[i]: 1.0 for i in order}


def answer(sources: Sources, options: BaseModel) -> dict[str, float]:
    return ANSWER


BEST = StrategyCard(
    name="best",
    module=f"{HERE}:best",
    about="the best sources",
    options=Best,
    needs_selection=True,
)
FIXED = StrategyCard(name="fixed", module=f"{HERE}:answer", about="what the test says")


def trials():
    return [
        Trial("joint", 0.0, wrong_selection=(0, 1), wrong_test=(4,)),
        Trial("bone", 0.0, wrong_selection=(0,)),
        Trial("joint_motion", 0.0),
    ]


def built(run, sweep):
    cells = {proposal.cell: proposal.axes for proposal in load_proposals(run)}
    return build_ensembles(sweep.ensembles, collect(run, sweep), cells)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_card_is_found_by_its_name_and_loads(name):
    card = STRATEGIES.find(name)
    assert card.name == name
    assert callable(card.load())
    card.options()  # every option has a default


def test_a_strategy_from_outside_chooses_on_aligned_selection_scores(tmp_path):
    run = make_run(tmp_path, trials())
    SEEN.clear()
    recipe = {**OVER, "method": f"{HERE}:BEST", "options": {"count": 2}}
    (ensemble,) = built(run, make_sweep(recipe)).ensembles
    assert ensemble.weights == {"bone-0": 1.0, "joint_motion-0": 1.0}
    assert ensemble.left_out == ("joint-0",)
    (seen,) = SEEN
    assert seen.members == ("joint-0", "bone-0", "joint_motion-0")
    assert seen.values.shape == (3, SELECTION, 3)
    assert seen.ids == tuple(f"b{i:02d}" for i in range(SELECTION))
    assert seen.labels.tolist() == [i % 3 for i in range(SELECTION)]
    for array in (seen.values, seen.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_strategy_is_asked_before_the_test_labels_are_read_and_sees_no_test_clip(
    tmp_path, monkeypatch
):
    run = make_run(tmp_path, trials())
    events: list[list[str]] = []

    def watched(sources: Sources, options: BaseModel) -> dict[str, float]:
        events.append([event["event"] for event in read_journal(run / "journal.jsonl")])
        SEEN.append(sources)
        return best(sources, Best())

    SEEN.clear()
    monkeypatch.setattr(StrategyCard, "load", lambda card: watched)
    sweep = make_sweep({**OVER, "method": f"{HERE}:BEST"})
    finalize(run, sweep, collect(run, sweep), {})
    assert events
    assert not any(events)  # nothing has happened yet, `test_read` least of all
    assert {name[0] for seen in SEEN for name in seen.ids} == {"b"}  # clips for selection
    assert {field.name for field in fields(Sources)} == {
        "members",
        "values",
        "labels",
        "ids",
        "given",
        "networks",
        "families",
        "combine",
        "budget",
    }


def test_sources_know_their_networks_and_families_or_take_each_for_its_own():
    values, labels = np.zeros((2, 1, 3), np.float32), np.zeros(1, np.int64)
    plain = Sources(("a", "b"), values, labels, ("clip",), {})
    assert plain.networks == (frozenset({"a"}), frozenset({"b"}))
    assert plain.families == ("a", "b")
    known = Sources(
        ("a", "b"),
        values,
        labels,
        ("clip",),
        {},
        networks=(frozenset({"t1", "t2"}), frozenset({"t3"})),
        families=("joint", ""),
    )
    assert known.networks[0] == {"t1", "t2"}
    assert known.families == ("joint", "b")


def test_a_strategy_that_needs_held_out_clips_is_skipped_where_there_are_none(tmp_path):
    run = make_run(tmp_path, trials(), kind="none")
    found = built(run, make_sweep({**OVER, "method": f"{HERE}:BEST"}))
    assert found.ensembles == ()
    assert "nothing was held out" in found.skipped["final"]
    assert len(built(run, make_sweep(OVER)).ensembles) == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"elsewhere": 1.0}, r"must give weights to the sources \(joint-0, .*got elsewhere"),
        ({}, "must give numbers, one of them other than 0"),
        ({"joint-0": 0.0}, "must give numbers, one of them other than 0"),
        ({"joint-0": np.nan}, "must give numbers, one of them other than 0"),
        ({"joint-0": 2.0, "bone-0": -1.0}, "must not be negative where probabilities"),
    ],
)
def test_an_answer_without_a_meaning_is_refused(tmp_path, monkeypatch, weights, message):
    monkeypatch.setitem(globals(), "ANSWER", weights)
    run = make_run(tmp_path, trials())
    with pytest.raises(UserError, match=message):
        built(run, make_sweep({**OVER, "method": f"{HERE}:FIXED"}))


def test_a_sweep_file_names_a_strategy_and_its_options_are_checked(tmp_path):
    recipe = f"{{name: a, over: data.stream, method: '{HERE}:BEST', options: {{count: %s}}}}"
    sweep = loaded(tmp_path, SMALL + f"ensembles: [{recipe % 2}]\n")
    assert sweep.ensembles[0].options == {"count": 2}
    with pytest.raises(UserError, match=r"options\.count: must be at least 1, got 0"):
        loaded(tmp_path, SMALL + f"ensembles: [{recipe % 0}]\n")
    nothing = ("data.selection.kind=none", "train.keep=last")
    with pytest.raises(UserError, match=r"method: best chooses on held-out clips, and data\.sel"):
        loaded(tmp_path, SMALL + f"ensembles: [{recipe % 2}]\n", *nothing)


def test_a_method_that_sums_one_way_only_brings_it(tmp_path):
    text = SMALL + "ensembles: [{name: a, over: data.stream, method: stacking%s}]\n"
    assert loaded(tmp_path, text % "").ensembles[0].combine == "logits"
    assert loaded(tmp_path, text % ", combine: logits").ensembles[0].combine == "logits"
    with pytest.raises(UserError, match="combine: must be logits for method stacking, got 'norm"):
        loaded(tmp_path, text % ", combine: normalised")


@pytest.mark.parametrize("method", ["greedy", "simplex", "stacking", "temperature"])
def test_our_strategies_build_ensembles_of_a_sweep(tmp_path, method):
    run = make_run(tmp_path, trials())
    sweep = make_sweep({**OVER, "method": method, "combine": "logits"})
    (ensemble,) = built(run, sweep).ensembles
    assert set(ensemble.weights) <= {"joint-0", "bone-0", "joint_motion-0"}
    assert min(ensemble.weights.values()) > 0
