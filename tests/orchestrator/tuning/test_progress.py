"""What a person sees while a sweep runs, with and without a terminal."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from orchestrator.tuning import progress
from orchestrator.tuning.progress import Display
from trainables.contract.artifacts import Cost, TrialResult

COST = Cost(
    params=10,
    nonzero_params=5,
    maskable_params=8,
    removed_params=5,
    released_params=6,
    released_leaf_params=6,
    released_gmacs=0.1,
    released_leaf_gmacs=0.1,
    deploy_params=6,
    deploy_leaf_params=6,
    deploy_nonzero_params=6,
    deploy_gmacs=0.1,
    deploy_leaf_gmacs=0.1,
    deploy_peak_mb=1.0,
    deploy_latency_ms=1.0,
    deploy_batch64_latency_ms=9.0,
    deploy_folded="",
    deploy_max_abs_diff=0.0,
    latency_device="cpu",
    latency_threads=1,
)


def result(top1):
    return TrialResult(
        trial="t",
        epochs=2,
        kept_epoch=1,
        selection_clips=10,
        selection_top1=top1,
        selection_top5=1.0,
        selection_loss=0.5,
        selection_top1_last=top1,
        train_loss=0.4,
        seconds=1.0,
        clips_per_s=100.0,
        cost=COST,
    )


@pytest.fixture
def clock(monkeypatch):
    """The time the display sees; a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, height=40, no_color=True)
    with Display({"a": 2, "b": 1}, console) as display:
        display.complete_before("b", result(0.7))
        display.started("a", "a-1", 2)
        display.epoch("a-1", {"epoch": 0, "train_loss": 1.25, "selection_top1": 0.5})
        display.finished("a", "a-1", result(0.9))
        display.started("a", "a-2", 2)
        display.restarted("a-2", "restart 1 of 3", "the worker died")
        display.failed("a", "a-2", "train_loss must be finite, got nan")
        table = display.render()
    console.print(table)
    return stream.getvalue()


def test_one_line_per_event_where_there_is_no_terminal():
    lines = shown(terminal=False).splitlines()
    assert lines[:5] == [
        "started   a-1 (the first, after 1 s)",
        "finished  a-1  selection 90.0 %  (2/3 trials)",
        "started   a-2",
        "RESTART   a-2: restart 1 of 3: the worker died",
        "FAILED    a-2: train_loss must be finite, got nan",
    ]


def test_the_table_counts_and_keeps_the_best():
    text = shown(terminal=True)
    assert "3/3 trials" in text
    assert "90.0 %" in text
    assert "70.0 %" in text
    assert "started" not in text  # a live table replaces the event lines
    assert "FAILED    a-2" in text
    assert "RESTART   a-2" in text


@pytest.mark.parametrize(
    ("epoch_s", "epochs", "most"), [(1.0, 60, 5), (20.0, 30, 5), (600.0, 65, 65), (30.0, 1000, 167)]
)
def test_without_a_terminal_a_running_trial_speaks_every_few_minutes(clock, epoch_s, epochs, most):
    stream = io.StringIO()
    with Display({"a": 1}, Console(file=stream)) as display:
        display.started("a", "a-1", epochs)
        for epoch in range(epochs):
            clock[0] += epoch_s
            display.epoch("a-1", {"epoch": epoch, "train_loss": 1.0, "selection_top1": 0.25})
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("running   a-1: ")]
    assert most / 2 < len(lines) <= most
    assert len(lines) == len(set(lines))


def test_a_line_says_how_far_the_trial_is(clock):
    stream = io.StringIO()
    with Display({"a": 1}, Console(file=stream)) as display:
        display.started("a", "a-1", 65)
        for epoch in range(12):
            clock[0] += 60.0
            display.epoch("a-1", {"epoch": epoch, "train_loss": 1.5, "selection_top1": 0.25})
    assert stream.getvalue().splitlines()[-1] == (
        "running   a-1: epoch 12/65, loss 1.500, selection 25.0 %, about 53 min left"
    )


