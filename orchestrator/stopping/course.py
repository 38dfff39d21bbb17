"""Where in a trial's training a stopping rule looks: from which epoch on, and at which points."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from orchestrator.sweep.stopping import (
    AfterEpochsOptions,
    AshaOptions,
    Comparing,
    MedianOptions,
    PlateauOptions,
)
from trainables.contract.config import TrialConfig

SHARE_BEFORE_FIRST_POINT = 3
"""Without a `grace`, the first comparison comes after a third of the epochs that count: the
sparsest networks are at chance for a while after their masks are final.
"""


@dataclass(frozen=True, slots=True)
class Course:
    """The epochs of one trial. They are epochs of its training, whatever `data.repeat` is."""

    epochs: int  # of training in all
    start: int  # the first ones, which count for no comparison

    @classmethod
    def of(cls, config: TrialConfig, options: Comparing) -> Course:
        """The course of a trial: without a number in the file, epochs count from the first one
        after which its weights may be shipped, the masks being final.
        """
        start = options.min_epochs
        return cls(
            config.total_epochs, config.first_kept_epoch if start == "after_warmup" else start
        )

    @property
    def counted(self) -> int:
        """Epochs that count."""
        return self.epochs - self.start


def points_of(options: Comparing, course: Course) -> tuple[int, ...]:
    """Numbers of counted epochs after which a trial may end, as far as they are known beforehand:
    all rungs of asha, the first such epoch of the others. None at the trial's end or later.
    """
    if isinstance(options, PlateauOptions):
        found = [options.patience + 1]  # the first counted epoch is the best so far
    else:
        found = [options.grace or _default_grace(course)]
    while isinstance(options, AshaOptions) and found[-1] < course.counted:
        found.append(found[-1] * options.eta)
    return tuple(point for point in found if point < course.counted)


def _default_grace(course: Course) -> int:
    return ceil(course.counted / SHARE_BEFORE_FIRST_POINT)


def fewest_trials(options: Comparing) -> int:
    """In a cell with fewer trials the rule can end none."""
    match options:
        case MedianOptions():
            return options.min_trials + 1
        case AfterEpochsOptions():
            return options.keep + 1
        case _:
            return 2
