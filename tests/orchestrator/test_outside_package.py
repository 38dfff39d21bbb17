"""A backbone of another package is swept over sparsity levels without an edit here: what is known
before, one trial, and a whole sweep through the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.planning.catalogue import catalogue
from orchestrator.planning.check import checked_sweep
from orchestrator.planning.plan import plan
from orchestrator.record.journal import read_journal
from orchestrator.search.protocol import Outcome
from orchestrator.sweep.strategies import NoOptions
from orchestrator.trials.space import all_trials
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.sweep_files import written
from tests.trainables.one_trial import run_trial
from trainables.contract.artifacts import TrialDir
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.cost.counting.count import count
from trainables.data.store.reading import Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.deploy.form import load_deploy
from trainables.layouts import load_layout

OUTSIDE = Path(__file__).parents[1] / "outside"
SWEEP = """
version: 1
name: hops
data: {store: data, protocol: xsub, frames: 8, selection: {fraction: 0.3}}
parameters:
  sparsity.level: [0, 0.6, 0.9]
  model.options: [{hops: 1}, {hops: 2}]
model: {backbone: "hop_mixer.card:CARD", channels: 8, stages: [1]}
train: {epochs: 2, batch_size: 4, lr: 0.05, warmup_epochs: 0}
resources: {gpus: 0, cpus: 1}
ensembles:
  - {name: all, over: sparsity.level}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("outside") / "data"
    config = SyntheticConfig(classes=3, clips_per_class=12, subjects=4, views=2, frames=10)
    made = synthetic_recordings(config, load_layout("coco17"))
    write_store(path, made.clips, made.description)
    return path


