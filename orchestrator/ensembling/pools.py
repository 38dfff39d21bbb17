"""The networks that ensembles choose from: those of one sweep, or of several on the same clips.

Reads files only; the test labels are not among them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.ensembling.collect import check_same_clips, collect, member_of, missing_cells
from orchestrator.ensembling.members import SWEEP, Member
from orchestrator.record.commands import command
from orchestrator.record.copies import place_of
from orchestrator.record.folder import load_folder, store_digest
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials, open_slots
from orchestrator.sweep.ensembles import SEED
from orchestrator.sweep.leaves import label, leaves_of
from orchestrator.sweep.problems import nearest
from orchestrator.sweep.schema import CELL_AXES
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

Axes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pool:
    """Networks to choose from, one for each cell that has one."""

    members: tuple[Member, ...]
    cells: Mapping[str, Axes]  # of all cells, with or without a member
    missing: Mapping[str, str] = field(default_factory=dict)  # cell without a member -> why
    runs: tuple[Path, ...] = ()  # the folders of the sweeps they are of

    @property
    def held_out(self) -> bool:
        """Whether there are clips to choose on."""
        return all(member.division.held_out for member in self.members)

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Every axis of its cells, and of its seeds, with the values it has."""
        values: dict[str, dict[str, Any]] = {}
        for axes in self.cells.values():
            for axis, value in axes.items():
                values.setdefault(axis, {})[label(value)] = value
        found = {axis: tuple(each.values()) for axis, each in values.items()}
        seeds = {run.seed for member in self.members for run in member.seeds}
        return found | {SEED: tuple(sorted(seeds))}

    def without(self, names: Collection[str]) -> Pool:
        """The pool without these cells; UserError names those that are none."""
        unknown = [name for name in names if name not in self.cells]
        if unknown:
            raise UserError.of(
                f"--without: must be a cell ({', '.join(self.cells)}), got"
                f" '{name}'{nearest(name, self.cells)}"
                for name in unknown
            )
        return replace(
            self,
            members=tuple(member for member in self.members if member.name not in names),
            cells={name: axes for name, axes in self.cells.items() if name not in names},
        )


def check_ended(run: Path) -> None:
    """UserError where a trial of the sweep has not ended."""
    unfinished = [state.proposal.trial for state in load_trials(run) if not state.ended]
    more = sum(open_slots(read_journal(run / "journal.jsonl")).values())
    if unfinished or more:
        raise UserError(
            f"{place_of(run)}: {len(unfinished) + more} trials have not ended"
            f" ({unfinished[0] if unfinished else 'not proposed yet'}, ...);"
            f" `{command('resume', run)}` first, or use what there is with --partial: the final"
            " evaluation opens the test split"
        )


def unended(run: Path) -> str | None:
    """How many trials of the sweep have not ended, in words; None where all have."""
    states = load_trials(run)
    more = sum(open_slots(read_journal(run / "journal.jsonl")).values())
    left = sum(not state.ended for state in states) + more
    if not left:
        return None
    return f"{run.name}: {left} of {len(states) + more} trials have not ended and take no part"


def pool_of_sweep(run: Path, sweep: Sweep) -> Pool:
    """The networks of one sweep; its store lies where the sweep says now."""
    members = tuple(member.at_store(sweep.data.store) for member in collect(run, sweep))
    cells = {proposal.cell: proposal.axes for proposal in load_proposals(run)}
    return Pool(members, cells, missing_cells(run, members), (run,))


