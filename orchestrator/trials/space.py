"""From parameters to trial configurations: grid and random assignments of a cell, constraints, and
one trial per assignment and seed.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from pydantic import ValidationError

from orchestrator.sweep import Parameter, Sweep
from orchestrator.sweep.constraints import holds
from orchestrator.sweep.document import Path, dotted, show
from orchestrator.sweep.leaves import (
    LEAVES,
    OF_CTR,
    OF_PYSKL,
    completed,
    nest,
    unused,
    without_effect,
)
from orchestrator.sweep.problems import rule_of
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cells import Cell, deciding_combinations, expand
from orchestrator.trials.dense import linked
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.proposed import Trial as Trial  # to be had from here, too
from trainables.contract.config import TrialConfig
from trainables.contract.errors import UserError

# searched leaf -> JSON value; leaves that have no effect beside the others are left out
Assignment = dict[str, Any]

MAX_COMBINATIONS = 20_000
"""Of one cell's values: beyond, a grid is refused and random draws are not taken from the list of
all combinations.
"""
MAX_TRIES = 1000
"""Draws refused in a row before the constraints are held to be unsatisfiable."""


def build_config(sweep: Sweep, cell: Cell, assignment: Mapping[str, Any], seed: int) -> TrialConfig:
    """The configuration of one trial; leaves without effect are reset to their defaults, so that
    equal trials have equal digests.

    UserError names the parameter's line, the cell and the assignment where the leaves do not fit
    together.
    """
    leaves = _leaves(sweep, cell, assignment)
    leaves |= without_effect(leaves)
    try:
        return TrialConfig.model_validate_json(
            json.dumps(nest(leaves) | {"seed": seed}), strict=True
        )
    except ValidationError as error:
        errors = error.errors(include_url=False)
    settings = ", ".join(f"{name}={show(value)}" for name, value in assignment.items())
    where = f"(cell {cell.id}{', ' + settings if settings else ''})"
    raise UserError.of(f"{_problem(sweep, item['loc'], rule_of(item))} {where}" for item in errors)


def _problem(sweep: Sweep, location: Sequence[str | int], rule: str) -> str:
    """A rule at the place it is about; where it begins with the leaf's whole name, the place has
    said that.
    """
    place = _concerned(sweep, location, rule)
    return sweep.problem(place, rule.removeprefix(f"{dotted(place).removeprefix('parameters.')} "))


def _leaves(sweep: Sweep, cell: Cell, assignment: Mapping[str, Any]) -> dict[str, Any]:
    return completed(_shared(sweep) | dict(cell.axes) | dict(assignment))


_LAST_SHARED: list[tuple[Sweep, dict[str, Any]]] = []


def _shared(sweep: Sweep) -> dict[str, Any]:
    """The leaves that all trials share; kept for the sweep that was asked about last, as every
    trial asks.
    """
    if not _LAST_SHARED or _LAST_SHARED[0][0] is not sweep:
        _LAST_SHARED[:] = [(sweep, sweep.leaves())]
    return _LAST_SHARED[0][1]


def _concerned(sweep: Sweep, location: Sequence[str | int], rule: str) -> Path:
    """Where the file speaks of what a rule is about: the first parameter the rule names, else the
    first leaf, else the section.

    A rule about one leaf has its location; one within a section names the section's leaves, one
    across sections spells them out.
    """
    prefix = f"{location[0]}." if location else ""
    words = [".".join(map(str, location[1:2])), *re.findall(r"[\w.]+", rule)]
    named = [prefix + word for word in dict.fromkeys(words) if prefix + word in LEAVES]
    for name in (*(name for name in named if name in sweep.parameters), *named):
        place = sweep.place_of_leaf(name)
        if name in sweep.parameters or sweep.is_written(place):
            return place
    return tuple(str(part) for part in location)


def grid(sweep: Sweep, cell: Cell) -> list[Assignment]:
    """Every combination of the searched values that the constraints allow, each once; the last
    parameter changes fastest. There may be none.
    """
    names = sweep.searched
    if math.prod(len(sweep.parameters[name].values) for name in names) > MAX_COMBINATIONS:
        raise UserError(
            sweep.problem(
                ("parameters",),
                f"a grid must have at most {MAX_COMBINATIONS} combinations per cell; use method"
                " random",
            )
        )
    assignments: dict[str, Assignment] = {}
    for values in product(*(sweep.parameters[name].values for name in names)):
        assignment = canonical(sweep, cell, dict(zip(names, values, strict=True)))
        if allowed(sweep, cell, assignment):
            assignments.setdefault(key_of(assignment), assignment)
    return list(assignments.values())


def shuffled(sweep: Sweep, cell: Cell) -> list[Assignment] | None:
    """All assignments of the cell in random order; None where there are too many to list them."""
    searched = [sweep.parameters[name] for name in sweep.searched]
    if not all(parameter.values for parameter in searched):
        return None
    if math.prod(len(parameter.values) for parameter in searched) > MAX_COMBINATIONS:
        return None
    combinations = grid(sweep, cell)
    generator(sweep, cell).shuffle(combinations)
    return combinations


def samples(sweep: Sweep, cell: Cell, count: int) -> list[Assignment]:
    """The first `count` random assignments, all different; fewer where the space holds fewer.

    A longer list starts with the shorter.
    """
    combinations = shuffled(sweep, cell)
    if combinations is not None:
        return combinations[:count]
    assignments: dict[str, Assignment] = {}
    for index in range(count):
        assignment = draw_allowed(sweep, cell, index, assignments)
        if assignment is None:
            break
        assignments[key_of(assignment)] = assignment
    return list(assignments.values())


def draw_allowed(
    sweep: Sweep, cell: Cell, index: int, taken: Mapping[str, Assignment]
) -> Assignment | None:
    """One new assignment that the constraints allow, or None after too many tries."""
    for attempt in range(MAX_TRIES):
        rng = generator(sweep, cell, index, attempt)
        assignment = canonical(
            sweep, cell, {name: _draw(sweep.parameters[name], rng) for name in sweep.searched}
        )
        if key_of(assignment) not in taken and allowed(sweep, cell, assignment):
            return assignment
    return None


def generator(sweep: Sweep, cell: Cell, *counters: int) -> random.Random:
    return random.Random("/".join(map(str, (sweep.method.seed, cell.id, *counters))))


def _draw(parameter: Parameter, rng: random.Random) -> Any:
    """One value."""
    if parameter.values:
        return parameter.values[rng.randrange(len(parameter.values))]
    assert parameter.distribution is not None
    assert parameter.min is not None
    assert parameter.max is not None
    low, high = parameter.min, parameter.max
    if parameter.distribution == "int_uniform":
        return rng.randrange(int(low), int(high) + 1, int(parameter.step or 1))
    if parameter.distribution == "int_log_uniform":
        return min(int(high), int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))
    if parameter.distribution == "log_uniform":
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    elif parameter.step is not None:
        value = low + parameter.step * rng.randrange(
            math.floor((high - low) / parameter.step + 1e-9) + 1
        )
    else:
        value = rng.uniform(low, high)
    return rounded(value, low, high)


def value_at(parameter: Parameter, place: float) -> Any:
    """The value below which a share `place` (0 to less than 1) of random draws lies; of listed
    values, those of the list in its order.
    """
    if parameter.values:
        return parameter.values[int(place * len(parameter.values))]
    assert parameter.min is not None
    assert parameter.max is not None
    low, high, step = parameter.min, parameter.max, parameter.step
    if parameter.distribution == "int_uniform":
        width = int(step or 1)
        return int(low) + width * int(place * ((int(high) - int(low)) // width + 1))
    if parameter.distribution == "int_log_uniform":
        return min(int(high), int(low * ((high + 1) / low) ** place))
    if parameter.distribution == "log_uniform":
        value = low * (high / low) ** place
    elif step is not None:
        value = low + step * int(place * (math.floor((high - low) / step + 1e-9) + 1))
    else:
        value = low + place * (high - low)
    return rounded(value, low, high)


def rounded(value: float, low: float, high: float) -> float:
    """Six digits, so that a table shows the value that was used."""
    return min(max(float(f"{value:.6g}"), low), high)


def canonical(sweep: Sweep, cell: Cell, assignment: Assignment) -> Assignment:
    """Without the leaves that have no effect in this combination, and without options of a
    backbone's own that are its defaults.
    """
    leaves = _leaves(sweep, cell, assignment)
    useless = unused(leaves)
    return {name: leaves[name] for name in assignment if name not in useless}


def key_of(assignment: Mapping[str, Any]) -> str:
    """Equal for equal assignments."""
    return json.dumps(dict(assignment), sort_keys=True)


def allowed(sweep: Sweep, cell: Cell, assignment: Assignment) -> bool:
    """Whether every constraint on the configuration holds."""
    if not sweep.expressions:
        return True
    leaves = _leaves(sweep, cell, assignment)
    for position, constraint in enumerate(sweep.constraints):
        try:
            if isinstance(constraint, str) and not holds(constraint, leaves):
                return False
        except ValueError as error:
            raise UserError(sweep.problem(("constraints", position), str(error))) from error
    return True


def assignments(sweep: Sweep, cell: Cell) -> list[Assignment]:
    """What the sweep's method tries in this cell."""
    if SEARCHES.find(sweep.method.name).given == "combinations":
        return grid(sweep, cell)
    assert sweep.method.trials_per_cell is not None
    return samples(sweep, cell, sweep.method.trials_per_cell)


