"""What a stopping rule is, and the table of the rules there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.stopping.after_epochs import AfterEpochs
from orchestrator.stopping.asha import Asha
from orchestrator.stopping.course import Course
from orchestrator.stopping.median import Median
from orchestrator.stopping.plateau import Plateau
from orchestrator.stopping.ranking import Values


class StoppingRule(Protocol):
    """Decides for trials that compete with each other; others are never compared.

    It is told every counted epoch of its trials in the order of their arrival, each once, and
    decides by what it was told alone: told the same again, it decides the same.
    """

    def ends(self, trial: str, course: Course, counted: int, values: Values) -> bool:
        """Whether the trial ends after this epoch, the `counted`-th that counts, with the values of
        its objectives, larger being better. An epoch that it was not told of judges nobody.
        """
        ...


RULES: dict[str, Callable[[Any], StoppingRule]] = {
    "asha": Asha,
    "median": Median,
    "plateau": Plateau,
    "after_epochs": AfterEpochs,
}
"""early_terminate.type -> the rule of one group of trials, from the options of that type; `none`
has no rule.
"""
