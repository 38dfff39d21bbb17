"""What a sweep without `ensembles` ships: the fixed recipe or what was chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensembling import shipping
from orchestrator.ensembling.build import Built, build_ensembles
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.members import SeedScores
from orchestrator.ensembling.shipping import in_shipping_order
from orchestrator.record.proposals import load_proposals
from orchestrator.report.verdicts import verdicts
from orchestrator.sweep.document import Document
from orchestrator.sweep.ensembles import default_ensembles, resolve_ensembles
from orchestrator.sweep.schema import Parameter
from tests.orchestrator.fake_run import CLASSES, SELECTION, Trial, make_run, make_sweep
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.scores import Scores

pytestmark = pytest.mark.usefixtures("quick_end")

AXES = {
    "data.stream": Parameter(values=("joint", "bone"), axis="cell"),
    "sparsity.level": Parameter(values=(0.0, 0.6), axis="cell"),
}
LABELS = np.arange(SELECTION) % CLASSES


def sweep_of(*ensembles):
    sweep = make_sweep()
    found = ensembles or default_ensembles(AXES, held_out=True, sparse=True)
    sweep.ensembles = resolve_ensembles(Document("s.yaml", {}), found, AXES, (0,))
    return sweep


def run_of(path):
    return make_run(
        path,
        [
            Trial(stream, level, wrong_selection=(i,), wrong_test=(i,))
            for i, (stream, level) in enumerate(
                (stream, level) for stream in ("joint", "bone") for level in (0.0, 0.6)
            )
        ],
    )


def rows(wrong: int) -> np.ndarray:
    """Scores of the selection clips, the first `wrong` of them mistaken."""
    logits = np.zeros((SELECTION, CLASSES), np.float32)
    logits[np.arange(SELECTION), LABELS] = 1
    logits[:wrong] *= -1
    return logits


@pytest.mark.parametrize(
    ("chosen", "fixed", "ships"),
    [
        (0, 0, "greedy"),  # equally good: the smaller one
        (1, 0, "greedy"),  # one clip of twelve is within one standard error
        (6, 0, "final"),
        (0, 6, "greedy"),
    ],
)
def test_the_smaller_one_ships_unless_the_other_is_clearly_better(
    tmp_path, monkeypatch, chosen: int, fixed: int, ships: str
):
    run, sweep = run_of(tmp_path), sweep_of()
    members = collect(run, sweep)
    cells = {each.cell: each.axes for each in load_proposals(run)}
    built = build_ensembles(sweep.ensembles, members, cells)
    assert [each.name for each in built.ensembles][-2:] == ["final", "greedy"]
    last = built.ensembles[-2]
    table = Scores(last.selection.ids, rows(fixed), last.selection.labels)
    monkeypatch.setattr(shipping, "cross_fitted_rows", lambda ensemble: rows(chosen))
    monkeypatch.setattr(type(last), "selection", property(lambda ensemble: table))
    ordered, why = in_shipping_order(built, sweep.ensembles)
    assert ordered.ensembles[-1].name == ships
    assert sorted(each.name for each in ordered.ensembles) == sorted(
        each.name for each in built.ensembles
    )
    assert why.startswith(f"`{ships}` ships: ")


def test_the_evaluation_says_why_its_last_ensemble_ships(tmp_path):
    run, sweep = run_of(tmp_path), sweep_of()
    found = finalize(run, sweep, collect(run, sweep), {})
    assert found.shipping.startswith(f"`{found.headline.name}` ships: on the selection split")
    assert found.shipping in verdicts(found)
    (greedy,) = (row for row in found.rows if row.name == "greedy")
    assert greedy.size.deploy_nonzero_params <= greedy.budget["nonzero_params"] == 500


def test_of_several_ensembles_of_the_fixed_recipe_the_best_is_the_rival(tmp_path, monkeypatch):
    """Two backbones: the one that stands first in the file is the better one."""
    backbones = {"model.backbone": Parameter(values=("st_gcn", "aa_gcn"), axis="cell"), **AXES}
    run, sweep = run_of(tmp_path), sweep_of()
    recipes = default_ensembles(backbones, held_out=True, sparse=True)
    assert recipes[-1].axes == ("model.backbone", "data.stream", "sparsity.level")
    built = build_ensembles(
        sweep.ensembles, collect(run, sweep), {e.cell: e.axes for e in load_proposals(run)}
    )
    *_, last, greedy = built.ensembles
    labels = last.selection.labels

    def of(backbone: str, wrong: int):
        table = Scores(last.selection.ids, rows(wrong), labels)
        scores = SeedScores(lambda: table, lambda: last.test)
        return replace(last, name=f"final.{backbone}", recipe="final", scores=scores)

    monkeypatch.setattr(shipping, "cross_fitted_rows", lambda ensemble: rows(2))
    ensembles = (of("st_gcn", 1), of("aa_gcn", 6), greedy)
    ordered, why = in_shipping_order(Built(ensembles, {}), sweep.ensembles)
    assert "points from `final.st_gcn`" in why
    assert why.endswith("`final.st_gcn` is the best of 2 such ensembles on the selection split.")
    assert len(ordered.ensembles) == 3


def test_a_file_that_names_the_default_ones_has_its_own_order(tmp_path):
    """Greedy over all cells before another one: the last one ships, and it has its own digest."""
    greedy = "{name: greedy, over: [data.stream, sparsity.level], per: [], method: greedy%s}"
    last = "{name: last, over: sparsity.level}"
    texts = [
        SMALL + f"ensembles: [{', '.join(each)}]\n"
        for each in (
            (last,),
            (greedy % "", last),
            (greedy % ", budget: {nonzero_params: 1x}", last),
        )
    ]
    found = [loaded(tmp_path, text) for text in texts]
    assert len({each.digest() for each in found}) == 3
    run = run_of(tmp_path / "run")
    sweep = make_sweep()
    sweep.ensembles = found[1].ensembles
    evaluation = finalize(run, sweep, collect(run, sweep), {})
    assert evaluation.headline.name == "last.bone"
    assert evaluation.shipping == ""


def test_the_order_of_a_file_decides(tmp_path):
    greedy, fixed = sweep_of().ensembles[-1], sweep_of().ensembles[0]
    run = run_of(tmp_path)
    own = greedy.model_copy(update={"name": "own"})
    sweep = sweep_of(own, fixed)
    found = finalize(run, sweep, collect(run, sweep), {})
    assert found.headline.name == "multi_level.bone"
    assert found.shipping == ""
