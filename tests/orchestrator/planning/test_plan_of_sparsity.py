"""What the plan says of sparsity: zeros, bare layers, rounds, gates, trials that wait."""

from __future__ import annotations

from math import comb
from types import SimpleNamespace

import pytest

from orchestrator.cli.printing.costs import print_plan
from orchestrator.planning.check import check_data
from orchestrator.planning.sizes import disk_bytes
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.count import count, removed_count
from trainables.data.store.reading import Store
from trainables.models.build import build_backbone
from trainables.sparsity.gates import GATES
from trainables.sparsity.generator import SparseGenerator


@pytest.mark.parametrize(
    "settings",
    [
        *(
            (f"sparsity.scope={scope}", "model.stages=[2, 1]")
            for scope in ("block", "tensor", "global")
        ),
        *((f"sparsity.structure={structure}",) for structure in ("channel", "4x2")),
    ],
    ids=" ".join,
)
def test_planned_zeros_are_those_of_the_masks(planned, store, settings) -> None:
    sweep, found = planned(*settings, "parameters.data.stream=[joint]", "sparsity.warmup=0.5")
    config, layout = all_trials(sweep)[1].config, Store.open(store).layout
    model = build_backbone(
        config.model, layout, classes=3, persons=1, stream=config.data.stream_config, seed=0
    )
    removed = SparseGenerator(
        list(model.blocks), config.sparsity, config.warmup_epochs, seed=0
    ).removed
    params = sum(parameter.numel() for parameter in model.parameters())
    assert found.variants[0].nonzero_params == {"0": params, "0.8": params - removed}


def test_layers_that_erk_leaves_bare_are_noted(planned) -> None:
    spread = (
        "sparsity.scope=tensor",
        "sparsity.distribution=erk",
        "parameters.data.stream=[joint]",
    )
    assert not any("leaves no weight" in note for note in planned(*spread)[1].notes)
    (note,) = [
        note
        for note in planned(*spread, "parameters.sparsity.level=[0, 0.999]")[1].notes
        if "leaves no weight" in note
    ]
    assert note.startswith("sparsity.level 0.999 leaves no weight in hpi_gcn_rp's ")
    assert "16x8x1x1 in block 1" in note


def test_layers_that_random_masks_may_leave_bare_are_noted_with_the_chance(planned) -> None:
    narrow = ("model.backbone=st_gcn", "parameters.data.stream=[joint]", "sparsity.warmup=0.5")
    assert not any("no weight" in note for note in planned(*narrow)[1].notes)
    (note,) = [
        note
        for note in planned(*narrow, "parameters.sparsity.level=[0, 0.99]")[1].notes
        if "no weight" in note
    ]
    # 7 of the 648 weights of block 0 stay, none of 72 with C(576, 7) / C(648, 7); 21 of the 2048 of
    # block 1, none of 128 of the residual
    assert comb(576, 7) / comb(648, 7) == pytest.approx(0.437, abs=1e-3)
    assert note.startswith(
        "sparsity.level 0.99 may leave no weight in st_gcn's 24x3x1x1 in block 0 (44 %)"
    )
    several = (
        "sparsity.network=nested",
        "sparsity.levels=[0.6, 0.99]",
        "parameters.sparsity.level=[0]",
    )
    assert note in planned(*narrow, *several)[1].notes


def test_rounds_are_part_of_the_time(planned) -> None:
    epochs = []
    for rounds in ("1", "3"):
        once = ("parameters.sparsity.level=[0.8]", "sparsity.generator=rewinding")
        epochs.append(planned(*once, f"sparsity.rounds={rounds}")[1].epochs)
    assert epochs[1] == 2 * epochs[0]  # 1 + 1 trainings, 1 + 3


def test_scopes_stand_apart_where_there_are_several(planned) -> None:
    _, found = planned(
        "parameters.sparsity.scope=[tensor, global]", "parameters.data.stream=[joint]"
    )
    (variant,) = found.variants
    assert set(variant.nonzero_params) == {"0", "0.8 tensor", "0.8 global"}


def test_a_learned_level_is_planned_as_far_as_it_is_known(planned, store, capsys) -> None:
    streams, levels = (
        "parameters.data.stream=[joint]",
        "parameters.sparsity.level=[0, 0.8, learned]",
    )
    sweep, found = planned("sparsity={target: 0.9, scope: tensor, warmup: 0.5}", streams, levels)
    config = all_trials(sweep)[2].config
    cost = count(
        config.model,
        Store.open(store).layout,
        classes=3,
        persons=1,
        frames=16,
        stream=config.data.stream_config,
    )
    (variant,) = found.variants
    assert variant.nonzero_params["learned, target 0.9"] == variant.params - removed_count(
        cost.maskable_params, 0.9
    )
    assert set(variant.nonzero_params) == {"0", "0.8", "learned, target 0.9"}
    assert variant.at_most == ()
    _, found = planned(
        "sparsity={warmup: 0.5, level: learned}", "parameters={sparsity.price: [0.5, 2]}"
    )
    (variant,) = found.variants
    assert variant.nonzero_params == {
        "learned, price 0.5": variant.params,
        "learned, price 2": variant.params,
    }
    assert set(variant.at_most) == set(variant.nonzero_params)
    print_plan(found)
    assert capsys.readouterr().out.count(f"<= {variant.params:,}") == 2


