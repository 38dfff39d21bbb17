"""JSON schema of the sweep file, for editors: known keys, allowed values, and the comment beside
each field as its description.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel, TypeAdapter

from orchestrator.sweep.leaves import LEAVES, NOT_SEARCHABLE, SECTIONS, Leaf
from orchestrator.sweep.schema import CELL_AXES, MetricLimit, ParameterSpec, Settings
from orchestrator.sweep.strategies import STRATEGIES
from trainables.contract.artifacts import RESULT_METRICS
from trainables.contract.config import STREAM_PRESETS, STREAMS, TrialConfig

Schema = dict[str, Any]
_FIELD = re.compile(r"((?:^    # .+\n)*)^    (\w+): (?:.*?  # (.+)$)?", re.MULTILINE)


def sweep_schema() -> Schema:
    """The schema of a sweep file, short forms included."""
    schema = _described(Settings.model_json_schema(by_alias=True), Settings)
    definitions = schema.pop("$defs")
    trial = _described(TrialConfig.model_json_schema(), TrialConfig)
    definitions |= trial["$defs"]
    for model in (ParameterSpec, MetricLimit):
        own = _described(model.model_json_schema(), model)
        definitions |= own.pop("$defs", {}) | {model.__name__: own}
    definitions["ParameterSpec"]["properties"]["preset"]["enum"] = list(STREAM_PRESETS)
    for name in ("Objective", "MetricLimit"):
        definitions[name]["properties"]["metric"]["enum"] = list(RESULT_METRICS)
    definitions["EnsembleConfig"]["properties"]["method"] |= {
        "anyOf": [{"enum": list(STRATEGIES.names())}, {"type": "string", "pattern": ":"}]
    }
    definitions["DataConfig"].pop("required")  # store and protocol may stand under parameters
    definitions["DataConfig"]["properties"]["stream"] |= _leaf_schema(
        LEAVES["data.stream"], definitions
    )
    schema["properties"] |= {section: trial["properties"][section] for section in SECTIONS}
    schema["properties"] |= {"parameters": _parameters(definitions), "constraints": _constraints()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Sweep",
        "description": "A sweep of skeleton-action networks, from data to ensembles.",
        **{key: schema[key] for key in ("type", "properties", "required", "additionalProperties")},
        "$defs": definitions,
    }


def _parameters(definitions: Schema) -> Schema:
    """`parameters`: every leaf with one value, a list of values, or the long form."""
    properties: Schema = {}
    for name, leaf in LEAVES.items():
        value = _leaf_schema(leaf, definitions)
        forms = (
            [value]
            if name.startswith(tuple(NOT_SEARCHABLE))
            else [value, {"type": "array", "items": value}]
        )
        properties[name] = {"anyOf": [*forms, {"$ref": "#/$defs/ParameterSpec"}]}
        if name in CELL_AXES:
            properties[name]["description"] = "a cell axis unless `axis: trial` is given"
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "description": "leaves to fix or to search",
    }


def _leaf_schema(leaf: Leaf, definitions: Schema) -> Schema:
    """One value of a leaf; records are references into the schema's definitions."""
    own = dict(leaf.json_schema())
    definitions |= {
        key: value for key, value in own.pop("$defs", {}).items() if key not in definitions
    }
    if leaf.name == "data.stream":
        own["anyOf"] = [
            {"enum": list(STREAMS)},
            *(part for part in own["anyOf"] if part.get("type") != "string"),
        ]
    own.pop("default", None)
    return own


def _constraints() -> Schema:
    expression = {
        "type": "string",
        "description": "over leaves, such as model.channels % model.groups == 0",
    }
    return {
        "type": "array",
        "items": {"anyOf": [expression, {"$ref": "#/$defs/MetricLimit"}]},
        "description": "what trials must satisfy: their configuration, or what they report",
    }


def _described(schema: Schema, *models: type[BaseModel]) -> Schema:
    """The schema with the comments beside the fields of `models` and all models inside as
    descriptions.
    """
    seen = {model.__name__: model for root in models for model in _all_models(root)}
    for title, part in [(schema.get("title", ""), schema), *schema.get("$defs", {}).items()]:
        if title in seen:
            comments = field_comments(seen[title])
            for key, field in part.get("properties", {}).items():
                if key in comments or f"{key}_" in comments:
                    field["description"] = comments.get(key) or comments[f"{key}_"]
    return schema


def field_comments(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment on its line or above it, also of fields that the model inherits from
    another one; fields without one are left out.
    """
    sources = [base for base in reversed(model.__mro__) if issubclass(base, BaseModel)]
    found = [each for base in sources[1:] for each in _FIELD.findall(inspect.getsource(base))]
    above = {name: " ".join(re.findall(r"# (.+)", block)) for block, name, _ in found}
    return {name: text for _, name, beside in found if (text := beside or above[name])}


def _all_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """`model` and every model its fields mention."""
    found = [model]
    for field in model.model_fields.values():
        core = TypeAdapter(field.annotation).core_schema if field.annotation is not None else {}
        found += [inner for inner in _classes(core) if inner is not model and inner not in found]
    return found


def _classes(core: Any) -> list[type[BaseModel]]:
    """Model classes anywhere in a pydantic core schema."""
    if isinstance(core, dict):
        own = [core["cls"]] if core.get("type") == "model" else []
        return own + [found for value in core.values() for found in _classes(value)]
    if isinstance(core, list | tuple):
        return [found for value in core for found in _classes(value)]
    return []
