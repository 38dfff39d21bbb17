"""The plan: figures that can be checked by hand, the budget, and what complete trials teach."""

from __future__ import annotations

import io
from dataclasses import replace
from math import comb
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cli.printing.costs import print_plan
from orchestrator.planning.check import check_data
from orchestrator.planning.memory import ALIVE, CUDA, PROCESS
from orchestrator.planning.plan import (
    CPU_RATE,
    check_fit,
    ensemble_count,
    plan,
)
from orchestrator.planning.sizes import BYTES, Sizes, disk_bytes, training_flops
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.artifacts import Cost, TrialResult
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.count import count, removed_count
from trainables.data.store.reading import Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.sparsity.gates import GATES
from trainables.sparsity.generator import SparseGenerator

LOCAL = "resources={gpus: 0, cpus: 1, max_concurrent: 1}"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """3 classes x 12 clips of 4 subjects, two of which train in xsub."""
    path = tmp_path_factory.mktemp("plan") / "synth"
    config = SyntheticConfig(classes=3, clips_per_class=12, subjects=4, views=3, frames=8)
    recordings = synthetic_recordings(config, load_layout("ucla20"))
    write_store(path, recordings.clips, recordings.description)
    return path


@pytest.fixture
def planned(tmp_path, store):
    """Make the plan of the small sweep with overrides."""

    def make(*overrides: str):
        sweep = loaded(
            tmp_path,
            SMALL,
            f"data.store={store}",
            f"storage={tmp_path / 'runs'}",
            LOCAL,
            *overrides,
        )
        return sweep, plan(sweep)

    return make


def test_figures_are_those_of_the_formulas(planned, store) -> None:
    sweep, found = planned("data.repeat=3")
    assert (len(found.cells), found.trials, found.done) == (4, 4, 0)
    assert (found.training_clips, found.selection_clips, found.test_clips) == (9, 9, 18)
    assert found.mlflow_runs == 1 + 4 + 2 + 1
    layout = Store.open(store).layout
    config = all_trials(sweep)[1].config
    cost = count(
        config.model, layout, classes=3, persons=1, frames=16, stream=config.data.stream_config
    )
    joint = next(variant for variant in found.variants if variant.streams == ("joint",))
    assert (joint.params, joint.gmacs) == (cost.training.params, cost.training.gmacs)
    assert (joint.deploy_params, joint.deploy_gmacs) == (cost.deploy.params, cost.deploy.gmacs)
    assert joint.nonzero_params == {
        "0": cost.training.params,
        "0.8": cost.nonzero_params(SparsityConfig(level=0.8)),
    }
    # clips x repeat x epochs x passes x MACs x 2
    seconds = 9 * 3 * 2 * 3 * cost.training.gmacs * 1e9 * 2 / CPU_RATE
    assert joint.seconds_per_trial == pytest.approx(seconds)
    assert found.wall_hours == pytest.approx(found.training_hours)
    assert found.training_hours == pytest.approx(sum(cell.hours for cell in found.cells))


def test_disk_counts_checkpoints_masks_and_deploy_form() -> None:
    cost = SimpleNamespace(
        training=SimpleNamespace(params=100), maskable_params=10, deploy=SimpleNamespace(params=7)
    )

    def disk(**sparsity):
        return disk_bytes(cost, SimpleNamespace(sparsity=SparsityConfig.model_validate(sparsity)))

    assert disk(level=0.0) == disk(level=0.0, generator="supermask") == 4 * (300 + 7)
    assert disk(level=0.5) == disk(level=0.5, generator="rewinding") == 4 * (300 + 20 + 7)
    assert disk(level=0.5, generator="supermask") == 4 * (300 + 20 + 30 + 7)
    assert disk(level=0.5, generator="rewinding", rewind_epoch=1) == 4 * (300 + 20 + 200 + 7)


def test_over_budget_names_the_figure(planned, tmp_path) -> None:
    sweep, found = planned("budget={hours: 1e-9, disk_gb: 1e-9, trials: 3}")
    with pytest.raises(UserError) as caught:
        check_fit(sweep, found)
    hours, disk, count_of_trials = caught.value.problems
    assert f"{found.wall_hours:.3g} h" in hours
    assert f"{found.disk_gb:.3g} GB" in disk
    assert (
        count_of_trials
        == "--set budget budget.trials: the sweep is expected to need 4 trials, the budget allows 3"
    )
    check_fit(*planned("budget={hours: 99, disk_gb: 9, trials: 4}"))


