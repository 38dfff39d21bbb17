"""The ways to run a sweep that are held against each other: its own, two plain ones, and what a
person asks for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError

BASELINE = "random to the end"
"""The way whose epochs the others are measured by."""

Load = Callable[[Sequence[str]], Sweep]
"""The checked sweep of the file with changes `a.b=value`; UserError where it cannot be so."""


@dataclass(frozen=True)
class Way:
    """One way to run the sweep."""

    name: str
    sweep: Sweep


def ways_of(load: Load, methods: Sequence[str], stops: Sequence[str]) -> tuple[list[Way], str]:
    """(the ways, why a plain one is left out or nothing): the file's own, random search to the end
    and with `after_epochs`, and every combination of what is asked for, each beside the file's own.
    """
    own, reason = load(()), ""
    found = [Way("the file's own", own)]
    random = _method(own, "random")
    found.append(Way(BASELINE, load([random, _stop("none")])))
    try:
        found.append(Way("random + after_epochs", load([random, _stop("after_epochs")])))
    except UserError as error:
        # nobody typed the change
        problem = re.sub(r"^--set (?:early_terminate |method )?", "", error.problems[0])
        reason = f"random + after_epochs is left out: {problem}"
    if methods or stops:
        for method, stop in product(methods or [""], stops or [""]):
            name = f"{method or own.method.name} + {stop or own.early_terminate.type}"
            found.append(Way(name, _asked_for(load, own, method, stop)))
    return found, reason


def _asked_for(load: Load, own: Sweep, method: str, stop: str) -> Sweep:
    """The sweep with another method, another early termination or both; UserError names the option
    that asked for it.
    """
    try:
        SEARCHES.find(method or own.method.name)
    except UserError as error:
        raise UserError(f"--method: {error}") from error
    changes = [_method(own, method)] if method else []
    changes += [_stop(stop)] if stop else []
    try:
        return load(changes)
    except UserError as error:
        problems = [*error.problems]
        for change, option in (("method", "--method"), ("early_terminate", "--stop")):
            problems = [
                problem.replace(f"--set {change}.", f"{option} {change}.").replace(
                    f"--set {change}", option
                )
                for problem in problems
            ]
        raise UserError.of(problems) from error


def _method(own: Sweep, name: str) -> str:
    """The change to another method with as many trials per cell as the largest cell has."""
    card = SEARCHES.find(name)
    left_out = {"name", "trials_per_cell", "warm_start"}
    left_out |= set() if card.learns else {"startup_trials"}
    left_out |= {"seeds"} if card.asked else {"final_seeds"}
    given = own.method.model_dump(mode="json", exclude=left_out, exclude_none=True)
    changed = {"name": name, **given}
    if SEARCHES.find(name).given != "combinations":
        counts = Counter(trial.proposal.cell for trial in all_trials(own))
        changed["trials_per_cell"] = (
            max(counts.values()) - own.method.final_seeds + 1
        ) // own.method.seeds
    return f"method={json.dumps(changed)}"


def _stop(text: str) -> str:
    """The change to another early termination: a type, or a mapping in YAML."""
    return f"early_terminate={text if text.lstrip().startswith('{') else f'{{type: {text}}}'}"
