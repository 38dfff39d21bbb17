"""What a finished trial is said to be: scores, accuracy, levels, sparsity and cost, in files.

Knows no training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainables.contract.artifacts import Cost, Latency, LevelResult, TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import forced_together, write_atomic, write_json
from trainables.cost.counting.levels import count_trial
from trainables.cost.measured import parameter_count, peak_activation_bytes
from trainables.data.batches.batches import Batches
from trainables.deploy.form import DeployForm, deploy_forms, folded, nonzero_params, save_deploy
from trainables.deploy.timing import clip_for, kept_of, structure_of
from trainables.inputs import Inputs, Part
from trainables.models.build import Backbone
from trainables.models.mixture import Mixture
from trainables.models.multilevel import MultiLevel
from trainables.network import mask_warnings, one_clip
from trainables.precision import full_float32
from trainables.proof import Proof
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import Kept, kept_weights, write_masks
from trainables.training.checkpoint import EpochMetrics, Progress
from trainables.training.evaluate import cross_entropy, score, top_k
from trainables.training.memory import halving
from trainables.training.schedule import Schedule


@dataclass(frozen=True)
class Removal:
    """What masks left of a trained network."""

    kept: list[Kept]  # of the training form's convolutions
    counted: list[Kept]  # of what the level counts
    warnings: list[str]  # see `mask_warnings`


@dataclass(frozen=True)
class Trained:
    """A network after its training, masks written into its weights."""

    network: Backbone | MultiLevel
    removal: Removal
    progress: Progress
    kept_epoch: int  # whose weights the network has


@dataclass(frozen=True)
class Shipped:
    """The deploy form of a trained network, proven equal to it."""

    form: DeployForm | MultiLevel
    # on the clips to choose on, or on the test clips where none are held out
    proof: Proof
    latency: Latency | None  # None: it is timed when all trials have ended


def settle_masks(
    network: Backbone | MultiLevel, schedule: Schedule | None, inputs: Inputs
) -> Removal:
    """Write the masks into the weights of a trained network; returns what they left."""
    config = inputs.config
    kept = kept_weights(network.eval(), list(network.blocks))
    warnings = mask_warnings(network, config, one_clip(config, inputs.store).to(inputs.device))
    counted = (
        schedule.counted(network)
        if isinstance(schedule, SparseGenerator) and config.sparsity.counts_fused
        else kept
    )
    # nested levels share their weights, and each has masks of its own
    if not isinstance(network, MultiLevel):
        write_masks(network)
    return Removal(kept, counted, warnings)


def write_outcome(
    inputs: Inputs,
    parts: Mapping[Part, Batches],
    trained: Trained,
    shipped: Shipped,
    out: TrialDir,
) -> TrialResult:
    """Score and weigh the deploy form and write every file of the trial, the result last."""
    with forced_together():
        result = _write_all_but_result(inputs, parts, trained, shipped, out)
    write_atomic(out.result_file, result.model_dump_json(indent=2).encode())
    return result


def _write_all_but_result(
    inputs: Inputs,
    parts: Mapping[Part, Batches],
    trained: Trained,
    shipped: Shipped,
    out: TrialDir,
) -> TrialResult:
    form, proof, labels = shipped.form, shipped.proof, None
    if inputs.held_out:
        labels = inputs.labels(proof.index)
        inputs.scores(proof.index, proof.logits, labels).save(out.selection_scores)
        index, logits = score(form, parts["test"].epoch(0))
    else:
        index, logits = proof.index, proof.logits
    inputs.scores(index, logits).save(out.test_scores)
    cost = _cost(inputs, trained, shipped).model_copy(
        update={"deploy_bytes": save_deploy(form, out.deploy_file)}
    )
    if shipped.latency is not None:
        cost = cost.timed(shipped.latency)
    levels = _levels(trained.network, form, inputs, parts, out)
    if levels:
        top1 = None if labels is None else top_k(proof.logits, labels, 1)
        levels.append(LevelResult.fused(top1, cost))
        write_json(out.levels_file, [level.model_dump() for level in levels])
    write_atomic(out.cost_file, cost.model_dump_json(indent=2).encode())
    if not inputs.config.sparsity.dense:
        write_json(out.sparsity_file, _sparsity(inputs.config, trained.removal, cost))
    _write_history(out.metrics_file, trained.progress.history)
    return TrialResult(
        trial=out.path.name,
        **_training(inputs, trained),
        **_accuracy(proof.logits, labels),
        cost=cost,
        levels=tuple(levels),
        warnings=(*trained.removal.warnings, *_halved(inputs.config, trained.progress)),
        digests=out.digests(),
        store_checksums=inputs.store.info.checksums,
        store_meaning=inputs.store.info.meaning,
    )


def _training(inputs: Inputs, trained: Trained) -> dict[str, Any]:
    """The result's figures on the training."""
    history = trained.progress.history
    return {
        "epochs": inputs.config.total_epochs,
        "kept_epoch": trained.kept_epoch,
        "selection_clips": len(inputs.split.selection),
        "selection_top1_last": history[-1]["selection_top1"] if inputs.held_out else None,
        "train_loss": history[trained.kept_epoch]["train_loss"],
        "seconds": trained.progress.seconds,
        "shared_epochs": trained.progress.shared_epochs,
        "shared_seconds": trained.progress.shared_seconds,
        "clips_per_s": float(np.median([row["clips_per_s"] for row in history])),
    }