def test_without_a_terminal_a_long_first_epoch_is_not_silent(clock):
    stream = io.StringIO()
    with Display({"a": 1}, Console(file=stream)) as display:
        display.started("a", "a-1", 65)
        for minute in range(1, 10):
            clock[0] += 60.0
            display.step("a-1", 0, 60 * minute, 600)
        clock[0] += 60.0
        display.epoch("a-1", {"epoch": 0, "train_loss": 1.5, "selection_top1": 0.25})
    assert stream.getvalue().splitlines()[1:] == [
        f"running   a-1: still in epoch 1, step {step}/600" for step in (180, 360, 540)
    ]
    assert display.snapshot().trials[0].position == "1/65"


def test_a_trial_that_goes_on_within_an_epoch_says_which(clock):
    display = Display({"a": 1}, Console(file=io.StringIO()))
    display.started("a", "a-1", 100)
    display.step("a-1", 89, 7, 600)
    [trial] = display.snapshot().trials
    assert trial.words == "epoch 89/100, step 7/600"


def test_a_trial_that_goes_on_counts_the_epochs_of_this_attempt(clock):
    display = Display({"a": 1}, Console(file=io.StringIO()))
    display.started("a", "a-1", 100)
    for epoch in (89, 90, 91):
        clock[0] += 10.0
        display.epoch("a-1", {"epoch": epoch, "train_loss": 1.5})
    [trial] = display.snapshot().trials
    assert (trial.epoch, trial.seconds_left) == (92, 80.0)
    assert trial.selection_top1 is None


def test_time_left_is_known_before_the_first_trial_has_ended(clock):
    display = Display({"a": 2, "b": 2}, Console(file=io.StringIO()))
    display.at_once = 2
    assert display.snapshot().seconds_left is None
    for trial in ("a-1", "b-1"):
        display.started(trial[0], trial, 10)
    for epoch in range(2):
        clock[0] += 30.0
        for trial in ("a-1", "b-1"):
            display.epoch(trial, {"epoch": epoch, "train_loss": 1.5})
    # two trials with 8 of 10 epochs left, two that wait, two at a time
    assert display.snapshot().seconds_left == 8 * 30.0 + 10 * 30.0


@pytest.mark.parametrize("height", [12, 24, 60])
def test_the_table_fits_the_terminal_and_shows_what_runs(height):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=height, no_color=True)
    cells = {f"backbone-joint-level0.{i:02d}": 4 for i in range(30)}
    display = Display(cells, console)
    for cell in list(cells)[-3:]:
        display.started(cell, f"{cell}-1", 65)
        display.epoch(f"{cell}-1", {"epoch": 11, "train_loss": 1.5, "selection_top1": 0.25})
    console.print(display.render())
    lines = stream.getvalue().splitlines()
    assert len(lines) <= height - 1
    assert sum("12/65" in line for line in lines) == 3
    if height == 60:
        assert not any("more cells" in line for line in lines)
    else:
        hidden = 30 - sum("0/4" in line for line in lines)
        assert f"... and {hidden} more cells: 0/{4 * hidden} trials" in lines


def display_of(totals, clock=None):
    stream = io.StringIO()
    return Display(totals, Console(file=stream, width=200)), stream


def test_what_earlier_runs_did_is_counted():
    display, stream = display_of({"a": 6, "b": 1})
    for ending in ("failed", "pruned", "discarded", "interrupted"):
        display.ended_before("a", ending)
    display.complete_before("b", result(0.7))
    display.finished("a", "a-1", result(None))
    # 6 + 1, one of them discarded; failed, pruned and two finished have ended
    assert stream.getvalue() == "finished  a-1  (4/6 trials)\n"


