"""From the folders of finished trials to members, one per cell.

Reads files only; the test labels are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ensembling.members import Division, Load, Member, SeedRun, SeedScores
from orchestrator.ensembling.stored import Stored
from orchestrator.record.choice import Candidate, allowed, by_assignment, order
from orchestrator.record.copies import here
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_failures
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialResult
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep


def collect(run: Path, sweep: Sweep) -> tuple[Member, ...]:
    """The best complete trial of every cell that has one, in the order of the cells.

    Within the metric constraints, the first objective decides, the others break ties, then the
    trial's id. Several seeds of one assignment count by their mean and are represented by the first
    seed: taking the best seed would be choosing by luck. For the same reason an assignment of which
    fewer seeds have finished than of another one takes no part.
    """
    members = [
        member_of(run, min(candidates, key=lambda each: order(each, sweep)))
        for candidates in contenders(run, sweep).values()
    ]
    check_same_clips(members)
    return tuple(members)


def contenders(run: Path, sweep: Sweep) -> dict[str, list[Candidate]]:
    """What every cell's member is chosen from, in the order in which it was proposed: complete,
    comparable and within the metric constraints. A cell without any is not named.
    """
    kept = {cell: allowed(candidates, sweep) for cell, candidates in _complete_by_cell(run).items()}
    return {cell: candidates for cell, candidates in kept.items() if candidates}


def missing_cells(run: Path, members: Sequence[Member]) -> dict[str, str]:
    """Why a cell has no member, by cell."""
    present, failures = {member.cell for member in members}, load_failures(run)
    reasons: dict[str, list[str]] = {}
    for proposal in load_proposals(run):
        if proposal.cell in present:
            continue
        if proposal.trial in failures:
            reason = f"failed: {failures[proposal.trial]}"
        else:
            reason = (
                "is outside the constraints"
                if proposal.folder(run).is_complete()
                else "is not finished"
            )
        reasons.setdefault(proposal.cell, []).append(f"{proposal.trial} {reason}")
    return {cell: "; ".join(texts) for cell, texts in reasons.items()}


def _complete_by_cell(run: Path) -> dict[str, list[Candidate]]:
    """Complete trials by cell, those of one assignment together."""
    cells: dict[str, Candidate] = {}
    for proposal in load_proposals(run):
        folder = proposal.folder(run)
        if folder.is_complete():
            cells.setdefault(proposal.cell, []).append((proposal, folder.load()))
    return {cell: by_assignment(finished) for cell, finished in cells.items()}


def member_of(run: Path, candidate: Candidate) -> Member:
    """The trials of one assignment as a member; no score table is read yet."""
    seeds = tuple(_seed_run(run, proposal, result) for proposal, result in candidate)
    proposal, first = candidate[0][0], seeds[0]
    folder = proposal.folder(run)
    folder.checked(folder.config_file, first.result)
    return Member(
        name=proposal.cell,
        cell=proposal.cell,
        axes=proposal.axes,
        trial=proposal.trial,
        config=folder.load_config(),
        result=first.result,
        seeds=seeds,
    )


def _seed_run(run: Path, proposal: Proposal, result: TrialResult) -> SeedRun:
    folder = proposal.folder(run)

    def stored(file: Path) -> Load:
        return Stored(folder.checked(here(file), result))

    def scores(selection: Path, test: Path) -> SeedScores:
        return SeedScores(stored(selection) if result.selection_clips else None, stored(test))

    levels = {
        each.level: scores(folder.level_scores(each.level, "selection"), test)
        for each in result.levels
        if (test := folder.level_scores(each.level, "test")).is_file()
    }
    return SeedRun(
        proposal.trial,
        proposal.seed,
        result,
        scores(folder.selection_scores, folder.test_scores),
        levels,
    )


def check_same_clips(members: Sequence[Member]) -> None:
    """UserError if two members of one division were scored on different clips."""
    first: dict[Division, tuple[str, dict[str, tuple[str, ...] | None]]] = {}
    problems: list[str] = []
    runs = [(member.division, run) for member in members for run in member.seeds]
    for division, run in runs:
        clips = {"selection": run.scores.selection_ids, "test": run.scores.test_ids}
        other, expected = first.setdefault(division, (run.trial, clips))
        for split, mine in clips.items():
            if mine != expected[split]:
                counts = f"{len(mine or ())} and {len(expected[split] or ())} clips"
                problems.append(
                    f"{run.trial}: must have {split} scores of the same clips as {other},"
                    f" got {counts}"
                )
    if problems:
        raise UserError.of(problems)
