"""From the named tensors of another code base to a network of ours, with a strict account of every
tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError, in_words
from trainables.contract.model import option_used
from trainables.cost.counting.count import count
from trainables.deploy.form import DeployForm, deploy
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
from trainables.foreign.family import (
    COUNTER,
    Architecture,
    Converted,
    Family,
    Prepared,
    Said,
    Tensors,
    convert,
    their_names,
)
from trainables.foreign.sparse_scores import masked
from trainables.foreign.state_file import plain_name
from trainables.graphs import centre_joint
from trainables.layouts import Layout
from trainables.models.build import Backbone, build_backbone
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

NO_COUNTER = "a count of training steps that the network here does not keep"

DEFAULT_PERSONS = 2

LARGER_THAN_FILE = 16
"""Times as many parameters as a file stores: what a deploy form's training form may have."""

FRAMES_TO_COUNT = 64  # parameters do not depend on them


@dataclass(frozen=True)
class Imported:
    """A network filled from a foreign checkpoint."""

    network: Backbone | DeployForm
    source: str
    matched: int  # tensors of theirs that were taken over
    unused: dict[str, str]  # their names -> why they are not needed
    constructed: tuple[str, ...]  # our tensors such a checkpoint does not hold
    # what changes results and was neither in the file nor said
    assumed: tuple[str, ...] = ()


def import_tensors(
    theirs: Tensors,
    backbone: str,
    layout: Layout,
    *,
    persons: int | None = None,
    options: dict[str, Any] | None = None,
    level: float | None = None,
) -> Imported:
    """The network `backbone` of ours filled with `theirs`; UserError names every tensor that is
    left over, missing or of another shape.

    persons, level and options: see `Said`; needed where the tensors do not show them.
    """
    said = Said(persons=persons, level=level, options=options or {})
    family = _family(theirs, backbone)
    prepared, architecture = _prepared(family, theirs, said)
    if (shown := architecture.model["backbone"]) != backbone:
        raise UserError(
            f"the checkpoint must be of {backbone}, got {shown} ({family.source}); use --as {shown}"
        )
    if architecture.joints != layout.size:
        raise UserError(
            f"layout must have the checkpoint's {architecture.joints} joints, got {layout.name}"
            f" with {layout.size}"
        )
    network = _built(architecture, layout, said, prepared.tensors)
    target = deploy(network, RELEASED) if family.deployed else network
    try:
        converted = convert(family, prepared.tensors)
    # tensors that no network of that code has
    except (LookupError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"the checkpoint's tensors do not fit together ({family.source}): {error}"
        ) from error
    filled = _filled(target, family, prepared.tensors, converted)
    return replace(
        filled,
        unused=filled.unused | prepared.unused,
        assumed=prepared.assumed + _assumed(family, architecture, network, said),
    )


def _prepared(family: Family, theirs: Tensors, said: Said) -> tuple[Prepared, Architecture]:
    """Their tensors as the family's rules know them, and the architecture these show; UserError
    where the user says otherwise.
    """
    try:
        sparse = masked(theirs, said, family.masking, family.source)
        dense = family.prepared(sparse.tensors, said)
        architecture = family.architecture(dense.tensors)
    except UserError as error:
        raise UserError(
            f"the network cannot be read off the checkpoint ({family.source}): {error}"
        ) from error
    shown = architecture.model | dense.model
    denied = {
        name: value for name, value in said.options.items() if shown.get(name, value) != value
    }
    if denied and shown["backbone"] in family.backbones:
        raise UserError.of(
            f"--set model.{name}: the file shows {_plain(shown[name])}, got {_plain(value)}"
            for name, value in denied.items()
        )
    prepared = Prepared(dense.tensors, sparse.unused | dense.unused, sparse.assumed + dense.assumed)
    return prepared, replace(architecture, model=shown)