def pool_of(runs: Sequence[Path], trials: Mapping[str, TrialDir] | None = None) -> Pool:
    """The networks of several sweeps, and single trials by the names of their MLflow runs;
    UserError where they are not of the same clips.

    Of more than one sweep, cells and trials carry the sweep's name, which is an axis of its own,
    and every network has all the axes of all sweeps: where its own does not vary one, what it has.
    Single trials are as of a sweep `mlflow`.
    """
    sweeps = [load_folder(run) for run in runs]
    pools = [pool_of_sweep(run, sweep) for run, sweep in zip(runs, sweeps, strict=True)]
    if len(pools) == 1 and not trials:
        return pools[0]
    doubled = [run for i, run in enumerate(runs) if run.resolve() in _places(runs[:i])]
    if doubled:
        raise UserError(f"{doubled[0]}: must be named once")
    origins = [
        _Origin(name, sweep.cell_axes, sweep.leaves(), pool)
        for name, sweep, pool in zip(names_of(runs), sweeps, pools, strict=True)
    ]
    if trials:
        origins.append(_Origin("mlflow", CELL_AXES, {}, _recorded(trials)))
    axes = list(dict.fromkeys(axis for origin in origins for axis in origin.axes))
    members, cells, missing = list[Member](), dict[str, Axes](), dict[str, str]()
    for origin in origins:
        fixed = [axis for axis in axes if axis not in origin.axes]
        for cell, own in origin.pool.cells.items():
            shared = {axis: origin.leaves.get(axis) for axis in fixed}
            cells[f"{origin.name}/{cell}"] = {**own, **shared, SWEEP: origin.name}
        for member in origin.pool.members:
            named = _named(member, origin.name, fixed)
            cells[named.name] = named.axes
            members.append(named)
        missing |= {f"{origin.name}/{cell}": why for cell, why in origin.pool.missing.items()}
    same = _on_same_clips(members, [origin.name for origin in origins])
    return Pool(same, cells, missing, tuple(runs))


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where networks come from."""

    name: str
    axes: Sequence[str]  # by which its cells are told apart
    leaves: Mapping[str, Any]  # what all its trials share
    pool: Pool


def _recorded(trials: Mapping[str, TrialDir]) -> Pool:
    """Single trials, each a cell of its own."""
    members = []
    for name, folder in trials.items():
        config = folder.load_config()
        leaves = leaves_of(config)
        axes = {axis: leaves[axis] for axis in CELL_AXES}
        proposal = Proposal(folder.path.name, name, axes, {}, config.seed)
        members.append(member_of(folder.path.parent.parent, [(proposal, folder.load())]))
    return Pool(tuple(members), {member.name: member.axes for member in members})


def _places(runs: Sequence[Path]) -> set[Path]:
    return {run.resolve() for run in runs}


def names_of(runs: Sequence[Path]) -> list[str]:
    """The sweeps' names, with as many of the folders above as tell them apart: the same however
    their paths are typed.
    """
    parts = [run.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts), default=0)):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run) for run in runs]


def _named(member: Member, sweep: str, fixed: Sequence[str]) -> Member:
    """The member under its sweep's name, with the axes that only other sweeps vary."""
    leaves = leaves_of(member.config)
    axes = {**member.axes, **{axis: leaves[axis] for axis in fixed}, SWEEP: sweep}
    return replace(
        member,
        name=f"{sweep}/{member.name}",
        trial=f"{sweep}/{member.trial}",
        axes=axes,
        seeds=tuple(replace(run, trial=f"{sweep}/{run.trial}") for run in member.seeds),
    )


def _on_same_clips(members: Sequence[Member], names: Sequence[str]) -> tuple[Member, ...]:
    """The members, all with the first one's place of the store; UserError where a sweep is of
    another store, protocol or selection.
    """
    if not members:
        raise UserError(f"{', '.join(names)}: have no finished network to combine")
    first = members[0].division
    contents = {member.name: _content(member) for member in members}
    problems: dict[str, None] = {}
    for member in members:
        for what, own, other in _differences(member, members[0], contents):
            problems[
                f"{member.axes[SWEEP]}: must have the {what} of {members[0].axes[SWEEP]} to be"
                f" combined with it, {other}, got {own}"
            ] = None
    if problems:
        raise UserError.of(problems)
    same = tuple(member.at_store(first.store) for member in members)
    check_same_clips(same)
    return same


def _content(member: Member) -> str:
    """Names the content of the store: by what the trial noted of it, by what it is now or, where it
    is not on this machine, by its place.
    """
    noted = member.result.store_checksums
    if noted:
        return json.dumps(dict(noted), sort_keys=True)
    return store_digest(member.division.store) or member.division.store


def _differences(
    member: Member, first: Member, contents: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """(what, of this member, of the first) for each part of the division that differs."""
    own, other = member.division, first.division
    if contents[member.name] != contents[first.name]:
        again = " with another content" if own.store == other.store else ""
        yield "store", own.store + again, other.store
    if own.protocol != other.protocol:
        yield "protocol", own.protocol, other.protocol
    if own.selection != other.selection:
        held = [each.selection.model_dump(exclude_defaults=True) for each in (own, other)]
        yield "selection", str(held[0]), str(held[1])
