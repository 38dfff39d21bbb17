"""What a sweep without `ensembles` ships: the fixed recipe or what was chosen."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensembling import shipping
from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.shipping import in_shipping_order
from orchestrator.record.proposals import load_proposals
from orchestrator.report.verdicts import verdicts
from orchestrator.sweep.document import Document
from orchestrator.sweep.ensembles import default_ensembles, resolve_ensembles
from orchestrator.sweep.schema import Parameter
from tests.orchestrator.fake_run import CLASSES, SELECTION, Trial, make_run, make_sweep
from trainables.contract.scores import Scores

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


def test_the_order_of_a_file_decides(tmp_path):
    greedy, fixed = sweep_of().ensembles[-1], sweep_of().ensembles[0]
    run = run_of(tmp_path)
    own = greedy.model_copy(update={"name": "own"})
    sweep = sweep_of(own, fixed)
    found = finalize(run, sweep, collect(run, sweep), {})
    assert found.headline.name == "multi_level.bone"
    assert found.shipping == ""
