"""How sure networks and ensembles are: the numbers behind the violins, and which are drawn."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from orchestrator.ensembling.evaluate import log_softmax
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.report.markdown import to_markdown
from orchestrator.report.violins import (
    MOST_VIOLINS,
    Violin,
    chosen_rows,
    draw_violins,
    violin_cells,
    violin_section,
    violins,
)
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial
from tests.orchestrator.report.evaluated import FINAL, LEVELS, disjoint_errors, evaluated
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import SelectionConfig
from trainables.contract.scores import Scores

pytestmark = pytest.mark.usefixtures("quick_end")

SOME = Division(store="data/pairs", protocol="xsub", selection=SelectionConfig())


def sureness(run, **options):
    return {each.name: each for each in violins(run, FinalEvaluation.load(run), **options)}


def softmax(run, trial):
    return np.exp(log_softmax(Scores.load(TrialDir(run / "trials" / trial).test_scores).logits))


@pytest.mark.parametrize("combine", ["probabilities", "logits", "normalised"])
def test_an_ensemble_has_the_mean_probability_of_its_networks_whatever_it_sums(tmp_path, combine):
    trials = disjoint_errors()
    weights = {"0": 3.0, "0.6": 1.0}
    recipe = {**LEVELS, "method": "weights", "weights": weights, "combine": combine}
    run = evaluated(tmp_path, trials, recipe, {**FINAL, "combine": combine})
    tables = {trial.cell: softmax(run, trial.name) for trial in trials}
    mean = sum(
        (3 * tables[f"{stream}-0"] + tables[f"{stream}-0.6"]) / 4 for stream in ("joint", "bone")
    )
    found = sureness(run)
    assert found["joint-0.6"].highest == pytest.approx(tables["joint-0.6"].max(axis=1))
    assert found["final"].highest == pytest.approx((mean / 2).max(axis=1), rel=1e-5)
    assert found["final"].kind == "ensemble"
    (run / "ensembles" / "final" / "scores.parquet").unlink()  # the networks still have theirs
    again = sureness(run)["final"].highest
    assert again == pytest.approx(found["final"].highest, rel=1e-5)
    assert found["joint-0"].kind == "dense"


def test_single_networks_come_first_and_ten_at_most(tmp_path):
    levels = (0.0, 0.5, 0.6, 0.8, 0.9, 0.95)
    run = evaluated(tmp_path, disjoint_errors(levels=levels, size=2), LEVELS, FINAL)
    evaluation = FinalEvaluation.load(run)
    rows = chosen_rows(evaluation, evaluation.splits[0].division)
    assert len(rows) == MOST_VIOLINS < len(evaluation.rows)
    assert [row.kind for row in rows] == ["member"] * 7 + ["ensemble"] * 3
    assert [row.name for row in rows[-3:]] == ["levels.joint", "levels.bone", "final"]
    assert "joint-0" in [row.name for row in rows]  # what the last one is held against


def test_every_final_ensemble_stands_beside_its_own_dense_network(tmp_path):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS)
    found = violins(run, FinalEvaluation.load(run))
    assert [each.name for each in found][-4:] == [
        *("joint-0", "bone-0"),
        *("levels.joint", "levels.bone"),
    ]
    assert {each.name: each.against for each in found if each.against} == {
        "levels.joint": ("joint-0",),
        "levels.bone": ("bone-0",),
    }
    text = to_markdown("", violin_section(found, draw_violins(found, tmp_path / "v.png")))
    for stream in ("joint", "bone"):
        sentence = rf"`levels\.{stream}` is below .*?, its dense network `{stream}-0` is below"
        assert re.search(sentence, text)


def test_without_an_ensemble_the_best_networks_are_drawn(tmp_path):
    found = sureness(evaluated(tmp_path, disjoint_errors()))
    assert list(found) == ["joint-0.6", "bone-0.6", "joint-0", "bone-0"]


def test_rows_without_score_tables_are_left_out(tmp_path):
    trials = disjoint_errors()
    run = evaluated(tmp_path, trials, {**LEVELS, "combine": "logits"}, FINAL)
    TrialDir(run / "trials" / trials[0].name).test_scores.unlink()
    assert list(sureness(run)) == ["joint-0.6", "bone-0.6", "bone-0", "levels.bone", "final"]
    assert violins(run, None) == []


def test_the_threshold_divides_the_clips():
    violin = Violin("a", "single", SOME, np.array([0.2, 0.5, 0.4, 1.0]), threshold=0.5)
    assert violin.below.tolist() == [0.2, 0.4]  # 0.5 is not below 0.5
    cells = violin_cells(violin)
    assert (cells["clips"], cells["below.clips"], cells["below.share"]) == (4, 2, 0.5)
    assert (cells["q00"], cells["q50"], cells["q100"]) == (0.2, 0.45, 1.0)
    assert cells["below.q50"] == pytest.approx(0.3)
    none = violin_cells(Violin("a", "single", SOME, np.array([0.9]), threshold=0.5))
    assert (none["below.clips"], none["below.q50"]) == (0, "")


@pytest.mark.parametrize(
    ("divisions", "values"),
    [(1, [0.9]), (1, [0.3]), (3, [0.9, 0.9]), (3, [0.2, 0.4, 0.9])],
)
def test_any_number_of_clips_and_divisions_is_drawn(tmp_path, divisions, values):
    found = [
        Violin(kind, kind, SOME.model_copy(update={"protocol": str(number)}), np.array(values), 0.5)
        for number in range(divisions)
        for kind in ("single", "dense", "ensemble")
    ]
    path = draw_violins(found, tmp_path / "violins.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert draw_violins([], path) is None
    assert violin_section([], None) == []


def test_the_report_shows_the_violins_and_their_numbers(tmp_path):
    run = evaluated(tmp_path, [*disjoint_errors(), Trial("joint", 0.8)], LEVELS, FINAL)
    text = write_report(run, confidence=0.6).read_text()
    section = text[text.index("## How sure the networks are") :].split("\n## ")[0]
    assert "](figures/violins.png)" in section
    found = sureness(run, threshold=0.6)
    below = {name: len(each.below) for name, each in found.items()}
    assert below["joint-0"] == 7  # those it has wrong, weakly
    assert f"`final` is below it on {below['final']} of 30 clips" in section
    assert "its dense network `joint-0` is below it on 7 of 30 clips (23.33 %)." in section
    with (run / "report" / "tables" / "violins.csv").open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert {name: int(row["below.clips"]) for name, row in rows.items()} == below
    assert {row["threshold"] for row in rows.values()} == {"0.6"}
    write_report(run)
    assert "clips below 0.5" in (run / "report" / "report.md").read_text()
