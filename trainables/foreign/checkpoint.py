"""From a checkpoint file of another code base to a network of ours, with a strict account of every
tensor.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.contract.model import option_used
from trainables.deploy.form import FORMAT as DEPLOY_FORMAT
from trainables.deploy.form import DeployForm, deploy
from trainables.deploy.weights import FORMAT as WEIGHTS_FORMAT
from trainables.foreign import (
    ctr_gcn,
    hd_gcn,
    hpi_gcn,
    info_gcn,
    pyskl_aa_gcn,
    pyskl_ctr_gcn,
    pyskl_dg_stgcn,
    pyskl_st_gcn,
)
from trainables.foreign.family import COUNTER, Converted, Family, Tensors, convert, their_names
from trainables.graphs import centre_joint
from trainables.layouts import Layout
from trainables.models.build import Backbone, build_backbone
from trainables.reparam.fusible import RELEASED
from trainables.training.checkpoint import Progress

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

WRAPPED_AT_MOST = 8
"""Wrappers inside each other; a dictionary that holds itself has no last one."""

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DENSE = "must be a dense tensor of integers or of float16, bfloat16, float32 or float64"
NO_COUNTER = "a count of training steps that the network here does not keep"

_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""What a damaged file makes torch raise."""


@dataclass(frozen=True)
class Imported:
    """A network filled from a foreign checkpoint."""

    network: Backbone | DeployForm
    source: str
    matched: int  # tensors of theirs that were taken over
    unused: dict[str, str]  # their names -> why they are not needed
    constructed: tuple[str, ...]  # our tensors such a checkpoint does not hold
    assumed: tuple[str, ...]  # what changes results and was neither in the file nor said


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint; nothing in the file is executed.

    Wrappers and `module.` prefixes are taken off.
    """
    if not path.is_file():
        raise UserError(f"{path}: must be a checkpoint, got no such file")
    try:
        # of pickles older or newer than torch's own
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: not a checkpoint that can be read without running code from it:"
            f" {_reason(error)}"
        ) from error
    if (own := _own(content)) is not None:
        raise UserError(f"{path}: must be a checkpoint of released code, got {own}")
    content = _unwrapped(path, content)
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise UserError(
            f"{path}: must hold a state dict of tensors, as it is or under {', '.join(WRAPPERS)},"
            " got something else"
        )
    stored: dict[str, list[str]] = {}
    for name in content:
        stored.setdefault(re.sub(r"^(module\.)+", "", str(name)), []).append(str(name))
    problems = [
        f"{path}: {name}: must be stored once, got {' beside '.join(names)}"
        for name, names in stored.items()
        if len(names) > 1
    ]
    kinds = ((name, _unusual(tensor)) for name, tensor in content.items())
    problems += [f"{path}: {name}: {DENSE}, got {kind}" for name, kind in kinds if kind is not None]
    if problems:
        raise UserError.of(problems)
    return dict(zip(stored, content.values(), strict=True))


def _own(content: Any) -> str | None:
    """What a file is that was written here, and what loads it; None for other files."""
    if not isinstance(content, dict):
        return None
    for kind, what, loader in (
        (DEPLOY_FORMAT, "a deploy form", "trainables.deploy.form.load_deploy"),
        (WEIGHTS_FORMAT, "a file of weights", "trainables.deploy.weights.load_weights"),
    ):
        if str(content.get("format")).startswith(kind.rstrip(" 0123456789")):
            return f"{what} of orchestrate, which {loader} loads"
    progress = content.get("progress")
    if isinstance(progress, dict) and progress.keys() == {field.name for field in fields(Progress)}:
        return (
            "the checkpoint a trial of orchestrate resumes from"
            " (trainables.training.checkpoint.load_checkpoint); trainables.deploy.form.load_deploy"
            " loads the deploy.pt of a finished one"
        )
    return None


def _unwrapped(path: Path, content: Any) -> Any:
    """What lies under the wrappers; UserError where two of one dictionary hold something, or where
    there is no end to them.
    """
    for _ in range(WRAPPED_AT_MOST + 1):
        inside = (
            {key: content[key] for key in WRAPPERS if isinstance(content.get(key), dict)}
            if isinstance(content, dict)
            else {}
        )
        holding = {
            key: value
            for key, value in inside.items()
            if any(isinstance(item, Tensor | dict) for item in value.values())
        }
        if len({id(value) for value in holding.values()}) > 1:
            raise UserError(f"{path}: must hold one state dict, got {' beside '.join(holding)}")
        if not any(inside.values()):
            return content
        content = next(value for value in (*holding.values(), *inside.values()) if value)
    raise UserError(
        f"{path}: must wrap its state dict at most {WRAPPED_AT_MOST} times, got more, or a"
        " dictionary that holds itself"
    )


def _unusual(tensor: Tensor) -> str | None:
    """What makes a tensor one that no network here is filled with; None if nothing does."""
    for found, kind in (
        (tensor.is_nested, "a nested one"),
        (tensor.layout != torch.strided, f"one of layout {_name(tensor.layout)}"),
        (tensor.is_quantized, f"a quantised one, {_name(tensor.dtype)}"),
        (tensor.is_meta, "one without data (meta)"),
        (
            (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype not in PRECISIONS,
            f"one of {_name(tensor.dtype)}",
        ),
    ):
        if found:
            return kind
    return None


def _name(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")


def _reason(error: Exception) -> str:
    """In one line, without torch's advice to run the code all the same."""
    asked = re.search(r"Unsupported global: GLOBAL (\S+)", str(error)) or re.search(
        r"WeightsUnpickler error:\s*(.+)", str(error)
    )
    if asked is None:
        return next(iter(str(error).splitlines()), type(error).__name__)
    return f"it asks for {asked[1]}" if "GLOBAL" in asked[0] else asked[1].strip()


