"""The leaves of a trial's configuration by dotted name (`model.groups`): which there are, what each
accepts, which are in use.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, TrialConfig
from trainables.contract.generators import GENERATORS
from trainables.contract.model import option_used
from trainables.contract.options import own_options
from trainables.contract.sparsity import dense_epochs, setting_used

SECTIONS = ("data", "model", "sparsity", "train")
# as their scores meet in ensembles
_SAME_CLIPS = "all trials of a sweep are trained and scored on the same clips"
NOT_SEARCHABLE = {
    "data.store": _SAME_CLIPS,
    "data.protocol": _SAME_CLIPS,
    "data.selection.": _SAME_CLIPS,
    "data.residence": "it changes no result",
    "train.fast": "it changes results by rounding only",
    "train.sparse_kernels": "it changes results by rounding only",
    "sparsity.branch_at": "it changes no result",
}
"""Beginnings of leaves that all trials share, and why."""

Leaves = Mapping[str, Any]
GENERATOR = "sparsity.generator"


@dataclass(frozen=True)
class Leaf:
    """One setting of a trial."""

    name: str  # dotted
    field: FieldInfo

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.name.split("."))

    @property
    def adapter(self) -> TypeAdapter[Any]:
        return _adapter(self.name)

    @property
    def required(self) -> bool:
        return self.field.is_required()

    def default_beside(self, leaves: Leaves) -> Any:
        """JSON form of the contract's default; one that is derived looks at the leaves of its
        section in `leaves`.
        """
        factory: Any = self.field.default_factory
        if factory is None:
            return copy.copy(_plain_default(self.name))
        if not _looks_at_others(self.name):
            return self.adapter.dump_python(factory(), mode="json")
        beside = {
            last: leaves[name]
            for name, last in _section(self.name.rpartition(".")[0])
            if name in leaves
        }
        key = (self.name, repr(beside))
        if key not in _DERIVED:
            if len(_DERIVED) >= MOST_KEPT:
                _DERIVED.clear()
            _DERIVED[key] = self.adapter.dump_python(factory(beside), mode="json")
        return copy.copy(_DERIVED[key])

    @property
    def is_list(self) -> bool:
        """True where one value of the leaf is itself a list (`model.stages`)."""
        return self.json_schema().get("type") == "array"

    @property
    def takes_mapping(self) -> bool:
        """True where one value of the leaf may be a mapping (`data.stream` as a record)."""
        schema = self.json_schema()
        return "$defs" in schema or schema.get("type") == "object"

    @property
    def numbers(self) -> tuple[str, ...]:
        """`integer`, `number` or both where the leaf accepts a range of them."""
        kinds = {part.get("type") for part in self.json_schema().get("anyOf", [self.json_schema()])}
        return tuple(kind for kind in ("integer", "number") if kind in kinds)

    def json_schema(self) -> dict[str, Any]:
        return _json_schema(self.name)

    def errors(self, value: Any) -> list[ErrorDetails]:
        """What is wrong with `value` for this leaf alone; locations are relative to the leaf."""
        nested: Any = value
        for part in reversed(self.path):
            nested = {part: nested}
        try:
            TrialConfig.model_validate_json(json.dumps(nested), strict=True)
        except ValidationError as error:
            own = [
                found
                for found in error.errors(include_url=False)
                if found["loc"][: len(self.path)] == self.path
            ]
            return [{**found, "loc": found["loc"][len(self.path) :]} for found in own]
        return []

    def canonical(self, value: Any) -> Any:
        """JSON form of an accepted value (a level of 0 becomes 0.0)."""
        return self.adapter.dump_python(self.adapter.validate_json(json.dumps(value)), mode="json")


def _walk(model: type[BaseModel], prefix: str) -> dict[str, Leaf]:
    found: dict[str, Leaf] = {}
    for name, info in model.model_fields.items():
        dotted = f"{prefix}{info.alias or name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found |= _walk(info.annotation, f"{dotted}.")
        elif prefix:  # `seed` stands at the top of the sweep file
            found[dotted] = Leaf(dotted, info)
    return found


LEAVES: dict[str, Leaf] = _walk(TrialConfig, "")


_DERIVED: dict[tuple[str, str], Any] = {}
MOST_KEPT = 10_000
"""Answers that many trials ask for are kept; beyond so many, none of the earlier ones."""


@cache
def _plain_default(name: str) -> Any:
    return LEAVES[name].adapter.dump_python(LEAVES[name].field.get_default(), mode="json")


@cache
def _looks_at_others(name: str) -> bool:
    return bool(LEAVES[name].field.default_factory_takes_validated_data)


@cache
def _section(section: str) -> tuple[tuple[str, str], ...]:
    """(dotted name, its last part) of the leaves directly in a section."""
    return tuple(
        (name, last)
        for name, (parent, _, last) in ((name, name.rpartition(".")) for name in LEAVES)
        if parent == section
    )


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info = LEAVES[name].field
    annotation: Any = info.annotation
    for item in info.metadata:
        annotation = Annotated[annotation, item]
    return TypeAdapter(annotation)


@cache
def _json_schema(name: str) -> dict[str, Any]:
    return LEAVES[name].adapter.json_schema()


def leaves_of(config: Any) -> dict[str, Any]:
    """JSON values by dotted name of whatever holds the four sections: a trial's configuration or a
    sweep.
    """
    values = {
        section: getattr(config, section).model_dump(mode="json", warnings=False)
        for section in SECTIONS
    }
    return {name: _descend(values, leaf) for name, leaf in LEAVES.items()}


def without_effect(leaves: Leaves) -> dict[str, Any]:
    """The leaves that have no effect beside the others, with their defaults."""
    idle = unused(leaves)
    derived = [name for name in idle if LEAVES[name].field.default_factory is not None]
    return {**_plain_defaults(idle), **{n: LEAVES[n].default_beside(leaves) for n in derived}}


@lru_cache(maxsize=1000)
def _plain_defaults(names: frozenset[str]) -> dict[str, Any]:
    return {n: _plain_default(n) for n in names if LEAVES[n].field.default_factory is None}


@cache
def _path(name: str) -> tuple[tuple[str, ...], str]:
    """(sections, last part) of a leaf's name."""
    *sections, last = name.split(".")
    return tuple(sections), last