def trials(sweep: Sweep, cell: Cell, recorded: Sequence[Proposal] = ()) -> list[Trial]:
    """All trials of a cell: every assignment with every seed. Where the method makes them one by
    one, random ones stand for those that have not been proposed yet.

    recorded: proposals of the cell that an earlier run of the sweep wrote down. They keep their
    names, whatever names this version would give, and fill the cell's slots first.
    What a trial waits for is known among all trials of the sweep alone.
    """
    made = [
        Trial(proposal, build_config(sweep, cell, proposal.assignment, proposal.seed))
        for proposal in recorded
    ]
    known = {(key_of(proposal.assignment), proposal.seed) for proposal in recorded}
    tried = assignments(sweep, cell)
    repeats = sweep.method.final_seeds - 1
    slots = len(tried) * sweep.method.seeds + (repeats if tried else 0)
    earlier = _earlier_repeats(sweep, recorded, len(tried))
    slots += earlier
    for position, assignment in enumerate(tried):
        config: TrialConfig | None = None
        seeds = sweep.method.seeds + (repeats + earlier if position == 0 else 0)
        for seed in range(sweep.seed, sweep.seed + seeds):
            if (key_of(assignment), seed) in known or len(made) >= slots:
                continue
            config = (
                build_config(sweep, cell, assignment, seed)
                if config is None
                else config.model_copy(update={"seed": seed})
            )
            name = f"{cell.id}-{config.digest()}"
            made.append(Trial(Proposal(name, cell.id, cell.axes, assignment, seed), config))
    return made


