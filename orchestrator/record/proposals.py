"""The trials of a sweep, as its folder lists them: the one place where they are read."""

from __future__ import annotations

from pathlib import Path

from orchestrator.record.resolved import load_resolved
from orchestrator.trials.proposed import Proposal
from trainables.contract.errors import UserError


def load_proposals(run: Path) -> tuple[Proposal, ...]:
    """The trials of the sweep in `run`, in the order they were proposed."""
    entries = load_resolved(run)["trials"]
    try:
        return tuple(
            Proposal(
                **{name: entry[name] for name in ("trial", "cell", "axes", "assignment", "seed")},
                after=tuple(entry.get("after", ())),
            )
            for entry in entries
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{run / 'resolved.json'}: an entry of 'trials' is incomplete: {error}"
        ) from error
