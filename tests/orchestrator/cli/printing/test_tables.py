"""Tables fit the terminal: names stay, figures stay whole, and what is left out is said."""

from __future__ import annotations

import re

import numpy as np
import pytest

from orchestrator.cli.printing.evaluation import print_evaluation
from orchestrator.cli.printing.predictions import print_predictions
from orchestrator.cli.printing.tables import console
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.predicting import PredictedClip
from orchestrator.report.content import Table
from orchestrator.report.sections.results import results
from tests.orchestrator.fake_run import Trial, make_run, make_sweep

pytestmark = pytest.mark.usefixtures("quick_end")

FINAL = {"name": "final", "over": "data.stream", "per": ["sparsity.level"]}
FIGURES = {
    "selection": "91.67 ± 7.98",
    "test": "83.33 ± 6.80",
    "95 %": "66.4 to 92.7",
    "test clean": "82.14 ± 7.24",
    "test over seeds": "83.33 ± 0.00 (n=2)",
    "deploy non-zero": "500",
    "latency ms": "1.5",
    "batch 64 ms": "30",
    "peak MB": "3.00",
    "training non-zero": "1,000",
}


@pytest.fixture
def evaluation(tmp_path):
    wrong = {"wrong_selection": (1,), "wrong_test": (3, 4, 5, 6, 7)}
    trials = [
        Trial(stream, level, seed=seed, **wrong)
        for stream in ("joint", "bone")
        for level in (0.0, 0.95)
        for seed in (0, 1)
    ]
    run = make_run(tmp_path, trials, copies=2)
    sweep = make_sweep(FINAL)
    return finalize(run, sweep, collect(run, sweep), {})


def printed(capsys, monkeypatch, evaluation, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    print_evaluation(evaluation)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return text.split("\nseeds: ")[0]


@pytest.mark.parametrize(("width", "kept"), [(80, 4), (100, 5), (140, 7)], ids=["80", "100", "140"])
def test_the_final_table_names_its_rows_and_has_whole_figures(
    capsys, monkeypatch, evaluation, width, kept
):
    text = printed(capsys, monkeypatch, evaluation, width)
    table, _, left_out = text.partition("left out at")
    assert max(map(len, table.splitlines())) <= width
    rows = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    columns = left_out.split("; ")[0].split(": ")[-1].split(", ") if left_out else []
    assert set(columns) <= set(FIGURES)
    shown = [name for name in FIGURES if name not in columns]
    assert len(shown) >= kept
    assert {"selection", "test"} <= set(shown)
    for name in ("joint-0", "joint-0.95", "bone-0", "bone-0.95", "final.0", "final.0.95"):
        assert name in rows
    for name in shown:
        assert FIGURES[name] in rows["joint-0"]
    assert "…" not in text
    if columns:
        assert f"{width} columns: " in left_out
        assert "report/tables/results.csv and --json have every figure" in left_out


def test_long_names_fold_and_lose_nothing(capsys, monkeypatch, evaluation):
    name = "a-backbone-of-many-words-joint-motion-level-0.95-and-more"
    row = evaluation.rows[0].model_copy(update={"name": name})
    text = printed(capsys, monkeypatch, evaluation.model_copy(update={"rows": (row,)}), 80)
    lines = [line.split("  ")[0].strip() for line in text.splitlines()]
    assert name in "".join(lines)
    assert FIGURES["test"] in text


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("", 200)])
def test_a_pipe_is_as_wide_as_columns_says(capsys, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    assert console().width == width
    assert console(least=150).width == max(width, 150)


def test_latencies_of_different_threads_are_told_apart(capsys, monkeypatch, evaluation):
    assert "threads" not in printed(capsys, monkeypatch, evaluation, 200).split("95 %: ")[0]
    first, *rest = evaluation.rows
    size = first.size.model_copy(update={"latency_threads": 8})
    rows = (first.model_copy(update={"size": size}), *rest)
    mixed = evaluation.model_copy(update={"rows": rows})
    text = printed(capsys, monkeypatch, mixed, 220)
    lines = [line for line in text.splitlines() if line.strip()]
    place = lines[1].index(" threads") + len(" threads")
    assert [line[:place].split()[-1] for line in lines[3:5]] == ["8", "1"]
    (table,) = (block for block in results(mixed) if isinstance(block, Table) and block.few)
    assert [row["threads"] for row in table.rows][:2] == ["8", "1"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_of_predictions_has_every_answer_whole(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    classes = [
        "pick up with one hand",
        "drop trash",
        "walk around",
        "sit down",
        "stand up",
        "carry",
    ]
    shares = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    clips = [PredictedClip(f"clips/of/a/longer/path/number_{k}.npy", shares) for k in range(2)]
    print_predictions(clips, classes, 6)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    for name, share in zip(classes, shares, strict=True):
        assert len(re.findall(rf"\b{name} +{100 * share:.1f}\b", text)) == 2
