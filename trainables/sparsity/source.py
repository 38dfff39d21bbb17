"""Starting from the weights of another trial. Knows a trial's folder, no network."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import ModelConfig
from trainables.contract.errors import UserError
from trainables.contract.sparsity import FROM_THE_SWEEP, SparsityConfig
from trainables.reparam.fusion import ON_A_FUSED_KERNEL
from trainables.sparsity.masks import weights_with_masks_written
from trainables.sparsity.rewinding import REWIND_POINT
from trainables.training.checkpoint import load_tensors

NOT_ARCHITECTURE = ("dropout", "layout", "input_block")
"""Settings of a model that decide nothing about its weights, or
whose effect shows in their names.
"""


def source_folder(sparsity: SparsityConfig, fetched: Path | None, root: Path) -> Path | None:
    """The folder of the trial whose weights training starts from; None: it starts from the weights
    that were drawn.

    given: what the sweep found for `from`; root: where a relative folder starts.
    """
    if sparsity.dense or sparsity.network != "single" or sparsity.source is None:
        return None
    if fetched is None and sparsity.source == FROM_THE_SWEEP:
        raise UserError(
            f"sparsity.from: '{FROM_THE_SWEEP}' is known within a sweep alone; a trial needs the"
            " folder of a finished one"
        )
    return root / sparsity.source if fetched is None else fetched


def start_from(network: nn.Module, model: ModelConfig, folder: Path) -> None:
    """Load what the finished trial in `folder` ships into the network, masks written into its
    weights.

    UserError unless the trial is complete, its architecture is that of `model`, and every tensor is
    there by name and shape.
    """
    kept = _kept_weights(_finished(folder, model))
    problems = [
        f"sparsity.from: {folder}: {text}" for text in _differences(network.state_dict(), kept)
    ]
    if problems:
        raise UserError.of(problems)
    network.load_state_dict(kept)


def dense_name(name: str) -> str | None:
    """What a tensor of a network with masks is called in the one without; None: a dense network has
    none such.
    """
    layer, masked, behind = name.partition(".parametrizations.")
    if masked:
        tensor, _, part = behind.partition(".")
        return f"{layer}.{tensor}" if part == "original" else None
    return None if ".masked." in name else name  # on a fused kernel


def _finished(folder: Path, model: ModelConfig) -> TrialDir:
    trial = TrialDir(folder)
    if not folder.is_dir() or not trial.is_complete():
        reason = "a folder without a readable result" if folder.is_dir() else "no such folder"
        raise UserError(
            f"sparsity.from: {folder}: must be the folder of a finished trial, got {reason}"
        )
    try:
        theirs = trial.load_config().model.model_dump(mode="json", exclude=set(NOT_ARCHITECTURE))
    except (OSError, ValidationError) as error:
        raise UserError(
            f"sparsity.from: {trial.config_file}: must be a trial's configuration: {error}"
        ) from error
    ours = model.model_dump(mode="json", exclude=set(NOT_ARCHITECTURE))
    differing = [
        f"model.{name} is {theirs[name]} there and {ours[name]} here"
        for name in ours
        if theirs[name] != ours[name]
    ]
    if differing:
        raise UserError(
            f"sparsity.from: {folder}: must be a trial of the same architecture, but"
            f" {', '.join(differing)}"
        )
    return trial


def _kept_weights(trial: TrialDir) -> dict[str, Tensor]:
    """What the trial ships, as plain weights on the CPU."""
    path = trial.kept_file
    if not path.is_file():
        raise UserError(
            f"sparsity.from: {path}: must hold the weights of a finished trial, got no such file"
            " (retain.checkpoints of its sweep and orchestrate clean remove such)"
        )
    state = load_tensors(path, torch.device("cpu"))["model"]
    if any(name.endswith(ON_A_FUSED_KERNEL) for name in state):
        raise UserError(
            f"sparsity.from: {trial.path}: must not be of sparsity.sharing fused, whose masks are"
            " on kernels that its weights make"
        )
    return weights_with_masks_written(
        {name: tensor for name, tensor in state.items() if not name.startswith(REWIND_POINT)}
    )


def _differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """Every tensor that is not in both, or not of the same shape."""
    missing = [f"{name}: must be there" for name in ours.keys() - theirs]
    extra = [f"{name}: no tensor of this network" for name in theirs.keys() - ours]
    common = ours.keys() & theirs
    wrong = [
        f"{name}: must have shape {tuple(ours[name].shape)}, got {tuple(theirs[name].shape)}"
        for name in common
        if ours[name].shape != theirs[name].shape
    ]
    return sorted(missing + extra + wrong)