def test_pruned_interrupted_and_discarded_trials_are_lines_and_leave(clock):
    display, stream = display_of({"a": 4})
    for number in (1, 2, 3):
        display.started("a", f"a-{number}", 10)
    display.epoch("a-2", {"epoch": 3, "train_loss": 1.5})
    display.pruned("a", "a-1", 5)
    display.interrupted("a-2")
    display.interrupted("a-9")
    display.discarded("a")
    display.epoch("a-1", {"epoch": 4})  # a late report of a trial that has ended
    assert stream.getvalue().splitlines()[3:] == [
        "pruned    a-1 after 5 epochs  (1/4 trials)",
        "stopped   a-2 (epoch 4/10, loss 1.500)",
        "stopped   a-9",
    ]
    assert [trial.trial for trial in display.snapshot().trials] == ["a-3"]
    display.restarted("a-3", "restart 1 of 3", "it died")
    assert display.snapshot().trials == ()
    display.finished("a", "a-4", result(0.5))
    assert stream.getvalue().endswith("selection 50.0 %  (2/3 trials)\n")


def test_the_first_start_is_told_with_its_time(clock):
    display, stream = display_of({"a": 2})
    clock[0] += 30.0
    display.started("a", "a-1", 10)
    display.started("a", "a-2", 10)
    assert stream.getvalue().splitlines() == [
        "started   a-1 (the first, after 30 s)",
        "started   a-2",
    ]


def test_the_best_is_that_of_all_epochs(clock):
    display, _ = display_of({"a": 1})
    display.started("a", "a-1", 10)
    for epoch, top1 in enumerate((0.5, 0.75, 0.25)):
        display.epoch("a-1", {"epoch": epoch, "selection_top1": top1})
    (trial,) = display.snapshot().trials
    assert (trial.epoch, trial.selection_top1, trial.best_top1) == (3, 0.25, 0.75)
    assert trial.train_loss is None


@pytest.mark.parametrize(
    ("epoch_s", "epochs", "lines"),
    [
        (100.0, 3, [200.0]),  # two epochs of a hundred seconds: not before three minutes
        (4.0, 10, [12.0, 24.0, 36.0]),  # a fifth of 40 s would be 8 s: ten at least
        (10.0, 30, [60.0, 120.0, 180.0, 240.0]),  # a fifth of 300 s
    ],
)
def test_when_a_running_trial_speaks(clock, epoch_s, epochs, lines):
    display, stream = display_of({"a": 1})
    display.started("a", "a-1", epochs)
    spoke = []
    for epoch in range(epochs):
        clock[0] += epoch_s
        before = len(stream.getvalue())
        display.epoch("a-1", {"epoch": epoch})
        if len(stream.getvalue()) > before:
            spoke.append(clock[0] - 1000.0)
    assert spoke == lines


def test_time_left_after_trials_have_ended_is_the_mean_of_theirs(clock):
    display, _ = display_of({"a": 5})
    for trial, seconds in (("a-1", 100.0), ("a-2", 300.0)):
        display.started("a", trial, 10)
        clock[0] += seconds
        display.finished("a", trial, result(0.5))
    assert display.snapshot().seconds_left == 3 * 200.0
    display.started("a", "a-3", 10)
    assert display.snapshot().seconds_left == 3 * 200.0  # it has shown nothing of its own yet
    for epoch in (0, 1):
        clock[0] += 50.0
        display.epoch("a-3", {"epoch": epoch})
    assert display.snapshot().seconds_left == 8 * 50.0 + 2 * 200.0


def printed(display, **size):
    stream = io.StringIO()
    Console(file=stream, no_color=True, **size).print(display.render())
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_live_table(clock):
    display = Display({"a": 3, "b": 2}, Console(file=io.StringIO(), width=100, height=40))
    display.started("a", "a-1", 10)
    display.complete_before("b", result(0.7))
    display.ended_before("b", "failed")
    display.ended_before("a", "pruned")
    for epoch, top1 in enumerate((0.5, 0.25)):
        clock[0] += 50.0
        display.epoch("a-1", {"epoch": epoch, "train_loss": 1.25, "selection_top1": top1})
    assert printed(display, width=100) == [
        "3/5 trials, 1:40 elapsed, about 15 min left",
        "running           epoch   loss  selection    best   left",
        "a-1                2/10  1.250     25.0 %  50.0 %  7 min",
        "cell              done  pruned  failed  best selection",
        "a                  0/3       1",
        "b                  1/2               1          70.0 %",
    ]


