"""One sparse trial from store to files: levels, masks, penalties, rounds, what it starts from."""

import json
import math

import numpy as np
import pytest
import torch

from tests.trainables.one_trial import CPU, run_trial, write_synthetic
from tests.trainables.trial_configs import build_blocks, config_of, sparse
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import ModelConfig, SparsityConfig
from trainables.contract.errors import Interrupted, TrialFailed, UserError
from trainables.contract.scores import Scores
from trainables.cost.counting.count import count
from trainables.data.store.reading import Store
from trainables.sparsity.mask_file import save_masks
from trainables.sparsity.masks import removed_count
from trainables.training.checkpoint import load_tensors


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("data") / "synth")


@pytest.mark.parametrize(
    ("gate", "asked"),
    [
        ("threshold", {"target": 0.7}),
        ("hard_concrete", {"price": 0.5}),
        pytest.param("threshold", {"price": 0.5}, marks=pytest.mark.full),
        pytest.param("hard_concrete", {"target": 0.7}, marks=pytest.mark.full),
    ],
)
def test_a_trial_that_learns_its_level_says_where_it_ended(store, tmp_path, gate, asked):
    config = config_of(store)
    sparsity = SparsityConfig(level="learned", gate=gate, warmup=0.5, **asked)
    out, reports = TrialDir(tmp_path / "trial"), []
    result = run_trial(config.model_copy(update={"sparsity": sparsity}), out, report=reports.append)
    assert [row["penalty"] > 0 for row in reports] == [sparsity.price is not None] * 2 + [False] * 2
    assert result.kept_epoch >= 2
    assert result.metrics()["level"] == result.level == reports[3]["level"]
    # gates are no parameters
    assert result.cost.params == run_trial(config, TrialDir(tmp_path / "dense")).cost.params
    if sparsity.target is not None:
        assert result.cost.removed_params == removed_count(result.cost.maskable_params, 0.7)
    found = json.loads(out.sparsity_file.read_text())
    layers = [
        (name, part)
        for block in build_blocks(store, 0.0)
        for name, part in block.named_modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    assert [tensor["name"].partition(".")[2].partition(".")[2] for tensor in found["tensors"]] == [
        name for name, _ in layers
    ]
    assert [tensor["shape"] for tensor in found["tensors"]] == [
        list(layer.weight.shape) for _, layer in layers
    ]
    assert (
        sum(tensor["kept"] for tensor in found["tensors"])
        == result.cost.maskable_params - result.cost.removed_params
    )
    assert min(tensor["kept"] for tensor in found["tensors"]) >= 1
    assert found["level"] == result.level


def test_a_learned_mask_that_cuts_the_network_in_two_fails_the_trial_once_it_is_fixed(
    store, tmp_path
):
    """One weight of each convolution is left: in the first block the second reads a channel that
    the first does not write.
    """
    weights, layers = 72 + 576 + 384 + 2304 + 128, 5
    target = (weights - layers) / (weights - 1)
    assert weights - removed_count(weights, target) == layers
    sparsity = SparsityConfig(level="learned", target=target, warmup=0.5)
    model = ModelConfig(backbone="st_gcn", channels=8, stages=(1, 1))
    config, reports = config_of(store).model_copy(update={"model": model, "sparsity": sparsity}), []
    out = TrialDir(tmp_path / "trial")
    with pytest.raises(
        TrialFailed, match=r"nothing gets through blocks\.0: use a lower sparsity\.target"
    ):
        run_trial(config, out, report=reports.append)
    assert len(reports) == 1  # the last learning epoch is not one to continue from
    assert "nothing gets through" in out.load_failure()


def test_the_penalty_is_on_during_the_warm_up_only_and_the_dense_epochs_are_never_shipped(
    store, tmp_path
):
    config = config_of(store, 0.95, epochs=5, lr=0.001, milestones=[])
    config = config.model_copy(
        update={"sparsity": config.sparsity.model_copy(update={"warmup": 0.8})}
    )
    reports, steps = [], []
    result = run_trial(
        config,
        TrialDir(tmp_path / "trial"),
        report=reports.append,
        stepped=lambda *step: steps.append(step),
    )
    assert {epoch for epoch, _, _ in steps} == {row["epoch"] for row in reports}
    assert all(1 <= step <= of for _, step, of in steps)
    assert steps[-1][1] == steps[-1][2]  # an epoch is told to its last step
    # lambda ramps from 0
    assert [row["penalty"] > 0 for row in reports] == [False, True, True, True, False]
    # though every dense epoch may be better than one of fine-tuning at this rate
    assert result.kept_epoch == 4


@pytest.mark.parametrize("sharing", ["branches", "channels", "fused"])
def test_a_trial_whose_masks_survive_fusing_can_be_interrupted_anywhere(
    store, tmp_path, sharing, monkeypatch
):
    monkeypatch.setattr("trainables.deploy.timing.latency_ms", lambda *_: 1.0)  # seconds each
    config = config_of(store, 0.8)
    config = config.model_copy(
        update={"sparsity": config.sparsity.model_copy(update={"sharing": sharing})}
    )
    whole, parts = TrialDir(tmp_path / "whole"), TrialDir(tmp_path / "parts")
    result = run_trial(config, whole, timed=True)
    for stop_after in (1, 2, 1):  # in the warm-up, twice behind it
        steps = iter(range(100))
        with pytest.raises(Interrupted):
            run_trial(config, parts, should_stop=lambda c=steps, s=stop_after: next(c) == s)
    again = run_trial(config, parts)
    assert np.array_equal(
        Scores.load(whole.test_scores).logits, Scores.load(parts.test_scores).logits
    )
    assert result.cost.removed_params == again.cost.removed_params
    layout = Store.open(store).layout
    counted = count(
        config.model, layout, classes=4, persons=1, frames=16, stream=config.data.stream_config
    )
    assert (result.cost.deploy_nonzero_params, True) == counted.deploy_nonzero_params(
        config.sparsity
    )
    assert result.kept_epoch >= 2
    assert result.cost.deploy_bytes == whole.deploy_file.stat().st_size
    assert (result.cost.compact_latency_ms is not None) == (sharing == "channels")
    found = json.loads(whole.sparsity_file.read_text())
    assert found["level"] == result.level
    assert (
        sum(math.prod(tensor["shape"]) for tensor in found["tensors"])
        == result.cost.maskable_params
    )
    assert (
        sum(tensor["kept"] for tensor in found["tensors"])
        == result.cost.maskable_params - result.cost.removed_params
    )
    assert found["counts"].startswith("convolutions" if sharing == "channels" else "fused kernels")
    shapes = {tensor["name"]: tensor["shape"] for tensor in found["tensors"]}
    fused, branch = "blocks.0.temporal.body", "blocks.0.temporal.body.branches.origin.conv"
    assert (fused in shapes, branch in shapes) == (sharing != "channels", sharing == "channels")


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_trial_can_start_from_the_weights_that_another_one_ships(store, tmp_path, keep):
    source = TrialDir(tmp_path / "source")
    run_trial(config_of(store, keep=keep, epochs=2, milestones=[]), source)
    assert source.kept_file == (source.best_file if keep == "best" else source.checkpoint_file)
    shipped = load_tensors(source.kept_file, CPU)["model"]
    config = config_of(
        store, 0.8, epochs=2, milestones=[], warmup_epochs=0, lr=1e-12, weight_decay=0.0
    )
    sparsity = config.sparsity.model_copy(update={"source": str(source.path)})
    out = TrialDir(tmp_path / "sparse")
    run_trial(config.model_copy(update={"sparsity": sparsity}), out, source=source.path)
    started = load_tensors(out.checkpoint_file, CPU)["model"]
    heads = [name for name in shipped if name.startswith("head.")]
    assert heads
    for name in heads:
        # at this rate two epochs change nothing
        assert torch.allclose(started[name], shipped[name], rtol=0, atol=1e-9)


def removed_at(store, level):
    """By scope block."""
    sizes = [
        sum(c.weight.numel() for c in block.modules() if isinstance(c, torch.nn.Conv2d))
        for block in build_blocks(store, level)
    ]
    return sum(removed_count(size, level) for size in sizes)


def test_a_lottery_ticket_of_a_trained_network(store, tmp_path):
    """Its weights are those of the dense trial, where they are there; the masks go into a file,
    from which another trial is trained.
    """
    dense, ticket, again = (TrialDir(tmp_path / name) for name in ("dense", "ticket", "again"))
    run_trial(sparse(store, level=0.0), dense)
    result = run_trial(
        sparse(store, generator="supermask", **{"from": "dense"}),
        ticket,
        source=dense.path,
    )
    assert result.cost.removed_params == removed_at(store, 0.8)
    assert result.cost.nonzero_params == result.cost.params - result.cost.removed_params
    best = [torch.load(out.best_file, weights_only=True)["model"] for out in (dense, ticket)]
    name = "blocks.0.graph.embed"
    assert torch.equal(
        best[0][f"{name}.weight"], best[1][f"{name}.parametrizations.weight.original"]
    )
    masks = {
        key.replace(".parametrizations.weight.0.mask", ".weight"): mask
        for key, mask in best[1].items()
        if key.endswith(".mask")
    }
    save_masks(masks, tmp_path / "ticket.npz")
    config = sparse(
        store, generator="predefined", mask="ticket.npz", warmup=0.0, **{"from": "dense"}
    )
    result = run_trial(config, again, root=tmp_path, source=dense.path)
    assert result.cost.removed_params == removed_at(store, 0.8)
    kept = torch.load(again.best_file, weights_only=True)["model"]
    assert torch.equal(kept[f"{name}.parametrizations.weight.0.mask"], masks[f"{name}.weight"])


def test_rounds_of_rewinding_are_one_trial(store, tmp_path):
    reports = []
    out = TrialDir(tmp_path / "trial")
    result = run_trial(
        sparse(store, generator="rewinding", rounds=2, rewind_epoch=1),
        out,
        report=reports.append,
    )
    assert [row["epoch"] for row in reports] == [0, 1, 2, 3]
    # of the last round, though the others may be better
    assert (result.epochs, result.kept_epoch) == (4, 3)
    assert result.cost.removed_params == removed_at(store, 0.8)


@pytest.mark.parametrize(
    ("sparsity", "said"),
    [
        ({"from": "dense"}, "sparsity.from: 'dense' is known within a sweep alone"),
        (
            {"from": "nowhere"},
            "sparsity.from: .*nowhere: must be the folder of a finished trial, got no such folder",
        ),
        (
            {"generator": "predefined", "mask": "none.npz"},
            "sparsity.mask: .*none.npz: must be a file of masks",
        ),
        ({"generator": "rigl", "update_every": 1000}, "sparsity.update_every must be less than"),
    ],
)
def test_what_a_sparse_trial_needs_is_there_before_it_is_trained(store, tmp_path, sparsity, said):
    out, reports = TrialDir(tmp_path / "trial"), []
    with pytest.raises(UserError, match=said):
        run_trial(sparse(store, **sparsity), out, report=reports.append)
    assert reports == []
    assert out.load_failure() is None  # put right, the same trial goes on


def test_masks_that_cut_the_network_in_two_fail_the_trial(store, tmp_path):
    out, reports = TrialDir(tmp_path / "trial"), []
    with pytest.raises(
        TrialFailed,
        match=(
            r"must leave a way from the clip to the classifier, but at sparsity\.level 0\.999"
            r" nothing gets"
        ),
    ):
        run_trial(
            sparse(store, level=0.999, generator="magnitude_at_init"),
            out,
            report=reports.append,
        )
    assert reports == []
    assert "nothing gets through blocks." in out.load_failure()


def test_layers_without_weights_are_named_before_training_and_in_the_result(store, tmp_path):
    out, said = TrialDir(tmp_path / "trial"), []
    result = run_trial(sparse(store, level=0.97), out, warn=said.append, report=said.append)
    found = json.loads(out.sparsity_file.read_text())
    bare = [each["name"] for each in found["tensors"] if each["kept"] == 0]
    assert bare
    text = f"level 0.97 leaves no weight in {', '.join(bare)}"
    assert found["warnings"] == [text]
    assert result.warnings == (text,)
    assert out.load() == result
    assert said[0] == text
    assert [each["epoch"] for each in said[1:]] == [0, 1]