def import_tensors(
    theirs: Tensors,
    backbone: str,
    layout: Layout,
    *,
    persons: int | None = None,
    options: dict[str, Any] | None = None,
) -> Imported:
    """The network `backbone` of ours filled with `theirs`; UserError names every tensor that is
    left over, missing or of another shape.

    persons: needed where the tensors do not show it. options: of the model, where the tensors do
    not show them.
    """
    family = _family(theirs, backbone)
    try:
        architecture = family.architecture(theirs)
    except UserError as error:
        raise UserError(
            f"the network cannot be read off the checkpoint ({family.source}): {error}"
        ) from error
    if (shown := architecture.model["backbone"]) != backbone:
        raise UserError(
            f"the checkpoint must be of {backbone}, got {shown} ({family.source}); use --as {shown}"
        )
    denied = {
        name: value
        for name, value in (options or {}).items()
        if architecture.model.get(name, value) != value
    }
    if denied:
        raise UserError.of(
            f"--set model.{name}: the file shows {_plain(architecture.model[name])}, got"
            f" {_plain(value)}"
            for name, value in denied.items()
        )
    model = {**architecture.model, **(options or {})}
    if architecture.joints != layout.size:
        raise UserError(
            f"layout must have the checkpoint's {architecture.joints} joints, got {layout.name}"
            f" with {layout.size}"
        )
    precision = _precision(theirs.values())
    try:
        config = ModelConfig.model_validate(model)
        network = build_backbone(
            config,
            layout,
            classes=architecture.classes,
            persons=architecture.persons or persons or 2,
            stream=StreamConfig(),
            seed=0,
        ).to(precision)
        target = deploy(network, RELEASED) if family.deployed else network
    except ValidationError as error:
        raise UserError.of(
            f"the checkpoint's network cannot be built here: {rule}" for rule in _rules(error)
        ) from error
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"the checkpoint's network cannot be built here: {_reason(error)}"
        ) from error
    idle = [
        option for option in options or {} if not option_used(option, backbone, config.temporal)
    ]
    if idle:
        raise UserError.of(
            f"model.{option}: has no effect in {backbone} with the temporal module"
            f" {config.temporal}"
            for option in idle
        )
    try:
        converted = convert(family, theirs)
    # tensors that no network of that code has
    except (LookupError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"the checkpoint's tensors do not fit together ({family.source}): {error}"
        ) from error
    assumed = tuple(
        item.text.format(root=centre_joint("root", network.spec.parents) + 1)
        for item in family.assumed
        if item.option not in (options or {})
    )
    return _filled(target, family, theirs, converted, assumed)


