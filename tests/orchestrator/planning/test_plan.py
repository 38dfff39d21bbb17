"""The plan: figures that can be checked by hand, the budget, and what complete trials teach."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from orchestrator.planning.check import check_data
from orchestrator.planning.expected import BATCH, CELL_S, CONCLUSION_S, START_S, Expected
from orchestrator.planning.pace import forward_work
from orchestrator.planning.plan import check_fit, ensemble_count, plan
from orchestrator.planning.sizes import Sizes, disk_bytes
from orchestrator.record.folder import journal_of
from orchestrator.record.times import Factor, Times, write_times
from orchestrator.trials.space import all_trials
from tests.orchestrator.recorded import recorded
from trainables.contract.artifacts import Cost, TrialResult
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.count import count
from trainables.cost.timed import seconds_of_timing
from trainables.data.store.cache import open_store
from trainables.data.store.reading import Store
from trainables.sparse.rows import compiled, without_numba


def test_figures_are_those_of_the_formulas(planned, store) -> None:
    sweep, found = planned("data.repeat=3")
    assert (len(found.cells), found.trials, found.done) == (4, 4, 0)
    assert (found.training_clips, found.selection_clips, found.test_clips) == (9, 9, 18)
    assert found.mlflow_runs == 1 + 4 + 2 + 1 + 1
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
    opened = open_store(sweep.data.store)
    split = opened.split(sweep.data.protocol, sweep.data.selection)
    expected = Expected(Sizes(opened), split, found.machine.pace)
    trials = [trial.config for trial in all_trials(sweep)]
    seconds = [expected.of(each).seconds for each in trials if each.data.stream_name == "joint"]
    assert joint.seconds_per_trial == pytest.approx(sum(seconds) / 2)
    assert found.trial_hours == pytest.approx(sum(cell.hours for cell in found.cells))
    assert found.wall_hours == pytest.approx(found.trial_hours + found.rest_hours)
    assert found.epochs == 4 * 2
    assert found.forecast.epochs == (8, 8)
    assert found.forecast.hours == (found.wall_hours, found.wall_hours)


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
        == "--set budget.trials: the sweep is expected to need 4 trials, the budget allows 3"
    )
    check_fit(*planned("budget={hours: 99, disk_gb: 9, trials: 4}"))


def test_proposals_take_time_where_a_search_makes_them(planned) -> None:
    space = "parameters={train.lr: {min: 0.1, max: 0.2}}"
    hours = {
        name: planned(space, f"method={{name: {name}, trials_per_cell: 40}}")[1].rest_hours
        for name in ("random", "tpe", "gp")
    }
    assert 3600 * (hours["gp"] - hours["random"]) == pytest.approx(40 * 1.4)
    assert 3600 * (hours["tpe"] - hours["random"]) == pytest.approx(40 * 0.02)


def test_what_trials_took_here_corrects_the_plan(planned, tmp_path) -> None:
    sweep, before = planned()
    machine, runs = before.machine.name, tmp_path / "runs"
    kind = "hpi_gcn_rp/single/"
    assert "not corrected by any trial" in before.machine.describe()
    write_times(runs / "other", Times(machine, {kind + "dense": Factor(3, 2.0)}))
    write_times(runs / "elsewhere", Times("another", {kind + "dense": Factor(9, 70.0)}))
    after = plan(sweep)
    assert after.trial_hours == pytest.approx(2 * before.trial_hours)  # all kinds are like it
    assert after.rest_hours == before.rest_hours
    write_times(runs / "small", Times(machine, {kind + "fixed_random": Factor(1, 4.0)}))
    both = plan(sweep)
    dense, sparse = (
        sum(cell.hours for cell in before.cells if cell.axes["sparsity.level"] == level)
        for level in (0.0, 0.8)
    )
    assert both.trial_hours == pytest.approx(2 * dense + 4 * sparse)
    assert "corrected by what 4 trials took here" in both.machine.describe()


def test_complete_trials_do_not_count(planned, tmp_path) -> None:
    sweep, before = planned()
    trial = recorded(sweep)[1][0]
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
    assert (after.done, after.cells[0].trials_done) == (1, 1)
    assert after.trial_hours == pytest.approx(before.trial_hours - before.cells[0].hours)


@pytest.mark.parametrize(
    ("event", "ended"),
    [
        ("trial_pruned", 1),
        ("trial_failed", 1),
        ("trial_discarded", 1),
        ("trial_retried", 0),
        ("trial_interrupted", 0),
    ],
)
def test_trials_that_ended_without_a_result_need_no_more_time(
    planned, tmp_path, event, ended
) -> None:
    sweep, before = planned()
    run, trials = recorded(sweep)
    first = trials[0].proposal
    journal_of(run).append(event, trial=first.trial, cell=first.cell, reason="so it is")
    after = plan(sweep)
    assert (after.done, after.cells[0].trials_done) == (ended, ended)
    left = before.trial_hours - ended * before.cells[0].hours
    assert after.trial_hours == pytest.approx(left)


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


def test_early_stopping_is_a_range_that_the_budget_is_held_against(planned, capsys) -> None:
    from orchestrator.cli.printing.costs import print_plan

    early = (
        "train={epochs: 20}",
        "parameters.train.lr=[0.01, 0.02, 0.03, 0.04, 0.05, 0.06]",
        "early_terminate={type: asha, grace: 2}",
    )
    _, found = planned(*early)
    low, high = found.expected_hours
    assert 0 < low < high < found.wall_hours
    print_plan(found)
    out = capsys.readouterr().out
    assert "stopping   asha in 2 cells of 6 trials, after 14 and 18 of 20 epochs: " in out
    assert f"expected   {found.early.words}: " in out
    hours = (high + found.wall_hours) / 2
    check_fit(*planned(*early, f"budget.hours={hours}"))
    with pytest.raises(UserError, match="budget allows"):
        check_fit(*planned(*early[:2], f"budget.hours={hours}"))


def test_a_plan_says_what_of_training_is_fast(planned, capsys) -> None:
    from orchestrator.cli.printing.costs import print_plan

    networks, both = "parameters={model.backbone: [hpi_gcn_rp, st_gcn]}", "in 2 of 2 blocks"
    for fast, expected in (
        (
            "auto",
            [f"Rep-TCN as one convolution {both}; graph convolution as one {both}", "plain steps"],
        ),
        ("'off'", ["plain steps", "plain steps"]),
    ):
        print_plan(planned(networks, f"train.fast={fast}")[1])
        lines = [line for line in capsys.readouterr().out.splitlines() if "training   " in line]
        assert [line.split(": joint ")[1] for line in lines] == expected


def test_a_plan_says_where_sparse_kernels_are_missing(planned, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.planning.plan.compiled", lambda: False)
    sparse = "parameters={sparsity.level: [0.0, 0.8]}"
    note = without_numba("are trained dense on a CPU")
    assert note in planned(sparse)[1].notes
    assert note not in planned(sparse, "train.sparse_kernels='off'")[1].notes
    assert note not in planned("parameters={sparsity.level: [0.0]}")[1].notes


def test_a_plan_says_with_which_ensembles_the_sweep_ends(planned, capsys) -> None:
    from orchestrator.cli.printing.costs import print_plan

    _, found = planned(
        "parameters={data.stream: [joint, bone], sparsity.level: [0.6, 0.9]}",
        "ensembles=[{name: levels, over: sparsity.level},"
        " {name: all, from: [levels], over: data.stream, method: greedy,"
        " budget: {nonzero_params: 0.66x, members: 3}}]",
    )
    print_plan(found)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ensembles")]
    assert lines == [
        "ensembles  levels: mean over sparsity.level, one for each data.stream",
        "ensembles  all: greedy over data.stream of levels, within nonzero_params 0.66x, members 3",
    ]


def test_trials_at_a_time_share_the_wall_clock(planned) -> None:
    _, gpu = planned("resources={gpus: 0.5, cpus: 1, max_concurrent: 2}")
    assert gpu.machine.device == "0.5 GPU"
    trials_wall = gpu.wall_hours - gpu.rest_hours
    assert gpu.trial_hours / 2 <= trials_wall < gpu.trial_hours


def test_what_is_done_before_and_after_the_trials_grows_with_cells_and_networks(planned, store):
    sweep, found = planned()
    opened = open_store(str(store))
    split = opened.split(sweep.data.protocol, sweep.data.selection)
    expected = Expected(Sizes(opened), split, found.machine.pace)
    timing = expected.timing_seconds(all_trials(sweep), sparse=compiled())
    assert timing > 0
    fixed = START_S + CONCLUSION_S + 4 * CELL_S
    assert found.rest_hours == pytest.approx((fixed + timing) / 3600)
    # where trials are chosen by their latency each is timed by its own worker
    _, timed = planned("constraints=[{metric: deploy_latency_ms, max: 100}]")
    assert timed.rest_hours == pytest.approx(fixed / 3600)


@pytest.mark.parametrize(
    ("levels", "seeds", "sparse", "forms"),
    [
        ("[0]", 2, True, 1),
        ("[0, 0.5]", 2, True, 1 + 2),
        ("[0.5, 0.8]", 1, True, 2 + 2),
        ("[0.95]", 2, True, 2 * 3),
        ("[0, 0.5, 0.8]", 2, False, 1),
        ("[0.95]", 2, False, 2 * 2),
    ],
)
def test_forms_that_take_equally_long_are_timed_once(
    planned, store, levels, seeds, sparse, forms
) -> None:
    """A masked one on its kept weights, too, and beside its compact form where that is smaller."""
    sweep, found = planned(
        f"parameters={{sparsity.level: {levels}}}", f"method.seeds={seeds}", "ensembles=[]"
    )
    opened = open_store(str(store))
    split = opened.split(sweep.data.protocol, sweep.data.selection)
    expected = Expected(Sizes(opened), split, found.machine.pace)
    trials = all_trials(sweep)
    cost = Sizes(opened).count(trials[0].config).deploy
    calls = [forward_work(cost, n, n).seconds(found.machine.pace) for n in (1, BATCH)]
    once = sum(map(seconds_of_timing, calls))
    assert expected.timing_seconds(trials, sparse=sparse) == pytest.approx(forms * once)


def test_notes_name_settings_without_effect_and_small_spaces(planned) -> None:
    _, found = planned(
        "model.groups=4",
        "parameters.model.kernel_size=[5, 9]",
        "method={name: random, trials_per_cell: 3}",
    )
    small, idle = found.notes
    assert small == "4 cells have fewer than 3 different assignments and get fewer trials"
    assert idle == "--set model.groups: has no effect on any trial of this sweep"


def test_a_trial_too_large_for_this_machine_is_noted(planned, monkeypatch) -> None:
    for module in ("machine", "plan"):
        monkeypatch.setattr(f"orchestrator.planning.{module}.present", lambda: (2, []))
    _, found = planned("resources={gpus: 1, cpus: 4}")
    assert [note for note in found.notes if "resources" in note] == [
        (
            "--set resources.cpus: a trial does not fit on this machine, which has 2 CPU"
            " cores, got 4: a sweep needs a larger machine or cluster"
        ),
        (
            "--set resources.gpus: a trial does not fit on this machine, which has 0"
            " GPUs, got 1: a sweep needs a larger machine or cluster"
        ),
    ]
    assert not any(
        "does not fit" in note for note in planned("resources={gpus: auto, cpus: 2}")[1].notes
    )


def test_ensembles_are_counted_by_their_groups(planned) -> None:
    sweep, _ = planned(
        "ensembles=[{name: a, over: sparsity.level}, {name: b, over: data.stream, per: []}]"
    )
    assert ensemble_count(sweep) == 2 + 1


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


@pytest.mark.parametrize(
    ("gpus", "present", "device", "concurrent"),
    [
        ("auto", (8, 0), "2 CPU cores", 4),
        ("auto", (8, 1), "1 GPU", 1),
        ("auto", (8, 3), "1 GPU", 3),
        ("0.5", (8, 3), "0.5 GPU", 4),  # six fit on the cards, four on the cores
        ("2", (8, 3), "2 GPU", 1),
        ("1", (8, 0), "1 GPU", 1),  # a machine to come
        ("0", (1, 0), "2 CPU cores", 1),
    ],
)
def test_how_a_sweep_would_use_this_machine(
    planned, monkeypatch, gpus, present, device, concurrent
) -> None:
    cores, cards = present
    monkeypatch.setattr("orchestrator.planning.machine.present", lambda: (cores, ["H200"] * cards))
    machine = planned(f"resources={{gpus: {gpus}, cpus: 2}}")[1].machine
    assert (machine.device, machine.concurrent) == (device, concurrent)


def test_disk_counts_the_scores_of_every_trial(planned, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.planning.sizes.Sizes.disk_bytes", lambda *_: 0.0)
    sweep, found = planned()
    store = open_store(sweep.data.store)
    split = store.split(sweep.data.protocol, sweep.data.selection)
    assert len(split.selection)
    clips = len(split.selection) + len(split.test)
    assert found.disk_gb * 1e9 == pytest.approx(found.trials * clips * 3 * 4)
