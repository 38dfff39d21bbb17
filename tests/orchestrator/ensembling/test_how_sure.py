"""How sure the figures of a final evaluation are, and what is said of them beside the accuracy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.results import VERSION, FinalEvaluation
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import TEST, Trial, make_run, make_sweep
from trainables.contract.errors import UserError

LEVELS = {"name": "multi_level", "over": "sparsity.level", "per": ["data.stream"]}


def complete(run, sweep):
    members = collect(run, sweep)
    return finalize(run, sweep, members, missing_cells(run, members))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 99}', r"of form \d or earlier, got form 99: "),
        ('{"rows": []}', r"of form \d or earlier: Field required"),
        ("[]", "must be a final evaluation"),
        ("{", "evaluation.json"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(tmp_path, text, message):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(UserError, match=message):
        FinalEvaluation.load(tmp_path)


def test_how_sure_the_figures_are_can_be_counted_by_hand(tmp_path):
    """Both networks err on clips 0 and 1, one more on clip 2; they are weakly wrong (0.5 against 0,
    0: probability 0.45) and surely right (2 against 0, 0: 0.787).
    """
    trials = [
        Trial("joint", 0.0, wrong_test=(0, 1)),
        Trial("joint", 0.6, wrong_test=(0, 1, 2)),
    ]
    found = complete(make_run(tmp_path, trials), make_sweep(LEVELS))
    dense, sparse, ensemble = found.rows
    assert sparse.test.interval == interval(TEST - 3, TEST)
    low, high = sparse.bootstrap.clips
    assert low < 0.9 < high <= 1
    # one subject performs all test clips: there are no others to draw
    assert (sparse.bootstrap.subjects, sparse.bootstrap.subject_count) == (None, 1)
    right, wrong = np.exp(2) / (np.exp(2) + 2), np.exp(0.5) / (np.exp(0.5) + 2)
    assert dense.calibration.ece == pytest.approx((28 * (1 - right) + 2 * wrong) / TEST, rel=1e-5)
    assert [each.clips for each in dense.calibration.bins] == [2, 28]
    assert ensemble.diversity.error_overlap == pytest.approx(2 / 3)
    assert ensemble.diversity.double_fault == pytest.approx(2 / TEST)
    assert ensemble.diversity.q == 1.0
    assert dense.diversity is None
    better = next(each for each in found.comparisons if each.against == "joint-0.6")
    assert better.test.difference == pytest.approx(1 / TEST)
    assert better.bootstrap.clips[0] == 0.0


def test_other_subjects_are_other_draws(tmp_path, monkeypatch):
    """Ten subjects; one of them is never understood."""
    monkeypatch.setattr("orchestrator.ensembling.sealed._subjects", lambda *_: np.arange(TEST) // 3)
    wrong = Trial("joint", 0.0, wrong_test=(0, 1, 2))
    (row,) = complete(make_run(tmp_path, [wrong]), make_sweep()).rows
    assert row.bootstrap.subject_count == 10
    assert row.bootstrap.subjects[0] < row.bootstrap.clips[0]


def test_scores_that_are_no_probabilities_have_no_calibration(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.6)])
    rows = complete(run, make_sweep({**LEVELS, "combine": "logits"})).rows
    assert [row.calibration is None for row in rows] == [row.kind == "ensemble" for row in rows]


@pytest.mark.usefixtures("quick_end")
def test_sums_that_were_fitted_by_log_loss_are_calibrated_too(tmp_path):
    trials = [Trial("joint", 0.0, wrong_test=(0,)), Trial("joint", 0.6, wrong_test=(1,))]
    recipes = [
        {**LEVELS, "name": "fitted", "method": "simplex", "combine": "logits"},
        {**LEVELS, "name": "stacked", "method": "stacking", "combine": "logits"},
        {**LEVELS, "name": "plain", "method": "greedy", "combine": "logits"},
    ]
    rows = complete(make_run(tmp_path, trials), make_sweep(*recipes)).rows[-3:]
    assert [row.calibration is not None for row in rows] == [True, True, False]
    assert [row.test.cross_entropy is not None for row in rows] == [True, True, False]


def test_figures_that_something_was_chosen_by_have_no_interval(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.6)])
    found = complete(run, make_sweep(LEVELS))
    assert [row.selection.interval for row in found.rows] == [None] * 3
    assert all(row.test.interval is not None for row in found.rows)
    assert all(point.selection.interval is None for point in found.fronts)


@pytest.mark.usefixtures("quick_end")
def test_no_bootstrap_interval_is_made_of_what_never_varies(tmp_path):
    """All have every test clip right."""
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.6)])
    found = complete(run, make_sweep(LEVELS))
    assert [row.bootstrap.clips for row in found.rows] == [None] * 3
    assert [each.bootstrap.clips for each in found.comparisons] == [None] * len(found.comparisons)
    text = write_report(run).read_text()
    assert "95 % interval" not in text[text.index("## Verdict") :]
    assert "| `joint-0` | 100.00 | 88.65 to 100.00 | n/a |" in text


NEW_IN_6 = ("bootstrap", "calibration", "diversity")


@pytest.mark.usefixtures("quick_end")
def test_an_evaluation_of_an_earlier_version_loads_and_is_made_again(tmp_path, monkeypatch):
    run, sweep = (
        make_run(
            tmp_path,
            [Trial("joint", 0.0, wrong_test=(0, 3)), Trial("joint", 0.6, wrong_test=(1,))],
            copies=2,
        ),
        make_sweep(LEVELS),
    )
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.ensembling.final.VERSION", 1)
        complete(run, sweep)
    old = json.loads((run / "evaluation.json").read_text())
    sizes = [
        (row["size"], name) for row in old["rows"] for name in ("peak_mb", "batch64_latency_ms")
    ]
    for part, name in [
        *((each, "clean") for each in old["comparisons"]),
        *((each, "clean_classes") for each in old["splits"]),
        *((each, name) for each in old["rows"] for name in NEW_IN_6),
        *((each["test"], "interval") for each in old["rows"]),
        *((each, "bootstrap") for each in old["comparisons"]),
        (old, "version"),
        *sizes,
    ]:
        del part[name]
    (run / "evaluation.json").write_text(json.dumps(old))
    loaded = FinalEvaluation.load(run)
    assert all(each.clean is None for each in loaded.comparisons)
    assert loaded.version is None
    assert all(row.test.interval is None and row.bootstrap is None for row in loaded.rows)
    write_report(run)
    again = complete(run, sweep)
    assert again.version == VERSION
    assert all(row.test.interval is not None and row.bootstrap is not None for row in again.rows)
    assert all(each.clean is not None for each in again.comparisons)
    assert all(row.size.peak_mb is not None for row in again.rows)