def _halved(config: TrialConfig, progress: Progress) -> tuple[str, ...]:
    """What to know of a trial whose batches did not fit into memory."""
    if progress.halved_epoch < 0:
        return ()
    return (halving(config.train.batch_size, progress.halved_epoch),)


def _accuracy(logits: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """The result's figures on the clips to choose on; None without labels."""
    return {
        "selection_top1": None if labels is None else top_k(logits, labels, 1),
        "selection_top5": None if labels is None else top_k(logits, labels, 5),
        "selection_loss": None if labels is None else cross_entropy(logits, labels),
    }


def _levels(
    model: Backbone | MultiLevel,
    shipped: DeployForm | MultiLevel,
    inputs: Inputs,
    parts: Mapping[Part, Batches],
    out: TrialDir,
) -> list[LevelResult]:
    """Each level of a network of several by itself: its scores are written where it has a
    classifier; nothing for a single network.
    """
    if not isinstance(model, MultiLevel) or not isinstance(shipped, MultiLevel):
        return []
    trained, forms, found = model.levels(), shipped.levels(), []
    shares = _clip_shares(shipped, parts.get("selection"))
    rows = zip(
        model.level_names, model.networks, model.level_blocks, shipped.networks, shares, strict=True
    )
    for name, member, blocks, form, share in rows:
        top1 = None
        for part, batches in parts.items() if name in forms else ():
            index, logits = score(forms[name], batches.epoch(0))
            labels = inputs.labels(index) if part == "selection" else None
            inputs.scores(index, logits, labels).save(out.level_scores(name, part))
            top1 = top1 if labels is None else top_k(logits, labels, 1)
        found.append(
            LevelResult(
                level=name,
                selection_top1=top1,
                nonzero_params=parameter_count(trained.get(name, member))
                - sum(each.removed for each in kept_weights(member, blocks)),
                deploy_nonzero_params=nonzero_params(forms.get(name, form)),
                clip_share=share,
            )
        )
    return found


@torch.inference_mode()
def _clip_shares(shipped: MultiLevel, batches: Batches | None) -> list[float] | list[None]:
    """Of each expert of a mixture, the fraction of the clips that the gate sends to it (each view
    counts); None for other levels.
    """
    if not isinstance(shipped, Mixture) or batches is None:
        return [None] * len(shipped.networks)
    with full_float32():
        sent = torch.cat([shipped.sent(batch.x) for batch in batches.epoch(0)])
    shares: list[float] = sent.double().mean(dim=0).tolist()
    return shares


def _cost(inputs: Inputs, trained: Trained, shipped: Shipped) -> Cost:
    """What both forms cost; the size of the file is filled in once it is written."""
    form = shipped.form
    config, store, model, removal = inputs.config, inputs.store, trained.network, trained.removal
    counted = count_trial(
        config,
        store.layout,
        classes=len(store.info.classes),
        persons=store.info.persons,
        merges=[part.folding.merge for part in deploy_forms(form)],
    )
    maskable = len(config.sparsity.disjoint) * counted.maskable_params
    if config.sparsity.counts_fused:
        maskable = sum(math.prod(tensor.shape) for tensor in removal.counted)
    return Cost(
        params=parameter_count(model),
        nonzero_params=parameter_count(model) - sum(tensor.removed for tensor in removal.kept),
        maskable_params=maskable,
        removed_params=sum(tensor.removed for tensor in removal.counted),
        released_params=counted.released.params,
        released_leaf_params=counted.released.leaf_params,
        released_gmacs=counted.released.gmacs,
        released_leaf_gmacs=counted.released.leaf_gmacs,
        deploy_params=parameter_count(form),
        deploy_leaf_params=counted.deploy.leaf_params,
        deploy_nonzero_params=nonzero_params(form),
        deploy_gmacs=counted.deploy.gmacs,
        deploy_leaf_gmacs=counted.deploy.leaf_gmacs,
        deploy_folded=folded(model, form),
        deploy_max_abs_diff=shipped.proof.difference,
        deploy_peak_mb=peak_activation_bytes(form, clip_for(form)) / 1e6,
        deploy_structure=structure_of(form),
        deploy_kept=kept_of(form),
    )


def _sparsity(config: TrialConfig, removal: Removal, cost: Cost) -> dict[str, object]:
    """What `sparsity.json` says: the level, what it counts, and how much of every tensor that it
    counts is left.
    """
    fused = {
        "branches": "fused kernels of Rep-TCN, and every other convolution of the training form",
        "fused": "fused kernels of the deploy form, and every convolution that is not fused",
    }
    return {
        "level": cost.removed_params / cost.maskable_params,
        "counts": (
            fused[config.sparsity.sharing]
            if config.sparsity.counts_fused
            else "convolutions of the training form"
        ),
        "warnings": removal.warnings,
        "tensors": [asdict(tensor) for tensor in removal.counted],
    }


def _write_history(path: Path, history: list[EpochMetrics]) -> None:
    """One row per epoch."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(history), sink)
    write_atomic(path, sink.getvalue().to_pybytes())