def test_complete_trials_replace_the_assumed_rate(planned, tmp_path) -> None:
    sweep, before = planned()
    trial = all_trials(sweep)[0]
    folder = trial.proposal.folder(tmp_path / "runs" / "small")
    needed = {name: field for name, field in Cost.model_fields.items() if field.is_required()}
    cost = Cost(**{name: "" if each.annotation is str else 1 for name, each in needed.items()})
    result = TrialResult(
        trial=trial.proposal.trial,
        epochs=2,
        kept_epoch=1,
        selection_clips=9,
        selection_top1=0.5,
        selection_top5=1.0,
        selection_loss=1.0,
        selection_top1_last=0.5,
        train_loss=1.0,
        seconds=1.0,
        clips_per_s=100.0,
        cost=cost,
    )
    write_atomic(folder.result_file, result.model_dump_json().encode())
    after = plan(sweep)
    resources = sweep.resources.model_copy(update={"cpus": 1000})
    unfit = sweep.model_copy(update={"resources": resources})
    assert "does not fit on this machine" in " ".join(plan(unfit).notes)
    assert (after.done, after.cells[0].trials_done, after.machine.measured) == (1, 1, True)
    assert not before.machine.measured
    assert replace(after.machine, flops_per_s=2.34e7).describe().startswith("0.023 GFLOP/s per")
    # clips x epochs / clips per second
    assert after.variants[0].seconds_per_trial == pytest.approx(9 * 2 / 100)
    assert after.training_hours < sum(cell.hours for cell in after.cells)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("data.frames=5000", "resources: trial "),
        ("train.batch_size=30000", "resources: trial "),
        ("resources.per_trial_memory_gb=0.1", "resources.per_trial_memory_gb: trial "),
    ],
)
def test_a_trial_that_cannot_fit_into_memory_is_refused(
    planned, monkeypatch, change, place
) -> None:
    monkeypatch.setattr("orchestrator.planning.memory.machine_bytes", lambda: 700_000_000)
    check_fit(*planned())
    sweep, found = planned("model.channels=64", "data.repeat=1000", change)
    with pytest.raises(UserError, match=rf"{place}\S+ is expected to take .* GB of main memory"):
        check_fit(sweep, found)
    if "per_trial" not in change:
        check_fit(sweep, found, "head:6379")  # the cluster has other machines