def _plain(value: Any) -> str:
    """As `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _precision(tensors: Iterable[Tensor]) -> torch.dtype:
    """The least that holds all weights as they are."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if not dtypes:
        raise UserError("the checkpoint must hold weights as floating-point numbers, got none")
    return reduce(torch.promote_types, dtypes)


def _rules(error: ValidationError) -> list[str]:
    """What pydantic found, with place and value; not that it made no default beside something
    wrong.
    """
    found = []
    for item in error.errors():
        place, message = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        if item["type"] != "default_factory_not_called":
            value = "" if not place or ", got " in message else f", got {item['input']!r}"
            found.append(f"{place}: {message}{value}" if place else message)
    return found


def _family(theirs: Tensors, backbone: str) -> Family:
    """The first family of that backbone whose names these are."""
    own = [family for family in FAMILIES if backbone in family.backbones]
    found = next((family for family in own if family.recognises(theirs)), None)
    if found is None:
        other = next((family for family in FAMILIES if family.recognises(theirs)), None)
        seen = (
            f"those of {other.source}{_advice(other, theirs)}"
            if other
            else f"{len(theirs)} tensors such as {', '.join(list(theirs)[:3])}"
        )
        expected = (
            "; ".join(
                family.source
                for family in own
                if backbone in (family.known_for or family.backbones)
            )
            or "no known code base"
        )
        raise UserError(
            f"the checkpoint's names must be those of a {backbone} ({expected}), got {seen}"
        )
    return found


def _advice(family: Family, theirs: Tensors) -> str:
    """Which backbone the file is of, if it shows one."""
    try:
        return f"; use --as {family.architecture(theirs).model['backbone']}"
    except UserError:
        return ""


def _filled(
    target: Backbone | DeployForm,
    family: Family,
    theirs: Tensors,
    converted: Converted,
    assumed: tuple[str, ...],
) -> Imported:
    own = target.state_dict()
    state = {
        name: piece
        for name, piece in converted.state.items()
        if name in own or not name.endswith(COUNTER)
    }
    uncounted = {
        name: NO_COUNTER
        for key in converted.state.keys() - state.keys()
        for name in converted.state[key].names
    }
    counters = {name for name in own if name.endswith(COUNTER)}
    constructed = {
        name for name in own if any(re.search(pattern, name) for pattern in family.absent)
    } | counters
    problems = [
        f"{name}: no rule of {family.source} covers this tensor" for name in converted.unknown
    ]
    problems += [
        f"{name}: must not be stored beside another tensor for the same place in the network"
        for name in converted.doubled
    ]
    problems += [
        f"{name}: must be a tensor of the network, which has none of this name"
        for name in sorted(state.keys() - own.keys())
    ]
    missing = sorted(own.keys() - state.keys() - constructed) + [
        part for piece in state.values() for part in piece.missing
    ]
    lacking = dict.fromkeys(
        their for name in missing for their in their_names(family, theirs, state, name)
    )
    problems += [f"{name}: must be in the checkpoint, but is missing" for name in lacking]
    for name, piece in state.items():
        if piece.misfit:
            problems.append(f"{' and '.join(piece.names)}: {piece.misfit}")
        if name not in own or not piece.whole:
            continue
        if piece.tensor.shape != own[name].shape:
            problems.append(
                f"{name}: must have shape {tuple(own[name].shape)}, got {tuple(piece.tensor.shape)}"
            )
        elif not piece.tensor.is_floating_point() and name not in counters:
            problems.append(
                f"{' and '.join(piece.names)}: must be floating-point numbers, got"
                f" {_name(piece.tensor.dtype)}"
            )
        elif not piece.tensor.isfinite().all():
            problems.append(
                f"{' and '.join(piece.names)}: must be finite, got"
                f" {piece.tensor[~piece.tensor.isfinite()][0].item()}"
            )
    if problems:
        raise UserError.of(problems)
    target.load_state_dict({name: piece.tensor for name, piece in state.items()}, strict=False)
    matched = sum(len(piece.names) for piece in state.values())
    return Imported(
        target,
        family.source,
        matched,
        converted.unused | uncounted,
        tuple(sorted(constructed - state.keys())),
        assumed,
    )
