"""The story of one trial: data, model, masks, training, deploy form, proof, outcome.

Knows nothing of sweeps, Ray or MLflow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import digest_of, remove_leftovers, write_atomic, write_json
from trainables.contract.errors import TrialFailed
from trainables.contract.locks import held
from trainables.data.batches.batches import Batches
from trainables.deploy.form import deploy
from trainables.deploy.timing import time_form
from trainables.inputs import Inputs
from trainables.models.build import Backbone
from trainables.models.multilevel import MultiLevel
from trainables.network import (
    build_network,
    mask_warnings,
    one_clip,
    train_merged,
    train_sparse,
    with_masks,
)
from trainables.outcome import Shipped, Trained, settle_masks, write_outcome
from trainables.proof import prove_equal, prove_folding
from trainables.reparam.fusible import FULL
from trainables.sparsity.source import dense_name, source_folder, start_from
from trainables.training.beginning import SharedStates
from trainables.training.checkpoint import EpochMetrics, load_tensors
from trainables.training.loop import Course, Fit, Outside
from trainables.training.memory import (
    BatchTooLarge,
    first_line,
    free_memory,
    halving,
    is_out_of_memory,
)

log = logging.getLogger(__name__)

LOCK_PATIENCE_S = 60.0
"""How long to wait for a process of a dead sweep to let go of the trial's folder; Ray ends those
within seconds.
"""

CHECKPOINT_EVERY_S = 2.0
"""Writing a checkpoint takes as long as a short epoch; so much training is lost with a process."""


@dataclass(frozen=True)
class Setup:
    """Where a trial runs, and what it finds there."""

    device: torch.device
    # where a relative `data.store`, `sparsity.mask` or `sparsity.from` starts
    root: Path = Path()
    # the folder of the finished trial that `sparsity.from` stands for, where that is not itself a
    # folder
    source: Path | None = None
    # measure the latency now, beside whatever else runs: a sweep that chooses by it needs it
    timed: bool = False
    # what is trained for several trials: what this one may start from, and what it leaves
    beginnings: SharedStates = field(default_factory=SharedStates)

    def beginnings_from(self, source: Path | None) -> SharedStates:
        """The same for a trial whose weights come from `source`: what began with others is
        another beginning.
        """
        if source is None:
            return replace(self.beginnings, shared_name=dense_name)
        start, leave = self.beginnings.start, self.beginnings.leave
        # what they are, not where: a folder may be moved
        weights = digest_of(TrialDir(source).kept_file) if start or leave else ""
        return replace(
            self.beginnings,
            shared_name=dense_name,
            start=None if start is None else replace(start, source=weights),
            leave=tuple(replace(file, source=weights) for file in leave),
        )


@dataclass(frozen=True)
class Watch:
    """Who follows a trial while it runs."""

    # called after every epoch, once its checkpoint is safe; of the last one again where a trial is
    # continued
    report: Callable[[EpochMetrics], None] = lambda _metrics: None
    # called with each sentence that a person should read: on the masks before training, on memory
    # that does not suffice
    warn: Callable[[str], None] = log.warning
    should_stop: Callable[[], bool] = lambda: False  # asked after every step
    # called after every step: the epoch (0-based), how many of its steps are done, and of how many
    stepped: Callable[[int, int, int], None] = lambda _epoch, _step, _steps: None


def run_trial(
    config: TrialConfig, out: TrialDir, setup: Setup, watch: Watch | None = None
) -> TrialResult:
    """Train, mask, deploy, score and save one trial; a complete `out` is returned as it is, an
    interrupted one is continued.

    Raises TrialFailed where no further attempt can help (the reason is kept in `failure.json`),
    UserError where something outside the trial must be put right first, and Interrupted when asked
    to stop.
    """
    with held(
        out.path,
        patience=LOCK_PATIENCE_S,
        busy=f"{out.path}: must be trained by one process at a time, but another one holds it",
    ):
        if (result := out.load_if_complete()) is not None:
            return result
        out.failure_file.unlink(missing_ok=True)
        remove_leftovers(out.path)
        write_atomic(out.config_file, config.model_dump_json(indent=2).encode())
        try:
            return _run(config, out, setup, watch or Watch())
        except TrialFailed as failure:
            write_json(out.failure_file, {"reason": str(failure)})
            raise
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = f"memory does not suffice: {first_line(error)}"
            write_json(out.failure_file, {"reason": reason})
            raise TrialFailed(reason) from error


def _run(config: TrialConfig, out: TrialDir, setup: Setup, watch: Watch) -> TrialResult:
    """Where whole batches do not fit into memory, once more from the last checkpoint with halves of
    them.
    """
    try:
        return _attempt(config, out, setup, watch)
    except BatchTooLarge as error:
        warning = halving(config.train.batch_size, error.epoch)
    watch.warn(warning)
    free_memory()  # the exception, whose frames held the network and its step, is gone
    return _attempt(config, out, setup, watch, halve=True)


def _attempt(
    config: TrialConfig, out: TrialDir, setup: Setup, watch: Watch, *, halve: bool = False
) -> TrialResult:
    source = source_folder(config.sparsity, setup.source, setup.root)
    inputs = Inputs.open(config, setup.device, setup.root)
    network = build_network(config, inputs.store).to(inputs.device)
    if source is not None:
        start_from(network, config.model, source)
    setup = replace(setup, beginnings=setup.beginnings_from(source))
    trained = _train(network, inputs, out, setup, watch, halve)
    parts = inputs.scored()
    compared = parts.get("selection", parts["test"])
    folded = prove_folding(trained.network, compared, config.data.frames)
    proof = prove_equal(
        trained.network,
        folded,
        compared,
        absent_once=config.collapses_persons(inputs.store.info.persons),
    )
    latency = time_form(folded.form, "in trial") if setup.timed else None
    return write_outcome(inputs, parts, trained, Shipped(folded.form, proof, latency), out)


def _train(
    plain: Backbone | MultiLevel,
    inputs: Inputs,
    out: TrialDir,
    setup: Setup,
    watch: Watch,
    halve: bool,
) -> Trained:
    """The network with its masks, trained, with the weights that are kept.

    What batches keep on the device is free again afterwards: it makes room for the test clips.
    """
    config, batches = inputs.config, inputs.training()
    clip = one_clip(config, inputs.store).to(inputs.device)
    network, masks = with_masks(plain, config, batches.steps, setup.root, clip)
    if config.train.fast == "auto":
        train_merged(network)
    notes = (
        *mask_warnings(network, config, clip),
        *train_sparse(network, config, inputs.device),
    )
    for text in notes:
        watch.warn(text)
    fit = Fit(
        network,
        config.train,
        seed=config.seed,
        objective=network.objective,
        course=Course.of(config),
        schedule=masks,
    )
    outside = Outside(
        out.checkpoint_file,
        out.best_file,
        watch.report,
        watch.should_stop,
        lambda epoch, step: watch.stepped(epoch, step, batches.steps),
        CHECKPOINT_EVERY_S,
        setup.beginnings,
    )
    selection = inputs.selection()
    progress = fit.run(
        batches, selection, outside, halve=halve, evaluated=_evaluated(network, inputs, selection)
    )
    kept_epoch = _load_kept(network, config, out, fit)
    return Trained(network, settle_masks(network, masks, inputs), progress, kept_epoch)


def _evaluated(
    network: Backbone | MultiLevel, inputs: Inputs, selection: Batches | None
) -> Callable[[], nn.Module] | None:
    """What makes the form that epochs are evaluated in, with masks as they are; None: the training
    form, also where rounding could change a choice.
    """
    config, persons = inputs.config, inputs.store.info.persons
    deploys = selection is not None and config.evaluates_deployed(selection.clips, persons)
    if not (deploys and network.continuous):
        return None

    def form() -> nn.Module:
        network.eval()
        shipped = deploy(network, FULL, frames=config.data.frames)
        network.train()
        return shipped

    return form


def _load_kept(network: Backbone | MultiLevel, config: TrialConfig, out: TrialDir, fit: Fit) -> int:
    """Put the weights to be shipped into the network; returns their epoch."""
    epoch = fit.progress.best_epoch
    if config.train.keep == "last" or epoch < 0:
        return config.total_epochs - 1
    if fit.best is not None:
        network.load_state_dict(fit.best.model)
    else:  # an earlier process trained that epoch
        kept = load_tensors(out.best_file, next(network.parameters()).device)
        network.load_state_dict(kept["model"])
    return epoch