def test_trials_that_fit_one_by_one_but_not_together_are_noted(planned, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.planning.memory.machine_bytes", lambda: 1_000_000_000)
    monkeypatch.setattr("orchestrator.planning.plan._present", lambda: (4, 0))
    _, found = planned("resources={gpus: 0, cpus: 1, max_concurrent: 4}")
    assert [note for note in found.notes if "4 trials at a time are expected to take" in note]
    assert not any("at a time" in note for note in planned()[1].notes)


def test_memory_grows_with_what_a_step_keeps(planned, store) -> None:
    def network_gb(*overrides: str) -> float:
        return planned(*overrides)[1].memory.main_gb - PROCESS / 1e9

    one, two = (network_gb("data.repeat=10", f"train.batch_size={size}") for size in (64, 65))
    sweep, _ = planned()
    trial = all_trials(sweep)[0].config
    form = Sizes(Store.open(store)).count(trial).training
    assert two - one == pytest.approx(BYTES * ALIVE * form.features / 1e9, rel=1e-6)
    # on a GPU the network's part is there, and the process beside it
    sweep, found = planned("resources.gpus=1")
    assert found.memory.main_gb == pytest.approx(PROCESS / 1e9)
    assert found.memory.gpu_gb > CUDA / 1e9


def test_cells_that_constraints_leave_empty_are_dropped_and_named(planned) -> None:
    constraint = "constraints=[data.stream != 'bone' or sparsity.level > 0]"
    _, found = planned(constraint)
    assert [cell.cell for cell in found.cells] == [
        "joint-level0",
        "joint-level0.8",
        "bone-level0.8",
    ]
    assert found.trials == 3
    text = "1 cell in which no combination satisfies the constraints is left out: bone-level0"
    assert f"--set constraints: {text}" in found.notes


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_keep_names_and_say_what_they_leave_out(planned, width) -> None:
    from rich.console import Console

    from orchestrator.cli.printing import costs

    levels = "parameters.sparsity.level=[0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99]"
    _, found = planned(levels)
    out = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
    costs.print_nonzeros(out, found)
    lines = out.file.getvalue().rstrip().splitlines()
    assert max(map(len, lines[:-1])) <= width
    assert any(line.strip().startswith("hpi_gcn_rp:") for line in lines)
    assert lines[-1].startswith(f"left out at {width} columns: ") == (width < 140)
    assert "…" not in out.file.getvalue()


def test_trials_at_a_time_share_the_wall_clock(planned) -> None:
    _, one = planned()
    _, gpu = planned("resources={gpus: 0.5, cpus: 1, max_concurrent: 2}")
    assert gpu.machine.device == "0.5 GPU"
    assert gpu.wall_hours == pytest.approx(gpu.training_hours / gpu.machine.concurrent)
    assert one.training_hours > gpu.training_hours


def test_notes_name_settings_without_effect_and_small_spaces(planned) -> None:
    _, found = planned(
        "model.groups=4",
        "parameters.model.kernel_size=[5, 9]",
        "method={name: random, trials_per_cell: 3}",
    )
    small, idle = found.notes
    assert small == "4 cells have fewer than 3 different assignments and get fewer trials"
    assert idle == "--set model.groups: has no effect on any trial of this sweep"


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
    times = []
    for rounds in ("1", "3"):
        once = ("parameters.sparsity.level=[0.8]", "sparsity.generator=rewinding")
        times.append(planned(*once, f"sparsity.rounds={rounds}")[1].training_hours)
    assert times[1] == pytest.approx(2 * times[0])  # 1 + 1 trainings, 1 + 3


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


def test_a_trial_too_large_for_this_machine_is_noted(planned, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.planning.plan._present", lambda: (2, 0))
    _, found = planned("resources={gpus: 1, cpus: 4}")
    assert [note for note in found.notes if "resources" in note] == [
        (
            "--set resources resources.cpus: a trial does not fit on this machine, which has 2 CPU"
            " cores, got 4: a sweep needs a larger machine or cluster"
        ),
        (
            "--set resources resources.gpus: a trial does not fit on this machine, which has 0"
            " GPUs, got 1: a sweep needs a larger machine or cluster"
        ),
    ]
    assert not any(
        "does not fit" in note for note in planned("resources={gpus: auto, cpus: 2}")[1].notes
    )


def test_what_starts_from_dense_trials_comes_after_them(planned) -> None:
    two = "resources={gpus: 0.5, cpus: 1, max_concurrent: 2}"
    _, apart = planned("parameters.data.stream=[joint]", two)
    _, found = planned("parameters.data.stream=[joint]", two, "sparsity.from=dense")
    assert [(cell.cell, cell.after) for cell in found.cells] == [
        ("joint-level0", ()),
        ("joint-level0.8", ("joint-level0",)),
    ]
    assert (apart.waiting, found.waiting) == (0, 1)
    assert found.training_hours == apart.training_hours
    # one after the other, though two fit
    assert found.wall_hours == pytest.approx(found.training_hours)
    assert apart.wall_hours == pytest.approx(apart.training_hours / apart.machine.concurrent)


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
    assert rewound.hours == pytest.approx(4 * dense.hours)


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


def test_ensembles_are_counted_by_their_groups(planned) -> None:
    sweep, _ = planned(
        "ensembles=[{name: a, over: sparsity.level}, {name: b, over: data.stream, per: []}]"
    )
    assert ensemble_count(sweep) == 2 + 1


def test_work_of_one_training() -> None:
    config = SimpleNamespace(
        data=SimpleNamespace(repeat=5), total_epochs=10, sparsity=SparsityConfig()
    )
    assert (
        training_flops(config, SimpleNamespace(training=SimpleNamespace(gmacs=2.0)), 100)
        == 100 * 5 * 10 * 3 * 2e9 * 2
    )


def test_a_rotation_that_turns_nothing_is_found_before_any_trial(planned) -> None:
    rule = (
        "must be 0 or more than 0.00873 radians under pipeline ucla, which draws whole degrees, got"
        " 0.004 radians"
    )
    fixed, _ = planned("data.pipeline=ucla", "data.rotation=0.004")
    assert check_data(fixed) == [f"--set data.rotation: {rule}"]
    searched, _ = planned(
        "parameters.data.rotation=[0, 0.004, 0.3]", "parameters.data.pipeline=[auto, ucla]"
    )
    assert check_data(searched) == [f"--set parameters.data.rotation: {rule}"]
    assert check_data(planned("data.rotation=0.004")[0]) == []  # the store's own pipeline is ctr


def test_leaves_of_data_that_the_store_has_no_use_for_are_found_before_any_trial(planned) -> None:
    given, _ = planned("data.views=3", "data.align_spine=false")
    rule = "has no effect under pipeline ctr; leave it out"  # the store's own
    assert check_data(given) == [f"--set data.align_spine: {rule}", f"--set data.views: {rule}"]
    searched, _ = planned("parameters.data.views=[3, 10]", "parameters.data.pipeline=[ctr, pyskl]")
    assert check_data(searched) == []
    assert check_data(planned("parameters.data.views=[3, 10]")[0]) == [
        f"--set parameters.data.views: {rule}"
    ]


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
