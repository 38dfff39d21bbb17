"""What the final evaluation of a sweep found, as one file: everything the report prints about
accuracy comes from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from orchestrator.ensembling.budgets import Measure
from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import Accuracy, Paired
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.statistics.calibration import Calibration
from orchestrator.ensembling.statistics.diversity import Diversity
from orchestrator.ensembling.statistics.intervals import Bootstrap
from orchestrator.ensembling.statistics.luck import Luck
from trainables.contract.config import Frozen
from trainables.contract.disk import read_json, write_atomic
from trainables.contract.errors import UserError, in_words

FILE = "evaluation.json"
VERSION = 6
"""Of what an evaluation holds: one of an earlier version still loads, and is made again by the next
final evaluation.
"""


Role = Literal["best member", "dense network"]
"""What a network is to the ensemble that is compared with it."""


TIMED: dict[str, str] = {
    "in trial": "measured in each trial, beside whatever else ran then",
    "alone": "measured when the trials had ended, each distinct network alone",
    "bench": "measured again by orchestrate bench, the networks in turns",
}
"""What `latency_measured` says, in words."""


class Size(Frozen):
    """What a network costs; for an ensemble the sum over its members, which run one after the
    other.
    """

    params: int  # training form
    nonzero_params: int  # training form, masked weights not counted
    deploy_params: int
    deploy_nonzero_params: int
    deploy_gmacs: float
    # activations at batch 1: the largest, not the sum; None in evaluations of version 2
    peak_mb: float | None = None
    latency_ms: float | None  # None: not timed
    batch64_latency_ms: float | None = None  # of a batch of 64; None in evaluations of version 2
    sparse_latency_ms: float | None = None  # of one clip on kept weights alone
    latency_device: str | None
    latency_threads: int | None
    latency_measured: str | None = "in trial"  # so evaluations of before 0.3.0

    @property
    def sparse_pays(self) -> bool:
        """Whether it was timed on its kept weights alone, and is not as fast densely."""
        return self.sparse_latency_ms not in (None, self.latency_ms)

    @property
    def timing(self) -> str:
        """Where and when the latency was measured, in words; empty where it was not."""
        if self.latency_ms is None or self.latency_threads is None:
            return ""
        threads = f"{self.latency_threads} thread{'' if self.latency_threads == 1 else 's'}"
        times = [TIMED[word] for word in (self.latency_measured or "").split(", ") if word]
        return ", ".join([str(self.latency_device), threads, " or ".join(times)])


class SeedSpread(Frozen):
    """Top-1 over trials that differ in nothing but the seed; standard deviations with n - 1."""

    seeds: int
    # None where nothing was held out, and in evaluations of version 3
    selection_mean: float | None = None
    selection_std: float | None
    test_mean: float
    test_std: float
    clean_mean: float | None = None  # on the clips of `Row.clean`
    clean_std: float | None = None


class SeedGain(Frozen):
    """Differences in test top-1, ensemble minus the other, seed by seed; the standard deviation
    with n - 1.
    """

    seeds: int
    mean: float
    std: float


class LevelRow(Frozen):
    """One level of a network of several levels by itself, evaluated."""

    level: str
    selection: Accuracy | None
    test: Accuracy
    clean: Accuracy | None
    seeds: SeedSpread | None = None


class Row(Frozen):
    """One member or ensemble, evaluated."""

    name: str
    kind: Literal["member", "ensemble"]
    axes: dict[str, Any]
    division: Division
    trials: tuple[str, ...]  # the networks it needs
    dense: bool  # a single network without a mask
    weights: dict[str, float] = Field(default_factory=dict)  # source -> weight; ensembles only
    # source -> what its logits are divided by before they are summed; those that have one
    temperatures: dict[str, float] = Field(default_factory=dict)
    method: str | None = None
    combine: str | None = None
    budget: dict[str, float] = Field(default_factory=dict)  # measure -> limit of its networks
    missing: tuple[str, ...] = ()  # sources that should be in it and have no scores
    left_out: tuple[str, ...] = ()  # sources that its weights do not name
    selection: Accuracy | None
    test: Accuracy
    clean: Accuracy | None  # test clips without a copy in training or selection; None when all are
    size: Size
    share_of_dense: float | None  # nonzero_params over those of the dense network
    seeds: SeedSpread | None = None
    levels: tuple[LevelRow, ...] = ()  # of a network of several levels: each by itself
    # on the test clips, None in evaluations of version 5: how sure top-1 is
    bootstrap: Bootstrap | None = None
    # None where the scores are no logits of probabilities, too
    calibration: Calibration | None = None
    diversity: Diversity | None = None  # of the networks of an ensemble; None of a single one
    # how much of `selection` is luck; None where nothing was chosen, or nothing was held out
    luck: Luck | None = None
    # of an ensemble: each fifth of the selection clips with what was chosen on the others
    cross_fitted: Accuracy | None = None


class Comparison(Frozen):
    """An ensemble against one network, on the test clips."""

    ensemble: str
    against: str
    role: Role
    # test: nothing was held out, which leans towards `against`
    chosen_on: Literal["selection", "test"]
    # all networks of this role that are equally good there, `against` among them; empty where it is
    # the only one, and in evaluations of version 4
    tied: tuple[str, ...] = ()
    test: Paired
    clean: Paired | None = None  # on the clips of `Row.clean`
    over_seeds: SeedGain | None = None  # None with a single seed, and in evaluations of version 3
    bootstrap: Bootstrap | None = None  # of `test.difference`; None in evaluations of version 5


class FrontPoint(Frozen):
    """An ensemble that no cheaper one is as good as on the selection split."""

    measure: Measure  # of cost
    limit: float  # the budget it was chosen within
    cost: float
    weights: dict[str, float]  # source -> weight
    selection: Accuracy  # which it was chosen by
    test: Accuracy | None = None  # None outside the final evaluation
    clean: Accuracy | None = None  # as `Row.clean`


class FirstTried(Frozen):
    """The chosen trial of a cell against the one that was tried first there (Overtuning; arXiv
    2506.19540): top-1 on test, means over the seeds of each.
    """

    cell: str
    contenders: int  # assignments that the chosen one was chosen from
    first: str  # trial
    chosen: str
    first_top1: float
    chosen_top1: float
    # of the first seeds: the chosen one against the first; None where they are one
    test: Paired | None

    @property
    def difference(self) -> float:
        return self.chosen_top1 - self.first_top1


class ChosenOnTest(Frozen):
    """Paper style: a network or ensemble whose trials and weights were chosen on the test clips, so
    that its accuracy there is no estimate of anything; it is compared with nothing.
    """

    name: str
    kind: Literal["member", "ensemble"]
    trials: tuple[str, ...]
    weights: dict[str, float]
    test: Accuracy


class TestSplit(Frozen):
    """The test clips of one division."""

    division: Division
    dataset: str
    classes: int
    selection_clips: int
    test_clips: int
    clean_clips: int
    # classes that occur among the clean clips; None in evaluations of version 1
    clean_classes: int | None = None
    # whether the store is still the one the members were trained on; None: not noted by the trials
    same_store: bool | None = None


class FinalEvaluation(Frozen):
    """Everything the final evaluation found."""

    version: int | None = None  # of this form; None: 5 or earlier
    # digest of the trials and recipes evaluated: the same inputs are not evaluated twice
    inputs: str
    # store -> digest of its content, whose labels were read
    stores: dict[str, str] = Field(default_factory=dict)
    splits: tuple[TestSplit, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    # cells in which there was a choice; none where nothing was held out, and in version 5
    first_tried: tuple[FirstTried, ...] = ()
    paper_style: tuple[ChosenOnTest, ...] = ()  # only where it was asked for
    missing: dict[str, str]  # cell without a member -> why
    skipped: dict[str, str]  # ensemble that could not be built -> why
    # by measure, the cheapest first; none where nothing was held out, and in version 5
    fronts: tuple[FrontPoint, ...] = ()
    # why the last ensemble is what ships, in words, where the file's order does not decide it
    shipping: str = ""

    @property
    def mixes_threads(self) -> bool:
        """Whether its latencies are of different numbers of CPU threads."""
        return len({row.size.latency_threads for row in self.rows} - {None}) > 1

    @property
    def headline(self) -> Row | None:
        """What a sweep ships: its last ensemble or, where it has none, its best network; None where
        no trial finished.

        The best network is the one of highest top-1 on the selection split, on the test split where
        nothing was held out (as everything is chosen there); of equal ones the first. Of several
        data sets or protocols it is of the first one where clips were held out, else of the first:
        accuracies on other clips do not compare.
        """
        ensembles = [row for row in self.rows if row.kind == "ensemble"]
        if ensembles:
            return ensembles[-1]
        left = [row for row in self.rows if row.division.held_out] or self.rows
        rows = [row for row in left if row.division == left[0].division]
        return max(rows, key=lambda row: (row.selection or row.test).top1, default=None)

    def predictions(self, run: Path, row: Row) -> Predictions | None:
        """What the row and all others of its division say of each test clip; None in evaluations of
        version 4.
        """
        number = next(i for i, each in enumerate(self.splits) if each.division == row.division)
        path = predictions_file(run, number)
        return Predictions.load(path) if path.is_file() else None

    def without_copies(self, row: Row) -> Accuracy | None:
        """A row's accuracy without the copies: on all its test clips where none is a copy, None
        where every one is.
        """
        split = next(split for split in self.splits if split.division == row.division)
        return row.test if split.clean_clips == split.test_clips else row.clean

    def save(self, run: Path) -> None:
        write_atomic(run / FILE, self.model_dump_json(indent=2).encode())

    @classmethod
    def load(cls, run: Path) -> FinalEvaluation | None:
        """What `save` wrote; None if the sweep has not come that far."""
        path = run / FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            found = read_json(path)
            version = found.get("version") if isinstance(found, dict) else None
            raise UserError(
                f"{path}: must be a final evaluation of form {VERSION} or earlier"
                + (f", got form {version}" if isinstance(version, int) else "")
                + f": {in_words(error.errors()[0]['msg'])}"
            ) from error


def predictions_file(run: Path, number: int) -> Path:
    """What every row says of each test clip of the division with that number in `splits`."""
    return run / "predictions" / f"{number}.parquet"
