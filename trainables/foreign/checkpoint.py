"""From a checkpoint file of another code base to a network of ours, with a strict account of every tensor."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.foreign import ctr_gcn, hd_gcn, hpi_gcn, info_gcn, pyskl_aa_gcn, pyskl_ctr_gcn, pyskl_dg_stgcn, pyskl_st_gcn
from trainables.foreign.family import Converted, Family, Tensors, convert
from trainables.layouts import Layout
from trainables.models.build import Backbone, build_backbone
from trainables.models.deploy import DeployForm, deploy
from trainables.reparam.fusible import RELEASED

FAMILIES: tuple[Family, ...] = (
    hpi_gcn.TRAINED,
    hpi_gcn.DEPLOYED,
    pyskl_aa_gcn.PYSKL,
    pyskl_dg_stgcn.PYSKL,
    pyskl_st_gcn.ONE_CONVOLUTION,
    pyskl_st_gcn.SIX_BRANCHES,
    ctr_gcn.OFFICIAL,
    pyskl_ctr_gcn.PYSKL,
    info_gcn.INFO_GCN,
    hd_gcn.HD_GCN,
)

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training code puts the tensors beside an optimiser and an epoch."""


_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
"""What a damaged file makes torch raise."""


@dataclass(frozen=True)
class Imported:
    """A network filled from a foreign checkpoint."""

    network: Backbone | DeployForm
    source: str
    matched: int  # tensors of theirs that were taken over
    unused: dict[str, str]  # their names -> why they are not needed
    constructed: tuple[str, ...]  # our tensors such a checkpoint does not hold


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint; nothing in the file is executed. Wrappers and `module.` prefixes are taken off."""
    if not path.is_file():
        raise UserError(f"{path}: must be a checkpoint, got no such file")
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of pickles older or newer than torch's own
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a checkpoint that can be read without running code from it: {_reason(error)}") from error
    while isinstance(content, dict) and (wrapped := next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)):
        content = wrapped
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: must hold a state dict of tensors, as it is or under {', '.join(WRAPPERS)}, got something else")
    return {re.sub(r"^(module\.)+", "", str(name)): tensor for name, tensor in content.items()}


def _reason(error: Exception) -> str:
    """In one line, without torch's advice to run the code all the same."""
    asked = re.search(r"Unsupported global: GLOBAL (\S+)", str(error)) or re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    if asked is None:
        return next(iter(str(error).splitlines()), type(error).__name__)
    return f"it asks for {asked[1]}" if "GLOBAL" in asked[0] else asked[1].strip()


def import_tensors(
    theirs: Tensors, backbone: str, layout: Layout, *, persons: int | None = None, options: dict[str, Any] | None = None
) -> Imported:
    """The network `backbone` of ours filled with `theirs`; UserError names every tensor that is left over, missing or of another shape.

    persons: needed where the tensors do not show it. options: of the model, where the tensors do not show them.
    """
    family = _family(theirs, backbone)
    try:
        architecture = family.architecture(theirs)
    except (LookupError, ZeroDivisionError) as error:
        lacking = f"{error.args[0]} must be in the checkpoint" if isinstance(error, KeyError) else f"a tensor has too few axes ({error})"
        raise UserError(f"the network cannot be read off the checkpoint ({family.source}): {lacking}") from error
    model = {**architecture.model, **(options or {})}
    if model["backbone"] != backbone:
        raise UserError(f"the checkpoint must be of {backbone}, got {model['backbone']} ({family.source})")
    if architecture.joints != layout.size:
        raise UserError(f"layout must have the checkpoint's {architecture.joints} joints, got {layout.name} with {layout.size}")
    try:
        config = ModelConfig.model_validate(model)
    except ValidationError as error:
        raise UserError(f"the checkpoint's network cannot be built here: {error.errors()[0]['msg']}") from error
    network = build_backbone(
        config,
        layout,
        classes=architecture.classes,
        persons=architecture.persons or persons or 2,
        stream=StreamConfig(),
        seed=0,
    ).to(next(tensor.dtype for tensor in theirs.values() if tensor.is_floating_point()))
    target = deploy(network, RELEASED) if family.deployed else network
    try:
        converted = convert(family, theirs)
    except (LookupError, RuntimeError) as error:  # parts of one tensor of ours that are missing or do not fit together
        lacking = f"{error.args[0]} (our name) is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"the checkpoint's tensors do not fit together ({family.source}): {lacking}") from error
    return _filled(target, family, converted, len(theirs))


def _family(theirs: Tensors, backbone: str) -> Family:
    """The first family of that backbone whose names these are."""
    own = [family for family in FAMILIES if backbone in family.backbones]
    found = next((family for family in own if family.recognises(theirs)), None)
    if found is None:
        other = next((family for family in FAMILIES if family.recognises(theirs)), None)
        seen = f"those of {other.source}" if other else f"{len(theirs)} tensors such as {', '.join(list(theirs)[:3])}"
        expected = "; ".join(family.source for family in own) or "no known code base"
        raise UserError(f"the checkpoint's names must be those of a {backbone} ({expected}), got {seen}")
    return found


def _filled(target: Backbone | DeployForm, family: Family, converted: Converted, total: int) -> Imported:
    own = target.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    state = {name: tensor for name, tensor in converted.state.items() if name not in counters}
    constructed = {name for name in own if any(re.search(pattern, name) for pattern in family.absent)}
    problems = [f"{name}: no rule of {family.source} covers this tensor" for name in converted.unknown]
    problems += [f"{name}: must be a tensor of the network, which has none of this name" for name in sorted(state.keys() - own.keys())]
    problems += [f"{name}: must be in the checkpoint, but is missing" for name in sorted(own.keys() - state.keys() - counters - constructed)]
    problems += [
        f"{name}: must have shape {tuple(own[name].shape)}, got {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if problems:
        raise UserError.of(problems)
    target.load_state_dict(state, strict=False)
    return Imported(target, family.source, total - len(converted.unused), converted.unused, tuple(sorted(constructed - state.keys())))
