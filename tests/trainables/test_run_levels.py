"""One trial of several levels from store to files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.trainables.one_trial import CPU, run_trial, write_synthetic
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.errors import Interrupted, TrialFailed
from trainables.contract.scores import Scores
from trainables.cost.counting.levels import count_trial
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.store.reading import Store
from trainables.deploy.form import deploy, load_deploy
from trainables.deploy.predict import score_clips, score_store
from trainables.layouts import LAYOUTS
from trainables.sparsity.masks import removed_count

SETTINGS = {
    "experts": {"network": "experts", "fusion": "concat", "divergence": 0.1},
    "nested": {"network": "nested"},
    "mixture": {"network": "mixture", "active": 1},
}


@pytest.fixture(autouse=True, scope="module")
def quick_latency():
    """One call instead of seconds of them: nothing here looks at times."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WARMUP_CALLS", "FEWEST_CALLS", "TIMED_CALLS"):
            patch.setattr(f"trainables.cost.measured.{name}", 1)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("data") / "synth")


def config_of(store, kind, **sparsity):
    return TrialConfig.model_validate(
        {
            "data": {
                "store": str(store),
                "protocol": "xsub",
                "frames": 16,
                "selection": {"fraction": 0.3},
            },
            "model": {"backbone": "hpi_gcn_rp", "channels": 8, "stages": [1, 1]},
            "sparsity": {"levels": [0.5, 0.9], "warmup": 0.5, **SETTINGS[kind], **sparsity},
            "train": {
                "epochs": 4,
                "batch_size": 6,
                "lr": 0.05,
                "warmup_epochs": 1,
                "milestones": [3],
            },
        }
    )


@pytest.fixture(scope="module", params=SETTINGS)
def trial(request, store, tmp_path_factory):
    """(kind, configuration, folder, result) of one trial per kind."""
    config, out = (
        config_of(store, request.param),
        TrialDir(tmp_path_factory.mktemp(request.param) / "trial"),
    )
    return request.param, config, out, run_trial(config, out)


def test_a_trial_leaves_every_file_and_the_levels_beside_them(store, trial):
    _, config, out, result = trial
    assert run_trial(config, out) == result  # complete: returned as it is
    assert result.kept_epoch >= 2  # never from the dense warm-up
    assert [level.level for level in result.levels] == ["0.5", "0.9", "fused"]
    assert json.loads(out.levels_file.read_text()) == [
        level.model_dump() for level in result.levels
    ]
    fused = result.levels[-1]
    assert (fused.selection_top1, fused.nonzero_params) == (
        result.selection_top1,
        result.cost.nonzero_params,
    )
    opened = Store.open(store)
    split, ids = opened.split("xsub", config.data.selection), opened.column("id")
    for level in result.levels[:-1]:
        selection, test = (
            Scores.load(out.level_scores(level.level, part)) for part in ("selection", "test")
        )
        assert list(selection.ids) == list(ids[split.selection])
        assert list(test.ids) == list(ids[split.test])
        assert test.labels is None
        assert level.selection_top1 == pytest.approx(
            (selection.logits.argmax(axis=1) == selection.labels).mean()
        )
    assert not np.array_equal(
        Scores.load(out.level_scores("0.5", "test")).logits,
        Scores.load(out.level_scores("0.9", "test")).logits,
    )


def test_what_is_scored_is_what_is_shipped(store, trial):
    """From the file: the whole and every level, through a store and from raw clips."""
    kind, config, out, result = trial
    opened, shipped = Store.open(store), load_deploy(out.deploy_file)
    split = opened.split("xsub", config.data.selection)
    stored = Scores.load(out.test_scores)
    found = score_store(shipped, opened, split.test, config.data, CPU)
    assert np.abs(found.logits - stored.logits).max() < 1e-4  # another batch size: rounding
    for name, level in shipped.levels().items():
        alone = score_store(level, opened, split.test, config.data, CPU)
        assert (
            np.abs(alone.logits - Scores.load(out.level_scores(name, "test")).logits).max() < 1e-4
        )
    clips = [np.random.default_rng(0).normal(size=(1, 12, 17, 3)).astype(np.float32)]
    assert score_clips([(shipped, config.data)], clips, opened.info)[0].shape == (1, 4)
    assert result.cost.deploy_params == sum(parameter.numel() for parameter in shipped.parameters())
    if kind == "nested":
        levels = [Scores.load(out.level_scores(name, "test")).logits for name in ("0.5", "0.9")]
        mean = sum(torch.from_numpy(each).softmax(dim=1) for each in levels) / 2
        assert (mean.log() - torch.from_numpy(stored.logits)).abs().max() < 1e-5


