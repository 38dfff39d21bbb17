"""The deploy form of a trained network: built anew, filled with fused kernels, saved and loaded."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trainables.contract.artifacts import write_atomic
from trainables.contract.errors import UserError
from trainables.models.backbone import DEPLOY, Backbone, NetworkSpec
from trainables.models.build import build_form
from trainables.reparam.fusible import Fusible

FORMAT = "orchestrate deploy form 1"


def deploy(model: Backbone) -> Backbone:
    """The re-parameterised network in evaluation mode: same logits as `model.eval()`, same dtype and device, no shared memory.

    Weights are read through the modules' attributes, so attached masks are applied; `model` is not changed.
    """
    empty = _architecture(model.spec)
    with torch.no_grad():
        state = _fused_state(model, empty, prefix="")
    return _filled(empty, state)


def save_deploy(model: Backbone, path: Path) -> None:
    """Write a deploy form so that `load_deploy` can rebuild it: specification and plain tensors, atomically."""
    content = io.BytesIO()
    torch.save({"format": FORMAT, "spec": model.spec.model_dump(mode="json"), "state": model.state_dict()}, content)
    write_atomic(path, content.getvalue())


def load_deploy(path: Path) -> Backbone:
    """The deploy form `save_deploy` wrote, on the CPU, in evaluation mode; UserError if the file is missing or damaged."""
    content = _read(path)
    try:
        spec = NetworkSpec.model_validate(content["spec"])
        return _filled(_architecture(spec), content["state"])
    except (ValidationError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: must hold a deploy form whose tensors fit its specification, got: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """The file's dictionary, or UserError."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: must be a deploy form, got {'another kind of file' if path.exists() else 'no such file'}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a readable deploy form: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: must be a file of format '{FORMAT}', got something else")
    return content


def _architecture(spec: NetworkSpec) -> Backbone:
    """The deploy form without memory: building draws no random number."""
    with torch.device("meta"):
        return build_form(spec, DEPLOY)


def _filled(empty: Backbone, state: dict[str, Tensor]) -> Backbone:
    """`empty` with every tensor taken from `state`; RuntimeError if one is missing, left over or of another shape."""
    empty.load_state_dict(state, strict=True, assign=True)
    return empty.eval().requires_grad_(False)


def _fused_state(trained: nn.Module, empty: nn.Module, *, prefix: str) -> dict[str, Tensor]:
    """State of `empty`, the deploy form of `trained`: the two are walked together, piece by piece of the same name."""
    if isinstance(trained, Fusible) and type(trained) is not type(empty):
        return {prefix + name: tensor.detach().clone() for name, tensor in trained.fused_state().items()}
    names = [name for name, _ in (*empty.named_parameters(recurse=False), *empty.named_buffers(recurse=False))]
    state = {prefix + name: getattr(trained, name).detach().clone() for name in names}
    for name, child in empty.named_children():
        state |= _fused_state(trained.get_submodule(name), child, prefix=f"{prefix}{name}.")
    return state
