"""Masks of a trial before it is trained: drawn again where they cut the network in two, named where
they leave layers bare.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from orchestrator.sweep import load_sweep, shipped
from orchestrator.trials.space import all_trials
from trainables import network
from trainables.contract.config import TrialConfig
from trainables.contract.errors import TrialFailed, UserError
from trainables.layouts import LAYOUTS
from trainables.network import (
    build_network,
    check_mask_file,
    disconnected_blocks,
    mask_warnings,
    one_clip,
    with_masks,
)
from trainables.sparsity.mask_file import masks_of, save_masks
from trainables.sparsity.masks import maskable, removed_count

STORE = SimpleNamespace(
    layout=LAYOUTS["ucla20"], info=SimpleNamespace(classes=("a", "b", "c"), persons=1)
)
EXPERTS = {"level": 0.0, "network": "experts", "levels": (0.5, 0.99)}


def config_of(seed=0, backbone="st_gcn", **sparsity):
    return TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p", "frames": 8},
            "model": {"backbone": backbone, "channels": 16, "stages": [1, 1, 1]},
            "sparsity": {"level": 0.99, **sparsity},
            "train": {"epochs": 2, "warmup_epochs": 0, "milestones": []},
            "seed": seed,
        }
    )


def drawn(config, root=Path()):
    clip = one_clip(config, STORE)
    return with_masks(build_network(config, STORE), config, 5, root, clip)[0], clip


def test_random_masks_that_cut_the_network_in_two_are_drawn_again(monkeypatch):
    """Others are those of the first draw: at this level and width it cuts off about half of the
    seeds.
    """
    configs = [config_of(seed) for seed in range(4)]
    found = [masks_of(drawn(config)[0].blocks) for config in configs]
    monkeypatch.setattr(network, "MOST_DRAWS", 1)
    refused = [_refusal(config) for config in configs]
    assert 0 < sum(text is not None for text in refused) < len(configs)
    for config, masks, text in zip(configs, found, refused, strict=True):
        if text is None:
            first = masks_of(drawn(config)[0].blocks)
            assert all(torch.equal(first[name], mask) for name, mask in masks.items())
        else:
            assert "at sparsity.level 0.99 nothing gets through blocks.0 in any of 1 draws" in text


def test_masks_that_were_drawn_again_are_exact_in_number_and_the_same_every_time():
    for seed in range(2):
        network, clip = drawn(config_of(seed))
        assert disconnected_blocks(network, clip) == {}
        for block in network.blocks:
            masks = list(masks_of([block]).values())
            size = sum(mask.numel() for mask in masks)
            assert sum(int(mask.sum()) for mask in masks) == size - removed_count(size, 0.99)
        again = masks_of(drawn(config_of(seed))[0].blocks)
        assert all(
            torch.equal(again[name], mask) for name, mask in masks_of(network.blocks).items()
        )


@pytest.mark.parametrize("network", ["experts", "nested", "mixture"])
def test_no_level_of_several_is_cut_off(network):
    for seed in range(2):
        assert disconnected_blocks(*drawn(config_of(seed, **EXPERTS | {"network": network}))) == {}


def test_masks_by_size_are_not_drawn_and_fail_at_once():
    with pytest.raises(
        TrialFailed,
        match=(
            r"at sparsity\.level 0\.99 nothing gets through blocks\.0: use a lower level, or"
            r" sparsity\.scope"
        ),
    ):
        drawn(config_of(generator="magnitude_at_init"))
    assert (
        disconnected_blocks(
            *drawn(config_of(generator="magnitude_at_init", scope="tensor", distribution="erk"))
        )
        == {}
    )


def test_the_first_masks_of_an_exchange_are_drawn_again():
    for seed in range(2):
        assert disconnected_blocks(*drawn(config_of(seed, generator="set", update_every=1))) == {}


def test_masks_that_move_may_start_cut_in_two_and_say_so():
    network, clip = drawn(config_of(generator="supermask", scope="global"))
    first, *_ = mask_warnings(network, config_of(generator="supermask", scope="global"), clip)
    assert (
        first
        == "level 0.99 leaves no way from the clip to the classifier: nothing gets through blocks.0"
    )


def test_warnings_name_levels_and_layers():
    config = config_of(**EXPERTS | {"levels": (0.5, 0.6)})
    network, clip = drawn(config)
    assert mask_warnings(network, config, clip) == []
    maskable(network.level_blocks[1])[1][0].parametrizations.weight[0].mask.zero_()
    assert mask_warnings(network, config, clip) == [
        "level 0.6 leaves no weight in blocks.1.graph.conv"
    ]
    maskable(network.level_blocks[0])[0][0].parametrizations.weight[0].mask.zero_()
    assert mask_warnings(network, config, clip)[:2] == [
        "level 0.5 leaves no way from the clip to the classifier: nothing gets through blocks.0",
        "level 0.5 leaves no weight in blocks.0.graph.conv",
    ]
    assert (
        mask_warnings(build_network(config_of(level=0.0), STORE), config_of(level=0.0), clip) == []
    )


def test_bare_fused_kernels_are_named():
    config = config_of(level=0.5, sharing="fused", backbone="hpi_gcn_op")
    network, clip = drawn(config)
    assert mask_warnings(network, config, clip) == []
    part = next(
        module
        for name, module in network.blocks[1].named_modules()
        if type(module).__name__ == "KernelMask"
    )
    part.mask.zero_()
    (text,) = mask_warnings(network, config, clip)
    assert text.startswith("level 0.5 leaves no weight in blocks.1.")


def test_a_network_is_refused_only_where_every_level_is_cut_off(monkeypatch):
    monkeypatch.setattr(network, "MOST_DRAWS", 1)
    # level 0.5 is never cut off
    assert [_refusal(config_of(seed, **EXPERTS)) for seed in range(2)] == [None, None]
    assert _refusal(config_of(**EXPERTS | {"levels": (0.998, 0.999)})) is not None


def _refusal(config):
    try:
        drawn(config)
    except TrialFailed as failure:
        return str(failure)
    return None


def test_a_file_of_masks_is_held_against_the_network(tmp_path):
    config = config_of(level=0.5, generator="predefined", mask="m.npz")
    masks = masks_of(drawn(config_of(level=0.5))[0].blocks)
    save_masks(masks, tmp_path / "m.npz")
    check_mask_file(config, STORE, tmp_path)
    save_masks(masks | {"blocks.0.graph.conv.weight": torch.ones(2, 2)}, tmp_path / "m.npz")
    with pytest.raises(
        UserError,
        match=(
            r"blocks\.0\.graph\.conv\.weight: must have the weight's shape \(48, 3, 1, 1\), got"
            r" \(2, 2\)"
        ),
    ):
        check_mask_file(config, STORE, tmp_path)
    first = {
        name: torch.zeros_like(mask) if name.startswith("blocks.0.") else mask
        for name, mask in masks.items()
    }
    save_masks(first, tmp_path / "m.npz")
    removed = 1 - sum(int(mask.sum()) for mask in first.values()) / sum(
        mask.numel() for mask in first.values()
    )
    with pytest.raises(TrialFailed, match=r"nothing gets through blocks\.0$"):
        check_mask_file(
            config_of(level=removed, generator="predefined", mask="m.npz"), STORE, tmp_path
        )


NOT_SO_SPARSE = {"backbones_cpu", "equal_dense_cpu", "equal_narrow_cpu", "msr_action3d_cpu"}
"""Shipped sweeps without a level from 0.9 on."""


@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith("_cpu")])
def test_no_trial_of_a_shipped_sweep_is_cut_in_two(name):
    """Of those for small machines, whose narrow networks are the likeliest to be; each network with
    one seed, at its levels from 0.9 on.
    """
    found, masks = (
        {},
        {
            "level",
            "levels",
            "network",
            "generator",
            "structure",
            "scope",
            "distribution",
            "sharing",
        },
    )
    for trial in all_trials(load_sweep(name)):
        sparsity = trial.config.sparsity
        if not sparsity.dense and (sparsity.network != "single" or sparsity.expected_level >= 0.9):
            data = trial.config.data.model_copy(update={"frames": 8})
            network = trial.config.model.model_dump_json(), sparsity.model_dump_json(include=masks)
            found[network] = trial.config.model_copy(update={"data": data})
    assert bool(found) == (name not in NOT_SO_SPARSE)
    for config in found.values():
        if config.sparsity.level != "learned" and config.sparsity.generator in (
            "fixed_random",
            "magnitude_at_init",
        ):
            assert disconnected_blocks(*drawn(config)) == {}
