"""Problems of a space, and random draws from it."""

from __future__ import annotations

from orchestrator.sweep import Sweep
from orchestrator.trials.space import check_space

RANDOM = "method={name: random, trials_per_cell: 5}"


def space_problems(sweep: Sweep, folder) -> list[str]:
    return [problem.replace(f"{folder}/", "") for problem in check_space(sweep)]
