"""One trial from store to files: complete, continued, repeated, failed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.trainables.one_trial import run_trial, write_synthetic
from tests.trainables.trial_configs import build_blocks, config_of
from trainables import run
from trainables.contract.artifacts import LATENCIES, TrialDir
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import TrialConfig
from trainables.contract.errors import Interrupted, TrialFailed, UserError
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store
from trainables.deploy.form import load_deploy
from trainables.deploy.timing import structure_of
from trainables.models.backbone import Backbone
from trainables.sparsity.masks import removed_count
from trainables.training.evaluate import score


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("data") / "synth")


@pytest.mark.parametrize("level", [0.0, 0.8])
def test_a_trial_leaves_every_file_and_the_asked_number_of_zeros(store, tmp_path, level):
    out, reports = TrialDir(tmp_path / "trial"), []
    result = run_trial(config_of(store, level), out, report=reports.append)
    assert [row["epoch"] for row in reports] == [0, 1, 2, 3]
    names = {path.name for path in out.path.iterdir()} - {".lock"}
    scores = {"scores.selection.parquet", "scores.test.parquet"}
    sparse = {"sparsity.json"} if level else set()
    assert names == scores | sparse | {
        "config.json",
        "metrics.parquet",
        "checkpoint",
        "deploy.pt",
        "cost.json",
        "result.json",
    }
    assert result.digests == out.digests()
    assert set(result.digests) == scores | {"config.json", "deploy.pt"}
    assert result.store_checksums == Store.open(store).info.checksums
    assert result.store_meaning == Store.open(store).info.meaning
    deployed = load_deploy(out.deploy_file)
    sizes = [
        sum(c.weight.numel() for c in block.modules() if isinstance(c, torch.nn.Conv2d))
        for block in build_blocks(store, level)
    ]
    assert result.cost.removed_params == sum(removed_count(size, level) for size in sizes)
    assert result.cost.nonzero_params == result.cost.params - result.cost.removed_params
    assert result.cost.deploy_params == sum(p.numel() for p in deployed.parameters())
    assert result.cost.deploy_max_abs_diff < 1e-3
    if level:
        assert result.kept_epoch >= 2  # never from the dense warm-up


def test_a_store_at_a_uri_and_another_residence_give_the_same_trial(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    config = config_of(store, epochs=1, warmup_epochs=0, milestones=[])
    remote = config.data.model_copy(update={"store": f"file://{store}", "residence": "host"})
    scores = []
    for name, data in {"path": config.data, "uri": remote}.items():
        out = TrialDir(tmp_path / name)
        run_trial(config.model_copy(update={"data": data}), out, root=tmp_path / "elsewhere")
        scores.append(Scores.load(out.test_scores))
    assert scores[0].ids == scores[1].ids
    assert np.array_equal(scores[0].logits, scores[1].logits)
    assert len(list((tmp_path / "cache" / "stores").glob("synth-*"))) == 1


def test_scores_align_with_the_split_and_test_labels_stay_away(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    config = config_of(store)
    result = run_trial(config, out)
    opened = Store.open(store)
    split, ids = opened.split("xsub", config.data.selection), opened.column("id")
    selection, test = Scores.load(out.selection_scores), Scores.load(out.test_scores)
    assert list(selection.ids) == list(ids[split.selection])
    assert list(test.ids) == list(ids[split.test])
    assert np.array_equal(selection.labels, opened.column("label")[split.selection])
    assert test.labels is None
    assert result.selection_top1 == pytest.approx(
        (selection.logits.argmax(axis=1) == selection.labels).mean()
    )


def test_test_clips_are_never_dealt_with_labels(store, tmp_path, monkeypatch):
    from trainables.data.batches.batches import Batches

    dealt = []

    def remember(opened, indices, data, dealing):
        dealt.append((set(indices.tolist()), dealing.labelled))
        return Batches(opened, indices, data, dealing)

    monkeypatch.setattr("trainables.inputs.Batches", remember)
    config = config_of(store)
    run_trial(config, TrialDir(tmp_path / "trial"))
    test = set(Store.open(store).split("xsub", config.data.selection).test.tolist())
    assert [labelled for clips, labelled in dealt if clips & test] == [False]


def test_which_trials_ran_before_in_the_process_changes_nothing(store, tmp_path):
    """Workers are kept for the trials to come, with whatever they remember."""

    def left(name, level):
        out = TrialDir(tmp_path / name)
        result = run_trial(config_of(store, level), out)
        same = result.model_copy(update={"trial": "", "seconds": 0.0, "clips_per_s": 0.0})
        scores, form = out.test_scores.read_bytes(), load_deploy(out.deploy_file).state_dict()
        return same.model_dump(exclude={"digests"}), scores, form

    first = left("first", 0.8)
    left("between", 0.0)
    left("other", 0.5)
    second = left("second", 0.8)
    assert first[:2] == second[:2]
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


def test_files_of_a_process_killed_while_writing_are_cleared(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    leftover = out.path / "checkpoint" / ".last.pt.0123abcd.partial"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    run_trial(config_of(store), out)
    assert not leftover.exists()


def test_the_weights_that_are_shipped_are_those_of_the_epoch_that_is_said(
    store, tmp_path, monkeypatch
):
    """The second of four epochs is made the best one."""
    seen = []

    def evaluate(fit, *_selection):
        seen.append(fit.model.state_dict()["head.fc.weight"].clone())
        return {"selection_loss": 1.0, "selection_top1": (0.1, 0.9, 0.2, 0.3)[fit.progress.epoch]}

    monkeypatch.setattr("trainables.training.loop.Fit._evaluate", evaluate)
    out = TrialDir(tmp_path / "trial")
    assert run_trial(config_of(store), out).kept_epoch == 1
    shipped = load_deploy(out.deploy_file).head.fc.weight
    assert [torch.equal(shipped, weight) for weight in seen] == [False, True, False, False]


def test_epochs_are_evaluated_in_the_deploy_form_with_masks_and_give_the_same(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        TrialConfig, "evaluates_deployed", lambda config, *_: config.train.fast == "auto"
    )
    kinds, histories = [], []

    def remember(model, batches):
        kinds.append(type(model).__name__)
        return score(model, batches)

    monkeypatch.setattr("trainables.training.loop.score", remember)
    for fast in ("auto", "off"):
        reports = []
        run_trial(
            config_of(store, 0.8, fast=fast), TrialDir(tmp_path / fast), report=reports.append
        )
        histories.append([row["selection_loss"] for row in reports])
    assert kinds == ["DeployForm"] * 4 + ["HPIGCNOP"] * 4
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


@pytest.mark.parametrize("name", BACKBONES.own)
def test_cards_say_which_networks_choose(name):
    card = BACKBONES.find(name)
    assert card.load().continuous == card.continuous


def test_a_network_with_choices_is_evaluated_as_it_trains(store):
    inputs = SimpleNamespace(config=config_of(store), store=Store.open(store))
    many = SimpleNamespace(clips=10_000)
    assert run._evaluated(SimpleNamespace(continuous=False), inputs, many) is None
    assert run._evaluated(SimpleNamespace(continuous=True), inputs, None) is None
    assert run._evaluated(SimpleNamespace(continuous=True), inputs, many) is not None


@pytest.mark.parametrize("timed", [False, True])
def test_a_trial_times_its_network_only_where_the_sweep_chooses_by_it(
    store, tmp_path, monkeypatch, timed
):
    calls = []
    monkeypatch.setattr(
        "trainables.deploy.timing.latency_ms", lambda _, clips: float(calls.append(1) or len(clips))
    )
    out = TrialDir(tmp_path / "trial")
    cost = run_trial(
        config_of(store, epochs=1, warmup_epochs=0, milestones=[]), out, timed=timed
    ).cost
    assert cost.deploy_structure == structure_of(load_deploy(out.deploy_file))
    assert len(calls) == (2 if timed else 0)
    expected = (1.0, 64.0, "in trial") if timed else (None, None, None)
    figures = (cost.deploy_latency_ms, cost.deploy_batch64_latency_ms, cost.latency_measured)
    assert figures == expected
    assert set(LATENCIES).isdisjoint(out.load().metrics()) != timed


def test_a_complete_trial_is_returned_as_it_is(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    first = run_trial(config_of(store), out)
    stamp = out.result_file.stat().st_mtime_ns
    reports = []
    assert run_trial(config_of(store), out, report=reports.append) == first
    assert reports == []
    assert out.result_file.stat().st_mtime_ns == stamp


def test_interrupted_and_continued_gives_the_same_logits(store, tmp_path):
    whole, parts = TrialDir(tmp_path / "whole"), TrialDir(tmp_path / "parts")
    run_trial(config_of(store, 0.8), whole)
    for stop_after in (1, 2, 1):
        steps = iter(range(100))
        with pytest.raises(Interrupted):
            run_trial(
                config_of(store, 0.8),
                parts,
                should_stop=lambda c=steps, s=stop_after: next(c) == s,
            )
        assert not parts.is_complete()
    run_trial(config_of(store, 0.8), parts)
    assert np.array_equal(
        Scores.load(whole.test_scores).logits, Scores.load(parts.test_scores).logits
    )


def test_with_nothing_held_out_the_last_epoch_is_shipped(store, tmp_path):
    config = config_of(store)
    config = config.model_copy(
        update={
            "data": config.data.model_copy(
                update={"selection": config.data.selection.model_copy(update={"kind": "none"})}
            )
        }
    )
    out = TrialDir(tmp_path / "trial")
    result = run_trial(config, out)
    assert result.kept_epoch == 3
    assert result.selection_top1 is None
    assert not out.selection_scores.exists()
    assert len(Scores.load(out.test_scores).ids) > 0


def test_a_diverging_trial_says_why_and_keeps_the_reason(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    with pytest.raises(TrialFailed, match="train_loss must be finite"):
        run_trial(config_of(store, lr=1e12, warmup_epochs=0), out)
    assert "train_loss must be finite" in json.loads(out.failure_file.read_text())["reason"]
    assert not out.is_complete()


def test_a_missing_store_fails_the_attempt_and_not_the_trial(store, tmp_path):
    out = TrialDir(tmp_path / "trial")
    with pytest.raises(UserError, match="must be a store"):
        run_trial(config_of(tmp_path / "nowhere"), out)
    assert out.load_failure() is None  # put the store right and the same trial goes on


def test_two_processes_cannot_train_one_trial(store, tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr("trainables.run.LOCK_PATIENCE_S", 0.3)
    out = TrialDir(tmp_path / "trial")
    out.path.mkdir()
    with (out.path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="one process at a time"):
            run_trial(config_of(store), out)


def test_final_scores_average_all_views_and_epochs_look_at_one(store, tmp_path, monkeypatch):
    from trainables.data.batches.batches import Batches, Dealing
    from trainables.training.evaluate import score

    config = config_of(store)
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"pipeline": "pyskl", "views": 3, "frames": 5})
        }
    )
    dealt = []

    def remember(*arguments):
        dealt.append(Batches(*arguments))
        return dealt[-1]

    monkeypatch.setattr("trainables.inputs.Batches", remember)
    out = TrialDir(tmp_path / "trial")
    result = run_trial(config, out)
    opened = Store.open(store)
    split = opened.split("xsub", config.data.selection)
    assert [batches.clips for batches in dealt[1:]] == [
        len(split.selection),
        3 * len(split.selection),
        3 * len(split.test),
    ]
    scores, model = Scores.load(out.test_scores), load_deploy(out.deploy_file)
    assert list(scores.ids) == list(opened.column("id")[split.test])
    views = []
    for batch in Batches(opened, split.test, config.data, Dealing(3)).epoch(0):
        views.append(model(batch.x).softmax(dim=1).mean(dim=0))  # one clip
    torch.testing.assert_close(
        torch.from_numpy(scores.logits).softmax(dim=1),
        torch.stack(views).detach(),
        atol=1e-6,
        rtol=0,
    )
    probe = Batches(opened, split.selection, config.data, Dealing(4, views=1))
    last = score(model, probe.epoch(0))[1]
    labels = torch.from_numpy(opened.column("label")[split.selection])
    assert result.selection_loss != pytest.approx(
        torch.nn.functional.cross_entropy(last, labels).item()
    )


def limit_memory(monkeypatch, fits, sizes, after=0):
    """From the call `after` on, training steps of more than `fits` clips do not fit."""
    objective = Backbone.objective

    def limited(self, clips, labels):
        sizes.append(len(clips))
        if len(clips) > fits and len(sizes) > after:
            self.features(clips)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return objective(self, clips, labels)

    monkeypatch.setattr(Backbone, "objective", limited)


def test_a_trial_whose_batches_do_not_fit_takes_halves_and_says_so(store, tmp_path, monkeypatch):
    config, weights = config_of(store, 0.5), []
    for name, after in {"first step": 0, "later": 1}.items():
        out, sizes, warned = TrialDir(tmp_path / name), [], []
        with monkeypatch.context() as patch:
            limit_memory(patch, config.train.batch_size // 2, sizes, after)
            result = run_trial(config, out, warn=warned.append)
        assert max(sizes[after + 1 :]) == config.train.batch_size // 2
        assert result.warnings[-1] == warned[0]
        assert warned[0].startswith("a batch of 6 did not fit into memory: from epoch 1 on every")
        weights.append(load_deploy(out.deploy_file).state_dict())
    for name in weights[0]:  # of the steps before the halving nothing is left
        assert torch.equal(weights[0][name], weights[1][name])


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("step", "half a batch of 6 does not fit into memory in epoch 1: CUDA out of memory."),
        ("deploy", "memory does not suffice: CUDA out of memory."),
    ],
)
def test_a_trial_that_does_not_fit_at_all_fails_with_its_reason(
    store, tmp_path, monkeypatch, where, reason
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nGPU 0 has a total capacity of ...")

    monkeypatch.setattr(
        *((Backbone, "objective") if where == "step" else (run, "prove_folding")), full
    )
    out = TrialDir(tmp_path / "trial")
    config = config_of(store, epochs=1, warmup_epochs=0, milestones=[])
    with pytest.raises(TrialFailed) as caught:
        run_trial(config, out)
    assert str(caught.value) == out.load_failure() == reason


def test_neither_a_trial_nor_its_deploy_form_loads_the_compiler_of_torch(store, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.trainables.one_trial import run_trial\n"
        "from tests.trainables.trial_configs import config_of\n"
        "from trainables.contract.artifacts import TrialDir\n"
        "from trainables.deploy.form import load_deploy\n"
        "out = TrialDir(Path(sys.argv[2]))\n"
        "run_trial(config_of(sys.argv[1], 0.5, epochs=2, milestones=[1]), out)\n"
        "load_deploy(out.deploy_file)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    asked = [sys.executable, "-c", code, str(store), str(tmp_path / "trial")]
    assert subprocess.run(asked, cwd=Path(__file__).parents[2], check=False).returncode == 0