def _earlier_repeats(sweep: Sweep, recorded: Sequence[Proposal], assignments: int) -> int:
    """How many of a cell's recorded repeats were made before the sweep was extended: they take no
    slot of those that the best of all may need.
    """
    firsts = [place for place, each in enumerate(recorded) if each.seed == sweep.seed]
    if sweep.method.final_seeds == 1 or not firsts:
        return 0
    end = len(recorded) if len(firsts) < assignments else firsts[-1]
    return end - sum(place < end for place in firsts)


_LAST_TRIALS: list[tuple[str, tuple[Proposal, ...], list[Trial]]] = []
"""(digest of the sweep, what was recorded, trials) of the last answers of `all_trials`."""


def all_trials(sweep: Sweep, recorded: Sequence[Proposal] = ()) -> list[Trial]:
    """All trials of all cells, cell by cell; those that start from the dense trial of the sweep
    know which can be that. recorded: see `trials`. Cells that the constraints leave empty have
    none; UserError where all cells are empty.

    Those of the last sweep, without and with what was recorded, are kept: its checks, its plan and
    its run ask for them.
    """
    digest, recorded = sweep.digest(), tuple(recorded)
    for kept_digest, kept_recorded, kept in _LAST_TRIALS:
        if (kept_digest, kept_recorded) == (digest, recorded):
            return list(kept)
    made = _all_trials(sweep, recorded)
    kept_beside = [each for each in _LAST_TRIALS if each[0] == digest][-1:]
    _LAST_TRIALS[:] = [*kept_beside, (digest, recorded, made)]
    return list(made)


