"""What the clips are, which of them chose and which judged, and what is known of leaks."""

from __future__ import annotations

import shlex

from orchestrator.ensembling.results import TestSplit
from orchestrator.report.content import Block, Bullets, Heading, Listing, Table
from orchestrator.report.findings import Findings


def data_facts(found: Findings) -> list[Block]:
    """The section, from what the sweep and its final evaluation noted: no clip is read for it."""
    evaluation, data = found.evaluation, found.sweep.get("data", {})
    blocks: list[Block] = [Heading("Data")]
    if evaluation is None:
        text = (
            f"Store `{data.get('store', '')}`, protocol `{data.get('protocol', '')}`. Its clips are"
            " counted by the final evaluation."
        )
        return [*blocks, text, *_audit(found)]
    blocks += (
        [
            Table(
                [
                    _row(split, evaluation.stores.get(split.division.store))
                    for split in evaluation.splits
                ]
            )
        ]
        if evaluation.splits
        else []
    )
    findings = [line for split in evaluation.splits for line in _findings(split)]
    return [*blocks, Bullets(findings), *_audit(found)]


def _row(split: TestSplit, digest: str | None) -> dict[str, str]:
    return {
        "data set": split.dataset,
        "store": f"`{split.division.store}`",
        "digest": f"`{digest or ''}`",
        "protocol": split.division.protocol,
        "classes": str(split.classes),
        "selection clips": f"{split.selection_clips:,}",
        "test clips": f"{split.test_clips:,}",
        "without copies": f"{split.clean_clips:,}",
    }


def _findings(split: TestSplit) -> list[str]:
    """Leaks and changes, a sentence each."""
    copies = split.test_clips - split.clean_clips
    selection = split.division.selection
    held = (
        f"Held out of training to choose on: by {selection.kind}, {split.selection_clips:,} clips."
        if split.division.held_out
        else "**Nothing was held out** to choose on (protocol of the papers)."
    )
    copied = (
        f"**{copies:,} of {split.test_clips:,} test clips are exact copies** of training or"
        " selection clips; accuracies `test-clean` leave them out."
        if copies
        else "No test clip is an exact copy of a training or selection clip."
    )
    changed = {
        True: "The store is still the one that the networks were trained on.",
        False: "**The store has changed** since these networks were trained on it.",
        None: "Whether the store has changed since is not known: the trials did not note it.",
    }[split.same_store]
    return [held, copied, changed]


def _audit(found: Findings) -> list[Block]:
    data = found.sweep.get("data", {})
    words = ["orchestrate", "data", "audit", str(data.get("store", "STORE"))]
    if data.get("protocol"):
        words += ["--protocol", str(data["protocol"])]
    selection = data.get("selection") or {}
    if selection.get("kind"):
        words += ["--selection-kind", str(selection["kind"])]
    if selection.get("kind") in ("subject", "clip"):
        words += [
            "--fraction",
            f"{selection.get('fraction')}",
            "--seed",
            f"{selection.get('seed')}",
        ]
    return [
        "Damaged clips, near copies and people in two parts of the split are found by the audit,"
        " which reads every frame:",
        Listing([shlex.join(words)]),
    ]