def test_disk_counts_a_gate_per_weight() -> None:
    cost = SimpleNamespace(
        training=SimpleNamespace(params=100), maskable_params=10, deploy=SimpleNamespace(params=7)
    )
    sizes = [
        disk_bytes(
            cost, SimpleNamespace(sparsity=SparsityConfig(level="learned", price=1, gate=gate))
        )
        for gate in GATES
    ]
    assert sizes == [4 * (300 + 20 + 7), 4 * (300 + 20 + 60 + 7)]


def test_non_zeros_of_the_deploy_form_by_sharing(planned, store) -> None:
    _, found = planned(
        "parameters.sparsity.sharing=[none, fused]", "parameters.data.stream=[joint]"
    )
    (variant,) = found.variants
    assert variant.expected == ("0.8 none",)
    assert variant.deploy_nonzero_params["0"] == variant.deploy_params
    assert (
        variant.deploy_nonzero_params["0.8 fused"]
        < variant.deploy_nonzero_params["0.8 none"]
        < variant.deploy_params
    )
    assert variant.nonzero_params["0.8 none"] < variant.nonzero_params["0.8 fused"]


def test_what_starts_from_dense_trials_comes_after_them(planned) -> None:
    two = "resources={gpus: 0.5, cpus: 1, max_concurrent: 2}"
    _, apart = planned("parameters.data.stream=[joint]", two)
    _, found = planned("parameters.data.stream=[joint]", two, "sparsity.from=dense")
    assert [(cell.cell, cell.after) for cell in found.cells] == [
        ("joint-level0", ()),
        ("joint-level0.8", ("joint-level0",)),
    ]
    assert (apart.waiting, found.waiting) == (0, 1)
    assert found.trial_hours == apart.trial_hours
    # one after the other, though two fit
    assert found.wall_hours - found.rest_hours == pytest.approx(found.trial_hours)
    longest = max(cell.hours for cell in apart.cells)
    assert apart.wall_hours - apart.rest_hours == pytest.approx(longest)


def test_rewinding_says_how_many_epochs_it_trains(planned) -> None:
    once = (
        "parameters.data.stream=[joint]",
        "parameters.sparsity.level=[0, 0.8]",
        "sparsity.generator=rewinding",
        "sparsity.rounds=3",
    )
    _, found = planned(*once)
    assert (
        "a trial that rewinds its weights trains 8 epochs in all, 2 of them before the first"
        " pruning" in found.notes
    )
    dense, rewound = found.cells
    assert found.epochs == 2 + 8
    assert rewound.hours > dense.hours


def test_of_many_levels_the_lowest_and_the_highest_are_shown(planned, capsys) -> None:
    level = "parameters={sparsity.level: {min: 0.3, max: 0.99, axis: trial}}"
    _, found = planned(level, "method={name: random, trials_per_cell: 20}")
    (variant,) = found.variants
    levels = list(variant.nonzero_params)
    assert len(levels) == 20
    print_plan(found)
    shown = capsys.readouterr().out
    assert f"{variant.nonzero_params[levels[0]]:,}" in shown
    assert levels[0] in shown
    assert levels[-1] in shown
    assert levels[1] not in shown


def test_a_file_of_masks_is_held_against_the_networks_of_the_sweep(tmp_path, store) -> None:
    from trainables.sparsity.mask_file import masks_of, save_masks

    changes = (
        "parameters.data.stream=[joint]",
        "sparsity.generator=predefined",
        f"sparsity.mask={tmp_path / 'm.npz'}",
        "sparsity.warmup=0.5",
    )
    sweep = loaded(tmp_path, SMALL, f"data.store={store}", *changes)
    place = f"--set sparsity.mask: {tmp_path / 'm.npz'}: "
    assert check_data(sweep) == [f"{place}must be a file of masks, .npz or .pt, got no such file"]
    config = all_trials(sweep)[1].config
    model = build_backbone(
        config.model,
        Store.open(store).layout,
        classes=3,
        persons=1,
        stream=config.data.stream_config,
        seed=0,
    )
    SparseGenerator(list(model.blocks), SparsityConfig(level=0.8), 0, seed=0)
    masks = masks_of(model.blocks)
    save_masks(masks, tmp_path / "m.npz")
    assert check_data(sweep) == []
    name = next(iter(masks))
    save_masks(masks | {name: masks[name][:1]}, tmp_path / "m.npz")
    (problem,) = check_data(sweep)
    assert problem.startswith(
        f"{place}{name}: must have the weight's shape ({masks[name].shape[0]}, "
    )
