"""The trials of a sweep, as its folder lists them: the one place where they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.resolved import load_resolved
from orchestrator.trials.proposed import Proposal
from trainables.contract.errors import UserError


def propose(journal: Journal, proposals: Iterable[Proposal]) -> None:
    """Write proposals down, forced to disk once; one that is not written down may not be run."""
    entries = [asdict(proposal) for proposal in proposals]
    if entries:
        journal.append_all("trial_proposed", entries)


def load_proposals(run: Path) -> tuple[Proposal, ...]:
    """The trials of the sweep in `run`, in the order they were proposed, each once.

    Version 0.2 listed them in resolved.json; they come first. UserError where one is incomplete.
    """
    proposals: dict[str, Proposal] = {}
    for place, entry in _entries(run):
        try:
            proposal = Proposal(
                **{name: entry[name] for name in ("trial", "cell", "axes", "assignment", "seed")},
                after=tuple(entry.get("after", ())),
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{place}: a proposed trial is incomplete: {error}") from error
        proposals.setdefault(proposal.trial, proposal)
    return tuple(proposals.values())


def _entries(run: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for entry in load_resolved(run).get("trials", ()):
        yield run / "resolved.json", entry
    for event in read_journal(run / "journal.jsonl"):
        if event["event"] == "trial_proposed":
            yield run / "journal.jsonl", event
