"""What the report says of single trials, cells and seeds."""

from __future__ import annotations

import csv
import json

import pytest

from orchestrator.cli.printing.evaluation import print_evaluation
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials
from orchestrator.report.level_lines import level_panels
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial
from tests.orchestrator.report.evaluated import (
    FINAL,
    LEVELS,
    disjoint_errors,
    evaluated,
)
from trainables.contract.artifacts import TrialDir

pytestmark = pytest.mark.usefixtures("quick_end")


def test_every_trial_has_a_line_with_what_distinguishes_it_in_its_cell(tmp_path):
    trials = [
        Trial("joint", 0.6, lr=0.1),
        Trial("joint", 0.6, lr=0.2, wrong_selection=(0,)),
        Trial("bone", 0.6, lr=0.1, state="failed"),
    ]
    run = evaluated(tmp_path, trials)
    text = write_report(run).read_text()
    section = text[text.index("## Trials") :].split("\n## ")[0]
    columns = (
        "cell, train.lr, seed, status, kept epoch, selection top-1 %, level, deploy"
        " params, deploy non-zero, latency ms, "
    )
    columns += "batch 64 ms, peak MB, training non-zero, seconds, trial"
    assert f"| {columns.replace(', ', ' | ')} |" in section
    assert (
        "| `joint-0.6` | 0.2 | 0 | finished | 3/3 | 91.67 | 0.6 | 500 | 200 | 1.5 | 30 |"
        f" 3.60 | 400 | 60 | `{trials[1].name}` |" in section
    )
    assert (
        "| `bone-0.6` | 0.1 | 0 | failed: loss is nan in epoch 1 |  |  |  |  |  |  |  |  |  |  |"
        f" `{trials[2].name}` |" in section
    )


def test_the_latency_without_useless_channels_is_shown_where_a_trial_has_one(tmp_path):
    trials = [Trial("joint", 0.6, lr=0.1), Trial("joint", 0.8, lr=0.1)]
    run = evaluated(tmp_path, trials)
    assert "compact ms |" not in write_report(run).read_text()
    file = TrialDir(run / "trials" / trials[1].name).result_file
    found = json.loads(file.read_text())
    found["cost"]["compact_latency_ms"] = 0.75
    file.write_text(json.dumps(found))
    text = write_report(run).read_text()
    assert f"| `{trials[0].name}` |  |" in text
    assert f"| `{trials[1].name}` | 0.75 |" in text
    assert "`compact(load_deploy(path))`" in text
    assert "on a CPU and on a GPU" in text


def test_a_parameter_that_is_the_same_throughout_a_cell_has_no_column(tmp_path):
    trials = [Trial("joint", 0.0, lr=0.1), Trial("bone", 0.0, lr=0.2)]  # told apart by their cells
    text = write_report(evaluated(tmp_path, trials)).read_text()
    assert "| cell | seed |" in text


def test_failures_and_skipped_ensembles_are_listed_with_reasons(tmp_path):
    trials = disjoint_errors()
    trials[2].state, trials[3].state = "failed", "unfinished"
    text = write_report(evaluated(tmp_path, trials, LEVELS, FINAL)).read_text()
    assert f"trial `{trials[2].name}` failed: loss is nan in epoch 1" in text
    assert "cell `bone-0.6` has no member" in text
    assert "ensemble `levels.bone` was not built: needs at least 2 sources, has 0 of 2" in text


def test_warnings_of_trials_are_listed(tmp_path):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS)
    assert "## Warnings" not in write_report(run).read_text()
    folder = next(
        planned.folder(run)
        for planned in load_proposals(run)
        if planned.axes["sparsity.level"] == 0.6
    )
    result = folder.load().model_copy(
        update={"warnings": ("level 0.6 leaves no weight in blocks.0.conv",)}
    )
    folder.result_file.write_text(result.model_dump_json())
    assert (
        f"- trial `{folder.path.name}`: level 0.6 leaves no weight in blocks.0.conv"
        in write_report(run).read_text()
    )


def test_several_seeds_show_their_spread(tmp_path):
    trials = [
        Trial("joint", 0.0, seed=seed, wrong_test=tuple(range(3 * seed))) for seed in range(3)
    ]
    text = write_report(evaluated(tmp_path, trials)).read_text()
    assert "90.00 ± 10.00 (n=3)" in text
    assert "No ensemble was built" in text


