"""The trials of a sweep, as its folder lists them: the one place where they are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.keeping import reached
from orchestrator.record.resolved import load_resolved
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError


def propose(journal: Journal, proposals: Iterable[Proposal]) -> None:
    """Write proposals down, forced to disk once, where the sweep lies; one that is not written down
    may not be run.
    """
    entries = [asdict(proposal) for proposal in proposals]
    if entries:
        journal.append_all("trial_proposed", entries)
        reached(journal.path.parent)


def load_proposals(run: Path) -> tuple[Proposal, ...]:
    """The trials of the sweep in `run`, in the order they were proposed, each once.

    Version 0.2 listed them in resolved.json; they come first. UserError where one is incomplete,
    and where there are folders of trials that the journal does not know.
    """
    begun = _begun(run)  # before the journal is read: a trial is proposed before it begins
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
    _check_known(run, begun - proposals.keys())
    return tuple(proposals.values())


def _begun(run: Path) -> set[str]:
    """Names in the folder of the trials."""
    try:
        return {path.name for path in (run / "trials").iterdir()}
    except OSError:
        return set()


def _check_known(run: Path, unknown: Collection[str]) -> None:
    """UserError where trials have files and no proposal: the journal is not the one that they were
    begun with, and what it says of the sweep cannot be believed.
    """
    lost = sorted(name for name in unknown if TrialDir(run / "trials" / name).config_file.is_file())
    if lost:
        trials = f"trial{'' if len(lost) == 1 else 's'} of {run / 'trials'}"
        raise UserError(
            f"{run / 'journal.jsonl'}: does not know {len(lost)} {trials}, such as {lost[0]}: it"
            " was emptied, cut or replaced; put the sweep's own journal back, or move the folder"
            " away and start again"
        )


def _entries(run: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for entry in load_resolved(run).get("trials", ()):
        yield run / "resolved.json", entry
    for event in read_journal(run / "journal.jsonl"):
        if event["event"] == "trial_proposed":
            yield run / "journal.jsonl", event