@pytest.fixture
def folder(tmp_path, store, monkeypatch) -> Path:
    """An empty working directory beside the store, from which the package can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(OUTSIDE)
    (tmp_path / "data").symlink_to(store)
    return tmp_path


def test_it_is_checked_planned_and_counted_by_its_card(folder):
    sweep = checked_sweep(written(folder, SWEEP))
    found = plan(sweep)
    assert found.trials == 6
    assert {trial.config.model.backbone for trial in all_trials(sweep)} == {"hop_mixer.card:CARD"}
    assert [dict(cell.axes)["sparsity.level"] for cell in found.cells] == [0.0, 0.6, 0.9]
    assert sorted({variant.settings["model.options"] == {"hops": 1} for variant in found.variants})
    known = ModelConfig(backbone="hop_mixer.card:CARD")
    assert (known.stages, known.kernel_size, known.temporal) == ((2, 2), 7, "conv")


def test_an_option_that_is_its_default_makes_no_other_trial(folder):
    text = SWEEP.replace("[{hops: 1}, {hops: 2}]", "[{}, {hops: 2}]")
    trials = all_trials(checked_sweep(written(folder, text)))
    assert [trial.config.model.options for trial in trials] == [{}] * 3


@pytest.mark.parametrize(
    ("written_as", "problem"),
    [
        ("{hops: 9}", "model.options: options hops: should be less than or equal to 6, got 9"),
        ("{hop: 1}", "model.options: options hop: extra inputs are not permitted, got 1"),
    ],
)
def test_what_its_options_refuse_is_said_at_their_line(folder, written_as, problem):
    text = SWEEP.replace("[{hops: 1}, {hops: 2}]", written_as)
    with pytest.raises(UserError, match=r"s\.yaml:7 parameters\.") as caught:
        checked_sweep(written(folder, text))
    assert problem in str(caught.value)


def test_options_of_a_backbone_that_has_none(folder):
    text = SWEEP.replace("hop_mixer.card:CARD", "st_gcn")
    with pytest.raises(UserError, match=r"model\.options: has no effect: none of the sweep's back"):
        checked_sweep(written(folder, text))
    with pytest.raises(ValueError, match=r"options must be left out: st_gcn has none, got"):
        ModelConfig(backbone="st_gcn", options={"hops": 1})


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        ("hop_mixer.card:CRAD", "module hop_mixer.card has no CRAD, did you mean 'CARD'?"),
        ("hop_mixer.net:HopMixer", "must be a BackboneCard, got the class HopMixer"),
        ("no_package.net:CARD", "there is no module no_package; install its package (pip install"),
        ("hop_mixer", "or package.module:NAME, got 'hop_mixer'"),
    ],
)
def test_a_card_that_is_not_there_is_one_line_of_the_file(folder, backbone, problem):
    text = SWEEP.replace("hop_mixer.card:CARD", backbone)
    with pytest.raises(UserError) as caught:
        checked_sweep(written(folder, text))
    (line,) = caught.value.problems
    assert "s.yaml:8 model.backbone: " in line
    assert problem in line


def test_an_installed_package_gives_it_a_name(folder, monkeypatch):
    """An entry point, as pip writes it beside the package."""
    info = folder / "site" / "hop_mixer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hop_mixer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[orchestrate.backbones]\nhop_mixer = hop_mixer.card:CARD\n"
    )
    monkeypatch.syspath_prepend(info.parent)
    text = SWEEP.replace("hop_mixer.card:CARD", "hop_mixer")
    assert len(all_trials(checked_sweep(written(folder, text)))) == 6
    listed = catalogue(load_layout("coco17"), classes=3, frames=8, persons=1)
    assert [entry.backbone for entry in listed.backbones] == [*BACKBONES.own, "hop_mixer"]
    assert listed.backbones[-1].options["options"] == {}


@pytest.mark.parametrize("number", [0, 5])
def test_a_trial_trains_ships_and_costs_what_was_counted(folder, number):
    config = all_trials(checked_sweep(written(folder, SWEEP)))[number].config
    out = TrialDir(folder / "trial")
    result = run_trial(config, out)
    counted = count(
        config.model, load_layout("coco17"), classes=3, persons=1, frames=8, stream=StreamConfig()
    )
    assert result.cost.params == counted.training.params
    assert result.cost.deploy_params == counted.deploy.params
    assert result.cost.nonzero_params == counted.nonzero_params(config.sparsity)
    form = load_deploy(out.deploy_file)
    assert form.spec.model.options == config.model.options
    assert type(out.load_config().model.card).__name__ == "BackboneCard"


def test_its_reader_fills_a_store(folder, capsys):
    (folder / "src").mkdir()
    still = np.random.default_rng(0).normal(size=(4, 20, 3)).tolist()
    for person in (1, 2, 3):
        record = {"label": person % 2, "person": person, "joints": still}
        (folder / "src" / f"c{person}.json").write_text(json.dumps(record))
    code, out, _ = run_captured(
        capsys, "data", "import", "other", "walks.card:CARD", "src", "store"
    )
    assert code == 0
    assert "store: walks, 3 clips, 2 classes" in out
    assert Store.open(folder / "store").info.protocols["xsub"].test == (3,)


def test_its_reader_is_named_where_it_is_not_there(folder, capsys):
    code, _, err = run_captured(capsys, "data", "import", "other", "walk", "a", "b")
    assert (code, err) == (2, "READER: must be package.module:NAME, got 'walk'\n")


def test_its_search_and_its_strategy_are_named_in_the_sweep(folder):
    text = SWEEP.replace(
        "over: sparsity.level}", 'over: sparsity.level, method: "choices.best_half:CARD"}'
    )
    text += 'method: {name: "choices.first_few_card:CARD", trials_per_cell: 2}\n'
    assert len(all_trials(checked_sweep(written(folder, text)))) == 6


def test_its_search_ends_a_cell_that_gets_no_better(folder):
    from choices.first_few import FirstFew

    search = FirstFew(range(9))
    for asked, top1 in enumerate([0.5, 0.6, 0.4, 0.6, 0.1]):
        assert search.ask() == asked
        search.tell(f"t{asked}", Outcome("finished", SimpleNamespace(selection_top1=top1)))
    assert search.ask() is None


def test_its_strategy_keeps_the_better_half(folder):
    from choices.best_half import choose

    values = np.zeros((3, 2, 2), dtype=np.float32)
    values[0, :, 1] = values[2, 1, 1] = 1.0
    sources = Sources(("a", "b", "c"), values, np.array([1, 1]), ("x", "y"), {})
    assert choose(sources, NoOptions()) == {"a": 0.5, "c": 0.5}


@pytest.mark.full
def test_a_whole_sweep_trains_it_in_workers(folder):
    """Ray's workers import the package from PYTHONPATH, as the command does. A search and a
    strategy of strangers decide what is trained and what is combined.
    """
    text = SWEEP.replace("0, 0.6, 0.9", "0, 0.9").replace("cpus: 1", "cpus: 1, max_concurrent: 1")
    text = text.replace(
        "over: sparsity.level}", 'over: sparsity.level, method: "choices.best_half:CARD"}'
    )
    text += 'method: {name: "tests.orchestrator.search.strangers:CARD", trials_per_cell: 2}\n'
    written(folder, text)
    done = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli import main; main()", "sweep", "s.yaml"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = sorted(folder.glob("runs/hops/trials/*/result.json"))
    assert len(results) == 2
    configs = [json.loads((path.parent / "config.json").read_text()) for path in results]
    assert {config["model"]["backbone"] for config in configs} == {"hop_mixer.card:CARD"}
    assert sorted(config["sparsity"]["level"] for config in configs) == [0, 0.9]
    # each cell ends with its first result, and of two sources the strategy keeps one
    discarded = [
        event
        for event in read_journal(folder / "runs/hops/journal.jsonl")
        if event["event"] == "trial_discarded"
    ]
    assert len(discarded) == 2
    evaluation = json.loads((folder / "runs/hops/evaluation.json").read_text())
    (ensemble,) = [row for row in evaluation["rows"] if row["name"] == "all"]
    assert sorted(ensemble["weights"].values()) == [1.0]
