"""What a plan assumes of the machine, and what it says that a user might not expect."""

from __future__ import annotations

import pytest

from orchestrator.planning.machine import Machine, present, this_machine
from orchestrator.planning.pace import CPU_PACE, GPU_PACE, THREADS_GAIN, Pace
from orchestrator.sweep import Resources


@pytest.mark.parametrize(
    ("corrected_by", "words"),
    [
        (0, "1 CPU core per trial, 4 at a time; not corrected by any trial on it yet"),
        (1, "1 CPU core per trial, 4 at a time; corrected by what 1 trial took here"),
        (12, "1 CPU core per trial, 4 at a time; corrected by what 12 trials took here"),
    ],
)
def test_a_machine_in_words(corrected_by: int, words: str) -> None:
    assert Machine("m", "1 CPU core", 1, 0.0, 4, corrected_by).describe() == words


@pytest.mark.parametrize(
    ("resources", "gpus", "pace"),
    [
        ("{gpus: auto, cpus: 3}", 0.0, CPU_PACE * (1 / 3**THREADS_GAIN)),
        ("{gpus: 2, cpus: 3}", 2.0, GPU_PACE),
        ("{gpus: 0.25, cpus: 1}", 0.25, GPU_PACE * 4),
    ],
)
def test_the_pace_that_is_assumed_is_that_of_what_a_trial_gets(
    planned, monkeypatch, resources: str, gpus: float, pace: Pace
) -> None:
    monkeypatch.setattr("orchestrator.planning.machine.present", lambda: (8, []))
    machine = planned(f"resources={resources}")[1].machine
    assert (machine.gpus, machine.corrected_by) == (gpus, 0)
    assert machine.pace.amounts == pytest.approx(pace.amounts)


def test_this_machine_has_a_core() -> None:
    cores, cards = present()
    assert cores >= 1
    assert isinstance(cards, list)


def test_machines_are_told_apart_by_what_they_give_a_trial() -> None:
    one, two = (this_machine(Resources(gpus=0, cpus=cpus)) for cpus in (1, 2))
    assert one.name != two.name
    assert this_machine(Resources(gpus=0), "head:6379").name == "the cluster at head:6379"


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


@pytest.mark.parametrize(
    ("method", "notes"),
    [
        ("{name: grid}", []),
        (
            "{name: tpe, trials_per_cell: 8}",
            [
                "method tpe chooses trials as the sweep goes on, which learns once 2 trials of a"
                " cell have ended; in place of those that are not chosen yet the figures are of"
                " random ones"
            ],
        ),
        (
            "{name: gp, trials_per_cell: 8}",
            [
                "method gp chooses trials as the sweep goes on, which learns once 2 trials of a"
                " cell have ended, in a time that is not counted here; in place of those that are"
                " not chosen yet the figures are of random ones"
            ],
        ),
        (
            "{name: auto, trials_per_cell: 8}",
            [
                "method auto takes random",
                "method auto chooses trials as the sweep goes on; in place of those that are not"
                " chosen yet the figures are of random ones",
            ],
        ),
    ],
)
def test_a_search_that_chooses_as_it_goes_is_named(planned, method: str, notes: list[str]) -> None:
    _, found = planned(f"method={method}")
    assert [each for each in found.notes if each.startswith("method ")] == notes


EARLY = (
    "train={epochs: 20}",
    "parameters={sparsity.level: [0, 0.8], train.lr: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]}",
    "early_terminate={type: asha, grace: 2}",
)


def test_what_is_forecast_is_the_range_that_early_stopping_leaves(planned) -> None:
    _, found = planned(*EARLY)
    assert found.shared is None
    assert found.forecast.epochs == (found.early.low, found.early.high)
    assert found.forecast.hours == found.expected_hours
    _, shared = planned(*EARLY, "sparsity={penalty: none}")
    fewer = [a - b for a, b in zip(found.forecast.epochs, shared.forecast.epochs, strict=True)]
    # of trials that end early a part of what they share is saved, too
    assert 0 < fewer[0] < fewer[1] < shared.shared.epochs_saved
