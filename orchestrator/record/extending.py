"""A sweep that gets more trials after it has run: what its folder says of that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.record.copies import place_of
from orchestrator.record.folder import folder_of, grown, load_folder
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.record.resolved import FILE, load_resolved
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.sweep.growth import GROWING, grown_part, growth
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError


def extended(run: Path, more: int | None, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in `run` with `more` trials in every cell and whatever else `overrides` make grow.

    UserError names every setting that would become narrower or another one, and where there would
    be no new trial. What its trials run on may change as for `resume`.
    """
    before = load_folder(run)
    asked = list(overrides)
    if more is not None:
        if SEARCHES.find(before.method.name).given == "combinations":
            if any(text.startswith("parameters.") for text in asked):
                raise UserError(
                    f"--trials: must be left out: a {before.method.name} has no number of trials;"
                    " it grows by the values given with --set"
                )
            raise UserError(
                f"--trials: {run.name} has tried every combination (method {before.method.name});"
                " leave this out, and give it more values: --set parameters.NAME.values=[...]"
            )
        assert before.method.trials_per_cell is not None
        asked.append(f"method.trials_per_cell={before.method.trials_per_cell + more}")
    now = load_folder(run, asked)
    found = grown(now, run)
    if found.refused:
        raise UserError(
            f"{place_of(run)}: can only be extended by more trials, more values and wider ranges,"
            " not by:",
            *(f"  {text}" for text in found.refused),
        )
    if not found.grew:
        raise UserError(
            f"{place_of(run)}: nothing would be added; give --trials N, or more values or a wider"
            " range with --set parameters.NAME...."
        )
    _check_trials(run, before, now)
    return now


def _check_trials(run: Path, before: Sweep, now: Sweep) -> None:
    """UserError where the trials there are would not stay, or none would be added."""
    recorded = load_proposals(run)
    trials = all_trials(now, recorded)
    names = {trial.proposal.trial for trial in trials}
    lost = sorted({proposal.cell for proposal in recorded if proposal.trial not in names})
    if lost:
        raise UserError(
            f"{place_of(run)}: cannot be extended so: beside the new values other settings would"
            f" have an effect in cell{'' if len(lost) == 1 else 's'} {', '.join(lost)}, whose"
            " trials were made without"
        )
    if len(trials) <= len(all_trials(before, recorded)):
        raise UserError(
            f"{place_of(run)}: no trial would be added: the cells hold no other assignments; give"
            " them more values or a wider range with --set parameters.NAME...."
        )


def extensions(run: Path) -> list[dict[str, Any]]:
    """Every extension of the sweep: its `changes` in words, and the `before` of what grew."""
    return list(load_resolved(run).get("extensions", ()))


def as_extended(sweep: Sweep, run: Path | None = None) -> tuple[Sweep, tuple[str, ...]]:
    """The sweep of a file as its folder was extended since, and what grew; the same sweep where it
    was not, or where the file is none of the forms that the sweep has had.

    run: its folder, where that has another name.
    """
    run = run or folder_of(sweep)
    if not (run / FILE).is_file():
        return sweep, ()
    content, part = load_resolved(run)["sweep"], grown_part(sweep)
    for extension in extensions(run):
        # read by today's schema: a setting that came since has its default there
        former = parse_sweep(str(run / FILE), json.dumps(content | extension["before"]))
        if grown_part(former) == part:
            current = load_folder(run)
            changes = {name: getattr(current, name) for name in GROWING}
            return sweep.model_copy(update=changes), growth(sweep, current).grew
    return sweep, ()


def tell_extensions(run: Path, journal: Journal) -> list[dict[str, Any]]:
    """Write those extensions down that the journal does not know; returns them."""
    told = sum(event["event"] == "sweep_extended" for event in read_journal(run / "journal.jsonl"))
    new = extensions(run)[told:]
    if new:
        entries = [{"name": run.name, "changes": each["changes"]} for each in new]
        journal.append_all("sweep_extended", entries)
    return new