def nest(leaves: Leaves) -> dict[str, Any]:
    """The inverse of `leaves_of`, for any of the leaves."""
    nested: dict[str, Any] = {}
    for name, value in leaves.items():
        parents, last = _path(name)
        target = nested
        for part in parents:
            target = target.setdefault(part, {})
        target[last] = value
    return nested


DERIVED_FROM: dict[str, tuple[str, ...]] = {
    "model.stages": ("model.backbone",),
    "model.strides": ("model.backbone", "model.stages"),
    "model.temporal": ("model.backbone",),
    "model.kernel_size": ("model.backbone", "model.temporal"),
    "model.branches": ("model.backbone", "model.temporal", "model.kernel_size"),
    "model.subsets": ("model.backbone",),
    "model.graph": ("model.backbone", "model.adjacency"),
    "model.dropout": ("model.backbone",),
    "train.warmup_epochs": ("train.epochs",),
    "train.milestones": ("train.epochs", "train.schedule"),
}
"""Leaves whose default depends on others, directly or through others of this table, in the order in
which they can be derived. Where those are searched, what all trials share holds None instead.
"""


def completed(leaves: Leaves) -> dict[str, Any]:
    """The leaves of one trial with its own derived defaults in place of None."""
    found = dict(leaves)
    for name in DERIVED_FROM:
        if found[name] is None:
            found[name] = LEAVES[name].default_beside(found)
    for options, named in (("model.options", "model.backbone"), ("sparsity.options", GENERATOR)):
        if found[options]:
            found[options] = _without_defaults(named, found[named], found[options])
    return found


