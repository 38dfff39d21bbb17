"""The sweep in a few lines: data, protocol, trials, time; and the settings it ran with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, TestSplit
from orchestrator.record.decisions import excluded_nodes
from orchestrator.record.states import TrialState, saved_epochs
from orchestrator.report.content import Bullets, Listing
from trainables.contract.artifacts import TrialResult

AFTERWARDS = ("ensemble_built", "test_read")
"""What `orchestrate ensemble` notes, during the sweep or long after it."""


def overview(
    trials: Sequence[TrialState],
    evaluation: FinalEvaluation | None,
    journal: Sequence[Mapping[str, Any]],
) -> Bullets:
    """Data, protocol, how many trials, how long, how often the test labels were read."""
    counts = Counter(state.status for state in trials)
    rare = [f"{counts[word]} {word}" for word in ("pruned", "discarded") if counts[word]]
    told = [f"{counts[word]} {word}" for word in ("finished", "failed", "unfinished")]
    restarts = sum(state.restarts for state in trials)
    rare += [f"{restarts} restart{'' if restarts == 1 else 's'}"] if restarts else []
    results = [state.result for state in trials if state.result]
    shared = sum(result.shared_seconds for result in results)
    seconds = sum(result.seconds for result in results) - shared
    seconds += _trained_by_others([s.proposal.trial for s in trials if s.result], journal)
    reads = [event for event in journal if event["event"] == "test_read"]
    papers = sum(str(event.get("purpose", "")).endswith("paper style") for event in reads)
    lines = (
        [line for split in evaluation.splits for line in _split_lines(split)] if evaluation else []
    )
    cells = len({state.proposal.cell for state in trials})
    lines.append(
        f"**Trials**: {len(trials)} in {cells} cell{'' if cells == 1 else 's'};"
        f" {', '.join(told + rare)}; {seconds / 60:.1f} minutes of training in total"
    )
    if shared:
        lines.append(f"**Shared beginnings**: {_shared_words(results, journal)}")
    saved = saved_epochs(trials)
    lines += [f"**Early stopping**: {saved}"] if saved else []
    for node, words in excluded_nodes(journal).items():
        lines.append(f"**Node left out**: {node[:8]} on {words}")
    times = _times_of_the_sweep(journal)
    if times:
        first, last = (
            datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")
            for when in (min(times), max(times))
        )
        lines.append(
            f"**Time**: {first} to {last} UTC, {(max(times) - min(times)) / 60:.1f} minutes,"
            " pauses included"
        )
    lines.append(
        f"**Test labels** were {_times(len(reads))}"
        + (f", {papers} of them for the papers' way of choosing" if papers else "")
        + _proposed_later(journal)
    )
    return Bullets(lines)


def _trained_by_others(finished: Sequence[str], journal: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of the beginnings that finished trials start from, but that none of them trained."""
    told = [event for event in journal if event.get("trial") in finished]
    trained = {each["beginning"] for each in told if each["event"] == "beginning_trained"}
    used = {
        each["beginning"]: float(each["seconds"])
        for each in told
        if each["event"] == "beginning_used"
    }
    return sum(seconds for beginning, seconds in used.items() if beginning not in trained)


def _shared_words(results: Sequence[TrialResult], journal: Sequence[Mapping[str, Any]]) -> str:
    """What was trained once for several trials."""
    branched = [result for result in results if result.shared_epochs]
    number = len({event["beginning"] for event in journal if event["event"] == "beginning_used"})
    epochs = " or ".join(map(str, sorted({result.shared_epochs for result in branched})))
    one = len(branched) == 1
    minutes = sum(result.shared_seconds for result in branched) / 60
    return (
        f"{len(branched)} trial{' starts' if one else 's start'} from {number} beginning"
        f"{'s' * (number != 1)} of {epochs} epochs that {'was' if number == 1 else 'were'} trained"
        f" once; to train {'it' if one else 'them'} alone would have taken {minutes:.1f} minutes"
        " more"
    )


def _proposed_later(journal: Sequence[Mapping[str, Any]]) -> str:
    """That trials were added by somebody who could know test figures."""
    kinds = [event["event"] for event in journal]
    if "test_read" not in kinds:
        return ""
    later = kinds[kinds.index("test_read") :].count("trial_proposed")
    if not later:
        return ""
    were = "trial was" if later == 1 else "trials were"
    return f"; {later} {were} added after the first time, when test figures could be known"


def _split_lines(split: TestSplit) -> list[str]:
    held = split.division.held_out
    protocol = "held out" if held else "paper (nothing held out; last epoch, fixed weights)"
    chosen = (
        f"{split.selection_clips} selection clips ({split.division.selection.kind}), "
        if held
        else ""
    )
    copies = split.test_clips - split.clean_clips
    clean = f", {copies} of them copies of training or selection clips" if copies else ""
    if copies and not split.clean_clips:
        clean += " (there is no accuracy without copies)"
    elif copies and split.clean_classes is not None:
        clean += (
            f" (the other {split.clean_clips} hold {split.clean_classes} of the {split.classes}"
            " classes)"
        )
    changed = "**The store has changed** since these networks were trained on it"
    data = (
        f"**Data**: {split.dataset} (`{split.division.store}`), protocol"
        f" `{split.division.protocol}`, {split.classes} classes, {chosen}{split.test_clips} test"
        f" clips{clean}"
    )
    return [data, *([changed] if split.same_store is False else []), f"**Protocol**: {protocol}"]


def _times(count: int) -> str:
    return {0: "not read", 1: "read once"}.get(count, f"read {count} times")


def _times_of_the_sweep(journal: Sequence[Mapping[str, Any]]) -> list[float]:
    """When something happened, up to the end of the sweep: an ensemble that was asked for later is
    none of its time.
    """
    ends = [place for place, event in enumerate(journal) if event["event"] == "sweep_finished"]
    last = ends[-1] if ends else len(journal)
    later = any(event["event"] not in AFTERWARDS for event in journal[last + 1 :])
    counted = journal if later else journal[: last + 1]
    return [float(event["time"]) for event in counted if isinstance(event.get("time"), int | float)]


def settings(sweep: Mapping[str, Any]) -> Listing:
    """The sweep as it was expanded, one leaf per line."""
    # what all trials share
    leaves = {
        key: value
        for key, value in flatten(sweep).items()
        if key not in sweep.get("parameters", {})
    }
    return Listing([f"{key}: {json.dumps(value)}" for key, value in leaves.items()])


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by their dotted paths."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {
        path: leaf
        for key, each in value.items()
        for path, leaf in flatten(each, f"{prefix}.{key}" if prefix else str(key)).items()
    }
