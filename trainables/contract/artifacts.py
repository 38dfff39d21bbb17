"""The files a trial leaves behind: fixed names, `result.json` written last."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from trainables.contract.config import Frozen, TrialConfig
from trainables.contract.disk import check_form, digest_of, read_json, warn_once, write_atomic
from trainables.contract.errors import LaterForm, UserError, in_words

log = logging.getLogger(__name__)

FORM = 2
"""Of result.json: files of an earlier form, or without one (version 0.2), are read as well."""


Measured = Literal["in trial", "alone", "bench"]
"""When a latency was measured: by the trial, beside other trials; after all trials, with nothing
beside it; or again by `orchestrate bench`.
"""


class Latency(Frozen):
    """How long a deploy form takes; see the same names in `Cost`."""

    deploy_latency_ms: float
    deploy_batch64_latency_ms: float
    compact_latency_ms: float | None = None
    compact_batch64_latency_ms: float | None = None
    sparse_latency_ms: float | None = None
    sparse_batch64_latency_ms: float | None = None
    latency_device: str
    latency_threads: int
    latency_measured: Measured
    deploy_structure: str | None  # of the form that was timed


LATENCIES = tuple(name for name in Latency.model_fields if name.endswith("_ms"))
"""Metrics that are absent until the deploy form is timed."""


class Cost(Frozen):
    """What the trained network costs: the training form's size and the deploy form's size, work and
    time.
    """

    params: int  # training form, everything trainable
    nonzero_params: int  # training form, masked weights counted as zero
    # weights a mask may remove: of the convolutions, or of the fused kernels where sparsity.sharing
    # is branches or fused
    maskable_params: int
    removed_params: int  # those the mask removed: exactly what the level asks for
    released_params: int  # the released code's inference form
    released_leaf_params: int  # without adjacency matrices, as HPI-GCN's paper counts
    released_gmacs: float
    released_leaf_gmacs: float  # without joint mixing, as HPI-GCN's paper counts
    deploy_params: int
    deploy_leaf_params: int  # without adjacency matrices
    deploy_nonzero_params: int
    deploy_bytes: int | None = None  # of the deploy form's file; None: not noted (before 0.2.0)
    deploy_gmacs: float  # 1e9 multiply-accumulates per clip, all persons, joint mixing included
    deploy_leaf_gmacs: float  # convolutions and linear layers only
    deploy_peak_mb: float  # 1e6 bytes of activations alive at once, batch 1
    # names the structure of the deploy form: equal ones take equally long run dense; None: not
    # noted (before 0.3.0)
    deploy_structure: str | None = None
    # names the share of its work that kept weights are, in steps; None: not noted (before 0.6.0)
    deploy_kept: str | None = None
    deploy_latency_ms: float | None = None  # median of one clip at batch 1; None: not timed yet
    deploy_batch64_latency_ms: float | None = None  # of a batch of 64
    # of the deploy form without the channels that masks made useless; None: hardly any, or not
    # timed
    compact_latency_ms: float | None = None
    compact_batch64_latency_ms: float | None = None
    # of the deploy form on its kept weights alone, by `run_sparse`: that of the deploy form where
    # nothing is faster than dense; None: numba cannot be used, on a GPU, or not timed
    sparse_latency_ms: float | None = None
    sparse_batch64_latency_ms: float | None = None
    deploy_folded: str  # what the deploy form folds and what it keeps, in words
    deploy_max_abs_diff: float  # largest |training form - deploy form| over the selection logits
    latency_device: str | None = None
    latency_threads: int | None = None
    latency_measured: Measured | None = None

    @model_validator(mode="before")
    @classmethod
    def _before_it_was_noted(cls, value: Any) -> Any:
        """Until 0.3.0 every trial timed its own network."""
        if isinstance(value, dict) and value.get("deploy_latency_ms") is not None:
            return {"latency_measured": "in trial", **value}
        return value

    def equally_long(self, *, sparse: bool) -> str | None:
        """Equal for networks that take equally long; None: not known, so this one stands for
        itself. sparse: they are timed on their kept weights, too.
        """
        if not sparse or self.deploy_structure is None:
            return self.deploy_structure
        if self.deploy_kept is None and self.removed_params:
            return None  # one level or another
        return " ".join(filter(None, (self.deploy_structure, self.deploy_kept)))

    def timed(self, latency: Latency) -> Cost:
        """The same with another latency."""
        return self.model_copy(update=latency.model_dump())


FUSED = "fused"
"""In place of a level's name: all levels of a network together."""


