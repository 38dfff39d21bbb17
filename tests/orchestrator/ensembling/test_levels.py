"""Networks of several levels as a sweep sees them: their settings, plan, report, tracking and
comparison.
"""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.planning.check import check_data
from orchestrator.planning.pace import step_work
from orchestrator.planning.plan import plan
from orchestrator.record.states import load_trials
from orchestrator.report.level_lines import level_panels
from orchestrator.report.writing import write_report
from orchestrator.tracking.mlflow import final_metrics
from orchestrator.trials.space import all_trials, check_space
from tests.orchestrator.fake_run import (
    SELECTION,
    TEST,
    Trial,
    make_run,
    make_sweep,
    note_digests,
    scores,
)
from tests.orchestrator.sweep_files import loaded
from trainables.contract.artifacts import LevelResult, TrialDir, TrialResult
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.levels import count_trial
from trainables.data.store.reading import Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout

pytestmark = pytest.mark.usefixtures("quick_end")

SWEEP = """\
version: 1
name: several
data: {store: STORE, protocol: xsub, frames: 16}
parameters:
  sparsity.network: {values: [single, nested, experts], axis: cell}
  sparsity.level: {values: [0, 0.8], axis: trial}
model: {backbone: st_gcn, channels: 8, stages: [1, 1]}
sparsity: {levels: [0.5, 0.9]}
constraints: [sparsity.network == "single" or sparsity.level == 0]
train: {epochs: 5}
tracking: {uri: none}
"""
FOUND = (
    LevelResult(level="0.5", selection_top1=0.5, nonzero_params=700, deploy_nonzero_params=600),
    LevelResult(level="0.9", selection_top1=None, nonzero_params=300, deploy_nonzero_params=200),
    LevelResult(level="fused", selection_top1=0.75, nonzero_params=800, deploy_nonzero_params=800),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("levels") / "synth"
    made = synthetic_recordings(
        SyntheticConfig(classes=3, clips_per_class=8, subjects=4, views=2, frames=8),
        load_layout("ucla20"),
    )
    write_store(path, made.clips, made.description)
    return path


@pytest.fixture
def sweep(tmp_path, store):
    return loaded(tmp_path, SWEEP, f"data.store={store}", f"storage={tmp_path / 'runs'}")


def test_single_and_several_levels_in_one_sweep(sweep):
    assert check_space(sweep) + check_data(sweep) == []
    configs = [trial.config.sparsity for trial in all_trials(sweep)]
    assert [(config.network, config.level, config.levels) for config in configs] == [
        ("single", 0.0, ()),
        ("single", 0.8, ()),
        ("nested", 0.0, (0.5, 0.9)),
        ("experts", 0.0, (0.5, 0.9)),
    ]


def test_a_sweep_that_names_too_few_levels_is_told_so(tmp_path, store):
    few = loaded(tmp_path, SWEEP, f"data.store={store}", "sparsity.levels=[0.5]")
    (first, *_) = check_space(few)
    assert (
        "levels must name at least two different levels where network is nested, got [0.5]" in first
    )


def test_the_plan_counts_every_network(sweep, store):
    found = plan(sweep)
    configs = {trial.config.sparsity.described: trial.config for trial in all_trials(sweep)}
    counts = {
        name: count_trial(config, Store.open(store).layout, classes=3, persons=1)
        for name, config in configs.items()
    }
    variants = {
        variant.settings.get("sparsity.network", "single"): variant for variant in found.variants
    }
    assert list(variants) == ["single", "nested", "experts"]
    for name, described in (("nested", "nested 0.5 0.9"), ("experts", "experts 0.5 0.9")):
        config, cost = configs[described], counts[described]
        assert variants[name].params == cost.training.params
        assert variants[name].nonzero_params == {described: cost.nonzero_params(config.sparsity)}
    assert list(variants["single"].nonzero_params) == ["0", "0.8"]


def test_a_step_of_nested_levels_works_as_much_as_one_of_two_networks(sweep, store):
    configs = {trial.config.sparsity.described: trial.config for trial in all_trials(sweep)}
    layout = Store.open(store).layout
    asked = (configs["nested 0.5 0.9"], configs["0"])
    nested, single = (
        step_work(config, count_trial(config, layout, classes=3, persons=1)) for config in asked
    )
    assert nested.gflops == pytest.approx(2 * single.gflops)
    assert nested.operations == pytest.approx(2 * single.operations)
    assert (nested.steps, single.steps) == (1, 1)


@pytest.fixture
def run(tmp_path):
    """A dense network and one of several levels, made up."""
    made = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.6, wrong_test=(1, 2))])
    folder = TrialDir(next(path for path in (made / "trials").iterdir() if "0.6" in path.name))
    result = TrialResult.model_validate_json(folder.result_file.read_bytes()).model_copy(
        update={"levels": FOUND}
    )
    folder.result_file.write_text(result.model_dump_json())
    config = json.loads(folder.config_file.read_text())
    config["sparsity"] |= {"level": 0.0, "network": "nested", "levels": [0.5, 0.9]}
    folder.config_file.write_text(json.dumps(config))
    note_digests(folder)
    return made, folder


def test_the_report_shows_each_level(run):
    made, folder = run
    text = write_report(made).read_text()
    table = text.partition("## Levels of multi-level networks")[2]
    assert f"| `{folder.path.name}` | 0.5 | 50.00 | 600 | 700 |" in table
    assert f"| `{folder.path.name}` | 0.9 | n/a | 200 | 300 |" in table
    assert f"| `{folder.path.name}` | fused | 75.00 | 800 | 800 |" in table