def _without_defaults(named: str, part: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part's own options without those that are defaults; as they are where its card refuses
    them, which is said where the configuration is built.
    """
    try:
        card = (GENERATORS if named == GENERATOR else BACKBONES).find(part)
        return own_options(part, card.options, given)
    except ValueError:
        return given


def _descend(values: Any, leaf: Leaf) -> Any:
    for part in leaf.path:
        if part not in values:  # of an empty record
            return leaf.default_beside({})
        values = values[part]
    return values


def label(value: Any) -> str:
    """A value as it stands in names and as a key of weights: 0.6 -> '0.6', 0 and 0.0 -> '0', None
    -> 'none'.
    """
    if value is None:
        return "none"
    return (
        f"{value:g}"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )


def _no_option_of_the_model(option: str) -> Callable[[Leaves], bool]:
    return lambda leaves: (
        not option_used(option, leaves["model.backbone"], leaves["model.temporal"])
    )


def _no_setting_of_the_sparsity(setting: str) -> Callable[[Leaves], bool]:
    def useless(leaves: Leaves) -> bool:
        if (
            setting in ("penalty", "penalty_weight")
            and dense_epochs(leaves["sparsity.warmup"], leaves["train.epochs"]) == 0
        ):
            return True
        return not setting_used(setting, lambda name: leaves[f"sparsity.{name}"])

    return useless


def _nothing_drawn(leaves: Leaves) -> bool:
    return leaves["data.selection.kind"] in ("protocol", "none")


def _not_pyskl(leaves: Leaves) -> bool:
    """With pipeline auto it is the store that decides."""
    return leaves["data.pipeline"] in ("ctr", "ucla")


def _not_stepped(leaves: Leaves) -> bool:
    return bool(leaves["train.schedule"] != "step")


def _not_ctr(leaves: Leaves) -> bool:
    return leaves["data.pipeline"] in ("pyskl", "ucla")


OF_PYSKL = ("data.align_spine", "data.views")
OF_CTR = ("data.align_persons",)
"""What no other pipeline has."""

UNUSED_WHEN: dict[str, Callable[[Leaves], bool]] = {
    **dict.fromkeys(OF_PYSKL, _not_pyskl),
    **dict.fromkeys(OF_CTR, _not_ctr),
    "data.selection.fraction": _nothing_drawn,
    "data.selection.seed": _nothing_drawn,
    **{f"model.{name}": _no_option_of_the_model(name) for name in ModelConfig.model_fields},
    **{
        name: _no_setting_of_the_sparsity(name.removeprefix("sparsity."))
        for name in LEAVES
        if name.startswith("sparsity.")
    },
    "train.milestones": _not_stepped,
    "train.lr_decay": _not_stepped,
}
"""Leaves that change nothing under some other setting: such a leaf is reset to its default, so that
no trial is run twice.
"""


DECIDING = (
    "data.pipeline",
    "model.backbone",
    "model.temporal",
    "sparsity.level",
    "sparsity.network",
    "sparsity.generator",
    "sparsity.structure",
    "sparsity.scope",
    "sparsity.sharing",
    "sparsity.warmup",
    "sparsity.penalty",
    "train.epochs",
    "train.schedule",
)
"""The searchable leaves that UNUSED_WHEN looks at.

Of those that are numbers a larger one never takes another leaf's effect away.
"""


_LOOKED_AT = (
    *DECIDING,
    "data.selection.kind",
    *(name for name in LEAVES if name.startswith("sparsity.") and name not in DECIDING),
)
"""All leaves that UNUSED_WHEN looks at."""

_UNUSED: dict[str, frozenset[str]] = {}


def unused(leaves: Leaves) -> frozenset[str]:
    """Names of the leaves that have no effect beside the others; `leaves` must be complete.

    Sweeps ask this of every trial, and few of their leaves decide it: answers are kept.
    """
    key = repr([leaves[name] for name in _LOOKED_AT])
    if key not in _UNUSED:
        if len(_UNUSED) >= MOST_KEPT:
            _UNUSED.clear()
        seen = {name: leaves[name] for name in _LOOKED_AT}  # a rule that looks elsewhere fails
        _UNUSED[key] = frozenset(name for name, useless in UNUSED_WHEN.items() if useless(seen))
    return _UNUSED[key]