class LevelResult(Frozen):
    """One level of a network of several levels by itself, or all of them together."""

    level: str  # its name, or FUSED
    # fraction; None when nothing was held out, or the level has no classifier
    selection_top1: float | None
    nonzero_params: int  # training form
    deploy_nonzero_params: int
    # of an expert in a mixture: fraction of the selection clips that the gate sends to it
    clip_share: float | None = None

    @classmethod
    def fused(cls, selection_top1: float | None, cost: Cost) -> LevelResult:
        """The row of all levels together."""
        return cls(
            level=FUSED,
            selection_top1=selection_top1,
            nonzero_params=cost.nonzero_params,
            deploy_nonzero_params=cost.deploy_nonzero_params,
        )


class TrialResult(Frozen):
    """How one trial ended; the numbers a sweep may choose, constrain and report by."""

    form: int = FORM  # of the file
    trial: str
    epochs: int
    kept_epoch: int  # the epoch that was shipped
    selection_clips: int
    selection_top1: float | None  # fraction; None when nothing was held out (paper protocol)
    selection_top5: float | None
    selection_loss: float | None
    selection_top1_last: float | None  # of the last epoch, beside the kept one
    train_loss: float
    # training time over all attempts, of epochs that another trial trained for it, too
    seconds: float
    clips_per_s: float  # median training throughput
    # of the epochs and of `seconds`, what another trial trained for this one too
    shared_epochs: int = 0
    shared_seconds: float = 0.0
    cost: Cost
    # of a network of several levels: each by itself, then fused
    levels: tuple[LevelResult, ...] = ()
    # what a person should know: layers without weights, levels that are cut off, batches that were
    # taken in halves
    warnings: tuple[str, ...] = ()
    # file, relative to the trial's folder -> SHA-256, of what belongs to this result:
    # configuration, deploy form, scores; empty: not noted (before 0.3.0)
    digests: dict[str, str] = Field(default_factory=dict)
    # SHA-256 of each file of the store it was trained and scored on; empty: not noted
    store_checksums: dict[str, str] = Field(default_factory=dict)
    # digest of the classes, joints and units that the store then had; "": not noted (before 0.7)
    store_meaning: str = ""

    @property
    def level(self) -> float:
        """Fraction of the maskable weights that are zero, measured."""
        return self.cost.removed_params / self.cost.maskable_params

    def metrics(self) -> dict[str, float]:
        """Every number under the name a sweep file uses for it."""
        own = self.model_dump(exclude=_NOT_NUMBERS) | self.cost.model_dump() | {"level": self.level}
        return {name: float(value) for name, value in own.items() if isinstance(value, int | float)}


EPOCH_METRICS: tuple[str, ...] = (
    "train_loss",
    "train_top1",
    "penalty",
    "level",
    "selection_loss",
    "selection_top1",
    "lr",
    "clips_per_s",
)
"""What a trial reports after every epoch; `level` only where it is learned."""

_NOT_NUMBERS = {
    *("form", "trial", "cost", "levels", "warnings", "digests"),
    *("store_checksums", "store_meaning"),
    *("shared_epochs", "shared_seconds"),
    *("latency_device", "latency_measured", "deploy_folded", "deploy_structure"),
    "deploy_kept",
}

RESULT_METRICS: tuple[str, ...] = (
    *(
        name
        for fields in (TrialResult.model_fields, Cost.model_fields)
        for name in fields
        if name not in _NOT_NUMBERS
    ),
    "level",
)
"""What a finished trial reports; objectives and constraints name one of these."""


def load_curve(path: Path) -> dict[str, list[Any]]:
    """The columns of a trial's metrics.parquet, a value per epoch; nothing where there is no such
    file, and with a warning where it is damaged.
    """
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:  # a fifth of the time that read_table takes
            columns: dict[str, list[Any]] = file.read(use_threads=False).to_pydict()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warn_once(log, f"{path}: is damaged, the curve is left out: {reason}")
        return {}
    if "epoch" not in columns:
        warn_once(log, f"{path}: is damaged, the curve is left out: it has no column 'epoch'")
        return {}
    return columns