def _built(architecture: Architecture, layout: Layout, said: Said, theirs: Tensors) -> Backbone:
    """The network of that architecture, not filled yet, in the precision of `theirs`."""
    precision = _precision(theirs.values())
    persons = architecture.persons or said.persons or DEFAULT_PERSONS
    try:
        config = ModelConfig.model_validate({**architecture.model, **said.options})
        _check_effect(config, said)
        _check_size(config, architecture, layout, persons, theirs)
        return build_backbone(
            config,
            layout,
            classes=architecture.classes,
            persons=persons,
            stream=StreamConfig(),
            seed=0,
        ).to(precision)
    except ValidationError as error:
        raise UserError.of(
            f"the checkpoint's network cannot be built here: {rule}" for rule in _rules(error)
        ) from error
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"the checkpoint's network cannot be built here: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_effect(config: ModelConfig, said: Said) -> None:
    """UserError names options that the network does not have."""
    backbone, temporal = config.backbone, config.temporal
    idle = [option for option in said.options if not option_used(option, backbone, temporal)]
    if idle:
        raise UserError.of(
            f"model.{option}: has no effect in {backbone} with the temporal module {temporal}"
            for option in idle
        )


def _check_size(
    config: ModelConfig, architecture: Architecture, layout: Layout, persons: int, theirs: Tensors
) -> None:
    """UserError where the network would be far larger than the file: one wide tensor asks for a
    wide network.
    """
    counted = count(
        config,
        layout,
        classes=architecture.classes,
        persons=persons,
        frames=FRAMES_TO_COUNT,
        stream=StreamConfig(),
    )
    stored = sum(tensor.numel() for tensor in theirs.values())
    if counted.training.params > LARGER_THAN_FILE * stored:
        raise UserError(
            f"the checkpoint must hold the weights of its network, which has"
            f" {counted.training.params:,}, got {stored:,} numbers"
        )


def _assumed(
    family: Family, architecture: Architecture, network: Backbone, said: Said
) -> tuple[str, ...]:
    """What changes results and was neither in the file nor said."""
    persons = (
        (f"persons={network.spec.persons}: not in the file, --persons",)
        if architecture.persons is None and said.persons is None
        else ()
    )
    return persons + tuple(
        item.text.format(root=centre_joint("root", network.spec.parents) + 1)
        for item in family.assumed
        if item.option not in said.options
    )


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
    rules = []
    for item in error.errors():
        place, message = ".".join(map(str, item["loc"])), in_words(item["msg"])
        if item["type"] != "default_factory_not_called":
            value = "" if not place or ", got " in message else f", got {item['input']!r}"
            rules.append(f"{place}: {message}{value}" if place else message)
    return rules


def _family(theirs: Tensors, backbone: str) -> Family:
    """The first family of that backbone whose names these are."""
    families = [family for family in FAMILIES if backbone in family.backbones]
    found = next((family for family in families if family.recognises(theirs)), None)
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
                for family in families
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
) -> Imported:
    expected = target.state_dict()
    state = {
        name: piece
        for name, piece in converted.state.items()
        if name in expected or not name.endswith(COUNTER)
    }
    uncounted = {
        name: NO_COUNTER
        for key in converted.state.keys() - state.keys()
        for name in converted.state[key].names
    }
    counters = {name for name in expected if name.endswith(COUNTER)}
    constructed = {
        name for name in expected if any(re.search(pattern, name) for pattern in family.absent)
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
        for name in sorted(state.keys() - expected.keys())
    ]
    missing = sorted(expected.keys() - state.keys() - constructed) + [
        part for piece in state.values() for part in piece.missing
    ]
    lacking = dict.fromkeys(
        their for name in missing for their in their_names(family, theirs, state, name)
    )
    problems += [f"{name}: must be in the checkpoint, but is missing" for name in lacking]
    for name, piece in state.items():
        if piece.misfit:
            problems.append(f"{' and '.join(piece.names)}: {piece.misfit}")
        if name not in expected or not piece.whole:
            continue
        if piece.tensor.shape != expected[name].shape:
            problems.append(
                f"{name}: must have shape {tuple(expected[name].shape)},"
                f" got {tuple(piece.tensor.shape)}"
            )
        elif not piece.tensor.is_floating_point() and name not in counters:
            problems.append(
                f"{' and '.join(piece.names)}: must be floating-point numbers, got"
                f" {plain_name(piece.tensor.dtype)}"
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
    )
