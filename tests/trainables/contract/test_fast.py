"""Which fast ways a training step takes, by shapes and configuration."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.contract.config import TrialConfig
from trainables.contract.fast import (
    AS_MASKED_KERNELS,
    KEPT_ALONE,
    fast_paths,
    graph_merging_pays,
    kept_weights_pay,
    merging_pays,
)

DATA = {"store": "store", "protocol": "xsub"}
PERSONS = "absent persons once per batch, where clips have fewer"


def paths(
    model: dict[str, Any], persons: int = 2, device: str = "cpu", **train: Any
) -> tuple[str, ...]:
    config = TrialConfig.model_validate(
        {"data": DATA, "model": model, "train": {"batch_size": 16} | train}
    )
    return fast_paths(config, joints=25, persons=persons, device=device)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"backbone": "hpi_gcn_rp"},
            (
                "Rep-TCN as one convolution in 9 of 9 blocks",
                "graph convolution as one in 9 of 9 blocks",
                PERSONS,
            ),
        ),
        ({"backbone": "hpi_gcn_op"}, ("Rep-TCN as one convolution in 9 of 9 blocks", PERSONS)),
        ({"backbone": "st_gcn"}, (PERSONS,)),
    ],
)
def test_paths_of_networks_at_full_size(model, expected):
    assert paths(model) == expected
    assert paths(model, persons=1) == expected[:-1]
    assert paths(model, fast="off") == ()


def test_paths_on_a_gpu():
    rp = {"backbone": "hpi_gcn_rp"}
    assert paths(rp, device="cuda") == ("graph convolution as one in 9 of 9 blocks", PERSONS)
    assert "Rep-TCN as one convolution in 9 of 9 blocks" in paths(rp, device="cuda", batch_size=256)


def test_small_batches_of_wide_layers_keep_their_branches():
    model = {"backbone": "hpi_gcn_op", "kernel_size": 9}
    assert paths(model, persons=1, batch_size=2) == ("Rep-TCN as one convolution in 3 of 9 blocks",)


@pytest.mark.parametrize(("clips", "said"), [(63, False), (64, True)])
def test_epochs_evaluated_in_the_deploy_form_are_said(clips, said):
    config = TrialConfig.model_validate({"data": DATA, "model": {"backbone": "hpi_gcn_op"}})
    found = fast_paths(config, joints=25, persons=2, evaluated=clips)
    assert ("epochs evaluated in the deploy form" in found) == said


@pytest.mark.parametrize(
    ("sparsity", "said"),
    [
        ({"level": 0.8, "sharing": "fused"}, True),
        ({"level": 0.8, "sharing": "branches"}, False),
        ({"level": 0.0, "sharing": "fused"}, False),
        ({"level": 0.8}, False),
    ],
)
def test_blocks_that_train_by_one_masked_kernel_are_said(sparsity, said):
    config = TrialConfig.model_validate(
        {"data": DATA, "model": {"backbone": "hpi_gcn_rp"}, "sparsity": sparsity}
    )
    assert (AS_MASKED_KERNELS in fast_paths(config, joints=25, persons=2)) == said


def test_a_rule_on_shapes():
    assert merging_pays(64, 5, 51_200)
    assert not merging_pays(8, 5, 2_000)  # too small for so many operations
    assert not merging_pays(256, 9, 9_000)  # kernels cost more than the branches
    assert graph_merging_pays(8, 16_640)
    assert not graph_merging_pays(32, 1_280)
    assert not merging_pays(64, 5, 51_200, "cuda")
    assert merging_pays(64, 5, 204_800, "cuda")


def test_a_rule_on_kept_weights():
    assert kept_weights_pay(64 * 64, 1024)
    assert not kept_weights_pay(64 * 64, 1025)
    assert not kept_weights_pay(32 * 32, 51)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"sparsity": {"level": 0.8}}, True),
        ({"sparsity": {"level": 0.8, "generator": "rigl"}}, True),
        ({"sparsity": {"network": "nested", "levels": [0.6, 0.9]}}, True),
        ({"sparsity": {"level": 0.6}}, False),
        ({"sparsity": {"level": 0.8, "generator": "supermask"}}, False),
        ({"sparsity": {"level": "learned", "target": 0.9}}, False),
        ({"sparsity": {"level": 0.8}, "train": {"sparse_kernels": "off"}}, False),
        ({"sparsity": {"level": 0.8}, "train": {"precision": "bf16"}}, False),
        ({"sparsity": {"level": 0.8}, "model": {"channels": 8, "stages": [1]}}, False),
        ({}, False),
    ],
)
def test_which_trials_compute_with_kept_weights(changes, kept):
    model = {"backbone": "st_gcn"} | changes.get("model", {})
    config = TrialConfig.model_validate({"data": DATA, **changes, "model": model})
    assert (KEPT_ALONE in fast_paths(config, joints=25, persons=1)) == kept


def test_kept_weights_are_a_cpus():
    config = TrialConfig.model_validate({"data": DATA, "sparsity": {"level": 0.8}})
    assert KEPT_ALONE in fast_paths(config, joints=25, persons=1)
    assert KEPT_ALONE not in fast_paths(config, joints=25, persons=1, device="cuda")