@dataclass(frozen=True, slots=True)
class TrialDir:
    """The folder of one trial."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """One row per epoch (Parquet)."""
        return self.path / "metrics.parquet"

    @property
    def checkpoint_file(self) -> Path:
        return self.path / "checkpoint" / "last.pt"

    @property
    def best_file(self) -> Path:
        """Weights of the best epoch on the selection split so far."""
        return self.path / "checkpoint" / "best.pt"

    @property
    def kept_file(self) -> Path:
        """The checkpoint that holds the weights a complete trial ships."""
        return (
            self.best_file
            if self.load_config().train.keep == "best" and self.best_file.is_file()
            else self.checkpoint_file
        )

    @property
    def deploy_file(self) -> Path:
        return self.path / "deploy.pt"

    @property
    def selection_scores(self) -> Path:
        return self.path / "scores.selection.parquet"

    @property
    def test_scores(self) -> Path:
        """Without labels: those stay in the store until the final evaluation."""
        return self.path / "scores.test.parquet"

    @property
    def levels_file(self) -> Path:
        """Accuracy and size of each level of a network of several levels; absent otherwise."""
        return self.path / "levels.json"

    def level_scores(self, level: str, split: Literal["selection", "test"]) -> Path:
        """Scores of one level by itself; test scores without labels."""
        return self.path / "levels" / level / f"scores.{split}.parquet"

    @property
    def cost_file(self) -> Path:
        return self.path / "cost.json"

    @property
    def latency_file(self) -> Path:
        """How long the deploy form takes, where it was timed after the trial."""
        return self.path / "latency.json"

    @property
    def sparsity_file(self) -> Path:
        """Which tensors keep how many weights; absent for a dense network."""
        return self.path / "sparsity.json"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def failure_file(self) -> Path:
        """Why the trial failed for good; absent otherwise."""
        return self.path / "failure.json"

    def is_complete(self) -> bool:
        """True once everything is on disk: the result is written last."""
        return self.load_if_complete() is not None

    def load_config(self) -> TrialConfig:
        return TrialConfig.model_validate_json(self.config_file.read_bytes())

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that a result speaks of, as they are now, by their place in the
        folder.
        """
        files = [
            self.config_file,
            self.deploy_file,
            self.selection_scores,
            self.test_scores,
            *sorted(self.path.glob("levels/*/scores.*.parquet")),
        ]
        return {
            file.relative_to(self.path).as_posix(): digest_of(file)
            for file in files
            if file.is_file()
        }

    def checked(self, file: Path, result: TrialResult) -> Path:
        """`file` of the complete trial that `result` speaks of; UserError where it is not the one
        that the trial wrote. Results of before 0.3.0 name no files: nothing is checked.
        """
        name = file.relative_to(self.path).as_posix()
        if result.trial != self.path.name:
            raise UserError(
                f"{self.result_file}: must be the result of {self.path.name}, got that of"
                f" {result.trial}"
            )
        if result.digests and (not file.is_file() or digest_of(file) != result.digests.get(name)):
            raise UserError(
                f"{file}: must be the file that this trial wrote (its result.json holds the"
                " digest), got another one's content, or none"
            )
        return file

    def load(self) -> TrialResult:
        """The result of a complete trial, with the latency that was measured last; UserError where
        there is none that can be read.
        """
        record = read_json(self.result_file)
        if not isinstance(record, dict):
            raise UserError(f"{self.result_file}: is damaged, it must be a record of results")
        check_form(self.result_file, record.setdefault("form", 1), FORM)
        try:
            return self._timed(TrialResult.model_validate(record))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise UserError(
                f"{self.result_file}: is damaged, {place}: {in_words(problem['msg'])}"
            ) from error

    def load_if_complete(self) -> TrialResult | None:
        """The result; None where there is none, and with a warning where it is damaged: such a
        trial is completed again, from its checkpoint. LaterForm where a later version wrote it.
        """
        if not self.result_file.is_file():
            return None
        try:
            return self.load()
        except LaterForm:
            raise
        except UserError as error:
            warn_once(log, f"{error}; the trial counts as not finished")
            return None

    def _timed(self, result: TrialResult) -> TrialResult:
        """With the latency that was measured after the trial, where there is one of its network."""
        if not self.latency_file.is_file():
            return result
        try:
            latency = Latency.model_validate(read_json(self.latency_file))
        except (UserError, ValidationError) as error:
            warn_once(log, f"{self.latency_file}: is damaged and left out: {error}")
            return result
        if result.cost.deploy_structure not in (None, latency.deploy_structure):
            return result  # of another network: the trial was trained again
        return result.model_copy(update={"cost": result.cost.timed(latency)})

    def save_latency(self, latency: Latency) -> None:
        """Note how long the deploy form of the complete trial takes, atomically. What is timed is
        what the trial ships, so it is named as the result does: an older version may have described
        structures in other words.
        """
        structure = self.load().cost.deploy_structure
        if structure is not None:
            latency = latency.model_copy(update={"deploy_structure": structure})
        write_atomic(self.latency_file, latency.model_dump_json(indent=2).encode())

    def load_failure(self) -> str | None:
        """The reason the trial failed for good, or None."""
        if not self.failure_file.is_file():
            return None
        try:
            return str(read_json(self.failure_file)["reason"])
        except (UserError, LookupError, TypeError):
            return f"{self.failure_file} is damaged"
