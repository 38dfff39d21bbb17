import io

from rich.console import Console

from orchestrator.tuning.progress import Progress
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


def shown(terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, no_color=True)
    with Progress({"a": 2, "b": 1}, 2, console) as progress:
        progress.complete_before("b", result(0.7))
        progress.started("a", "a-1")
        progress.epoch("a", "a-1", {"epoch": 0, "train_loss": 1.25, "selection_top1": 0.5})
        progress.finished("a", "a-1", result(0.9))
        progress.started("a", "a-2")
        progress.failed("a", "a-2", "train_loss must be finite, got nan")
        table = progress._table()
    console.print(table)
    return stream.getvalue()


def test_one_line_per_event_where_there_is_no_terminal():
    lines = shown(terminal=False).splitlines()
    assert lines[:4] == [
        "started   a-1",
        "finished  a-1  selection 90.0 %  (2/3 trials)",
        "started   a-2",
        "FAILED    a-2: train_loss must be finite, got nan",
    ]


def test_the_table_counts_and_keeps_the_best():
    text = shown(terminal=True)
    assert "3/3 trials" in text
    assert "90.0 %" in text
    assert "70.0 %" in text
    assert "started" not in text  # a live table replaces the event lines
    assert "FAILED    a-2" in text