def test_while_no_trial_runs_the_live_table_is_of_the_cells_alone(clock):
    display = Display({"a": 3}, Console(file=io.StringIO(), width=100, height=40))
    assert printed(display, width=100)[1:] == [
        "cell              done  pruned  failed  best selection",
        "a                  0/3",
    ]


def test_in_a_narrow_live_table_names_are_cut_and_numbers_are_not(clock):
    display = Display({"c" * 60: 1, "d": 1}, Console(file=io.StringIO(), width=70, height=40))
    display.started("d", "t" * 60, 10)
    assert printed(display, width=70)[1:] == [
        "running                             epoch  loss  selection  best  left",
        "ttttttttttttttttttttttttttttttttt…   0/10",
        "cell                              done  pruned  failed  best selection",
        "ccccccccccccccccccccccccccccccc…   0/1",
        "d                                  0/1",
    ]


@pytest.mark.parametrize(
    ("height", "running", "trials", "cells"),
    [
        (24, 0, 0, 18),  # six lines are the title, two heads, two rests and the line below
        (24, 5, 5, 13),
        (24, 20, 12, 6),  # a third is for cells
        (8, 20, 2, 1),
        (5, 20, 2, 1),
        (3, 0, 0, 2),
    ],
)
def test_how_many_trials_and_cells_a_terminal_holds(clock, height, running, trials, cells):
    totals = {f"cell{number:02d}": 30 for number in range(30)}
    display = Display(totals, Console(file=io.StringIO(), width=80, height=height))
    for number in range(running):
        display.started("cell29", f"trial{number:02d}", 10)
    lines = printed(display, width=80)
    assert sum(line.startswith("trial") for line in lines) == trials
    assert sum(line.startswith("cell0") or line.startswith("cell1") for line in lines) == cells
    rest = f"... and {running - trials} more running trials"
    assert (rest in lines) == (running > trials)
    hidden = 30 - cells
    assert lines[-1] == f"... and {hidden} more cells: 0/{30 * hidden} trials"


def test_a_live_table_is_started_and_stopped(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    with Display({"a": 1}, console) as display:
        assert display._live.is_started
    assert not display._live.is_started


def test_time_left_is_what_is_expected_of_the_trials_that_wait(clock):
    display, _ = display_of({"a": 4})
    display.at_once = 2
    display.remaining = SimpleNamespace(
        trial_seconds=lambda name: 100.0, waiting_seconds=lambda running, number: 90.0 * number
    )
    assert display.snapshot().seconds_left == 4 * 90 / 2  # before the first has begun
    display.started("a", "a-1", 10)
    clock[0] += 30.0
    assert display.snapshot().seconds_left == (70 + 3 * 90) / 2
    for _ in range(2):
        clock[0] += 100.0
    assert display.snapshot().seconds_left == (0 + 3 * 90) / 2  # it is late
    for epoch in (0, 1):
        clock[0] += 10.0
        display.epoch("a-1", {"epoch": epoch})
    assert display.snapshot().seconds_left == (8 * 10 + 3 * 90) / 2  # it shows its own pace
    display.remaining.waiting_seconds = lambda running, number: None
    display.finished("a", "a-1", result(0.5))
    assert display.snapshot().seconds_left == 3 * 250 / 2  # as long as the first one


def test_a_trial_of_which_nothing_is_expected_has_no_time_left(clock):
    display, _ = display_of({"a": 1})
    display.remaining = SimpleNamespace(
        trial_seconds=lambda name: None, waiting_seconds=lambda running, number: None
    )
    display.started("a", "a-1", 10)
    assert display.snapshot().seconds_left is None