def cells_of(sweep: Sweep, recorded: Sequence[Proposal] = ()) -> list[tuple[Cell, list[Proposal]]]:
    """All cells, each with the proposals of it that an earlier run wrote down; it keeps the name it
    has there.
    """
    by_axes: dict[str, list[Proposal]] = {}
    for proposal in recorded:
        by_axes.setdefault(key_of(proposal.axes), []).append(proposal)
    found = []
    for cell in expand(sweep):
        known = by_axes.get(key_of(cell.axes), [])
        found.append((replace(cell, id=known[0].cell) if known else cell, known))
    return found


def _all_trials(sweep: Sweep, recorded: Sequence[Proposal]) -> list[Trial]:
    made: list[Trial] = []
    for cell, known in cells_of(sweep, recorded):
        made += trials(sweep, cell, known)
    if not made:
        raise UserError(_nothing_allowed(sweep))
    return linked(made)


def _nothing_allowed(sweep: Sweep) -> str:
    drawn = any(parameter.distribution for parameter in sweep.parameters.values())
    return sweep.problem(
        ("constraints",),
        "no combination of values satisfies the constraints"
        + (f", of {MAX_TRIES} drawn in each cell" if drawn else ""),
    )


def _without_effect(sweep: Sweep) -> dict[str, str]:
    """What is searched, and what options of the model or of pipeline pyskl are given, for nothing:
    leaf -> the rule.

    An option that is given its default is none of them: so it stands in the resolved form.
    """
    shared = sweep.leaves()
    combinations = [
        completed(shared | combination)
        for combination in deciding_combinations(sweep, sweep.parameters)
    ]
    idle = frozenset.intersection(*map(unused, combinations))
    in_vain = [
        name
        for name in LEAVES
        if name in idle and (name in sweep.parameters or _is_given_option(name, combinations))
    ]
    return {name: f"has no effect{_why(name, combinations)}; leave it out" for name in in_vain}


def _is_given_option(name: str, combinations: Sequence[Mapping[str, Any]]) -> bool:
    is_option = name.startswith("model.") or name in (*OF_PYSKL, *OF_CTR, "sparsity.level")
    return is_option and any(
        leaves[name] != LEAVES[name].default_beside(leaves) for leaves in combinations
    )


def _why(name: str, combinations: Sequence[Mapping[str, Any]]) -> str:
    if name in OF_PYSKL + OF_CTR:
        return (
            " under pipeline"
            f" {', '.join(dict.fromkeys(leaves['data.pipeline'] for leaves in combinations))}"
        )
    if not name.startswith("model."):
        return " in any trial of the sweep"
    kind, deciding = (
        ("temporal modules", "model.temporal")
        if name == "model.branches"
        else ("backbones", "model.backbone")
    )
    return (
        f": none of the sweep's {kind}"
        f" ({', '.join(dict.fromkeys(leaves[deciding] for leaves in combinations))}) has it"
    )


def check_space(sweep: Sweep) -> list[str]:
    """What is wrong with the trials the sweep asks for, each rule once; empty if every one of them
    can be built and nothing is in vain.
    """
    in_vain = _without_effect(sweep)
    problems = {
        name: sweep.problem(sweep.place_of_leaf(name), rule) for name, rule in in_vain.items()
    }
    try:
        all_trials(sweep)
    except UserError:
        return list((problems | _trial_problems(sweep)).values())
    return list(problems.values())


def _trial_problems(sweep: Sweep) -> dict[str, str]:
    """What is wrong with the trials, by the message without the cell and the assignment."""
    problems: dict[str, str] = {}
    empty = True
    for cell in expand(sweep):
        try:
            tried = assignments(sweep, cell)
        except UserError as error:
            problems |= {text: text for text in error.problems if text not in problems}
            empty = False
            continue
        empty &= not tried
        for assignment in tried:
            try:
                build_config(sweep, cell, assignment, sweep.seed)
            except UserError as error:
                # then every trial has a value of its own
                drawn = any(sweep.parameters[name].distribution for name in assignment)
                for text in error.problems:
                    problems.setdefault(text.partition(", got " if drawn else " (cell ")[0], text)
    if empty:
        problems["constraints"] = _nothing_allowed(sweep)
    return problems