def test_sizes_are_exact(trial):
    kind, config, _, result = trial
    cost = result.cost
    counted = count_trial(config, LAYOUTS["coco17"], classes=4, persons=1)
    levels = [0.5] if kind == "nested" else [0.5, 0.9]
    assert cost.params == counted.training.params
    assert cost.nonzero_params == counted.nonzero_params(config.sparsity)
    assert cost.maskable_params == len(levels) * counted.maskable_params
    assert cost.removed_params == sum(
        removed_count(sum(block), level) for level in levels for block in counted.maskable
    )


def test_a_mixture_says_how_often_each_expert_is_chosen(store, trial):
    kind, config, out, result = trial
    shares = [level.clip_share for level in result.levels]
    if kind != "mixture":
        assert shares == [None, None, None]
        return
    form, opened = load_deploy(out.deploy_file), Store.open(store)
    indices = opened.split("xsub", config.data.selection).selection
    held_out = Batches(opened, indices, config.data, Dealing(5))
    counts = [0, 0]
    for batch in held_out.epoch(0):
        gate = form.choice(form.gate.features(batch.x))
        for row in gate.tolist():  # one active expert
            counts[row.index(max(row))] += 1
    assert shares == [*(count / result.selection_clips for count in counts), None]
    assert sum(counts) == result.selection_clips


def test_without_losses_of_their_own_experts_have_no_scores_but_sizes(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    result = run_trial(config_of(store, "experts", expert_losses=False), out)
    assert [level.selection_top1 for level in result.levels[:-1]] == [None, None]
    assert result.levels[0].nonzero_params > result.levels[1].nonzero_params > 0
    assert not (out.path / "levels").exists()


def test_interrupted_and_continued_gives_the_same_logits(store, tmp_path, trial):
    kind, _, whole, _ = trial
    if kind != "nested":
        pytest.skip("the schedule's own tests hold the others to it")
    parts = TrialDir(tmp_path / "parts")
    for stop_after in (2, 3):
        count = iter(range(100))
        with pytest.raises(Interrupted):
            run_trial(
                config_of(store, kind),
                parts,
                should_stop=lambda c=count, s=stop_after: next(c) == s,
            )
    run_trial(config_of(store, kind), parts)
    assert np.array_equal(
        Scores.load(whole.test_scores).logits, Scores.load(parts.test_scores).logits
    )


def test_a_folding_that_is_wrong_in_one_level_fails_the_trial(store, tmp_path, monkeypatch):
    def broken(model, *, frames):
        shipped = deploy(model, frames=frames)
        shipped.members[1].head.fc.weight.mul_(1 + 1e-4)
        return shipped

    monkeypatch.setattr("trainables.proof.deploy", broken)
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        run_trial(config_of(store, "nested"), TrialDir(tmp_path / "trial"))


def test_results_of_single_networks_need_no_levels():
    fields = {
        name: 1
        for name, field in TrialResult.model_fields.items()
        if field.is_required() and name not in ("trial", "cost")
    }
    cost = {
        name: "" if field.annotation is str else 1
        for name, field in TrialResult.model_fields["cost"].annotation.model_fields.items()
        if field.is_required()
    }
    result = TrialResult.model_validate({**fields, "trial": "t", "cost": cost})
    assert result.levels == ()
    assert "levels" not in result.metrics()
