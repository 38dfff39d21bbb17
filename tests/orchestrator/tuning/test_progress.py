"""What a person sees while a sweep runs, with and without a terminal."""

import io

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
        display.restarted("a-2", 1, 3, "the worker died")
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
