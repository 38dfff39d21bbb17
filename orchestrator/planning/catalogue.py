"""The backbones there are: what each costs with its defaults, and what can be searched in it.

By arithmetic; builds no network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.sweep.json_schema import field_comments
from orchestrator.sweep.leaves import LEAVES
from trainables.contract.backbones import BACKBONES, BLOCKS
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.model import option_used
from trainables.cost.counting.count import count
from trainables.layouts import Layout

COMMON = ("layout", *BLOCKS)
"""Options of every backbone of ours."""


@dataclass(frozen=True)
class Entry:
    """One backbone with its defaults. Work is in 1e9 multiply-accumulates per clip, all persons."""

    backbone: str
    params: int  # training form
    deploy_params: int
    gmacs: float  # training form
    deploy_gmacs: float
    maskable_params: int  # weights of the training form that sparsity may remove
    released_params: int  # the released code at inference
    released_leaf_params: int  # without adjacency matrices, as HPI-GCN's paper counts
    released_gmacs: float
    released_leaf_gmacs: float  # without joint mixing, as HPI-GCN's paper counts
    # what can be searched under `model.` -> default; the backbone's own first
    options: dict[str, Any]


@dataclass(frozen=True)
class Option:
    """One setting of the models."""

    name: str  # under `model.`
    allowed: str
    meaning: str
    common: bool  # of every backbone


@dataclass(frozen=True)
class Catalogue:
    """What `orchestrate models` shows."""

    layout: str
    classes: int
    frames: int
    persons: int
    backbones: tuple[Entry, ...]
    options: tuple[Option, ...]

    def to_json(self) -> dict[str, Any]:
        """The catalogue as plain JSON."""
        return asdict(self)


def catalogue(layout: Layout, *, classes: int, frames: int, persons: int) -> Catalogue:
    """Every backbone that is registered, at these sizes."""
    entries = tuple(_entry(name, layout, classes, frames, persons) for name in BACKBONES.names())
    return Catalogue(layout.name, classes, frames, persons, entries, _options())


def _entry(backbone: str, layout: Layout, classes: int, frames: int, persons: int) -> Entry:
    model = ModelConfig.model_validate({"backbone": backbone})
    card = model.card
    cost = count(
        model, layout, classes=classes, persons=persons, frames=frames, stream=StreamConfig()
    )
    used = {
        name
        for name in ModelConfig.model_fields
        if name != "backbone" and option_used(name, backbone, model.temporal)
    }
    names = sorted(
        used,
        key=lambda name: (
            name not in card.own_settings,
            list(ModelConfig.model_fields).index(name),
        ),
    )
    defaults = {"options": {}} | model.model_dump(mode="json")
    return Entry(
        backbone=backbone,
        params=cost.training.params,
        deploy_params=cost.deploy.params,
        gmacs=cost.training.gmacs,
        deploy_gmacs=cost.deploy.gmacs,
        maskable_params=cost.maskable_params,
        released_params=cost.released.params,
        released_leaf_params=cost.released.leaf_params,
        released_gmacs=cost.released.gmacs,
        released_leaf_gmacs=cost.released.leaf_gmacs,
        options={name: defaults[name] for name in names},
    )


def _options() -> tuple[Option, ...]:
    meanings = field_comments(ModelConfig)
    names = [name for name in ModelConfig.model_fields if name != "backbone"]
    return tuple(
        Option(
            name,
            _allowed(LEAVES[f"model.{name}"].json_schema()),
            meanings.get(name, ""),
            name in COMMON,
        )
        for name in names
    )


def _allowed(schema: dict[str, Any]) -> str:
    """`spatial, random`, `a whole number from 1`, `a list: ...`: what one value may be, from its
    JSON schema.
    """
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    match schema.get("type"):
        case "boolean":
            return "true, false"
        case "array":
            return f"a list: {_allowed(schema['items'])}"
        case "integer" | "number":
            kind = "a whole number" if schema["type"] == "integer" else "a number"
            bounds = {"minimum": "from {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
            return " ".join(
                [
                    kind,
                    *(
                        text.format(f"{schema[key]:g}")
                        for key, text in bounds.items()
                        if key in schema
                    ),
                ]
            )
    return "text"