def test_each_level_is_tested_like_a_network_over_all_seeds(tmp_path):
    """Level 0.5 errs on 1 and 2 test clips in the two seeds and 1 selection clip; 0.9 has no
    classifier of its own.
    """
    made = make_run(
        tmp_path,
        [
            Trial("joint", 0.0),
            *(Trial("joint", 0.6, seed=seed, wrong_test=(3, 4, 5)) for seed in (0, 1)),
        ],
        copies=1,
    )
    for folder in (TrialDir(path) for path in (made / "trials").iterdir() if "0.6" in path.name):
        result = TrialResult.model_validate_json(folder.result_file.read_bytes()).model_copy(
            update={"levels": FOUND}
        )
        folder.result_file.write_text(result.model_dump_json())
        seed = folder.load_config().seed
        scores("b", SELECTION, (7,), labelled=True).save(folder.level_scores("0.5", "selection"))
        scores("c", TEST, range(seed + 1), labelled=False).save(folder.level_scores("0.5", "test"))
        note_digests(folder)
    members = collect(made, make_sweep())
    row = finalize(made, make_sweep(), members, {}).rows[1]
    (level,) = row.levels
    assert (level.level, level.test.right, level.test.clips, level.selection.right) == (
        "0.5",
        TEST - 1,
        TEST,
        SELECTION - 1,
    )
    assert (level.clean.right, level.clean.clips) == (TEST - 1, TEST - 1)  # clip 0 is a copy
    assert level.seeds.test_mean == pytest.approx(1 - 1.5 / TEST)
    text = write_report(made).read_text()
    table = text.partition("## Levels of multi-level networks")[2]
    assert (
        f"| `{row.trials[0]}` | 0.5 | 50.00 | 96.67 ± 3.28 | 95.00 ± 2.36 (n=2) | 600 | 700 |"
        in table
    )
    assert f"| `{row.trials[0]}` | 0.9 | n/a | n/a | n/a | 200 | 300 |" in table
    assert (
        f"| `{row.trials[0]}` | fused | 75.00 | 90.00 ± 5.48 | 90.00 ± 0.00 (n=2) | 800 | 800 |"
        in table
    )
    assert "0.5" in (made / "report" / "tables" / "levels.csv").read_text().splitlines()[1]
    panels, _ = level_panels(FinalEvaluation.load(made).rows, load_trials(made))
    assert [
        (line.kind, [(point.level, point.top1) for point in line.points]) for line in panels[""]
    ] == [
        ("flat", [(0.0, 1.0)]),
        ("levels", [(0.5, pytest.approx(1 - 1 / TEST))]),
        ("ensemble", [(0.0, 0.9)]),
    ]


def test_the_report_shows_how_often_each_expert_of_a_mixture_is_chosen(run):
    made, folder = run
    result = folder.load()
    assert "clips %" not in write_report(made).read_text()
    levels = tuple(
        level.model_copy(update={"clip_share": share})
        for level, share in zip(FOUND, (1.0, 0.125, None), strict=True)
    )
    folder.result_file.write_text(result.model_copy(update={"levels": levels}).model_dump_json())
    table = write_report(made).read_text().partition("## Levels of multi-level networks")[2]
    assert [
        line.split(" | ")[-2:]
        for line in table.splitlines()
        if line.startswith(f"| `{folder.path.name}`")
    ][:3] == [
        ["700", "100.00 |"],
        ["300", "12.50 |"],
        ["800", " |"],
    ]


def test_a_report_of_single_networks_has_no_such_table(tmp_path):
    assert "## Levels" not in write_report(make_run(tmp_path, [Trial("joint", 0.0)])).read_text()


def test_tracking_shows_each_level(run):
    known = final_metrics(run[1])
    assert {name: value for name, value in known.items() if name.startswith("level/")} == {
        "level/0.5": 0.5
    }


def test_several_levels_are_not_taken_for_a_dense_network(run):
    made, _ = run
    members = collect(made, make_sweep())
    assert [member.dense for member in members] == [True, False]
    rows = {row.name: row for row in finalize(made, make_sweep(), members, {}).rows}
    # of the dense network of the sweep
    assert rows["joint-0.6"].share_of_dense == pytest.approx(0.4)
    alone = finalize(made, make_sweep(), members[1:], {}).rows[0]
    assert alone.share_of_dense is None  # its own size says nothing of a dense network


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"network": "nested", "levels": [0.5, 0.9], "structure": "channel"},
            "network nested .* needs structure weight",
        ),
        (
            {"network": "experts", "levels": [0.5, 0.50000001]},
            "levels must differ within six digits",
        ),
        (
            {"network": "mixture", "levels": [0.5, 0.9], "active": 3},
            "active must be at most the number of levels",
        ),
        ({"network": "experts", "levels": [0.5]}, "levels must name at least two different levels"),
    ],
)
def test_settings_that_do_not_fit(settings, said):
    with pytest.raises(ValidationError, match=said):
        SparsityConfig.model_validate(settings)


def test_what_is_removed_in_a_few_words():
    assert [
        SparsityConfig(**settings).described
        for settings in ({}, {"level": 0.95}, {"level": "learned", "target": 0.5})
    ] == [
        "0",
        "0.95",
        "learned, target 0.5",
    ]
    several = SparsityConfig(network="mixture", levels=(0.6, 0.95), active=1)
    assert several.described == "mixture 0.6 0.95"
    assert several.at(0.95) == SparsityConfig(level=0.95, active=1)