def test_ensembles_show_their_spread_and_their_gain_in_every_seed(tmp_path, capsys):
    trials = [
        Trial("joint", level, seed=seed, wrong_test=tuple(range(3 * seed)))
        for level in (0.0, 0.6)
        for seed in (0, 1)
    ]
    run = evaluated(tmp_path, trials, LEVELS)
    text = write_report(run).read_text()
    _, line = (line for line in text.splitlines() if line.startswith("| `levels.joint` | ensemble"))
    assert line.endswith("| 100.00 ± 0.00 (n=2) | 95.00 ± 7.07 (n=2) |")
    assert (
        "The same ensemble and the same network in 2 seeds: +0.00 points on average, standard"
        " deviation 0.00." in text
    )
    assert "every other figure is of the first seed" in text
    print_evaluation(FinalEvaluation.load(run))
    printed = capsys.readouterr().out
    assert "test over seeds" in printed
    assert "95.00 ± 7.07 (n=2)" in printed
    with (run / "report" / "tables" / "comparisons.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream))
    assert (first["tied"], first["over_seeds.seeds"], first["over_seeds.mean"]) == (
        "joint-0 joint-0.6",
        "2",
        "0.0",
    )


@pytest.mark.usefixtures("drawn_pictures")
def test_networks_of_one_kind_are_a_line_over_their_levels(tmp_path):
    levels = (0.0, 0.6, 0.95)
    trials = [
        Trial(stream, level, wrong_test=(0,) if level == 0.6 else ())
        for stream in ("joint", "bone")
        for level in levels
    ]
    run = evaluated(tmp_path, trials, LEVELS, FINAL)
    panels, over_seeds = level_panels(FinalEvaluation.load(run).rows, load_trials(run))
    assert not over_seeds
    (lines,) = panels.values()  # one backbone
    assert [(line.name, line.group, line.kind) for line in lines] == [
        ("dense, joint", "dense, joint", "flat"),
        ("joint", "joint", "levels"),
        ("dense, bone", "dense, bone", "flat"),
        ("bone", "bone", "levels"),
        ("levels together: joint", "joint", "ensemble"),
        ("levels together: bone", "bone", "ensemble"),
    ]
    assert [(point.level, point.top1) for point in lines[1].points] == [(0.6, 29 / 30), (0.95, 1.0)]
    assert "](figures/levels.png)" in write_report(run).read_text()
    assert (run / "report" / "figures" / "levels.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_level_makes_no_line(tmp_path):
    run = evaluated(tmp_path, disjoint_errors())
    assert level_panels(FinalEvaluation.load(run).rows, load_trials(run)) == ({}, False)
    assert "levels.png" not in write_report(run).read_text()


def test_backbones_have_a_panel_each_where_there_is_more_to_tell_apart(tmp_path):
    run = evaluated(
        tmp_path, [Trial("joint", level, seed=seed) for level in (0.6, 0.95) for seed in (0, 1)]
    )
    rows, trials = FinalEvaluation.load(run).rows, load_trials(run)

    def titles(*kinds):
        every = [
            row.model_copy(update={"axes": {**kind, "sparsity.level": row.axes["sparsity.level"]}})
            for kind in kinds
            for row in rows
        ]
        panels, over_seeds = level_panels(every, trials)
        assert over_seeds
        return {title: [line.name for line in lines] for title, lines in panels.items()}

    kinds = [
        {"model.backbone": backbone, "sparsity.warmup": warmup}
        for backbone in ("st_gcn", "ctr_gcn")
        for warmup in (0.6, 0.0)
    ]
    assert titles(kinds[0], kinds[2]) == {"": ["st_gcn, warmup 0.6", "ctr_gcn, warmup 0.6"]}
    assert titles(*kinds) == {
        "st_gcn": ["warmup 0.6", "warmup 0"],
        "ctr_gcn": ["warmup 0.6", "warmup 0"],
    }


def test_an_assignment_with_fewer_seeds_is_said_to_take_no_part(tmp_path):
    trials = [
        Trial("joint", 0.0, lr=0.1, seed=0),
        Trial("joint", 0.0, lr=0.1, seed=1, state="failed"),
        *(Trial("joint", 0.0, lr=0.2, seed=seed) for seed in (0, 1)),
    ]
    text = write_report(evaluated(tmp_path, trials)).read_text()
    assert (
        "cell `joint-0`: train.lr 0.1 took no part in the choice, 1 of its 2 seeds have finished,"
        " of another one 2" in text
    )
