"""What a plan assumes of the machine, and what it says that a user might not expect."""

from __future__ import annotations

import pytest

from orchestrator.planning.plan import CPU_RATE, GPU_RATE, Machine, _present


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (
            Machine("2 CPU cores", 0.0, 60e9, 4, False),
            "60 GFLOP/s per trial on 2 CPU cores (assumed), 4 at a time",
        ),
        (
            Machine("1 GPU", 1.0, 20e12, 1, False),
            "20,000 GFLOP/s per trial on 1 GPU (assumed), 1 at a time",
        ),
        (
            Machine("1 CPU core", 0.0, 9.5e9, 1, True),
            "9.5 GFLOP/s per trial on 1 CPU core (measured on complete trials of this sweep), 1 at"
            " a time",
        ),
        (Machine("1 GPU", 1.0, 10e9, 1, False), "10 GFLOP/s per trial on 1 GPU (assumed), 1 at"),
    ],
)
def test_a_machine_in_words(machine: Machine, words: str) -> None:
    assert machine.describe().startswith(words)


@pytest.mark.parametrize(
    ("resources", "gpus", "rate"),
    [
        ("{gpus: auto, cpus: 3}", 0.0, 3 * CPU_RATE),
        ("{gpus: 2, cpus: 3}", 2.0, 2 * GPU_RATE),
        ("{gpus: 0.25, cpus: 1}", 0.25, GPU_RATE / 4),
    ],
)
def test_the_speed_that_is_assumed_is_that_of_what_a_trial_gets(
    planned, monkeypatch, resources: str, gpus: float, rate: float
) -> None:
    monkeypatch.setattr("orchestrator.planning.plan._present", lambda: (8, 0))
    machine = planned(f"resources={resources}")[1].machine
    assert (machine.gpus, machine.flops_per_s, machine.measured) == (gpus, rate, False)


def test_this_machine_has_a_core() -> None:
    cores, gpus = _present()
    assert cores >= 1
    assert gpus >= 0


def test_trials_that_start_from_dense_ones_wait_for_them(planned) -> None:
    _, alone = planned()
    assert alone.waiting == 0
    _, found = planned("sparsity.from=dense")
    assert found.waiting == 2
    cells = {cell.cell: cell.after for cell in found.cells}
    assert cells == {
        "joint-level0": (),
        "joint-level0.8": ("joint-level0",),
        "bone-level0": (),
        "bone-level0.8": ("bone-level0",),
    }


def test_without_early_stopping_a_sweep_takes_as_long_as_it_takes(planned) -> None:
    _, found = planned()
    assert found.expected_hours == (found.wall_hours, found.wall_hours)


def test_without_tracking_there_are_no_runs(planned) -> None:
    assert planned("tracking={uri: none}")[1].mlflow_runs == 0


def test_without_selection_clips_the_papers_recipe_is_all_there_is(planned) -> None:
    text = (
        "no clips are held out, so no ensemble is chosen: the sweep ends with the papers' fixed"
        " recipe alone"
    )
    paper, recipe = "data.selection={kind: none}", "{name: levels, over: sparsity.level}"
    assert text in planned(paper)[1].notes
    assert text not in planned(paper, f"ensembles=[{recipe}]")[1].notes
    assert text not in planned(paper, "ensembles=[]")[1].notes
    assert text not in planned()[1].notes


def test_epochs_of_trials_that_rewind_are_said(planned) -> None:
    rewound = "sparsity={generator: rewinding, rounds: 3, rewind_epoch: 1, level: 0.8}"
    _, found = planned(
        "parameters={data.stream: [joint, bone]}", rewound, "train={epochs: 2, milestones: [1]}"
    )
    assert (
        "a trial that rewinds its weights trains 5 epochs in all, 2 of them before the first"
        " pruning"
    ) in found.notes
