"""The story of one trial: data, model, masks, training, deploy form, scores, files.

Knows nothing of sweeps, Ray or MLflow.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainables.contract.artifacts import (
    Cost,
    LevelResult,
    TrialDir,
    TrialResult,
    write_atomic,
    write_json,
)
from trainables.contract.config import TrialConfig
from trainables.contract.errors import TrialFailed
from trainables.contract.locks import held
from trainables.contract.scores import Scores
from trainables.cost.counting.levels import count_trial
from trainables.cost.measured import device_name, latency_ms, parameter_count, peak_activation_bytes
from trainables.data.batches.batches import Batches
from trainables.data.store.cache import open_store
from trainables.data.store.reading import Split, Store
from trainables.deploy.compact import compact
from trainables.deploy.form import (
    DeployForm,
    deploy,
    deploy_forms,
    folded,
    nonzero_params,
    save_deploy,
)
from trainables.models.build import Backbone
from trainables.models.multilevel import Mixture, MultiLevel
from trainables.network import build_network, mask_warnings, one_clip, with_masks
from trainables.precision import full_float32
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import Kept, kept_weights, write_masks
from trainables.sparsity.source import source_folder, start_from
from trainables.training.checkpoint import EpochMetrics, Progress, load_tensors
from trainables.training.evaluate import cross_entropy, score, top_k
from trainables.training.loop import Fit, Outside

log = logging.getLogger(__name__)

EXACT_TOLERANCE = 1e-9
"""Largest |training form - deploy form| accepted in double precision, relative to the largest
logit: rounding stays near 1e-14.
"""

EXACT_CLIPS = 4

DEPLOY_TOLERANCE = 1e-4
"""The same in single precision, for networks without choices: rounding stays near 1e-6."""

ROUNDING_ROOM = 10.0
"""What single precision may differ by where a network enlarges rounding beyond that: so many times
the training form's own rounding.
"""

Part = Literal["selection", "test"]

LOCK_PATIENCE_S = 60.0
"""How long to wait for a process of a dead sweep to let go of the trial's folder; Ray ends those
within seconds.
"""


@dataclass(frozen=True)
class Removal:
    """What masks left of a trained network."""

    kept: list[Kept]  # of the training form's convolutions
    counted: list[Kept]  # of what the level counts
    warnings: list[str]  # see `mask_warnings`


def run_trial(
    config: TrialConfig,
    out: TrialDir,
    *,
    device: torch.device,
    root: Path = Path(),
    source: Path | None = None,
    report: Callable[[EpochMetrics], None] = lambda _metrics: None,
    warn: Callable[[str], None] = log.warning,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrialResult:
    """Train, mask, deploy, score and save one trial; a complete `out` is returned as it is, an
    interrupted one is continued.

    root: where a relative `data.store`, `sparsity.mask` or `sparsity.from` starts. source: the
    folder of the finished trial that `sparsity.from` stands for, where that is not itself a folder.
    warn: called before training with each sentence on the masks that a person should read.

    Raises TrialFailed where no further attempt can help (the reason is kept in `failure.json`),
    UserError where something outside the trial must be put right first, and Interrupted when asked
    to stop.
    """
    with held(
        out.path,
        patience=LOCK_PATIENCE_S,
        busy=f"{out.path}: must be trained by one process at a time, but another one holds it",
    ):
        if out.is_complete():
            return out.load()
        out.failure_file.unlink(missing_ok=True)
        for leftover in out.path.rglob(".*.partial"):  # of a process that was killed while it wrote
            leftover.unlink()
        write_atomic(out.config_file, config.model_dump_json(indent=2).encode())
        try:
            folder = source_folder(config.sparsity, source, root)
            return _run(
                config,
                open_store(config.data.store, root),
                out,
                device,
                root,
                folder,
                report,
                warn,
                should_stop,
            )
        except TrialFailed as failure:
            write_json(out.failure_file, {"reason": str(failure)})
            raise


def _run(
    config: TrialConfig,
    store: Store,
    out: TrialDir,
    device: torch.device,
    root: Path,
    source: Path | None,
    report: Callable[[EpochMetrics], None],
    warn: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> TrialResult:
    split = store.split(config.data.protocol, config.data.selection)
    model = build_network(config, store).to(device)
    if source is not None:
        start_from(model, config.model, source)
    training = _batches(store, split.train, config, device, training=True)
    clip = one_clip(config, store).to(device)
    model, masks = with_masks(model, config, training.steps, root, clip)
    for text in mask_warnings(model, config, clip):
        warn(text)
    selection = (
        _batches(store, split.selection, config, device, views=1) if len(split.selection) else None
    )
    fit = Fit(
        model,
        config.train,
        device=device,
        seed=config.seed,
        objective=model.objective,
        epochs=config.total_epochs,
        recipe_epoch=config.recipe_epoch,
        first_kept_epoch=config.first_kept_epoch,
        schedule=masks,
    )
    progress = fit.run(
        training, selection, Outside(out.checkpoint_file, out.best_file, report, should_stop)
    )
    del training, selection  # what they keep on the device makes room for the test clips
    kept_epoch = _load_kept(model, config, out, progress)
    kept, warnings = (
        kept_weights(model.eval(), list(model.blocks)),
        mask_warnings(model, config, clip),
    )
    counted = (
        masks.counted(model)
        if isinstance(masks, SparseGenerator) and config.sparsity.counts_fused
        else kept
    )
    # nested levels share their weights, and each has masks of its own
    if not isinstance(model, MultiLevel):
        write_masks(model)
    return _finish(
        config,
        out,
        store,
        split,
        model,
        Removal(kept, counted, warnings),
        progress,
        kept_epoch,
        device,
    )


def _batches(
    store: Store,
    indices: np.ndarray,
    config: TrialConfig,
    device: torch.device,
    *,
    training: bool = False,
    labelled: bool = True,
    views: int | None = None,
) -> Batches:
    return Batches(
        store,
        indices,
        config.data,
        batch_size=config.train.batch_size if training else config.train.eval_batch_size,
        device=device,
        training=training,
        seed=config.seed,
        labelled=labelled,
        views=views,
    )


def _load_kept(
    model: Backbone | MultiLevel, config: TrialConfig, out: TrialDir, progress: Progress
) -> int:
    """Put the weights to be shipped into the module; returns their epoch."""
    if config.train.keep == "last" or progress.best_epoch < 0:
        return config.total_epochs - 1
    best = load_tensors(out.best_file, next(model.parameters()).device)
    model.load_state_dict(best["model"])
    return int(best["epoch"])


def _finish(
    config: TrialConfig,
    out: TrialDir,
    store: Store,
    split: Split,
    model: Backbone | MultiLevel,
    removal: Removal,
    progress: Progress,
    kept_epoch: int,
    device: torch.device,
) -> TrialResult:
    """Build the deploy form, prove it equal, score and weigh it,
    write every file, the result last.
    """
    shipped = deploy(model, frames=config.data.frames)
    held_out = len(split.selection) > 0
    probe = _batches(
        store, split.selection if held_out else split.test, config, device, labelled=False
    )
    rounding = _prove_equal(model, probe, config.data.frames)
    index, logits, difference = _compare(model, shipped, probe, rounding)
    ids, labels = (
        store.column("id"),
        torch.from_numpy(store.column("label")[index.numpy()]) if held_out else None,
    )
    if labels is not None:
        Scores.of(ids[index.numpy()].tolist(), logits.numpy(), labels.numpy()).save(
            out.selection_scores
        )
    test = _batches(store, split.test, config, device, labelled=False)
    index, test_logits = score(shipped, test.epoch(0))
    Scores.of(ids[index.numpy()].tolist(), test_logits.numpy()).save(out.test_scores)
    written = save_deploy(shipped, out.deploy_file)
    cost = _cost(config, store, model, removal, shipped, device, difference).model_copy(
        update={"deploy_bytes": written}
    )
    top1 = top_k(logits, labels, 1) if labels is not None else None
    parts: dict[Part, Batches] = {"selection": probe, "test": test} if held_out else {"test": test}
    levels = _levels(model, shipped, parts, store, out)
    if levels:
        levels.append(LevelResult.fused(top1, cost))
        write_json(out.levels_file, [level.model_dump() for level in levels])
    write_atomic(out.cost_file, cost.model_dump_json(indent=2).encode())
    if not config.sparsity.dense:
        write_json(out.sparsity_file, _sparsity(config, removal, cost))
    _write_history(out.metrics_file, progress.history)
    result = TrialResult(
        trial=out.path.name,
        epochs=config.total_epochs,
        kept_epoch=kept_epoch,
        selection_clips=len(split.selection),
        selection_top1=top1,
        selection_top5=top_k(logits, labels, 5) if labels is not None else None,
        selection_loss=cross_entropy(logits, labels) if labels is not None else None,
        selection_top1_last=progress.history[-1]["selection_top1"] if held_out else None,
        train_loss=progress.history[kept_epoch]["train_loss"],
        seconds=progress.seconds,
        clips_per_s=float(np.median([row["clips_per_s"] for row in progress.history])),
        cost=cost,
        levels=tuple(levels),
        warnings=tuple(removal.warnings),
        digests=out.digests(),
        store_checksums=store.info.checksums,
    )
    write_atomic(out.result_file, result.model_dump_json(indent=2).encode())
    return result


def _levels(
    model: Backbone | MultiLevel,
    shipped: DeployForm | MultiLevel,
    parts: Mapping[Part, Batches],
    store: Store,
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
            labels = (
                torch.from_numpy(store.column("label")[index.numpy()])
                if part == "selection"
                else None
            )
            ids = store.column("id")[index.numpy()].tolist()
            Scores.of(ids, logits.numpy(), None if labels is None else labels.numpy()).save(
                out.level_scores(name, part)
            )
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


@torch.inference_mode()
def _prove_equal(model: Backbone | MultiLevel, batches: Batches, frames: int) -> float:
    """TrialFailed unless the folding is exact in double precision, where rounding cannot hide a
    mistake nor change a choice.

    Returns the training form's own rounding on the same clips, |single - double precision| relative
    to the largest logit. It is large where training has left BatchNorms with channels that are
    constant: those divide by next to nothing.
    """
    exact = copy.deepcopy(model).double().eval()
    clips = next(iter(batches.epoch(0))).x[:EXACT_CLIPS].double()
    form, expected = deploy(exact, frames=frames), exact(clips)
    for shipped in (form, _compacted(form)):
        if shipped is not None:
            _check_difference(expected, shipped(clips), EXACT_TOLERANCE)
    with full_float32():
        rounded = model.eval()(clips.float()).double()
    return float((rounded - expected).abs().max()) / max(float(expected.abs().max()), 1.0)


def _compacted(form: DeployForm | MultiLevel) -> DeployForm | None:
    """The form without useless channels; None where there is none, and for networks of several
    levels, whose masks remove single weights.
    """
    return compact(form) if isinstance(form, DeployForm) else None


def _compare(
    model: Backbone | MultiLevel,
    shipped: DeployForm | MultiLevel,
    batches: Batches,
    rounding: float,
) -> tuple[Tensor, Tensor, float]:
    """(index, deploy logits, largest difference to the training form) over the batches; TrialFailed
    if the two forms disagree.
    """
    _, trained = score(model, batches.epoch(0))
    index, logits = score(shipped, batches.epoch(0))
    tolerance = max(DEPLOY_TOLERANCE, ROUNDING_ROOM * rounding) if model.continuous else math.inf
    return index, logits, _check_difference(trained, logits, tolerance)


def _check_difference(trained: Tensor, shipped: Tensor, tolerance: float) -> float:
    difference, scale = float((trained - shipped).abs().max()), float(trained.abs().max())
    if not (math.isfinite(difference) and difference <= tolerance * max(scale, 1.0)):
        raise TrialFailed(
            "deploy form must give the training form's logits, got a difference of"
            f" {difference:.3g} at logits up to {scale:.3g}"
        )
    return difference


def _cost(
    config: TrialConfig,
    store: Store,
    model: Backbone | MultiLevel,
    removal: Removal,
    shipped: DeployForm | MultiLevel,
    device: torch.device,
    difference: float,
) -> Cost:
    merges = [form.folding.merge for form in deploy_forms(shipped)]
    counted = count_trial(
        config,
        store.layout,
        classes=len(store.info.classes),
        persons=store.info.persons,
        merges=merges,
    )
    clip = one_clip(config, store).to(device)
    maskable = len(config.sparsity.disjoint) * counted.maskable_params
    if config.sparsity.counts_fused:
        maskable = sum(math.prod(each.shape) for each in removal.counted)
    small = _compacted(shipped)
    return Cost(
        params=parameter_count(model),
        nonzero_params=parameter_count(model) - sum(each.removed for each in removal.kept),
        maskable_params=maskable,
        removed_params=sum(each.removed for each in removal.counted),
        released_params=counted.released.params,
        released_leaf_params=counted.released.leaf_params,
        released_gmacs=counted.released.gmacs,
        released_leaf_gmacs=counted.released.leaf_gmacs,
        deploy_params=parameter_count(shipped),
        deploy_leaf_params=counted.deploy.leaf_params,
        deploy_nonzero_params=nonzero_params(shipped),
        deploy_gmacs=counted.deploy.gmacs,
        deploy_leaf_gmacs=counted.deploy.leaf_gmacs,
        deploy_peak_mb=peak_activation_bytes(shipped, clip) / 1e6,
        deploy_latency_ms=latency_ms(shipped, clip),
        deploy_batch64_latency_ms=latency_ms(shipped, clip.expand(64, -1, -1, -1, -1)),
        compact_latency_ms=None if small is None else latency_ms(small, clip),
        compact_batch64_latency_ms=(
            None if small is None else latency_ms(small, clip.expand(64, -1, -1, -1, -1))
        ),
        deploy_folded=folded(model, shipped),
        deploy_max_abs_diff=difference,
        latency_device=device_name(device),
        latency_threads=torch.get_num_threads(),
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
        "tensors": [asdict(each) for each in removal.counted],
    }


def _write_history(path: Path, history: list[EpochMetrics]) -> None:
    """One row per epoch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(history), sink)
    write_atomic(path, sink.getvalue().to_pybytes())
